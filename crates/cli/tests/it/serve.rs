//! The server: its first line, its key, its lock, its end.

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
