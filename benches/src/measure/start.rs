//! Start-up and idle memory.

use std::time::Duration;

use super::Bench;
use crate::plan::Scenario;
use crate::server::Server;
use crate::setup::Place;

/// After it, a server without requests is idle.
const SETTLE: Duration = Duration::from_millis(500);

/// On nothing: an empty data directory, an empty database with its schema, and an empty store.
pub async fn fresh(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Start);
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.starts {
        let place = bench.setup.place().await?;
        started(&place, &mut starts, &mut idle).await?;
    }
    bench.sheet.add("start to first answer, nothing stored", "ms", starts);
    bench.sheet.add("idle server, nothing stored", "MiB", idle);
    Ok(())
}

/// On what is there.
pub async fn existing(bench: &mut Bench<'_>, place: &Place) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Start);
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.starts {
        started(place, &mut starts, &mut idle).await?;
    }
    bench.sheet.add("start to first answer, repository stored", "ms", starts);
    bench.sheet.add("idle server, repository stored", "MiB", idle);
    Ok(())
}

async fn started(place: &Place, starts: &mut Vec<f64>, idle: &mut Vec<f64>) -> anyhow::Result<()> {
    let server = Server::start(place).await?;
    starts.push(server.start.as_secs_f64() * 1000.0);
    tokio::time::sleep(SETTLE).await;
    idle.push(server.memory_mib("VmRSS")?);
    server.stop().await
}
