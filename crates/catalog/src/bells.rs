//! Who in this process waits for which feed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

/// The position of a feed that has ended with its project.
const GONE: i64 = i64::MAX;

/// Where the feeds that somebody follows are known to be.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    feeds: Mutex<HashMap<Uuid, watch::Sender<i64>>>,
}

impl Bells {
    fn feeds(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<i64>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn follow(self: &Arc<Self>, project: Uuid) -> Following {
        let heard = self.feeds().entry(project).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Following { project, bells: Arc::clone(self), heard }
    }

    /// The feed has events up to `position`.
    pub(crate) fn ring(&self, project: Uuid, position: i64) {
        if let Some(known) = self.feeds().get(&project) {
            known.send_if_modified(|known| {
                let news = position > *known;
                *known = position.max(*known);
                news
            });
        }
    }

    /// The project is gone. One of the same id that comes later has a feed of its own.
    pub(crate) fn gone(&self, project: Uuid) {
        if let Some(known) = self.feeds().remove(&project) {
            known.send_replace(GONE);
        }
    }

    /// The feeds that somebody follows.
    pub(crate) fn followed(&self) -> Vec<Uuid> {
        self.feeds().keys().copied().collect()
    }
}

/// Somebody who follows a feed.
#[derive(Debug)]
pub struct Following {
    project: Uuid,
    bells: Arc<Bells>,
    heard: watch::Receiver<i64>,
}

impl Following {
    /// Waits until the feed is known to have events after `position`, or to have ended. What was written between the reading of a
    /// position and this call is not missed, if the following began before the reading.
    pub async fn beyond(&mut self, position: i64) {
        // A bell that is gone has rung.
        let _ = self.heard.wait_for(|known| *known > position).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut feeds = self.bells.feeds();
        // The last one takes the bell down, if it is still the one that it listens to.
        if feeds.get(&self.project).is_some_and(|bell| bell.receiver_count() <= 1 && bell.same_channel_as(&self.heard))
        {
            feeds.remove(&self.project);
        }
    }
}

/// Whether a receiver listens to a sender.
trait SameChannel {
    fn same_channel_as(&self, heard: &watch::Receiver<i64>) -> bool;
}

impl SameChannel for watch::Sender<i64> {
    fn same_channel_as(&self, heard: &watch::Receiver<i64>) -> bool {
        self.subscribe().same_channel(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_is_heard_by_those_who_came_before_it_rang() {
        let bells = Arc::new(Bells::default());
        let project = Uuid::from_u128(1);
        let (mut one, mut two) = (bells.follow(project), bells.follow(project));
        bells.ring(Uuid::from_u128(2), 9);
        bells.ring(project, 5);
        bells.ring(project, 4);
        one.beyond(4).await;
        two.beyond(3).await;
        assert!(futures::poll!(std::pin::pin!(one.beyond(5))).is_pending());
        bells.gone(project);
        one.beyond(5).await;
        let mut again = bells.follow(project);
        assert!(futures::poll!(std::pin::pin!(again.beyond(0))).is_pending());
        drop((one, two));
        assert_eq!(bells.followed(), [project], "those of before take down only what was theirs");
        drop(again);
        assert!(bells.followed().is_empty());
    }
}
