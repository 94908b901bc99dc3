//! What every request needs: the engine, the limits, the keys.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use treehold_engine::api::Scopes;
use treehold_engine::{Engine, EngineError, Limits, Secret};

use crate::admission::{self, Admission, AdmissionConfig};
use crate::auth::Keys;
use crate::error::Problem;
use crate::handlers::docs::Page;
use crate::heavy::Heavy;
use crate::meters::Meters;
use crate::rates::{RateLimits, Rates};
use crate::serve::ServeOptions;
use crate::tokens::Tokens;
use crate::traces::Traces;

pub(crate) use crate::admission::{Reserved, Room};

/// How the server behaves. `Default` holds sane values and no key: then every request that needs a key is refused.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys that are accepted, several for rotation. Empty ones are ignored.
    pub api_keys: Vec<Secret>,
    /// Keys that open all projects, and there what their scopes say.
    pub scoped_keys: Vec<(Secret, Scopes)>,
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
    /// Places, queues and memory, and how projects share them; over it 429 `too_many_requests` or 503 `busy`.
    pub admission: AdmissionConfig,
    /// Requests a minute; over it 429 `rate_limited`.
    pub rates: RateLimits,
    /// How connections are treated.
    pub connections: ServeOptions,
    /// Who traces requests; `None` = nobody.
    pub traces: Option<Arc<dyn Traces>>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            scoped_keys: Vec::new(),
            limits: Limits::default(),
            json_bytes: 256 << 20,
            request_timeout: Duration::from_secs(60),
            long_timeout: Duration::from_secs(30 * 60),
            body_idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(15 * 60),
            admission: AdmissionConfig::default(),
            rates: RateLimits::OFF,
            connections: ServeOptions::default(),
            traces: None,
        }
    }
}

/// How long who waits for memory looks away if none is given back.
const MEMORY_PAUSE: Duration = Duration::from_secs(1);

/// The state of the server; cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    config: ServerConfig,
    keys: Keys,
    tokens: Tokens,
    rates: Option<Rates>,
    admission: Admission,
    readiness: Mutex<Option<Readiness>>,
    tasks: TaskTracker,
    closing: CancellationToken,
    heavy: OnceLock<Heavy>,
    meters: Meters,
    document: OnceLock<Page>,
}

/// A check of database and store that is running, or ran last.
type Readiness = Shared<BoxFuture<'static, Result<(), Problem>>>;

impl App {
    /// Takes over the engine. The keys are kept as hashes only.
    pub fn new(engine: Engine, mut config: ServerConfig) -> Self {
        let keys = Keys::new(&config.api_keys, &config.scoped_keys);
        config.api_keys.clear();
        config.scoped_keys.clear();
        Self(Arc::new(Inner {
            engine,
            keys,
            tokens: Tokens::new(),
            rates: Rates::new(config.rates),
            admission: Admission::new(&config.admission),
            readiness: Mutex::new(None),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            heavy: OnceLock::new(),
            meters: Meters::new(crate::router::templates()),
            document: OnceLock::new(),
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

    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// What tokens open.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// What is counted, if anything is.
    pub(crate) fn rates(&self) -> Option<&Rates> {
        self.0.rates.as_ref()
    }

    /// Waits until the verbs that outlive their requests have ended. Call it after the last connection is closed.
    pub async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// No more is waited for on behalf of a caller: what has no end of its own ends.
    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }

    /// Comes to its end when the server is about to.
    pub(crate) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// Where heavy requests run.
    pub(crate) fn heavy(&self) -> &Heavy {
        self.0.heavy.get_or_init(Heavy::start)
    }

    /// `/openapi.json`, made when it is first asked for.
    pub(crate) fn document(&self) -> &Page {
        self.0.document.get_or_init(|| Page::json(&crate::router::document(&self.0.config)))
    }

    /// Sets memory aside for `bytes`.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved, Problem> {
        admission::reserve(&self.0.admission, None, bytes)
    }

    /// Whether a request can ever have `bytes`.
    pub(crate) fn could_reserve(&self, bytes: u64) -> Result<(), Problem> {
        admission::could_reserve(&self.0.admission, bytes)
    }

    /// Sets memory aside for `bytes` more.
    pub(crate) fn reserve_more(&self, memory: &mut Option<Reserved>, bytes: u64) -> Result<(), Problem> {
        let more = admission::reserve(&self.0.admission, memory.as_ref(), bytes)?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
        Ok(())
    }

    /// Memory for what a request turns out to need; each byte counts `factor` times. Given back when nobody has it any more.
    pub(crate) fn room(&self, factor: u64) -> Arc<Room> {
        admission::room(&self.0.admission, factor)
    }

    /// Runs a verb that reads contents: it is refused if there is no memory for its answer. What it took is kept for as long
    /// as the caller keeps the second part; each byte of content counts `factor` times.
    pub(crate) async fn reading_within<T, F>(
        &self,
        factor: u64,
        verb: impl FnOnce(Engine) -> F,
    ) -> Result<(T, Arc<Room>), Problem>
    where
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        let room = self.room(factor);
        let read = self.reading(verb(self.0.engine.within(room.clone()))).await;
        read.map(|read| (read, Arc::clone(&room))).map_err(|problem| room.explain(problem))
    }

    /// As `reserve`, but waits until there is some. The caller must not hold any, or it may wait for itself.
    pub(crate) async fn reserve_in_turn(&self, bytes: u64) -> Result<Reserved, Problem> {
        let until = Instant::now() + self.0.config.request_timeout;
        loop {
            let freed = admission::freed(&self.0.admission);
            match self.reserve(bytes) {
                Err(problem) if problem.passes() && Instant::now() < until => {
                    // A while without news: look again, and at the time.
                    _ = tokio::time::timeout(MEMORY_PAUSE, freed).await;
                }
                answer => return answer,
            }
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

    /// As `writing`, for a verb that reads contents on its way: it is refused if there is no memory for them.
    pub(crate) async fn writing_within<T, F>(&self, verb: impl FnOnce(Engine) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let room = self.room(1);
        let written = self.writing(verb(self.0.engine.within(room.clone()))).await;
        written.map_err(|problem| room.explain(problem))
    }

    /// As `writing`, where a remote takes part.
    pub(crate) async fn remote<T: Send + 'static>(
        &self,
        verb: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.settle(self.0.config.long_timeout, verb).await
    }

    /// Whether database and store answer. This is never refused; so that asking often costs no more, those who ask while a check
    /// is running share its answer.
    pub(crate) async fn ready(&self) -> Result<(), Problem> {
        let check = {
            let mut last = self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner);
            match last.as_ref().filter(|check| check.peek().is_none()) {
                Some(running) => running.clone(),
                None => {
                    let app = self.clone();
                    // A task of its own: whoever asked first may go away.
                    let check =
                        self.0.tasks.spawn(async move { app.reading(app.engine().ready()).await }.in_current_span());
                    let check = check.map(|ended| ended.unwrap_or_else(|broken| Err(Problem::internal(&broken))));
                    last.insert(check.boxed().shared()).clone()
                }
            }
        };
        check.await
    }

    /// Starts work that drains with the server, and keeps the request's place.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(admission::keeping(work).in_current_span());
    }

    async fn settle<T: Send + 'static>(
        &self,
        within: Duration,
        verb: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(within, self.0.tasks.spawn(admission::keeping(verb).in_current_span())).await {
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
