//! What a git server can do to its client.

use super::{Body, BoxError, Entry, Logged, full, honest_answer, plain};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode, header};
use std::time::Duration;

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Any request.
    Any,
    /// `GET …/info/refs`.
    Discovery,
    /// `POST …/git-upload-pack`: in protocol version 2 both `ls-refs` and `fetch`.
    UploadPack,
    /// `POST …/git-receive-pack`: a push.
    ReceivePack,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request is taken and never answered; nothing is executed.
    Hang,
    /// The request is read, nothing is executed, and the connection is closed without an answer.
    DropRequest,
    /// The backend answers, and the connection breaks after so many bytes of the body.
    CutResponse(usize),
    /// The backend runs to its end, then the connection is closed without an answer: the outcome is unknown.
    ExecuteThenCut,
    /// The backend runs to its end, and the answer is this status: a gateway that gave up.
    ExecuteThenStatus(u16),
    /// This status, with `Retry-After: 1` where that has a meaning; nothing is executed.
    Status(u16),
    /// 200 and a wrong body; nothing is executed.
    Lie(Lie),
    /// 302 to this base URL plus the request's path and query.
    Redirect(String),
    /// The right answer, later.
    Delay(Duration),
}

/// A body that is not what git would send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// Nothing at all.
    Empty,
    /// Bytes that are no pkt-lines.
    Garbage,
    /// A web page, as from a captive portal.
    Html,
    /// These bytes, with the content type that the request expects.
    Body(Vec<u8>),
    /// The backend's own answer (it is executed) with the byte at this offset inverted.
    FlipByte(usize),
}

#[derive(Debug)]
pub(super) struct Planned {
    pub(super) on: On,
    pub(super) count: usize,
    pub(super) fault: Fault,
}

/// The fault that is due for this request, if any; it counts as used.
pub(super) fn take(planned: &mut Vec<Planned>, request: &Logged) -> Option<Fault> {
    let is_post_to = |service: &str| request.method == "POST" && request.path.ends_with(&format!("/git-{service}"));
    let matches = |on: On| match on {
        On::Any => true,
        On::Discovery => request.path.ends_with("/info/refs"),
        On::UploadPack => is_post_to("upload-pack"),
        On::ReceivePack => is_post_to("receive-pack"),
    };
    let index = planned.iter().position(|plan| plan.count > 0 && matches(plan.on))?;
    let plan = &mut planned[index];
    plan.count -= 1;
    let fault = plan.fault.clone();
    planned.retain(|plan| plan.count > 0);
    Some(fault)
}

impl Fault {
    pub(super) async fn answer(
        self,
        entry: &Entry,
        request: Request<Incoming>,
        authorized: bool,
    ) -> Result<Response<Body>, BoxError> {
        match self {
            Fault::Hang => std::future::pending().await,
            Fault::DropRequest => {
                drain(entry, request).await;
                Err("told to drop the request".into())
            }
            Fault::CutResponse(length) => {
                Ok(honest_answer(entry, request, authorized).await?.map(|body| cut(body, length)))
            }
            Fault::ExecuteThenCut => {
                honest_answer(entry, request, authorized).await?.into_body().collect().await?;
                Err("told to close without an answer".into())
            }
            Fault::ExecuteThenStatus(status) => {
                honest_answer(entry, request, authorized).await?.into_body().collect().await?;
                status_answer(status)
            }
            Fault::Status(status) => {
                drain(entry, request).await;
                status_answer(status)
            }
            Fault::Lie(lie) => lie.answer(entry, request, authorized).await,
            Fault::Redirect(base) => {
                let rest = request.uri().path_and_query().map_or("/", |rest| rest.as_str());
                let response = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, base + rest);
                drain(entry, request).await;
                Ok(response.body(full(""))?)
            }
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                honest_answer(entry, request, authorized).await
            }
        }
    }
}

impl Lie {
    async fn answer(
        self,
        entry: &Entry,
        request: Request<Incoming>,
        authorized: bool,
    ) -> Result<Response<Body>, BoxError> {
        let expected = match (request.uri().path().rsplit('/').next(), request.uri().query()) {
            (Some("refs"), query) => format!("{}-advertisement", query.unwrap_or_default().replace("service=", "")),
            (service, _) => format!("{}-result", service.unwrap_or_default()),
        };
        if let Lie::FlipByte(offset) = self {
            let (head, body) = honest_answer(entry, request, authorized).await?.into_parts();
            let mut body = body.collect().await?.to_bytes().to_vec();
            body.get_mut(offset).into_iter().for_each(|byte| *byte = !*byte);
            return Ok(Response::from_parts(head, full(body)));
        }
        drain(entry, request).await;
        let (content_type, body): (_, Bytes) = match self {
            Lie::Html => ("text/html".to_owned(), "<html><body>Please sign in.</body></html>".into()),
            Lie::Garbage => (format!("application/x-{expected}"), (0..=255u8).rev().cycle().take(5000).collect()),
            Lie::Body(body) => (format!("application/x-{expected}"), body.into()),
            Lie::Empty | Lie::FlipByte(_) => (format!("application/x-{expected}"), Bytes::new()),
        };
        Ok(Response::builder().header(header::CONTENT_TYPE, content_type).body(full(body))?)
    }
}

fn status_answer(status: u16) -> Result<Response<Body>, BoxError> {
    let mut response = plain(StatusCode::from_u16(status)?, "This is a planned fault.\n");
    if [429, 503].contains(&status) {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    if status == 401 {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic realm=\"git\""));
    }
    Ok(response)
}

async fn drain(entry: &Entry, request: Request<Incoming>) {
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        entry.update(|logged| logged.bytes_in += length as u64);
    }
}

/// The first `length` bytes, then an error, at which hyper breaks the connection.
fn cut(body: Body, length: usize) -> Body {
    let frames = futures::stream::unfold(Some((body, length)), |state| async move {
        let (mut body, left) = state?;
        if left == 0 {
            // Pending once: hyper sends what it has before it asks again and hears of the error.
            tokio::task::yield_now().await;
            return Some((Err(BoxError::from("told to cut the response")), None));
        }
        let data = body.frame().await?.map(|frame| frame.into_data().unwrap_or_default());
        Some(match data {
            Ok(mut data) => {
                data.truncate(left);
                let left = left - data.len();
                (Ok(Frame::data(data)), Some((body, left)))
            }
            Err(error) => (Err(error), None),
        })
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}
