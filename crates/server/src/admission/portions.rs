//! Something countable (places, memory) divided between projects.
//!
//! Dynamic thresholds, as switches divide their packet memory between ports (A. K. Choudhury and E. L. Hahne, "Dynamic Queue
//! Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998): a project may
//! hold `α` times what is free. So one project alone gets `α/(1+α)` of all, `n` busy ones get `α/(1+nα)` each, and a part
//! is always free for the next one that comes, which need not wait for anybody. No clock, no rates, nothing to tune
//! but `α`, which is given as the percentage that a project alone may hold.

use std::collections::HashMap;

/// A project, in a size that does not depend on how its caller writes it.
pub(crate) type Key = u128;

/// Who holds how much. A project that holds nothing is not remembered.
#[derive(Debug)]
pub(crate) struct Portions {
    total: u64,
    used: u64,
    /// What one project alone may hold, percent: 1 to 100.
    share: u64,
    held: HashMap<Key, u64>,
}

impl Portions {
    pub(crate) fn new(total: u64, share: u64) -> Self {
        // A quarter of the range, so that products with a percentage cannot overflow.
        Self { total: total.clamp(1, u64::MAX >> 8), used: 0, share: share.clamp(1, 100), held: HashMap::new() }
    }

    /// Takes `count` for a project, or nothing. The last one is always within a project's reach if it holds nothing.
    pub(crate) fn take(&mut self, key: Key, count: u64) -> bool {
        let held = self.held(key);
        let free = self.free();
        // held + count ≤ α (free − count) + 1, where α = share / (100 − share).
        let fits = count <= free
            && held.saturating_add(count).saturating_sub(1).saturating_mul(100 - self.share)
                <= (free - count).saturating_mul(self.share);
        if fits && count > 0 {
            self.used += count;
            *self.held.entry(key).or_insert(0) += count;
        }
        fits
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, key: Key, count: u64) {
        let Some(held) = self.held.get_mut(&key) else { return };
        let count = count.min(*held);
        *held -= count;
        if *held == 0 {
            self.held.remove(&key);
        }
        self.used -= count;
    }

    pub(crate) fn held(&self, key: Key) -> u64 {
        self.held.get(&key).copied().unwrap_or(0)
    }

    pub(crate) fn free(&self) -> u64 {
        self.total - self.used
    }

    /// Projects that hold something.
    pub(crate) fn projects(&self) -> usize {
        self.held.len()
    }

    /// The portion of each of `active` projects that all want more than they get.
    pub(crate) fn portion(&self, active: usize) -> u64 {
        let active = (active as u64).max(1);
        (self.total.saturating_mul(self.share) / (100 - self.share).saturating_add(self.share.saturating_mul(active)))
            .max(1)
    }

    /// The most that one request can ever get.
    pub(crate) fn most(&self) -> u64 {
        self.portion(1)
    }
}
