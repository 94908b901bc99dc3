//! Answers: JSON, and the bytes of files.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use treehold_engine::api::{Mode, Oid, Source};
use treehold_object::ObjectId;

use crate::conditions::{Verdict, etag, judge, range_holds};
use crate::context::holding;
use crate::error::Problem;
use crate::range::{Part, part};

/// What handlers answer.
pub(crate) type Answer = Result<Response, Problem>;

/// Clients may keep the answer but must ask before using it again: what a name stands for changes, and so may access.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| Problem::internal(&error))?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// JSON, 200.
pub(crate) fn ok(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

/// A header value of text that may not be one; `None` if it is not.
pub(crate) fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// What is known of a file before its bytes are read.
#[derive(Debug, Clone)]
pub(crate) struct FileHead {
    /// Blob id, also the entity tag.
    pub(crate) oid: ObjectId,
    /// `Git-Mode`
    pub(crate) mode: Mode,
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// `Git-Commit`, where there is one.
    pub(crate) commit: Option<ObjectId>,
    /// `X-Treehold-Source`, where the view is a user's.
    pub(crate) source: Option<Source>,
    /// `X-Treehold-Revision`, for pending work.
    pub(crate) revision: Option<i64>,
}

/// What is left to do after the head was judged.
pub(crate) enum Next {
    /// Answer this; no content is needed.
    Done(Response),
    /// Send the content, or this part of it.
    Content(Part),
}

/// 412: `If-Match` names other bytes than there are.
pub(crate) fn not_expected(oid: ObjectId) -> Problem {
    let problem = Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "the file is not what the request expects; read it again and repeat",
    );
    problem.with("oid", Oid(oid))
}

impl FileHead {
    /// Of pending work, or of what was.
    pub(crate) fn of_pending(Oid(oid): Oid, mode: Mode, revision: i64, content: &Bytes) -> Self {
        Self { oid, mode, size: content.len() as u64, commit: None, source: None, revision: Some(revision) }
    }

    /// The whole answer where the content is at hand; `held` goes with it.
    pub(crate) fn answer<T>(&self, method: &Method, headers: &HeaderMap, content: Bytes, held: T) -> Answer
    where
        T: Send + Sync + 'static,
    {
        match self.judge(method, headers)? {
            Next::Done(response) => Ok(response),
            Next::Content(part) => Ok(self.send(content, part).map(|body| holding(body, held))),
        }
    }

    /// Judges conditions and the range, and answers what needs no content: 304, 412, 416 and HEAD.
    pub(crate) fn judge(&self, method: &Method, headers: &HeaderMap) -> Result<Next, Problem> {
        match judge(headers, &self.oid)? {
            Verdict::Failed => return Err(not_expected(self.oid)),
            Verdict::NotModified => return Ok(Next::Done(self.respond(StatusCode::NOT_MODIFIED, Body::empty(), None))),
            Verdict::Send => {}
        }
        if method == Method::HEAD {
            return Ok(Next::Done(self.respond(StatusCode::OK, Body::empty(), Some(self.size))));
        }
        let part = if range_holds(headers, &self.oid) { part(headers, self.size) } else { Part::Whole };
        if part == Part::None {
            let problem = Problem::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                "the range lies outside of the file; its size is in Content-Range",
            );
            return Err(match value(&format!("bytes */{}", self.size)) {
                Some(range) => problem.header(header::CONTENT_RANGE, range),
                None => problem,
            });
        }
        Ok(Next::Content(part))
    }

    /// Sends the content, or a part of it.
    pub(crate) fn send(&self, content: Bytes, part: Part) -> Response {
        let len = content.len() as u64;
        match part {
            Part::Some(first, last) if last < len => {
                let (from, to) = (usize::try_from(first).unwrap_or(0), usize::try_from(last).unwrap_or(0));
                let bytes = content.slice(from..=to);
                let size = bytes.len() as u64;
                let mut response = self.respond(StatusCode::PARTIAL_CONTENT, Body::from(bytes), Some(size));
                if let Some(range) = value(&format!("bytes {first}-{last}/{len}")) {
                    response.headers_mut().insert(header::CONTENT_RANGE, range);
                }
                response
            }
            _ => self.respond(StatusCode::OK, Body::from(content), Some(len)),
        }
    }

    fn respond(&self, status: StatusCode, body: Body, len: Option<u64>) -> Response {
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        if let Some(len) = len {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        headers.insert(header::CACHE_CONTROL, REVALIDATE);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let mut set = |name: &'static str, text: Option<String>| {
            if let Some(value) = text.as_deref().and_then(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("etag", Some(etag(&self.oid)));
        set("git-mode", Some(self.mode.to_string()));
        set("git-commit", self.commit.map(|commit| commit.to_string()));
        set("x-treehold-revision", self.revision.map(|revision| revision.to_string()));
        set(
            "x-treehold-source",
            self.source.map(|source| match source {
                Source::Committed => "committed".to_owned(),
                Source::Pending => "pending".to_owned(),
            }),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn head() -> FileHead {
        let oid = ObjectId::from_hex(b"1111111111111111111111111111111111111111").unwrap();
        FileHead {
            oid,
            mode: Mode(0o100755),
            size: 10,
            commit: Some(oid),
            source: Some(Source::Pending),
            revision: None,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    async fn get(pairs: &[(&'static str, &str)]) -> (Response, Vec<u8>) {
        let head = head();
        let response = match head.judge(&Method::GET, &headers(pairs)) {
            Ok(Next::Done(response)) => response,
            Ok(Next::Content(part)) => head.send(Bytes::from_static(b"0123456789"), part),
            Err(problem) => problem.into_response(),
        };
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (Response::from_parts(parts, Body::empty()), bytes)
    }

    #[tokio::test]
    async fn a_file_comes_with_its_git_facts() {
        let (response, bytes) = get(&[]).await;
        assert_eq!((response.status().as_u16(), bytes.as_slice()), (200, b"0123456789".as_slice()));
        let oid = head().oid.to_string();
        for (name, value) in [
            ("etag", format!("\"{oid}\"").as_str()),
            ("git-mode", "100755"),
            ("git-commit", &oid),
            ("content-length", "10"),
            ("accept-ranges", "bytes"),
            ("x-treehold-source", "pending"),
            ("content-type", "application/octet-stream"),
        ] {
            assert_eq!(response.headers()[name], value, "{name}");
        }
    }

    #[tokio::test]
    async fn parts_of_a_file() {
        let (response, bytes) = get(&[("range", "bytes=2-4")]).await;
        assert_eq!((response.status().as_u16(), bytes.as_slice()), (206, b"234".as_slice()));
        assert_eq!(response.headers()["content-range"], "bytes 2-4/10");
        assert_eq!(response.headers()["content-length"], "3");
        let (response, _) = get(&[("range", "bytes=10-")]).await;
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()["content-range"], "bytes */10");
        let (response, bytes) = get(&[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
        assert_eq!((response.status().as_u16(), bytes.len()), (200, 10));
    }

    #[tokio::test]
    async fn conditions_need_no_content() {
        let tag = etag(&head().oid);
        let (response, bytes) = get(&[("if-none-match", &tag), ("range", "bytes=99-")]).await;
        assert_eq!((response.status().as_u16(), bytes.len()), (304, 0));
        assert_eq!(response.headers()["etag"], tag);
        let (response, _) = get(&[("if-match", "\"other\"")]).await;
        assert_eq!(response.status(), 412);
        assert!(head().judge(&Method::GET, &headers(&[("if-none-match", "bare")])).is_err());
    }

    #[test]
    fn head_says_the_size_and_ignores_ranges() {
        let Ok(Next::Done(response)) = head().judge(&Method::HEAD, &headers(&[("range", "bytes=99-")])) else {
            panic!("HEAD needs no content");
        };
        assert_eq!((response.status().as_u16(), &response.headers()["content-length"]), (200, &HeaderValue::from(10)));
    }
}
