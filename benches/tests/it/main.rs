//! The harness itself, as its users run it. What it measures is tested by running it on the real binary.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str], temporary: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treehold-bench"));
    command.args(arguments).env("TMPDIR", temporary).env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Goal: a binary that is not there is named, with the way to it.
#[test]
fn a_missing_binary_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let output = bench(&["--quick", "--binary", "/no/such/treehold"], temporary.path());
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("/no/such/treehold is missing: build it"), "{words}");
}

/// Goal: a binary that does not work fails the run with its own words, and nothing stays behind.
#[test]
fn a_broken_binary_fails_the_run_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (binary, temporary) = (directory.path().join("treehold"), directory.path().join("tmp"));
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo treehold 0 && exit 0\necho 'out of order' >&2\nexit 1\n";
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    let output =
        bench(&["--quick", "--only", "start", "--files", "100", "--binary", binary.to_str().unwrap()], &temporary);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("the server did not start: out of order"), "{words}");
    assert_eq!(output.stdout, b"", "a table of a run that failed");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

/// Goal: a scenario that does not exist is wrong usage, and the answer names those that do.
#[test]
fn an_unknown_scenario_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let output = bench(&["--only", "read,nothing"], temporary.path());
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words.contains("nothing") && words.contains("neighbour"), "{words}");
}

/// Goal: a repository that is not there fails the run with git's words, and nothing stays behind.
#[test]
fn a_missing_repository_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let output = bench(&["--only", "read", "--binary", "/bin/true", "--repository", "/no/such.git"], temporary.path());
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("git clone /no/such.git: "), "{words}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
