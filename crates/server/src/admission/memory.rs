//! Memory for request bodies and answers, divided between projects.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::fair::Over;
use super::portions::{Key, Portions};

/// Memory is counted in pieces of this many bytes.
const UNIT: u64 = 4 << 10;

/// Why memory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is taken; later there may be some.
    Taken(Over),
    /// No request gets that much, ever: the most, in bytes.
    Never(u64),
}

/// What is set aside for requests.
#[derive(Debug)]
pub(crate) struct Memory {
    portions: Mutex<Portions>,
    /// Told whenever some is given back.
    freed: Notify,
}

impl Memory {
    pub(crate) fn new(bytes: u64, share: u64) -> Self {
        Self { portions: Mutex::new(Portions::new(bytes / UNIT, share)), freed: Notify::new() }
    }

    /// Comes to an end when memory is given back after it was made.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Portions> {
        self.portions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request can ever have `bytes`.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Refused> {
        let most = self.lock().most();
        if bytes.div_ceil(UNIT) > most { Err(Refused::Never(most * UNIT)) } else { Ok(()) }
    }

    /// Sets `bytes` aside for a project, for a request that has `before` already.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        key: Key,
        before: Option<&Reserved>,
        bytes: u64,
    ) -> Result<Reserved, Refused> {
        let units = bytes.div_ceil(UNIT);
        let mut portions = self.lock();
        let own = before.map_or(0, |before| before.units);
        if own.saturating_add(units) > portions.most() {
            return Err(Refused::Never(portions.most() * UNIT));
        }
        if portions.take(key, units) {
            return Ok(Reserved { memory: Arc::clone(self), key, units });
        }
        let active = portions.projects() + usize::from(portions.held(key) == 0);
        let over = portions.held(key) + units > portions.portion(active);
        Err(Refused::Taken(if over { Over::Project } else { Over::Server }))
    }
}

/// Memory that a request holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    key: Key,
    units: u64,
}

impl Reserved {
    /// Takes over what another reservation of the same request holds.
    pub(crate) fn merge(&mut self, mut other: Self) {
        if self.key == other.key && Arc::ptr_eq(&self.memory, &other.memory) {
            self.units += std::mem::take(&mut other.units);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.units > 0 {
            self.memory.lock().give(self.key, self.units);
            self.memory.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_alone_gets_its_share_and_others_find_some() {
        let memory = Arc::new(Memory::new(100 * UNIT, 50));
        let first = memory.reserve(1, None, 50 * UNIT).unwrap();
        assert_eq!(memory.reserve(1, None, 1).unwrap_err(), Refused::Taken(Over::Project));
        let other = memory.reserve(2, None, 25 * UNIT).unwrap();
        assert_eq!(memory.reserve(3, None, 20 * UNIT).unwrap_err(), Refused::Taken(Over::Server));
        drop((first, other));
        assert!(memory.reserve(3, None, 20 * UNIT).is_ok());
    }

    #[test]
    fn what_never_fits_is_told_apart() {
        let memory = Arc::new(Memory::new(100 * UNIT, 50));
        assert_eq!(memory.reserve(1, None, 51 * UNIT).unwrap_err(), Refused::Never(50 * UNIT));
        assert_eq!((memory.check(50 * UNIT), memory.check(50 * UNIT + 1)), (Ok(()), Err(Refused::Never(50 * UNIT))));
        let half = memory.reserve(1, None, 30 * UNIT).unwrap();
        assert_eq!(memory.reserve(1, Some(&half), 21 * UNIT).unwrap_err(), Refused::Never(50 * UNIT));
        assert_eq!(memory.reserve(1, None, 21 * UNIT).unwrap_err(), Refused::Taken(Over::Project));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_what_is_given_back() {
        let memory = Arc::new(Memory::new(10 * UNIT, 100));
        let all = memory.reserve(1, None, 10 * UNIT).unwrap();
        let freed = memory.freed();
        assert!(memory.reserve(1, None, 1).is_err());
        // Before anybody looks: it is not missed.
        drop(all);
        freed.await;
        assert!(memory.reserve(1, None, 10 * UNIT).is_ok());
    }

    #[test]
    fn merged_memory_is_given_back_once() {
        let memory = Arc::new(Memory::new(10 * UNIT, 100));
        let mut one = memory.reserve(1, None, 4 * UNIT).unwrap();
        one.merge(memory.reserve(1, None, 6 * UNIT).unwrap());
        assert!(memory.reserve(1, None, 1).is_err());
        drop(one);
        assert!(memory.reserve(1, None, 10 * UNIT).is_ok());
        assert_eq!(memory.lock().free(), 10);
    }
}
