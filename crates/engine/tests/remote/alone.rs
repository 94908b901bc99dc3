//! Objects by their names, without what they refer to: what a repair asks for.

use treehold_engine::remote::{FetchSpec, RemoteError};
use treehold_tests::git::Repo;

use crate::setup::{Fetched, Setup, fetch, oid, timeouts, want};

fn alone(hexes: &[&str]) -> FetchSpec {
    FetchSpec { wants: hexes.iter().map(|hex| oid(hex)).collect(), alone: true, ..want(hexes[0]) }
}

/// Ids of the objects in a pack, which need not be closed, by stock git.
fn names(setup: &Setup, fetched: &Fetched) -> Vec<String> {
    let scratch = tempfile::tempdir_in(setup.directory.path()).unwrap();
    let repo = Repo::init_bare(scratch.path().join("scratch"));
    repo.git().run_with(["index-pack", "--stdin"], &std::fs::read(fetched.pack.path()).unwrap());
    let listed = repo.git().run(["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    listed.lines().map(str::to_owned).collect()
}

async fn brought(setup: &Setup, hexes: &[&str]) -> Vec<String> {
    let fetched = fetch(&setup.remote, &setup.at(), &alone(hexes)).await.unwrap();
    names(setup, &fetched)
}

/// Goal: an object comes alone, whatever it is and however deep in history; a tag with the commit that it names.
#[tokio::test]
async fn a_blob_a_tree_and_an_old_commit_come_alone() {
    let setup = Setup::new().await;
    for revision in ["main~2:file1", "main~2^{tree}", "main~2", "main~3"] {
        let id = setup.origin.rev_parse(revision);
        let came = brought(&setup, &[&id]).await;
        assert_eq!(came, [id], "{revision}");
    }
    let (tag, commit) = (setup.origin.rev_parse("v1"), setup.origin.rev_parse("v1^{commit}"));
    let mut both = vec![tag.clone(), commit];
    both.sort();
    assert_eq!(brought(&setup, &[&tag]).await, both);
    let blobs = ["main:file1", "main:file2", "main:file4"].map(|revision| setup.origin.rev_parse(revision));
    let mut sorted = blobs.to_vec();
    sorted.sort();
    assert_eq!(brought(&setup, &blobs.each_ref().map(String::as_str)).await, sorted);
    setup.finish();
}

/// Goal: where wants refer to each other nothing else comes, and what did not come does when it is asked for by itself.
#[tokio::test]
async fn wants_under_other_wants_come_sooner_or_later() {
    let setup = Setup::new().await;
    let mut open =
        ["main~1", "main~1^{tree}", "main~1:file1"].map(|revision| setup.origin.rev_parse(revision)).to_vec();
    while !open.is_empty() {
        let asked: Vec<&str> = open.iter().map(String::as_str).collect();
        let came = brought(&setup, &asked).await;
        assert!(!came.is_empty() && came.iter().all(|id| open.contains(id)), "{came:?} of {open:?}");
        open.retain(|id| !came.contains(id));
    }
    setup.finish();
}

/// Goal: a server that knows no filter sends more, but no history.
#[tokio::test]
async fn without_a_filter_history_stays_away() {
    let setup = Setup::with(timeouts(), &[("uploadpack.allowFilter", "false")]).await;
    let [commit, tree, blob, parent] =
        ["main~2", "main~2^{tree}", "main~2:file1", "main~3"].map(|revision| setup.origin.rev_parse(revision));
    assert_eq!(brought(&setup, &[&blob]).await, std::slice::from_ref(&blob));
    let came = brought(&setup, &[&commit]).await;
    assert!([&commit, &tree, &blob].iter().all(|id| came.contains(id)) && !came.contains(&parent), "{came:?}");
    setup.finish();
}

/// Goal: one object that is not there refuses them all, and is named.
#[tokio::test]
async fn a_refusal_names_what_is_not_there() {
    let setup = Setup::new().await;
    let (blob, absent) = (setup.origin.rev_parse("main:file1"), "1".repeat(40));
    let error = fetch(&setup.remote, &setup.at(), &alone(&[&blob, &absent])).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused(text) if text.contains(&absent)), "{error:?}");
    setup.finish();
}
