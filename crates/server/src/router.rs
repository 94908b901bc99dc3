//! Every route at a glance.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, any, get, on};
use http::{Method, StatusCode};
use tower::util::option_layer;

use crate::app::{App, ServerConfig};
use crate::error::Problem;
use crate::openapi::{Described, Operation};
use crate::params::{Known, only_known};
use crate::{admission, auth, compress, console, context, git, handlers, openapi, rates};

/// Makes [`Routes`] of a table; see [`routes`].
macro_rules! routes {
    ($($method:ident $path:literal => $group:ident::$name:ident;)*) => {
        Routes::new()$(.add(Method::$method, $path, handlers::$group::$name, openapi::$group::$name))*
    };
}

impl App {
    /// The public API: what a key or a token opens is told by `access.rs`. From the outside in: request id and log, compression, key or token,
    /// rates, place among the requests at work, route.
    pub fn router(&self) -> Router {
        let rates = self.rates().map(|_| from_fn_with_state(self.clone(), rates::limit));
        // One stack: the router boxes each layer that is added by itself, and every request copies the boxes below each of them.
        let layers = (
            from_fn_with_state(self.clone(), context::around),
            from_fn_with_state(self.clone(), compress::around),
            from_fn_with_state(self.clone(), auth::require_credentials),
            option_layer(rates),
            from_fn_with_state(self.clone(), admission::admit),
        );
        let routes = routes().checked().method_not_allowed_fallback(method_not_allowed).fallback(route_not_found);
        routes.layer(layers).with_state(self.clone())
    }
}

/// A line for each route and method: the template, and the name under which `handlers` has what serves it and `openapi` what
/// describes it. A template that ends in `{*…}` is routed with nothing in its place too, so that the engine refuses an empty path or
/// name as it refuses any other bad one.
#[expect(clippy::too_many_lines, reason = "a table, with a line for each route")]
fn routes() -> Routes {
    routes! {
        POST   "/projects"                                       => projects::create;
        GET    "/projects"                                       => projects::list;
        PUT    "/projects/{project}"                             => projects::create_with_id;
        GET    "/projects/{project}"                             => projects::show;
        PATCH  "/projects/{project}"                             => projects::change;
        DELETE "/projects/{project}"                             => projects::delete;
        POST   "/projects/{project}/fork"                        => projects::fork;

        GET    "/files/{project}"                                => files::list;
        GET    "/files/{project}/{*path}"                        => files::read;
        HEAD   "/files/{project}/{*path}"                        => files::read;
        PUT    "/files/{project}/{*path}"                        => files::write;
        DELETE "/files/{project}/{*path}"                        => files::delete;
        POST   "/projects/{project}/read"                        => files::read_batch;
        POST   "/projects/{project}/search"                      => search::search;

        GET    "/pending/{project}/{user}"                       => pending::list;
        POST   "/pending/{project}/{user}"                       => batches::write;
        DELETE "/pending/{project}/{user}"                       => pending::drop_all;
        GET    "/pending/{project}/{user}/{*path}"               => pending::read;
        HEAD   "/pending/{project}/{user}/{*path}"               => pending::read;
        PUT    "/pending/{project}/{user}/{*path}"               => pending::write;
        DELETE "/pending/{project}/{user}/{*path}"               => pending::drop_one;
        POST   "/projects/{project}/resolve"                     => batches::resolve;

        GET    "/projects/{project}/history"                     => versions::list;
        GET    "/projects/{project}/history/{id}"                => versions::read;
        HEAD   "/projects/{project}/history/{id}"                => versions::read;
        GET    "/projects/{project}/history/{id}/diff"           => versions::diff;
        POST   "/projects/{project}/history/{id}/restore"        => versions::restore;
        GET    "/projects/{project}/checkpoints"                 => checkpoints::list;
        POST   "/projects/{project}/checkpoints"                 => checkpoints::create;
        GET    "/projects/{project}/checkpoints/{id}"            => checkpoints::show;
        DELETE "/projects/{project}/checkpoints/{id}"            => checkpoints::delete;
        GET    "/projects/{project}/checkpoints/{id}/diff"       => checkpoints::diff;
        POST   "/projects/{project}/checkpoints/{id}/restore"    => checkpoints::restore;

        POST   "/projects/{project}/commit"                      => commits::commit;
        POST   "/projects/{project}/commits"                     => commits::commit_actions;

        GET    "/projects/{project}/status"                      => history::status;
        GET    "/projects/{project}/conflicts"                   => history::conflicts;
        GET    "/projects/{project}/diff"                        => history::diff;
        GET    "/projects/{project}/log"                         => history::log;
        GET    "/projects/{project}/blame/{*path}"               => history::blame;

        GET    "/projects/{project}/refs"                        => refs::list;
        PUT    "/projects/{project}/refs/{*name}"                => refs::write;
        DELETE "/projects/{project}/refs/{*name}"                => refs::delete;
        POST   "/projects/{project}/promote"                     => refs::promote;
        GET    "/projects/{project}/reflog"                      => refs::reflog;

        POST   "/projects/{project}/sync"                        => remote::sync;
        POST   "/projects/{project}/push"                        => remote::push;
        GET    "/projects/{project}/remote"                      => forge::show;
        POST   "/projects/{project}/pulls"                       => forge::open;
        GET    "/projects/{project}/pulls"                       => forge::list;
        PATCH  "/projects/{project}/pulls/{number}"              => forge::change;
        POST   "/webhooks/github"                                => forge::webhook;

        GET    "/projects/{project}/changes"                     => feed::changes;

        GET    "/projects/{project}/git/blobs/{oid}"             => objects::blob;
        GET    "/projects/{project}/git/trees/{oid}"             => objects::tree;
        GET    "/projects/{project}/git/commits/{oid}"           => objects::commit;

        GET    "/projects/{project}/archive.tar.gz"              => export::tar_gz;
        GET    "/projects/{project}/archive.zip"                 => export::zip;
        GET    "/projects/{project}/bundle"                      => export::bundle;

        POST   "/mcp"                                            => mcp::answer;

        GET    "/healthz"                                        => health::alive;
        GET    "/readyz"                                         => health::ready;
        GET    "/metrics"                                        => metrics::read;
        GET    "/openapi.json"                                   => docs::document;
        GET    "/docs"                                           => docs::page;
        GET    "/docs/{name}"                                    => docs::asset;
    }
    // Git's own refusals are text: one handler has all of its methods and paths.
    .serve("/git/{repo}/{*rest}", any(git::serve))
    .describe(Method::GET, "/git/{repo}/info/refs", openapi::git::info_refs)
    .describe(Method::POST, "/git/{repo}/git-upload-pack", openapi::git::upload_pack)
    .describe(Method::POST, "/git/{repo}/git-receive-pack", openapi::git::receive_pack)
    // A page for people, and no part of the API.
    .serve("/", get(console::front))
    .serve(console::ROUTE, get(console::page))
    .serve("/console/", get(console::asset))
    .serve("/console/{name}", get(console::asset))
}

/// The document that a server with this configuration serves as `/openapi.json`.
pub fn document(config: &ServerConfig) -> serde_json::Value {
    openapi::document(&routes().described, config)
}

/// Every template that is routed.
pub(crate) fn templates() -> std::collections::BTreeSet<String> {
    routes().templates.into_iter().collect()
}

/// Routes with their descriptions; both are added at once.
struct Routes {
    router: Router<App>,
    templates: Vec<String>,
    described: Vec<Described>,
}

impl Routes {
    fn new() -> Self {
        Self { router: Router::new(), templates: Vec::new(), described: Vec::new() }
    }

    fn add<H, T>(self, method: Method, path: &'static str, handler: H, describe: fn() -> Operation) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        // Who serves GET is asked for HEAD, too.
        if method == Method::HEAD {
            return self.describe(method, path, describe);
        }
        let filter = MethodFilter::try_from(method.clone()).expect("a method that routes can have");
        let routes = match path.split_once("{*") {
            Some((empty, _)) => self.serve(empty, on(filter, handler.clone())),
            None => self,
        };
        routes.serve(path, on(filter, handler)).describe(method, path, describe)
    }

    /// The routes, behind what their descriptions say of their queries; answers say which route they are of.
    fn checked(self) -> Router<App> {
        let known = self.described.iter().filter_map(|route| {
            let names = (route.describe)().query()?;
            let empty = route.path.split_once("{*").map(|(empty, _)| empty);
            let paths = [Some(route.path), empty].into_iter().flatten();
            Some(paths.map(move |path| ((path.to_owned(), route.method.clone()), names.clone())))
        });
        let known = Known::of(known.flatten());
        self.router.route_layer((from_fn(context::name_route), from_fn_with_state(known, only_known)))
    }

    fn serve(mut self, path: &str, served: MethodRouter<App>) -> Self {
        self.templates.push(path.to_owned());
        self.router = self.router.route(path, served);
        self
    }

    fn describe(mut self, method: Method, path: &'static str, describe: fn() -> Operation) -> Self {
        self.described.push(Described { method, path, describe });
        self
    }
}

async fn route_not_found() -> Problem {
    no_route()
}

/// What is no route.
pub(crate) fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "route_not_found", "there is no such route; look at the path")
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("this route does not take {method}; those it takes are in Allow"),
    )
}
