//! Episodes until every fault of every step was seen.

use std::time::Instant;

use crate::ALONE;
use crate::gate::{Gate, Seen, Wanted};

/// Episodes, at most, for what a round of all pairs missed: an operation that found nothing to do does not get to its later steps.
const MORE: usize = 60;

/// What episodes came to.
#[derive(Default)]
pub struct Account {
    episodes: u64,
    grants: u64,
    faults: u64,
    deaths: u32,
    seen: Seen,
}

impl Account {
    /// Adds an episode: what came at its gate, and how often its process died.
    pub fn add(&mut self, gate: &Gate, deaths: u32) {
        let (grants, faults, seen) = gate.account();
        self.episodes += 1;
        self.grants += grants;
        self.faults += faults;
        self.deaths += deaths;
        for (what, times) in seen {
            *self.seen.entry(what).or_default() += times;
        }
    }

    fn has(&self, wanted: &Wanted) -> bool {
        self.seen.contains_key(&(wanted.deed, wanted.point, wanted.fate))
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Which of so many pairs of step and fault an episode is to see first: its seed's remainder.
pub fn first(seed: u64, pairs: usize) -> usize {
    usize::try_from(seed % pairs as u64).expect("small")
}

/// Runs episodes, each of which is to see `each` pairs from its [`first`] on, until all were seen.
pub fn see_all(pairs: &[Wanted], each: usize, episode: fn(u64, &mut Account)) {
    let _alone = ALONE.lock();
    let started = Instant::now();
    let mut account = Account::default();
    if let Some(seed) = number("TREEHOLD_TEST_SEED") {
        return episode(seed, &mut account);
    }
    let all = pairs.len().div_ceil(each) as u64;
    let count = number("TREEHOLD_SIMULATIONS").unwrap_or(all);
    // A seed that wants the pairs from `first` on.
    let seed = |first: usize| (rand::random::<u64>() >> 20) * pairs.len() as u64 + first as u64;
    for nth in 0..count {
        episode(seed(nth as usize * each % pairs.len()), &mut account);
    }
    let missed = |account: &Account| pairs.iter().position(|wanted| !account.has(wanted));
    for _ in 0..MORE * usize::from(count >= all) {
        let Some(first) = missed(&account) else { break };
        episode(seed(first), &mut account);
    }
    let seen = pairs.iter().filter(|wanted| account.has(wanted)).count();
    let Account { episodes, grants, faults, deaths, .. } = &account;
    println!("{episodes} episodes, {grants} steps, {faults} faults, {deaths} deaths in {:?}", started.elapsed());
    println!("{seen} of {} pairs of step and fault were seen", pairs.len());
    let missed = missed(&account).map(|at| pairs[at]);
    assert!(missed.is_none() || count < all, "never seen: {missed:?}");
}
