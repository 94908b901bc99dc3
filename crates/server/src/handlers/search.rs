//! Search.

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use treehold_engine::api::SearchRequest;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::params::Params;
use crate::respond::Answer;
use crate::searched::SearchPieces;
use crate::stream::{self, Shape};

/// `POST /projects/{project}/search`: what matches in the files of one snapshot, as JSON or a line each, as it is found.
pub(crate) async fn search(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let request: SearchRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    let (mode, shape) = (request.mode, Shape::asked(&headers));
    let searching = app.reading(app.engine().search(&project, request, shape == Shape::Lines)).await?;
    stream::send(&app, shape, SearchPieces::new(searching, mode, shape)).await
}
