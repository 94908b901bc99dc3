//! What git clients send: bodies that may be compressed, bounded before memory is spent.

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;
use treehold_wire::serve::RequestLimits;

use super::Service;
use crate::app::{App, Reserved};
use crate::body;
use crate::error::Problem;

/// Memory is set aside in steps of this many bytes.
const STEP: usize = 64 << 10;
/// What a request becomes in memory, for each byte of it: itself, its lines taken apart, and what is known of each.
pub(super) const PARSED_FACTOR: u64 = 3;
/// A piece of input is at most so long, so that what it inflates to is bounded: zlib makes at most 1,032 bytes of one.
const INFLATE_STEP: usize = 1 << 10;

/// A request to `git-upload-pack`, with the memory that it holds.
pub(super) struct Read {
    pub bytes: Vec<u8>,
    _memory: Option<Reserved>,
}

/// Refuses bodies of another type or coding than git sends.
pub(super) fn judge(headers: &HeaderMap, service: Service) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let unsupported =
        |detail: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail);
    if kind != Some(service.request_type().as_bytes()) {
        return Err(unsupported(format!("send git's own request, with Content-Type: {}", service.request_type())));
    }
    match coding(headers) {
        Some(_) => Ok(()),
        None => Err(unsupported("the body may be compressed with gzip, or not at all".to_owned())),
    }
}

/// Whether the body is compressed; `None` = in a way that is not known.
fn coding(headers: &HeaderMap) -> Option<bool> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Some(false),
        Some(b"gzip" | b"x-gzip") => Some(true),
        Some(_) => None,
    }
}

/// Takes a compressed body apart, or passes a plain one on.
pub(super) enum Decoder {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Decoder {
    pub fn of(headers: &HeaderMap) -> Self {
        match coding(headers) {
            Some(true) => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            _ => Self::Plain,
        }
    }

    /// Takes some of `raw` and gives what comes of it, about a megabyte at most.
    pub fn step(&mut self, raw: &mut Bytes) -> Result<Vec<u8>, Problem> {
        match self {
            Self::Plain => Ok(std::mem::take(raw).into()),
            Self::Gzip(decoder) => {
                let piece = raw.split_to(raw.len().min(INFLATE_STEP));
                decoder.write_all(&piece).map_err(|_| bad_gzip())?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// The last bytes.
    pub fn finish(self) -> Result<Vec<u8>, Problem> {
        match self {
            Self::Plain => Ok(Vec::new()),
            Self::Gzip(decoder) => decoder.finish().map_err(|_| bad_gzip()),
        }
    }
}

fn bad_gzip() -> Problem {
    Problem::bad_request("bad_body", "the body is not the gzip that its Content-Encoding announces, or ends too early")
}

/// A body as it comes, decompressed.
pub(super) struct Source {
    app: App,
    body: Body,
    deadline: Instant,
    raw: Bytes,
    /// `None` once the body has ended.
    decoder: Option<Decoder>,
    /// Given back: comes again before anything else.
    back: Vec<u8>,
}

impl Source {
    pub fn new(app: &App, headers: &HeaderMap, body: Body) -> Self {
        let deadline = Instant::now() + app.config().body_timeout;
        let (raw, decoder) = (Bytes::new(), Some(Decoder::of(headers)));
        Self { app: app.clone(), body, deadline, raw, decoder, back: Vec::new() }
    }

    /// The next bytes, about a megabyte at most; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        if !self.back.is_empty() {
            return Ok(Some(std::mem::take(&mut self.back)));
        }
        while let Some(decoder) = &mut self.decoder {
            let out = if self.raw.is_empty() {
                match body::next(&self.app, &mut self.body, self.deadline).await? {
                    Some(chunk) => {
                        self.raw = chunk;
                        continue;
                    }
                    None => self.decoder.take().map_or(Ok(Vec::new()), Decoder::finish)?,
                }
            } else {
                decoder.step(&mut self.raw)?
            };
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }

    /// Gives bytes back that are somebody else's.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.back = bytes;
    }
}

/// Reads a request to `git-upload-pack`.
pub(super) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
    let limit = RequestLimits::default().bytes;
    let (mut source, mut bytes) = (Source::new(app, headers, body), Vec::new());
    let (mut memory, mut reserved) = (None, 0);
    while let Some(mut more) = source.next().await? {
        let len = bytes.len() + more.len();
        if len > limit {
            return Err(Problem::too_large("the request", limit as u64, "bytes"));
        }
        if len > reserved {
            let step = (len - reserved).next_multiple_of(STEP);
            app.reserve_more(&mut memory, PARSED_FACTOR * step as u64)?;
            reserved += step;
        }
        bytes.append(&mut more);
    }
    Ok(Read { bytes, _memory: memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_other_kinds_are_refused() {
        let headers = |kind: &str, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            headers.extend(coding.map(|coding| (header::CONTENT_ENCODING, coding.parse().unwrap())));
            headers
        };
        let git = "application/x-git-upload-pack-request";
        for coding in [None, Some("gzip"), Some("x-gzip"), Some("identity")] {
            assert!(judge(&headers(git, coding), Service::UploadPack).is_ok(), "{coding:?}");
        }
        for (kind, coding) in [(git, Some("br")), (git, Some("gzip, gzip")), ("text/plain", None)] {
            let refused = judge(&headers(kind, coding), Service::UploadPack).unwrap_err();
            assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind} {coding:?}");
        }
        assert!(judge(&headers(git, None), Service::ReceivePack).is_err());
    }

    #[test]
    fn what_is_compressed_comes_out_in_small_pieces() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 50 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let (mut decoder, mut raw, mut total, mut largest) = (Decoder::of(&headers), Bytes::from(bomb.clone()), 0, 0);
        while !raw.is_empty() {
            let out = decoder.step(&mut raw).unwrap();
            (total, largest) = (total + out.len(), largest.max(out.len()));
        }
        total += decoder.finish().unwrap().len();
        assert_eq!(total, 50 << 20);
        assert!(largest <= 2 << 20, "{largest}");
        let (mut cut, mut half) = (Decoder::of(&headers), Bytes::from(bomb[..bomb.len() / 2].to_vec()));
        while !half.is_empty() {
            cut.step(&mut half).unwrap();
        }
        assert!(cut.finish().is_err());
    }
}
