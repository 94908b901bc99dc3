//! More than the server can do: it refuses early and says when to come back, its memory stays flat, and who has done nothing
//! wrong is served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::aftermath::until;
use crate::both;
use crate::deployment::{API_KEY, Deployment, Reply, json_body};

/// How often whoever was refused comes back.
const TRIES_MAX: usize = 100;
/// How often the memory test asks before it says that nothing is ever refused.
const ROUNDS_MAX: usize = 20;
/// What the server may hold for requests, bytes.
const MEMORY: u64 = 128 << 20;
/// Content of one batch read in the memory test, bytes.
const ANSWER: usize = 6 << 20;
/// Who makes up tokens at once: more than may wait for the places.
const GUESSERS: usize = 300;

/// A refusal for the time being, and how long to wait.
#[track_caller]
fn refused(reply: &Reply) -> Duration {
    let code = match reply.status {
        429 => "too_many_requests",
        _ => "busy",
    };
    reply.problem(if reply.status == 429 { 429 } else { 503 }, code);
    let seconds: u64 = reply.header("retry-after").parse().expect("a time to wait");
    assert!((1..=5).contains(&seconds));
    Duration::from_secs(seconds)
}

/// Repeats as it is told until it is answered; how often it was refused.
async fn patiently(d: &Deployment, request: impl Fn() -> reqwest::RequestBuilder) -> (Reply, usize) {
    for refusals in 0..TRIES_MAX {
        let reply = d.send(request()).await;
        if reply.status / 100 == 2 {
            return (reply, refusals);
        }
        tokio::time::sleep(refused(&reply)).await;
    }
    panic!("refused for ever");
}

both! {
    /// Goal: a flood of one project, reads and saves and archives, refuses nobody else, and all of it is answered in the end.
    async fn a_flood(d) {
        let mut d = d;
        d.kill();
        for (name, value) in [("MAX_IN_FLIGHT", "4"), ("MAX_COMMITS", "4"), ("MAX_EXPORTS", "2")] {
            d.set(&format!("TREEHOLD_{name}"), value);
        }
        d.up().await;
        let (noisy, quiet) = (d.local_project().await, d.local_project().await);
        let user = Uuid::new_v4();
        for project in [noisy, quiet] {
            d.put(&format!("/files/{project}/f"), "x".repeat(50_000)).await.ok(200);
        }
        let (over, refusals) = (AtomicBool::new(false), AtomicUsize::new(0));
        let flood = join_all((0..120).map(|number| {
            let (d, over, refusals) = (&d, &over, &refusals);
            async move {
                let path = match number % 3 {
                    0 => format!("/files/{noisy}/f"),
                    1 => format!("/projects/{noisy}/archive.tar.gz"),
                    _ => format!("/pending/{noisy}/{user}/{number}"),
                };
                let method = if number % 3 == 2 { "PUT" } else { "GET" };
                for _ in 0..TRIES_MAX {
                    let (_, times) = patiently(d, || d.request(method, &path).body(if method == "PUT" { "x" } else { "" })).await;
                    refusals.fetch_add(times, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }));
        let work = async {
            for number in 0..60 {
                d.put(&format!("/pending/{quiet}/{user}/{number}"), "x").await.ok(201);
                d.get(&format!("/files/{quiet}/f")).await.ok(200);
                assert_eq!(d.get("/readyz").await.status, 200);
                if number % 10 == 0 {
                    d.get(&format!("/projects/{quiet}/archive.zip")).await.ok(200);
                    let commit = json!({"user": user, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
                    d.post(&format!("/projects/{quiet}/commit"), commit).await.ok(200);
                }
            }
            until("some of the flood are refused", async || refusals.load(Ordering::Relaxed) > 0).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(flood, work);
        assert!(refusals.into_inner() > 0);
        let saved = d.get(&format!("/pending/{noisy}/{user}?limit=1000")).await.ok(200);
        assert_eq!(saved["changes"].as_array().map(Vec::len), Some(40), "each of the flood is there");
    }

    /// Goal: tokens and projects that are made up, on git's routes, take nothing from whoever has a key.
    async fn made_up_tokens(d) {
        let mut d = d;
        d.kill();
        d.set("TREEHOLD_MAX_IN_FLIGHT", "2");
        d.up().await;
        let project = d.local_project().await;
        d.put(&format!("/files/{project}/f"), "x").await.ok(200);
        let over = AtomicBool::new(false);
        let refs = |project: &str, password: &str| {
            let path = format!("/git/{project}.git/info/refs?service=git-upload-pack");
            d.send(d.request("GET", &path).header("Git-Protocol", "version=2").bearer_auth(password))
        };
        let guesses = join_all((0..GUESSERS).map(|guesser| {
            let (refs, over) = (&refs, &over);
            async move {
                for number in 0.. {
                    let reply = refs(&format!("guess-{guesser}"), &format!("thd_{:043}", guesser + number * GUESSERS)).await;
                    // Too many at once have no turn to be looked up.
                    assert!(matches!(reply.status, 401 | 503), "{}: {}", reply.status, reply.text());
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }));
        let work = async {
            for _ in 0..40 {
                refs(&project.to_string(), API_KEY).await.ok(200);
                d.get(&format!("/files/{project}/f")).await.ok(200);
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(guesses, work);
    }

    /// Goal: answers that together are far larger than the memory for them: some are refused, none is wrong, and the process
    /// never grows beyond what it was given. The bound has room for what is not counted: threads, caches, buffers.
    async fn memory_stays_flat(d) {
        let mut d = d;
        d.kill();
        d.set("TREEHOLD_MAX_MEMORY_BYTES", &MEMORY.to_string());
        d.up().await;
        let projects = join_all((0..3).map(|_| d.local_project())).await;
        let mut contents = Vec::new();
        for (number, project) in projects.iter().enumerate() {
            let content = format!("{number} abcdefg\n").repeat(ANSWER / 3 / 10);
            for part in 0..3 {
                let own = format!("{part}{content}");
                patiently(&d, || d.request("PUT", &format!("/files/{project}/{part}")).body(own.clone())).await;
            }
            contents.push(content);
        }
        let before = high_water(&d);
        let refusals = AtomicUsize::new(0);
        // How many are under way at once is up to the scheduler: a machine that is quick, or slow, may see none refused at first.
        for _ in 0..ROUNDS_MAX {
            join_all((0..30).map(|number| {
                let (d, refusals) = (&d, &refusals);
                let (project, content) = (projects[number % 3], &contents[number % 3]);
                async move {
                    let body = json!({"paths": ["0", "1", "2"]});
                    let request = || {
                        let request = json_body(d.request("POST", &format!("/projects/{project}/read")), &body);
                        if number % 2 == 0 { request.header("Accept", "application/x-ndjson") } else { request }
                    };
                    let (reply, times) = patiently(d, request).await;
                    refusals.fetch_add(times, Ordering::Relaxed);
                    let files: Vec<Value> = match number % 2 {
                        0 => reply.text().lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect(),
                        _ => reply.ok(200)["files"].as_array().expect("files").clone(),
                    };
                    for (part, file) in files.iter().take(3).enumerate() {
                        assert!(file["content"] == format!("{part}{content}"), "part {part} for {project} is wrong");
                    }
                }
            }))
            .await;
            if refusals.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        let (refusals, after) = (refusals.into_inner(), high_water(&d));
        assert!(refusals > 0, "answers of {ANSWER} bytes, 30 at a time, found room in {MEMORY}");
        assert!(after <= before + 2 * MEMORY, "it grew from {before} to {after} bytes, with {refusals} refusals");
    }
}

/// The most memory that the server ever had, bytes.
fn high_water(d: &Deployment) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", d.server_pid())).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
