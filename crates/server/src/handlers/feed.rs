//! The change feed: one cursor for polls, long polls and streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, Sse};
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout_at};
use treehold_engine::Feed;
use treehold_engine::api::ChangeEvent;

use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;
use crate::headers::{last_event_id, negotiate};
use crate::params::{Params, Query};
use crate::respond::{Answer, ok};

/// Longest wait of a long poll.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest silence of a stream, so that proxies and clients do not take it for dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// After news that were not for the reader of a stream.
const PAUSE: Duration = Duration::from_millis(20);
/// Events of a stream taken from the feed at once.
const PAGE: usize = 100;

/// `GET /projects/{project}/changes?since&wait&user&limit`
pub(crate) async fn changes(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Answer {
    let (project, user) = (params.text("project")?, query.uuid("user")?);
    if user.is_none() && !caller.sees_everybody() {
        let detail = "this token is for the pending work of one user: give that user as `user`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let (limit, wait) = (query.limit()?, query.clamped("wait")?.unwrap_or(0));
    let since = query.text("since")?.filter(|since| !since.is_empty());
    if negotiate(&headers, &["application/json", "text/event-stream"]) == 1 {
        // A client that comes back says where it was, whatever its URL says of where it began.
        let last = last_event_id(&headers)?;
        let feed = app.reading(app.engine().feed(project, last.or(since), user)).await?;
        return stream(app, feed).await;
    }
    let mut feed = app.reading(app.engine().feed(project, since, user)).await?;
    let until = Instant::now() + patience(wait);
    loop {
        let page = app.reading(feed.page(limit)).await?;
        if !page.events.is_empty() {
            return ok(&page);
        }
        let news = async {
            tokio::select! {
                () = feed.news() => true,
                () = app.closing() => false,
            }
        };
        if !timeout_at(until, news).await.unwrap_or(false) {
            return ok(&page);
        }
        // News that turn out to be none must not make this a busy loop.
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long a poll waits that asks for so many seconds.
fn patience(wait: usize) -> Duration {
    Duration::from_secs(wait as u64).min(WAIT_MAX)
}

/// A stream that is being sent.
struct Sending {
    app: App,
    feed: Feed,
    waiting: VecDeque<ChangeEvent>,
    /// The cursor that the client has.
    told: Option<String>,
    ended: bool,
}

/// An event of a stream has the cursor as its id, its kind as its name, and its JSON as its data.
async fn stream(app: App, mut feed: Feed) -> Answer {
    // What cannot be read is an ordinary problem, as long as nothing was sent.
    let page = app.reading(feed.page(Some(PAGE))).await?;
    let mut sending = Sending { app, feed, waiting: page.events.into(), told: None, ended: false };
    // The client learns at once where it is: so it can come back there, even if nothing happens.
    let first = sending.waiting.is_empty().then(|| sending.place());
    let events = futures::stream::unfold((sending, first), |(mut sending, first)| async move {
        let event = match first {
            Some(first) => first,
            None => sending.next().await?,
        };
        Some((Ok::<_, Infallible>(event), (sending, None)))
    });
    Ok(respond(events))
}

fn respond(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> axum::response::Response {
    let mut response = Sse::new(events).into_response();
    // For proxies that would gather an answer before they pass it on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Sending {
    /// The next event; made when there is room for it, so that a slow reader costs a page and no more.
    async fn next(&mut self) -> Option<Event> {
        let silent = Instant::now() + SILENCE_MAX;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(self.shown(&event));
            }
            if self.ended {
                return None;
            }
            let news = async {
                tokio::select! {
                    () = self.feed.news() => true,
                    () = self.app.closing() => false,
                }
            };
            match timeout_at(silent, news).await {
                Err(_) => return Some(self.place()),
                Ok(false) => return None,
                Ok(true) => {}
            }
            match self.app.reading(self.feed.page(Some(PAGE))).await {
                Ok(page) => self.waiting = page.events.into(),
                Err(problem) => return Some(self.end(&problem)),
            }
            if self.waiting.is_empty() {
                // News of others.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn shown(&mut self, event: &ChangeEvent) -> Event {
        self.told = Some(event.cursor.clone());
        let data = serde_json::to_string(event).unwrap_or_default();
        Event::default().id(&event.cursor).event(event.told.kind()).data(data)
    }

    /// A sign of life, with the cursor if the feed has gone on without events for this reader.
    fn place(&mut self) -> Event {
        let cursor = self.feed.cursor();
        let alive = Event::default().comment("");
        if self.told.as_ref() == Some(&cursor) {
            return alive;
        }
        let event = alive.id(&cursor);
        self.told = Some(cursor);
        event
    }

    /// The last event: why there are no more.
    fn end(&mut self, problem: &Problem) -> Event {
        self.ended = true;
        let name = match problem.code() {
            "cursor_expired" => "expired",
            "project_not_found" => "gone",
            _ => "problem",
        };
        Event::default().event(name).data(problem.told().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_waits_half_a_minute_at_most() {
        for (asked, waits) in [(0, 0), (1, 1), (30, 30), (31, 30), (usize::MAX, 30)] {
            assert_eq!(patience(asked), Duration::from_secs(waits), "{asked}");
        }
    }
}
