//! Every route at a glance.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, patch, post, put};
use http::{Method, StatusCode};

use crate::app::App;
use crate::error::Problem;
use crate::handlers::{
    batches, checkpoints, commits, export, feed, files, forge, health, history, metrics, objects, pending, projects,
    refs, remote, search, versions,
};
use crate::{admission, auth, compress, context, git, rates};

impl App {
    /// The public API: every route but the health checks needs a key or a token (`access.rs` says which).
    pub fn router(&self) -> Router {
        self.finish(routes(), true)
    }

    /// The same routes without a key, and `admin` beside them: for a socket that only its owner can open.
    pub fn private_router(&self, admin: Router<App>) -> Router {
        self.finish(routes().merge(admin), false)
    }

    /// From the outside in: request id and log, compression, key or token, rates, place among the requests at work, route.
    fn finish(&self, routes: Router<App>, keyed: bool) -> Router {
        let routes = routes
            .route_layer(from_fn(context::name_route))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(route_not_found)
            .layer(from_fn_with_state(self.clone(), admission::admit));
        let routes = match self.rates() {
            Some(_) if keyed => routes.layer(from_fn_with_state(self.clone(), rates::limit)),
            _ => routes,
        };
        let routes = match keyed {
            true => routes.layer(from_fn_with_state(self.clone(), auth::require_credentials)),
            false => routes.layer(from_fn(auth::trust)),
        };
        let routes = routes.layer(from_fn_with_state(self.clone(), compress::around));
        routes.layer(from_fn(context::around)).with_state(self.clone())
    }
}

fn routes() -> Router<App> {
    // A path or name that is empty is routed too, so that the engine refuses it as it refuses any other bad one.
    let file = || get(files::read).head(files::read).put(files::write).delete(files::delete);
    let one_pending = || get(pending::read).head(pending::read).put(pending::write).delete(pending::drop_one);
    let one_ref = || put(refs::write).delete(refs::delete);
    Router::new()
        .route("/projects", post(projects::create).get(projects::list))
        .route(
            "/projects/{project}",
            put(projects::create_with_id).get(projects::show).patch(projects::change).delete(projects::delete),
        )
        .route("/projects/{project}/fork", post(projects::fork))
        .route("/projects/{project}/read", post(files::read_batch))
        .route("/projects/{project}/search", post(search::search))
        .route("/projects/{project}/status", get(history::status))
        .route("/projects/{project}/conflicts", get(history::conflicts))
        .route("/projects/{project}/resolve", post(batches::resolve))
        .route("/projects/{project}/diff", get(history::diff))
        .route("/projects/{project}/log", get(history::log))
        .route("/projects/{project}/changes", get(feed::changes))
        .route("/projects/{project}/blame/", get(history::blame))
        .route("/projects/{project}/blame/{*path}", get(history::blame))
        .route("/projects/{project}/commit", post(commits::commit))
        .route("/projects/{project}/commits", post(commits::commit_actions))
        .route("/projects/{project}/sync", post(remote::sync))
        .route("/projects/{project}/push", post(remote::push))
        .route("/projects/{project}/pulls", post(forge::open).get(forge::list))
        .route("/projects/{project}/pulls/{number}", patch(forge::change))
        .route("/projects/{project}/remote", get(forge::show))
        .route("/webhooks/github", post(forge::webhook))
        .route("/projects/{project}/refs", get(refs::list))
        .route("/projects/{project}/reflog", get(refs::reflog))
        .route("/projects/{project}/promote", post(refs::promote))
        .route("/projects/{project}/refs/", one_ref())
        .route("/projects/{project}/refs/{*name}", one_ref())
        .route("/projects/{project}/history", get(versions::list))
        .route("/projects/{project}/history/{id}", get(versions::read))
        .route("/projects/{project}/history/{id}/diff", get(versions::diff))
        .route("/projects/{project}/history/{id}/restore", post(versions::restore))
        .route("/projects/{project}/checkpoints", get(checkpoints::list).post(checkpoints::create))
        .route("/projects/{project}/checkpoints/{id}", get(checkpoints::show).delete(checkpoints::delete))
        .route("/projects/{project}/checkpoints/{id}/diff", get(checkpoints::diff))
        .route("/projects/{project}/checkpoints/{id}/restore", post(checkpoints::restore))
        .route("/projects/{project}/git/blobs/{oid}", get(objects::blob))
        .route("/projects/{project}/git/trees/{oid}", get(objects::tree))
        .route("/projects/{project}/git/commits/{oid}", get(objects::commit))
        .route("/projects/{project}/archive.tar.gz", get(export::tar_gz))
        .route("/projects/{project}/archive.zip", get(export::zip))
        .route("/projects/{project}/bundle", get(export::bundle))
        .route("/files/{project}", get(files::list))
        .route("/files/{project}/", file())
        .route("/files/{project}/{*path}", file())
        .route("/pending/{project}/{user}", get(pending::list).post(batches::write).delete(pending::drop_all))
        .route("/pending/{project}/{user}/", one_pending())
        .route("/pending/{project}/{user}/{*path}", one_pending())
        .route("/git/{repo}/{*rest}", any(git::serve))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::read))
}

async fn route_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "route_not_found", "there is no such route; look at the path")
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("this route does not take {method}; those it takes are in Allow"),
    )
}
