//! The change feed: where a reader is, and what comes after.
//!
//! A reader holds a position and nothing else, however slow it is. Those that have caught up with a project's feed read on together
//! (`tail`), so that an event costs one query for each instance, whatever the number of readers.

mod tail;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use treehold_catalog::{Action, Event, Following, PendingEvent, PushOutcome, Told};
use uuid::Uuid;

use crate::api::{ChangeEvent, ChangePage, EventAction, EventView, Mode, Oid, Path};
use crate::text::rfc3339;
use crate::view::no_project;
use crate::{Engine, EngineError, Result};

use tail::Tail;
pub(crate) use tail::Tails;

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;
/// What a cursor begins with.
const CURSOR_VERSION: u8 = 1;
/// Events removed from a project in one transaction, for which its writers wait.
const TRIMMED: u32 = 2_000;
/// Rounds of trimming in one go.
const TRIM_ROUNDS: u32 = 200;
/// Between two trimmings, milliseconds.
const TRIM_INTERVAL_MS: i64 = 5 * 60_000;

/// How long events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedRetention {
    /// For so long.
    pub age: Duration,
    /// But no more than so many of a project.
    pub events: u64,
}

impl Default for FeedRetention {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 3600), events: 100_000 }
    }
}

/// A reader of a project's feed.
#[derive(Debug)]
pub struct Feed {
    engine: Engine,
    project: Uuid,
    user: Option<Uuid>,
    position: i64,
    /// There was more behind the last page.
    more: bool,
    tail: std::sync::Arc<Tail>,
    following: Following,
}

impl Engine {
    /// A reader of a project's feed that goes on after the cursor `since`, from the oldest event that is kept (`0` or `start`), or
    /// from now on. `user`: of pending work, only this user's.
    ///
    /// `bad_cursor` if the cursor is none of this project's. Whether its events are still kept is seen when they are read.
    pub async fn feed(&self, project: &str, since: Option<&str>, user: Option<Uuid>) -> Result<Feed> {
        let project = self.find_project(project).await?.id;
        // Before anything is read, so that nothing is missed after it.
        let following = self.catalog.follow(project);
        let position = match since {
            Some("0" | "start") => self.catalog.feed_ends(project).await?.ok_or_else(no_project)?.floor,
            Some(cursor) => read_cursor(project, cursor)?,
            None => self.catalog.feed_ends(project).await?.ok_or_else(no_project)?.last,
        };
        let tail = self.tails.of(project);
        Ok(Feed { engine: self.clone(), project, user, position, more: true, tail, following })
    }

    /// Removes events that are older than they are kept, now and then.
    pub(crate) async fn trim_feeds(&self) -> Result<()> {
        let now_ms = self.ambient.now_ms();
        if !self.chores.trim_is_due(now_ms, TRIM_INTERVAL_MS) {
            return Ok(());
        }
        let FeedRetention { age, events } = self.config.feed;
        let before_ms = self.ago_ms(age);
        for _ in 0..TRIM_ROUNDS {
            if self.catalog.trim_events(before_ms, events, TRIMMED).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Feed {
    /// What comes after the position, at most `limit` events, and goes on behind it.
    ///
    /// `cursor_expired` if some of it is gone; `project_not_found` if the project is.
    pub async fn page(&mut self, limit: Option<usize>) -> Result<ChangePage> {
        let limit = limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let read = self.tail.after(&*self.engine.catalog, self.position, self.user, limit).await?;
        (self.position, self.more) = (read.position, read.position < read.last);
        Ok(ChangePage {
            events: read.events.into_iter().map(|event| self.view(event)).collect(),
            next_cursor: self.cursor(),
            more: self.more,
        })
    }

    /// Waits until there may be more: at once if there is already, and then until some instance has written to the feed, or the
    /// project is gone. Nothing is held meanwhile.
    pub async fn news(&mut self) {
        if !self.more {
            self.following.beyond(self.position).await;
        }
    }

    /// Where the reader is.
    pub fn cursor(&self) -> String {
        write_cursor(self.project, self.position)
    }

    fn view(&self, event: Event) -> ChangeEvent {
        ChangeEvent {
            cursor: write_cursor(self.project, event.seq),
            at: rfc3339(event.at_ms),
            told: told_view(event.told),
        }
    }
}

fn told_view(told: Told) -> EventView {
    match told {
        Told::Pending { user, branch, path, event, mode, oid, base_oid, revision, origin } => EventView::Pending {
            user,
            branch,
            path: Path(path),
            action: match event {
                PendingEvent::Set(Action::Modified) => EventAction::Modified,
                PendingEvent::Set(Action::Created) => EventAction::Created,
                PendingEvent::Set(Action::Deleted) => EventAction::Deleted,
                PendingEvent::Dropped => EventAction::Dropped,
                PendingEvent::Committed => EventAction::Committed,
            },
            mode: (mode != 0).then_some(Mode(mode)),
            oid: oid.map(Oid),
            base_oid: base_oid.map(Oid),
            revision,
            origin: origin.into(),
        },
        Told::Ref { name, from, to, reason } => {
            // What the reflog tells apart, callers need not.
            let reason = match reason.as_str() {
                "merge" => "sync".to_owned(),
                "update" | "delete" | "promote" => "api".to_owned(),
                _ => reason,
            };
            EventView::Ref { name, from: from.map(Oid), to: to.map(Oid), reason }
        }
        Told::Sync { branch, from, to } => EventView::Sync { branch, from: from.map(Oid), to: to.map(Oid) },
        Told::Push { branch, attempt, commit, user, outcome } => EventView::Push {
            branch,
            attempt,
            commit: Oid(commit),
            user,
            outcome: match outcome {
                PushOutcome::Pushed => "pushed",
                PushOutcome::Rejected => "rejected",
                PushOutcome::Paused => "paused",
                PushOutcome::Superseded => "superseded",
            },
        },
    }
}

/// A position: a version, the project, and the number of the last event before it.
fn write_cursor(project: Uuid, position: i64) -> String {
    let mut bytes = [CURSOR_VERSION; 25];
    bytes[1..17].copy_from_slice(project.as_bytes());
    bytes[17..].copy_from_slice(&position.to_be_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(project: Uuid, text: &str) -> Result<i64> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 25]>::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| bytes[0] == CURSOR_VERSION && bytes[1..17] == *project.as_bytes());
    let position = bytes.and_then(|bytes| bytes[17..].try_into().ok()).map(i64::from_be_bytes);
    position.filter(|position| *position >= 0).ok_or(EngineError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_to_their_project_alone() {
        let (project, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        for position in [0, 1, 1_750_000_000_000, i64::MAX] {
            let cursor = write_cursor(project, position);
            assert_eq!(read_cursor(project, &cursor).unwrap(), position);
            assert_eq!(read_cursor(other, &cursor).unwrap_err().code(), "bad_cursor");
            for cut in 0..cursor.len() {
                assert!(read_cursor(project, &cursor[..cut]).is_err(), "{cut}");
            }
        }
        for bad in ["", "1", "start!", &write_cursor(project, -1), &format!("{}=", write_cursor(project, 1))] {
            assert_eq!(read_cursor(project, bad).unwrap_err().code(), "bad_cursor", "{bad}");
        }
    }
}
