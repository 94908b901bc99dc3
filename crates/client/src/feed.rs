//! The change feed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{Error, Problem, Result, TransportError, told};
use crate::route::Route;
use crate::streams::{Items, ServerEvents, items};
use crate::transport::{Request, Transport, Tries, chance, parsed};
use crate::types::{ChangeEvent, ChangePage};

/// Silence of a stream that is no silence of the server, which gives a sign every 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// A stream's first sign comes at once, unless something on the way gathers answers.
const FIRST_SIGN: Duration = Duration::from_secs(8);
/// Longest wait of a long poll, seconds.
const WAIT_S: u64 = 25;
/// Events of one poll.
const POLLED: usize = 1000;

/// What is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedOptions {
    /// A cursor; `start` = the oldest event that is kept. Not given: from now on.
    pub since: Option<String>,
    /// Of pending work only this user's.
    pub user: Option<Uuid>,
    /// Long polls instead of server-sent events. Without it they are used where something on the way holds a stream back.
    pub poll: bool,
}

/// What a feed gives.
#[derive(Debug)]
pub enum FeedItem {
    /// Where the reader stands. It comes first, and again where events were lost: then list what you need anew, and go on reading.
    Start {
        /// Give it as `since` to come back here.
        cursor: String,
        /// Why events were lost; not there at the beginning.
        expired: Option<Box<Problem>>,
    },
    /// Something happened. Its cursor is where the reader stands now.
    Event(Box<ChangeEvent>),
    /// The feed was cut, and comes back by itself, from where it was; what follows says that it is there again.
    Away(Error),
}

/// What is kept between two items.
struct Feed {
    transport: Arc<Transport>,
    route: Route,
    user: Option<Uuid>,
    poll: bool,
    cursor: Option<String>,
    started: bool,
    expired: Option<Box<Problem>>,
    /// A stream, and whether it has given a sign.
    stream: Option<(ServerEvents, bool)>,
    polled: VecDeque<ChangeEvent>,
    tries: Tries,
    away: bool,
    /// Before it comes back.
    pause: Option<Duration>,
}

/// Comes back by itself from where it was, skips nothing and tells nothing twice. Ends with an error that does not pass.
pub(crate) fn feed(transport: &Arc<Transport>, route: Route, options: FeedOptions) -> Items<FeedItem> {
    let FeedOptions { since, user, poll } = options;
    let state = Feed {
        transport: Arc::clone(transport),
        route,
        user,
        poll,
        cursor: since,
        started: false,
        expired: None,
        stream: None,
        polled: VecDeque::new(),
        tries: transport.tries(),
        away: false,
        pause: None,
    };
    items(state, |mut feed| async move {
        let item = feed.next().await?;
        Ok(Some((item, feed)))
    })
}

impl Feed {
    async fn next(&mut self) -> Result<FeedItem> {
        loop {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            let failure = match self.step().await {
                Ok(Some(item)) => {
                    self.there();
                    return Ok(item);
                }
                Ok(None) => continue,
                Err(failure) => failure,
            };
            self.stream = None;
            match failure {
                Error::Refused(problem) if problem.code == "cursor_expired" => {
                    (self.cursor, self.started, self.expired) = (None, false, Some(problem));
                }
                failure if failure.passes() || failure.status().is_some_and(|status| status >= 500) => {
                    self.pause = Some(self.tries.pause(failure.retry_after(), chance()));
                    self.tries.failed = self.tries.failed.saturating_add(1);
                    if !std::mem::replace(&mut self.away, true) {
                        return Ok(FeedItem::Away(failure));
                    }
                }
                failure => return Err(failure),
            }
        }
    }

    /// The server gave a sign.
    fn there(&mut self) {
        self.tries.progressed();
        self.away = false;
    }

    async fn step(&mut self) -> Result<Option<FeedItem>> {
        if !self.started {
            // The place of now, before anything is listed: what changes while its reader lists comes again.
            let cursor = match self.cursor.clone() {
                Some(cursor) => cursor,
                None => self.page(0, 1).await?.next_cursor,
            };
            self.cursor = Some(cursor.clone());
            self.started = true;
            return Ok(Some(FeedItem::Start { cursor, expired: self.expired.take() }));
        }
        if let Some(event) = self.polled.pop_front() {
            return Ok(Some(self.at(event)));
        }
        match (&self.stream, self.poll) {
            (Some(_), _) => self.streamed().await,
            (None, true) => {
                let page = self.page(WAIT_S, POLLED).await?;
                (self.polled, self.cursor) = (page.events.into(), Some(page.next_cursor));
                self.there();
                Ok(None)
            }
            (None, false) => self.open().await,
        }
    }

    fn at(&mut self, event: ChangeEvent) -> FeedItem {
        // A page's own cursor may be ahead of its events: that of the last one counts after them.
        if !self.poll {
            self.cursor = Some(event.cursor.clone());
        }
        FeedItem::Event(Box::new(event))
    }

    fn request(&self) -> Request {
        Request::get(self.route.clone()).query("since", self.cursor.as_deref()).query("user", self.user)
    }

    async fn page(&self, wait_s: u64, limit: usize) -> Result<ChangePage> {
        let silence = Duration::from_secs(wait_s + 15);
        let request = self.request().query("wait", Some(wait_s)).query("limit", Some(limit)).silence(silence);
        self.transport.json(&request).await
    }

    async fn open(&mut self) -> Result<Option<FeedItem>> {
        let reply = self.transport.send(&self.request().accept("text/event-stream")).await?;
        match reply.is("text/event-stream") {
            true => self.stream = Some((ServerEvents::new(reply.within(SILENCE)), false)),
            false => self.poll = true,
        }
        Ok(None)
    }

    async fn streamed(&mut self) -> Result<Option<FeedItem>> {
        let Some((events, signed)) = &mut self.stream else { return Ok(None) };
        let patience = if *signed { SILENCE } else { FIRST_SIGN };
        let Ok(event) = timeout(patience, events.next()).await else {
            // It was answered, and nothing came through.
            self.poll = !*signed;
            self.stream = None;
            return if self.poll { Ok(None) } else { Err(TransportError::Silent(SILENCE).into()) };
        };
        let Some(event) = event? else {
            return Err(TransportError::Broken("the server ended the stream".into()).into());
        };
        *signed = true;
        self.there();
        match event.event.as_str() {
            "expired" | "gone" | "problem" => Err(match told(0, event.data.as_bytes()) {
                Some(problem) => Error::Refused(Box::new(problem)),
                None => Error::BadAnswer { status: 200, detail: "the feed ended without a reason".to_owned() },
            }),
            _ if event.data.is_empty() => {
                self.cursor = event.id.or(self.cursor.take());
                Ok(None)
            }
            _ => {
                let event: ChangeEvent = parsed(200, event.data.as_bytes())?;
                Ok(Some(self.at(event)))
            }
        }
    }
}
