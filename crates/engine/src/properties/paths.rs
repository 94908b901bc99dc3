//! What happened to a path: logs and blame compared with stock git over random histories, and diffs of any two trees.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::{Files, World, oid, put, random, some_path};
use crate::api::{BlameRequest, DiffRequest, LogRequest, TreeChange};

/// Files of few paths, each a list of lines of which most are unlike all others.
type Tree = BTreeMap<String, Vec<String>>;

const PATHS: [&str; 7] = ["a", "d/a", "d/b", "d/e/c", "d/e/f", "g", "h/i"];

/// A file that moves, where one can.
fn moved_one(random: &mut StdRng, tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    let [from, to] = [0; 2].map(|_| (*PATHS.choose(random).expect("a path")).to_owned());
    if !tree.contains_key(&to)
        && let Some(lines) = tree.remove(&from)
    {
        tree.insert(to, lines);
    }
    tree
}

/// Some changes to a tree: lines that come, go and change, files that come and go.
fn changed(random: &mut StdRng, tree: &Tree, fresh: &mut usize) -> Tree {
    let mut tree = tree.clone();
    for _ in 0..random.random_range(1..4) {
        let path = (*PATHS.choose(random).expect("a path")).to_owned();
        match random.random_range(0..12) {
            0 => _ = tree.remove(&path),
            _ => {
                let lines = tree.entry(path).or_default();
                for _ in 0..random.random_range(1..4) {
                    *fresh += 1;
                    let at = random.random_range(0..=lines.len());
                    if at < lines.len() && random.random_bool(0.5) {
                        lines[at] = format!("line {fresh}");
                    } else if lines.len() > 3 && random.random_bool(0.3) {
                        lines.remove(at.min(lines.len() - 1));
                    } else {
                        lines.insert(at, format!("line {fresh}"));
                    }
                }
            }
        }
    }
    tree
}

/// A merge's tree: each file as one of the sides has it, or with the lines of both.
fn merged(random: &mut StdRng, sides: &[Tree]) -> Tree {
    let paths: BTreeSet<&String> = sides.iter().flat_map(Tree::keys).collect();
    let mut tree = Tree::new();
    for path in paths {
        let of = |side: &Tree| side.get(path).cloned().unwrap_or_default();
        let mut lines = of(sides.choose(random).expect("a side"));
        if random.random_bool(0.4) {
            for line in sides.iter().flat_map(of) {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        if !lines.is_empty() {
            tree.insert(path.clone(), lines);
        }
    }
    tree
}

/// A history whose clock runs forward, either with branches and merges, of which all come together on `main`, or in one line and with
/// files that move. Git also finds files that changed while they moved, which a merge of both kinds would have.
fn some_history(world: &World, random: &mut StdRng, count: usize, moves: bool) {
    let (mut stream, mut trees, mut fresh) = (String::new(), Vec::<Tree>::new(), 0);
    let mut ends: BTreeSet<usize> = BTreeSet::new();
    for mark in 1..=count + 1 {
        let mut parents: BTreeSet<usize> = BTreeSet::new();
        if mark > count {
            parents.clone_from(&ends);
        } else if mark > 1 {
            for _ in 0..if moves { 1 } else { *[1, 1, 1, 2].choose(random).expect("a number") } {
                let back = if moves { 1 } else { random.random_range(1..=3) };
                parents.insert(mark.saturating_sub(back).max(1));
            }
        }
        let sides: Vec<Tree> = parents.iter().map(|parent| trees[parent - 1].clone()).collect();
        let tree = match sides.as_slice() {
            [] => changed(random, &Tree::new(), &mut fresh),
            [one] if moves && random.random_bool(0.3) => moved_one(random, one),
            [one] => changed(random, one, &mut fresh),
            many => merged(random, many),
        };
        ends.retain(|end| !parents.contains(end));
        ends.insert(mark);
        let branch = if mark > count { "main" } else { "side" };
        if parents.is_empty() {
            stream.push_str(&format!("reset refs/heads/{branch}\n"));
        }
        stream.push_str(&format!("commit refs/heads/{branch}\nmark :{mark}\n"));
        stream.push_str(&format!("author A{} <a@example.org> {} +0000\n", mark % 3, 1_600_000_000 + mark * 7));
        stream.push_str(&format!("committer T <t@example.org> {} +0000\n", 1_700_000_000 + mark * 10));
        let message = format!("commit {mark}\n\nmore\n");
        stream.push_str(&format!("data {}\n{message}", message.len()));
        for (number, parent) in parents.iter().enumerate() {
            stream.push_str(&format!("{} :{parent}\n", if number == 0 { "from" } else { "merge" }));
        }
        stream.push_str("deleteall\n");
        for (path, lines) in &tree {
            let content = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()));
        }
        trees.push(tree);
    }
    world.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
}

async fn paged_log(world: &World, project: Uuid, request: &LogRequest, random: &mut StdRng) -> Vec<String> {
    let (mut shown, mut request) = (Vec::new(), request.clone());
    loop {
        request.limit = Some(random.random_range(1..6));
        let page = world.engine.log(&project.to_string(), &request).await.expect("a page");
        shown.extend(page.commits.iter().map(|entry| entry.commit.to_string()));
        match page.next_cursor {
            Some(next) => request.cursor = Some(next),
            None => return shown,
        }
    }
}

/// Goal: the log of a file or directory, also along first parents, is `git log -- path`, whatever the pages.
#[tokio::test]
async fn logs_of_paths_are_those_of_git() {
    let mut random = random();
    let mut shown = 0;
    for round in 0..3 {
        let world = World::new().await;
        some_history(&world, &mut random, 20 + 20 * round, round == 0);
        let project = world.import("paths", 0).await;
        for path in PATHS.iter().chain(&["d", "d/e", "d/e/", "h", "nothing", "a/b"]) {
            for first_parent in [false, true] {
                let request =
                    LogRequest { path: Some(path.as_bytes().to_vec()), first_parent, ..LogRequest::default() };
                let found = paged_log(&world, project, &request, &mut random).await;
                let mut arguments = vec!["log", "--date-order", "--format=%H"];
                arguments.extend(first_parent.then_some("--first-parent"));
                arguments.extend(["main", "--", path]);
                let expected = world.git().run(arguments);
                assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{path} {first_parent}");
                shown += found.len();
            }
        }
        let request = LogRequest { first_parent: true, ..LogRequest::default() };
        let found = paged_log(&world, project, &request, &mut random).await;
        let expected = world.git().run(["log", "--first-parent", "--format=%H", "main"]);
        assert_eq!(found, expected.lines().collect::<Vec<_>>());
    }
    assert!(shown > 50, "{shown}");
}

/// Of each line: commit, line there, path there.
fn git_blame(world: &World, path: &str, range: Option<(u64, u64)>) -> Vec<(String, u64, String)> {
    let mut arguments = vec!["blame".to_owned(), "--porcelain".to_owned()];
    if let Some((first, last)) = range {
        arguments.push(format!("-L{first},{last}"));
    }
    arguments.extend(["main", "--", path].map(str::to_owned));
    let text = world.git().run(arguments);
    let (mut told, mut names) = (Vec::new(), HashMap::new());
    let mut last = (String::new(), 0);
    for line in text.lines() {
        if line.starts_with('\t') {
            told.push((last.0.clone(), last.1));
        } else if let Some(name) = line.strip_prefix("filename ") {
            names.insert(last.0.clone(), name.to_owned());
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            if words[0].len() == 40 && words[0].bytes().all(|b| b.is_ascii_hexdigit()) {
                last = (words[0].to_owned(), words[1].parse().expect("a line"));
            }
        }
    }
    told.into_iter().map(|(commit, line)| (commit.clone(), line, names[&commit].clone())).collect()
}

async fn our_blame(world: &World, path: &str, range: Option<(u64, u64)>) -> Vec<(String, u64, String)> {
    let request =
        BlameRequest { start_line: range.map(|r| r.0), end_line: range.map(|r| r.1), ..BlameRequest::default() };
    let blame = world.engine.blame("blame", path.as_bytes(), &request).await.expect("a blame");
    let mut told = Vec::new();
    let mut next = range.map_or(1, |range| range.0);
    for range in blame.ranges {
        assert_eq!(range.start_line, next, "ranges follow each other");
        next += range.lines;
        let origin = range.origin.expect("a commit");
        let summary = world.git().run(["log", "-1", "--format=%s%x00%an%x00%aI", &origin.commit.to_string()]);
        let author = format!("{}\0{}\0{}", origin.summary, origin.author.name, origin.author.date);
        assert_eq!(author.replace("Z", "+00:00"), summary.replace("Z", "+00:00"));
        for line in 0..range.lines {
            told.push((origin.commit.to_string(), origin.original_line + line, origin.original_path.clone()));
        }
    }
    told
}

/// Goal: each line is told to come from where `git blame` says, through merges and moves of whole files.
#[tokio::test]
async fn blame_is_that_of_git() {
    let mut random = random();
    let mut lines = 0;
    for round in 0..4 {
        let world = World::new().await;
        some_history(&world, &mut random, 15 + 15 * round, round % 2 == 0);
        world.import("blame", 0).await;
        for line in world.repo.ls_tree("main") {
            let path = String::from_utf8(line.path).expect("UTF-8");
            let told = our_blame(&world, &path, None).await;
            let expected = git_blame(&world, &path, None);
            assert_eq!(told, expected, "{path}");
            lines += told.len();
            if told.len() > 2 {
                let first = random.random_range(1..told.len() as u64);
                let range = Some((first, random.random_range(first..=told.len() as u64)));
                assert_eq!(our_blame(&world, &path, range).await, git_blame(&world, &path, range), "{path} {range:?}");
            }
        }
    }
    assert!(lines > 40, "{lines}");
}

fn raw_line(change: &TreeChange) -> String {
    let mode = |mode: Option<crate::api::Mode>| mode.map_or("000000".to_owned(), |mode| mode.to_string());
    let id = |oid: Option<crate::api::Oid>| oid.map_or("0".repeat(40), |oid| oid.to_string());
    let sign = match change.action {
        "created" => "A".to_owned(),
        "deleted" => "D".to_owned(),
        "renamed" => "R100".to_owned(),
        _ if change.old_mode.map(|mode| mode.0 >> 12) != change.new_mode.map(|mode| mode.0 >> 12) => "T".to_owned(),
        _ => "M".to_owned(),
    };
    let from = change.old_path.as_ref().map(|path| format!("\t{path}")).unwrap_or_default();
    let sides = format!("{} {}", mode(change.old_mode), mode(change.new_mode));
    format!(":{sides} {} {} {sign}{from}\t{}", id(change.old_oid), id(change.new_oid), change.path.0)
}

/// Pairs of versions, of which one is the other with some files moved.
fn moved(random: &mut StdRng, files: &Files) -> Files {
    let mut files = super::edited(random, files);
    for _ in 0..random.random_range(0..5) {
        let there: Vec<String> = files.keys().cloned().collect();
        if let Some(file) = there.choose(random).and_then(|path| files.remove(path)) {
            let to = some_path(random);
            put(&mut files, &to, file);
        }
    }
    files
}

/// Goal: what differs between two trees, named by their oids, is `git diff --raw`, by pages of any size, and with renames `-M100%`.
#[tokio::test]
async fn diffs_of_trees_are_those_of_git() {
    let mut random = random();
    let world = World::new().await;
    let mut versions: Vec<Files> = Vec::new();
    for _ in 0..40 {
        let base = super::some_files(&mut random, 25);
        versions.push(moved(&mut random, &base));
        versions.push(base);
    }
    let trees: Vec<ObjectId> = world.commit_all(&versions);
    world.import("diff", 0).await;
    let mut renamed = 0;
    for pair in trees.chunks(2) {
        let [from, to] = [pair[1].to_string(), pair[0].to_string()];
        for renames in [false, true] {
            let mut request =
                DiffRequest { from: Some(from.clone()), to: Some(to.clone()), renames, ..DiffRequest::default() };
            let mut found = Vec::new();
            loop {
                request.limit = Some(random.random_range(1..6));
                let page = world.engine.diff_names("diff", &request).await.expect("a page");
                assert_eq!(page.from_tree.map(|tree| tree.0), Some(oid(&from)));
                found.extend(page.files.iter().map(raw_line));
                match page.next_cursor {
                    Some(next) => request.cursor = Some(next),
                    None => break,
                }
            }
            let how = if renames { "-M100%" } else { "--no-renames" };
            let args = ["-c", "core.quotePath=false", "diff-tree", "-r", "--raw", "--no-abbrev", how, &from, &to];
            let mut expected: Vec<String> = world.git().run(args).lines().map(str::to_owned).collect();
            let name = |line: &String| line.rsplit('\t').next().map(str::to_owned);
            expected.sort_by_key(name);
            assert_eq!(found, expected, "{from} {to} {renames}");
            renamed += found.iter().filter(|line| line.contains(" R100\t")).count();
        }
    }
    assert!(renamed > 5, "{renamed}");
}
