//! Admission: which requests work now, which wait for a moment, which are sent away; fair between projects.
//!
//! `portions.rs` divides, `fair.rs` decides, `class.rs` says what a request is, `memory.rs` counts bytes; here are the tasks that wait.
//! A place is held until the last byte of the answer is sent, and by a write until it has ended, whether or not its caller
//! is still there.

mod class;
mod fair;
mod memory;
mod portions;
mod room;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tokio::sync::oneshot;
use treehold_engine::EngineError;

use self::fair::{Arrival, Fair, Over, Ticket};
use self::memory::{Memory, Refused};
use crate::app::App;
use crate::context::holding;
use crate::error::Problem;

pub(crate) use self::class::{Class, METHOD as MCP_METHOD, key as project_key, key_of, listens};
pub use self::fair::Bounds;
pub(crate) use self::memory::Reserved;
pub(crate) use self::portions::Key;
pub(crate) use self::room::Room;

/// Places, queues and memory. `Default` is right for the cores of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Reads, lists and autosaves.
    pub light: Bounds,
    /// Batch reads and diffs.
    pub batch: Bounds,
    /// Commits, sync and push.
    pub commit: Bounds,
    /// Packs for git clients.
    pub clone: Bounds,
    /// Readers of the change feed, who mostly wait.
    pub watch: Bounds,
    /// Archives, bundles, and batch reads of about a thousand paths or more.
    pub bulk: Bounds,
    /// What one project alone may hold of places and memory, percent. Several busy ones get less each: of `n` at the
    /// default of 50, each gets one part in `n + 1`.
    pub project_share: u8,
    /// Longest wait for a place in the light and batch classes; in the others it is [`PATIENCE`] times as long. Then 429 or 503.
    pub queue_timeout: Duration,
    /// Memory for request bodies and for what answers are made from, bytes.
    pub memory_bytes: u64,
}

/// How much longer requests wait whose work takes longer anyway.
pub const PATIENCE: u32 = 5;

impl Bounds {
    /// So many places, with queues to match: a project's takes what it can work off in a moment.
    pub fn places(places: usize) -> Self {
        Self { places, queue: (places / 2).max(64), queue_total: (places * 4).max(256) }
    }

    /// So many places, for what keeps them too long to be waited for.
    pub fn without_queue(places: usize) -> Self {
        Self { places, queue: 0, queue_total: 0 }
    }
}

impl AdmissionConfig {
    /// What suits a machine with so many cores.
    pub fn for_cores(cores: usize) -> Self {
        let cores = cores.max(1);
        Self {
            // Waits for the database and the bucket, mostly: many a core.
            light: Bounds::places(64 * cores),
            // Each keeps a core busy for a while: the more of them, the longer everybody else waits for a core.
            batch: Bounds::places((4 * cores).max(8)),
            // Each may hold a database connection while it waits for a branch.
            commit: Bounds::places((8 * cores).max(16)),
            // Each waits for its client, mostly, and its memory is set aside.
            clone: Bounds::places((64 * cores).max(128)),
            // Each is a connection, a timer and a position.
            watch: Bounds::without_queue(4096),
            // Each keeps a core busy.
            bulk: Bounds::places((2 * cores).max(4)),
            project_share: 50,
            queue_timeout: Duration::from_secs(2),
            memory_bytes: (256 << 20) * cores.max(4) as u64,
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self::for_cores(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// The places of all classes, and the memory.
#[derive(Debug)]
pub(crate) struct Admission {
    light: Arc<Places>,
    batch: Arc<Places>,
    commit: Arc<Places>,
    clone: Arc<Places>,
    watch: Arc<Places>,
    bulk: Arc<Places>,
    memory: Arc<Memory>,
}

impl Admission {
    pub(crate) fn new(config: &AdmissionConfig) -> Self {
        let share = u64::from(config.project_share);
        let places = |bounds: Bounds, patience: u32, retry_after_s: u64| {
            let state = Line { fair: Fair::new(bounds, share), waiting: HashMap::new() };
            Arc::new(Places { state: Mutex::new(state), wait: config.queue_timeout * patience, retry_after_s })
        };
        Self {
            light: places(config.light, 1, 1),
            batch: places(config.batch, 1, 1),
            commit: places(config.commit, PATIENCE, 2),
            clone: places(config.clone, PATIENCE, 5),
            watch: places(config.watch, 1, 5),
            bulk: places(config.bulk, PATIENCE, 5),
            memory: Arc::new(Memory::new(config.memory_bytes, share)),
        }
    }

    fn class(&self, class: Class) -> &Arc<Places> {
        match class {
            Class::Light => &self.light,
            Class::Batch => &self.batch,
            Class::Commit => &self.commit,
            Class::Clone => &self.clone,
            Class::Watch => &self.watch,
            Class::Bulk => &self.bulk,
        }
    }
}

/// The places of one class.
#[derive(Debug)]
struct Places {
    state: Mutex<Line>,
    wait: Duration,
    retry_after_s: u64,
}

#[derive(Debug)]
struct Line {
    fair: Fair,
    /// How those that wait are told.
    waiting: HashMap<Ticket, oneshot::Sender<Place>>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, now or in a while.
    async fn enter(self: &Arc<Self>, key: Key) -> Result<Place, Problem> {
        let mut waiting = {
            let mut state = self.lock();
            match state.fair.arrive(key) {
                Arrival::Admitted => return Ok(Place { places: Arc::clone(self), key }),
                Arrival::Refused(over) => return Err(refusal(over, self.retry_after_s)),
                Arrival::Waits(ticket) => {
                    let (sender, told) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    Waiting { places: Arc::clone(self), key, ticket, told }
                }
            }
        };
        if let Ok(Ok(place)) = tokio::time::timeout(self.wait, &mut waiting.told).await {
            return Ok(place);
        }
        match waiting.give_up() {
            Some(over) => Err(refusal(over, self.retry_after_s)),
            // The place came in the same moment.
            None => waiting.told.try_recv().map_err(|_| EngineError::Busy.into()),
        }
    }

    fn leave(self: &Arc<Self>, key: Key) {
        let told: Vec<_> = {
            let mut state = self.lock();
            let admitted = state.fair.leave(key);
            admitted.into_iter().filter_map(|(key, ticket)| Some((key, state.waiting.remove(&ticket)?))).collect()
        };
        for (key, sender) in told {
            // Whoever went away in this moment gives it back by dropping it, so it must not be locked here.
            let _ = sender.send(Place { places: Arc::clone(self), key });
        }
    }
}

/// A place among the requests at work; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.leave(self.key);
    }
}

/// A request that waits. Dropped, it waits no longer.
struct Waiting {
    places: Arc<Places>,
    key: Key,
    ticket: Ticket,
    told: oneshot::Receiver<Place>,
}

impl Waiting {
    /// Why it was in vain; `None` if it was not.
    fn give_up(&self) -> Option<Over> {
        let mut state = self.places.lock();
        state.waiting.remove(&self.ticket)?;
        Some(state.fair.give_up(self.key, self.ticket))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// 429 if the project has its portion, 503 if the server has no room.
fn refusal(over: Over, retry_after_s: u64) -> Problem {
    match over {
        Over::Project => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "the project has as many requests at work as it may; wait as long as Retry-After says, then repeat the request",
        ),
        Over::Server => EngineError::Busy.into(),
    }
    .retry_after(retry_after_s)
}

/// What the request at work holds, for whatever is done in its name.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    key: Key,
    _place: Arc<Place>,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Takes a place among the requests at work, until the last byte of the answer is sent.
pub(crate) async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some((class, key)) = class::of(&request) else { return next.run(request).await };
    match app.admission().class(class).enter(key).await {
        Ok(place) => {
            let place = Arc::new(place);
            let current = Current { key, _place: Arc::clone(&place) };
            let answer = CURRENT.scope(current, next.run(request));
            let answer = match class.is_heavy() {
                true => {
                    let answer = app.heavy().run(answer).await;
                    answer.map(|body| app.heavy().body(body))
                }
                false => answer.await,
            };
            answer.map(|body| holding(body, place))
        }
        Err(problem) => problem.into_response(),
    }
}

/// Work in the name of the request at work, which may outlive it: it keeps the request's place until it ends.
pub(crate) fn keeping<F: Future>(work: F) -> impl Future<Output = F::Output> {
    in_name_of(current(), work)
}

/// The request at work, for what is done in its name after its handler has ended.
pub(crate) fn current() -> Option<Current> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Work in the name of a request.
pub(crate) async fn in_name_of<F: Future>(current: Option<Current>, work: F) -> F::Output {
    match current {
        Some(current) => CURRENT.scope(current, work).await,
        None => work.await,
    }
}

fn key() -> Key {
    CURRENT.try_with(|current| current.key).unwrap_or_default()
}

/// A place for work that is no request of its own: a call of a tool.
pub(crate) async fn enter(admission: &Admission, class: Class, key: Key) -> Result<Current, Problem> {
    let place = admission.class(class).enter(key).await?;
    Ok(Current { key, _place: Arc::new(place) })
}

/// Sets memory aside for `bytes` more in the name of the request at work, which has `before` already.
pub(crate) fn reserve(admission: &Admission, before: Option<&Reserved>, bytes: u64) -> Result<Reserved, Problem> {
    reserve_for(&admission.memory, key(), before, bytes)
}

/// Room for the contents that an answer is made from: `factor` bytes of memory for each of theirs.
pub(crate) fn room(admission: &Admission, factor: u64) -> Arc<Room> {
    Arc::new(Room::new(Arc::clone(&admission.memory), key(), factor))
}

/// Whether a request can ever have memory for `bytes`.
pub(crate) fn could_reserve(admission: &Admission, bytes: u64) -> Result<(), Problem> {
    admission.memory.check(bytes).map_err(refused)
}

/// Comes to an end when memory is given back.
pub(crate) fn freed(admission: &Admission) -> impl Future<Output = ()> + Send {
    admission.memory.freed()
}

fn reserve_for(memory: &Arc<Memory>, key: Key, before: Option<&Reserved>, bytes: u64) -> Result<Reserved, Problem> {
    memory.reserve(key, before, bytes).map_err(refused)
}

fn refused(why: Refused) -> Problem {
    match why {
        Refused::Taken(over) => refusal(over, 1),
        Refused::Never(most) => Problem::too_large("the memory that the request needs", most, "bytes"),
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
