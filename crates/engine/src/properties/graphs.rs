//! Ancestry, merge bases, ahead and behind, and the log, over random histories with skewed clocks, whole and cut off.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use treehold_catalog::CommitRow;
use treehold_object::ObjectId;
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use super::{World, oid, random};
use crate::EngineError;
use crate::api::LogRequest;
use crate::graph::Known;

/// A history of `count` commits in which clocks go wrong, with all of its ends merged on `main`; returns how many there are.
pub(super) fn some_history(world: &World, random: &mut StdRng, count: usize) -> usize {
    let mut stream = String::new();
    let mut ends: BTreeSet<usize> = BTreeSet::new();
    for mark in 1..=count {
        let mut parents: BTreeSet<usize> = BTreeSet::new();
        if mark > 1 && !random.random_ratio(1, 30) {
            for _ in 0..*[1, 1, 1, 2, 2, 3].get(random.random_range(0..6)).expect("a number") {
                let back =
                    if random.random_bool(0.8) { random.random_range(1..=4) } else { random.random_range(1..mark) };
                parents.insert(mark.saturating_sub(back).max(1));
            }
        }
        ends.retain(|end| !parents.contains(end));
        ends.insert(mark);
        let skew = if random.random_bool(0.2) { random.random_range(0..600) } else { 0 };
        commit(&mut stream, "side", mark, 1_700_000_000 + mark * 10 - skew, &parents);
    }
    commit(&mut stream, "main", count + 1, 1_700_000_000 + count * 10, &ends);
    world.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
    count + 1
}

fn commit(stream: &mut String, branch: &str, mark: usize, time: usize, parents: &BTreeSet<usize>) {
    if parents.is_empty() {
        stream.push_str(&format!("reset refs/heads/{branch}\n"));
    }
    stream.push_str(&format!("commit refs/heads/{branch}\nmark :{mark}\n"));
    stream.push_str(&format!("committer T <t@example.org> {time} +0000\ndata 1\nx\n"));
    for (number, parent) in parents.iter().enumerate() {
        stream.push_str(&format!("{} :{parent}\n", if number == 0 { "from" } else { "merge" }));
    }
    stream.push_str(&format!("M 100644 inline file\ndata <<E\n{mark}\nE\n\n"));
}

pub(super) fn commits(git: &Git) -> Vec<ObjectId> {
    git.run(["rev-list", "main"]).lines().map(oid).collect()
}

/// Compares random pairs of commits as `git` sees them with what the project has.
async fn check_pairs(world: &World, project: Uuid, git: &Git, random: &mut StdRng) {
    let all = commits(git);
    let mut related = 0;
    for _ in 0..40 {
        let [a, b] = [0; 2].map(|_| all[random.random_range(0..all.len())]);
        let (left, right) = (a.to_string(), b.to_string());
        // Not `A..B` or `--left-right`: git stops early where clocks are wrong, and then tells too many.
        let below = |tip: &str| -> HashSet<ObjectId> { git.run(["rev-list", tip]).lines().map(oid).collect() };
        let only = |not: &str, of: &str| -> HashSet<ObjectId> { &below(of) - &below(not) };
        let bases = git.output(["merge-base", "--all", &left, &right]);
        let bases: Vec<ObjectId> = String::from_utf8_lossy(&bases.stdout).lines().map(oid).collect();
        let found = world.engine.compare(project, &[a], &[b]).await.expect("a comparison");
        assert_eq!(found.ours.iter().copied().collect::<HashSet<_>>(), only(&right, &left), "{left} {right}");
        assert_eq!(found.ours.len(), only(&right, &left).len());
        assert_eq!(found.theirs, only(&left, &right).len() as u64, "{left} {right}");
        match found.base {
            Some(base) => assert!(bases.contains(&base), "{left} {right}: {base} is none of {bases:?}"),
            None => assert!(bases.is_empty(), "{left} {right}: {bases:?}"),
        }
        for (at, commit) in found.ours.iter().enumerate() {
            let parents = git.run(["log", "-1", "--format=%P", &commit.to_string()]);
            let below: Vec<ObjectId> = parents.split_whitespace().map(oid).collect();
            assert!(found.ours[..at].iter().all(|earlier| !below.contains(earlier)), "newest first");
        }
        let ancestor = git.output(["merge-base", "--is-ancestor", &left, &right]).status.success();
        assert_eq!(world.engine.is_ancestor(project, a, b).await.expect("an answer"), ancestor, "{left} {right}");
        related += usize::from(!bases.is_empty());
    }
    assert!(related > 0, "some pairs are related");
}

/// The whole log, by pages of random sizes.
async fn paged_log(world: &World, project: Uuid, tip: &str, random: &mut StdRng) -> (Vec<String>, bool) {
    let (mut shown, mut shallow, mut cursor) = (Vec::new(), false, None::<String>);
    loop {
        let limit = random.random_range(1..20);
        let request = LogRequest {
            reference: Some(tip.to_owned()),
            cursor: cursor.clone(),
            limit: Some(limit),
            ..LogRequest::default()
        };
        let page = world.engine.log(&project.to_string(), &request).await;
        let page = page.expect("a page");
        shallow |= page.shallow;
        shown.extend(page.commits.iter().map(|entry| entry.commit.to_string()));
        match page.next_cursor {
            None => return (shown, shallow),
            Some(next) => {
                assert!(page.commits.len() == limit, "only the last page is short");
                assert!(next.len() < 6000, "the cursor fits a request: {}", next.len());
                cursor = Some(next);
            }
        }
    }
}

async fn check_logs(world: &World, project: Uuid, git: &Git, random: &mut StdRng) {
    let all = commits(git);
    for at in [0, all.len() / 4, all.len() / 2] {
        let tip = all[at].to_string();
        let expected = git.run(["log", "--date-order", "--format=%H", &tip]);
        let (shown, _) = paged_log(world, project, &tip, random).await;
        assert_eq!(shown, expected.lines().map(str::to_owned).collect::<Vec<_>>(), "{tip}");
    }
}

/// Goal: ahead, behind, merge bases and ancestry are git's, whatever the clocks say.
#[tokio::test]
async fn histories_compare_as_git_compares_them() {
    let mut random = random();
    for round in 0..3 {
        let world = World::new().await;
        some_history(&world, &mut random, 60 + 40 * round);
        let project = world.import("history", 0).await;
        check_pairs(&world, project, world.git(), &mut random).await;
    }
}

/// Goal: pages of a log, put together, are `git log --date-order`: each commit once, whatever the clocks say.
#[tokio::test]
async fn logs_are_those_of_git() {
    let mut random = random();
    let world = World::new().await;
    let count = some_history(&world, &mut random, 150);
    let project = world.import("history", 0).await;
    check_logs(&world, project, world.git(), &mut random).await;
    let (shown, shallow) = paged_log(&world, project, "main", &mut random).await;
    assert_eq!((shown.len(), shallow), (count, false));
}

/// Goal: however long messages are, a page of a log and a walk hold few of them, and none is lost.
#[tokio::test]
async fn long_messages_are_held_a_few_at_a_time() {
    const COUNT: usize = 40;
    const LEN: usize = 600_000;
    let world = World::new().await;
    let (mut stream, message) = (String::new(), "x".repeat(LEN));
    for mark in 1..=COUNT {
        stream.push_str(&format!("commit refs/heads/main\nmark :{mark}\n"));
        stream.push_str(&format!("committer T <t@example.org> {} +0000\n", 1_700_000_000 + mark));
        stream.push_str(&format!("data {LEN}\n{message}\n"));
        if mark > 1 {
            stream.push_str(&format!("from :{}\n", mark - 1));
        }
        stream.push_str(&format!("M 100644 inline file\ndata <<E\n{mark}\nE\n\n"));
    }
    world.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
    let project = world.import("long", 0).await;
    let (mut sizes, mut cursor) = (Vec::new(), None);
    loop {
        let request = LogRequest { cursor, limit: Some(1000), ..LogRequest::default() };
        let page = world.engine.log(&project.to_string(), &request).await.expect("a page");
        assert!(page.commits.len() <= 7, "{} of them are more than 4 MiB", page.commits.len());
        sizes.extend(page.commits.iter().map(|entry| entry.message.len()));
        match page.next_cursor {
            None => break,
            next => cursor = next,
        }
    }
    assert_eq!(sizes, vec![LEN; COUNT]);
    let (mut known, mut held, mut all) = (Known::default(), 0, 0);
    for oid in commits(world.git()) {
        let row = world.engine.known_commit(&mut known, oid).await.expect("an answer").expect("a commit");
        held += row.raw.len();
        all += world.engine.raw_of(&row).await.expect("its bytes").len();
    }
    assert!(held <= 16 << 20 && all >= COUNT * LEN, "{held} of {all} bytes are held");
}

/// Goal: a history as broad as 100 branches is paged through with a short cursor.
#[tokio::test]
async fn broad_logs_have_short_cursors() {
    let world = World::new().await;
    let mut stream = String::new();
    commit(&mut stream, "side", 1, 1_700_000_000, &BTreeSet::new());
    for mark in 2..=101 {
        commit(&mut stream, "side", mark, 1_700_000_000 + (mark * 7919) % 1000, &BTreeSet::from([1]));
    }
    commit(&mut stream, "main", 102, 1_700_002_000, &(2..=101).collect());
    world.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
    let project = world.import("broad", 0).await;
    check_logs(&world, project, world.git(), &mut random()).await;
}

/// Goal: a project whose history is cut off sees what a shallow clone sees, also where another project has the rest, and in
/// whichever order the two came.
#[tokio::test]
async fn cut_histories_are_those_of_a_shallow_clone() {
    let mut random = random();
    for whole_first in [true, false] {
        let world = World::new().await;
        some_history(&world, &mut random, 100);
        let mut whole = None;
        if whole_first {
            whole = Some(world.import("whole", 0).await);
        }
        let depth = random.random_range(2..7);
        let cut = world.import("cut", depth).await;
        let whole = match whole {
            Some(whole) => whole,
            None => world.import("whole", 0).await,
        };
        let to = world.dir.path().join("shallow");
        let from = format!("file://{}", world.repo.path().display());
        let to_text = to.to_str().expect("utf-8");
        world.git().run(["clone", "-q", "--bare", "--branch=main", &format!("--depth={depth}"), &from, to_text]);
        let shallow = Repo::open(&to);
        for (project, git) in [(cut, shallow.git()), (whole, world.git())] {
            check_pairs(&world, project, git, &mut random).await;
            check_logs(&world, project, git, &mut random).await;
        }
        let (_, said) = paged_log(&world, cut, "main", &mut random).await;
        assert!(said, "the log says that it is cut off");
    }
}

/// Goal: in a history that was cut off a walk reads what it comes to, not all that came since the cut. Method: a long line of commits, of which
/// the last ones are asked for.
#[tokio::test]
async fn cut_histories_are_read_as_far_as_one_walks() {
    let world = World::new().await;
    let mut stream = String::new();
    for mark in 1..=600 {
        let parents = if mark == 1 { BTreeSet::new() } else { BTreeSet::from([mark - 1]) };
        commit(&mut stream, "main", mark, 1_700_000_000 + mark * 10, &parents);
    }
    world.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
    world.import("whole", 0).await;
    let project = world.import("line", 500).await;
    let all = commits(world.git());
    // Tips that are no commits, as annotated tags are, keep nothing from being remembered.
    let tag = ObjectId::Sha1([3; 20]);
    let fresh = crate::Engine { cuts: Arc::default(), ..world.engine.clone() };
    fresh.compare(project, &[all[0]], &[tag, all[3]]).await.expect("a comparison");
    let remembered = fresh.cuts.of(project, fresh.catalog.shallow(project).await.expect("cuts"));
    assert_eq!([all[0], all[499], all[500], tag].map(|oid| remembered.number(&oid)), [Some(500), Some(1), None, None]);
    for (old, new, expected) in [(3, 0, true), (0, 3, false), (499, 10, true), (499, 0, true)] {
        let found = world.engine.is_ancestor(project, all[old], all[new]).await.expect("an answer");
        assert_eq!(found, expected, "{old} of {new}");
    }
    let mut known = world.engine.known(project, &[all[0]]).await.expect("a start");
    assert_eq!(known.read(), 0);
    let head = world.engine.known_commit(&mut known, all[0]).await.expect("a row").expect("a commit");
    assert!((1..100).contains(&known.read()), "{}", known.read());
    let first = world.engine.known_commit(&mut known, all[499]).await.expect("a row").expect("a commit");
    assert_eq!((head.generation, first.generation, first.parents), (500, 1, Vec::new()));
    assert!(world.engine.known_commit(&mut known, all[500]).await.expect("an answer").is_none());
    // What is not all there yet is numbered again when it is.
    let (parent, child) = (ObjectId::Sha1([1; 20]), ObjectId::Sha1([2; 20]));
    let row = |oid, parents| {
        let raw = bytes::Bytes::from_static(b"raw");
        CommitRow { oid, tree: head.tree, parents, generation: 7, time: 0, raw }
    };
    let numbered = async |oid| {
        let mut known = world.engine.known(project, &[child]).await.expect("a start");
        let found = world.engine.known_commit(&mut known, oid).await.expect("an answer");
        found.map(|row| row.generation)
    };
    world.engine.catalog.put_commits(&[row(child, vec![parent])]).await.expect("a row");
    assert_eq!((numbered(child).await, numbered(parent).await), (Some(1), None));
    world.engine.catalog.put_commits(&[row(parent, vec![all[0]])]).await.expect("a row");
    assert_eq!((numbered(child).await, numbered(parent).await), (Some(502), Some(501)));
}

/// Goal: no remote fills the memory with the parents of a few commits, a million of which come in a pack of some kilobytes.
#[tokio::test]
async fn parents_without_number_are_refused() {
    let world = World::new().await;
    let tree = world.git().run_with(["mktree"], b"");
    let made = |parents: &str, number: u32| {
        let who = "T <t@example.org> 1700000000 +0000";
        let text = format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\n{number}\n");
        world.git().run_with(["hash-object", "-t", "commit", "-w", "--stdin"], text.as_bytes())
    };
    let mut tip = made("", 0);
    let many = format!("parent {tip}\n").repeat(40_000);
    for number in 1..=30 {
        tip = made(&format!("{many}parent {tip}\n"), number);
        if number == 1 {
            world.git().run(["update-ref", "refs/heads/main", &tip]);
            world.import("some", 0).await;
        }
    }
    world.git().run(["update-ref", "refs/heads/main", &tip]);
    let source = world.repo.path().to_str().expect("utf-8");
    let refused = world.engine.import(source, Some("many"), Some("main"), 0, &()).await;
    assert!(matches!(&refused, Err(EngineError::TooLarge { unit: "bytes", .. })), "{refused:?}");
}
