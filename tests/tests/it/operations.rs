//! What a server does by itself, and what it says of what it stands on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use treehold_server::ServeOptions;
use uuid::Uuid;

use crate::aftermath::{count, execute, until};
use crate::both;
use crate::deployment::{Deployment, Setup};
use crate::remote_tools::{save, small_remote};

both! {
    /// Goal: manifests are written without being asked for, one after the other, and the collector's roots are the last two.
    async fn manifests_are_written(deployment) {
        let mut d = deployment;
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        save(&d, project, user, "a.txt", "a").await;
        d.kill();
        d.set("TREEHOLD_MANIFEST_INTERVAL", "1");
        d.up().await;
        // Each names the one before it.
        let two = "SELECT count(*) FROM jobs WHERE name = 'manifest' AND report LIKE '%\"commits\":[\"%\",\"%\"]%'";
        until("two manifests", async || count(&d, two).await == 1).await;
        d.kill();
        // As JSON the collector finds both, and the ledger has them.
        let held = "SELECT count(*) FROM objects o, jobs j WHERE j.name = 'manifest' AND o.type = 1";
        assert!(count(&d, held).await >= 2, "the commits are in the ledger");
        d.set("TREEHOLD_MANIFEST_INTERVAL", "0");
        d.up().await;
        assert_eq!(count(&d, "SELECT count(*) FROM ops WHERE state = 'open' AND kind <> 'manifest'").await, 0);
    }

    /// Goal: what waits, and when upkeep was last done, can be watched.
    async fn metrics(d) {
        let metric = async |name: &str| {
            let page = d.get("/metrics").await;
            assert_eq!((page.status, page.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
            let page = page.text();
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
            line.map(|value| value.parse::<f64>().expect("a number"))
        };
        assert_eq!(metric("treehold_open_operations").await, Some(0.0));
        assert_eq!(metric("treehold_job_finished_timestamp_seconds{job=\"gc\"}").await, None);
        for command in [&["admin", "gc", "--apply"][..], &["admin", "verify"]] {
            let done = d.cli(command).await;
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        for job in ["gc", "verify"] {
            let finished = format!("treehold_job_finished_timestamp_seconds{{job=\"{job}\"}}");
            until("it is told", async || metric(&finished).await > Some(1_700_000_000.0)).await;
        }
        assert_eq!(metric("treehold_job_report{job=\"verify\",number=\"errors\"}").await, Some(0.0));
        let stranger = reqwest::get(d.url("/metrics")).await.expect("an answer");
        assert_eq!(stranger.status(), 401);
    }

    /// Goal: a server that is older than its database says so, and works.
    async fn newer_schema_is_told(deployment) {
        let mut d = deployment;
        d.kill();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            SELECT 9999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
        assert!(!d.log().contains("newer than this program"));
        execute(&d, &[newer]).await;
        d.up().await;
        until("it is told", async || d.log().contains("newer than this program")).await;
        assert_eq!(d.get("/readyz").await.status, 200);
    }
}

/// A file of `deploy/`.
fn shipped(name: &str) -> String {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::fs::read_to_string(workspace.join("deploy").join(name)).expect(name)
}

/// Goal: a balancer closes idle connections before the server does, which would close some just as a request comes.
#[test]
fn balancers_close_idle_connections_first() {
    let plan = shipped("terraform/main.tf");
    let set = |line: &str| {
        let value = line.trim().strip_prefix("idle_timeout")?.trim().strip_prefix('=')?;
        value.trim().parse::<u64>().ok()
    };
    let idle_s: Vec<u64> = plan.lines().filter_map(set).collect();
    let server = ServeOptions::default().head_timeout;
    assert!(idle_s.len() == 1 && Duration::from_secs(idle_s[0]) < server, "{idle_s:?} s, and the server {server:?}");
    let page = include_str!("../../../docs/deployment.md");
    assert!(page.contains(&format!("under {} s", server.as_secs())), "the page says how long a proxy may keep them");
}

/// Names of metrics in a text, without the endings that a histogram adds.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = names.filter(|name| name.starts_with("treehold_") && name.len() > "treehold_".len());
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

/// What a text chooses series by: the metric as it is served, a label, and what that is compared with.
fn chosen_in(text: &str) -> BTreeSet<(&str, &str, &str)> {
    let mut chosen = BTreeSet::new();
    for (at, _) in text.match_indices("treehold_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (metric, rest) = rest.split_at(end);
        let Some(mut rest) = rest.strip_prefix('{') else { continue };
        // `label="value", other!="value"`: routes have braces, too.
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once('"').expect("a value");
            let (value, more) = value.split_once('"').expect("its end");
            chosen.insert((metric, label.trim_end_matches(['=', '!', '~']), value));
            rest = more.trim_start_matches([',', ' ']);
        }
    }
    chosen
}

/// What a label may have, and has not while all goes well on Postgres.
const RARE: [(&str, &str); 3] = [("outcome", "error"), ("status", "5xx"), ("for", "write")];

/// A page of metrics after a bit of everything: saves, reads, commits, a remote, and what a server does by itself.
async fn busy_page(d: &Deployment) -> String {
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    save(d, project, user, "a.txt", "a").await;
    d.post(&format!("/projects/{project}/read"), json!({"paths": ["a.txt"]})).await.ok(200);
    let body = json!({"user": user, "message": "a", "author": {"name": "A", "email": "a@example.org"}});
    d.post(&format!("/projects/{project}/commit"), body).await.ok(200);
    let _remote = small_remote(d, "docs");
    d.connect("docs").await;
    for command in [&["admin", "gc", "--apply"][..], &["admin", "verify"], &["admin", "manifest"]] {
        let done = d.cli(command).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let jobs =
        ["gc", "verify", "manifest"].map(|job| format!("treehold_job_finished_timestamp_seconds{{job=\"{job}\"}}"));
    let mut page = String::new();
    until("what was done is told", async || {
        page = d.get("/metrics").await.text();
        jobs.iter().all(|job| page.contains(job))
    })
    .await;
    page
}

/// Goal: what the alerts and the dashboard ask for is there to be asked for, labels and routes included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_dashboard() {
    let d = Deployment::start(Setup::Cluster).await;
    let page = busy_page(&d).await;
    let helped: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).map(str::to_owned).collect();
    for file in ["prometheus/alerts.yaml", "grafana/treehold.json"] {
        let text = shipped(file).replace('\\', "");
        let asked = metrics_in(&text);
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        let unknown: Vec<_> = asked.difference(&helped).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, of {helped:?}");
        let chosen = chosen_in(&text);
        assert!(chosen.len() > 5, "{file} chooses by {chosen:?}");
        for (metric, label, value) in chosen {
            let begins = format!("{metric}{{");
            let has = |what: &str| page.lines().any(|line| line.starts_with(&begins) && line.contains(what));
            assert!(has(&format!("{label}=\"")), "{file}: {metric} has no label {label} in\n{page}");
            let known = RARE.contains(&(label, value)) || has(&format!("{label}=\"{value}\""));
            assert!(known, "{file}: no {label} of {metric} is {value:?} in\n{page}");
        }
    }
    // Of a job that was never done there is no time: that one is late must be told, too.
    let alerts = shipped("prometheus/alerts.yaml");
    let jobs: BTreeSet<_> = alerts.split("max(treehold_job_finished_timestamp_seconds{").skip(1).collect();
    assert_eq!(jobs.len(), 2);
    for selector in jobs.iter().filter_map(|rest| rest.split_once('}')).map(|(selector, _)| selector) {
        let absent = format!("absent(treehold_job_finished_timestamp_seconds{{{selector}}})");
        assert!(alerts.contains(&absent), "no alert fires where {selector} was never done");
    }
    serde_json::from_str::<Value>(&shipped("grafana/treehold.json")).expect("JSON");
}
