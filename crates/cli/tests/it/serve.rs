//! The server: its first line, its key, its lock, its end.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::program::{Bench, Server, mode};

fn key(bench: &Bench) -> String {
    std::fs::read_to_string(bench.data().join("api-key")).unwrap().trim().to_owned()
}

#[test]
fn it_answers_once_it_says_so_and_only_with_the_key() {
    let bench = Bench::new();
    let server = bench.serve();
    assert!(server.address.starts_with("127.0.0.1:") && !server.address.ends_with(":0"), "{}", server.address);
    assert_eq!(server.request("GET", "/healthz", None, "").0, 200);
    assert_eq!(server.request("GET", "/readyz", None, "").0, 200);
    assert_eq!(server.request("GET", "/projects", None, "").0, 401);
    assert_eq!(server.request("GET", "/projects", Some("wrong"), "").0, 401);
    assert_eq!(server.request("GET", "/projects", Some(&key(&bench)), "").0, 200);

    assert_eq!(mode(&bench.data()), 0o700);
    for file in ["api-key", "lock", "control.sock", "treehold.db"] {
        assert_eq!(mode(&bench.data().join(file)), 0o600, "{file}");
    }
    let store: Vec<_> =
        std::fs::read_dir(bench.data().join("store")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(store, ["objects"]);
    assert_eq!(std::fs::read_dir(bench.data().join("tmp")).unwrap().count(), 0);
}

/// Goal: nothing that is logged makes a line of its own. Method: a data directory that others can look into, with a line end in its name.
#[test]
fn the_log_has_a_line_for_each_event() {
    let bench = Bench::new();
    let (data, log) = (bench.path("data\nforged"), bench.path("log"));
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let mut command = bench.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("TREEHOLD_DATA_DIR", &data).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
    let mut server = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut first).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(first.starts_with("listening on ") && log.contains("others can look into"), "{first}{log}");
    assert!(log.contains(r"data\nforged") && log.lines().all(|line| !line.starts_with("forged")), "{log}");
}

#[test]
fn the_key_stays_the_same() {
    let bench = Bench::new();
    drop(bench.serve());
    let first = key(&bench);
    assert_eq!(first.len(), 64);
    drop(bench.serve());
    assert_eq!(key(&bench), first);
}

#[test]
fn configured_keys_replace_the_made_one() {
    let bench = Bench::new();
    let mut command = bench.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("TREEHOLD_API_KEY", "new-key-0123456789, old-key-0123456789");
    let server = Server::start(command);
    assert!(!bench.data().join("api-key").exists());
    for key in ["new-key-0123456789", "old-key-0123456789"] {
        assert_eq!(server.request("GET", "/projects", Some(key), "").0, 200);
    }
}

#[test]
fn without_a_key_it_listens_on_loopback_only() {
    let bench = Bench::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let message = bench.fail(2, &["serve", "--listen", address]);
        assert!(message.contains("without a key") && message.contains("--api-key"), "{message}");
    }
    assert!(!bench.data().join("treehold.db").exists());
}

#[test]
fn the_second_server_on_a_directory_is_told_why_it_cannot() {
    let bench = Bench::new();
    let server = bench.serve();
    let message = bench.fail(1, &["serve", "--listen", "127.0.0.1:0"]);
    let pid = format!("(pid {})", server.child.id());
    assert!(message.contains(&pid) && message.contains("--data-dir"), "{message}");
    assert_eq!(server.request("GET", "/healthz", None, "").0, 200);
    let taken = Bench::new();
    let message = taken.fail(1, &["serve", "--listen", &server.address]);
    assert!(message.contains("cannot listen on") && message.contains("--listen"), "{message}");
}

#[test]
fn signals_end_it_in_order() {
    for name in ["-TERM", "-INT"] {
        let bench = Bench::new();
        let server = bench.serve();
        server.signal(name);
        assert_eq!(server.wait(), Some(0), "{name}");
        assert!(!bench.data().join("control.sock").exists(), "{name}");
    }
}

#[test]
fn a_killed_server_is_no_obstacle() {
    let bench = Bench::new();
    let server = bench.serve();
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    assert!(bench.data().join("control.sock").exists(), "the stale socket is what is tested here");
    assert_eq!(bench.json(&["project", "list", "--json"])["projects"].as_array().unwrap().len(), 0);
    let again = bench.serve();
    assert_eq!(again.request("GET", "/healthz", None, "").0, 200);
    assert_eq!(bench.json(&["project", "list", "--json"])["projects"].as_array().unwrap().len(), 0);
}

#[test]
fn a_long_directory_name_has_a_socket_too() {
    let bench = Bench::new();
    let data = bench.path(&"long".repeat(40));
    let data = data.to_str().unwrap();
    let server = Server::start(bench.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data]));
    let made = bench.json(&["project", "create", "p", "--json", "--data-dir", data]);
    let key = std::fs::read_to_string(format!("{data}/api-key")).unwrap();
    assert_eq!(
        server.request("GET", &format!("/projects/{}", made["id"].as_str().unwrap()), Some(key.trim()), "").0,
        200
    );
}

/// What the control socket answers to these bytes.
fn control(bench: &Bench, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(bench.data().join("control.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_control_socket_answers_with_events() {
    let bench = Bench::new();
    let _server = bench.serve();
    let post = |path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        control(&bench, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    let answer = post("/control/v1/admin-stats", "{}");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("{\"result\":{"), "{answer}");
    let answer = post("/control/v1/project-show", "{\"project\":\"x\"}");
    assert!(answer.contains("{\"error\":{\"status\":1,\"code\":\"project_not_found\""), "{answer}");
    for (path, body, status) in [
        ("/control/v1/frobnicate", "{}", 404),
        ("/control/v1/project-show", "{\"project\":\"x\",\"force\":true}", 404),
        ("/control/v1/project-show", "{", 400),
        ("/projects", "{}", 404),
    ] {
        let answer = post(path, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("{\"error\":{"),
            "{path}: {answer}"
        );
    }
    let answer = control(&bench, "GET /control/v1/admin-stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn requests_at_work_are_answered_before_it_stops() {
    use std::io::{Read, Write};
    let bench = Bench::new();
    let server = bench.serve();
    let key = key(&bench);
    bench.json(&["project", "create", "p", "--json"]);
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    let user = "a0000000-0000-4000-8000-00000000000a";
    write!(
        stream,
        "PUT /pending/p/{user}/f HTTP/1.1\r\nHost: x\r\nX-Internal-API-Key: {key}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    )
    .unwrap();
    // The server is reading this request's body by now.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("-TERM");
    // Whoever asks whether it is ready finds nobody there from now on.
    let gone = (0..250).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::net::TcpStream::connect(&server.address).is_err()
    });
    assert!(gone, "it still takes connections");
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.wait(), Some(0));
    let again = bench.serve();
    let (status, body) = again.request("GET", &format!("/files/p/f?user={user}"), Some(&key), "");
    assert_eq!((status, body.as_str()), (200, "hello"));
}
