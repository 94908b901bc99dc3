//! Code, page and models speak of the same steps: what the code calls a point, docs/reliability.md has in a table, and a model has as an
//! action or does not have for a reason that stands here.

use std::collections::BTreeSet;
use std::path::Path;

use treehold_fault::POINTS;

const PAGE: &str = include_str!("../../../docs/reliability.md");
const COLLECTION: &str = include_str!("../../src/collection/mod.rs");
const PUSH: &str = include_str!("../../src/push/mod.rs");

/// What an action of a model is in the code.
enum Is {
    /// Steps: points, or steps of the page that have none.
    Steps(&'static [&'static str]),
    /// A call of the catalog, which is a point by the name that its errors have.
    Call(&'static str),
    /// Nothing that the code does.
    World(&'static str),
}
use Is::{Call, Steps, World};

/// Steps of the page that have no point of their own, and why.
const WITHOUT_POINT: &[(&str, &str)] = &[
    ("W0", "one call of the catalog, `begin an operation`, alone or within others"),
    ("W1", "one call of the catalog, `pin objects`"),
    ("W5", "one call of the catalog, `publish`, or within others; before it stand A4, U5, I6, P6"),
    ("P5", "W4 is its point"),
    ("G5", "a time that passes"),
];

/// Points that no model has, and why.
const NOT_MODELLED: &[(&str, &str)] = &[
    ("A1", "nothing was done yet"),
    ("A5", "an answer that is lost is a process that dies after A4"),
    ("I3", "nothing of it is kept before I5"),
    ("I4", "nothing of it is kept before I5"),
    ("P1", "nothing was done yet"),
    ("P2", "nothing of it is kept before P4"),
    ("P3", "nothing of it is kept before P4"),
    ("P7", "an answer that is lost is a process that dies after P6"),
    ("B1", "nobody else is there: the simulation of deaths in the real command has it"),
    ("B2", "as B1"),
    ("B3", "as B1"),
    ("B4", "as B1"),
    ("D1", "inside one PUT: what is not acknowledged may be there or not"),
    ("D2", "as D1"),
    ("D3", "as D1"),
    ("D4", "as D1"),
];

const COLLECTION_ACTIONS: &[(&str, Is)] = &[
    ("ReadEpoch", Steps(&["W0"])),
    ("BeginOp", Steps(&["W0", "A2", "C1", "I1"])),
    ("Pin", Steps(&["W1"])),
    ("Reserve", Steps(&["W2", "C1"])),
    ("Put", Steps(&["W3", "C3", "I5", "P4"])),
    ("Register", Steps(&["W4", "C4"])),
    ("Park", Steps(&["C4"])),
    ("Publish", Steps(&["W5", "A4", "U5", "I6", "P6"])),
    ("Crash", World("a process dies")),
    ("ReapOp", Call("reap operations")),
    ("ReapKey", Call("reap operations")),
    ("DeleteRef", World("a user deletes a ref")),
    ("Supersede", World("a user or a request gives an attempt up")),
    ("NextEpoch", Steps(&["G1"])),
    ("RaiseHorizon", Steps(&["G2"])),
    ("Mark", Steps(&["G3"])),
    ("Condemn", Steps(&["G4"])),
    ("Doom", Steps(&["G6"])),
    ("EndCycle", World("the run ends, or its process dies")),
    ("ZombieCondemn", Steps(&["G4"])),
    ("ZombieDoom", Steps(&["G6"])),
    ("DeleteKey", Steps(&["G7"])),
    ("KeyDeleted", Steps(&["G7"])),
    ("PutArrives", World("the bucket carries out a PUT")),
    ("DeleteArrives", World("the bucket carries out a DELETE")),
    ("BeginRepack", Steps(&["N1"])),
    ("ReadAll", Steps(&["N2", "N3"])),
    ("Move", Steps(&["N4", "N5"])),
    ("CrashRepack", World("a process dies")),
    ("ListOrphan", Call("look up bucket keys")),
    ("BurnOrphan", Call("burn bucket keys")),
    ("ForeignDelete", World("another database")),
    ("Locate", Call("locate objects")),
    ("Read", Call("locate objects")),
    ("Replicate", World("Postgres")),
    ("Failover", World("Postgres")),
];

const PUSH_ACTIONS: &[(&str, Is)] = &[
    ("Save", Steps(&["A4"])),
    ("Plan", Steps(&["C2"])),
    ("Prepare", Steps(&["C1"])),
    ("Crash", World("a process dies")),
    ("Store", Steps(&["C3", "C4"])),
    ("Send", Steps(&["U1", "U3"])),
    ("Deliver", World("the remote")),
    ("Refuse", World("the remote")),
    ("TurnAway", World("the remote")),
    ("Hear", Steps(&["U4"])),
    ("Lose", World("the network")),
    ("Look", Steps(&["U2"])),
    ("Defer", Call("change an attempt")),
    ("GiveUp", Call("change an attempt")),
    ("Ask", Steps(&["U3"])),
    ("TakeMade", Steps(&["U5"])),
    ("NotMade", Steps(&["U4"])),
    ("Finalize", Steps(&["U5"])),
    ("EndWait", Steps(&["U5"])),
    ("CommitLocally", Steps(&["C4", "U5"])),
    ("Merge", Call("publish")),
    ("Fetch", Steps(&["I2", "I6"])),
    ("Pull", Call("publish")),
    ("LandLate", World("the network")),
    ("ForeignPush", World("somebody else")),
    ("ForcePush", World("somebody else")),
];

/// The variants of `Action` in the source of a model.
fn actions(source: &str) -> Vec<&str> {
    let (_, of) = source.split_once("pub enum Action {\n").expect("actions");
    let (of, _) = of.split_once("\n}").expect("their end");
    let variants = of.lines().map(str::trim).filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    variants.map(|line| line.split(['(', ',', ' ']).next().expect("a name")).collect()
}

/// A letter and a number.
fn is_step(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && !letters.as_str().is_empty()
        && letters.all(|digit| digit.is_ascii_digit())
}

/// Steps that have a row in some table of the page, but for the last one: threats are named in the same way.
fn on_page() -> BTreeSet<&'static str> {
    let (steps, _) = PAGE.split_once("\n## Threats\n").expect("a table of threats");
    let rows = steps.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    rows.flat_map(|cell| cell.split(", ")).filter(|name| is_step(name)).collect()
}

fn points() -> BTreeSet<&'static str> {
    POINTS.iter().map(|(name, ..)| *name).collect()
}

fn names(list: &'static [(&'static str, &'static str)]) -> BTreeSet<&'static str> {
    list.iter().map(|(name, _)| *name).collect()
}

/// All source of the catalog that both databases share: it has the names of the calls.
fn catalog() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/catalog/src/sql");
    let files = std::fs::read_dir(&dir).expect("the catalog's source").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).expect("source")).collect()
}

/// Goal: who reads a trace of the checker, a fault of a test or the page finds the same step under the same name.
/// Method: the list of points against the rows of the page.
#[test]
fn page_and_points_have_the_same_steps() {
    let expected: BTreeSet<&str> = points().union(&names(WITHOUT_POINT)).copied().collect();
    assert_eq!(on_page(), expected);
    assert!(points().is_disjoint(&names(WITHOUT_POINT)), "a point is said to be none");
}

/// Goal: every action of a model is something that the code does under that name, or that the world does.
/// Method: the list here against the enums, the points and the source of the catalog.
#[test]
fn actions_are_steps_of_the_code() {
    let (catalog, steps) = (catalog(), on_page());
    for (source, listed) in [(COLLECTION, COLLECTION_ACTIONS), (PUSH, PUSH_ACTIONS)] {
        assert_eq!(actions(source), listed.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, is) in listed {
            match is {
                Steps(of) => assert!(of.iter().all(|step| steps.contains(step)), "{name} is {of:?}"),
                Call(call) => assert!(catalog.contains(&format!("{call:?}")), "{name} is the call {call:?}"),
                World(who) => assert!(!who.is_empty(), "{name}"),
            }
        }
    }
}

/// Goal: a new step of the code is not left out of the models unnoticed.
/// Method: each point is what some action is, or in the list of those that no model has; not both.
#[test]
fn points_are_actions_or_left_out_for_a_reason() {
    let listed = COLLECTION_ACTIONS.iter().chain(PUSH_ACTIONS);
    let steps = listed.filter_map(|(_, is)| if let Steps(of) = is { Some(*of) } else { None });
    let modelled: BTreeSet<&str> = steps.flatten().copied().filter(|step| points().contains(step)).collect();
    let left_out = names(NOT_MODELLED);
    assert!(modelled.is_disjoint(&left_out), "{:?}", modelled.intersection(&left_out));
    assert_eq!(modelled.union(&left_out).copied().collect::<BTreeSet<_>>(), points());
}
