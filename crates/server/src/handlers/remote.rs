//! Sync with the remote, and push to it.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt as _;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use treehold_engine::api::{SyncAnswer, SyncRequest};
use treehold_engine::{Progress, Secret};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Expect, read_json};
use crate::error::Problem;
use crate::headers::{credentials, negotiate};
use crate::params::Params;
use crate::respond::{Answer, ok};

/// Progress of the same step is not told more often.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// Events that wait for a slow reader; what does not fit is dropped, but never the last one.
const EVENTS_MAX: usize = 32;

/// `POST /projects/{project}/sync`
pub(crate) async fn sync(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let project = params.text("project")?.to_owned();
    let credentials = credentials(&headers)?;
    let request: SyncRequest = read_json(&app, &headers, body, Expect::OPTIONAL).await?;
    if negotiate(&headers, &["application/json", "text/event-stream"]) == 1 {
        return Ok(stream(&app, caller, project, request, credentials));
    }
    let engine = app.engine().clone();
    let done = app.remote(async move { engine.sync(&project, &request, credentials, &()).await }).await?;
    ok(&shown_to(&caller, done))
}

/// Without the pending work that the caller may not see.
fn shown_to(caller: &Caller, mut answer: SyncAnswer) -> SyncAnswer {
    answer.pending.retain(|touched| caller.sees(touched.user));
    answer
}

/// `progress` events `{step, done, total}`, then one `result` or `problem`.
fn stream(
    app: &App,
    caller: Caller,
    project: String,
    request: SyncRequest,
    credentials: Option<Secret>,
) -> axum::response::Response {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let work = app.clone();
    app.spawn(async move {
        let steps = Steps { sender: sender.clone(), last: Mutex::new(None) };
        let engine = work.engine().clone();
        let done = work.remote(async move { engine.sync(&project, &request, credentials, &steps).await }).await;
        let last = match done {
            Ok(answer) => serde_json::to_value(shown_to(&caller, answer))
                .map(|answer| ("result", answer))
                .map_err(|e| Problem::internal(&e)),
            Err(problem) => Err(problem),
        };
        // A reader that went away does not need it.
        let _ = sender.send(last.unwrap_or_else(|problem| ("problem", problem.told()))).await;
    });
    let events = ReceiverStream::new(receiver)
        .map(|(name, value): (&str, Value)| Ok::<_, Infallible>(Event::default().event(name).data(value.to_string())));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// Passes progress on, not more than a reader can use.
struct Steps {
    sender: mpsc::Sender<(&'static str, Value)>,
    last: Mutex<Option<(String, Instant)>>,
}

impl Progress for Steps {
    fn step(&self, what: &str, done: u64, total: Option<u64>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let soon = last.as_ref().is_some_and(|(name, then)| name == what && now.duration_since(*then) < STEP_INTERVAL);
        if soon && total != Some(done) {
            return;
        }
        *last = Some((what.to_owned(), now));
        let _ = self.sender.try_send(("progress", json!({"step": what, "done": done, "total": total})));
    }
}

/// Body of a push.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PushRequest {
    /// Short branch name; the project's default if not given.
    branch: Option<String>,
}

/// `POST /projects/{project}/push`. Repeating it is safe by itself: what has arrived is not sent again.
pub(crate) async fn push(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let credentials = credentials(&headers)?;
    let request: PushRequest = read_json(&app, &headers, body, Expect::OPTIONAL).await?;
    let engine = app.engine().clone();
    let pushed = app.remote(async move { engine.push(&project, request.branch.as_deref(), credentials).await });
    ok(&pushed.await?)
}
