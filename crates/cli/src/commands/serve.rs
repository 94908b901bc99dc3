//! `treehold serve`

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::output;
use crate::serving::Serving;
use crate::settings::Settings;

/// Options of the command: all of them are options of every command.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Serves until SIGTERM or SIGINT. A second signal ends it at once.
pub async fn run(_args: &Args, settings: &Settings) -> Result<(), Failure> {
    // Before anything is opened: a signal from now on ends this program in order.
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut serving = tokio::select! {
        serving = Serving::start(settings) => serving?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    output::print(&format!("listening on http://{}", serving.address()))?;
    let broken = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = serving.broken() => Some(failure),
    };
    tracing::info!("stopping: requests at work are answered first; a second signal ends the server at once");
    let stopped = tokio::select! {
        stopped = serving.stop() => stopped,
        _ = terminate.recv() => Err(Failure::failed("stopped before all requests were answered")),
        _ = interrupt.recv() => Err(Failure::failed("stopped before all requests were answered")),
    };
    broken.map_or(stopped, Err)
}
