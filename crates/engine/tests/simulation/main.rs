//! People work with engines on one catalog, one bucket and one remote, while calls fail before or after they are done, come late, and
//! processes die: one seed decides who goes next and what goes wrong. `TREEHOLD_TEST_SEED` replays one episode,
//! `TREEHOLD_SIMULATIONS` says how many there are.

mod account;
mod bucket;
mod check;
mod crossing;
mod edits;
mod episode;
mod gate;
mod hosted;
mod life;
mod newer;
mod people;
mod pushes;
mod rebuild;
mod remote;
mod replies;
mod staged;
mod tenant;
mod world;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use account::Account;
use episode::Episode;
use gate::{FATES, Gate, RATES, Wanted};
use world::Plan;

/// What a world must have for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A remote.
    Remote,
    /// Values in files.
    Files,
    /// Projects that are forked, and deleted.
    Forks,
}

/// The steps of each operation, by the points of `treehold_fault::POINTS`, or by the call of the catalog that is all of it:
/// docs/reliability.md has what must be true after a fault at each of them.
const STEPS: &[(&str, &[&str], Needs)] = &[
    ("autosave", &["A1", "A2", "W2", "W3", "W4", "A4", "A5"], Needs::Nothing),
    ("batch", &["A2", "W2", "W3", "W4", "A4", "A5"], Needs::Nothing),
    ("discard", &["clear pending work"], Needs::Nothing),
    ("commit", &["C1", "C2", "C3", "C4", "U5"], Needs::Nothing),
    ("push", &["C1", "C2", "C3", "C4", "U1", "U2", "U3", "U4", "U5"], Needs::Remote),
    ("sync", &["I1", "I2", "I3", "I4", "I5", "W2", "W3", "W4", "I6"], Needs::Remote),
    ("git push", &["P1", "P2", "P3", "P4", "W2", "W3", "W4", "P6", "P7"], Needs::Nothing),
    ("repack", &["N1", "N2", "N3", "W2", "W3", "N4", "N5"], Needs::Nothing),
    ("gc", &["G1", "G2", "G3", "G4", "G6"], Needs::Nothing),
    ("housekeep", &["G7"], Needs::Nothing),
    ("fork", &["fork a project"], Needs::Forks),
    ("delete", &["delete a project"], Needs::Forks),
    ("disk", &["D1", "D2", "D3", "D4"], Needs::Files),
];
/// The gate is the process's: one test at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Faults that one episode is to see.
const WANTED: usize = 4;

/// Every fault of every step, and what it needs.
fn pairs() -> Vec<(Wanted, Needs)> {
    let pair = |deed, point, needs, fate| (Wanted { deed, point, fate, passes: 0 }, needs);
    let of = |&(deed, points, needs): &(&'static str, &'static [&'static str], Needs)| {
        points.iter().flat_map(move |point| FATES.map(|fate| pair(deed, *point, needs, fate))).collect::<Vec<_>>()
    };
    STEPS.iter().flat_map(of).collect()
}

/// All of an episode follows from its seed. Its remainder says which faults it is to see, among others that come by chance.
fn episode(seed: u64, account: &mut Account) {
    let mut random = StdRng::seed_from_u64(seed);
    let pairs = pairs();
    let first = account::first(seed, pairs.len());
    let chosen: Vec<_> = pairs.iter().cycle().skip(first).take(WANTED).copied().collect();
    let wanted = chosen.iter().map(|(wanted, _)| Wanted { passes: random.random_range(0..2), ..*wanted }).collect();
    let needs = |needed: Needs| chosen.iter().any(|(_, needs)| *needs == needed);
    let remote = needs(Needs::Remote) || random.random_ratio(1, 8);
    let stays = remote && (chosen.iter().any(|(wanted, _)| wanted.deed == "commit") || random.random_ratio(1, 2));
    let plan = Plan {
        seed,
        remote,
        stays,
        engines: if random.random_ratio(2, 3) { 1 } else { 2 },
        second: random.random_ratio(1, 3),
        forks: needs(Needs::Forks) || random.random_ratio(1, 6),
        directory: needs(Needs::Files) || random.random_ratio(1, 8),
        spoiled: random.random_ratio(1, 6),
    };
    let rates = RATES[random.random_range(0..RATES.len())];
    println!("TREEHOLD_TEST_SEED={seed}: {plan:?}, {rates:?}");
    let gate = Gate::armed(seed, rates, wanted);
    let mut episode = Episode::new(plan, &gate);
    episode.run();
    treehold_fault::disarm();
    account.add(&gate, episode.deaths);
}

/// Goal: whatever goes wrong, what was answered is there, once, nothing is left half done, and the bucket is a sound git repository.
/// Method: every fault of every step of docs/reliability.md, among others by chance.
#[test]
fn whatever_goes_wrong() {
    let wanted: Vec<Wanted> = pairs().into_iter().map(|(wanted, _)| wanted).collect();
    account::see_all(&wanted, WANTED, episode);
}
