//! Committing and pushing (docs/reliability.md), against a remote that answers late, wrongly or not at all.
//!
//! One user, one branch, one file. Each action is one transaction of the catalog, one step of an engine or one of the remote's.

mod hosted;
mod machine;
pub mod mutants;
mod properties;
mod remote;
pub mod sizes;
pub mod state;

use stateright::{Model, Property};

use crate::bits::Bits;
use mutants::Mutant;
use state::{Author, BASE, Commit, Left, State};

/// What an instance of the model has in it.
#[derive(Clone, Debug)]
pub struct Push {
    /// Idempotency keys that the client uses, each as often as it likes.
    pub requests: u8,
    /// Engines that work on the branch at the same time: one or two.
    pub engines: u8,
    /// Edits that the user may save; more than one means that autosave goes on during a commit.
    pub saves: u8,
    /// Attempts that may be recorded in all.
    pub attempts: u8,
    /// Pushes by others to the remote.
    pub foreign: u8,
    /// Force pushes by others, to any commit that the branch was ever at.
    pub forces: u8,
    /// Refusals by the remote.
    pub refusals: u8,
    /// Commits of another user that are not pushed.
    pub local_commits: u8,
    /// Whether requests ask the forge to make their commits.
    pub hosted: bool,
    /// Whether a look at the remote's refs may show any of its past.
    pub stale_looks: bool,
    /// The rule that is left out.
    pub mutant: Option<Mutant>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Autosave: the pending file gets a new revision, and the user is told so.
    Save,
    /// An engine works out a commit for a request, or learns that an attempt of that request has landed.
    Plan(u8, u8),
    /// It records the attempt (`PREPARED`).
    Prepare(u8),
    /// An engine dies with what it had worked out.
    Crash(u8),
    /// The attempt's objects are durable (`STORED`).
    Store(u8),
    /// `PUSHING` is recorded, then the push sent. From `UNKNOWN` and `PAUSED` it is the same push again.
    Send(u8),
    /// The remote carries out the push that is waited for, or finds its branch elsewhere.
    Deliver(u8),
    /// The remote refuses it.
    Refuse(u8),
    /// The remote does not know our credentials, is busy or cannot be reached: `PAUSED`. This push was not sent; the same one may
    /// have been, earlier.
    TurnAway(u8),
    /// The engine hears the answer.
    Hear(u8),
    /// The answer is lost, or the engine dies: `UNKNOWN`.
    Lose(u8),
    /// A look at the remote's refs settles an unknown push, or shows nothing.
    Look(u8, u8),
    /// An unknown push is put aside, so that somebody else's can go ahead.
    Defer(u8),
    /// What waits is replaced by the user's next request; what was only prepared, or cannot land, is given up.
    GiveUp(u8),
    /// The forge is asked to make the commit of an attempt that stays `PREPARED`.
    Ask(u8),
    /// What the forge made was seen, and is taken.
    TakeMade(u8),
    /// The forge has made nothing, as its branch is elsewhere.
    NotMade(u8),
    /// The one transaction that moves our branch, settles pending work and answers. Where our branch cannot go there, it answers, and the
    /// attempt waits.
    Finalize(u8),
    /// It waits no more: our branch has the commit, or the remote has given it up.
    EndWait(u8),
    /// A commit of another user that is not pushed.
    CommitLocally,
    /// A merge of our branch and of where the remote's was seen, where each has what the other lacks.
    Merge,
    /// A fetch records where the remote's branch is.
    Fetch(u8),
    /// Our branch goes forward to where the remote's was seen.
    Pull,
    /// A push that was sent earlier is carried out, or carried out again.
    LandLate(u8),
    /// Somebody else pushes.
    ForeignPush,
    /// Somebody else sets the remote's branch back.
    ForcePush(u8),
}

impl Push {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// What a look at the remote may show.
    fn shown(&self, state: &State) -> Bits {
        if self.stale_looks { state.tips } else { Bits::of(&[state.tip]) }
    }
}

/// The properties by which a mutant is judged.
pub fn harm() -> &'static [&'static str] {
    &properties::HARM
}

impl Model for Push {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            commits: vec![Commit { parent: BASE, second: None, by: Author::Foreign, revision: 0, time: 0 }],
            acknowledged: 0,
            pending: None,
            local: BASE,
            known: BASE,
            tip: BASE,
            tips: Bits::of(&[BASE]),
            pushes: Vec::new(),
            attempts: Vec::new(),
            engines: [None; 2],
            answers: vec![None; self.requests as usize],
            left: Left {
                saves: self.saves,
                attempts: self.attempts,
                foreign: self.foreign,
                forces: self.forces,
                refusals: self.refusals,
                local_commits: self.local_commits,
            },
            rewound: false,
            again: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.machine_actions(state, actions);
        self.remote_actions(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        // Each knows its own steps and refuses the others.
        let ours = self.step(&mut state, action).or_else(|| self.host(&mut state, action));
        ours.or_else(|| self.remote(&mut state, action))?;
        // A step that changes nothing leads nowhere new.
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Plan(engine, request) => format!("Plan(engine {engine}, request {request})"),
            Action::Prepare(engine) | Action::Crash(engine) => {
                let name = if let Action::Prepare(_) = action { "Prepare" } else { "Crash" };
                format!("{name}(engine {engine})")
            }
            Action::Look(attempt, shown) => format!("Look(attempt {attempt}, the remote shows commit {shown})"),
            Action::Fetch(commit) | Action::ForcePush(commit) => {
                let name = if let Action::Fetch(_) = action { "Fetch" } else { "ForcePush" };
                format!("{name}(commit {commit})")
            }
            other => format!("{other:?}"),
        }
    }
}
