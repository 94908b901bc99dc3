//! Durations, counted by class: a histogram without locks, for calls out of the process and requests into it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A histogram of durations. `CLASSES` is one more than there are ends of classes: longer durations are in the last class, without end.
#[derive(Debug)]
pub struct Durations<const CLASSES: usize> {
    up_to_s: &'static [f64],
    /// Not added up.
    classes: [AtomicU64; CLASSES],
    total_ns: AtomicU64,
}

impl<const CLASSES: usize> Durations<CLASSES> {
    /// None yet. `up_to_s`: the upper ends of the classes, seconds, ascending.
    pub const fn new(up_to_s: &'static [f64]) -> Self {
        Self { up_to_s, classes: [const { AtomicU64::new(0) }; CLASSES], total_ns: AtomicU64::new(0) }
    }

    /// One more.
    pub fn count(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(class) = self.classes.get(self.up_to_s.partition_point(|up_to| *up_to < seconds)) {
            class.fetch_add(1, Relaxed);
        }
        self.total_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Those that took no longer than each end, and all.
    pub fn within(&self) -> [u64; CLASSES] {
        let mut so_far = 0;
        std::array::from_fn(|class| {
            so_far += self.classes[class].load(Relaxed);
            so_far
        })
    }

    /// How long all of them took, seconds.
    pub fn total_s(&self) -> f64 {
        Duration::from_nanos(self.total_ns.load(Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_classes() {
        let durations = Durations::<3>::new(&[0.001, 30.0]);
        for took_us in [0, 1_000, 1_001, 30_000_001] {
            durations.count(Duration::from_micros(took_us));
        }
        assert_eq!(durations.within(), [2, 3, 4]);
        assert!((durations.total_s() - 30.002_002).abs() < 1e-9, "{}", durations.total_s());
    }
}
