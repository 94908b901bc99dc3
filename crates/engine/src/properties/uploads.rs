//! What a fetch sends, compared with what stock git says is missing, over random histories.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use treehold_object::ObjectId;
use treehold_tests::git::Repo;
use treehold_wire::serve::{Deepen, FetchArguments, ReceiveHead, RefCommand};
use uuid::Uuid;

use super::graphs::{commits, some_history};
use super::{Files, World, edited, oid, random, some_files};
use crate::api::{LogRequest, Oid, RefRequest};
use crate::{Engine, EngineError, PushedPack, Room};

fn some_of(random: &mut StdRng, all: &[ObjectId], most: usize) -> Vec<ObjectId> {
    let count = random.random_range(0..=most);
    all.choose_multiple(random, count).copied().collect()
}

fn words(oids: &[ObjectId]) -> Vec<String> {
    oids.iter().map(ToString::to_string).collect()
}

/// The pack of a fetch, and how many objects it has.
async fn fetched(world: &World, project: Uuid, arguments: FetchArguments) -> (Vec<u8>, u64) {
    let upload = world.engine.begin_upload(&project.to_string(), arguments, false).await.expect("an upload");
    let (pack, sent) = upload.send(Vec::new(), &|_, _| ()).await.expect("a pack");
    (pack, sent.objects)
}

/// A repository that has these commits and all that they reach.
fn client(world: &World, name: &str, haves: &[ObjectId]) -> Repo {
    let client = Repo::init_bare(world.dir.path().join(name));
    let source = world.repo.path().to_str().expect("utf-8").to_owned();
    if !haves.is_empty() {
        world.git().run(["config", "uploadpack.allowAnySHA1InWant", "true"]);
        client.git().run([&["fetch".to_owned(), "-q".to_owned(), source][..], &words(haves)].concat());
    }
    client
}

async fn check_fetches(world: &World, project: Uuid, random: &mut StdRng, rounds: usize) {
    let all = commits(world.git());
    for round in 0..rounds {
        let mut wants = some_of(random, &all, 3);
        wants.push(all[random.random_range(0..all.len())]);
        let haves = some_of(random, &all, 3);
        let arguments = FetchArguments {
            wants: wants.clone(),
            haves: haves.clone(),
            done: true,
            thin_pack: random.random(),
            ofs_delta: random.random(),
            ..FetchArguments::default()
        };
        let (pack, sent) = fetched(world, project, arguments).await;
        let client = client(world, &format!("client-{}-{round}", Uuid::new_v4()), &haves);
        client.git().run_with(["index-pack", "--stdin", "--fix-thin"], &pack);
        let reached = [&["rev-list".to_owned(), "--objects".to_owned()][..], &words(&wants)].concat();
        assert_eq!(client.git().run(&reached), world.git().run(&reached), "{wants:?} from {haves:?}");
        if haves.is_empty() {
            continue;
        }
        // Not `^have`: git stops early where clocks are wrong.
        let below = |tips: &[ObjectId]| -> HashSet<ObjectId> {
            let list =
                [&["rev-list".to_owned(), "--objects".to_owned(), "--no-object-names".to_owned()][..], &words(tips)];
            world.git().run(list.concat()).lines().map(oid).collect()
        };
        let new = below(&wants).difference(&below(&haves)).count() as u64;
        assert!(sent >= new && sent <= 2 * new + 8, "{sent} were sent where {new} are new: {wants:?} from {haves:?}");
    }
}

/// Goal: whatever is wanted and had, all that the client lacks is sent, and little else.
#[tokio::test]
async fn fetches_bring_what_git_says_is_missing() {
    let mut random = random();
    let world = World::new().await;
    some_history(&world, &mut random, 80);
    let project = world.import("history", 0).await;
    check_fetches(&world, project, &mut random, 25).await;
}

/// Goal: the same where trees change in every way.
#[tokio::test]
async fn fetches_bring_trees_that_change() {
    let mut random = random();
    let world = World::new().await;
    let mut versions: Vec<Files> = vec![some_files(&mut random, 30)];
    for _ in 0..30 {
        let next = edited(&mut random, versions.last().expect("a version"));
        versions.push(next);
    }
    world.commit_all(&versions);
    let project = world.import("trees", 0).await;
    check_fetches(&world, project, &mut random, 25).await;
}

/// Goal: a depth ends where git ends it.
#[tokio::test]
async fn depths_end_where_git_ends_them() {
    let mut random = random();
    let world = World::new().await;
    some_history(&world, &mut random, 60);
    let project = world.import("history", 0).await;
    let tip = commits(world.git())[0];
    for depth in 1..12 {
        let deepen = Deepen::Depth { commits: depth, relative: false };
        let arguments = FetchArguments { wants: vec![tip], deepen, done: true, ..FetchArguments::default() };
        let upload = world.engine.begin_upload(&project.to_string(), arguments, false).await.expect("an upload");
        let ours: HashSet<ObjectId> = upload.shallow().iter().copied().collect();
        let clone = world.dir.path().join(format!("depth-{depth}"));
        let source = format!("file://{}", world.repo.path().display());
        let (depth, to) = (format!("--depth={depth}"), clone.to_str().expect("utf-8"));
        world.git().run(["clone", "-q", "--bare", "--branch=main", &depth, &source, to]);
        let shallow = std::fs::read_to_string(clone.join("shallow")).unwrap_or_default();
        assert_eq!(ours, shallow.lines().map(oid).collect(), "{depth}");
    }
}

/// Counts what is read into memory.
#[derive(Debug, Default)]
struct Read(AtomicU64);

impl Room for Read {
    fn take(&self, bytes: u64) -> crate::Result<()> {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// A pack as a push brings it.
async fn spooled(engine: &Engine, pack: &[u8]) -> PushedPack {
    let (spool, arrival, mut writer) = engine.push_spool().expect("a spool file");
    let len = writer.write(pack).await.expect("a spool file");
    writer.finish();
    let rest = futures::stream::iter([Ok(len)]).boxed();
    PushedPack { spool, arrival, rest, room: Arc::new(()) }
}

/// Pushes refs of the repository under their own names, which are new.
async fn push(world: &World, project: Uuid, names: &[String]) {
    let tips: Vec<String> = names.iter().map(|name| world.git().run(["rev-parse", name])).collect();
    let list = tips.join("\n") + "\n";
    let pack = world.git().bytes_with(["pack-objects", "--revs", "--stdout", "-q"], list.as_bytes());
    let command =
        |(name, tip): (&String, &String)| RefCommand { old: None, new: Some(oid(tip)), name: name.as_str().into() };
    let head = ReceiveHead { commands: names.iter().zip(&tips).map(command).collect(), ..ReceiveHead::default() };
    let pack = spooled(&world.engine, &pack).await;
    let report = world.engine.receive_pack(&project.to_string(), &head, Some(pack), &()).await.expect("a report");
    assert!(report.unpack.is_ok() && report.refs.iter().all(|status| status.result.is_ok()), "{report:?}");
}

/// Commits on `main`, each with these files and nothing else.
fn commit_contents(world: &World, versions: &[Vec<(String, Vec<u8>)>]) {
    let mut stream = Vec::new();
    for (number, files) in versions.iter().enumerate() {
        stream.extend(
            format!(
                "commit refs/heads/main\ncommitter T <t@example.org> {} +0000\ndata 1\nx\n",
                1_700_000_000 + number
            )
            .bytes(),
        );
        for (path, content) in files {
            stream.extend(format!("M 100644 inline {path}\ndata {}\n", content.len()).bytes());
            stream.extend([&content[..], b"\n"].concat());
        }
    }
    world.git().run_with(["fast-import", "--quiet", "--force"], &stream);
}

/// Goal: a small fetch reads little, however large what its files were before.
#[tokio::test]
async fn small_fetches_do_not_read_large_bases() {
    let world = World::new().await;
    let lines = |file: u32, count: u32| -> Vec<u8> {
        (0..count).flat_map(|line| format!("file {file:02} line {line:09}\n").into_bytes()).collect()
    };
    let files = |count: u32| (0..14).map(|file| (format!("f{file:02}"), lines(file, count))).collect();
    commit_contents(&world, &[files(100_000), files(20_000)]);
    let project = world.import("large", 0).await;
    let read = Arc::new(Read::default());
    let arguments = FetchArguments {
        wants: vec![oid(&world.git().run(["rev-parse", "main"]))],
        haves: vec![oid(&world.git().run(["rev-parse", "main~1"]))],
        done: true,
        thin_pack: true,
        ..FetchArguments::default()
    };
    let engine = world.engine.within(read.clone());
    let upload = engine.begin_upload(&project.to_string(), arguments.clone(), false).await.expect("an upload");
    let (pack, sent) = upload.send(Vec::new(), &|_, _| ()).await.expect("a pack");
    assert_eq!(sent.objects, 16);
    let client = client(&world, "large-client", &arguments.haves);
    client.git().run_with(["index-pack", "--stdin", "--fix-thin"], &pack);
    let (read, most) = (read.0.load(Ordering::Relaxed), (14 * 24 * 20_000) + (17 << 20));
    assert!(read <= most, "{read} bytes were read, {most} are the most");
}

/// Goal: tags of tags are read once, however many of them are wanted.
#[tokio::test]
async fn tags_of_tags_are_read_once() {
    const TAGS: u64 = 200;
    let world = World::new().await;
    commit_contents(&world, &[vec![("a".to_owned(), b"a".to_vec())]]);
    let project = world.import("tags", 0).await;
    let tagger = "tagger T <t@example.org> 1700000000 +0000\ndata 1\nx\n";
    let mut stream = format!("tag t0\nmark :1\nfrom {}\n{tagger}", world.git().run(["rev-parse", "main"]));
    for number in 1..TAGS {
        stream.push_str(&format!("tag t{number}\nmark :{}\nfrom :{number}\n{tagger}", number + 1));
    }
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    let names: Vec<String> = (0..TAGS).map(|number| format!("refs/tags/t{number}")).collect();
    push(&world, project, &names).await;
    let wants = names.iter().map(|name| oid(&world.git().run(["rev-parse", name]))).collect();
    let read = Arc::new(Read::default());
    let arguments = FetchArguments { wants, done: true, ..FetchArguments::default() };
    let upload = world.engine.within(read.clone()).begin_upload(&project.to_string(), arguments, false).await;
    let (_, sent) = upload.expect("an upload").send(Vec::new(), &|_, _| ()).await.expect("a pack");
    assert_eq!(sent.objects, TAGS + 3);
    let read = read.0.load(Ordering::Relaxed);
    assert!(read < TAGS * 1_000, "{read} bytes were read");
}

/// The most that was asked for at once.
#[derive(Debug, Default)]
struct Largest(AtomicU64);

impl Room for Largest {
    fn take(&self, bytes: u64) -> crate::Result<()> {
        self.0.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Goal: of tags with long messages few are in memory at a time, however many there are.
#[tokio::test]
async fn long_tags_are_read_a_few_at_a_time() {
    let world = World::new().await;
    commit_contents(&world, &[vec![("a".to_owned(), b"a".to_vec())]]);
    let project = world.import("long-tags", 0).await;
    let (main, message) = (world.git().run(["rev-parse", "main"]), "x".repeat(1 << 20));
    let mut stream = String::new();
    for number in 0..20 {
        stream.push_str(&format!("tag t{number}\nfrom {main}\ntagger T <t@example.org> 1700000000 +0000\n"));
        stream.push_str(&format!("data {}\n{message}\n", message.len()));
    }
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    let names: Vec<String> = (0..20).map(|number| format!("refs/tags/t{number}")).collect();
    push(&world, project, &names).await;
    let wants: Vec<ObjectId> = names.iter().map(|name| oid(&world.git().run(["rev-parse", name]))).collect();
    let largest = Arc::new(Largest::default());
    let arguments = FetchArguments { wants, done: true, ..FetchArguments::default() };
    let upload = world.engine.within(largest.clone()).begin_upload(&project.to_string(), arguments, false).await;
    assert!(upload.is_ok(), "{upload:?}");
    let largest = largest.0.load(Ordering::Relaxed);
    assert!((1 << 20..=4 << 20).contains(&largest), "{largest} bytes at once");
}

/// Goal: of directories of many files few are in memory at a time, in whichever way they are read.
#[tokio::test]
async fn large_trees_are_read_a_few_at_a_time() {
    const COMMITS: u64 = 12;
    let world = World::with_cache(0).await;
    // Some 2 MiB each, all different, and small where they are kept.
    let mut stream = String::from("blob\nmark :1\ndata 1\nx\n");
    for number in 0..COMMITS {
        let time = 1_700_000_000 + number;
        stream.push_str(&format!("commit refs/heads/main\ncommitter T <t@example.org> {time} +0000\ndata 1\nx\n"));
        let names = if number == 0 { 0..40_000 } else { 40_000 + number..40_001 + number };
        names.for_each(|name| stream.push_str(&format!("M 100644 :1 {name:020}\n")));
    }
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    let project = world.import("large-trees", 0).await;
    let largest = Arc::new(Largest::default());
    let engine = world.engine.within(largest.clone());
    let request = LogRequest { path: Some(format!("{:020}", 0).into_bytes()), ..LogRequest::default() };
    let log = engine.log(&project.to_string(), &request).await.expect("a log");
    assert_eq!(log.commits.len(), 1);
    let arguments = FetchArguments {
        wants: vec![oid(&world.git().run(["rev-parse", "main"]))],
        haves: vec![oid(&world.git().run(["rev-parse", &format!("main~{}", COMMITS - 1)]))],
        done: true,
        ..FetchArguments::default()
    };
    let upload = engine.begin_upload(&project.to_string(), arguments, false).await.expect("an upload");
    let (_, sent) = upload.send(Vec::new(), &|_, _| ()).await.expect("a pack");
    // Each commit and its tree; and the one file that all names have, as it is at new places.
    assert!((22..=23).contains(&sent.objects), "{}", sent.objects);
    let largest = largest.0.load(Ordering::Relaxed);
    assert!((1 << 20..=16 << 20).contains(&largest), "{largest} bytes at once");
}

/// How often memory was asked for, and the most at once.
#[derive(Debug, Default)]
struct Asked {
    times: AtomicU64,
    largest: Largest,
}

impl Room for Asked {
    fn take(&self, bytes: u64) -> crate::Result<()> {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.largest.take(bytes)
    }
}

/// Goal: files that git acts on, that the project has and a push only names, are read a few at a time: not one by one, however many there
/// are, and not all at once, however long they are.
#[tokio::test]
async fn attributes_that_are_there_are_read_a_few_at_a_time() {
    const FILES: usize = 170;
    let world = World::new().await;
    let attributes = |at: usize| {
        let rules = b"x text\n".repeat(if at < 12 { 150_000 } else { 1 });
        (format!("d{at:03}/.gitattributes"), [format!("# {at}\n").into_bytes(), rules].concat())
    };
    commit_contents(&world, &[(0..FILES).map(attributes).collect()]);
    let project = world.import("attributes", 0).await;
    let mut stream = String::from("commit refs/heads/side\ncommitter T <t@example.org> 1700009999 +0000\n");
    stream.push_str("data 1\nx\nfrom refs/heads/main^0\n");
    (0..FILES).for_each(|at| stream.push_str(&format!("M 100644 inline d{at:03}/new\ndata 3\n{at:03}\n")));
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    let list = world.git().run(["rev-parse", "side", "^main"]) + "\n";
    let pack = world.git().bytes_with(["pack-objects", "--revs", "--stdout", "-q"], list.as_bytes());
    let tip = Some(oid(&world.git().run(["rev-parse", "side"])));
    let command = RefCommand { old: None, new: tip, name: "refs/heads/side".into() };
    let head = ReceiveHead { commands: vec![command], ..ReceiveHead::default() };
    let asked = Arc::new(Asked::default());
    let engine = world.engine.within(asked.clone());
    let pack = spooled(&engine, &pack).await;
    let report = engine.receive_pack(&project.to_string(), &head, Some(pack), &()).await.expect("a report");
    assert!(report.unpack.is_ok() && report.refs[0].result.is_ok(), "{report:?}");
    let (times, largest) = (asked.times.load(Ordering::Relaxed), asked.largest.0.load(Ordering::Relaxed));
    assert!(times < 40, "{times} times");
    assert!((1 << 20..=4 << 20).contains(&largest), "{largest} bytes at once");
}

/// Goal: who was admitted to a branch that is deleted before its pack is written hears so, and gets no pack that lacks it.
#[tokio::test]
async fn a_branch_that_goes_before_its_pack_is_sent() {
    let world = World::new().await;
    commit_contents(&world, &[vec![("a".to_owned(), b"a".to_vec())]]);
    let project = world.import("going", 0).await;
    world.git().run(["branch", "side", "main"]);
    commit_side(&world);
    let (main, side) = (oid(&world.git().run(["rev-parse", "main"])), oid(&world.git().run(["rev-parse", "side"])));
    push(&world, project, &["refs/heads/side".to_owned()]).await;
    for (wants, haves) in [(vec![main, side], Vec::new()), (vec![side], vec![main]), (vec![side], Vec::new())] {
        let arguments = FetchArguments { wants, haves, done: true, ..FetchArguments::default() };
        let id = project.to_string();
        let upload = world.engine.begin_upload(&id, arguments, false).await.expect("an upload");
        world.engine.delete_ref(&id, "heads/side", None).await.expect("a deletion");
        let sent = upload.send(Vec::new(), &|_, _| ()).await;
        assert!(matches!(&sent, Err(EngineError::Unprocessable { code: "not_our_ref", .. })), "{sent:?}");
        let back = RefRequest {
            oid: Oid(side),
            expected_oid: None,
            force: false,
            restore: true,
            ephemeral: None,
            expires_in: None,
        };
        world.engine.put_ref(&id, "heads/side", &back).await.expect("a ref");
    }
}

/// Goal: what a push was judged by must hold until its refs move: where a branch went meanwhile, even if it is back, the collector may
/// have gone by, and the push has to come again.
#[tokio::test]
async fn a_push_that_rests_on_a_branch_that_went() {
    let world = World::new().await;
    commit_contents(&world, &[vec![("a".to_owned(), b"a".to_vec())]]);
    let project = world.import("resting", 0).await;
    world.git().run(["branch", "side", "main"]);
    commit_side(&world);
    push(&world, project, &["refs/heads/side".to_owned()]).await;
    let side = oid(&world.git().run(["rev-parse", "side"]));
    let tip = world.git().run(["commit-tree", "-m", "next", "-p", "side", "side^{tree}"]);
    let list = format!("{tip}\n^{side}\n");
    let pack = world.git().bytes_with(["pack-objects", "--revs", "--stdout", "-q"], list.as_bytes());
    let command = RefCommand { old: None, new: Some(oid(&tip)), name: "refs/heads/next".into() };
    let head = ReceiveHead { commands: vec![command], ..ReceiveHead::default() };
    for goes in [true, false] {
        let (spool, arrival, mut writer) = world.engine.push_spool().expect("a spool file");
        let len = writer.write(&pack).await.expect("a spool file");
        writer.finish();
        let (engine, id) = (world.engine.clone(), project.to_string());
        let rest = futures::stream::once(async move {
            if goes {
                engine.delete_ref(&id, "heads/side", None).await?;
                let back = RefRequest {
                    oid: Oid(side),
                    expected_oid: None,
                    force: false,
                    restore: true,
                    ephemeral: None,
                    expires_in: None,
                };
                engine.put_ref(&id, "heads/side", &back).await?;
            }
            Ok::<u64, EngineError>(len)
        });
        let pack = PushedPack { spool, arrival, rest: rest.boxed(), room: Arc::new(()) };
        let report = world.engine.receive_pack(&project.to_string(), &head, Some(pack), &()).await.expect("a report");
        let result = &report.refs[0].result;
        match goes {
            true => assert!(matches!(result, Err(why) if why.contains("set back meanwhile")), "{report:?}"),
            false => assert!(result.is_ok(), "{report:?}"),
        }
    }
}

/// A commit on `side` that `main` lacks.
fn commit_side(world: &World) {
    let stream = "commit refs/heads/side\ncommitter T <t@example.org> 1700009999 +0000\ndata 1\nx\nfrom refs/heads/side^0\n\
                  M 100644 inline side\ndata 4\nside\n";
    world.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
}

/// Goal: a bundle has what its refs lead to, also while branches come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_whole_while_branches_come_and_go() {
    let world = World::new().await;
    commit_contents(&world, &[vec![("a".to_owned(), b"a".to_vec())]]);
    let project = world.import("moving", 0).await.to_string();
    world.git().run(["branch", "side", "main"]);
    commit_side(&world);
    let side = oid(&world.git().run(["rev-parse", "side"]));
    push(&world, project.parse().expect("an id"), &["refs/heads/side".to_owned()]).await;
    let (engine, id) = (world.engine.clone(), project.clone());
    let moving = tokio::spawn(async move {
        let back = RefRequest {
            oid: Oid(side),
            expected_oid: None,
            force: false,
            restore: true,
            ephemeral: None,
            expires_in: None,
        };
        loop {
            _ = engine.delete_ref(&id, "heads/side", None).await;
            _ = engine.put_ref(&id, "heads/side", &back).await;
        }
    });
    let (mut whole, mut both) = (0, 0);
    for round in 0..200 {
        let bundle = match world.engine.bundle(&project, None, None).await {
            Err(EngineError::Busy) => continue,
            bundle => bundle.expect("a bundle"),
        };
        let clone = Repo::init_bare(world.dir.path().join(format!("bundle-{round}")));
        clone.git().run(["fetch", "-q", bundle.path().to_str().expect("utf-8"), "refs/*:refs/*"]);
        whole += 1;
        both += usize::from(clone.refs().len() == 2);
    }
    moving.abort();
    println!("{whole} bundles, {both} with both branches");
    assert!(whole > 20, "{whole}");
}
