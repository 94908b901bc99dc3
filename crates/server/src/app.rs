//! What every request needs: the engine, the limits, the keys.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use treehold_engine::{Engine, EngineError, Limits, Secret};

use crate::auth::Keys;
use crate::error::Problem;

/// How the server behaves. `Default` holds sane values and no key: then every request that needs a key is refused.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys that are accepted, several for rotation. Empty ones are ignored.
    pub api_keys: Vec<Secret>,
    /// The engine's limits, for the size of request bodies.
    pub limits: Limits,
    /// Largest JSON body, bytes (a commit with actions carries its files).
    pub json_bytes: u64,
    /// Longest wait for the engine where no remote takes part; then 504 `timeout`.
    pub request_timeout: Duration,
    /// The same for commit, sync, push and exports.
    pub long_timeout: Duration,
    /// Longest pause between two pieces of a request body; then 408 `body_timeout`.
    pub body_idle_timeout: Duration,
    /// Longest time for a whole request body.
    pub body_timeout: Duration,
    /// Requests at once, streamed answers included; then 503 `busy`.
    pub max_in_flight: usize,
    /// Memory for request bodies and file answers at once, bytes; then 503 `busy`.
    pub memory_bytes: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            limits: Limits::default(),
            json_bytes: 256 << 20,
            request_timeout: Duration::from_secs(60),
            long_timeout: Duration::from_secs(30 * 60),
            body_idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(15 * 60),
            max_in_flight: 1_024,
            memory_bytes: 1 << 30,
        }
    }
}

/// The state of the server; cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    config: ServerConfig,
    keys: Keys,
    in_flight: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Memory that a request holds; given back when dropped.
pub(crate) type Reserved = OwnedSemaphorePermit;

/// Memory is counted in pieces of this many bytes.
const MEMORY_UNIT: u64 = 4 << 10;

impl App {
    /// Takes over the engine. The keys are kept as hashes only.
    pub fn new(engine: Engine, mut config: ServerConfig) -> Self {
        let keys = Keys::new(&config.api_keys);
        config.api_keys.clear();
        let units = usize::try_from(config.memory_bytes / MEMORY_UNIT).unwrap_or(usize::MAX);
        Self(Arc::new(Inner {
            engine,
            keys,
            in_flight: Arc::new(Semaphore::new(config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS))),
            memory: Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            config,
        }))
    }

    /// The verbs.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// How the server behaves (without the keys).
    pub fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Waits until the verbs that outlive their requests have ended. Call it after the last connection is closed.
    pub async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// A place among the requests at work.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0.in_flight).try_acquire_owned().map_err(|_| EngineError::Busy.into())
    }

    /// Sets memory aside for `bytes`.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved, Problem> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).map_err(|_| Problem::from(EngineError::Busy))?;
        Arc::clone(&self.0.memory).try_acquire_many_owned(units).map_err(|_| EngineError::Busy.into())
    }

    /// As `reserve`, but waits until there is some. The caller must not hold any, or it may wait for itself.
    pub(crate) async fn reserve_in_turn(&self, bytes: u64) -> Result<Reserved, Problem> {
        let all = (self.0.config.memory_bytes / MEMORY_UNIT).max(1);
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT).min(all)).unwrap_or(u32::MAX);
        let turn = Arc::clone(&self.0.memory).acquire_many_owned(units);
        match tokio::time::timeout(self.0.config.request_timeout, turn).await {
            Ok(Ok(reserved)) => Ok(reserved),
            _ => Err(EngineError::Busy.into()),
        }
    }

    /// Runs a verb that only reads: it ends with its request.
    pub(crate) async fn reading<T>(
        &self,
        verb: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.0.config.request_timeout, verb).await {
            Ok(result) => result.map_err(Problem::from),
            Err(_) => Err(timeout("the request took too long and was given up; ask for less, or try again")),
        }
    }

    /// As `reading`, for work in proportion to a whole project.
    pub(crate) async fn exporting<T>(
        &self,
        verb: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.0.config.long_timeout, verb).await {
            Ok(result) => result.map_err(Problem::from),
            Err(_) => Err(timeout("the export took too long and was given up")),
        }
    }

    /// Runs a verb that writes: it goes on to its end, even if the caller goes away.
    pub(crate) async fn writing<T: Send + 'static>(
        &self,
        verb: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.settle(self.0.config.request_timeout, verb).await
    }

    /// As `writing`, where a remote takes part.
    pub(crate) async fn remote<T: Send + 'static>(
        &self,
        verb: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.settle(self.0.config.long_timeout, verb).await
    }

    /// Starts work that drains with the server.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(work.in_current_span());
    }

    async fn settle<T: Send + 'static>(
        &self,
        within: Duration,
        verb: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(within, self.0.tasks.spawn(verb.in_current_span())).await {
            Ok(Ok(result)) => result.map_err(Problem::from),
            Ok(Err(broken)) => Err(Problem::internal(&broken)),
            Err(_) => Err(timeout(
                "the request takes long and goes on; whether it took effect is not known yet: read the state again, or repeat it",
            )),
        }
    }
}

fn timeout(detail: &'static str) -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
}
