use std::path::Path;
use std::sync::Mutex;

use treehold_engine::remote::{Endpoint, FetchSpec, Remote, RemoteError, Secret};
use treehold_tests::git::Repo;
use treehold_tests::git_http::{Fault, Lie, On};

use crate::setup::{Fetched, Setup, assert_no_token, fetch, fetch_telling, impatient, oid, want};

/// Puts a fetched pack into `repo` with stock git, which must find it whole by itself.
pub fn index(repo: &Repo, fetched: &Fetched) {
    let bytes = std::fs::read(fetched.pack.path()).unwrap();
    assert_eq!(bytes.len() as u64, fetched.bytes);
    let scratch = Repo::init_bare(repo.path().join("whole"));
    scratch.git().run_with(["index-pack", "--stdin"], &bytes);
    repo.git().run_with(["index-pack", "--stdin"], &bytes);
    let shallow: String = fetched.shallow.iter().map(|oid| format!("{oid}\n")).collect();
    if !shallow.is_empty() || !fetched.unshallow.is_empty() {
        std::fs::write(repo.path().join("shallow"), shallow).unwrap();
    }
}

fn fresh(directory: &Path) -> Repo {
    Repo::init_bare(directory.join("fresh"))
}

#[tokio::test]
async fn refs_are_listed_with_two_requests_and_then_one() {
    let setup = Setup::new().await;
    let all = setup.remote.refs(&setup.at(), &[]).await.unwrap();
    assert_eq!(all.head.as_deref(), Some("refs/heads/main"));
    let expected: Vec<_> = setup.served().refs().into_iter().map(|(name, id)| (name, oid(&id))).collect();
    assert_eq!(all.refs, expected);
    assert_eq!(setup.requests(), ["GET git-upload-pack", "POST git-upload-pack"]);
    let requests = setup.server.requests();
    assert!(requests.iter().all(|r| r.authorization_ok && r.git_protocol.as_deref() == Some("version=2")));

    setup.server.reset_requests();
    let heads = setup.remote.refs(&setup.at(), &["refs/heads/m".into()]).await.unwrap();
    assert_eq!(heads.head.as_deref(), Some("refs/heads/main"));
    assert_eq!(heads.refs, [("refs/heads/main".to_owned(), oid(&setup.origin.rev_parse("main")))]);
    assert_eq!(setup.requests(), ["POST git-upload-pack"]);
    setup.finish();
}

#[tokio::test]
async fn an_empty_repository_has_an_unborn_head() {
    let setup = Setup::new().await;
    let empty = Repo::init_bare(setup.server.repositories().join("empty.git"));
    empty.git().run(["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    let at = Endpoint { url: setup.server.url("empty"), ..setup.at() };
    let refs = setup.remote.refs(&at, &["refs/heads/".into()]).await.unwrap();
    assert_eq!((refs.head.as_deref(), refs.refs.len()), (Some("refs/heads/trunk"), 0));
    setup.finish();
}

#[tokio::test]
async fn everything_is_fetched_and_then_what_is_new() {
    let setup = Setup::new().await;
    let head = setup.origin.rev_parse("main");
    let seen = Mutex::new(Vec::new());
    let told = |bytes| seen.lock().unwrap().push(bytes);
    let fetched = fetch_telling(&setup.remote, &setup.at(), &want(&head), told).await.unwrap();
    let repo = fresh(setup.directory.path());
    index(&repo, &fetched);
    assert_eq!((fetched.shallow.len(), fetched.unshallow.len()), (0, 0));
    assert_eq!(seen.lock().unwrap().last(), Some(&fetched.bytes));
    assert!(seen.lock().unwrap().is_sorted());
    repo.git().run(["update-ref", "refs/heads/main", &head]);
    repo.fsck_strict();

    // The same file grows: a thin pack would have a delta against the version that we have.
    let big = "a line that stays the same\n".repeat(500);
    let base = setup.origin.commit_file("file1", &big);
    let next = setup.origin.commit_file("file1", format!("{big}and one more\n"));
    setup.origin.git().run(["push", "-q", setup.served().path().to_str().unwrap(), "main"]);
    let spec = FetchSpec { haves: vec![oid(&base)], ..want(&next) };
    let incremental = fetch(&setup.remote, &setup.at(), &spec).await.unwrap();
    let listed = setup.origin.git().run(["rev-list", "--objects", &format!("{base}..{next}")]);
    let pack = std::fs::read(incremental.pack.path()).unwrap();
    assert_eq!(u32::from_be_bytes(pack[8..12].try_into().unwrap()) as usize, listed.lines().count());
    let whole = Repo::init_bare(setup.directory.path().join("whole"));
    whole.git().run_with(["index-pack", "--stdin"], &pack);
    drop((fetched, incremental));
    setup.finish();
}

#[tokio::test]
async fn history_is_cut_deepened_and_completed() {
    let setup = Setup::new().await;
    let (head, first) = (setup.origin.rev_parse("main"), setup.origin.rev_parse("main~3"));
    let (at, repo) = (setup.at(), fresh(setup.directory.path()));
    repo.git().run(["symbolic-ref", "HEAD", "refs/heads/main"]);
    let one = fetch(&setup.remote, &at, &FetchSpec { depth: Some(1), ..want(&head) }).await.unwrap();
    assert_eq!((&one.shallow[..], &one.unshallow[..]), (&[oid(&head)][..], &[][..]));
    index(&repo, &one);
    repo.git().run(["update-ref", "refs/heads/main", &head]);
    repo.fsck_strict();

    let have = FetchSpec { haves: vec![oid(&head)], shallow: one.shallow.clone(), ..want(&head) };
    let two = fetch(&setup.remote, &at, &FetchSpec { depth: Some(2), ..have.clone() }).await.unwrap();
    let second = setup.origin.rev_parse("main~1");
    assert_eq!((&two.shallow[..], &two.unshallow[..]), (&[oid(&second)][..], &[oid(&head)][..]));
    index(&repo, &two);
    repo.fsck_strict();
    assert_eq!(repo.git().run(["rev-list", "--count", "main"]), "2");

    let have = FetchSpec { shallow: two.shallow.clone(), ..have };
    let all = fetch(&setup.remote, &at, &FetchSpec { depth: Some(0), ..have.clone() }).await.unwrap();
    assert_eq!((&all.shallow[..], &all.unshallow[..]), (&[][..], &[oid(&second)][..]));
    index(&repo, &all);
    std::fs::remove_file(repo.path().join("shallow")).unwrap();
    repo.fsck_strict();
    assert_eq!(repo.git().run(["rev-list", "main"]).lines().last(), Some(first.as_str()));
    drop((one, two, all));
    setup.finish();
}

#[tokio::test]
async fn a_pack_over_the_limit_is_refused_and_its_spool_dropped() {
    let setup = Setup::new().await;
    let spec = FetchSpec { pack_bytes_max: 100, ..want(&setup.origin.rev_parse("main")) };
    let error = fetch(&setup.remote, &setup.at(), &spec).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Invalid(text) if text.contains("100 bytes of pack")), "{error:?}");
    setup.finish();
}

#[tokio::test]
async fn what_the_remote_does_not_have_is_its_refusal() {
    let setup = Setup::new().await;
    let error = fetch(&setup.remote, &setup.at(), &want(&"1".repeat(40))).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused(text) if text.contains("not our ref")), "{error:?}");
    let error = fetch(&setup.remote, &setup.at(), &FetchSpec::default()).await.unwrap_err();
    assert!(matches!(error, RemoteError::Invalid(_)));
    setup.finish();
}

#[tokio::test]
async fn wrong_or_missing_credentials_and_repositories_are_the_same() {
    let setup = Setup::new().await;
    for credentials in [None, Some(Secret::new("wrong".into()))] {
        let error = setup.remote.refs(&Endpoint { credentials, ..setup.at() }, &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::Auth), "{error:?}");
    }
    let nowhere = Endpoint { url: setup.server.url("nowhere"), ..setup.at() };
    let error = setup.remote.refs(&nowhere, &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Auth), "{error:?}");
    // Also when the host is known and no question goes first.
    setup.known().await;
    let error = setup.remote.refs(&nowhere, &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Auth), "{error:?}");
    setup.finish();
}

#[tokio::test]
async fn each_fault_of_a_read_is_told_apart_and_passes() {
    let setup = Setup::with(impatient(), &[]).await;
    setup.known().await;
    let head = setup.origin.rev_parse("main");
    for (fault, count, expected) in [
        (Fault::Hang, 1, "Timeout"),
        (Fault::DropRequest, 2, "Failed"),
        (Fault::CutResponse(0), 1, "Failed"),
        (Fault::CutResponse(100), 1, "Failed"),
        (Fault::Status(401), 1, "Auth"),
        (Fault::Status(403), 1, "Auth"),
        (Fault::Status(404), 1, "Auth"),
        (Fault::Status(429), 1, "Limited(Some(1))"),
        (Fault::Status(500), 1, "Failed"),
        (Fault::Status(503), 1, "Failed"),
        (Fault::Status(418), 1, "Failed"),
        (Fault::Lie(Lie::Empty), 1, "Failed"),
        (Fault::Lie(Lie::Garbage), 1, "Invalid"),
        (Fault::Lie(Lie::Html), 1, "Invalid"),
        (Fault::Lie(Lie::Body(b"000eunexpected".to_vec())), 1, "Invalid"),
        (Fault::Lie(Lie::Body(b"0012ERR go away!\n0000".to_vec())), 1, "Refused"),
    ] {
        setup.known().await;
        setup.server.fail_next(On::UploadPack, count, fault.clone());
        let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "refs, {fault:?}: {error:?}");
        assert_no_token("an error", &format!("{error} {error:?}"));
        setup.server.heal();

        setup.known().await;
        setup.server.fail_next(On::UploadPack, count, fault.clone());
        let error = fetch(&setup.remote, &setup.at(), &want(&head)).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "fetch, {fault:?}: {error:?}");
        setup.server.heal();
        assert!(fetch(&setup.remote, &setup.at(), &want(&head)).await.is_ok(), "{fault:?} has passed");
    }
    setup.finish();
}

#[tokio::test]
async fn one_failed_connection_is_made_up_for() {
    let setup = Setup::new().await;
    setup.server.fail_next(On::Discovery, 1, Fault::DropRequest);
    assert!(setup.remote.refs(&setup.at(), &[]).await.is_ok());
    setup.server.reset_requests();
    setup.server.fail_next(On::UploadPack, 1, Fault::DropRequest);
    assert!(setup.remote.refs(&setup.at(), &[]).await.is_ok());
    assert_eq!(setup.requests().len(), 2);
    setup.server.restart();
    assert!(setup.remote.refs(&setup.at(), &[]).await.is_ok());
    setup.server.stop();
    let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Failed(_)), "{error:?}");
    setup.finish();
}

#[tokio::test]
async fn a_flipped_byte_never_yields_refs_or_a_pack_of_another_length() {
    let setup = Setup::with(impatient(), &[]).await;
    setup.known().await;
    let truth = setup.remote.refs(&setup.at(), &[]).await.unwrap();
    for offset in [0, 3, 10, 43, 60] {
        setup.server.fail_next(On::UploadPack, 1, Fault::Lie(Lie::FlipByte(offset)));
        match setup.remote.refs(&setup.at(), &[]).await {
            // A name may change to another that is not UTF-8, or a symref's attribute: never an oid into a wrong one.
            Ok(refs) => assert!(refs.refs.iter().all(|pair| truth.refs.contains(pair)), "offset {offset}"),
            Err(error) => assert!(matches!(error, RemoteError::Invalid(_) | RemoteError::Failed(_)), "{error:?}"),
        }
        setup.server.heal();
    }
    setup.finish();
}

#[tokio::test]
async fn only_version_2_is_spoken() {
    let setup = Setup::with(impatient(), &[("protocol.version", "0"), ("uploadpack.advertiseRefs", "")]).await;
    let old = b"001e# service=git-upload-pack\n0000";
    let line = format!("{} refs/heads/main\0multi_ack agent=old/1\n", "1".repeat(40));
    let body = [&old[..], format!("{:04x}{line}0000", line.len() + 4).as_bytes()].concat();
    setup.server.fail_next(On::Discovery, 1, Fault::Lie(Lie::Body(body)));
    let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Invalid(text) if text.contains("version 2 is needed")), "{error:?}");
    assert_eq!(setup.requests(), ["GET git-upload-pack"]);

    let sha256 = b"001e# service=git-upload-pack\n0000000eversion 2\n0019object-format=sha256\n0000";
    setup.server.fail_next(On::Discovery, 1, Fault::Lie(Lie::Body(sha256.to_vec())));
    let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Invalid(text) if text.contains("SHA-1")), "{error:?}");

    let endless = [b"000eversion 2\n".to_vec(), b"0014agent=abcdefghi\n".repeat(10_000)].concat();
    for body in [endless, b"000eversion 2\n".to_vec(), b"".to_vec(), b"<html>".to_vec()] {
        setup.server.fail_next(On::Discovery, 2, Fault::Lie(Lie::Body(body)));
        let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
        assert!(matches!(&error, RemoteError::Invalid(_) | RemoteError::Failed(_)), "{error:?}");
        setup.server.heal();
    }
    setup.finish();
}
