//! Merging texts and trees.

use rand::Rng;
use rand::rngs::StdRng;
use treehold_catalog::Origin;
use treehold_object::ObjectId;

use super::{Files, World, edited, oid, put, random, some_files};
use crate::commit::change::ChangeRow;
use crate::tree::{Change, Item, Resolution3, merge_text};
use crate::view::Head;

/// Lines that repeat, so that there is more than one way to see what changed.
fn some_text(random: &mut StdRng, lines: usize) -> Vec<String> {
    (0..lines)
        .map(|number| if random.random_bool(0.3) { "}\n".to_owned() } else { format!("line {number}\n") })
        .collect()
}

fn edited_text(random: &mut StdRng, text: &[String]) -> Vec<String> {
    let mut text = text.to_vec();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..=text.len());
        match random.random_range(0..3) {
            0 => text.insert(at, format!("new {}\n", random.random_range(0..5))),
            1 if at < text.len() => _ = text.remove(at),
            _ if at < text.len() => text[at] = format!("changed {}\n", random.random_range(0..5)),
            _ => {}
        }
    }
    if random.random_bool(0.15)
        && let Some(last) = text.last_mut()
    {
        *last = last.trim_end().to_owned();
    }
    text
}

/// Goal: texts merge as long as some of them may be in memory at once; longer ones are a conflict.
#[tokio::test]
async fn long_texts_are_conflicts() {
    let world = World::new().await;
    // 15 bytes each.
    let text = |count: usize, changed: Option<usize>| -> String {
        let word = |line| if Some(line) == changed { "edit" } else { "line" };
        (0..count).map(|line| format!("{line:09} {}\n", word(line))).collect()
    };
    let counts = [100, 100_000, 1_200_000];
    let mut stream = String::new();
    for side in 0..3 {
        let time = 1_700_000_000 + side;
        stream.push_str(&format!("commit refs/heads/main\ncommitter T <t@example.org> {time} +0000\ndata 1\nx\n"));
        for count in counts {
            let text = text(count, [None, Some(0), Some(count - 1)][side]);
            stream.push_str(&format!("M 100644 inline f{count}\ndata {}\n{text}\n", text.len()));
        }
    }
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    world.import("long", 0).await;
    for (count, merges) in counts.into_iter().zip([true, true, false]) {
        let item =
            |rev: &str| Item { mode: 0o100644, oid: oid(&world.git().run(["rev-parse", &format!("{rev}:f{count}")])) };
        let [base, ours, theirs] = ["main~2", "main~1", "main"].map(item);
        let merged = world.engine.merge_path(None, Some(base).into(), Some(ours), Some(theirs), None).await;
        match merged.expect("a resolution") {
            Resolution3::Text { content, .. } => assert!(merges && content.len() == 15 * count, "{count} lines"),
            other => assert!(!merges && other == Resolution3::Conflict, "{count} lines: {other:?}"),
        }
    }
}

/// Goal: texts merge exactly where `git merge-file` merges them, to the same bytes.
#[tokio::test]
async fn texts_merge_as_merge_file_merges_them() {
    let world = World::new().await;
    let mut random = random();
    let mut outcomes = [0, 0];
    for _ in 0..300 {
        let lines = random.random_range(0..30);
        let base = some_text(&mut random, lines);
        let sides = [edited_text(&mut random, &base).concat(), edited_text(&mut random, &base).concat()];
        let base = base.concat();
        let texts = [("ours", &sides[0]), ("base", &base), ("theirs", &sides[1])];
        for (name, text) in texts {
            std::fs::write(world.dir.path().join(name), text).expect("write");
        }
        let path = |name: &str| world.dir.path().join(name).into_os_string();
        let args = ["merge-file", "-p", "--diff-algorithm=histogram"].map(Into::into);
        let output = world.git().output(args.into_iter().chain([path("ours"), path("base"), path("theirs")]));
        let merged = merge_text(base.as_bytes(), sides[0].as_bytes(), sides[1].as_bytes());
        let expected = output.status.success().then_some(output.stdout);
        outcomes[usize::from(merged.is_some())] += 1;
        let text = |merged: Option<Vec<u8>>| merged.map(|merged| String::from_utf8_lossy(&merged).into_owned());
        assert_eq!(text(merged), text(expected), "base {base:?}, sides {sides:?}");
    }
    assert!(outcomes.iter().all(|count| *count > 20), "both outcomes occur: {outcomes:?}");
}

/// Files with several lines, so that both sides can change one file without a conflict.
fn lines_in(random: &mut StdRng, files: &mut Files) {
    for (mode, content) in files.values_mut() {
        if *mode != "120000" && random.random_bool(0.7) {
            *content = some_text(random, 20).concat();
        }
    }
}

/// Each line names its path, so that git takes no file for a renamed one: merges here know no renames.
fn named(files: &Files) -> Files {
    let line = |path: &str, line: &str| format!("{path} {line}");
    let named = |path: &str, content: &str| content.split_inclusive('\n').map(|text| line(path, text)).collect();
    files.iter().map(|(path, (mode, content))| (path.clone(), (*mode, named(path, content)))).collect()
}

fn touched(random: &mut StdRng, files: &Files) -> Files {
    let mut files = edited(random, files);
    for (mode, content) in files.values_mut() {
        if *mode != "120000" && random.random_bool(0.2) {
            let lines: Vec<String> = content.split_inclusive('\n').map(str::to_owned).collect();
            *content = edited_text(random, &lines).concat();
        }
        if *mode != "120000" && random.random_bool(0.15) {
            *mode = if *mode == "100644" { "100755" } else { "100644" };
        }
    }
    files
}

/// Goal: trees that merge here merge in `git merge-tree` too, to the same tree; what git merges, we merge.
#[tokio::test]
async fn trees_merge_as_merge_tree_merges_them() {
    let world = World::new().await;
    let mut random = random();
    let mut versions = Vec::new();
    for _ in 0..80 {
        let mut base = some_files(&mut random, 12);
        put(&mut base, "kept", ("100644", "kept\n".to_owned()));
        lines_in(&mut random, &mut base);
        let (ours, theirs) = (touched(&mut random, &base), touched(&mut random, &base));
        versions.extend([base, ours, theirs].map(|files| named(&files)));
    }
    let trees = world.commit_all(&versions);
    world.import("merges", 0).await;
    let (outcomes, _) = judged(&world, &trees, |_| false).await;
    assert!(outcomes.iter().all(|count| *count > 5), "both outcomes occur: {outcomes:?}");
}

/// Goal: pending changes merge onto what the branch became as commits of them would in `git merge-tree`: contents, modes and types.
#[tokio::test]
async fn pending_changes_merge_as_merge_tree_merges_them() {
    let world = World::new().await;
    let mut random = random();
    let mut versions = Vec::new();
    for _ in 0..80 {
        // Few files, so that both sides often change the same one, and none goes where the other made a directory.
        let mut base: Files = (0..6).map(|file| (format!("{file}"), ("100644", String::new()))).collect();
        for (path, (mode, content)) in &mut base {
            *mode = ["100644", "100644", "100755", "120000"][random.random_range(0..4)];
            *content = if *mode == "120000" { format!("to {path}") } else { some_text(&mut random, 20).concat() };
        }
        let (ours, theirs) = (changed_in_place(&mut random, &base), changed_in_place(&mut random, &base));
        versions.extend([base, ours, theirs].map(|files| named(&files)));
    }
    let trees = world.commit_all(&versions);
    world.import("pending", 0).await;
    let (mut outcomes, mut modes) = ([0, 0], 0);
    for case in trees.chunks(3) {
        let [base, ours, theirs] = case else { panic!("three trees") };
        let (expected, said) = merge_tree(&world, base, ours, theirs);
        let changes = world.engine.diff_trees(Some(*base), Some(*ours)).await.expect("a diff");
        modes += changes
            .iter()
            .filter(|change| change.old.zip(change.new).is_some_and(|(old, new)| old.oid == new.oid))
            .count();
        let rows: Vec<ChangeRow> = changes.into_iter().map(pending).collect();
        let onto = Head { tree: Some(*theirs), ..Head::default() };
        let merged = world.engine.merge_changes(uuid::Uuid::nil(), &rows, &onto, false).await.expect("a merge");
        outcomes[usize::from(merged.conflicts.is_empty())] += 1;
        let edited = world.engine.edit_tree(Some(*theirs), &merged.edits).await.expect("an edit");
        let tree = merged.conflicts.is_empty().then(|| edited.root.to_string());
        assert_eq!(tree, expected, "base {base}, ours {ours}, theirs {theirs}\n{said}{:?}", merged.conflicts);
    }
    assert!(outcomes.iter().all(|count| *count > 5) && modes > 20, "{outcomes:?}, {modes} changes of mode alone");
}

/// A change as one that a user has pending.
fn pending(change: Change) -> ChangeRow {
    ChangeRow {
        path: change.path,
        base: change.old.into(),
        new: change.new,
        content: None,
        revision: Some(1),
        origin: Origin::default(),
    }
}

/// Contents, modes and types change, and files go.
fn changed_in_place(random: &mut StdRng, files: &Files) -> Files {
    let mut changed = Files::new();
    for (path, (mode, content)) in files {
        let (mut mode, mut content) = (*mode, content.clone());
        match random.random_range(0..20) {
            0 => continue,
            1 if mode == "120000" => (mode, content) = ("100644", "a file now\n".to_owned()),
            1 => (mode, content) = ("120000", "a link now".to_owned()),
            2..8 if mode != "120000" => mode = if mode == "100644" { "100755" } else { "100644" },
            _ => {}
        }
        if mode != "120000" && random.random_bool(0.3) {
            let lines: Vec<String> = content.split_inclusive('\n').map(str::to_owned).collect();
            content = edited_text(random, &lines).concat();
        }
        changed.insert(path.clone(), (mode, content));
    }
    changed
}

/// Merges each case (base, ours, theirs) here and in git. What merges in git merges here, and to the same tree; but not where git's words
/// are `excused`. How many conflicted, how many merged, and how many of these have a text that the merge made.
async fn judged(world: &World, trees: &[ObjectId], excused: impl Fn(&str) -> bool) -> ([usize; 2], usize) {
    let (mut outcomes, mut texts) = ([0, 0], 0);
    for case in trees.chunks(3) {
        let [base, ours, theirs] = case else { panic!("three trees") };
        let (expected, said) = merge_tree(world, base, ours, theirs);
        let merged = world.engine.merge_trees(Some(*base), Some(*ours), Some(*theirs)).await.expect("a merge");
        let name = format!("base {base}, ours {ours}, theirs {theirs}\n{said}");
        outcomes[usize::from(merged.conflicts.is_empty())] += 1;
        if !merged.conflicts.is_empty() {
            assert_eq!(expected, None, "{name}{:?}", merged.conflicts);
            continue;
        }
        texts += usize::from(!merged.blobs.is_empty());
        let edited = world.engine.edit_tree(Some(*theirs), &merged.edits).await.expect("an edit");
        if !excused(&said) {
            assert_eq!(Some(edited.root.to_string()), expected, "{name}{:?}", merged.edits);
        }
    }
    (outcomes, texts)
}

/// A file that no other one is like.
fn unlike_others(random: &mut StdRng, path: &str) -> String {
    (0..random.random_range(12..40))
        .map(|line| format!("{path} has {line}: {}\n", random.random_range(0..1000)))
        .collect()
}

/// Some files go elsewhere, some are edited, some both.
fn moved_about(random: &mut StdRng, files: &Files, side: &str) -> Files {
    let mut moved = Files::new();
    for (path, (mode, content)) in files {
        let mut lines: Vec<String> = content.split_inclusive('\n').map(str::to_owned).collect();
        if random.random_bool(0.4) {
            let at = random.random_range(0..lines.len());
            lines[at] = format!("changed by {side}\n");
        }
        let mode = if random.random_bool(0.1) { "100755" } else { mode };
        let path = match random.random_range(0..4) {
            0 => format!("{side}/{}/{path}", random.random_range(0..3)),
            1 if random.random_bool(0.2) => continue,
            _ => path.clone(),
        };
        moved.insert(path, (mode, lines.concat()));
    }
    moved
}

/// Goal: where a file was renamed on one side and changed on the other, what merges here merges in `git merge-tree`, to the same tree.
#[tokio::test]
async fn renames_merge_as_merge_tree_merges_them() {
    let world = World::new().await;
    let mut random = random();
    let mut versions = Vec::new();
    for _ in 0..60 {
        let base: Files = (0..3)
            .map(|file| format!("dir/{file}.txt"))
            .map(|path| (path.clone(), ("100644", unlike_others(&mut random, &path))))
            .chain([("kept".to_owned(), ("100644", "kept\n".to_owned()))])
            .collect();
        let (ours, theirs) = (moved_about(&mut random, &base, "ours"), moved_about(&mut random, &base, "theirs"));
        versions.extend([base, ours, theirs]);
    }
    let trees = world.commit_all(&versions);
    world.import("renames", 0).await;
    // Git takes two new names for one file, and a new name for one that the other side deleted, as conflicts; here they are kept.
    let (outcomes, texts) = judged(&world, &trees, |said| said.contains("CONFLICT (rename/")).await;
    assert!(outcomes.iter().all(|count| *count > 5) && texts > 5, "{outcomes:?}, {texts} with a merged text");
}

/// The merged tree if the merge is clean, and git's words.
fn merge_tree(world: &World, base: &ObjectId, ours: &ObjectId, theirs: &ObjectId) -> (Option<String>, String) {
    let git = world.git().clone().config("diff.algorithm", "histogram");
    let git = git.config("merge.directoryRenames", "false");
    let commit = |tree: &ObjectId| git.run(["commit-tree", "-m", "x", &tree.to_string()]);
    let (base, ours, theirs) = (commit(base), commit(ours), commit(theirs));
    let output = git.output(["merge-tree", "--write-tree", &format!("--merge-base={base}"), &ours, &theirs]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let tree = said.lines().next().unwrap_or_default().to_owned();
    (output.status.success().then_some(tree), said)
}
