//! How fast a verification reads: a token bucket.

use std::sync::Arc;
use std::time::Duration;

use crate::Ambient;

/// So much may be read at once after a pause, as time at the full rate, milliseconds.
const BURST_MS: i64 = 1000;

/// Holds reads back so that, beyond a burst, no more than a rate of bytes per second is read.
#[derive(Debug)]
pub(super) struct Pace {
    ambient: Arc<dyn Ambient>,
    rate: Option<u64>,
    /// When all that was read so far is paid for, Unix milliseconds.
    paid_ms: i64,
}

impl Pace {
    /// `rate` in bytes per second; `None`: as fast as it goes.
    pub fn new(ambient: Arc<dyn Ambient>, rate: Option<u64>) -> Self {
        Self { ambient, rate: rate.map(|rate| rate.max(1)), paid_ms: 0 }
    }

    /// Waits until `bytes` more may be read.
    pub async fn take(&mut self, bytes: u64) {
        let wait = self.owed(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn owed(&mut self, bytes: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let now_ms = self.ambient.now_ms();
        let cost_ms = i64::try_from(u128::from(bytes) * 1000 / u128::from(rate)).unwrap_or(i64::MAX);
        self.paid_ms = self.paid_ms.max(now_ms - BURST_MS).saturating_add(cost_ms);
        Duration::from_millis(u64::try_from(self.paid_ms - now_ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Debug, Default)]
    struct Clock(AtomicI64);

    impl Ambient for Clock {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
        fn uuid(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn random(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    #[test]
    fn what_goes_beyond_the_burst_is_waited_for() {
        let clock = Arc::new(Clock(AtomicI64::new(50_000)));
        let mut pace = Pace::new(Arc::clone(&clock) as Arc<dyn Ambient>, Some(1000));
        let owed = |pace: &mut Pace, bytes| pace.owed(bytes).as_millis();
        assert_eq!([owed(&mut pace, 600), owed(&mut pace, 400), owed(&mut pace, 500)], [0, 0, 500]);
        clock.0.fetch_add(500, Ordering::Relaxed);
        assert_eq!(owed(&mut pace, 100), 100);
        clock.0.fetch_add(1_000_000, Ordering::Relaxed);
        assert_eq!([owed(&mut pace, 1000), owed(&mut pace, 1)], [0, 1], "no more than one burst is saved up");
        assert_eq!(owed(&mut Pace::new(clock, None), u64::MAX), 0);
    }
}
