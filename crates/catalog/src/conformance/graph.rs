use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::CommitRow;

fn commit(index: usize, parents: &[usize]) -> CommitRow {
    CommitRow {
        oid: commit_oid(index),
        tree: oid(format!("tree {index}")),
        parents: parents.iter().map(|parent| commit_oid(*parent)).collect(),
        generation: index as u64 + 1,
        time: NOW / 1000 - index as i64,
        raw: format!("tree …\n\n{index}\n\0\u{ff}").into(),
    }
}

fn commit_oid(index: usize) -> ObjectId {
    oid(format!("commit {index}"))
}

pub(super) async fn commits_come_back(case: Case) {
    let commits = [commit(0, &[]), commit(1, &[0]), commit(2, &[1, 0, 1])];
    case.catalog.put_commits(&commits).await.expect("put");
    case.catalog.put_commits(&[commits[2].clone(), commits[0].clone(), commits[0].clone()]).await.expect("put again");
    case.catalog.put_commits(&[]).await.expect("put nothing");
    let asked = [commit_oid(2), oid("nowhere"), commit_oid(0), commit_oid(2)];
    let expected = [Some(commits[2].clone()), None, Some(commits[0].clone()), Some(commits[2].clone())];
    assert_eq!(case.catalog.commits(&asked).await.expect("commits"), expected);
    let generations = case.catalog.generations(&asked).await.expect("generations");
    assert_eq!(generations, [Some(3), None, Some(1), Some(3)]);
    let many: Vec<CommitRow> = (10..10_010).map(|index| commit(index, &[index - 1])).collect();
    case.catalog.put_commits(&many).await.expect("put many");
    let asked: Vec<ObjectId> = many.iter().map(|commit| commit.oid).collect();
    let found: Vec<CommitRow> = case.catalog.commits(&asked).await.expect("commits").into_iter().flatten().collect();
    assert_eq!(found, many);
    let found = case.catalog.generations(&asked).await.expect("generations");
    assert_eq!(found, many.iter().map(|commit| Some(commit.generation)).collect::<Vec<_>>());
}

pub(super) async fn walks_stop_at_the_depth(case: Case) {
    // 0 <- 1 <- … <- 99: longer than any single query may go.
    let line: Vec<CommitRow> = (0..100).map(|index| commit(index, &Vec::from_iter(index.checked_sub(1)))).collect();
    case.catalog.put_commits(&line).await.expect("put");
    for depth in [0, 1, 15, 16, 17, 18, 33, 34, 98, 99, 100, 5000, u32::MAX] {
        let found = case.catalog.commits_back(&[commit_oid(99)], depth).await.expect("walk");
        let found: BTreeSet<ObjectId> = found.iter().map(|commit| commit.oid).collect();
        let reached = usize::try_from(depth).unwrap_or(usize::MAX).min(99);
        let expected: BTreeSet<ObjectId> = (99 - reached..100).map(commit_oid).collect();
        assert_eq!(found, expected, "depth {depth}");
    }
    assert_eq!(case.catalog.commits_back(&[oid("nowhere")], 5).await.expect("walk"), []);
    assert_eq!(case.catalog.commits_back(&[], 5).await.expect("walk"), []);
}

/// Goal: however wide and long commits are, few bytes of them are read ahead; the nearest come first, and what was asked for always does.
pub(super) async fn walks_read_few_bytes_ahead(case: Case) {
    let long = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let large = |index: usize, parents: &[usize]| CommitRow { raw: long.clone(), ..commit(index, parents) };
    // A line of eight; and eight roots, which are all parents of one commit, and that of a line of small ones.
    let line = (0..8).map(|index| large(index, &Vec::from_iter(index.checked_sub(1))));
    let roots = (10..18).map(|index| large(index, &[]));
    let small = (19..40).map(|index| commit(index, &[index - 1]));
    let wide = commit(18, &Vec::from_iter(10..18));
    let commits: Vec<CommitRow> = line.chain(roots).chain([wide]).chain(small).collect();
    case.catalog.put_commits(&commits).await.expect("put");
    let walks = [(vec![7], 50), (vec![18], 1), (vec![18], 50), (vec![20], 50), (vec![33], 50), (vec![34], 50)];
    for (tips, depth) in walks.into_iter().chain([(vec![7, 6, 18], 50)]) {
        let asked: Vec<ObjectId> = tips.iter().map(|tip| commit_oid(*tip)).collect();
        let found = case.catalog.commits_back(&asked, depth).await.expect("walk");
        let distinct: BTreeSet<ObjectId> = found.iter().map(|commit| commit.oid).collect();
        assert_eq!(distinct.len(), found.len(), "each once");
        assert!(asked.iter().all(|tip| distinct.contains(tip)), "{tips:?}: what was asked for is there");
        let ahead = found.iter().filter(|commit| !asked.contains(&commit.oid));
        let bytes: usize = ahead.map(|commit| commit.raw.len()).sum();
        assert!((3 << 20..=4 << 20).contains(&bytes), "{tips:?}, {depth}: {bytes} bytes ahead");
    }
    let found = case.catalog.commits_back(&[commit_oid(7)], 50).await.expect("walk");
    let found: BTreeSet<ObjectId> = found.iter().map(|commit| commit.oid).collect();
    assert_eq!(found, (3..8).map(commit_oid).collect(), "the nearest");
    // Of a merge of many, the first few.
    let merge = commit(99, &Vec::from_iter(50..90));
    let merged = (50..90).map(|index| commit(index, &[]));
    case.catalog.put_commits(&merged.chain([merge]).collect::<Vec<_>>()).await.expect("put");
    let found = case.catalog.commits_back(&[commit_oid(99)], 50).await.expect("walk");
    let found: BTreeSet<ObjectId> = found.iter().map(|commit| commit.oid).collect();
    assert_eq!(found, (50..66).chain([99]).map(commit_oid).collect());
    let many: Vec<ObjectId> = (0..8).chain(10..18).map(commit_oid).collect();
    assert_eq!(case.catalog.commits_back(&many, 0).await.expect("walk").len(), 16, "all that were asked for");
}

pub(super) async fn walks_agree_with_a_plain_search(case: Case) {
    let seed = model::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut parents: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..300_usize {
        let count = if index == 0 { 0 } else { random.random_range(0..=3) };
        parents.insert(index, (0..count).map(|_| random.random_range(index.saturating_sub(12)..index)).collect());
    }
    // Some commits were never recorded: a shallow history.
    let missing: BTreeSet<usize> = (0..15).map(|_| random.random_range(0..300)).collect();
    let commits: Vec<CommitRow> =
        parents.iter().filter(|(index, _)| !missing.contains(index)).map(|(index, of)| commit(*index, of)).collect();
    case.catalog.put_commits(&commits).await.expect("put");
    for _ in 0..20 {
        let tips: Vec<usize> = (0..random.random_range(1..4)).map(|_| random.random_range(150..300)).collect();
        let depth = random.random_range(0..60);
        let (mut seen, mut edge) = (BTreeSet::new(), tips.clone());
        for _ in 0..=depth {
            let met: Vec<usize> =
                edge.drain(..).filter(|index| !missing.contains(index) && seen.insert(*index)).collect();
            edge = met.iter().flat_map(|index| parents[index].clone()).collect();
        }
        let asked: Vec<ObjectId> = tips.iter().map(|tip| commit_oid(*tip)).collect();
        let found = case.catalog.commits_back(&asked, depth).await.expect("walk");
        let distinct: BTreeSet<ObjectId> = found.iter().map(|commit| commit.oid).collect();
        assert_eq!(distinct.len(), found.len(), "each once (seed {seed})");
        assert_eq!(distinct, seen.iter().map(|index| commit_oid(*index)).collect(), "seed {seed}, {tips:?}, {depth}");
    }
}

pub(super) async fn trees_come_back(case: Case) {
    let tree = |index: usize| (oid(format!("tree {index}")), bytes::Bytes::from(vec![index as u8; index * 10]));
    let trees: Vec<_> = (0..200).map(tree).collect();
    case.catalog.put_trees(&trees).await.expect("put");
    case.catalog.put_trees(&trees[5..9]).await.expect("put again");
    case.catalog.put_trees(&[]).await.expect("put nothing");
    let asked = [trees[150].0, oid("nowhere"), trees[0].0, trees[150].0];
    let expected = [Some(trees[150].1.clone()), None, Some(trees[0].1.clone()), Some(trees[150].1.clone())];
    assert_eq!(case.catalog.trees(&asked).await.expect("trees"), expected);
    let large = (oid("large"), bytes::Bytes::from(vec![7_u8; 5 << 20]));
    case.catalog.put_trees(&[large.clone(), tree(1000), large.clone()]).await.expect("put large");
    let found = case.catalog.trees(&[large.0, tree(1000).0]).await.expect("trees");
    assert_eq!(found, [Some(large.1), Some(tree(1000).1)]);
}
