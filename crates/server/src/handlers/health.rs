//! Whether the server lives, and whether it can work.

use axum::extract::State;
use serde_json::json;

use crate::app::App;
use crate::respond::{Answer, ok};

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Answer {
    ok(&json!({"status": "ok"}))
}

/// `GET /readyz`: database and store answer too.
pub(crate) async fn ready(State(app): State<App>) -> Answer {
    app.ready().await?;
    ok(&json!({"status": "ready"}))
}
