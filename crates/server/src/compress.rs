//! Compression of answers, where it pays: JSON, lines and text of some length, for callers that ask for it.
//!
//! The bytes of files go as they are. Their entity tag is the oid of exactly these bytes, and ranges count in them; a coded body
//! would need a tag of its own (RFC 9110 section 8.8.1). So nothing that has an entity tag, a range or a coding already is touched,
//! and archives, compressed as they are, are not either.
//!
//! Lengths of compressed bodies tell something about their content (the BREACH attack) where a secret and text of an attacker's
//! choice are in one body. No body of ours holds a secret: keys and tokens come in headers and are never sent back.

use std::io::{self, Write as _};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Body as _;

use crate::app::App;

/// Shorter bodies are not worth it, bytes.
const LEAST: u64 = 1 << 10;
/// More than this is compressed away from the threads that serve connections, bytes.
const INLINE_MAX: usize = 16 << 10;
/// The fastest, with nearly all of the gain for text.
const GZIP_LEVEL: u32 = 1;
/// Smaller bodies than gzip's at its level, in less time.
const ZSTD_LEVEL: i32 = 1;
/// How far zstd looks back, bytes as a power of two: far less than the 8 MiB that every reader must take (RFC 9659), as
/// each answer holds this much until it ends.
const ZSTD_WINDOW: u32 = 18;

/// A content coding that we can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// What the caller takes and likes at least as much as a plain body.
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accepted = accepted(headers);
        let gzip = weight(&accepted, &["gzip", "x-gzip"]);
        // Who takes anything may well mean what was there always.
        let zstd = if accepted.to_ascii_lowercase().contains("zstd") { weight(&accepted, &["zstd"]) } else { 0.0 };
        // Nothing is said of the plain body, as a rule: then it is the last resort.
        let plain = if accepted.contains("identity") { weight(&accepted, &["identity"]) } else { 0.0 };
        let (best, weight) = if zstd >= gzip && zstd > 0.0 { (Self::Zstd, zstd) } else { (Self::Gzip, gzip) };
        (weight > 0.0 && weight >= plain).then_some(best)
    }

    fn name(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Zstd => HeaderValue::from_static("zstd"),
        }
    }

    /// Memory of one encoder, bytes, rounded up.
    fn memory(self) -> u64 {
        match self {
            Self::Gzip => 1 << 20,
            Self::Zstd => 2 << 20,
        }
    }
}

/// Whether the caller takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    weight(&accepted(headers), &["gzip", "x-gzip"]) > 0.0
}

fn accepted(headers: &HeaderMap) -> String {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.collect::<Vec<_>>().join(",")
}

/// The weight of a coding under any of its names; `*` stands for those that are not named (RFC 9110 section 12.5.3).
fn weight(accepted: &str, names: &[&str]) -> f32 {
    let (mut named, mut others) = (None, 0.0);
    for item in accepted.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let given = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = given.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0));
        if names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            named = Some(weight);
        } else if name == "*" {
            others = weight;
        }
    }
    named.unwrap_or(others)
}

/// The layer.
pub(crate) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let wanted = Coding::wanted(request.headers());
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if head || !is_compressible(&response) {
        return response;
    }
    // Caches must know that another caller may get other bytes.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let short = response.body().size_hint().upper().is_some_and(|length| length < LEAST);
    let Some(coding) = wanted.filter(|_| !short) else { return response };
    // Without room for an encoder, plain is better than nothing.
    let Ok(memory) = app.reserve(coding.memory()) else { return response };
    let Ok(encoder) = Encoder::new(coding) else { return response };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, coding.name());
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    response.map(|body| Body::from_stream(encoded(body, encoder, memory)))
}

fn is_compressible(response: &Response) -> bool {
    let headers = response.headers();
    let untouched = [header::ETAG, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::CONTENT_DISPOSITION];
    let plain = response.status() != StatusCode::PARTIAL_CONTENT
        && !response.body().is_end_stream()
        && !untouched.iter().any(|name| headers.contains_key(name));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let text = kind.starts_with("text/") && kind != "text/event-stream";
    plain && (text || matches!(kind, "application/json" | "application/x-ndjson" | "application/problem+json"))
}

/// An encoder and what it has written.
enum Encoder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL)))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Compresses a piece, so that its reader has all of it.
    fn piece(mut self, piece: &[u8]) -> io::Result<(Self, Bytes)> {
        let out = match &mut self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok((self, out.into()))
    }

    fn end(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?.into(),
            Self::Zstd(encoder) => encoder.finish()?.into(),
        })
    }
}

/// The body, compressed piece by piece as it is taken. `memory` is kept until the last one was.
fn encoded<T: Send + 'static>(
    body: Body,
    encoder: Encoder,
    memory: T,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<T> {
    let begun = (body.into_data_stream(), Some(encoder), memory);
    futures::stream::try_unfold(begun, |(mut pieces, encoder, memory)| async move {
        let Some(encoder) = encoder else { return Ok(None) };
        Ok(match pieces.next().await {
            None => Some((encoder.end()?, (pieces, None, memory))),
            Some(piece) => {
                let piece = piece.map_err(io::Error::other)?;
                let (encoder, out) = if piece.len() <= INLINE_MAX {
                    encoder.piece(&piece)?
                } else {
                    tokio::task::spawn_blocking(move || encoder.piece(&piece)).await.map_err(io::Error::other)??
                };
                Some((out, (pieces, Some(encoder), memory)))
            }
        })
    })
}

#[cfg(test)]
#[path = "compress_tests.rs"]
mod tests;
