//! Several writes to pending work at once.

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use treehold_engine::api::{PendingBatch, ResolveRequest};

use crate::app::App;
use crate::body::{Expect, read_large_json};
use crate::headers::{idempotency_key, origin};
use crate::params::{Params, Query};
use crate::rates::Acting;
use crate::respond::{Answer, ok};

/// `POST /pending/{project}/{user}?branch`
pub(crate) async fn write(
    State(app): State<App>,
    params: Params,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (project, user) = (params.text("project")?.to_owned(), params.uuid("user")?);
    let (branch, key) = (query.string("branch")?, idempotency_key(&headers)?);
    let origin = origin(&headers)?;
    let list = Some(("ops", app.config().limits.batch_paths));
    let expect = Expect { bytes: app.config().json_bytes, optional: false, list };
    let (request, memory): (PendingBatch, _) = read_large_json(&app, &headers, body, expect).await?;
    let written = app.writing_within(|engine| async move {
        let _memory = memory;
        engine.write_batch(&project, user, branch.as_deref(), request, origin, key.as_deref()).await
    });
    ok(&written.await?)
}

/// `POST /projects/{project}/resolve`: what conflicting files become.
pub(crate) async fn resolve(
    State(app): State<App>,
    acting: Acting,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (project, origin) = (params.text("project")?.to_owned(), origin(&headers)?);
    let list = Some(("files", app.config().limits.batch_paths));
    let expect = Expect { bytes: app.config().json_bytes, optional: false, list };
    let (request, memory): (ResolveRequest, _) = read_large_json(&app, &headers, body, expect).await?;
    acting.for_user(&app, Some(request.user))?;
    let written = app.writing_within(|engine| async move {
        let _memory = memory;
        engine.resolve_conflicts(&project, &request, origin).await
    });
    ok(&written.await?)
}
