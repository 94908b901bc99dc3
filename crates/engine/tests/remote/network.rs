//! Addresses, redirects, and servers that speak raw bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use treehold_engine::remote::{Endpoint, Pushed, Remote, RemoteError, RemoteTimeouts};
use treehold_tests::git::Repo;
use treehold_tests::git_http::{Fault, On};

use crate::setup::{Log, Setup, assert_no_token, endpoint, fetch, impatient, oid, push, remote, timeouts, want};

/// A server that sends `head` and then `drop` again and again, until the client goes away.
fn drip(head: &'static str, drop: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/o/project", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(drop.as_bytes()).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    url
}

/// A server that answers every connection with the same bytes and keeps what it was sent.
struct Raw {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    fn start(answer: impl Into<Vec<u8>>) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, received) = (answer.into(), Arc::<Mutex<Vec<String>>>::default());
        let keep = received.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut portion = [0; 4096];
                // A TLS client waits for an answer to its first record, which begins with 22.
                while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.first() != Some(&22) {
                    match stream.read(&mut portion) {
                        Ok(len @ 1..) => request.extend_from_slice(&portion[..len]),
                        _ => break,
                    }
                }
                keep.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let _ = stream.write_all(&answer);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        Raw { address, received }
    }

    fn url(&self) -> String {
        format!("http://{}/o/project", self.address)
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let setup = Setup::new().await;
    setup.known().await;
    let other = Raw::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let old = setup.origin.rev_parse("main");
    let spec = setup.push_of("refs/heads/main", Some(&old));
    let localhost = setup.server.url("").replace("127.0.0.1", "localhost").replace("/.git", "");
    let port = other.address.port();
    for base in [
        format!("http://{}", other.address),
        "http://169.254.169.254".into(),
        format!("http://127.0.0.1:{port}"),
        localhost,
        "https://127.0.0.1".into(),
        format!("http://u:p@{}", setup.server.url("").trim_start_matches("http://").replace("/.git", "")),
        "file://".into(),
    ] {
        setup.server.fail_next(On::UploadPack, 2, Fault::Redirect(base.clone()));
        let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::NotAllowed(_)), "{base}: {error:?}");
        let error = fetch(&setup.remote, &setup.at(), &want(&old)).await.unwrap_err();
        assert!(matches!(error, RemoteError::NotAllowed(_)), "{base}: {error:?}");
        setup.server.fail_next(On::ReceivePack, 1, Fault::Redirect(base.clone()));
        let pushed = push(&setup.remote, &setup.at(), &spec).await;
        assert!(matches!(pushed, Pushed::Rejected(_)), "{base}: {pushed:?}");
    }
    assert!(other.received().is_empty(), "{:?}", other.received());
    // An operator's URL is bound in the same way.
    setup.server.fail_next(On::UploadPack, 1, Fault::Redirect(format!("http://{}", other.address)));
    let error = setup.remote.refs(&Endpoint { operator: true, ..setup.at() }, &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::NotAllowed(_)), "{error:?}");
    assert!(other.received().is_empty());
    setup.finish();
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_within_the_allowed_prefix() {
    let setup = Setup::new().await;
    setup.known().await;
    // project.git moves to moved/project.git.
    let moved = setup.server.repositories().join("moved");
    std::fs::create_dir(&moved).unwrap();
    std::fs::rename(setup.server.repositories().join("project.git"), moved.join("project.git")).unwrap();
    let base = setup.server.url("").replace("/.git", "/moved");
    setup.server.fail_next(On::Any, 2, Fault::Redirect(base.clone()));
    assert!(setup.remote.refs(&setup.at(), &[]).await.is_err(), "twice leads to moved/moved");
    setup.server.heal();
    setup.server.fail_next(On::Any, 1, Fault::Redirect(base.clone()));
    let refs = setup.remote.refs(&setup.at(), &[]).await.unwrap();
    assert_eq!(refs.head.as_deref(), Some("refs/heads/main"));
    // A redirected push was not executed, so it is sent again to where it belongs.
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    setup.server.fail_next(On::ReceivePack, 1, Fault::Redirect(base.clone()));
    assert_eq!(push(&setup.remote, &setup.at(), &spec).await, Pushed::Landed);
    assert_eq!(oid(&Repo::open(moved.join("project.git")).rev_parse("main")), spec.new);
    setup.server.fail_next(On::Any, usize::MAX, Fault::Redirect(base.clone()));
    setup.server.reset_requests();
    let error = setup.remote.refs(&setup.at(), &[]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("redirects more than")), "{error:?}");
    assert!(setup.requests().len() <= 8, "{:?}", setup.requests());

    // Where the list has only the old place, the new one is out of bounds.
    let narrow = remote(&[&setup.at().url], &setup.directory.path().join("spool"), timeouts());
    let error = narrow.refs(&setup.at(), &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::NotAllowed(_)), "{error:?}");
    setup.finish();
}

#[tokio::test]
async fn names_and_numbers_of_this_machine_are_refused_unless_listed() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::start());
    let here = Raw::start("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    // The prefix permits every host at port 80, so name resolution decides.
    let open = remote(&["http://", "https://"], directory.path(), timeouts());
    for url in [
        "http://localhost/o/project",
        "http://LOCALHOST/o/project",
        "http://2130706433/o/project",
        "http://0x7f000001/o/project",
        "http://0177.0.0.1/o/project",
        "http://127.1/o/project",
        "http://0/o/project",
        "http://[::1]/o/project",
        "http://[::ffff:127.0.0.1]/o/project",
        "http://[64:ff9b::7f00:1]/o/project",
        "http://169.254.169.254/latest/meta-data",
        "https://localhost/o/project",
        "https://10.0.0.1/o/project",
    ] {
        let error = open.refs(&endpoint(url), &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::NotAllowed(_)), "{url}: {error:?}");
        assert_no_token("an error", &format!("{error} {error:?}"));
    }
    assert!(here.received().is_empty());

    // A name may get another address later: a push to it is not refused for good.
    let setup = Setup::new().await;
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    let pushed = push(&open, &endpoint("http://localhost/o/project"), &spec).await;
    assert!(matches!(pushed, Pushed::Unreachable(_)), "{pushed:?}");
    let pushed = push(&open, &endpoint("http://127.0.0.1/o/project"), &spec).await;
    assert!(matches!(pushed, Pushed::Rejected(_)), "{pushed:?}");

    // Named, it is reached: the 404 is its answer.
    let local = format!("http://localhost:{}/", here.address.port());
    let named = remote(&[&local], directory.path(), timeouts());
    let error = named.refs(&endpoint(&format!("{local}o/project")), &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Auth), "{error:?}");
    assert_eq!(here.received().len(), 1);
    assert_no_token("the log", &log.text());
}

#[tokio::test]
async fn requests_are_as_git_servers_want_them() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::start());
    let raw = Raw::start("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let here = remote(&[&raw.url()], directory.path(), timeouts());
    assert!(matches!(here.refs(&endpoint(&raw.url()), &[]).await, Err(RemoteError::Auth)));
    let request = raw.received()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /o/project/info/refs?service=git-upload-pack http/1.1\r\n"), "{request}");
    for header in ["authorization: basic ", "git-protocol: version=2", "user-agent: git/", "accept: application/x-git-"]
    {
        assert!(request.contains(header), "{header} in {request}");
    }
    for header in ["accept-encoding", "expect", "referer", "cookie"] {
        assert!(!request.contains(&format!("\r\n{header}:")), "{header} in {request}");
    }
    assert_no_token("the log", &log.text());
}

#[tokio::test]
async fn a_lying_length_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n";
    let body = "000eversion 2\n0000";
    for (length, good) in [(body.len(), true), (body.len() + 1, true), (1_000_000, true), (5, false), (0, false)] {
        let raw = Raw::start(format!("{head}Content-Length: {length}\r\n\r\n{body}"));
        let here = remote(&[&raw.url()], directory.path(), impatient());
        let error = here.refs(&endpoint(&raw.url()), &[]).await.unwrap_err();
        // A list of capabilities that is whole may do; what comes then, for `ls-refs`, is of the wrong type.
        let expected = if good {
            matches!(error, RemoteError::Invalid(_) | RemoteError::Failed(_))
        } else {
            matches!(error, RemoteError::Failed(_))
        };
        assert!(expected, "{length}: {error:?}");
    }
    for answer in
        ["", "garbage\r\n\r\n", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "SSH-2.0-x\r\n"]
    {
        let raw = Raw::start(answer);
        let here = remote(&[&raw.url()], directory.path(), impatient());
        let error = here.refs(&endpoint(&raw.url()), &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::Failed(_)), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_has_one() {
    let setup = Setup::new().await;
    let limit = Duration::from_millis(1500);
    let short = RemoteTimeouts { refs: limit, transfer: limit, ..timeouts() };
    let spec = setup.push_of("refs/heads/main", Some(&setup.origin.rev_parse("main")));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";
    for (head, drop) in [(head, "0005a"), (head, "0"), ("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), ("", "H")] {
        let url = drip(head, drop);
        let here = remote(&[&url], setup.directory.path(), short);
        let error = here.refs(&endpoint(&url), &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::Timeout | RemoteError::Failed(_) | RemoteError::Invalid(_)), "{error:?}");
    }
    let url =
        drip("HTTP/1.1 200 OK\r\nContent-Type: application/x-git-receive-pack-result\r\n\r\n", "000d\x02working\n");
    // What it is asked first, it answers as wrongly, and nothing is sent.
    let here = remote(&[&url], setup.directory.path(), short);
    let pushed = push(&here, &endpoint(&url), &spec).await;
    assert!(matches!(pushed, Pushed::Unreachable(_)), "{pushed:?}");
    setup.finish();
}

#[tokio::test]
async fn the_remotes_words_are_short_and_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("\x1b]0;title\x07 {}", "words ".repeat(100_000));
    let raw = Raw::start(format!(
        "HTTP/1.1 500 Internal\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    ));
    let here = remote(&[&raw.url()], directory.path(), timeouts());
    let error = here.refs(&endpoint(&raw.url()), &[]).await.unwrap_err().to_string();
    assert!(error.contains("\\u{1b}]0;title\\u{7} words") && error.len() < 5_000, "{} {error}", error.len());
}

/// Goal: a server that repeats what it was sent does not have the token told to others. Method: at the beginning of what is read, and cut.
#[tokio::test]
async fn the_remotes_words_do_not_repeat_the_token() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::start());
    let token = endpoint("").credentials.unwrap();
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{}", token.expose()));
    let echo = format!("Authorization: Basic {pair} is {} ", token.expose()).repeat(200);
    for before in (0..120).step_by(7) {
        let text = format!("{}{echo}", "w".repeat(before));
        let raw = Raw::start(format!(
            "HTTP/1.1 500 Internal\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ));
        let here = remote(&[&raw.url()], directory.path(), timeouts());
        let error = here.refs(&endpoint(&raw.url()), &[]).await.unwrap_err().to_string();
        assert!(error.contains("Authorization: Basic … is … Authorization"), "{}", error.len());
        assert_no_token("an error", &error);
    }
    assert_no_token("the log", &log.text());
}

#[tokio::test]
async fn without_tls_on_the_other_side_nothing_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let raw = Raw::start("HTTP/1.1 200 OK\r\n\r\n");
    let url = raw.url().replace("http://", "https://");
    let here = remote(&[&url], directory.path(), impatient());
    let error = here.refs(&endpoint(&url), &[]).await.unwrap_err();
    assert!(matches!(error, RemoteError::Failed(_)), "{error:?}");
    assert!(!raw.received().is_empty());
    assert!(raw.received().iter().all(|request| !request.to_ascii_lowercase().contains("authorization")));
}

#[test]
fn an_endpoint_shows_no_secret() {
    let at = Endpoint { url: "https://user:hunter2@host/x".into(), ..endpoint("") };
    let text = format!("{at:?} {:?}", at.credentials);
    assert!(!text.contains("hunter2") && text.contains("credentials: true"), "{text}");
    assert_no_token("Debug", &text);
}
