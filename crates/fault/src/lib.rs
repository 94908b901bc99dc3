//! Named fault points: where tests let things go wrong.
//!
//! The code says what step comes next ([`point`], [`blocking_point`]) or which call it makes ([`call`]); whoever is armed ([`arm`])
//! decides what happens there. Nobody is, but in tests and in a server that was started with a [`Script`]. Without debug
//! assertions there is nothing here: nobody can be armed, and a point compiles to nothing.

mod points;
mod script;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use points::{POINTS, PointKind};
pub use script::{Script, ScriptError};

/// Something failed on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injected {
    /// Where.
    pub point: &'static str,
    /// When, seen from there.
    pub moment: Moment,
}

impl std::fmt::Display for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.moment {
            Moment::At => write!(f, "injected at {}", self.point),
            Moment::Before => write!(f, "injected before `{}`, which was not done", self.point),
            Moment::After => write!(f, "injected after `{}`, which was done", self.point),
        }
    }
}

impl std::error::Error for Injected {}

/// When something is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// At a point: the step of that name comes next.
    At,
    /// Before a call.
    Before,
    /// After a call: it was done, and its answer is on its way.
    After,
}

/// What is to become of a step. Never done: the process dies there, or the future that waits for it goes away.
pub type Decision<'a> = Pin<Box<dyn Future<Output = Result<(), Injected>> + Send + 'a>>;

/// Who decides what happens at the points. It may also just count, or let others go first.
pub trait Faults: Send + Sync + 'static {
    /// In a future.
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a>;
    /// On a thread that may block.
    fn decide_blocking(&self, point: &'static str) -> Result<(), Injected>;
}

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULTS: RwLock<Option<Arc<dyn Faults>>> = RwLock::new(None);

/// Whether this build has fault points.
pub const fn built_in() -> bool {
    cfg!(debug_assertions)
}

/// From here on `faults` decides at every point of this process. Without fault points in the build this changes nothing.
pub fn arm(faults: Arc<dyn Faults>) {
    *FAULTS.write().unwrap_or_else(PoisonError::into_inner) = Some(faults);
    ARMED.store(built_in(), Ordering::SeqCst);
}

/// From here on all goes well.
pub fn disarm() {
    ARMED.store(false, Ordering::SeqCst);
    *FAULTS.write().unwrap_or_else(PoisonError::into_inner) = None;
}

fn armed() -> Option<Arc<dyn Faults>> {
    if !built_in() || !ARMED.load(Ordering::Relaxed) {
        return None;
    }
    FAULTS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The step `name` comes next.
pub async fn point(name: &'static str) -> Result<(), Injected> {
    match armed() {
        Some(faults) => faults.decide(name, Moment::At).await,
        None => Ok(()),
    }
}

/// The same on a thread that may block.
pub fn blocking_point(name: &'static str) -> Result<(), Injected> {
    armed().map_or(Ok(()), |faults| faults.decide_blocking(name))
}

/// A call that may not be done, or be done without an answer; `failed` makes the error that its caller then sees.
pub async fn call<T, E>(
    name: &'static str,
    call: impl Future<Output = Result<T, E>>,
    failed: impl Fn(Injected) -> E,
) -> Result<T, E> {
    let Some(faults) = armed() else { return call.await };
    faults.decide(name, Moment::Before).await.map_err(&failed)?;
    let answer = call.await;
    faults.decide(name, Moment::After).await.map_err(&failed)?;
    answer
}
