use std::time::Duration;
use treehold_tests::git::{Git, Repo};
use treehold_tests::git_http::{Fault, GitHttp, Lie, On};

struct Setup {
    directory: tempfile::TempDir,
    server: GitHttp,
    sample: Repo,
}

impl Setup {
    /// A server with the sample as `project.git`.
    async fn new() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        let sample = Repo::sample(directory.path().join("sample"), 1);
        sample.bare_clone(directory.path().join("served/project.git"));
        let server = GitHttp::start(directory.path().join("served"), "user", "secret").await;
        Setup { directory, server, sample }
    }

    fn served(&self) -> Repo {
        Repo::open(self.server.repositories().join("project.git"))
    }

    fn git(&self) -> Git {
        Git::at(self.directory.path())
    }

    fn url(&self) -> String {
        self.server.url_with_credentials("project")
    }

    fn clones(&self, directory: &str) -> bool {
        self.git().output(["clone", "-q", "--bare", &self.url(), directory]).status.success()
    }
}

fn http_client() -> reqwest::Client {
    // Fails when another test was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// How often a fault must strike stock git: curl sends a request again, once, when a kept connection closes unanswered.
fn strikes(fault: &Fault) -> usize {
    if matches!(fault, Fault::DropRequest | Fault::ExecuteThenCut) { 2 } else { 1 }
}

#[tokio::test]
async fn stock_git_clones_and_pushes() {
    let setup = Setup::new().await;
    let denied = setup.git().output(["clone", "-q", &setup.server.url("project"), "denied"]);
    assert!(!denied.status.success(), "no credentials, no clone");
    assert_eq!(setup.server.requests().iter().map(|request| request.status).collect::<Vec<_>>(), [401]);
    setup.server.reset_requests();

    setup.git().run(["clone", "-q", &setup.url(), "clone"]);
    let clone = Repo::open(setup.directory.path().join("clone"));
    assert_eq!(clone.rev_parse("main"), setup.sample.rev_parse("main"));
    clone.fsck_strict();
    let requests = setup.server.requests();
    let fetch = requests.last().unwrap();
    assert_eq!((fetch.method.as_str(), fetch.path.as_str()), ("POST", "/project.git/git-upload-pack"));
    assert_eq!((fetch.status, fetch.authorization_ok), (200, true));
    assert_eq!((fetch.service.as_deref(), fetch.git_protocol.as_deref()), (Some("git-upload-pack"), Some("version=2")));
    assert!(fetch.bytes_in > 0 && fetch.bytes_out > 100_000, "{fetch:?}");

    // Random bytes above http.postBuffer (1 MiB), which git sends chunked, without a Content-Length.
    let large: Vec<u8> =
        (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (n >> 3) as u8).collect();
    let commit = clone.commit_file("large.bin", large);
    clone.git().run(["push", "-q", "origin", "main"]);
    assert_eq!(setup.served().rev_parse("main"), commit);
    setup.served().fsck_strict();
    let pushes = setup.server.requests();
    assert!(pushes.iter().any(|request| request.path.ends_with("/git-receive-pack") && request.bytes_in > 1 << 20));
}

#[tokio::test]
async fn protocols_partial_clone_and_gzip_work() {
    let setup = Setup::new().await;
    for version in ["0", "1", "2"] {
        let git = setup.git().config("protocol.version", version);
        git.run(["clone", "-q", "--bare", &setup.url(), &format!("v{version}")]);
        Repo::open(setup.directory.path().join(format!("v{version}"))).fsck_strict();
    }
    setup.git().run(["clone", "-q", "--bare", "--filter=blob:none", "--depth=1", &setup.url(), "partial"]);
    let partial = Repo::open(setup.directory.path().join("partial"));
    let missing = partial.git().run(["rev-list", "--objects", "--all", "--missing=print"]);
    assert!(missing.lines().filter(|line| line.starts_with('?')).count() > 100);
    // A fetch with many haves is sent gzipped; fsck shows that it was understood.
    setup.git().run(["clone", "-q", &setup.url(), "haves"]);
    let haves = Repo::open(setup.directory.path().join("haves"));
    for number in 0..60 {
        haves.commit_file("local", number.to_string());
    }
    let writer = setup.sample;
    writer.commit_file("new", "new");
    writer.git().run(["push", "-q", &setup.server.url_with_credentials("project"), "main"]);
    haves.git().run(["fetch", "-q"]);
    assert_eq!(haves.rev_parse("origin/main"), writer.rev_parse("main"));
    haves.fsck_strict();
}

#[tokio::test]
async fn faults_of_reading() {
    let setup = Setup::new().await;
    let faults = [
        Fault::Status(503),
        Fault::Status(404),
        Fault::DropRequest,
        Fault::CutResponse(1000),
        Fault::Lie(Lie::Empty),
        Fault::Lie(Lie::Garbage),
        Fault::Lie(Lie::Html),
        Fault::Lie(Lie::Body(b"0000".to_vec())),
        Fault::Lie(Lie::FlipByte(50_000)),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        // The second POST of a clone is the fetch; the first is ls-refs.
        setup.server.fail_next(On::UploadPack, 1, Fault::Delay(Duration::ZERO));
        setup.server.fail_next(On::UploadPack, strikes(&fault), fault.clone());
        assert!(!setup.clones(&format!("failed-{number}")), "{fault:?}");
        assert!(setup.clones(&format!("healed-{number}")), "after {fault:?}");
    }
    setup.server.fail_next(On::Discovery, usize::MAX, Fault::Status(500));
    assert!(!setup.clones("broken") && !setup.clones("still-broken"));
    setup.server.heal();
    assert!(setup.clones("whole"));
}

#[tokio::test]
async fn a_cut_response_is_cut_where_it_was_told() {
    let setup = Setup::new().await;
    setup.server.fail_next(On::Discovery, 1, Fault::CutResponse(20));
    let url = format!("{}/info/refs?service=git-upload-pack", setup.server.url("project"));
    let request = http_client().get(url).basic_auth("user", Some("secret"));
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut received = 0;
    let cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert_eq!((received, cut), (20, true));
}

#[tokio::test]
async fn the_outcome_of_a_push_can_be_lost() {
    let setup = Setup::new().await;
    let push = || setup.sample.git().output(["push", "-q", &setup.url(), "main"]).status.success();
    for (fault, executed) in [
        (Fault::DropRequest, false),
        (Fault::Status(502), false),
        (Fault::ExecuteThenCut, true),
        (Fault::ExecuteThenStatus(504), true),
        (Fault::CutResponse(3), true),
    ] {
        let commit = setup.sample.commit_file("file", format!("{fault:?}"));
        setup.server.fail_next(On::ReceivePack, strikes(&fault), fault.clone());
        assert!(!push(), "{fault:?}");
        setup.server.heal();
        assert_eq!(setup.served().rev_parse("main") == commit, executed, "{fault:?}");
        assert!(push());
        assert_eq!(setup.served().rev_parse("main"), commit);
    }
    let unanswered = setup.server.requests().iter().filter(|request| request.status == 0).count();
    assert!((2..=4).contains(&unanswered), "{unanswered}");
}

#[tokio::test]
async fn hang_redirect_down_and_up() {
    let setup = Setup::new().await;
    setup.server.fail_next(On::Discovery, 1, Fault::Hang);
    let url = format!("{}/info/refs?service=git-upload-pack", setup.server.url("project"));
    let hanging = http_client().get(&url).basic_auth("user", Some("secret")).send();
    assert!(tokio::time::timeout(Duration::from_millis(100), hanging).await.is_err());

    let other = GitHttp::start(setup.server.repositories(), "user", "secret").await;
    let base = other.url("project").replace("/project.git", "");
    setup.server.fail_next(On::Discovery, 1, Fault::Redirect(base.clone()));
    let followed = http_client().get(&url).send().await.unwrap();
    assert!(followed.url().as_str().starts_with(&base));
    assert_eq!(other.requests().len(), 1);

    setup.server.stop();
    assert!(!setup.clones("down"));
    setup.server.restart();
    assert!(setup.clones("up"));
}
