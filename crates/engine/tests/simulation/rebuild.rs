//! A ledger, or a whole database, is lost and made again from the bucket, while calls fail before or after they are done, come late, and
//! the process dies at each step; where others share the database, one of them tries to collect beside it.
//!
//! `TREEHOLD_TEST_SEED` replays one episode, `TREEHOLD_SIMULATIONS` says how many there are.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{Connection, SqliteConnection};
use treehold_engine::api::{
    Author, CommitRequest, Condition, ForkSpec, OnConflict, Origin, PendingBody, ProjectSpec, PutPending,
};
use treehold_engine::{Engine, EngineError, GcOptions, ManifestChoice, RebuildOptions, RebuildReport, RepackOptions};
use uuid::Uuid;

use crate::gate::{Fate, Gate, Rates, Seen, Wanted};
use crate::life::{Deed, Life};
use crate::world::{GRACE, Plan, World};
use crate::{ALONE, FATES, MORE, check, number, people};

/// What a rebuild makes again, beside `gc_state`.
const LEDGER: [&str; 9] = [
    "DELETE FROM objects",
    "DELETE FROM pack_bases",
    "DELETE FROM s3_keys",
    "DELETE FROM commits",
    "DELETE FROM commit_parents",
    "DELETE FROM trees",
    "DELETE FROM reach",
    "DELETE FROM ops",
    "DELETE FROM object_numbers",
];
/// The steps of a rebuild, by the points of `treehold_fault::POINTS` or by calls of the catalog.
const STEPS: [&str; 8] = [
    "B1",
    "begin a rebuild",
    "record the id of the bucket",
    "B2",
    "record bucket keys",
    "B4",
    "record reach",
    "give a job back",
];
/// The same where projects come from a manifest.
const STEPS_OF_ALL: [&str; 11] = [
    "B1",
    "begin a rebuild",
    "record the id of the bucket",
    "B2",
    "record bucket keys",
    "renew a job",
    "B3",
    "restore a project",
    "B4",
    "record reach",
    "give a job back",
];
/// Faults that one episode is to see.
const WANTED: usize = 3;
/// Lives of the process, at most, before nothing goes wrong any more.
const LIVES: usize = 12;
/// Longer than a rebuild that has died keeps its job.
const LEASE: Duration = Duration::from_secs(6 * 60);
const ROUNDS: u32 = 3;

/// Every fault of every step; whether the whole database is lost.
fn pairs() -> Vec<(bool, Wanted)> {
    let of = |all: bool, points: &'static [&'static str]| {
        let fates = FATES.into_iter().flat_map(move |fate| points.iter().map(move |point| (*point, fate)));
        fates.map(move |(point, fate)| (all, Wanted { deed: "rebuild", point, fate, passes: 0 })).collect::<Vec<_>>()
    };
    [of(false, &STEPS), of(true, &STEPS_OF_ALL)].concat()
}

/// A project, and who works in it where.
struct Held {
    project: String,
    people: Vec<(Uuid, Vec<String>)>,
}

enum Done {
    Rebuilt(Result<RebuildReport, EngineError>),
    Collected(Result<(), EngineError>),
}

/// What lives and dies with a process.
struct Alive {
    engines: Vec<Engine>,
    life: Life,
}

fn born(world: &World, gate: &Arc<Gate>) -> Alive {
    let life = Life::new(gate);
    let engines = life.calm(world.engines());
    Alive { engines, life }
}

/// Projects with history and pending work, small and large, and a fork of one of them; then a manifest.
async fn founded(engine: &Engine, random: &mut StdRng) -> Vec<Held> {
    let mut held = Vec::new();
    for nth in 0..2u128 {
        let project = engine.create_project(None, &ProjectSpec::default()).await.expect("a project").0.id.to_string();
        let mut people = Vec::new();
        for who in 1..3u128 {
            let user = Uuid::from_u128(nth * 10 + who);
            let paths: Vec<String> = (0..2).map(|file| format!("by/{who}/{file}")).collect();
            people.push((user, paths));
        }
        for round in 0..ROUNDS {
            for (user, paths) in &people {
                for (file, path) in paths.iter().enumerate() {
                    let times = if file == 0 { 1 } else { 40 };
                    let body = PendingBody::Content(format!("{user} {round} {file}\n").repeat(times).into());
                    save(engine, &project, *user, path, body).await;
                }
                // What the last round saved stays pending.
                if round + 1 < ROUNDS {
                    committed(engine, &project, *user, round).await;
                }
            }
        }
        let (user, paths) = &people[0];
        save(engine, &project, *user, &paths[0], PendingBody::Deleted).await;
        held.push(Held { project, people });
    }
    let id = uuid::Builder::from_random_bytes(random.random()).into_uuid();
    let spec = ForkSpec { id: Some(id), ..ForkSpec::default() };
    engine.fork_project(&held[0].project, &spec).await.expect("a fork");
    held.push(Held { project: id.to_string(), people: Vec::new() });
    if random.random_ratio(1, 3) {
        engine.repack(RepackOptions { dry_run: false, grace: GRACE }, &()).await.expect("a repack");
    }
    engine.write_manifest(&()).await.expect("a manifest").expect("nobody else writes one");
    held
}

async fn save(engine: &Engine, project: &str, user: Uuid, path: &str, body: PendingBody) {
    let put = PutPending {
        branch: None,
        mode: None,
        base: None,
        condition: Condition::default(),
        body,
        origin: Origin::default(),
    };
    engine.put_pending(project, user, path.as_bytes(), put).await.expect("a save");
}

async fn committed(engine: &Engine, project: &str, user: Uuid, round: u32) {
    let request = CommitRequest {
        user,
        message: format!("{round} of {user}"),
        author: Author { name: "A".to_owned(), email: "a@example.org".to_owned(), date: None },
        branch: None,
        paths: None,
        expected_head_sha: None,
        on_conflict: OnConflict::Merge,
        push: Some(false),
        dry_run: false,
        trailers: false,
        sign: None,
    };
    engine.commit(project, &request, None, Some(&request.message)).await.expect("a commit");
}

/// Every ref, everybody's pending work, and what each user sees at each path.
async fn answers(engine: &Engine, held: &[Held]) -> Vec<String> {
    let mut answers = Vec::new();
    for Held { project, people } in held {
        let refs = engine.refs(project, None, None, None).await.expect("refs");
        answers.push(format!("{project}: {:?}", refs.refs));
        for (user, paths) in people {
            let pending = engine.list_pending(project, *user, None, None, None).await.expect("a list");
            answers.push(format!("{user}: {:?}", pending.changes));
            for path in paths {
                answers.push(format!("{user}: {path}: {:?}", people::view(engine, project, *user, path).await));
            }
        }
    }
    answers
}

/// Nobody is at work. With the whole database its file is gone.
async fn lost(world: &World, all: bool, random: &mut StdRng) {
    if all {
        for suffix in ["", "-wal", "-shm"] {
            _ = std::fs::remove_file(format!("{}{suffix}", world.database().display()));
        }
        return;
    }
    let url = format!("sqlite://{}", world.database().display());
    let mut db = SqliteConnection::connect(&url).await.expect("the database");
    for statement in LEDGER {
        sqlx::query(statement).execute(&mut db).await.expect(statement);
    }
    if random.random() {
        sqlx::query("DELETE FROM gc_state").execute(&mut db).await.expect("gc_state");
    }
    db.close().await.expect("closed");
}

fn rebuild(engine: Engine) -> Deed<Done> {
    let options = RebuildOptions { force: false, manifest: ManifestChoice::Auto };
    Box::pin(async move { Done::Rebuilt(engine.rebuild(options, &()).await) })
}

/// Whatever nothing names at the moment, without a grace and without a brake.
fn everything() -> GcOptions {
    GcOptions { apply: true, grace: Some(Duration::ZERO), project: None, now: false, force: true }
}

fn collect(engine: Engine) -> Deed<Done> {
    Box::pin(async move { Done::Collected(engine.gc(&everything(), &()).await.map(|_| ())) })
}

/// Whether the rebuild is done. One whose last answer was lost is told that there is a ledger already.
fn ended(done: Done, first: bool, gate: &Gate) -> bool {
    match done {
        Done::Rebuilt(Ok(report)) => {
            assert_eq!(report.damage, 0, "{report:?}\n{}", gate.trace());
            true
        }
        Done::Rebuilt(Err(EngineError::Conflict { code: "ledger_not_empty", .. })) => {
            assert!(!first, "the ledger was lost\n{}", gate.trace());
            true
        }
        Done::Rebuilt(Err(error)) => {
            gate.note(&format!("=> {error:?}"));
            assert!(matches!(error, EngineError::Unavailable { .. }), "{error:?}\n{}", gate.trace());
            false
        }
        Done::Collected(answer) => {
            gate.note(&format!("=> collected: {answer:?}"));
            false
        }
    }
}

/// Rebuilds until it is done, life after life. How many ended in death.
fn rebuilt(world: &World, gate: &Arc<Gate>) -> u32 {
    let mut deaths = 0;
    for life in 0..LIVES {
        world.clock.pass(LEASE);
        let alive = born(world, gate);
        alive.life.calm(world.bucket.arrive());
        let mut deeds = vec![("rebuild", rebuild(alive.engines[0].clone()))];
        if let Some(other) = alive.engines.get(1) {
            deeds.push(("gc", collect(other.clone())));
        }
        let mut over = false;
        for done in alive.life.storm(deeds).into_iter().flatten() {
            over |= ended(done, life == 0, gate);
        }
        deaths += u32::from(gate.is_dead());
        if over {
            return deaths;
        }
    }
    world.clock.pass(LEASE);
    let alive = born(world, gate);
    let done = alive.life.calm(rebuild(alive.engines[0].clone()));
    assert!(ended(done, false, gate), "never done\n{}", gate.trace());
    deaths
}

/// Everything is as it was, and a collector takes nothing of it.
fn all_is_well(world: &World, gate: &Arc<Gate>, held: &[Held], before: &[String]) {
    world.clock.pass(LEASE);
    let alive = born(world, gate);
    let engine = &alive.engines[0];
    alive.life.calm(async {
        world.bucket.arrive().await;
        assert_eq!(answers(engine, held).await, before, "{}", gate.trace());
        for _ in 0..2 {
            world.clock.pass(GRACE * 2);
            engine.gc(&everything(), &()).await.expect("a collection");
            engine.housekeep().await.expect("a round of housekeeping");
        }
        check::settled(world).await;
    });
    drop(alive);
    // Nothing is remembered but what is stored.
    let alive = born(world, gate);
    assert_eq!(alive.life.calm(answers(&alive.engines[0], held)), before, "{}", gate.trace());
}

/// What episodes came to.
#[derive(Default)]
struct Account {
    episodes: u64,
    faults: u64,
    deaths: u32,
    seen: Seen,
}

/// All of an episode follows from its seed. Its remainder says which faults it is to see, and what is lost.
fn episode(seed: u64, account: &mut Account) {
    let mut random = StdRng::seed_from_u64(seed);
    let pairs = pairs();
    let first = usize::try_from(seed % pairs.len() as u64).expect("small");
    let all = pairs[first].0;
    let chosen = pairs.iter().cycle().skip(first).filter(|(of_all, _)| *of_all == all).take(WANTED);
    // B1 is passed once in a rebuild, all others twice or more.
    let passes = |point: &str, random: &mut StdRng| if point == "B1" { 0 } else { random.random_range(0..2) };
    let wanted =
        chosen.map(|(_, wanted)| Wanted { passes: passes(wanted.point, &mut random), ..*wanted }).collect::<Vec<_>>();
    let rates = match random.random_range(0..3) {
        0 => Rates { fail: 0, late: 50, die: 0 },
        1 => Rates { fail: 5, late: 20, die: 2 },
        _ => Rates { fail: 20, late: 50, die: 5 },
    };
    let engines = random.random_range(1..3);
    let plan = Plan { seed, engines, directory: random.random_ratio(1, 6), ..Plan::default() };
    println!("TREEHOLD_TEST_SEED={seed}: everything is lost: {all}, {wanted:?}, {plan:?}, {rates:?}");
    let gate = Arc::new(Gate::new(seed, rates, wanted));
    treehold_fault::arm(Arc::clone(&gate) as _);
    let world = World::new(plan, &gate);
    let alive = born(&world, &gate);
    let held = alive.life.calm(founded(&alive.engines[0], &mut random));
    let before = alive.life.calm(answers(&alive.engines[0], &held));
    drop(alive);
    Life::new(&gate).calm(lost(&world, all, &mut random));
    let deaths = rebuilt(&world, &gate);
    all_is_well(&world, &gate, &held, &before);
    treehold_fault::disarm();
    let (_, faults, seen) = gate.account();
    account.episodes += 1;
    account.faults += faults;
    account.deaths += deaths;
    for (what, times) in seen {
        *account.seen.entry(what).or_default() += times;
    }
}

/// Goal: whatever goes wrong while a ledger or a database is made again, in the end every ref, its history and all pending work are as they
/// were, and no collector takes any of it, neither beside it nor afterwards. Method: every fault of every step, among others by chance.
#[test]
fn whatever_is_lost_comes_back() {
    let _alone = ALONE.lock();
    let started = std::time::Instant::now();
    let mut account = Account::default();
    if let Some(seed) = number("TREEHOLD_TEST_SEED") {
        return episode(seed, &mut account);
    }
    let pairs = pairs();
    let all = pairs.len().div_ceil(WANTED) as u64;
    let count = number("TREEHOLD_SIMULATIONS").unwrap_or(all);
    let seed = |first: usize| (rand::random::<u64>() >> 20) * pairs.len() as u64 + first as u64;
    for nth in 0..count {
        episode(seed(nth as usize * WANTED % pairs.len()), &mut account);
    }
    let key = |wanted: &Wanted| -> (&'static str, &'static str, Fate) { (wanted.deed, wanted.point, wanted.fate) };
    let missed = |seen: &Seen| pairs.iter().position(|(_, wanted)| !seen.contains_key(&key(wanted)));
    for _ in 0..MORE * usize::from(count >= all) {
        let Some(first) = missed(&account.seen) else { break };
        episode(seed(first), &mut account);
    }
    let Account { episodes, faults, deaths, .. } = account;
    println!("{episodes} rebuilds, {faults} faults, {deaths} deaths in {:?}", started.elapsed());
    let missed = missed(&account.seen).map(|at| key(&pairs[at].1));
    assert!(missed.is_none() || count < all, "never seen: {missed:?}");
}
