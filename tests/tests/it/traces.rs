//! What a collector of traces is sent, and that nobody waits for it.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use treehold_tests::collector::{Collector, Manner, Span};
use uuid::Uuid;

use crate::aftermath::until;
use crate::both;
use crate::deployment::{API_KEY, Deployment, REMOTE_TOKEN, Setup, json_body};
use crate::remote_tools::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What a caller says that has a trace of its own.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// Starts the server anew, with a collector.
async fn traced(d: &mut Deployment, collector: &Collector, sample: &str) {
    d.kill();
    d.set("TREEHOLD_OTLP_ENDPOINT", &collector.url());
    d.set("TREEHOLD_TRACE_SAMPLE", sample);
    d.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    d.up().await;
}

fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
}

/// The trace as a tree: every span but `root` has a parent in it.
fn whole(spans: &[Span], trace: &str, root: &Span) -> Vec<Span> {
    let of: Vec<Span> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
    let ids: HashSet<&str> = of.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), of.len(), "each has an id of its own");
    let orphans: Vec<_> = of.iter().filter(|span| span.id != root.id && !ids.contains(span.parent.as_str())).collect();
    assert!(orphans.is_empty(), "{orphans:?}");
    of
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names = || spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {:?}", names()))
}

both! {
    /// Goal: a commit with a push is one trace, that of its caller, with the calls to database, bucket and remote below the request;
    /// nothing of it goes to the remote. All of it has arrived when the server has ended.
    async fn one_trace(deployment) {
        let (mut d, collector) = (deployment, Collector::start(Manner::Takes));
        traced(&mut d, &collector, "1").await;
        let _remote = small_remote(&d, "docs");
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        save(&d, project, user, "text.txt", &TEXT.replace("1\n2", "one\n2")).await;
        d.git.reset_requests();
        let request = json_body(d.request("POST", &format!("/projects/{project}/commit")), &commit_body(user, "One"));
        let request = request.header("traceparent", traceparent("01")).header("X-Request-Id", "a-commit");
        d.send(request.header("X-Remote-Token", REMOTE_TOKEN)).await.ok(200);
        assert!(!d.git.requests().is_empty() && d.git.requests().iter().all(|request| !request.trace_context));
        d.stop().await;

        let spans = collector.spans();
        assert!(spans.iter().all(|span| span.events == 0 && span.resource["service.name"] == "treehold"));
        let commit = find(&spans, "POST /projects/{project}/commit");
        assert_eq!((commit.trace.as_str(), commit.parent.as_str(), commit.kind.as_str()), (TRACE, CALLER, "server"));
        for (attribute, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/projects/{project}/commit"),
            ("http.response.status_code", "200"),
            ("treehold.request.id", "a-commit"),
            ("error.type", ""),
        ] {
            assert_eq!(commit.get(attribute), value, "{attribute}");
        }
        let trace = whole(&spans, TRACE, commit);
        assert!(trace.iter().all(|span| span.id == commit.id || span.kind == "client"), "{trace:?}");
        let (system, store) = match d.setup {
            Setup::Embedded => ("sqlite", "directory"),
            Setup::Cluster => ("postgresql", "s3"),
        };
        let database: Vec<_> = trace.iter().filter(|span| !span.get("db.operation.name").is_empty()).collect();
        assert!(database.len() > 3 && database.iter().all(|span| span.get("db.system.name") == system), "{database:?}");
        let put = find(&trace, "store put");
        assert_eq!((put.get("treehold.store.kind"), put.failed), (store, false));
        assert!(put.get("treehold.store.bytes").parse::<u64>().is_ok_and(|bytes| bytes > 0), "{put:?}");
        assert_eq!(put.get("rpc.method"), if d.setup == Setup::Cluster { "PutObject" } else { "" });
        let push = find(&trace, "git push");
        assert_eq!((push.get("server.address"), push.failed), ("127.0.0.1", false));
        for name in ["git refs", "git fetch"] {
            assert_eq!(find(&spans, name).kind, "client", "{name}");
        }

        // Without a caller's trace each request has its own; so has upkeep.
        let save = find(&spans, "PUT /pending/{project}/{user}/{*path}");
        assert_ne!(save.trace, TRACE);
        assert_eq!(save.parent, "");
        let trace = whole(&spans, &save.trace, save);
        assert!(trace.len() > 1, "the write is traced: {trace:?}");
        let upkeep = find(&spans, "housekeep");
        assert_eq!((upkeep.parent.as_str(), upkeep.kind.as_str()), ("", "internal"));
        assert!(whole(&spans, &upkeep.trace, upkeep).len() > 1);
        // Nothing else begins a trace: what nobody asked for is not traced.
        let roots: HashMap<&str, &str> =
            spans.iter().filter(|span| span.parent.is_empty()).map(|span| (span.name.as_str(), span.kind.as_str())).collect();
        assert!(roots.iter().all(|(name, kind)| *kind == "server" || ["housekeep", "sweep"].contains(name)), "{roots:?}");
    }

    /// Goal: no secret, no path, no content and no name that a caller gave is in anything that is exported, also where calls fail.
    async fn nothing_leaks(deployment) {
        let (mut d, collector) = (deployment, Collector::start(Manner::Takes));
        d.set("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=collector-canary-91");
        traced(&mut d, &collector, "1").await;
        let _remote = small_remote(&d, "docs-canary-remote");
        let (project, user) = (d.connect("docs-canary-remote").await, Uuid::new_v4());
        save(&d, project, user, "path-canary/file.txt", "content-canary\n").await;
        d.get(&format!("/files/{project}/path-canary/none.txt?ref=ref-canary")).await;
        let search = json!({"query": "query-canary", "user": user});
        d.post(&format!("/projects/{project}/search"), search).await.ok(200);
        let body = with(commit_body(user, "message-canary"), json!({"author": {"name": "author-canary", "email": "e@canary"}}));
        commit_as(&d, project, &body, "idempotency-canary", "wrong-token-canary").await.problem(502, "remote_auth");
        commit_as(&d, project, &body, "idempotency-canary", REMOTE_TOKEN).await.ok(200);
        let token = d.cli(&["token", "create", &project.to_string()]).await;
        let token = String::from_utf8(token.stdout).expect("UTF-8");
        let secret = token.lines().find_map(|line| line.strip_prefix("secret")).expect("a secret").trim().to_owned();
        let by_token = reqwest::Client::new().get(d.url(&format!("/projects/{project}"))).bearer_auth(&secret);
        assert_eq!(by_token.send().await.expect("an answer").status(), 200);
        d.stop().await;

        let spans = collector.spans();
        let failed = spans.iter().find(|span| span.get("http.response.status_code") == "502").expect("it is traced");
        assert_eq!((failed.get("error.type"), failed.failed), ("remote_auth", true));
        let push = spans.iter().find(|span| span.trace == failed.trace && span.name == "git push").expect("its push");
        assert_eq!((push.get("error.type"), push.failed), ("auth", true));
        let text = collector.bodies().iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect::<String>();
        let (project, user) = (project.to_string(), user.to_string());
        for canary in ["canary", API_KEY, REMOTE_TOKEN, &secret, "text.txt", &project, &user, "SELECT", "INSERT"] {
            assert!(!text.contains(canary), "{canary} was exported");
        }
        // The collector's own credentials are for it alone.
        let headers = collector.headers();
        assert!(!headers.is_empty() && headers.iter().all(|headers| headers["x-collector-key"] == "collector-canary-91"));
        assert!(!d.log().contains("collector-canary"));
    }

    /// Goal: calls are counted, with how they ended and how long they took.
    async fn calls_are_counted(d) {
        let _remote = small_remote(&d, "docs");
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        save(&d, project, user, "text.txt", "one\n").await;
        commit_as(&d, project, &commit_body(user, "A"), "k", "wrong").await.problem(502, "remote_auth");
        commit_key(&d, project, &commit_body(user, "A"), "k").await.ok(200);
        let page = d.get("/metrics").await.text();
        let pool = match d.setup {
            Setup::Embedded => "write",
            Setup::Cluster => "any",
        };
        for name in [
            "treehold_store_call_seconds_count{operation=\"put\",outcome=\"ok\"}".to_owned(),
            "treehold_store_call_seconds_sum{operation=\"put\",outcome=\"ok\"}".to_owned(),
            "treehold_store_written_bytes_total".to_owned(),
            "treehold_catalog_call_seconds_count{operation=\"write pending work\",outcome=\"ok\"}".to_owned(),
            "treehold_remote_call_seconds_count{operation=\"git fetch\",outcome=\"ok\"}".to_owned(),
            "treehold_remote_call_seconds_count{operation=\"git push\",outcome=\"ok\"}".to_owned(),
            "treehold_remote_call_seconds_count{operation=\"git push\",outcome=\"error\"}".to_owned(),
            format!("treehold_database_connections_max{{for=\"{pool}\"}}"),
        ] {
            assert!(metric(&page, &name) > 0.0, "{name}");
        }
        let open = ["in_use", "idle"].map(|state| {
            metric(&page, &format!("treehold_database_connections{{for=\"{pool}\",state=\"{state}\"}}"))
        });
        assert!(open.iter().sum::<f64>() >= 1.0, "{open:?}");
        let all = metric(&page, "treehold_store_call_seconds_bucket{operation=\"put\",outcome=\"ok\",le=\"+Inf\"}");
        assert_eq!(all, metric(&page, "treehold_store_call_seconds_count{operation=\"put\",outcome=\"ok\"}"));
        assert_eq!(metric(&page, "treehold_trace_spans_total{outcome=\"sent\"}"), 0.0, "nobody has traces");
    }
}

/// Goal: who has a key decides whether its request is recorded; who has none, or a token, does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling() {
    let (mut d, collector) = (Deployment::start(Setup::Embedded).await, Collector::start(Manner::Takes));
    let project = d.local_project().await;
    let token = d.cli(&["token", "create", &project.to_string()]).await;
    let token = String::from_utf8(token.stdout).expect("UTF-8");
    let secret = token.lines().find_map(|line| line.strip_prefix("secret")).expect("a secret").trim().to_owned();
    let show = format!("/projects/{project}");
    let ask = async |d: &Deployment, flags: &str, id: &str| {
        let traceparent = traceparent(flags);
        d.send(d.request("GET", &show).header("traceparent", &traceparent).header("X-Request-Id", id)).await.ok(200);
        let client = reqwest::Client::new();
        let stranger = client.get(d.url(&show)).header("traceparent", &traceparent).header("X-Request-Id", "stranger");
        assert_eq!(stranger.send().await.expect("an answer").status(), 401);
        let holder = client.get(d.url(&show)).header("traceparent", &traceparent).header("X-Request-Id", "holder");
        assert_eq!(holder.bearer_auth(&secret).send().await.expect("an answer").status(), 200);
    };
    traced(&mut d, &collector, "0").await;
    ask(&d, "01", "wanted").await;
    ask(&d, "00", "unwanted").await;
    d.get("/projects").await.ok(200);
    d.stop().await;
    let spans = collector.spans();
    let requests: Vec<_> =
        spans.iter().filter(|span| span.kind == "server").map(|span| span.get("treehold.request.id")).collect();
    assert_eq!(requests, ["wanted"]);
    assert!(spans.len() > 1 && spans.iter().all(|span| span.trace == TRACE), "{spans:?}");

    let collector = Collector::start(Manner::Takes);
    traced(&mut d, &collector, "1").await;
    ask(&d, "00", "unwanted").await;
    d.stop().await;
    let spans = collector.spans();
    let of = |id: &str| spans.iter().find(|span| span.get("treehold.request.id") == id);
    assert!(of("unwanted").is_none());
    for id in ["stranger", "holder"] {
        let span = of(id).unwrap_or_else(|| panic!("{id} is traced"));
        assert!(span.trace != TRACE && span.parent.is_empty(), "{span:?}");
    }
    let stranger = of("stranger").expect("a stranger");
    assert_eq!((stranger.get("error.type"), stranger.failed), ("unauthorized", false));
}

/// Goal: a collector that refuses, hangs or is not there costs a line in the log, and no request; the server ends in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collector_is_down() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let line = "the collector does not take traces";
    let gone = Collector::start(Manner::Takes).url();
    let (refusing, hanging) = (Collector::start(Manner::Refuses), Collector::start(Manner::Hangs));
    for (url, told) in [(gone, "Connection refused"), (refusing.url(), "HTTP 503"), (hanging.url(), "timed out")] {
        d.kill();
        std::fs::write(d.data.path().join("server.log"), "").expect("an empty log");
        d.set("TREEHOLD_OTLP_ENDPOINT", &url);
        d.set("OTEL_BSP_SCHEDULE_DELAY", "20");
        d.up().await;
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        if told.contains("timed") {
            until("a batch hangs", async || !hanging.bodies().is_empty()).await;
        }
        for n in 0..20 {
            save(&d, project, user, &format!("{n}.txt"), "content").await;
        }
        if !told.contains("timed") {
            let failed = "treehold_trace_spans_total{outcome=\"failed\"}";
            until("several batches are lost", async || metric(&d.get("/metrics").await.text(), failed) > 100.0).await;
        }
        d.stop().await;
        let log = d.log();
        let lines: Vec<_> = log.lines().filter(|said| said.contains(line)).collect();
        assert!(lines.len() == 1 && lines[0].contains(told), "{lines:?}");
        assert!(!log.contains("panicked"));
    }
    assert!(!refusing.bodies().is_empty() && !hanging.bodies().is_empty());
}

/// Goal: the standard variable names a collector where nothing else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_variable() {
    let (mut d, collector) = (Deployment::start(Setup::Embedded).await, Collector::start(Manner::Takes));
    d.kill();
    d.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    d.set("OTEL_SERVICE_NAME", "store-7");
    d.up().await;
    d.get("/projects").await.ok(200);
    d.stop().await;
    let spans = collector.spans();
    assert_eq!(find(&spans, "GET /projects").resource["service.name"], "store-7");
}
