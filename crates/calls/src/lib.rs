//! Calls out of this process: to the database, to the bucket, to remotes.
//!
//! Every one is counted ([`Call`], [`read`]) by kind, operation and outcome, with how long it took: a handful of atomic additions. Where
//! somebody listens to [`TARGET`] at TRACE, each is a span ([`span`]) below the request, or the upkeep, that makes it. Operations are
//! names in the code, never what a caller sent, so that there are as many as there are calls in the code.

mod durations;
pub mod span;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use tracing::{Instrument as _, Span};

pub use durations::Durations;
pub use span::TARGET;

/// Upper ends of the classes of durations, seconds; longer ones are in the last class, without end.
pub const UP_TO_S: [f64; 13] = [0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Whom it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The bucket.
    Store,
    /// The database.
    Catalog,
    /// A git remote, or its host's API.
    Remote,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// With an answer, if only that something is not there.
    Ok,
    /// It failed.
    Error,
    /// Whoever asked went away first.
    Cancelled,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Error, Self::Cancelled];

    /// As metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One place in the code that calls, of a kind and with an operation's name: a `static`. Places of one name are read as one.
#[derive(Debug)]
pub struct Call {
    kind: Kind,
    operation: &'static str,
    known: Once,
    /// By [`Outcome`].
    ended: [Durations<{ UP_TO_S.len() + 1 }>; 3],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    repeated: AtomicU64,
}

/// The places that were reached so far.
static KNOWN: Mutex<Vec<&'static Call>> = Mutex::new(Vec::new());

impl Call {
    /// Not reached yet.
    pub const fn new(kind: Kind, operation: &'static str) -> Self {
        Self {
            kind,
            operation,
            known: Once::new(),
            ended: [const { Durations::new(&UP_TO_S) }; 3],
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    /// The operation.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Runs `work` as this call, in `span`. `failed` says what kind of failure an answer is; `None` = it is none.
    pub async fn watch<A>(
        &'static self,
        span: Span,
        work: impl Future<Output = A>,
        failed: impl FnOnce(&A) -> Option<&'static str>,
    ) -> A {
        let mut running = self.begin(span);
        let answer = work.instrument(running.span.clone()).await;
        running.end(failed(&answer));
        answer
    }

    /// It begins; counted when what this gives is dropped, as cancelled unless its end was told.
    pub fn begin(&'static self, span: Span) -> Running {
        self.meet();
        Running { call: self, span, began: Instant::now(), outcome: Outcome::Cancelled }
    }

    fn meet(&'static self) {
        self.known.call_once(|| KNOWN.lock().unwrap_or_else(PoisonError::into_inner).push(self));
    }

    /// Bytes of content came.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// Bytes of content went.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Relaxed);
    }

    /// It will be made once more.
    pub fn again(&'static self) {
        self.meet();
        self.repeated.fetch_add(1, Relaxed);
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Running {
    call: &'static Call,
    span: Span,
    began: Instant,
    outcome: Outcome,
}

impl Running {
    /// Its span.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// It ended, with this kind of failure or none.
    pub fn end(&mut self, failure: Option<&'static str>) {
        self.outcome = match failure {
            None => Outcome::Ok,
            Some(kind) => {
                span::fail(&self.span, kind);
                Outcome::Error
            }
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.outcome == Outcome::Cancelled {
            self.span.record("error.type", Outcome::Cancelled.name());
        }
        self.call.ended[self.outcome as usize].count(self.began.elapsed());
    }
}

/// What came of calls with one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ended {
    /// Those that took no longer than each of [`UP_TO_S`], and all.
    pub within: [u64; UP_TO_S.len() + 1],
    /// How long all of them took, seconds.
    pub total_s: f64,
}

/// What calls of a kind and an operation came to since this process began.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// Whom they went to.
    pub kind: Kind,
    /// What was asked for.
    pub operation: &'static str,
    /// By [`Outcome`], in the order of [`Outcome::ALL`].
    pub ended: [Ended; 3],
    /// Content that came, bytes.
    pub received_bytes: u64,
    /// Content that went, bytes.
    pub sent_bytes: u64,
    /// Calls that were made because one before failed.
    pub repeated: u64,
}

impl Counted {
    fn add(&mut self, call: &Call) {
        for (sum, durations) in self.ended.iter_mut().zip(&call.ended) {
            for (within, more) in sum.within.iter_mut().zip(durations.within()) {
                *within += more;
            }
            sum.total_s += durations.total_s();
        }
        self.received_bytes += call.received_bytes.load(Relaxed);
        self.sent_bytes += call.sent_bytes.load(Relaxed);
        self.repeated += call.repeated.load(Relaxed);
    }
}

/// Every operation that was ever called, in order of kind and name.
pub fn read() -> Vec<Counted> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    known.sort_by_key(|call| (call.kind, call.operation));
    let mut counted: Vec<Counted> = Vec::new();
    for call in known {
        let same = |last: &&mut Counted| (last.kind, last.operation) == (call.kind, call.operation);
        match counted.last_mut().filter(same) {
            Some(last) => last.add(call),
            None => {
                let (kind, operation, ended) = (call.kind, call.operation, [Ended::default(); 3]);
                let mut first = Counted { kind, operation, ended, received_bytes: 0, sent_bytes: 0, repeated: 0 };
                first.add(call);
                counted.push(first);
            }
        }
    }
    counted
}

/// What became of spans that were to be exported: for whoever exports, and whoever shows it.
#[derive(Debug)]
pub struct Exported {
    /// The collector took them.
    pub sent: AtomicU64,
    /// It did not.
    pub failed: AtomicU64,
    /// There was no room to keep them until they were sent.
    pub dropped: AtomicU64,
}

/// Of this process.
pub static EXPORTED: Exported =
    Exported { sent: AtomicU64::new(0), failed: AtomicU64::new(0), dropped: AtomicU64::new(0) };

#[cfg(test)]
mod tests;
