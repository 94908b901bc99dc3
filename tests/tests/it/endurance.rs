//! One deployment that is killed again and again, at random moments and at every named fault point, under everything that can be
//! asked of it at once. `TREEHOLD_CRASHES` says how many times, for a run of hours; without it there is one kill at each point, or a few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use treehold_fault::{POINTS, PointKind};
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::aftermath::{big_remote, bucket_fsck, kill, linear_history, log_of, random, reaped};
use crate::crashes::{Committer, Writer, attempt};
use crate::deployment::{Deployment, REMOTE_TOKEN, Setup, json_body};
use crate::git_tools::url;

/// Calls of the catalog at which the server dies, too: before, and after them.
const CALLS: &[&str] = &[
    "write pending work",
    "prepare a commit",
    "record a commit",
    "change an attempt",
    "register objects",
    "reserve bucket keys",
    "publish",
    "move objects",
    "record a deletion",
    "reap operations",
];
/// Points that a server passes, or that it never does.
fn points(of_commands: bool) -> impl Iterator<Item = &'static str> {
    let wanted = move |kind: PointKind| (kind == PointKind::Command) == of_commands;
    POINTS.iter().filter(move |(_, kind, _)| wanted(*kind)).map(|(point, ..)| *point)
}

/// How long a server that is to die at a point may live until it gets there; in a long run there are others.
fn life() -> Duration {
    Duration::from_secs(if crashes().is_some() { 4 } else { 12 })
}

/// Kills between two looks at the whole bucket, in a long run.
const ROUNDS: usize = 25;
/// How often each point is tried: on a busy machine a life may end before the server comes there.
const TRIES: usize = 3;

/// Where a server dies.
#[derive(Debug, Clone)]
enum End {
    /// Somewhere, after so many milliseconds.
    Anywhere(u64),
    /// At a point, at the Nth time.
    At(String, u32),
}

impl End {
    /// Whether the server comes there without being asked: it settles at its start what the life before left undecided.
    fn is_of_itself(&self) -> bool {
        matches!(self, End::At(point, _) if point == "U2")
    }
}

/// A stock git client that pushes one commit after the other to a branch of its own.
struct Pusher {
    repo: Repo,
    _dir: tempfile::TempDir,
    count: u32,
    /// What the branch may be: what was there last, and what was pushed since.
    maybe: BTreeSet<String>,
}

const PUSHED: &str = "refs/heads/by-git";

impl Pusher {
    fn new() -> Pusher {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = Repo::init(dir.path().join("repo"));
        Pusher { repo, _dir: dir, count: 0, maybe: BTreeSet::from([String::new()]) }
    }

    /// Pushes until it fails.
    async fn load(&mut self, url: String) {
        loop {
            self.count += 1;
            let oid = self.repo.commit_file("pushed", format!("{}\n", self.count));
            self.maybe.insert(oid.clone());
            let git = self.repo.git().clone();
            let (to, what) = (url.clone(), format!("+HEAD:{PUSHED}"));
            let pushed = tokio::task::spawn_blocking(move || git.output(["push", "--quiet", &to, &what])).await;
            if !pushed.expect("a thread").status.success() {
                return;
            }
            self.maybe = BTreeSet::from([oid]);
        }
    }

    /// What was answered is there; what was not may be.
    async fn check(&mut self, url: String) {
        let git = self.repo.git().clone();
        let listed = tokio::task::spawn_blocking(move || git.run(["ls-remote", &url, PUSHED])).await.expect("a thread");
        let tip = listed.split_whitespace().next().unwrap_or_default().to_owned();
        assert!(self.maybe.contains(&tip), "{PUSHED} is {tip:?}, not one of {:?}", self.maybe);
        self.maybe = BTreeSet::from([tip]);
    }
}

/// Everybody who works with the deployment.
struct Everybody {
    d: Deployment,
    random: StdRng,
    local: Uuid,
    remote: Uuid,
    writers: Vec<Writer>,
    local_committers: Vec<Committer>,
    pushing_committers: Vec<Committer>,
    pusher: Pusher,
    outside: u32,
    kills: usize,
    died_at: BTreeMap<String, usize>,
}

impl Everybody {
    async fn new(mut d: Deployment, mut random: StdRng) -> Everybody {
        d.set("TREEHOLD_LOG", "warn");
        d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
        d.kill();
        d.up().await;
        d.remote("docs", 7);
        big_remote(&d, "big", 300, &mut random);
        let (local, remote) = (d.local_project().await, d.connect("docs").await);
        let writers = (0..2).map(|_| Writer::new(rand::SeedableRng::from_rng(&mut random))).collect();
        let committers = |project, push| (0..2).map(|_| Committer::new(project, push)).collect();
        let (local_committers, pushing_committers) = (committers(local, false), committers(remote, true));
        let (pusher, died_at) = (Pusher::new(), BTreeMap::new());
        Everybody {
            d,
            random,
            local,
            remote,
            writers,
            local_committers,
            pushing_committers,
            pusher,
            outside: 0,
            kills: 0,
            died_at,
        }
    }

    /// Somebody else pushes to the remote.
    fn outsider(&mut self) {
        self.outside += 1;
        let repo = self.d.remotes.path().join("docs.git");
        let stream = format!(
            "commit refs/heads/main\ncommitter O <o@example.org> {} +0000\ndata 7\noutside\nfrom refs/heads/main^0\n\
             M 100644 inline outside.txt\ndata {}\n{}\n",
            1_700_000_000 + self.outside,
            self.outside.to_string().len(),
            self.outside
        );
        let done = Git::at(repo).output_of(["fast-import", "--quiet"], stream.as_bytes());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// One life of the server, under load, to its end.
    async fn live(&mut self, end: &End) {
        let fault = match end {
            End::Anywhere(_) => String::new(),
            End::At(point, times) => format!("{point}=kill@{times}"),
        };
        self.d.set("TREEHOLD_FAULTS", &fault);
        let up = self.d.up_unless_it_dies().await;
        // Commands of an operator are not to die of it.
        self.d.set("TREEHOLD_FAULTS", "");
        if up && end.is_of_itself() {
            let begin = Instant::now();
            while begin.elapsed() < life() && attempt(self.d.request("GET", "/healthz")).await.is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else if up {
            let pid = self.d.server_pid();
            let over = AtomicBool::new(false);
            let dies = async {
                let life = match end {
                    End::Anywhere(life_ms) => Duration::from_millis(*life_ms),
                    End::At(..) => life(),
                };
                let begin = Instant::now();
                while begin.elapsed() < life && attempt(self.d.request("GET", "/healthz")).await.is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                kill(pid);
                over.store(true, Ordering::Relaxed);
            };
            let d = &self.d;
            let writers = futures::future::join_all(self.writers.iter_mut().map(|writer| writer.load(d, self.local)));
            let committers = self.local_committers.iter_mut().chain(&mut self.pushing_committers);
            let committers = futures::future::join_all(committers.map(|committer| committer.load(d)));
            let pushes = self.pusher.load(url(d, self.local));
            futures::join!(writers, committers, pushes, chores(d, self.remote, &over), dies);
        }
        self.d.kill();
        self.kills += 1;
        if let End::At(point, _) = end
            && self.d.log().matches(&format!("fault: kill at {}\n", point.trim_end_matches('+'))).count() > 0
        {
            *self.died_at.entry(point.clone()).or_default() += 1;
        }
        std::fs::write(self.d.data.path().join("server.log"), "").expect("an empty log");
    }

    /// After it: what was answered is there, and the same request has the same answer.
    async fn look(&mut self) {
        self.d.up().await;
        for writer in &mut self.writers {
            writer.check(&self.d, self.local).await;
        }
        for committer in self.local_committers.iter_mut().chain(&mut self.pushing_committers) {
            committer.retry(&self.d).await;
        }
        self.pusher.check(url(&self.d, self.local)).await;
    }

    /// Now and then: everything that was answered is there once, nothing is half done, and the bucket is whole.
    async fn look_closely(&mut self) {
        let history = log_of(&self.d, self.local).await;
        self.local_committers.iter().for_each(|committer| committer.check(&history));
        let origin = Repo::open(self.d.remotes.path().join("docs.git"));
        let pushed: Vec<String> = origin.git().run(["log", "--format=%s", "main"]).lines().map(str::to_owned).collect();
        self.pushing_committers.iter().for_each(|committer| committer.check(&pushed));
        origin.fsck_strict();
        self.d.post(&format!("/projects/{}/sync", self.remote), json!({"on_conflict": "merge"})).await.ok(200);
        reaped(&mut self.d).await;
        let (_dir, export) = self.d.export(self.local).await;
        assert_eq!(linear_history(&export, "main"), history);
        let (_dir, export) = self.d.export(self.remote).await;
        assert_eq!(export.rev_parse("main"), origin.rev_parse("main"));
        bucket_fsck(&self.d).await;
    }

    /// Dies at each of these ends and is looked at after each.
    async fn suffer(&mut self, ends: impl IntoIterator<Item = End>) {
        for end in ends {
            if self.random.random_ratio(1, 3) {
                self.outsider();
            }
            self.d.kill();
            if end.is_of_itself() {
                self.live(&End::At("U4".to_owned(), 1)).await;
            }
            self.live(&end).await;
            if self.d.setup == Setup::Cluster && self.kills.is_multiple_of(10) {
                self.d.own().postgres.kill9();
                self.d.own().postgres.restart().await;
            }
            self.look().await;
            if self.kills.is_multiple_of(ROUNDS) {
                self.look_closely().await;
                println!("{} kills, at points: {:?}", self.kills, self.died_at);
            }
        }
        self.look_closely().await;
        println!("{} kills, at points: {:?}", self.kills, self.died_at);
    }

    /// An operator's rebuild dies at each of its points and is finished by the next one; then everybody goes on.
    async fn rebuild(&mut self) {
        for point in points(true) {
            let written = self.d.cli(&["admin", "manifest"]).await;
            assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
            self.d.kill();
            let rebuild = ["admin", "rebuild", "--force", "--manifest", "latest"];
            self.d.set("TREEHOLD_FAULTS", &format!("{point}=kill"));
            let died = self.d.cli(&rebuild).await;
            self.d.set("TREEHOLD_FAULTS", "");
            let words = String::from_utf8_lossy(&died.stderr);
            assert!(words.contains(&format!("fault: kill at {point}\n")), "never died at {point}: {words}");
            *self.died_at.entry(point.to_owned()).or_default() += 1;
            // Before B1 there is nothing to finish.
            let done = self.d.cli(if point == "B1" { &rebuild[..] } else { &rebuild[..2] }).await;
            assert!(done.status.success(), "after {point}: {}", String::from_utf8_lossy(&done.stderr));
            self.look().await;
        }
        self.look_closely().await;
        println!("{} kills, at points: {:?}", self.kills, self.died_at);
    }

    fn some_end(&mut self) -> End {
        let calls: Vec<String> = CALLS.iter().flat_map(|call| [(*call).to_owned(), format!("{call}+")]).collect();
        match self.random.random_range(0..3) {
            0 => End::Anywhere(self.random.random_range(0..2000)),
            1 => {
                let points: Vec<&str> = points(false).collect();
                let point = points.choose(&mut self.random).expect("a point");
                End::At((*point).to_owned(), self.random.random_range(1..4))
            }
            _ => End::At(calls.choose(&mut self.random).expect("a call").clone(), self.random.random_range(1..12)),
        }
    }
}

/// What operators and timers do meanwhile.
async fn chores(d: &Deployment, remote: Uuid, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let sync = json_body(d.request("POST", &format!("/projects/{remote}/sync")), &json!({"on_conflict": "merge"}));
        if let Some(reply) = attempt(sync.header("X-Remote-Token", REMOTE_TOKEN)).await
            && ![200, 409].contains(&reply.status)
        {
            let projects = attempt(d.request("GET", "/projects?limit=100")).await.map(|reply| reply.text());
            panic!("{} of {remote} at {}: {projects:?}\n{}", reply.text(), d.url(""), d.log());
        }
        let imported = Uuid::new_v4();
        let project = json!({"remote": {"url": d.git.url("big")}});
        attempt(json_body(d.request("PUT", &format!("/projects/{imported}")), &project)).await;
        let sync = json_body(d.request("POST", &format!("/projects/{imported}/sync")), &json!({}));
        attempt(sync.header("X-Remote-Token", REMOTE_TOKEN)).await;
        attempt(d.request("DELETE", &format!("/projects/{imported}"))).await;
        // Through the server where it is the only one that may; whether it succeeds depends on when the server dies.
        d.cli(&["admin", "repack", "--grace", "1s"]).await;
        d.cli(&["admin", "gc", "--apply", "--grace", "0s", "--force"]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn crashes() -> Option<usize> {
    std::env::var("TREEHOLD_CRASHES").ok().map(|count| count.parse().expect("a number"))
}

/// Goal: whatever the server was doing when it died, and however often it did, what was answered is there once.
/// Method: SQLite and a directory; dies at each named point, in the order of the list; in a long run anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let random = random("endurance, embedded");
    let mut everybody = Everybody::new(Deployment::start(Setup::Embedded).await, random).await;
    if let Some(count) = crashes() {
        for _ in 0..count.div_ceil(ROUNDS) {
            let ends: Vec<End> = (0..ROUNDS).map(|_| everybody.some_end()).collect();
            everybody.suffer(ends).await;
        }
        return;
    }
    let mut missed: Vec<&str> = points(false).collect();
    for _ in 0..TRIES {
        everybody.suffer(missed.iter().map(|point| End::At((*point).to_owned(), 1))).await;
        missed.retain(|point| !everybody.died_at.contains_key(*point));
        if missed.is_empty() {
            return everybody.rebuild().await;
        }
    }
    panic!("the server never died at {missed:?}");
}

/// Goal: the same with Postgres and S3; every tenth time Postgres is killed, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster() {
    let random = random("endurance, cluster");
    let mut everybody = Everybody::new(Deployment::start_alone().await, random).await;
    let count = crashes().unwrap_or(12);
    let ends: Vec<End> = (0..count).map(|_| everybody.some_end()).collect();
    everybody.suffer(ends).await;
}
