//! `admin verify --repair` where no store has an object any more: the remote of its project has it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use treehold_tests::git_http::{Fault, GitHttp, Lie, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, REMOTE_TOKEN, REMOTE_USER, blob_oid};

/// Nothing is at hand, and remotes are asked as whom the configuration says.
async fn set_up(d: &mut Deployment, settings: &[(&str, &str)]) {
    let without_caches = [("TREEHOLD_CACHE_MEMORY", "0"), ("TREEHOLD_CACHE_DISK", "0")];
    for (variable, value) in without_caches.iter().chain(settings) {
        d.set(variable, value);
    }
    d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
    d.kill();
    d.up().await;
}

/// A project with all of the history of `docs`.
async fn imported(d: &Deployment) -> Uuid {
    let done = d.cli(&["import", &d.git.url("docs"), "--project", "docs", "--full", "--json"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    report["project"]["id"].as_str().expect("an id").parse().expect("a UUID")
}

/// Packs and loose objects of a store.
fn values(objects: &Path) -> Vec<PathBuf> {
    let (mut values, mut open) = (Vec::new(), vec![objects.to_owned()]);
    while let Some(dir) = open.pop() {
        let loose = dir.file_name().is_some_and(|name| name.len() == 2);
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let pack = path.extension().is_some_and(|extension| extension == "pack");
            match path.is_dir() {
                true => open.push(path),
                false if pack || loose => values.push(path),
                false => {}
            }
        }
    }
    values
}

/// As many bytes as before, all of them zero.
fn spoil(values: &[PathBuf]) {
    for path in values {
        let len = path.metadata().expect("its length").len();
        // Stored files may be read-only.
        std::fs::remove_file(path).expect("remove");
        std::fs::write(path, vec![0; usize::try_from(len).expect("a length")]).expect("write");
    }
}

async fn verify(d: &Deployment, options: &[&str]) -> (Option<i32>, Value) {
    let done = d.cli(&[&["admin", "verify", "--full", "--json"][..], options].concat()).await;
    let report = serde_json::from_slice(&done.stdout);
    (done.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr))))
}

fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    report["findings"].as_array().expect("findings").iter()
}

/// Objects that were not repaired.
fn lost(report: &Value) -> BTreeSet<String> {
    let open = findings(report).filter(|finding| finding["level"] == "error" && finding["repaired"] == false);
    let objects = open.filter(|finding| finding["code"].as_str().expect("a code").starts_with("object_"));
    objects.map(|finding| finding["subject"].as_str().expect("a subject").to_owned()).collect()
}

both! {
    /// Goal: what no store has any more comes back from the remote of the project that reaches it, in few requests, and the remote of another
    /// tenant's project hears nothing of it. Method: every value of one project is overwritten; what that project's server and the other one
    /// were asked is in their logs.
    async fn everything_comes_back(d) {
        let mut d = d;
        let remote = d.remote("docs", 5);
        let others = tempfile::tempdir().expect("a directory");
        let other = Repo::init(others.path().join("other-work"));
        other.commit_file("other.txt", "another tenant's\n");
        other.bare_clone(others.path().join("other.git"));
        let elsewhere = GitHttp::start(others.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let prefixes = [d.git.url(""), elsewhere.url("")].map(|url| url.trim_end_matches(".git").to_owned());
        set_up(&mut d, &[("TREEHOLD_ALLOW_REMOTE", prefixes.join(",").as_str())]).await;

        let project = imported(&d).await;
        let values = values(&d.objects_dir().await);
        assert!(!values.is_empty());
        let tenant = Uuid::new_v4();
        let body = json!({"remote": {"url": elsewhere.url("other")}});
        d.put_json(&format!("/projects/{tenant}"), body).await.ok(201);
        d.post(&format!("/projects/{tenant}/sync"), json!({})).await.ok(200);
        spoil(&values);
        d.git.reset_requests();
        elsewhere.reset_requests();

        let (status, report) = verify(&d, &["--repair"]).await;
        assert!(status == Some(1) && report["codes"]["pack_corrupt"].as_u64() > Some(0), "{report:#}");
        for finding in findings(&report) {
            assert!(finding["level"] != "error" || finding["repaired"] == true, "{finding:#}");
        }
        assert_eq!(elsewhere.requests(), []);
        let requests = d.git.requests();
        assert!(requests.iter().all(|request| request.authorization_ok && request.path.starts_with("/docs.git/")), "{requests:?}");
        assert!((1..100).contains(&requests.len()), "{} requests", requests.len());

        let (status, report) = verify(&d, &[]).await;
        assert_eq!((status, &report["errors"]), (Some(0), &json!(0)), "{report:#}");
        let (_dir, repo) = d.export(project).await;
        assert_eq!(repo.rev_parse("refs/heads/main"), remote.rev_parse("main"));
    }

    /// Goal: a remote that is away, or answers nonsense, is told and ends nothing; what it never had keeps nothing else away.
    async fn a_remote_need_not_answer(d) {
        let mut d = d;
        let remote = d.remote("docs", 6);
        set_up(&mut d, &[]).await;
        let project = imported(&d).await;
        let actions = json!([{"action": "create", "path": "local.txt", "content": "never pushed\n"}]);
        let author = json!({"name": "A", "email": "a@example.org"});
        let body = json!({"message": "Local", "author": author, "actions": actions, "push": false});
        let made = d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
        spoil(&values(&d.objects_dir().await));

        let silent = |report: &Value| {
            findings(report).any(|finding| {
                finding["code"] == "remote_silent" && finding["level"] == "info" && finding["subject"] == json!(project)
            })
        };
        d.git.stop();
        let (status, report) = verify(&d, &["--repair"]).await;
        assert!(status == Some(1) && silent(&report) && lost(&report).len() > 1, "{report:#}");

        d.git.restart();
        d.git.fail_next(On::UploadPack, 1, Fault::Lie(Lie::Garbage));
        let (status, report) = verify(&d, &["--repair"]).await;
        assert!(status == Some(1) && silent(&report), "{report:#}");
        let (lost, never) = (lost(&report), blob_oid(b"never pushed\n"));
        let local = [json!(never), made["commit"].clone(), made["tree"].clone()];
        assert!(lost.contains(&never) && lost.iter().all(|oid| local.contains(&json!(oid))), "{lost:?}");

        // What the remote has is whole here again.
        let line = remote.ls_tree("main").into_iter().find(|line| line.mode == "100644" && line.path.is_ascii());
        let line = line.expect("a file");
        let blob = d.get(&format!("/projects/{project}/git/blobs/{}", line.oid)).await;
        assert!(blob.status == 200, "{}", blob.text());
        let (_, report) = verify(&d, &[]).await;
        assert!(!silent(&report) && report["repaired"] == 0, "nobody is asked without a repair");
    }
}
