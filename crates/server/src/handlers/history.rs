//! Status, diff, log, blame.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode, header};
use treehold_engine::api::{BlameRequest, ConflictsRequest, Diff, DiffRequest, LogRequest, MergeWith};

use crate::app::{App, Room};
use crate::auth::Caller;
use crate::context::holding;
use crate::error::Problem;
use crate::headers::negotiate;
use crate::params::{Params, Query};
use crate::respond::{Answer, ok};

/// Memory for a byte of what is compared: itself, and its line in the answer.
pub(crate) const DIFF_FACTOR: u64 = 2;
/// The same for a byte of a text that is merged: itself, in the merged text, in a hunk, and in the answer.
const CONFLICT_FACTOR: u64 = 4;

/// Memory for a blame: two versions of a file of at most 8 MiB at a time, and their lines.
const BLAME_BYTES: u64 = 32 << 20;

/// `GET /projects/{project}/status?user&branch`
pub(crate) async fn status(State(app): State<App>, caller: Caller, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, query.uuid("user")?);
    let mut status = app.reading(app.engine().status(project, user, query.text("branch")?)).await?;
    status.changes.iter_mut().for_each(|change| change.others.retain(|other| caller.sees(*other)));
    ok(&status)
}

/// `GET /projects/{project}/conflicts?user&branch&path&against&limit&cursor`: sides and merged texts of what is not clean.
pub(crate) async fn conflicts(State(app): State<App>, caller: Caller, params: Params, query: Query) -> Answer {
    let against = match query.text("against")? {
        None | Some("head") => MergeWith::Head,
        Some("remote") => MergeWith::Remote,
        Some(_) => {
            return Err(Problem::bad_parameter("bad_parameter", "against", "`against` can be `head` or `remote`"));
        }
    };
    let request = ConflictsRequest {
        user: query.required_uuid("user")?,
        branch: query.string("branch")?,
        path: query.string("path")?.map(String::into_bytes),
        against,
        cursor: query.cursor()?.map(str::to_owned),
        limit: query.limit()?,
    };
    let project = params.text("project")?.to_owned();
    let (mut page, room) =
        app.reading_within(CONFLICT_FACTOR, |engine| async move { engine.conflicts(&project, &request).await }).await?;
    page.files.iter_mut().for_each(|file| file.others.retain(|other| caller.sees(other.user)));
    Ok(ok(&page)?.map(|body| holding(body, room)))
}

/// `GET /projects/{project}/diff?from&to`, `?user&branch` or `?from&user`, and `prefix&renames&limit&cursor`: unified text, or JSON if
/// that is preferred; with `patch=false` only what differs, as JSON.
pub(crate) async fn diff(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let request = DiffRequest {
        user: query.uuid("user")?,
        branch: query.string("branch")?,
        from: query.string("from")?,
        to: query.string("to")?,
        prefix: query.string("prefix")?,
        renames: query.parse("renames")?.unwrap_or(false),
        limit: query.limit()?,
        cursor: query.cursor()?.map(str::to_owned),
    };
    let project = params.text("project")?.to_owned();
    if !query.parse("patch")?.unwrap_or(true) {
        return ok(&app.reading(app.engine().diff_names(&project, &request)).await?);
    }
    let as_json = negotiate(&headers, &["text/x-diff", "application/json"]) != 0;
    if !as_json && (request.limit.is_some() || request.cursor.is_some()) {
        let why = "a diff as text has no pages; ask for JSON, or without `limit` and `cursor`";
        return Err(Problem::bad_parameter("bad_parameter", "limit", why));
    }
    let read = app.reading_within(DIFF_FACTOR, |engine| async move { engine.diff(&project, &request).await });
    compared(read.await?, &headers)
}

/// Unified text, or JSON if that is preferred; its memory goes with it.
pub(crate) fn compared((diff, room): (Diff, Arc<Room>), headers: &HeaderMap) -> Answer {
    let response = match negotiate(headers, &["text/x-diff", "application/json"]) {
        0 => {
            let kind = [(header::CONTENT_TYPE, "text/x-diff; charset=utf-8")];
            (StatusCode::OK, kind, diff.to_unified()).into_response()
        }
        _ => ok(&diff)?,
    };
    Ok(response.map(|body| holding(body, room)))
}

/// `GET /projects/{project}/log?ref&path&first_parent&limit&cursor`
pub(crate) async fn log(State(app): State<App>, params: Params, query: Query) -> Answer {
    let request = LogRequest {
        reference: query.string("ref")?,
        path: query.string("path")?.map(String::into_bytes),
        first_parent: query.parse("first_parent")?.unwrap_or(false),
        cursor: query.cursor()?.map(str::to_owned),
        limit: query.limit()?,
    };
    ok(&app.reading(app.engine().log(params.text("project")?, &request)).await?)
}

/// `GET /projects/{project}/blame/{*path}?ref&user&start_line&end_line`
pub(crate) async fn blame(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, path) = (params.text("project")?, params.bytes("path"));
    let at = query.at()?;
    let request = BlameRequest {
        reference: at.reference,
        user: at.user,
        start_line: query.parse("start_line")?,
        end_line: query.parse("end_line")?,
    };
    let memory = app.reserve(BLAME_BYTES)?;
    let told = app.reading(app.engine().blame(project, path, &request)).await?;
    Ok(ok(&told)?.map(|body| holding(body, memory)))
}
