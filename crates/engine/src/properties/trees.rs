//! Editing, comparing, listing and searching trees.

use std::collections::{BTreeMap, HashSet};

use rand::Rng;
use rand::rngs::StdRng;
use treehold_object::{BString, ObjectId};

use super::{CACHES, Files, World, edited, oid, random, some_files, some_path};
use crate::tree::{Edits, Item, WalkFrom};

const CASES: usize = 60;

/// The blobs, links and gitlinks of a tree, in the order of their paths.
fn listing(world: &World, tree: &ObjectId) -> Vec<(BString, Item)> {
    let lines = world.repo.ls_tree(&tree.to_string()).into_iter();
    let item = |mode: &str, id: &str| Item { mode: u32::from_str_radix(mode, 8).expect("octal"), oid: oid(id) };
    let mut all: Vec<(BString, Item)> = lines.map(|line| (line.path.into(), item(&line.mode, &line.oid))).collect();
    all.sort();
    all
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.mode, self.oid).cmp(&(other.mode, other.oid))
    }
}

/// Pairs of versions: a base and what edits make of it.
async fn pairs(world: &World, random: &mut StdRng) -> Vec<(ObjectId, ObjectId)> {
    let mut versions: Vec<Files> = Vec::new();
    for _ in 0..CASES {
        let base = some_files(random, 25);
        versions.push(edited(random, &base));
        versions.push(base);
    }
    let trees = world.commit_all(&versions);
    world.import("trees", 0).await;
    trees.chunks(2).map(|pair| (pair[1], pair[0])).collect()
}

/// Goal: an edited tree has the oid that git's index writes after the same edits, and the trees on the way are all that is new.
#[tokio::test]
async fn edits_are_those_of_the_index() {
    let world = World::new().await;
    let mut random = random();
    for (base, target) in pairs(&world, &mut random).await {
        let (old, new) = (listing(&world, &base), listing(&world, &target));
        let there: BTreeMap<&BString, Item> = new.iter().map(|(path, item)| (path, *item)).collect();
        let mut edits: Edits =
            new.iter().filter(|entry| !old.contains(entry)).map(|(p, i)| (p.clone(), Some(*i))).collect();
        for (path, _) in &old {
            if !there.contains_key(path) {
                edits.insert(path.clone(), None);
            }
        }
        for _ in 0..3 {
            let path = BString::from(some_path(&mut random));
            if !there.contains_key(&path) {
                edits.insert(path, None);
            }
        }
        let git = world.indexed();
        git.run(["read-tree", &base.to_string()]);
        let line = |(path, edit): (&BString, &Option<Item>)| match edit {
            Some(item) => format!("{:06o} {}\t{path}\0", item.mode, item.oid),
            None => format!("0 {}\t{path}\0", "0".repeat(40)),
        };
        let gone = edits.iter().filter(|(_, edit)| edit.is_none()).map(line);
        let put = edits.iter().filter(|(_, edit)| edit.is_some()).map(line);
        let lines: String = gone.chain(put).collect();
        git.run_with(["update-index", "-z", "--index-info"], lines.as_bytes());
        let expected = git.run(["write-tree"]);
        let edited = world.engine.edit_tree(Some(base), &edits).await.expect("an edit");
        assert_eq!(edited.root.to_string(), expected, "{base} {edits:?}");
        assert_eq!(edited.root, target);
        for (tree, raw) in &edited.trees {
            assert_eq!(*raw, world.git().bytes(["cat-file", "tree", &tree.to_string()]));
        }
        let from_nothing: Edits = new.iter().map(|(path, item)| (path.clone(), Some(*item))).collect();
        let built = world.engine.edit_tree(None, &from_nothing).await.expect("an edit");
        assert_eq!(built.root, target);
    }
}

/// Goal: the difference between two trees is the one that `git diff-tree` tells.
#[tokio::test]
async fn differences_are_those_of_diff_tree() {
    let world = World::new().await;
    let mut random = random();
    let mut told = 0;
    for (old, new) in pairs(&world, &mut random).await {
        let raw = world.git().bytes([
            "diff-tree",
            "-r",
            "-z",
            "--no-renames",
            "--no-abbrev",
            &old.to_string(),
            &new.to_string(),
        ]);
        let mut fields = raw.split(|&b| b == 0);
        let mut expected = Vec::new();
        while let (Some(head), Some(path)) = (fields.next().filter(|head| !head.is_empty()), fields.next()) {
            let head = std::str::from_utf8(&head[1..]).expect("ASCII");
            let parts: Vec<&str> = head.split(' ').collect();
            let side = |mode: &str, id: &str| {
                let mode = u32::from_str_radix(mode, 8).expect("octal");
                (mode != 0).then(|| Item { mode, oid: oid(id) })
            };
            let path = BString::from(path);
            // A change of type is one line here as there: both sides of one path.
            expected.push((path, side(parts[0], parts[2]), side(parts[1], parts[3])));
        }
        expected.sort();
        let changes = world.engine.diff_trees(Some(old), Some(new)).await.expect("a diff");
        let counted = world.engine.count_changes(Some(old), Some(new)).await.expect("a count");
        assert_eq!(counted, changes.len() as u64, "{old} {new}");
        let first =
            world.engine.diff_trees_within(Some(old), Some(new), &WalkFrom::default(), 3).await.expect("a diff");
        assert_eq!(first, changes[..changes.len().min(3)], "{old} {new}");
        let changes: Vec<_> = changes.into_iter().map(|change| (change.path, change.old, change.new)).collect();
        assert_eq!(changes, expected, "{old} {new}");
        told += changes.len();
    }
    assert!(told > CASES, "{told} differences");
}

/// Goal: what a receiver needs is what `git rev-list` would pack: everything below the new tree that is not at the same place in
/// the old one, and never anything that is not below the new tree.
#[tokio::test]
async fn new_objects_complete_the_old_tree() {
    let world = World::new().await;
    let mut random = random();
    let mut count = 0;
    let below = |tree: &ObjectId| -> Vec<String> {
        let list = world.git().run(["ls-tree", "-r", "-t", "--format=%(objectname)", &tree.to_string()]);
        list.lines().map(str::to_owned).chain(std::iter::once(tree.to_string())).collect()
    };
    for (old, new) in pairs(&world, &mut random).await {
        let sent = world.engine.new_objects(Some(old), new, &mut HashSet::new()).await.expect("objects");
        let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
        let (had, needed) = (below(&old), below(&new));
        assert!(needed.iter().all(|oid| had.contains(oid) || sent.contains(oid)), "{old} {new}");
        assert!(sent.iter().all(|oid| needed.contains(oid)), "{old} {new}");
        count += sent.len();
    }
    assert!(count > CASES, "{count} objects");
}

/// Goal: pages of any size, from any point, with any prefix, give what `git ls-tree` lists there, in byte order.
#[tokio::test]
async fn walks_list_what_ls_tree_lists() {
    let mut random = random();
    for cache in CACHES {
        walks(&World::with_cache(cache).await, &mut random).await;
    }
}

async fn walks(world: &World, random: &mut StdRng) {
    let mut listed = 0;
    for (tree, _) in pairs(world, random).await {
        let all = listing(world, &tree);
        for _ in 0..6 {
            let prefix = match random.random_range(0..3) {
                0 => String::new(),
                1 => some_path(random),
                _ => format!("{}/", some_path(random)),
            };
            let after = random.random_bool(0.6).then(|| BString::from(some_path(random)));
            let limit = random.random_range(1..8);
            let taken =
                |path: &BString| path.starts_with(prefix.as_bytes()) && after.as_ref().is_none_or(|after| path > after);
            let expected: Vec<_> = all.iter().filter(|(path, _)| taken(path)).take(limit).cloned().collect();
            let from = WalkFrom { prefix: prefix.clone().into(), after: after.clone() };
            let walked = world.engine.walk(Some(tree), &from, limit).await.expect("a walk");
            assert_eq!(walked, expected, "{tree} {from:?} {limit}");
            listed += walked.len();
        }
    }
    assert!(listed > CASES, "{listed} files");
}

/// Goal: found paths, directories included, are those that `git ls-tree -r -t` knows; others are not found.
#[tokio::test]
async fn paths_are_found_as_ls_tree_finds_them() {
    let mut random = random();
    for cache in CACHES {
        searches(&World::with_cache(cache).await, &mut random).await;
    }
}

async fn searches(world: &World, random: &mut StdRng) {
    let (mut there, mut absent) = (0, 0);
    for (tree, _) in pairs(world, random).await {
        let listed = world.git().bytes([
            "ls-tree",
            "-r",
            "-t",
            "-z",
            "--format=%(objectmode) %(objectname) %(path)",
            &tree.to_string(),
        ]);
        let listed = String::from_utf8(listed).expect("UTF-8");
        let known: BTreeMap<&str, (&str, &str)> = listed
            .split_terminator('\0')
            .map(|line| {
                let (mode, rest) = line.split_once(' ').expect("a mode");
                let (oid, path) = rest.split_once(' ').expect("an oid");
                (path, (mode, oid))
            })
            .collect();
        let mut paths: Vec<String> = known.keys().map(|path| (*path).to_owned()).collect();
        paths.extend((0..20).map(|_| some_path(random)));
        paths.extend(known.keys().map(|path| format!("{path}/a")));
        let asked: Vec<BString> = paths.iter().map(|path| path.as_str().into()).collect();
        let found = world.engine.find_paths(Some(tree), &asked).await.expect("a search");
        for (path, found) in paths.iter().zip(found) {
            let found = found.map(|item| (format!("{:06o}", item.mode), item.oid.to_string()));
            let expected = known.get(path.as_str()).map(|(mode, oid)| ((*mode).to_owned(), (*oid).to_owned()));
            assert_eq!(found, expected, "{tree} {path}");
            *(if found.is_some() { &mut there } else { &mut absent }) += 1;
        }
    }
    assert!(there > CASES && absent > CASES, "{there} found, {absent} not");
}
