//! Fifty people with two devices each, agents among them, on two servers with one Postgres and one bucket, beside somebody who pushes
//! to the remote with stock git: whatever is answered is there, once, and everybody sees the same in the end.
//!
//! `TREEHOLD_TEST_SEED` makes the same choices again (not the same races), `TREEHOLD_CROWD` says how much each device does.

mod api;
mod book;
mod device;
mod follower;
mod judge;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::deployment::{Deployment, Setup};
use crate::two_servers::Second;
use api::Api;
use book::{Book, Fate};
use device::Device;
use follower::Follower;

const USERS: usize = 50;
const DEVICES: usize = 2;
/// Files that everybody works on.
const SHARED: usize = 60;
/// What each device does, unless told otherwise.
const STEPS: usize = 6;
/// Whom the book knows as the one who works with stock git.
const OUTSIDER: usize = USERS;

fn shared(nth: usize) -> String {
    format!("shared/{nth:02}.txt")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The remote, with the files that everybody works on.
fn remote(d: &Deployment) -> Repo {
    let work = Repo::init(d.remotes.path().join("crowd-work"));
    let fresh = text::fresh();
    let names: Vec<String> = (0..SHARED).map(shared).collect();
    let files: Vec<(&str, Option<&[u8]>)> = names.iter().map(|name| (name.as_str(), Some(fresh.as_bytes()))).collect();
    work.commit_files(&files, "Begin");
    work.bare_clone(d.remotes.path().join("crowd.git"))
}

/// Somebody who pulls, edits and pushes with stock git until it is over.
fn outsider(clone: &Repo, book: &Book, mut random: StdRng, over: &AtomicBool) {
    let mut count = 0;
    while !over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(random.random_range(300..1500)));
        clone.git().run(["fetch", "--quiet", "origin"]);
        clone.git().run(["reset", "--quiet", "--hard", "origin/main"]);
        let (path, mark) = (shared(random.random_range(0..SHARED)), format!("edit-out-{count:04}"));
        count += 1;
        book.sends(OUTSIDER, &mark);
        let before = String::from_utf8(clone.cat_file(&format!("HEAD:{path}"))).expect("UTF-8");
        clone.commit_file(&path, text::insert(&before, &mark, random.random_range(0..text::ANCHORS)));
        let pushed = clone.git().output(["push", "--quiet", "origin", "HEAD:main"]).status.success();
        book.tells(if pushed { "pushes from outside" } else { "pushes from outside that came too late" });
        if pushed {
            book.keeps([&mark]);
        }
    }
}

/// What both servers say is pending, the same in every way.
async fn pending(api: &Api, user: Uuid) -> BTreeMap<String, Value> {
    let url = format!("/pending/{}/{user}", api.project);
    let lists = [api.all(0, &url, "changes").await, api.all(1, &url, "changes").await];
    assert_eq!(lists[0], lists[1], "the servers differ");
    let [list, _] = lists;
    list.into_iter().map(|change| (change["path"].as_str().expect("a path").to_owned(), change)).collect()
}

/// Both devices know from the feed what the server says; each number of the workspace was told, but those of `kept` texts.
async fn converged(api: &Api, user: Uuid, devices: &[Follower], kept: usize) {
    let list = pending(api, user).await;
    let url = format!("/pending/{}/{user}", api.project);
    let revision = api.get(0, &url).await.json(200)["revision"].as_u64().expect("a revision");
    let said = |change: &Value| ["action", "mode", "oid", "base_oid", "revision"].map(|name| change[name].clone());
    let listed: BTreeMap<_, _> = list.iter().map(|(path, change)| (path.clone(), said(change))).collect();
    for follower in devices {
        let known: BTreeMap<_, _> = follower.pending.iter().map(|(path, event)| (path.clone(), said(event))).collect();
        assert_eq!(known, listed, "what the feed told {user} is not what is pending");
        let told = follower.revisions.len() + follower.again;
        assert_eq!(u64::try_from(told + kept).expect("few"), revision, "a change was not told");
        assert_eq!(follower.revisions, devices[0].revisions);
    }
}

/// Goal: the first page of docs/feed.md, of pending work and of commits, for everybody at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loses_nothing_and_agrees() {
    let seed = number("TREEHOLD_TEST_SEED").unwrap_or_else(rand::random);
    println!("TREEHOLD_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut d = Deployment::start(Setup::Cluster).await;
    d.set("TREEHOLD_LOG", "warn");
    d.kill();
    d.up().await;
    let second = Second::start(&d).await;
    let remote = remote(&d);
    let project = d.connect("crowd").await;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().expect("a client");
    let api = Arc::new(Api { client, servers: [d.url(""), second.base().to_owned()], project });
    let (book, over, outside) = (Arc::new(Book::default()), Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::from_u128(random.random())).collect();
    let steps = number("TREEHOLD_CROWD").map_or(STEPS, |steps| usize::try_from(steps).expect("few"));

    let (_dir, clone) = d.clone_remote("crowd");
    let mut own_random = |_| StdRng::seed_from_u64(random.random());
    let places = || (0..USERS).flat_map(|user| (0..DEVICES).map(move |device| (user, device)));
    let devices: Vec<_> = places()
        .map(|(user, device)| {
            let random = own_random(device);
            let device = Device::new(Arc::clone(&api), Arc::clone(&book), user, users[user], device, random);
            tokio::spawn(device.work(steps))
        })
        .collect();
    let follow = |(user, device): (usize, usize)| {
        tokio::spawn(Follower::default().follow(Arc::clone(&api), users[user], device, Arc::clone(&over)))
    };
    let followers: Vec<_> = places().map(follow).collect();
    let mut devices = std::thread::scope(|scope| {
        scope.spawn(|| outsider(&clone, &book, own_random(0), &outside));
        let devices = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(join_all(devices)));
        outside.store(true, Ordering::SeqCst);
        devices.into_iter().map(|device| device.expect("a device")).collect::<Vec<_>>()
    });

    // Half of the users commit all they have; the others leave it pending.
    for user in (0..USERS).step_by(2) {
        devices[user * DEVICES].finish().await;
    }
    over.store(true, Ordering::SeqCst);
    let followers: Vec<Follower> = join_all(followers).await.into_iter().map(|end| end.expect("a follower")).collect();
    for (user, pair) in followers.chunks(DEVICES).enumerate() {
        let kept = devices[user * DEVICES..][..DEVICES].iter().map(|device| device.kept).sum();
        converged(&api, users[user], pair, kept).await;
    }
    assert!(followers.iter().all(|follower| follower.heads == followers[0].heads), "moves of main");

    remote.fsck_strict();
    judge::commits(&remote, &book);
    let head = api.post(0, &format!("/projects/{project}/sync"), "last", &json!({})).await.json(200)["to"].clone();
    assert_eq!(head, remote.rev_parse("main"));
    let committed = judge::edits_in(&remote, "main");
    let mut views = Vec::new();
    for user in &users {
        views.push(seen_by(&api, *user).await);
    }
    for (mark, edit) in book.edits() {
        let pending = views.get(edit.user).is_some_and(|seen: &BTreeSet<String>| seen.contains(&mark));
        assert!(edit.fate != Fate::Kept || committed.contains(&mark) || pending, "{mark} is lost");
    }
    let (_dir, export) = d.export(project).await;
    assert_eq!(json!(export.rev_parse("main")), head);
    println!("{:#?}", book.told());
}

/// Edits in a user's pending work.
async fn seen_by(api: &Api, user: Uuid) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (path, change) in pending(api, user).await {
        if change["action"] != "deleted" {
            seen.extend(text::marks(&api.get(0, &format!("/pending/{}/{user}/{path}", api.project)).await.body));
        }
    }
    seen
}
