//! Who goes next, and what goes wrong there: every call and every named point waits at the gate, and one seed decides.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use treehold_fault::{Decision, Faults, Injected, Moment};

tokio::task_local! {
    /// On whose behalf a task works.
    pub static DEED: &'static str;
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is taken.
    Pass,
    /// It fails, or its answer is lost.
    Fail,
    /// Others go first.
    Late,
    /// The process dies here.
    Die,
}

/// What goes wrong.
pub const FATES: [Fate; 3] = [Fate::Fail, Fate::Late, Fate::Die];

/// How often, in one thousand steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub fail: u32,
    pub late: u32,
    pub die: u32,
}

/// From a light wind to a storm.
pub const RATES: [Rates; 4] = [
    Rates { fail: 0, late: 50, die: 0 },
    Rates { fail: 5, late: 20, die: 2 },
    Rates { fail: 20, late: 50, die: 5 },
    Rates { fail: 60, late: 100, die: 10 },
];

/// One fault that an episode is to see, whatever else happens: where, of which deed, at which time it gets there.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub deed: &'static str,
    pub point: &'static str,
    pub fate: Fate,
    pub passes: u32,
}

/// How often which fate came to a deed at a point.
pub type Seen = BTreeMap<(&'static str, &'static str, Fate), u64>;

struct Waiting {
    deed: &'static str,
    point: &'static str,
    moment: Moment,
    /// Grants to others before it is its turn.
    late: u32,
    answer: oneshot::Sender<Result<(), Injected>>,
}

struct State {
    random: StdRng,
    calm: bool,
    dead: bool,
    rates: Rates,
    wanted: Vec<Wanted>,
    waiting: Vec<Waiting>,
    /// Calls to the outside that no thread of ours works on.
    outside: u32,
    arrivals: u64,
    grants: u64,
    faults: u64,
    seen: Seen,
    trace: String,
}

/// Where everything waits for its turn.
pub struct Gate {
    state: Mutex<State>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    pub fn new(seed: u64, rates: Rates, wanted: Vec<Wanted>) -> Gate {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            calm: true,
            dead: false,
            rates,
            wanted,
            waiting: Vec::new(),
            outside: 0,
            arrivals: 0,
            grants: 0,
            faults: 0,
            seen: BTreeMap::new(),
            trace: String::new(),
        };
        Gate { state: Mutex::new(state) }
    }

    /// One that decides over this process until that is disarmed.
    pub fn armed(seed: u64, rates: Rates, wanted: Vec<Wanted>) -> Arc<Gate> {
        let gate = Arc::new(Gate::new(seed, rates, wanted));
        treehold_fault::arm(Arc::clone(&gate) as _);
        gate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic at the gate")
    }

    /// From here on everything passes, or waits for its turn.
    pub fn calm(&self, calm: bool) {
        let mut state = self.state();
        state.calm = calm;
        state.dead = false;
        state.waiting.clear();
        state.outside = 0;
    }

    pub fn is_calm(&self) -> bool {
        self.state().calm
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Steps that arrived so far.
    pub fn arrivals(&self) -> u64 {
        self.state().arrivals
    }

    /// Whether somebody waits for an answer from outside.
    pub fn waits_outside(&self) -> bool {
        self.state().outside > 0
    }

    /// Deeds of which a fault is wanted that did not come yet.
    pub fn wanted(&self) -> Vec<&'static str> {
        self.state().wanted.iter().map(|wanted| wanted.deed).collect()
    }

    /// Yes in `percent` of cases.
    pub fn roll(&self, percent: u32) -> bool {
        let mut state = self.state();
        !state.calm && state.random.random_range(0..100) < percent
    }

    /// Grants, faults, and what came where.
    pub fn account(&self) -> (u64, u64, Seen) {
        let state = self.state();
        (state.grants, state.faults, state.seen.clone())
    }

    /// The last steps, one a line.
    pub fn trace(&self) -> String {
        let state = self.state();
        let from = state.trace.len().saturating_sub(60_000);
        state.trace.get(from..).unwrap_or_default().to_owned()
    }

    /// Notes something in the trace.
    pub fn note(&self, line: &str) {
        _ = writeln!(self.state().trace, "{line}");
    }

    /// Lets one of those that wait go on, or fail, or dies. `false`: nobody waits.
    pub fn grant(&self) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        state.waiting.retain(|waiting| !waiting.answer.is_closed());
        state.waiting.sort_by_key(|waiting| (waiting.deed, waiting.point, waiting.moment));
        let ready = |waiting: &&Waiting| waiting.late == 0;
        let count = state.waiting.iter().filter(ready).count();
        let nth = match count {
            0 => 0,
            count => state.random.random_range(0..count),
        };
        let chosen = state.waiting.iter().filter(|waiting| count == 0 || waiting.late == 0).nth(nth);
        let Some(key) = chosen.map(|waiting| (waiting.deed, waiting.point, waiting.moment, waiting.late)) else {
            return false;
        };
        let at = state.waiting.iter().position(|w| (w.deed, w.point, w.moment, w.late) == key).expect("it waits");
        for waiting in &mut state.waiting {
            waiting.late = waiting.late.saturating_sub(1);
        }
        let (deed, point, moment, _) = key;
        let fate = state.fate(deed, point);
        state.grants += 1;
        _ = writeln!(state.trace, "{deed}: {point} {moment:?} {fate:?}");
        match fate {
            Fate::Pass => _ = state.waiting.remove(at).answer.send(Ok(())),
            Fate::Fail => _ = state.waiting.remove(at).answer.send(Err(Injected { point, moment })),
            Fate::Late => state.waiting[at].late = state.random.random_range(3..40),
            Fate::Die => state.dead = true,
        }
        true
    }
}

impl State {
    fn fate(&mut self, deed: &'static str, point: &'static str) -> Fate {
        let Rates { fail, late, die } = self.rates;
        let dice = self.random.random_range(0..1000);
        let mut fate = match dice {
            dice if dice < die => Fate::Die,
            dice if dice < die + fail => Fate::Fail,
            dice if dice < die + fail + late => Fate::Late,
            _ => Fate::Pass,
        };
        // Until its fault has come, a deed suffers no other that would end it first.
        if matches!(fate, Fate::Fail | Fate::Die) && self.wanted.iter().any(|wanted| wanted.deed == deed) {
            fate = Fate::Pass;
        }
        let there = |wanted: &Wanted| (wanted.deed, wanted.point) == (deed, point);
        if let Some(at) = self.wanted.iter().position(there) {
            match self.wanted[at].passes {
                0 => fate = self.wanted.remove(at).fate,
                _ => self.wanted[at].passes -= 1,
            }
        }
        *self.seen.entry((deed, point, fate)).or_default() += 1;
        self.faults += u64::from(fate != Fate::Pass);
        fate
    }
}

impl Faults for Gate {
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a> {
        let mut state = self.state();
        if state.calm {
            return Box::pin(std::future::ready(Ok(())));
        }
        let deed = DEED.try_with(|deed| *deed).unwrap_or("shared");
        let (answer, answered) = oneshot::channel();
        state.arrivals += 1;
        state.waiting.push(Waiting { deed, point, moment, late: 0, answer });
        Box::pin(async move {
            match answered.await {
                Ok(answer) => answer,
                // The process is dead; nobody goes on.
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// Threads cannot be made to take turns; only what is wanted happens on them.
    fn decide_blocking(&self, point: &'static str) -> Result<(), Injected> {
        let mut state = self.state();
        if state.calm {
            return Ok(());
        }
        let lost = Err(Injected { point, moment: Moment::At });
        if state.dead {
            return lost;
        }
        let rates = std::mem::take(&mut state.rates);
        let fate = state.fate("disk", point);
        state.rates = rates;
        match fate {
            Fate::Pass => Ok(()),
            Fate::Fail => lost,
            Fate::Late => {
                drop(state);
                std::thread::sleep(std::time::Duration::from_millis(2));
                Ok(())
            }
            Fate::Die => {
                state.dead = true;
                lost
            }
        }
    }
}

/// Marks that an answer from outside is waited for.
pub struct Outside<'a>(&'a Gate);

impl Gate {
    pub fn outside(&self) -> Outside<'_> {
        self.state().outside += 1;
        Outside(self)
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.outside = state.outside.saturating_sub(1);
    }
}
