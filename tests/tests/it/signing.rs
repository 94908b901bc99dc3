//! Signed commits: stock git is the judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Setup};
use crate::remote_tools::*;

/// A key, made by OpenSSH.
pub fn make_key(dir: &Path, kind: &str, passphrase: &str) -> PathBuf {
    let file = dir.join(format!("key-{kind}-{}", passphrase.len()));
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", kind, "-N", passphrase, "-C", "tests", "-f"]).arg(&file).output();
    let made = made.expect("ssh-keygen is there (Debian: openssh-client)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

/// Whether stock git takes the signature of a commit; the key is the only one that it trusts, for the names that `who` allows.
fn verifies(repo: &Repo, key: &Path, who: &str, commit: &str) -> bool {
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("the public key");
    let signers = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(signers.path(), format!("{who} {public}")).expect("write");
    let git = repo.git().clone().config("gpg.ssh.allowedSignersFile", signers.path().to_str().expect("UTF-8"));
    git.output(["verify-commit", commit]).status.success()
}

both! {
    /// Goal: with a key, every commit that is made here is signed, and is else what it would be; the same request names the same commit.
    async fn commits_are_signed(d) {
        let mut d = d;
        let keys = tempfile::tempdir().expect("a directory");
        let (key, other) = (make_key(keys.path(), "ed25519", ""), keys.path().join("other"));
        std::fs::create_dir(&other).expect("mkdir");
        let other = make_key(&other, "ed25519", "");
        let remote = small_remote(&d, "docs");
        d.set("TREEHOLD_SIGNING_KEY_FILE", key.to_str().expect("UTF-8"));
        d.kill();
        d.up().await;
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        save(&d, project, user, "dir/a.txt", "signed\n").await;
        let body = with(commit_body(user, "Signed\n\ngpgsig is no header here"), json!({"author": {"name": "Ann Author",
            "email": "ann@example.org", "date": "2026-01-05T10:00:00+01:00"}}));
        let dry = commit(&d, project, with(body.clone(), json!({"dry_run": true}))).await.ok(200);
        let done = commit(&d, project, body).await.ok(200);
        assert_eq!(dry["commit"], done["commit"], "the signature is the same each time");
        let oid = done["commit"].as_str().expect("a commit");
        assert_eq!(remote.head(), oid);
        assert!(verifies(&remote.bare, &key, "*", oid));
        assert!(!verifies(&remote.bare, &other, "*", oid), "by another key it is not");
        let shown = remote.bare.git().run(["show", "-s", "--format=%an <%ae> %cn <%ce> %aI %B", oid]);
        let expected = "Ann Author <ann@example.org> Ann Author <ann@example.org> 2026-01-05T10:00:00+01:00 Signed\n\n\
                        gpgsig is no header here";
        assert_eq!(shown.trim_end(), expected);
        // What is pushed later is signed, too, and so is a merge.
        d.put(&format!("/files/{project}/one.txt"), "one\n").await.ok(200);
        let theirs = remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        sync(&d, project, json!({"on_conflict": "merge"})).await.ok(200);
        let merged = head(&d, project).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse(&format!("{merged}^2")), theirs);
        for commit in [merged.clone(), format!("{merged}^1")] {
            assert!(verifies(&export, &key, "*", &commit), "{commit}");
        }
        assert!(!verifies(&export, &key, "*", &theirs), "others' commits are as they are");
        let log = d.log();
        let secret = std::fs::read_to_string(&key).expect("the key");
        assert!(secret.lines().skip(1).take(3).all(|line| !log.contains(line)));
    }

    /// Goal: a committer of signed commits can be named, as whose key it is; the author stays who it was.
    async fn committer(d) {
        let mut d = d;
        let keys = tempfile::tempdir().expect("a directory");
        let key = make_key(keys.path(), "ed25519", "");
        let remote = small_remote(&d, "docs");
        d.set("TREEHOLD_SIGNING_KEY_FILE", key.to_str().expect("UTF-8"));
        d.set("TREEHOLD_SIGNING_COMMITTER", "Bot <bot@example.org>");
        d.kill();
        d.up().await;
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        save(&d, project, user, "dir/a.txt", "signed\n").await;
        commit(&d, project, commit_body(user, "Signed")).await.ok(200);
        assert!(verifies(&remote.bare, &key, "bot@example.org", "main"));
        let shown = remote.bare.git().run(["show", "-s", "--format=%ae %ce", "main"]);
        assert_eq!(shown, "ann@example.org bot@example.org");
    }
}

/// Goal: a key that cannot be used is refused at start, with what is wrong with it, and never shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_keys_are_refused() {
    let mut d = Deployment::start(Setup::Embedded).await;
    d.kill();
    let keys = tempfile::tempdir().expect("a directory");
    let locked = make_key(keys.path(), "ed25519", "passphrase");
    let ecdsa = make_key(keys.path(), "ecdsa", "");
    let public = locked.with_extension("pub");
    for (key, why) in [
        (&locked, "passphrase"),
        (&ecdsa, "Ed25519"),
        (&public, "no private key"),
        (&keys.path().join("none"), "No such file"),
    ] {
        d.set("TREEHOLD_SIGNING_KEY_FILE", key.to_str().expect("UTF-8"));
        let refused = d.cli(&["config-check"]).await;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && told.contains(why) && told.contains("signing_key_file"), "{told}");
    }
}
