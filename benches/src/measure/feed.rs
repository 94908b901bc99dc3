//! From an edit on one device to the event on another one's stream.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::{Method, Response};
use serde_json::Value;
use uuid::Uuid;

use super::autosave::{SAVE, save};
use super::{Bench, PROJECT};
use crate::plan::Scenario;
use crate::report::Who;
use crate::server::{Http, Server};
use crate::setup::Place;

/// An event that takes longer fails the run.
const PATIENCE: Duration = Duration::from_secs(30);

/// On the server that takes the edit; with a shared database also on another one.
pub async fn all(bench: &mut Bench<'_>, place: &Place, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Feed);
    let near = runs(bench, http, http).await?;
    bench.sheet.add_times(Who::Treehold, "edit to event, the same server", &near).at_most(100.0);
    if bench.setup.cluster.is_none() {
        return Ok(());
    }
    let instance = bench.setup.instance(place)?;
    let other = Server::start(&instance).await?;
    let far = runs(bench, http, other.http()).await?;
    bench.sheet.add_times(Who::Treehold, "edit to event, another server", &far).at_most(1_000.0);
    other.stop().await
}

/// One edit after the other, each waited for: from sending the request to the event on the stream.
async fn runs(bench: &mut Bench<'_>, edits: &Http, reader: &Http) -> anyhow::Result<Vec<Vec<Duration>>> {
    let user = Uuid::new_v4();
    let mut stream = Stream::open(reader, user).await?;
    let mut all = Vec::new();
    for run in 0..bench.plan.runs {
        let mut times = Vec::new();
        for nth in 0..bench.plan.singles {
            let (path, content) = (format!("feed/{run}-{nth}.txt"), bench.chance.content(SAVE));
            let started = Instant::now();
            let saved = save(edits, PROJECT, user, &path, &content);
            let (saved, event) = futures::future::join(saved, stream.pending()).await;
            let (event, at) = event?;
            ensure!(event["path"] == path.as_str() && event["oid"] == saved?.0["oid"], "another event: {event}");
            times.push(at - started);
        }
        all.push(times);
    }
    Ok(all)
}

/// Server-sent events.
struct Stream {
    response: Response,
    unread: String,
}

impl Stream {
    /// From now on. The first bytes of the answer say that it follows.
    async fn open(http: &Http, user: Uuid) -> anyhow::Result<Self> {
        let request = http.request(Method::GET, &format!("/projects/{PROJECT}/changes?user={user}"));
        let response = request.header("Accept", "text/event-stream").send().await.context("no stream")?;
        ensure!(response.status() == 200, "no stream: {}", response.status());
        Ok(Self { response, unread: String::new() })
    }

    /// The next event of pending work, and when it was there.
    async fn pending(&mut self) -> anyhow::Result<(Value, Instant)> {
        loop {
            while let Some((event, rest)) = self.unread.split_once("\n\n") {
                let is_pending = event.lines().any(|line| line == "event: pending");
                let data = event.lines().find_map(|line| line.strip_prefix("data:")).map(str::to_owned);
                self.unread = rest.to_owned();
                if is_pending {
                    return Ok((serde_json::from_str(&data.context("an event without data")?)?, Instant::now()));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.context("no event came")??;
            self.unread.push_str(std::str::from_utf8(&chunk.context("the stream ended")?)?);
        }
    }
}
