//! Repositories by git: credentials are GitHub's, everything else is done by the server behind.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{Body, BoxError, Shared, Who, full};

pub(super) fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = BASE64.encode(format!("{user}:{password}"));
    HeaderValue::from_str(&format!("Basic {pair}")).expect("ASCII")
}

fn token(request: &Request<Incoming>) -> Option<String> {
    let text = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"GitHub\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

pub(super) async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let what = request.uri().path_and_query().map(|what| what.as_str().to_owned()).unwrap_or_default();
    let mut parts = what.trim_start_matches('/').splitn(3, '/');
    let (Some(owner), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "Not Found"));
    };
    let name = name.strip_suffix(".git").unwrap_or(name);
    match token(&request).and_then(|token| shared.who(&token)) {
        None => return Ok(plain(StatusCode::UNAUTHORIZED, "Invalid username or token.")),
        Some(Who::Stranger) => return Ok(plain(StatusCode::NOT_FOUND, "Repository not found.")),
        Some(Who::Member | Who::App) if !shared.exists(owner, name) => {
            return Ok(plain(StatusCode::NOT_FOUND, "Repository not found."));
        }
        Some(Who::Member | Who::App) => {}
    }
    let (mut head, body) = request.into_parts();
    head.uri = format!("{}/{owner}/{name}.git/{rest}", shared.upstream.0).parse()?;
    head.headers.insert(header::AUTHORIZATION, shared.upstream.1.clone());
    head.headers.remove(header::HOST);
    // One connection for each request: the server behind may be taken down and brought up again.
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let response = client.request(Request::from_parts(head, body)).await?;
    Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}
