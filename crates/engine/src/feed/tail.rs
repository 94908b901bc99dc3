//! The end of a project's feed, read once for all who have caught up with it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use treehold_catalog::{Catalog, Event, FeedRead, Told};
use uuid::Uuid;

use crate::view::no_project;
use crate::{EngineError, Result};

/// Events read at once.
const READ: u32 = 500;
/// Events kept for those who come a moment later, and their bytes.
const KEPT: usize = 1_000;
const KEPT_BYTES: usize = 256 << 10;

/// The ends of the feeds that somebody reads.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<Uuid, Weak<Tail>>>);

impl Tails {
    pub(crate) fn of(&self, project: Uuid) -> Arc<Tail> {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tails.retain(|_, tail| tail.strong_count() > 0);
        let slot = tails.entry(project).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let tail = Arc::new(Tail { project, recent: tokio::sync::Mutex::default() });
            *slot = Arc::downgrade(&tail);
            tail
        })
    }
}

/// The end of a feed.
#[derive(Debug)]
pub(crate) struct Tail {
    project: Uuid,
    recent: tokio::sync::Mutex<Recent>,
}

/// What a reader is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub events: Vec<Event>,
    /// Where it is then.
    pub position: i64,
    /// Where the feed ended.
    pub last: i64,
}

/// All events after `from`, up to `to`.
#[derive(Debug, Default)]
struct Recent {
    from: i64,
    to: i64,
    last: i64,
    events: VecDeque<Event>,
    bytes: usize,
}

impl Tail {
    /// Up to `limit` events after a position, those of other users' pending work left out.
    pub(crate) async fn after(
        &self,
        catalog: &dyn Catalog,
        position: i64,
        user: Option<Uuid>,
        limit: usize,
    ) -> Result<Read> {
        {
            // Who comes while another one reads waits, and then has what that one has read.
            let mut recent = self.recent.lock().await;
            if position >= recent.to {
                let page = self.read(catalog, position, None, READ as usize).await?;
                if position != recent.to {
                    *recent = Recent { from: position, to: position, ..Recent::default() };
                }
                recent.append(page);
            }
            if position >= recent.from {
                return Ok(recent.after(position, user, limit));
            }
        }
        // Behind all others, in a past of its own.
        self.read(catalog, position, user, limit).await
    }

    async fn read(&self, catalog: &dyn Catalog, after: i64, user: Option<Uuid>, limit: usize) -> Result<Read> {
        match catalog.events(self.project, after, user, u32::try_from(limit).unwrap_or(u32::MAX)).await? {
            None => Err(no_project()),
            Some(FeedRead::Expired) => Err(EngineError::CursorExpired),
            Some(FeedRead::Page(page)) => Ok(Read { events: page.events, position: page.position, last: page.last }),
        }
    }
}

impl Recent {
    fn append(&mut self, read: Read) {
        (self.to, self.last) = (read.position, read.last);
        for event in read.events {
            self.bytes += size(&event);
            self.events.push_back(event);
        }
        while self.events.len() > KEPT || (self.bytes > KEPT_BYTES && self.events.len() > READ as usize) {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.from = oldest.seq;
        }
    }

    fn after(&self, position: i64, user: Option<Uuid>, limit: usize) -> Read {
        let start = self.events.partition_point(|event| event.seq <= position);
        let wanted = self.events.iter().skip(start).filter(|event| concerns(&event.told, user));
        let events: Vec<Event> = wanted.take(limit).cloned().collect();
        let position = match events.last() {
            Some(event) if events.len() == limit => event.seq,
            _ => self.to,
        };
        Read { events, position, last: self.last }
    }
}

/// Whether a reader is to see it who wants of pending work only what is `user`'s.
fn concerns(told: &Told, user: Option<Uuid>) -> bool {
    match (told, user) {
        (Told::Pending { user: theirs, .. }, Some(user)) => *theirs == user,
        _ => true,
    }
}

/// Memory, bytes, roughly.
fn size(event: &Event) -> usize {
    let text = match &event.told {
        Told::Pending { branch, path, origin, .. } => {
            let parts = [&origin.device, &origin.actor, &origin.session];
            branch.len() + path.len() + parts.into_iter().flatten().map(String::len).sum::<usize>()
        }
        Told::Ref { name, reason, .. } => name.len() + reason.len(),
        Told::Sync { branch, .. } | Told::Push { branch, .. } => branch.len(),
    };
    size_of::<Event>() + text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, user: Option<u128>) -> Event {
        let (branch, from, to) = ("main".to_owned(), None, None);
        let told = match user {
            None => Told::Sync { branch, from, to },
            Some(user) => Told::Pending {
                user: Uuid::from_u128(user),
                branch,
                path: "p".repeat(1000).into(),
                event: treehold_catalog::PendingEvent::Dropped,
                mode: 0,
                oid: None,
                base_oid: None,
                revision: seq,
                origin: treehold_catalog::Origin::default(),
            },
        };
        Event { seq, at_ms: 0, told }
    }

    fn seqs(read: &Read) -> Vec<i64> {
        read.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn readers_of_one_user_go_past_the_others() {
        let mut recent = Recent { from: 10, to: 10, ..Recent::default() };
        let events = vec![event(11, Some(1)), event(12, Some(2)), event(13, None), event(14, Some(2))];
        recent.append(Read { events, position: 14, last: 20 });
        let all = recent.after(10, None, 9);
        assert_eq!((seqs(&all), all.position, all.last), (vec![11, 12, 13, 14], 14, 20));
        let one = recent.after(10, Some(Uuid::from_u128(1)), 9);
        assert_eq!((seqs(&one), one.position), (vec![11, 13], 14));
        let cut = recent.after(10, Some(Uuid::from_u128(1)), 2);
        assert_eq!((seqs(&cut), cut.position), (vec![11, 13], 13));
        assert_eq!(seqs(&recent.after(14, None, 9)), Vec::<i64>::new());
    }

    #[test]
    fn what_is_kept_is_bounded_and_has_no_gap() {
        let mut recent = Recent::default();
        for start in (0..5_000).step_by(500) {
            let events = (start..start + 500).map(|seq| event(seq + 1, Some(1))).collect();
            recent.append(Read { events, position: start + 500, last: 5_000 });
            assert!(recent.events.len() <= KEPT);
            assert_eq!(recent.from + 1, recent.events.front().expect("events").seq);
            assert_eq!(recent.to, recent.events.back().expect("events").seq);
            assert_eq!(recent.bytes, recent.events.iter().map(size).sum::<usize>());
        }
        assert_eq!(recent.events.len(), 500, "large ones are kept as long as those who read with us need them");
    }
}
