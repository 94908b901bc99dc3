//! Pull requests, facts about the remote, webhooks.

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use treehold_engine::Delivered;
use treehold_engine::api::{PullChange, PullFilter, PullSpec, PullState};
use treehold_engine::remote::Delivery;

use crate::app::App;
use crate::body::{self, Expect, read_json};
use crate::context::holding;
use crate::error::Problem;
use crate::headers::{self, credentials};
use crate::params::{Params, Query};
use crate::respond::{Answer, json as answer, ok};

/// A description may have 65,536 characters, of up to four bytes, more where they are escaped.
const PULL: Expect = Expect { bytes: 512 << 10, ..Expect::SMALL };
/// Memory for a pull request that is listed: what GitHub tells of it, with its whole description, as it comes and as it is read.
const LISTED_BYTES: u64 = 2 * (320 << 10);
/// GitHub sends nothing larger, bytes.
const WEBHOOK_BYTES: u64 = 4 << 20;

/// `POST /projects/{project}/pulls`. Repeating it is safe by itself: there is one open pull request for the same branches.
pub(crate) async fn open(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let credentials = credentials(&headers)?;
    let spec: PullSpec = read_json(&app, &headers, body, PULL).await?;
    let engine = app.engine().clone();
    let opened = app.remote(async move { engine.open_pull(&project, &spec, credentials).await }).await?;
    answer(if opened.created { StatusCode::CREATED } else { StatusCode::OK }, &opened)
}

/// `PATCH /projects/{project}/pulls/{number}`: what the body does not name stays as it is.
pub(crate) async fn change(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let number = params.text("number")?.parse::<u64>();
    let number = number.map_err(|_| Problem::bad_parameter("bad_parameter", "number", "`number` must be a number"))?;
    let credentials = credentials(&headers)?;
    let change: PullChange = read_json(&app, &headers, body, PULL).await?;
    let engine = app.engine().clone();
    ok(&app.remote(async move { engine.change_pull(&project, number, &change, credentials).await }).await?)
}

/// `GET /projects/{project}/pulls?state&head&limit&cursor`
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let state = match query.text("state")? {
        None | Some("open") => Some(PullState::Open),
        Some("closed") => Some(PullState::Closed),
        Some("all") => None,
        Some(_) => {
            let detail = "`state` must be open, closed or all";
            return Err(Problem::bad_parameter("bad_parameter", "state", detail));
        }
    };
    let (head, cursor, limit) = (query.string("head")?, query.cursor()?.map(str::to_owned), query.limit()?);
    let filter = PullFilter { state, head, cursor, limit };
    let credentials = credentials(&headers)?;
    let memory = app.reserve(filter.page_len() as u64 * LISTED_BYTES)?;
    let page = app.reading(app.engine().pulls(params.text("project")?, &filter, credentials)).await?;
    Ok(ok(&page)?.map(|body| holding(body, memory)))
}

/// `GET /projects/{project}/remote?branch`
pub(crate) async fn show(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, branch) = (params.text("project")?, query.text("branch")?);
    let credentials = credentials(&headers)?;
    ok(&app.reading(app.engine().show_remote(project, branch, credentials)).await?)
}

/// `POST /webhooks/github`: no key, but a signature over the raw body.
pub(crate) async fn webhook(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer {
    if !app.engine().takes_webhooks() {
        let detail = "no webhooks are taken here: set github_webhook_secret to the secret that GitHub signs them with";
        return Err(Problem::new(StatusCode::NOT_FOUND, "webhooks_off", detail));
    }
    let unsigned = || {
        let detail =
            "X-Hub-Signature-256 must sign the body with the webhook's secret; compare it with github_webhook_secret";
        Problem::new(StatusCode::UNAUTHORIZED, "bad_signature", detail)
    };
    // Without what looks like a signature nothing is read, whoever sends it.
    let signature = headers::signature(&headers)?.filter(|text| looks_signed(text)).ok_or_else(unsigned)?.to_owned();
    let event = headers::needed(&headers, "X-GitHub-Event")?.to_owned();
    let is_json = headers::is_json(&headers);
    let upload = body::read(&app, body, WEBHOOK_BYTES, "the webhook").await?;
    let engine = app.engine().clone();
    let told = event.clone();
    let delivered = app.writing(async move {
        let delivery = Delivery { event: &event, signature: Some(&signature), body: &upload.bytes };
        engine.deliver(&delivery).await
    });
    let (status, what) = match delivered.await {
        Err(problem) if !is_json && problem.code() == "bad_request" => {
            let detail = "choose application/json as the webhook's content type";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        Err(problem) => return Err(problem),
        Ok(Delivered::Unsigned) => return Err(unsigned()),
        Ok(Delivered::Ping) => (StatusCode::OK, "pong"),
        Ok(Delivered::Noted) => (StatusCode::ACCEPTED, "noted"),
        Ok(Delivered::Repeated) => (StatusCode::ACCEPTED, "repeated"),
        Ok(Delivered::Ignored) => (StatusCode::ACCEPTED, "ignored"),
    };
    answer(status, &json!({"event": told, "result": what}))
}

/// `sha256=` and 64 hex digits.
fn looks_signed(signature: &str) -> bool {
    signature
        .strip_prefix("sha256=")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
