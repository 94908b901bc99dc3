//! Commits of pending work and of actions.

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use treehold_engine::api::{ActionsRequest, CommitRequest};

use crate::app::App;
use crate::body::{Expect, read_json, read_large_json};
use crate::headers::{credentials, idempotency_key};
use crate::params::Params;
use crate::rates::Acting;
use crate::respond::{Answer, ok};

/// `POST /projects/{project}/commit`
pub(crate) async fn commit(
    State(app): State<App>,
    acting: Acting,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let project = params.text("project")?.to_owned();
    let (credentials, key) = (credentials(&headers)?, idempotency_key(&headers)?);
    let request: CommitRequest = read_json(&app, &headers, body, expect(&app, "paths")).await?;
    acting.for_user(&app, Some(request.user))?;
    let engine = app.engine().clone();
    let done = app.remote(async move { engine.commit(&project, &request, credentials, key.as_deref()).await });
    ok(&done.await?)
}

/// `POST /projects/{project}/commits`
pub(crate) async fn commit_actions(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let (credentials, key) = (credentials(&headers)?, idempotency_key(&headers)?);
    let (request, memory): (ActionsRequest, _) = read_large_json(&app, &headers, body, expect(&app, "actions")).await?;
    let engine = app.engine().clone();
    let done = app.remote(async move {
        let _memory = memory;
        engine.commit_actions(&project, &request, credentials, key.as_deref()).await
    });
    ok(&done.await?)
}

fn expect(app: &App, list: &'static str) -> Expect {
    Expect { bytes: app.config().json_bytes, optional: false, list: Some((list, app.config().limits.commit_changes)) }
}
