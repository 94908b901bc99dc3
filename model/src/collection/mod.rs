//! Collection beside writers that deduplicate, as one state machine: W0–W5, G1–G7 and N1–N5 of docs/reliability.md.
//!
//! Each action is one transaction of the catalog or one call to the bucket. The checker takes them in every order.

mod collector;
pub mod mutants;
mod properties;
mod repack;
pub mod sizes;
pub mod state;
mod store;
mod writer;

use stateright::{Model, Property};

use crate::bits::Bits;
use mutants::Mutant;
use state::{
    Broken, Bucket, C, Catalog, Collector, D, KEYS, KeyState, Left, Life, OBJECTS, OLD_NAME, Op, OpState, Plan, Reader,
    Repacker, Row, State, Writer, X, closure,
};

/// What an instance of the model has in it.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Operations that each writer may begin.
    pub ops: [u8; 2],
    /// Whether the second writer also builds on top of what is published.
    pub on_top: bool,
    /// Whether a writer may read the epoch long before it records its operation. The code reads it in the same transaction;
    /// publications do not need that, attempts do.
    pub stale_epoch: bool,
    /// Operations that each repacker may begin.
    pub repacks: [u8; 2],
    /// Whether commits are parked as attempts, and published by a later operation.
    pub attempts: bool,
    /// Cycles of the collector.
    pub cycles: u8,
    /// Deletions of refs and of attempts.
    pub deletions: u8,
    /// Fail-overs to a standby that lacks the newest transactions.
    pub failovers: u8,
    /// Whether a collector that lost its lease goes on.
    pub zombie: bool,
    /// Whether the bucket holds a name at first of which the ledger knows nothing, as after a restore.
    pub orphan: bool,
    /// Whether another database was given the bucket: to its collector all names are unknown.
    pub foreign: bool,
    /// Reads.
    pub reads: u8,
    /// Whether the reaper may end operations whose process is alive.
    pub reaper: bool,
    /// Whether commit C is published at the start.
    pub published: bool,
    /// The rule that is left out.
    pub mutant: Option<Mutant>,
}

/// One step. The names are those of the specification and of the catalog's methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// W0, first half, where it is not one transaction: a writer reads the epoch.
    ReadEpoch(u8, Plan),
    /// W0: it records its operation with its epoch and roots (`begin_op`).
    BeginOp(u8, Plan),
    /// W1: it looks for an object in the ledger and pins it (`pin`).
    Pin(u8, u8),
    /// W2: it reserves a name (`reserve`) and sends the bytes of what the ledger lacks.
    Reserve(u8),
    /// W3: it hears that the bytes are durable.
    Put(u8),
    /// W4: it records them (`register`).
    Register(u8),
    /// It parks the commit as an attempt (`store_commit`).
    Park(u8),
    /// W5 (`publish`).
    Publish(u8),
    /// The process dies, or gives up after a refusal.
    Crash(u8),
    /// The reaper ends an operation (`reap_ops`), perhaps of a live process.
    ReapOp(u8),
    /// The reaper dooms what an ended operation had reserved (`reap_ops`, `end_op`).
    ReapKey(u8),
    /// A user deletes a ref.
    DeleteRef(u8),
    /// An attempt is given up.
    Supersede(u8),
    /// G1 (`next_epoch`).
    NextEpoch,
    /// G2 (`raise_horizon`).
    RaiseHorizon,
    /// G3 (`roots`, and the walk).
    Mark,
    /// G4 (`condemn`).
    Condemn(u8),
    /// G6 (`doom`).
    Doom(u8),
    /// The cycle ends; the process may die at any point of it.
    EndCycle,
    /// G4 by a collector that lost its lease.
    ZombieCondemn(u8),
    /// G6 by a collector that lost its lease.
    ZombieDoom(u8),
    /// G7: a DELETE is sent (`doomed_before`, `doomed_never_live`).
    DeleteKey(u8),
    /// G7: the bytes were seen gone (`key_deleted`).
    KeyDeleted(u8),
    /// The bucket carries out a PUT.
    PutArrives(u8),
    /// The bucket carries out a DELETE; it may do so again.
    DeleteArrives(u8),
    /// N1: a repacker opens an operation.
    BeginRepack(u8),
    /// N2, N3: it reads all objects but perhaps one that is damaged, and sends them as one pack.
    ReadAll(u8, Option<u8>),
    /// N4, N5 (`move_objects`).
    Move(u8),
    /// A repacker dies.
    CrashRepack(u8),
    /// The orphan scan finds a name without a row.
    ListOrphan(u8),
    /// It records that name as doomed (`burn_orphans`), if it still has no row.
    BurnOrphan,
    /// The collector of another database, which was given this bucket, deletes a name that it does not know.
    ForeignDelete(u8),
    /// A reader asks where a published object is (`locate`).
    Locate(u8),
    /// R5: it asks the bucket, and the ledger again if there is nothing.
    Read,
    /// The standby takes over everything that the primary has committed.
    Replicate,
    /// The standby becomes the primary.
    Failover,
}

impl Collection {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn start(&self) -> State {
        let mut catalog = Catalog {
            epoch: 1,
            horizon: 1,
            refs: Bits::default(),
            outbox: Bits::default(),
            rows: [None; OBJECTS],
            keys: [KeyState::Unused; KEYS],
            kept: Bits::default(),
            ops: [None; KEYS],
        };
        let mut bucket = Bucket::default();
        let mut begun = 0;
        if self.published {
            catalog.refs.add(C);
            catalog.keys[0] = KeyState::Present;
            catalog.kept.add(0);
            catalog.ops[0] = Some(Op { state: OpState::Done, epoch: 1, roots: Bits::default() });
            let row = Row { life: Life::Live, seen_epoch: 1, key: 0, base_key: 0 };
            (catalog.rows[X as usize], catalog.rows[C as usize]) = (Some(row), Some(row));
            bucket.stored.add(0);
            bucket.holds[0] = Bits::of(&[X, C]);
            begun = 1;
        }
        if self.orphan {
            bucket.stored.add(OLD_NAME);
            bucket.holds[OLD_NAME as usize] = Bits::of(&[X, C]);
        }
        State {
            standby: (self.failovers > 0).then(|| Box::new(catalog.clone())),
            catalog,
            bucket,
            writers: [Writer::Idle; 2],
            repackers: [Repacker::Idle; 2],
            collector: Collector::Idle,
            zombie: None,
            orphan: None,
            reader: Reader::Idle,
            begun,
            left: Left {
                ops: self.ops,
                repacks: self.repacks,
                cycles: self.cycles,
                deletions: self.deletions,
                failovers: self.failovers,
                reads: self.reads,
            },
            broken: Broken::default(),
        }
    }

    /// A deletion by a user: of a ref, or of an attempt.
    fn user_actions(state: &State, actions: &mut Vec<Action>) {
        if state.left.deletions == 0 {
            return;
        }
        actions.extend(state.catalog.refs.iter().map(Action::DeleteRef));
        actions.extend(state.catalog.outbox.iter().map(Action::Supersede));
    }

    /// Sets the monitors by what one step changed.
    fn watch(before: &State, after: &mut State, action: Action) {
        if action == Action::Failover {
            return;
        }
        let keys = before.catalog.keys.iter().zip(&after.catalog.keys);
        let order = |key: &KeyState| if let KeyState::Reserved(_) = key { KeyState::Reserved(0) } else { *key };
        let mut keys = keys.filter(|(old, new)| old != new);
        after.broken.key |= keys.any(|(old, new)| order(old) >= order(new));
        after.broken.horizon |= after.catalog.horizon < before.catalog.horizon;
    }
}

/// The properties by which a mutant is judged.
pub fn harm() -> &'static [&'static str] {
    &properties::HARM
}

impl Model for Collection {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for writer in 0..2 {
            self.writer_actions(state, writer, actions);
        }
        for repacker in 0..2 {
            self.repacker_actions(state, repacker, actions);
        }
        self.collector_actions(state, actions);
        self.store_actions(state, actions);
        Self::user_actions(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::DeleteRef(commit) => {
                state.left.deletions -= 1;
                state.catalog.refs.remove(commit);
            }
            Action::Supersede(commit) => {
                state.left.deletions -= 1;
                state.catalog.outbox.remove(commit);
            }
            // Each knows its own steps and refuses the others.
            _ => self
                .write(&mut state, action)
                .or_else(|| self.repack(&mut state, action))
                .or_else(|| self.collect(&mut state, action))
                .or_else(|| self.store(&mut state, action))?,
        }
        Self::watch(before, &mut state, action);
        // A step that changes nothing leads nowhere new.
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }

    fn format_action(&self, action: &Action) -> String {
        describe(action)
    }
}

/// An action for a reader of traces: objects by their letters.
fn describe(action: &Action) -> String {
    let object = |object: &u8| ["X", "C", "D"][*object as usize];
    match action {
        Action::BeginOp(writer, plan) => format!("BeginOp(writer {writer}, for {})", object(&commit_of(*plan))),
        Action::Pin(writer, pinned) => format!("Pin(writer {writer}, {})", object(pinned)),
        Action::DeleteRef(commit) | Action::Supersede(commit) => {
            let name = if let Action::DeleteRef(_) = action { "DeleteRef" } else { "Supersede" };
            format!("{name}({})", object(commit))
        }
        Action::Condemn(condemned) => format!("Condemn({})", object(condemned)),
        Action::Doom(doomed) => format!("Doom({})", object(doomed)),
        Action::ZombieCondemn(condemned) => format!("ZombieCondemn({})", object(condemned)),
        Action::ZombieDoom(doomed) => format!("ZombieDoom({})", object(doomed)),
        Action::Locate(located) => format!("Locate({})", object(located)),
        other => format!("{other:?}"),
    }
}

/// The commit that a plan publishes.
fn commit_of(plan: Plan) -> u8 {
    match plan {
        Plan::First => C,
        Plan::OnTop => D,
        Plan::Resume(commit) => commit,
    }
}

/// What a plan must pin or store itself: the rest is in its roots.
fn needs_of(plan: Plan) -> Bits {
    match plan {
        Plan::First | Plan::Resume(C) => closure(Bits::of(&[C])),
        Plan::OnTop | Plan::Resume(_) => Bits::of(&[D]),
    }
}
