//! Help, wrong usage, completions.

use std::process::{Command, Stdio};

use crate::program::{Bench, Ran, bare};

#[test]
fn help_lists_every_command_and_option() {
    let ran = Ran::of(bare(&["--help"]).output().unwrap());
    assert_eq!(ran.status, 0);
    let commands = [
        "serve",
        "quickstart",
        "project",
        "token",
        "import",
        "export",
        "admin",
        "doctor",
        "completions",
        "man",
        "config-check",
    ];
    for command in commands {
        assert!(ran.stdout.contains(&format!("\n  {command}")), "{command} is not in {}", ran.stdout);
        let help = Ran::of(bare(&[command, "--help"]).output().unwrap());
        assert_eq!(help.status, 0, "{command}");
        for option in ["--data-dir", "--database-url", "--store-url", "--api-key", "--allow-remote", "--config"] {
            assert!(help.stdout.contains(option), "{command} --help lacks {option}");
        }
    }
    assert!(ran.stdout.contains("TREEHOLD_DATA_DIR") && ran.stdout.contains("--limit-file-bytes"));
    assert!(!Ran::of(bare(&["-h"]).output().unwrap()).stdout.contains("--limit-file-bytes"), "-h is the short help");
}

#[test]
fn wrong_usage_ends_with_two_and_a_sentence() {
    let bench = Bench::new();
    for (args, words) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["import"], "URL|PATH"),
        (&["import", "x", "--depth", "0"], "a whole number from 1 to 4294967295 is expected"),
        (&["import", "x", "--depth", "abc"], "a whole number from 1 to 4294967295 is expected"),
        (&["project", "list", "--limit", "-3"], "a whole number from 1 to 4294967295 is expected"),
        (&["project", "create", "p", "--quota-bytes", "0"], "a whole number of bytes from 1 on is expected"),
        (&["project", "create", "p", "--quota-bytes", "-1"], "--quota-bytes default"),
        (&["project", "set", "p", "--quota-bytes", "-1"], "a whole number of bytes from 1 on is expected"),
        (&["project", "set", "p", "--quota-bytes", "much"], "--quota-bytes default"),
        (&["admin", "verify", "--max-rate", "fast"], "name one, as in 4096, 500K, 50M or 1G"),
        (&["--max-commits", "abc", "config-check"], "must be a whole number from 1"),
        (&["import", "x", "--full", "--depth", "3"], "--full"),
        (&["import", "no/such/place"], "there is no repository at"),
        (&["import", "git@github.com:o/docs.git"], "https://github.com/o/docs.git"),
        (&["export", "p"], "<DIR>"),
        (&["export", "p", "d", "--user", "nobody"], "--user"),
        (&["project", "create", "--id", "7"], "--id"),
        (&["project", "set", "p"], "--deny-deletes"),
        (&["project", "set", "p", "--deny-deletes"], "BOOL"),
        (&["project", "set", "p", "--deny-deletes", "perhaps"], "perhaps"),
        (&["token"], "revoke"),
        (&["token", "create"], "<PROJECT>"),
        (&["token", "create", "p", "--expires", "soon"], "90s"),
        (&["token", "revoke", "ci"], "<ID>"),
        (&["admin"], "migrate"),
        (&["completions", "tcsh"], "elvish"),
        (&["serve", "--listen", "nowhere"], "`listen`"),
        (&["--config", "/no/such/file.toml", "config-check"], "cannot read the configuration file"),
        (&["--log", "a=b=c", "config-check"], "`log`"),
        (&["--server", "h:3001", "project", "list"], "`server`"),
        (&["--server", "https://h.example.org", "serve"], "works on this machine"),
        (&["--server", "https://h.example.org", "project", "list"], "--token or --api-key"),
    ] {
        let message = bench.fail(2, args);
        assert!(message.contains(words), "{args:?}: {message}");
    }
    assert!(bench.fail(2, &[]).contains("quickstart"), "no command: the commands are listed");
    assert!(!bench.data().exists(), "wrong usage leaves nothing behind");
}

#[test]
fn manual_pages_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let ran = Ran::of(bare(&["man", pages.to_str().unwrap()]).output().unwrap());
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    for (name, words) in [
        ("treehold", "quickstart"),
        ("treehold-serve", "listen"),
        ("treehold-admin-gc", "grace"),
        ("treehold-doctor", "json"),
    ] {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(words), "{name}: {page}");
    }
    let printed = Ran::of(bare(&["man"]).output().unwrap());
    assert_eq!(printed.stdout, std::fs::read_to_string(pages.join("treehold.1")).unwrap());
    let refused = Ran::of(bare(&["man", "/dev/null/x"]).output().unwrap());
    assert!(refused.status == 1 && refused.stderr.contains("/dev/null/x"), "{}", refused.stderr);
}

#[test]
fn completions_for_five_shells() {
    for (shell, words) in [
        ("bash", "_treehold()"),
        ("zsh", "#compdef treehold"),
        ("fish", "complete -c treehold"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let ran = Ran::of(bare(&["completions", shell]).output().unwrap());
        assert!(ran.status == 0 && ran.stdout.contains(words) && ran.stdout.contains("quickstart"), "{shell}");
    }
    let script = Command::new(env!("CARGO_BIN_EXE_treehold")).args(["completions", "bash"]).output().unwrap();
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &script.stdout).unwrap();
    assert!(bash.wait().unwrap().success(), "bash refuses the script");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = bare(&["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
