//! A running server: HTTP, housekeeping and the control socket over one engine. `serve` and the quickstart start the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use treehold_engine::Secret;
use treehold_server::{App, ServeOptions, ServerConfig, Traces};

use crate::control::server::Control;
use crate::failure::Failure;
use crate::files;
use crate::home::{Home, Lock};
use crate::open::{self, Opened, Schema};
use crate::settings::Settings;
use crate::traces::Requests;

/// Pause between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// After something was stored, how long a sweep waits for more: one for many writes, and none beside an answer.
const SWEEP_AFTER: Duration = Duration::from_millis(500);
/// After a collection that failed the next one waits for so long, unless collections are more frequent.
const COLLECT_AGAIN: Duration = Duration::from_secs(3600);
/// Between two looks whether a collection is due, at most.
const LOOK: Duration = Duration::from_secs(60);
/// How long after its start a server first looks whether a manifest is due, and how often from then on, at most.
const FIRST_MANIFEST: Duration = Duration::from_secs(600);
const MANIFEST_LOOK: Duration = Duration::from_secs(60);
/// How long `serve` waits for a command or a stopping server to give the data directory up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long requests at work may take after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(25);

/// Shorter keys are worth a warning, characters.
const KEY_LENGTH_MIN: usize = 32;

/// A running server.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    key: Secret,
    opened: Arc<Opened>,
    stop: CancellationToken,
    http: JoinHandle<Result<(), Failure>>,
    housekeeping: JoinHandle<()>,
    collecting: JoinHandle<()>,
    manifests: JoinHandle<()>,
    control: Option<JoinHandle<()>>,
}

impl Serving {
    /// Opens everything and answers from now on. Nothing here takes time in proportion to what is stored.
    pub async fn start(settings: &Settings) -> Result<Self, Failure> {
        // What is refused is refused before anything is made.
        let addresses = addresses(settings).await?;
        let home = &Home::open(&settings.data_dir)?;
        let keys = keys(settings, home)?;
        home.warn_if_open();
        let locks = own(settings, home).await?;
        let opened = Arc::new(open::open(settings, home, locks, Schema::Migrate).await?);
        let ((), checked) = tokio::join!(opened.engine.warm(), opened.check_ledger());
        checked?;
        opened.check_store().await?;
        let listener = TcpListener::bind(&addresses[..]).await.map_err(|error| {
            Failure::failed(format!("cannot listen on {}: {error}; choose another with --listen", settings.listen))
        })?;
        let address = listener.local_addr().map_err(|error| Failure::failed(format!("cannot listen: {error}")))?;
        let stop = CancellationToken::new();
        let key = keys[0].clone();
        let config = configured(settings, keys);
        let app = App::new(opened.engine.clone(), config);
        let control = match settings.embedded() {
            true => Some(tokio::spawn(Control::bind(home)?.serve(opened.clone(), app.clone(), stop.clone()))),
            false => None,
        };
        let http = tokio::spawn(answer(listener, app, stop.clone()));
        let probe = settings.store_url.starts_with("s3://");
        let housekeeping = tokio::spawn(housekeep(opened.clone(), probe, stop.clone()));
        let collecting = tokio::spawn(collect(opened.clone(), settings.gc_interval, stop.clone()));
        let interval = Duration::from_secs(settings.manifest_interval_s);
        let manifests = tokio::spawn(write_manifests(opened.clone(), interval, stop.clone()));
        Ok(Self { address, key, opened, stop, http, housekeeping, collecting, manifests, control })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A key that opens the API.
    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// Its engine.
    pub fn opened(&self) -> Arc<Opened> {
        self.opened.clone()
    }

    /// Ends only if the server ends without having been told to.
    pub async fn broken(&mut self) -> Failure {
        match (&mut self.http).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => Failure::failed("the server stopped by itself"),
            Err(error) => Failure::failed("the server broke").because(error),
        }
    }

    /// Answers what is at work, then stops.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = if self.http.is_finished() { None } else { Some((&mut self.http).await) };
        if let Some(control) = self.control.take() {
            let _ended = control.await;
        }
        let _ended = self.housekeeping.await;
        let _ended = self.collecting.await;
        let _ended = self.manifests.await;
        match ended {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(failure))) => Err(failure),
            Some(Err(error)) => Err(Failure::failed("the server broke").because(error)),
        }
    }
}

/// How a server behaves with these settings.
pub fn configured(settings: &Settings, keys: Vec<Secret>) -> ServerConfig {
    let connections = settings.load.connections.min(files::connections_max());
    if connections < settings.load.connections {
        tracing::warn!(connections, "the limit of open files allows no more connections; raise it (ulimit -n)");
    }
    ServerConfig {
        api_keys: keys,
        scoped_keys: settings.scoped_keys.clone(),
        limits: settings.limits.clone(),
        json_bytes: settings.load.json_bytes,
        admission: settings.load.admission.clone(),
        rates: settings.load.rates,
        connections: ServeOptions { connections_max: connections, ..ServeOptions::default() },
        traces: settings.traces.as_ref().map(|_| Arc::new(Requests) as Arc<dyn Traces>),
        ..ServerConfig::default()
    }
}

async fn addresses(settings: &Settings) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host(&settings.listen).await.map(Iterator::collect::<Vec<_>>);
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        _ => {
            let text = "must be an address and a port, such as 127.0.0.1:3001, not";
            return Err(Failure::usage(format!("`listen` {text} `{}`", settings.listen)));
        }
    };
    if settings.api_keys.is_empty() && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(Failure::usage(format!(
            "listening on {} without a key would let anybody in: set --api-key (TREEHOLD_API_KEY), or listen on 127.0.0.1",
            settings.listen
        )));
    }
    Ok(addresses)
}

/// The configured keys, else (on loopback only) the one that is kept in the data directory.
fn keys(settings: &Settings, home: &Home) -> Result<Vec<Secret>, Failure> {
    if settings.api_keys.is_empty() {
        return home.api_key().map(|key| vec![key]);
    }
    if settings.api_keys.iter().any(|key| key.expose().len() < KEY_LENGTH_MIN) {
        tracing::warn!("an API key has fewer than {KEY_LENGTH_MIN} characters: it may be guessed");
    }
    Ok(settings.api_keys.clone())
}

/// The locks of the embedded database, once a command that has them is done.
async fn own(settings: &Settings, home: &Home) -> Result<Vec<Lock>, Failure> {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(locks) = open::own(settings, home)? {
            return Ok(locks);
        }
        let server = crate::control::client::connect(home).await?.is_some();
        if server || began.elapsed() >= PATIENCE {
            return Err(home.busy());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn answer(listener: TcpListener, app: App, stop: CancellationToken) -> Result<(), Failure> {
    treehold_server::serve(listener, app, stop.cancelled_owned(), DRAIN)
        .await
        .map_err(|error| Failure::failed("the server could not go on").because(error))
}

/// Works in a task of its own: should a round break, the next one still comes. It is a trace of this name. `None` = the server stops.
async fn round<T: Send + 'static>(
    name: &'static str,
    stop: &CancellationToken,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<Result<T, JoinError>> {
    let mut round = tokio::spawn(work.instrument(treehold_calls::span::root(name)));
    tokio::select! {
        () = stop.cancelled() => {
            round.abort();
            None
        }
        ended = &mut round => Some(ended),
    }
}

/// Waits so long; `false`: the server stops first.
async fn passes(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Writes a manifest whenever the last one, whoever wrote it, is older than `interval`; never if that is zero.
async fn write_manifests(opened: Arc<Opened>, interval: Duration, stop: CancellationToken) {
    if interval.is_zero() {
        return;
    }
    let mut pause = interval.min(FIRST_MANIFEST);
    while passes(pause, &stop).await {
        pause = interval.min(MANIFEST_LOOK);
        let engine = opened.engine.clone();
        let Some(ended) = round("manifest", &stop, async move {
            let age_ms = engine.manifest_age_ms().await?;
            let young =
                age_ms.and_then(|age| u64::try_from(age).ok()).is_some_and(|age| Duration::from_millis(age) < interval);
            if young { Ok(None) } else { engine.write_manifest(&()).await }
        })
        .await
        else {
            return;
        };
        match ended {
            Ok(Ok(Some(report))) => {
                tracing::info!(commit = %report.commit, objects = report.objects, "a manifest was written")
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(code = error.code(), cause = ?error, "no manifest was written: {error}"),
            Err(error) => tracing::error!(%error, "writing a manifest broke"),
        }
    }
}

/// A round at start and every 30 s: settles unfinished attempts, removes what never became live. The latter also soon after
/// something was stored, so that content which was there already takes its room twice for a moment only.
async fn housekeep(opened: Arc<Opened>, probe: bool, stop: CancellationToken) {
    if probe {
        tokio::select! {
            () = stop.cancelled() => return,
            () = opened.probe() => {}
        }
    }
    opened.compare_clocks().await;
    let mut due = tokio::time::Instant::now();
    loop {
        let now = tokio::time::Instant::now();
        let whole = now >= due;
        if whole {
            due = now + HOUSEKEEPING;
        }
        let engine = opened.engine.clone();
        let work = async move { if whole { engine.housekeep().await } else { engine.sweep().await } };
        let Some(ended) = round(if whole { "housekeep" } else { "sweep" }, &stop, work).await else { return };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(code = error.code(), cause = ?error, "housekeeping did not finish: {error}");
            }
            Err(error) => tracing::error!(%error, "housekeeping broke"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => {}
            () = opened.engine.stored() => {
                if !passes(SWEEP_AFTER, &stop).await {
                    return;
                }
            }
        }
    }
}

/// Collects garbage whenever the last collection, by whichever server, is longer ago than `interval`.
async fn collect(opened: Arc<Opened>, interval: Duration, stop: CancellationToken) {
    if interval.is_zero() {
        return;
    }
    let mut pause = interval.min(LOOK);
    while passes(pause, &stop).await {
        pause = interval.min(LOOK);
        let engine = opened.engine.clone();
        let Some(ended) = round("gc", &stop, async move { engine.gc_if_due(interval).await }).await else { return };
        match ended {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(report))) => {
                let (condemned, collected, deleted) = (report.condemned, report.collected, report.deleted_keys);
                tracing::info!(condemned, collected, deleted, "garbage was collected");
            }
            Ok(Err(error)) => {
                pause = interval.min(COLLECT_AGAIN);
                tracing::error!(code = error.code(), cause = ?error, "garbage was not collected: {error}");
            }
            Err(error) => {
                pause = interval.min(COLLECT_AGAIN);
                tracing::error!(%error, "the collection broke");
            }
        }
    }
}
