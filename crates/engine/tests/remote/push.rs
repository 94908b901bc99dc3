use std::os::unix::fs::PermissionsExt;

use treehold_engine::remote::{Endpoint, PushSpec, Pushed, Remote, RemoteError, Secret};
use treehold_tests::git::Repo;
use treehold_tests::git_http::{Fault, Lie, On};

use crate::setup::{CANARY, Setup, impatient, noise, oid, push, push_spec};

fn install_hook(repo: &Repo, name: &str, script: &str) {
    let path = repo.path().join("hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_push_to_git_is_one_request() {
    let setup = Setup::new().await;
    setup.known().await;
    let old = setup.origin.rev_parse("main");
    let spec = setup.push_of("refs/heads/main", Some(&old));
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    assert_eq!(setup.requests(), ["POST git-receive-pack"]);
    let request = &setup.server.requests()[0];
    assert!(request.authorization_ok && request.git_protocol.is_none());
    let served = setup.served();
    assert_eq!(served.rev_parse("main"), spec.new.to_string());
    served.fsck_strict();

    // A new branch, whose pack is large enough to be sent in many portions.
    let new = setup.origin.commit_file("noise", noise(3_000_000));
    let revisions = format!("{new}\n^{}\n", spec.new);
    let spec = push_spec(&setup.origin, setup.directory.path(), "refs/heads/topic", None, &new, &revisions);
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    assert_eq!(served.rev_parse("topic"), new);
    served.fsck_strict();
    assert_eq!(setup.requests().len(), 2);
    setup.finish();
}

#[tokio::test]
async fn an_unknown_server_is_asked_once() {
    let setup = Setup::new().await;
    let old = setup.origin.rev_parse("main");
    let first = setup.push_of("refs/heads/main", Some(&old));
    assert_eq!(push(&setup.remote, &setup.at(), &first).await, Pushed::Landed);
    let second = setup.push_of("refs/heads/main", Some(&first.new.to_string()));
    assert_eq!(push(&setup.remote, &setup.at(), &second).await, Pushed::Landed);
    assert_eq!(setup.requests(), ["GET git-receive-pack", "POST git-receive-pack", "POST git-receive-pack"]);
    assert_eq!(setup.served().rev_parse("main"), second.new.to_string());
    setup.finish();
}

#[tokio::test]
async fn only_what_a_server_offers_is_asked_of_it() {
    let setup = Setup::new().await;
    let line = format!("{} capabilities^{{}}\0report-status\n", "0".repeat(40));
    let body = format!("001f# service=git-receive-pack\n0000{:04x}{line}0000", line.len() + 4);
    setup.server.fail_next(On::Discovery, 1, Fault::Lie(Lie::Body(body.into_bytes())));
    let old = setup.origin.rev_parse("main");
    let spec = setup.push_of("refs/heads/main", Some(&old));
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    let pack = std::fs::metadata(&spec.pack).unwrap().len();
    let head = format!("0000{old} {} refs/heads/main\0 report-status0000", spec.new);
    assert_eq!(setup.server.requests()[1].bytes_in, pack + head.len() as u64);
    setup.finish();
}

#[tokio::test]
async fn what_is_not_where_it_was_is_stale() {
    let setup = Setup::new().await;
    setup.known().await;
    let old = setup.origin.rev_parse("main");
    setup.served().git().run(["update-ref", "refs/heads/main", "main~1"]);
    let spec = setup.push_of("refs/heads/main", Some(&old));
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(pushed, Pushed::Stale(_)), "{pushed:?}");
    // It exists, and should not.
    let spec = PushSpec { old: None, ..spec };
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(pushed, Pushed::Stale(_)), "{pushed:?}");
    assert_eq!(setup.served().rev_parse("main"), setup.origin.rev_parse(&format!("{old}~1")));
    // The same push again lands once the ref is back.
    setup.served().git().run(["update-ref", "refs/heads/main", &old]);
    let spec = PushSpec { old: Some(oid(&old)), ..spec };
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    // And is stale afterwards: whoever lost the answer learns it by looking.
    let again = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(again, Pushed::Stale(_)), "{again:?}");
    setup.finish();
}

#[tokio::test]
async fn refusals_come_with_the_remotes_words() {
    let setup = Setup::with(crate::setup::timeouts(), &[("receive.maxInputSize", "100000")]).await;
    setup.known().await;
    let old = setup.origin.rev_parse("main");
    install_hook(&setup.served(), "pre-receive", r"printf 'no tabs, please \033[31m\a\n' >&2; exit 1");
    let spec = setup.push_of("refs/heads/main", Some(&old));
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    let Pushed::Rejected(text) = &pushed else { panic!("{pushed:?}") };
    assert!(text.contains("no tabs, please \\u{1b}[31m\\u{7}") && !text.contains('\u{1b}'), "{text}");
    std::fs::remove_file(setup.served().path().join("hooks/pre-receive")).unwrap();

    // Told in full by a hook that talks much, but not without end.
    install_hook(&setup.served(), "pre-receive", "yes 'again and again' | head -c 300000 >&2; exit 1");
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    let Pushed::Rejected(text) = &pushed else { panic!("{pushed:?}") };
    assert!(text.len() < 20_000, "{} bytes", text.len());
    std::fs::remove_file(setup.served().path().join("hooks/pre-receive")).unwrap();

    // A pack that lacks an object.
    let empty = setup.directory.path().join("empty.pack");
    std::fs::write(&empty, setup.origin.git().bytes_with(["pack-objects", "-q", "--stdout"], b"")).unwrap();
    let pushed =
        push(&setup.remote, &setup.at(), &PushSpec { pack: empty, ..setup.push_of("refs/heads/x", None) }).await;
    assert!(matches!(pushed, Pushed::Lacking(_)), "{pushed:?}");

    let new = setup.origin.commit_file("noise", noise(200_000));
    let spec = push_spec(&setup.origin, setup.directory.path(), "refs/heads/y", None, &new, &new);
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(&pushed, Pushed::Rejected(text) if text.contains("maximum allowed size")), "{pushed:?}");
    assert_eq!(setup.served().rev_parse("main"), old);
    setup.finish();
}

#[tokio::test]
async fn each_fault_of_a_push_is_told_apart_and_sent_once() {
    let setup = Setup::with(impatient(), &[]).await;
    setup.known().await;
    let old = setup.origin.rev_parse("main");
    let spec = setup.push_of("refs/heads/main", Some(&old));
    for (fault, expected, lands) in [
        (Fault::Hang, "Unknown", false),
        (Fault::DropRequest, "Unknown", false),
        (Fault::ExecuteThenCut, "Unknown", true),
        (Fault::ExecuteThenStatus(502), "Unknown", true),
        (Fault::Status(401), "Auth", false),
        (Fault::Status(403), "Auth", false),
        (Fault::Status(404), "Auth", false),
        (Fault::Status(413), "Rejected", false),
        (Fault::Status(422), "Rejected", false),
        (Fault::Status(429), "Limited(Some(1))", false),
        (Fault::Status(500), "Unknown", false),
        (Fault::Status(502), "Unknown", false),
        (Fault::Status(503), "Unknown", false),
        (Fault::Status(504), "Unknown", false),
        (Fault::Lie(Lie::Empty), "Unknown", false),
        (Fault::Lie(Lie::Garbage), "Unknown", false),
        (Fault::Lie(Lie::Html), "Unknown", false),
        (Fault::Lie(Lie::FlipByte(7)), "Unknown", true),
    ] {
        setup.known().await;
        setup.server.fail_next(On::ReceivePack, 2, fault.clone());
        let pushed = push(&setup.remote, &setup.at(), &spec).await;
        assert!(format!("{pushed:?}").starts_with(expected), "{fault:?}: {pushed:?}");
        assert_eq!(setup.requests(), ["POST git-receive-pack"], "{fault:?}");
        setup.server.heal();
        let landed = oid(&setup.served().rev_parse("main")) == spec.new;
        assert_eq!(landed, lands, "{fault:?}");
        setup.served().git().run(["update-ref", "refs/heads/main", &old]);
    }
    // Whether the backend got to its end before the cut is open, which is the point.
    for length in [0, 10, 40] {
        setup.server.fail_next(On::ReceivePack, 1, Fault::CutResponse(length));
        let pushed = push(&setup.remote, &setup.at(), &spec).await;
        assert!(matches!(pushed, Pushed::Unknown(_)), "cut after {length}: {pushed:?}");
        setup.served().git().run(["update-ref", "refs/heads/main", &old]);
    }
    setup.served().fsck_strict();
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    setup.finish();
}

#[tokio::test]
async fn nothing_is_sent_where_nobody_listens() {
    let setup = Setup::new().await;
    setup.known().await;
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    setup.server.stop();
    // A connection that was kept may be the last to hear of it.
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(pushed, Pushed::Unreachable(_) | Pushed::Unknown(_)), "{pushed:?}");
    let pushed = push(&setup.remote, &setup.at(), &spec).await;
    assert!(matches!(pushed, Pushed::Unreachable(_)), "{pushed:?}");
    setup.server.restart();
    let missing = PushSpec { pack: setup.directory.path().join("missing"), ..spec };
    let pushed = push(&setup.remote, &setup.at(), &missing).await;
    assert!(matches!(pushed, Pushed::Unreachable(_)), "{pushed:?}");
    assert!(setup.requests().is_empty());
    setup.finish();
}

#[tokio::test]
async fn a_failed_question_before_a_push_sent_nothing() {
    let setup = Setup::with(impatient(), &[]).await;
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    for (fault, expected) in [
        (Fault::Hang, "Unreachable"),
        (Fault::DropRequest, "Unreachable"),
        (Fault::Status(500), "Unreachable"),
        (Fault::Status(401), "Auth"),
        (Fault::Status(429), "Limited(Some(1))"),
        (Fault::Lie(Lie::Html), "Unreachable"),
    ] {
        setup.server.fail_next(On::Discovery, 1, fault.clone());
        let pushed = push(&setup.remote, &setup.at(), &spec).await;
        assert!(format!("{pushed:?}").starts_with(expected), "{fault:?}: {pushed:?}");
        setup.server.heal();
    }
    let asked = setup.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request == "GET git-receive-pack"), "{asked:?}");
    setup.finish();
}

#[tokio::test]
async fn wrong_credentials_are_said_to_be_so() {
    let setup = Setup::new().await;
    setup.known().await;
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    let wrong = Some(Secret::new(format!("{CANARY}x")));
    for credentials in [None, wrong] {
        let at = Endpoint { credentials, ..setup.at() };
        assert_eq!(push(&setup.remote, &at, &spec).await, Pushed::Auth);
    }
    assert_eq!(setup.requests().len(), 2);
    // A refusal that comes while the pack is under way may be lost with the connection. Then a look tells.
    let new = setup.origin.commit_file("noise", noise(8_000_000));
    let large = push_spec(&setup.origin, setup.directory.path(), "refs/heads/large", None, &new, &new);
    let nobody = Endpoint { credentials: None, ..setup.at() };
    let pushed = push(&setup.remote, &nobody, &large).await;
    assert!(matches!(pushed, Pushed::Auth | Pushed::Unknown(_)), "{pushed:?}");
    assert!(matches!(setup.remote.refs(&nobody, &[]).await, Err(RemoteError::Auth)));
    assert!(!setup.served().refs().contains_key("refs/heads/large"));
    let forbidden = Endpoint { url: "https://example.org/x".into(), ..setup.at() };
    assert!(matches!(push(&setup.remote, &forbidden, &spec).await, Pushed::Rejected(_)));
    assert!(setup.remote.check_url(&forbidden.url).is_err() && setup.remote.check_url(&setup.at().url).is_ok());
    setup.finish();
}
