//! Our fetch requests against `git upload-pack --stateless-rpc`.

use std::collections::HashSet;

use treehold_object::{Kind, ObjectId};
use treehold_wire::fetch::{
    ClientCapabilities, Deepen, FetchError, FetchLimits, FetchReader, FetchRequest, FetchSummary, LsRefs, RefLimits,
    RefsReader, RemoteRef,
};
use treehold_wire::{Advertisement, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::git::{Repo, history, parse_objects, seed, spool};

const CLIENT: ClientCapabilities<'_> = ClientCapabilities { agent: Some("treehold/test"), object_format: true };

fn ls_refs(repo: &Repo, request: &LsRefs) -> Vec<RemoteRef> {
    let output = repo.serve("upload-pack", &request.encode(&CLIENT).unwrap());
    let mut reader = RefsReader::new(RefLimits::default());
    output.stdout.chunks(13).for_each(|chunk| reader.push(chunk).unwrap());
    reader.finish().unwrap()
}

fn try_fetch(repo: &Repo, request: &FetchRequest) -> Result<(Vec<u8>, FetchSummary), FetchError> {
    let output = repo.serve("upload-pack", &request.encode(&CLIENT).unwrap());
    let (mut reader, mut pack, mut progress) = (FetchReader::new(FetchLimits::default()), Vec::new(), 0);
    for chunk in output.stdout.chunks(1013) {
        reader.push_to(chunk, &mut pack, &mut |text| progress += text.len()).unwrap()?;
    }
    assert!(!(request.no_progress && progress > 0));
    reader.finish()?;
    Ok((pack, reader.summary().clone()))
}

fn fetch(repo: &Repo, request: &FetchRequest) -> (Quarantine, FetchSummary) {
    let (pack, summary) = try_fetch(repo, request).unwrap();
    assert_eq!(summary.pack_bytes, pack.len() as u64);
    let shallow: HashSet<ObjectId> = summary.shallow.iter().copied().collect();
    let options =
        IngestOptions { shallow: Some(&shallow), limits: IngestLimits::default(), ..IngestOptions::default() };
    (ingest(spool(&pack), &options).unwrap(), summary)
}

/// What git would send for these arguments of `rev-list`.
fn expected(repo: &Repo, revisions: &str) -> Vec<(ObjectId, Kind, u64)> {
    let list = repo.git_with(&["rev-list", "--objects", "--no-object-names", "--stdin"], revisions.as_bytes());
    parse_objects(&String::from_utf8(repo.git_with(&["cat-file", "--batch-check"], &list)).unwrap())
}

fn objects(quarantine: &Quarantine) -> Vec<(ObjectId, Kind, u64)> {
    crate::ingesting::objects(quarantine)
}

#[test]
fn refs_are_listed_with_targets_and_peeled_tags() {
    let repo = history(12, seed(21));
    let refs = ls_refs(&repo, &LsRefs { prefixes: vec!["HEAD".into(), "refs/".into()], unborn: true });
    assert_eq!(refs[0].name, "HEAD");
    assert_eq!(refs[0].symref_target, Some("refs/heads/main".into()));
    let mut got: Vec<_> = refs[1..].iter().map(|r| (r.oid.unwrap(), r.name.to_string())).collect();
    got.sort();
    let text = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let mut by_git: Vec<_> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(hex, name)| (ObjectId::from_hex(hex.as_bytes()).unwrap(), name.to_owned()))
        .collect();
    by_git.sort();
    assert_eq!(got, by_git);
    let nested = refs.iter().find(|r| r.name == "refs/tags/nested2").unwrap();
    assert_eq!(nested.peeled, Some(repo.oid("main")));
    let heads = ls_refs(&repo, &LsRefs { prefixes: vec!["refs/heads/main".into()], unborn: false });
    assert_eq!(heads.len(), 1);
}

#[test]
fn an_unborn_head_names_its_branch() {
    let refs = ls_refs(&Repo::bare(), &LsRefs { prefixes: vec![], unborn: true });
    assert_eq!((refs.len(), refs[0].oid, refs[0].symref_target.clone()), (1, None, Some("refs/heads/main".into())));
}

#[test]
fn the_advertisement_of_gits_server_is_read() {
    let repo = history(1, 1);
    let mut command = std::process::Command::new("git");
    command.args(["upload-pack", "--http-backend-info-refs", "."]).current_dir(repo.path());
    let v2 = command.env("GIT_PROTOCOL", "version=2").output().unwrap().stdout;
    let v2 = Advertisement::parse(&v2).unwrap();
    assert_eq!(v2.version, 2);
    assert!(v2.capabilities.has_feature("fetch", "shallow") && v2.capabilities.has_feature("ls-refs", "unborn"));
    for (protocol, version) in [("version=0", 0), ("version=1", 1)] {
        let mut command = std::process::Command::new("git");
        command.args(["receive-pack", "--http-backend-info-refs", "."]).current_dir(repo.path());
        let bytes = command.env("GIT_PROTOCOL", protocol).output().unwrap().stdout;
        let push = Advertisement::parse(&bytes).unwrap();
        assert_eq!((push.version, push.refs.len()), (version, repo.git(&["for-each-ref"]).lines().count()));
        assert!(push.capabilities.has("report-status-v2") && push.capabilities.has("atomic"));
    }
}

#[test]
fn a_full_fetch_brings_everything_once() {
    let repo = history(30, seed(22));
    let (main, tag) = (repo.oid("main"), repo.oid("nested2"));
    let request = FetchRequest { wants: vec![main, tag], no_progress: true, ..FetchRequest::default() };
    let (quarantine, summary) = fetch(&repo, &request);
    assert_eq!(objects(&quarantine), expected(&repo, "main\nnested2\n"));
    assert_eq!(quarantine.external(), []);
    assert_eq!((summary.shallow.len(), summary.unshallow.len()), (0, 0));
}

#[test]
fn an_incremental_fetch_brings_what_is_missing_and_needs_what_was_had() {
    let repo = history(30, seed(23));
    let request =
        FetchRequest { wants: vec![repo.oid("main")], haves: vec![repo.oid("main~9")], ..FetchRequest::default() };
    let (quarantine, _) = fetch(&repo, &request);
    assert_eq!(objects(&quarantine), expected(&repo, "main\n^main~9\n"));
    assert!(!quarantine.external().is_empty(), "and it is no thin pack, or it would not have resolved");
    // A have that the server does not know is no trouble.
    let request = FetchRequest { haves: vec![ObjectId::Sha1([3; 20]), request.haves[0]], ..request };
    assert_eq!(objects(&fetch(&repo, &request).0), objects(&quarantine));
    // Nothing new is an empty pack.
    let same = FetchRequest { wants: vec![repo.oid("main")], haves: vec![repo.oid("main")], ..FetchRequest::default() };
    assert!(fetch(&repo, &same).0.is_empty());
}

#[test]
fn shallow_fetches_deepen_step_by_step_until_everything_is_there() {
    let repo = history(30, seed(24));
    let main = repo.oid("main");
    let depth_1 = FetchRequest { wants: vec![main], deepen: Deepen::Depth(1), ..FetchRequest::default() };
    let (first, summary) = fetch(&repo, &depth_1);
    assert_eq!((first.commits(), summary.shallow.clone()), (vec![main], vec![main]));
    assert_eq!(first.external(), []);

    let mut have: Vec<_> = objects(&first);
    let (mut shallow, mut steps) = (summary.shallow, 0);
    for deepen in [Deepen::Depth(4), Deepen::By(3), Deepen::Unshallow] {
        let request = FetchRequest {
            wants: vec![main],
            haves: vec![main],
            shallow: shallow.clone(),
            deepen,
            ..FetchRequest::default()
        };
        let (quarantine, summary) = fetch(&repo, &request);
        assert!(summary.unshallow.iter().all(|oid| shallow.contains(oid)) && !summary.unshallow.is_empty());
        shallow.retain(|oid| !summary.unshallow.contains(oid));
        shallow.extend(&summary.shallow);
        have.extend(objects(&quarantine));
        steps += 1;
        assert_eq!(shallow.is_empty(), steps == 3);
    }
    have.sort();
    have.dedup();
    assert_eq!(have, expected(&repo, "main\n"));

    let not = FetchRequest {
        wants: vec![main],
        deepen: Deepen::Not(vec!["refs/heads/old".into()]),
        ..FetchRequest::default()
    };
    repo.git(&["branch", "old", "main~2"]);
    let (quarantine, _) = fetch(&repo, &not);
    let by_git: Vec<_> = repo.git(&["rev-list", "main", "^old"]).lines().map(str::to_owned).collect();
    assert_eq!(quarantine.commits().len(), by_git.len());
    let since = FetchRequest { wants: vec![main], deepen: Deepen::Since(1), ..FetchRequest::default() };
    assert_eq!(objects(&fetch(&repo, &since).0), have);
}

#[test]
fn what_the_server_refuses_comes_back_in_its_words() {
    let repo = history(1, 1);
    let request = FetchRequest { wants: vec![ObjectId::Sha1([5; 20])], ..FetchRequest::default() };
    match try_fetch(&repo, &request) {
        Err(FetchError::Remote(message)) => assert!(message.contains("not our ref"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_cut_anywhere_is_never_taken_for_whole() {
    let repo = history(2, 1);
    let request = FetchRequest { wants: vec![repo.oid("main")], deepen: Deepen::Depth(1), ..FetchRequest::default() };
    let answer = repo.serve("upload-pack", &request.encode(&CLIENT).unwrap()).stdout;
    for end in 0..answer.len() {
        let mut reader = FetchReader::new(FetchLimits::default());
        reader.push_to(&answer[..end], &mut std::io::sink(), &mut |_| ()).unwrap().unwrap();
        assert_eq!(reader.finish(), Err(FetchError::Truncated), "cut at {end} of {}", answer.len());
    }
}
