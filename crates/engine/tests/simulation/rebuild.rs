//! A ledger, or a whole database, is lost and made again from the bucket, while calls fail before or after they are done, come late, and
//! the process dies at each step; where others share the database, one of them tries to collect beside it.
//!
//! `TREEHOLD_TEST_SEED` replays one episode, `TREEHOLD_SIMULATIONS` says how many there are.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{Connection, SqliteConnection};
use treehold_engine::api::{ForkSpec, ProjectSpec};
use treehold_engine::{Engine, EngineError, GcOptions, ManifestChoice, RebuildOptions, RebuildReport, RepackOptions};
use uuid::Uuid;

use crate::account::{self, Account};
use crate::gate::{FATES, Gate, RATES, Wanted};
use crate::life::{Deed, Life};
use crate::world::{GRACE, Plan, World};
use crate::{check, people};

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
                    save(engine, &project, *user, path, Some(format!("{user} {round} {file}\n").repeat(times))).await;
                }
                // What the last round saved stays pending.
                if round + 1 < ROUNDS {
                    committed(engine, &project, *user, round).await;
                }
            }
        }
        let (user, paths) = &people[0];
        save(engine, &project, *user, &paths[0], None).await;
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

async fn save(engine: &Engine, project: &str, user: Uuid, path: &str, text: Option<String>) {
    engine.put_pending(project, user, path.as_bytes(), people::edit(text)).await.expect("a save");
}

async fn committed(engine: &Engine, project: &str, user: Uuid, round: u32) {
    let request = people::request(user, &format!("{round} of {user}"), false);
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

/// All of an episode follows from its seed. Its remainder says which faults it is to see, and what is lost.
fn episode(seed: u64, account: &mut Account) {
    let mut random = StdRng::seed_from_u64(seed);
    let pairs = pairs();
    let first = account::first(seed, pairs.len());
    let all = pairs[first].0;
    let chosen = pairs.iter().cycle().skip(first).filter(|(of_all, _)| *of_all == all).take(WANTED);
    // B1 is passed once in a rebuild, all others twice or more.
    let passes = |point: &str, random: &mut StdRng| if point == "B1" { 0 } else { random.random_range(0..2) };
    let wanted =
        chosen.map(|(_, wanted)| Wanted { passes: passes(wanted.point, &mut random), ..*wanted }).collect::<Vec<_>>();
    let rates = RATES[random.random_range(0..RATES.len() - 1)];
    let engines = random.random_range(1..3);
    let plan = Plan { seed, engines, directory: random.random_ratio(1, 6), ..Plan::default() };
    println!("TREEHOLD_TEST_SEED={seed}: everything is lost: {all}, {wanted:?}, {plan:?}, {rates:?}");
    let gate = Gate::armed(seed, rates, wanted);
    let world = World::new(plan, &gate);
    let alive = born(&world, &gate);
    let held = alive.life.calm(founded(&alive.engines[0], &mut random));
    let before = alive.life.calm(answers(&alive.engines[0], &held));
    drop(alive);
    Life::new(&gate).calm(lost(&world, all, &mut random));
    let deaths = rebuilt(&world, &gate);
    all_is_well(&world, &gate, &held, &before);
    treehold_fault::disarm();
    account.add(&gate, deaths);
}

/// Goal: whatever goes wrong while a ledger or a database is made again, in the end every ref, its history and all pending work are as they
/// were, and no collector takes any of it, neither beside it nor afterwards. Method: every fault of every step, among others by chance.
#[test]
fn whatever_is_lost_comes_back() {
    let wanted: Vec<Wanted> = pairs().into_iter().map(|(_, wanted)| wanted).collect();
    account::see_all(&wanted, WANTED, episode);
}
