//! Refs as registers: many callers move, delete and read two refs at once, through every server there is, stock git's atomic pushes among
//! them. What they were answered must be what one caller after the other would have been answered, in an order that agrees with the clock
//! (linearizability: Herlihy and Wing, 1990). The reflog says in which one.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::aftermath::random;
use crate::deployment::{API_KEY, Deployment, Setup};
use crate::git_tools::{Clone, pushed};
use crate::two_servers::Second;

const REFS: [&str; 2] = ["refs/heads/one", "refs/heads/two"];
const NONE: &str = "0000000000000000000000000000000000000000";
const CALLERS: usize = 5;
const STEPS: usize = 24;

/// A value of a ref; `None` = it does not exist.
type Target = Option<String>;

/// What somebody asked for and was answered, by the clock.
struct Call<T> {
    begun: Instant,
    ended: Instant,
    what: T,
}

/// Moves that were asked for, all or none: which ref, from what (`None` = whatever it was), to what.
struct Moves {
    refs: Vec<(usize, Option<Target>, Target)>,
    done: bool,
}

#[derive(Default)]
struct History {
    moves: Vec<Call<Moves>>,
    reads: Vec<Call<[Target; 2]>>,
}

/// One who calls one of the servers.
struct Caller {
    base: String,
    client: reqwest::Client,
    project: Uuid,
    /// Commits that no ref was moved to yet: each value is there once, so that it says which move made it.
    unused: Arc<Mutex<Vec<String>>>,
    clone: Arc<Clone>,
    random: StdRng,
}

impl Caller {
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/projects/{}/refs{path}", self.base, self.project);
        self.client.request(method.parse().expect("a method"), url).header("X-Internal-API-Key", API_KEY)
    }

    fn fresh(&self) -> String {
        self.unused.lock().expect("no panic").pop().expect("commits enough")
    }

    async fn read(&self) -> Call<[Target; 2]> {
        let begun = Instant::now();
        let response = self.request("GET", "?prefix=refs/heads/&limit=100").send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("a body");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        let value = |name: &str| {
            let of = all["refs"].as_array().expect("refs").iter().find(|entry| entry["name"] == name)?;
            Some(of["oid"].as_str().expect("an oid").to_owned())
        };
        Call { begun, ended: Instant::now(), what: REFS.map(value) }
    }

    /// By the API: one ref.
    async fn swap(&self, at: usize, from: Target, to: Target) -> Call<Moves> {
        let begun = Instant::now();
        let expected = from.as_deref().unwrap_or(NONE);
        let path = format!("/{}", &REFS[at]["refs/".len()..]);
        let request = match &to {
            Some(to) => {
                let body = json!({"oid": to, "expected_oid": expected, "force": true});
                self.request("PUT", &path).header("Content-Type", "application/json").body(body.to_string())
            }
            None => self.request("DELETE", &format!("{path}?expected_oid={expected}")),
        };
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        let done = (200..300).contains(&status);
        assert!(done || [404, 409, 503].contains(&status), "{status}: {text}");
        Call { begun, ended: Instant::now(), what: Moves { refs: vec![(at, Some(from), to)], done } }
    }

    /// By stock git: both refs or none, from what the server told it last.
    async fn push(&self, to: [String; 2]) -> Call<Moves> {
        let base = self.base.replacen("://", &format!("://git:{API_KEY}@"), 1);
        let url = format!("{base}/git/{}.git", self.project);
        let specs = [0, 1].map(|at| format!("{}:{}", to[at], REFS[at]));
        let arguments = ["push", "--atomic", "--force", &url, &specs[0], &specs[1]].map(str::to_owned);
        let clone = self.clone.clone();
        let begun = Instant::now();
        let told =
            tokio::task::spawn_blocking(move || clone.tell(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        let (done, words) = told.await.expect("git runs");
        let refused = ["atomic", "rejected", "503"].iter().any(|word| words.contains(word));
        assert!(done || refused, "{words}");
        let refs = to.into_iter().enumerate().map(|(at, to)| (at, None, Some(to))).collect();
        Call { begun, ended: Instant::now(), what: Moves { refs, done } }
    }

    async fn work(mut self) -> History {
        let mut history = History::default();
        for _ in 0..STEPS {
            let read = self.read().await;
            let values = read.what.clone();
            history.reads.push(read);
            let at = self.random.random_range(0..REFS.len());
            let from = values[at].clone();
            history.moves.push(match self.random.random_range(0..10) {
                0..5 => self.swap(at, from, Some(self.fresh())).await,
                5..7 if from.is_some() => self.swap(at, from, None).await,
                7..10 => self.push([self.fresh(), self.fresh()]).await,
                _ => continue,
            });
        }
        history
    }
}

/// What the refs were, oldest first.
async fn reflog(d: &Deployment, project: Uuid, name: &str) -> Vec<(Target, Target)> {
    let page = d.get(&format!("/projects/{project}/reflog?ref={name}&limit=1000")).await.ok(200);
    assert_eq!(page["next_cursor"], Value::Null, "one page has all of it");
    let value = |oid: &Value| oid.as_str().map(str::to_owned);
    let entries = page["entries"].as_array().expect("entries").iter();
    entries.rev().map(|entry| (value(&entry["from"]), value(&entry["to"]))).collect()
}

/// Where in its reflog a move is.
fn place(log: &[(Target, Target)], from: &Option<Target>, to: &Target) -> Option<usize> {
    log.iter().position(|entry| from.as_ref().is_none_or(|from| entry.0 == *from) && entry.1 == *to)
}

/// The moves that were done, with their places in the reflogs.
type Placed<'a> = Vec<(&'a Call<Moves>, Vec<(usize, usize)>)>;

/// Each acknowledged move is in the reflog once, with all that belong to it; no other one is; the reflog is one chain.
fn placed<'a>(history: &'a History, logs: &[Vec<(Target, Target)>]) -> Placed<'a> {
    for log in logs {
        assert!(log.is_empty() || log[0].0.is_none());
        assert!(log.windows(2).all(|pair| pair[0].1 == pair[1].0), "not a chain: {log:#?}");
    }
    let mut done = Placed::new();
    for call in &history.moves {
        let places: Vec<Option<usize>> =
            call.what.refs.iter().map(|(at, from, to)| place(&logs[*at], from, to)).collect();
        let wanted = call.what.done;
        // Two may ask for one deletion, and one of them is answered that it is done; values are nobody else's.
        let own = call.what.refs.iter().zip(&places).filter(|((_, _, to), _)| wanted || to.is_some());
        assert!(own.clone().all(|(_, place)| place.is_some() == wanted), "answered {wanted}: {:?}", call.what.refs);
        if wanted {
            let at = call.what.refs.iter().map(|(at, ..)| *at);
            done.push((call, at.zip(places.into_iter().flatten()).collect()));
        }
    }
    let moves: usize = done.iter().map(|(_, places)| places.len()).sum();
    assert_eq!(moves, logs.iter().map(Vec::len).sum::<usize>(), "somebody else moved a ref");
    done
}

/// How many moves of ref `at` a read may have seen: all that had ended before it began, none that began after it had ended.
fn seen(read: &Call<[Target; 2]>, at: usize, log: &[(Target, Target)], done: &Placed<'_>) -> Vec<usize> {
    let of = |call: &Call<Moves>, early: bool| if early { call.ended < read.begun } else { call.begun > read.ended };
    let moves = || done.iter().flat_map(|(call, places)| places.iter().map(move |place| (*call, *place)));
    let moves = |early| moves().filter(move |(call, place)| place.0 == at && of(call, early)).map(|(_, place)| place.1);
    let least = moves(true).map(|place| place + 1).max().unwrap_or(0);
    let most = moves(false).min().unwrap_or(log.len());
    let value = |count: usize| if count == 0 { &None } else { &log[count - 1].1 };
    (least..=most).filter(|count| *value(*count) == read.what[at]).collect()
}

/// Judges it all.
fn check(history: &History, logs: &[Vec<(Target, Target)>]) {
    let done = placed(history, logs);
    for (one, places) in &done {
        for (other, others) in done.iter().filter(|(other, _)| one.ended < other.begun) {
            for (at, place) in places {
                let later = others.iter().filter(|(ref_at, _)| ref_at == at).all(|(_, later)| place < later);
                assert!(later, "{:?} came after {:?}", one.what.refs, other.what.refs);
            }
        }
    }
    let mut counts = Vec::new();
    for read in &history.reads {
        let [one, two] = [0, 1].map(|at| seen(read, at, &logs[at], &done));
        let whole = |one: usize, two: usize| {
            let both = done.iter().filter(|(_, places)| places.len() == 2);
            both.clone().all(|(_, places)| (one > places[0].1) == (two > places[1].1))
        };
        let pairs = one.iter().flat_map(|one| two.iter().map(move |two| (*one, *two)));
        let pairs: Vec<(usize, usize)> = pairs.filter(|(one, two)| whole(*one, *two)).collect();
        assert!(!pairs.is_empty(), "{:?} was never so: {one:?} {two:?}", read.what);
        counts.push((read, pairs));
    }
    for (one, before) in &counts {
        for (_, after) in counts.iter().filter(|(other, _)| one.ended < other.begun) {
            let goes_on = before.iter().any(|one| after.iter().any(|two| one.0 <= two.0 && one.1 <= two.1));
            assert!(goes_on, "a later read saw what was before: {before:?} {after:?}");
        }
    }
}

/// Five callers, each of a server of its own choice.
async fn run(d: &Deployment, bases: &[String]) {
    let mut random = random("ref history");
    let source = Clone::empty(true);
    let commit = |n| format!("commit refs/heads/main\ncommitter A <a@example.org> {n} +0000\ndata 2\nx\n");
    let commits: String = (0..(CALLERS * STEPS + 1) * 2).map(commit).collect();
    source.git().run_with(["fast-import", "--quiet"], commits.as_bytes());
    let all = source.git().run(["rev-list", "main"]).lines().map(str::to_owned).collect();
    let project = pushed(d, &source).await;
    let clone = Arc::new(Clone::of_project(d, project, "2", &[]));
    let unused = Arc::new(Mutex::new(all));
    let mut callers: Vec<Caller> = (0..=CALLERS)
        .map(|n| Caller {
            base: bases[n % bases.len()].clone(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            project,
            unused: unused.clone(),
            clone: clone.clone(),
            random: StdRng::seed_from_u64(random.random()),
        })
        .collect();
    let last = callers.pop().expect("one more");
    let work: Vec<_> = callers.into_iter().map(|caller| tokio::spawn(caller.work())).collect();
    let mut history = History::default();
    for work in work {
        let one = work.await.expect("a caller works");
        history.moves.extend(one.moves);
        history.reads.extend(one.reads);
    }
    // However busy the machine was, one push that nobody disturbs is there.
    history.moves.push(last.push([last.fresh(), last.fresh()]).await);
    let logs = [reflog(d, project, REFS[0]).await, reflog(d, project, REFS[1]).await];
    check(&history, &logs);
    let done = |refs| history.moves.iter().filter(|call| call.what.done && call.what.refs.len() == refs).count();
    println!("{} moves and {} atomic pushes were done, of {}", done(1), done(2), history.moves.len());
    assert!(done(1) > 5 && done(2) > 0, "nearly all were refused");
}

/// Goal: one server beside itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let d = Deployment::start(Setup::Embedded).await;
    run(&d, &[d.url("")]).await;
}

/// Goal: two servers on one database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster() {
    let d = Deployment::start(Setup::Cluster).await;
    let second = Second::start(&d).await;
    run(&d, &[d.url(""), second.base().to_owned()]).await;
}
