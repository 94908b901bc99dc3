//! Start-up and idle memory.

use std::time::Duration;

use crate::plan::Plan;
use crate::report::Sheet;
use crate::server::Server;
use crate::setup::{Place, Setup};

/// After it, a server without requests is idle.
const SETTLE: Duration = Duration::from_millis(500);

/// On nothing: an empty data directory, schema and prefix each time.
pub async fn fresh(setup: &Setup, plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..plan.starts {
        let place = setup.place().await?;
        started(Server::start(&place).await?, &mut starts, &mut idle).await?.stop().await?;
    }
    sheet.add("start to first answer, nothing stored", "ms", starts);
    sheet.add("idle server, nothing stored", "MiB", idle);
    Ok(())
}

/// On what is there. The last server goes on.
pub async fn existing(place: &Place, plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<Server> {
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 1..plan.starts {
        started(Server::start(place).await?, &mut starts, &mut idle).await?.stop().await?;
    }
    let last = started(Server::start(place).await?, &mut starts, &mut idle).await?;
    sheet.add("start to first answer, repository stored", "ms", starts);
    sheet.add("idle server, repository stored", "MiB", idle);
    Ok(last)
}

async fn started(server: Server, starts: &mut Vec<f64>, idle: &mut Vec<f64>) -> anyhow::Result<Server> {
    starts.push(server.start.as_secs_f64() * 1000.0);
    tokio::time::sleep(SETTLE).await;
    idle.push(server.memory_mib("VmRSS")?);
    Ok(server)
}
