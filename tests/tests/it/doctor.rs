//! `treehold doctor`: what it says of set-ups that are well, and of those that are not.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::both;
use crate::deployment::{Deployment, Setup};

/// Exit status, and level and text of each check.
async fn examine(d: &Deployment, arguments: &[&str]) -> (Option<i32>, Value) {
    let out = d.cli(&[&["doctor", "--json"], arguments].concat()).await;
    let told: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    });
    for check in told["checks"].as_array().expect("checks") {
        assert_eq!(check["advice"].is_string(), check["level"] != "ok", "what is wrong says what to do: {check}");
    }
    assert_eq!(told["healthy"], out.status.success(), "{told:#}");
    (out.status.code(), told["checks"].clone())
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let found = checks.as_array().expect("checks").iter().find(|check| check["check"] == name);
    found.unwrap_or_else(|| panic!("{name} is not among {checks:#}"))
}

fn level<'a>(checks: &'a Value, name: &str) -> &'a Value {
    &check(checks, name)["level"]
}

both! {
    /// Goal: a set-up that works is well, beside its server and without it, and nothing is left behind.
    async fn healthy(d) {
        let mut d = d;
        std::fs::set_permissions(d.data.path(), std::fs::Permissions::from_mode(0o700)).expect("permissions");
        let project = d.local_project().await;
        d.put(&format!("/files/{project}/a"), "x").await.ok(200);
        let base = d.url("");
        let listen = base.strip_prefix("http://").expect("an http URL").to_owned();
        let (status, checks) = examine(&d, &["--listen", &listen]).await;
        assert_eq!(status, Some(0), "{checks:#}");
        assert_eq!(level(&checks, "server"), "ok");
        assert!(check(&checks, "server")["found"].as_str().expect("text").contains("ready"), "{checks:#}");
        assert_eq!(level(&checks, "remotes"), "warn", "the tests' remotes are not encrypted");
        for name in ["api keys", "data directory", "database", "store"] {
            assert_eq!(level(&checks, name), "ok", "{name}: {checks:#}");
        }
        d.stop().await;
        let (status, checks) = examine(&d, &["--listen", &listen]).await;
        assert_eq!(status, Some(0), "{checks:#}");
        assert!(check(&checks, "database")["found"].as_str().expect("text").contains("as it should be"), "{checks:#}");
        assert!(check(&checks, "server")["found"].as_str().expect("text").contains("none answers"), "{checks:#}");
        if d.setup == Setup::Cluster {
            assert_eq!(level(&checks, "clock"), "ok");
            assert_eq!(level(&checks, "first write"), "ok");
        }
        let mut left = Vec::new();
        let mut dirs = vec![d.objects_dir().await, d.data.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
                left.extend(entry.file_name().filter(|name| name.to_string_lossy().contains("doctor")).map(ToOwned::to_owned));
                dirs.extend(entry.is_dir().then_some(entry));
            }
        }
        assert_eq!(left, Vec::<std::ffi::OsString>::new(), "traces");
        d.up().await;
        assert_eq!(d.get(&format!("/files/{project}/a")).await.text(), "x");
    }
}

/// Goal: what keeps a server from working is named, with what to do, and makes the exit status 1. Method: one thing wrong at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sick() {
    let mut d = Deployment::start(Setup::Embedded).await;
    d.stop().await;
    let nobody = "http://127.0.0.1:1";
    let wrong = [
        ("TREEHOLD_DATABASE_URL", "postgres://treehold@127.0.0.1:1/none", "database"),
        ("TREEHOLD_STORE_URL", &format!("s3://bucket/prefix?endpoint={nobody}&region=x&path_style=true"), "store"),
        ("TREEHOLD_DATA_DIR", "/dev/null", "data directory"),
        // Not there, and no start can make them.
        ("TREEHOLD_DATA_DIR", "/proc/treehold", "data directory"),
        ("TREEHOLD_STORE_URL", "file:///proc/treehold", "store"),
        ("TREEHOLD_DATABASE_URL", "sqlite:///no/such/directory/treehold.db", "database"),
    ];
    d.set("AWS_ACCESS_KEY_ID", "x");
    d.set("AWS_SECRET_ACCESS_KEY", "x");
    for (variable, value, name) in wrong {
        let mut command = d.command(&["doctor", "--json"]).await;
        let out = command.env(variable, value).output().expect("the binary runs");
        let told: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(
            (out.status.code(), level(&told["checks"], name)),
            (Some(1), &json!("fail")),
            "{variable}: {told:#}"
        );
        assert!(String::from_utf8_lossy(&out.stderr).contains("failed: see above"), "{variable}");
    }
    let mut command = d.command(&["doctor", "--json", "--listen", "0.0.0.0:0"]).await;
    let out = command.env_remove("TREEHOLD_API_KEY").output().expect("the binary runs");
    let told: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!((out.status.code(), level(&told["checks"], "api keys")), (Some(1), &json!("fail")), "{told:#}");
    // On loopback a first start makes a key.
    for (there, words) in [(false, "`serve` makes one"), (true, "the one that it keeps in")] {
        if there {
            std::fs::write(d.data.path().join("api-key"), "secret\n").expect("a key");
        }
        let mut command = d.command(&["doctor", "--json", "--listen", "127.0.0.1:0"]).await;
        let out = command.env_remove("TREEHOLD_API_KEY").output().expect("the binary runs");
        let told: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let keys = check(&told["checks"], "api keys");
        assert!(keys["level"] == "ok" && keys["found"].as_str().is_some_and(|found| found.contains(words)), "{keys}");
    }

    std::fs::set_permissions(d.data.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let (status, checks) = examine(&d, &[]).await;
    assert_eq!((status, level(&checks, "data directory")), (Some(0), &json!("warn")), "{checks:#}");
    // For people: a line each, and what to do below it.
    let out = d.cli(&["doctor"]).await;
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(text.lines().any(|line| line.starts_with("warn  data directory")) && text.contains("chmod 700"), "{text}");
}
