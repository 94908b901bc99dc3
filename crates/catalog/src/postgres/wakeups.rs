//! Telling other instances of events, and hearing of theirs.
//!
//! A NOTIFY takes a lock of the whole database while its transaction commits. So writers do not notify: one task of each instance says
//! afterwards, in a transaction of its own, where the feeds have got to, and gathers what comes while it pauses. Since that
//! may be lost with its process, and so may be what comes while nobody listens, one task of each instance also looks, once a second,
//! at all feeds that are followed in it. Nobody who waits holds a connection.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::*;
use crate::fault::Fault;
use crate::rows::sql;

/// Where positions are told, as `ID:POSITION …`, both in hex.
const CHANNEL: &str = "treehold_feed";
/// Positions in one payload, which must be shorter than 8,000 bytes.
const TOLD_MAX: usize = 150;
/// Between two payloads.
const TELL_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at the feeds that are followed.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Looks in a row that found nobody who follows anything, until listening ends.
const IDLE_LOOKS: u32 = 60;
/// After the connection was lost.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What waits to be told, and whether tasks are at it.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    untold: HashMap<Uuid, i64>,
    telling: bool,
    listening: bool,
}

impl Wakeups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to tell next. None: the task that asks ends, and is counted out in the same moment.
    fn next(&self) -> Option<String> {
        let mut state = self.state();
        let some: Vec<Uuid> = state.untold.keys().take(TOLD_MAX).copied().collect();
        state.telling = !some.is_empty();
        let told = some.into_iter().filter_map(|id| Some((id, state.untold.remove(&id)?)));
        let told = told.map(|(id, last)| format!("{}:{last:x}", id.simple())).collect::<Vec<_>>();
        (!told.is_empty()).then(|| told.join(" "))
    }
}

/// What [`Wakeups::next`] put together; what does not read is left out.
fn told(payload: &str) -> impl Iterator<Item = (Uuid, i64)> {
    payload.split(' ').filter_map(|item| {
        let (id, last) = item.split_once(':')?;
        Some((Uuid::try_parse(id).ok()?, i64::from_str_radix(last, 16).ok()?))
    })
}

impl Db {
    /// Tells other instances where feeds have got to; `i64::MAX` = they are gone.
    pub(super) fn announce(&self, positions: &[(Uuid, i64)]) {
        if positions.is_empty() {
            return;
        }
        let start = {
            let mut state = self.wakeups().state();
            for (project, last) in positions {
                let untold = state.untold.entry(*project).or_default();
                *untold = (*untold).max(*last);
            }
            !std::mem::replace(&mut state.telling, true)
        };
        if start {
            let catalog = self.clone();
            tokio::spawn(async move { catalog.tell_others().await });
        }
    }

    async fn tell_others(self) {
        while let Some(payload) = self.wakeups().next() {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
            if let Err(error) = notify.execute(self.writer()).await {
                tracing::debug!(%error, "other instances were not told of events; they look by themselves");
            }
            sleep(TELL_PAUSE).await;
        }
    }

    /// Begins to listen for what other instances tell, unless somebody does.
    pub(super) fn listen(&self) {
        if !std::mem::replace(&mut self.wakeups().state().listening, true) {
            let catalog = self.clone();
            tokio::spawn(async move { catalog.look_and_listen().await });
        }
    }

    async fn look_and_listen(self) {
        let hearing = tokio::spawn(self.clone().hear());
        let mut ticks = interval(LOOK_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            ticks.tick().await;
            let followed = self.bells().followed();
            idle = if followed.is_empty() { idle + 1 } else { 0 };
            {
                // Whoever follows from now on finds that nobody listens.
                let mut state = self.wakeups().state();
                if self.reader().is_closed() || (idle > IDLE_LOOKS && self.bells().followed().is_empty()) {
                    state.listening = false;
                    break;
                }
            }
            if let Err(fault) = self.look(&followed).await {
                tracing::debug!(?fault, "the feeds could not be looked at");
            }
        }
        hearing.abort();
    }

    /// Looks where the feeds are.
    async fn look(&self, followed: &[Uuid]) -> Result<(), Fault> {
        for chunk in followed.chunks(CHUNK_ROWS) {
            let ends: Vec<(Uuid, i64)> = sqlx::query_as(sql!(
                "SELECT p.id, coalesce(f.last, 0) FROM projects p LEFT JOIN feeds f ON f.project = p.id WHERE p.id {}",
                in_uuids(1)
            ))
            .bind(uuids(chunk.iter().copied()))
            .fetch_all(self.reader())
            .await?;
            let ends: HashMap<Uuid, i64> = ends.into_iter().collect();
            for project in chunk {
                match ends.get(project) {
                    Some(last) => self.bells().ring(*project, *last),
                    None => self.bells().gone(*project),
                }
            }
        }
        Ok(())
    }

    /// Listens on one connection, beside those of the pool.
    async fn hear(self) {
        loop {
            if let Err(error) = self.hear_until_lost().await {
                tracing::debug!(%error, "the connection that listens for events was lost");
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    async fn hear_until_lost(&self) -> Result<(), sqlx::Error> {
        let options: PgConnectOptions = (*self.reader().connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // None: it was lost, and is made again. What was told meanwhile is found by the next look.
            let Some(heard) = listener.try_recv().await? else { continue };
            for (project, last) in told(heard.payload()) {
                match last {
                    i64::MAX => self.bells().gone(project),
                    last => self.bells().ring(project, last),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back_and_are_short() {
        let wakeups = Wakeups::default();
        let all: HashMap<Uuid, i64> = (0..400).map(|n| (Uuid::from_u128(n), i64::MAX - n as i64)).collect();
        wakeups.state().untold = all.clone();
        let mut back = HashMap::new();
        while let Some(payload) = wakeups.next() {
            assert!(payload.len() < 8_000);
            back.extend(told(&payload));
        }
        assert_eq!(back, all);
        assert!(!wakeups.state().telling);
        assert_eq!(told("x 1:2 :3").collect::<Vec<_>>(), []);
    }
}
