//! A remote that drops requests and answers, applies pushes late or twice, cuts packs and answers with what was.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use treehold_engine::Remote;
use treehold_engine::remote::{Endpoint, FetchSpec, Fetching, PushSpec, Pushed, RemoteError, RemoteRefs};
use treehold_fault::{Faults, Moment};
use treehold_wire::Arrival;

use crate::gate::Gate;
use crate::world::Clock;

/// A decorator around a real remote.
#[derive(Debug)]
pub struct FaultyRemote {
    inner: Arc<dyn Remote>,
    gate: Arc<Gate>,
    spool_dir: PathBuf,
    /// Pushes whose sender gave up, and which arrive all the same.
    late: Mutex<Vec<(Endpoint, PushSpec)>>,
    /// What was answered before, and when that was so.
    before: Mutex<HashMap<Vec<String>, (RemoteRefs, i64)>>,
    clock: Arc<Clock>,
    /// So old such an answer may be when it is given once more.
    lag_ms: i64,
}

fn again(spec: &PushSpec, pack: PathBuf) -> PushSpec {
    PushSpec { name: spec.name.clone(), old: spec.old, new: spec.new, pack }
}

impl FaultyRemote {
    pub fn new(
        inner: Arc<dyn Remote>,
        gate: &Arc<Gate>,
        spool_dir: PathBuf,
        (clock, lag): (Arc<Clock>, Duration),
    ) -> FaultyRemote {
        let (gate, late, before) = (Arc::clone(gate), Mutex::default(), Mutex::default());
        let lag_ms = i64::try_from(lag.as_millis()).unwrap_or(i64::MAX);
        FaultyRemote { inner, gate, spool_dir, late, before, clock, lag_ms }
    }

    /// Pushes that are still on their way arrive.
    pub async fn arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().expect("a lock"));
        for (at, spec) in late {
            let pushed = self.inner.push(&at, &spec).await;
            self.gate.note(&format!("a late push of {}: {pushed:?}", spec.new));
        }
    }

    async fn really_push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        let _outside = self.gate.outside();
        self.inner.push(at, spec).await
    }

    /// All of a pack, or the first half of it.
    async fn whole(&self, mut fetching: Fetching, cut: bool) -> Result<Fetching, RemoteError> {
        let _outside = self.gate.outside();
        let mut len = 0;
        while let Some(bytes) = fetching.rest.try_next().await? {
            len = bytes;
        }
        let failed = || RemoteError::Failed("injected: the pack was cut".to_owned());
        if !cut {
            fetching.rest = futures::stream::iter([Ok(len)]).boxed();
            return Ok(fetching);
        }
        let content = std::fs::read(fetching.pack.path()).map_err(RemoteError::Spool)?;
        let mut pack = tempfile::NamedTempFile::new_in(&self.spool_dir).map_err(RemoteError::Spool)?;
        pack.write_all(&content[..content.len() / 2]).map_err(RemoteError::Spool)?;
        let arrival = Arc::<Arrival>::default();
        arrival.grown(content.len() as u64 / 2);
        arrival.cut();
        Ok(Fetching { pack, arrival, rest: futures::stream::iter([Err(failed())]).boxed(), ..fetching })
    }
}

#[async_trait]
impl Remote for FaultyRemote {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.inner.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.inner.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let lost = |lost: treehold_fault::Injected| RemoteError::Failed(lost.to_string());
        self.gate.decide("remote refs", Moment::Before).await.map_err(lost)?;
        let now = {
            let _outside = self.gate.outside();
            self.inner.refs(at, prefixes).await?
        };
        let seen = (now.clone(), self.clock.shows_ms());
        let before = self.before.lock().expect("a lock").insert(prefixes.to_vec(), seen);
        self.gate.decide("remote refs", Moment::After).await.map_err(|_| RemoteError::Timeout)?;
        let allowed = |seen_ms: i64| self.clock.shows_ms() - seen_ms < self.lag_ms;
        match before {
            Some((before, seen_ms)) if allowed(seen_ms) && self.gate.roll(5) => Ok(before),
            _ => Ok(now),
        }
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        let lost = |lost: treehold_fault::Injected| RemoteError::Failed(lost.to_string());
        self.gate.decide("remote fetch", Moment::Before).await.map_err(lost)?;
        let fetching = {
            let _outside = self.gate.outside();
            self.inner.fetch(at, spec).await?
        };
        let fetching = self.whole(fetching, self.gate.roll(5)).await?;
        self.gate.decide("remote fetch", Moment::After).await.map_err(lost)?;
        Ok(fetching)
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        if let Err(lost) = self.gate.decide("remote push", Moment::Before).await {
            if self.gate.roll(30) {
                return Pushed::Unreachable(lost.to_string());
            }
            if self.gate.roll(50) {
                let copy = self.spool_dir.join(format!("late-{}", uuid::Uuid::new_v4()));
                std::fs::copy(&spec.pack, &copy).expect("a copy");
                self.late.lock().expect("a lock").push((at.clone(), again(spec, copy)));
            }
            return Pushed::Unknown(lost.to_string());
        }
        let mut pushed = self.really_push(at, spec).await;
        if self.gate.roll(5) {
            // A proxy sends it once more and passes on the second answer.
            pushed = self.really_push(at, spec).await;
        }
        match self.gate.decide("remote push", Moment::After).await {
            Ok(()) => pushed,
            Err(lost) => Pushed::Unknown(lost.to_string()),
        }
    }
}
