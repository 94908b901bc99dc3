//! Answers that are made while they are sent: lists and batch reads, as one JSON value or as lines (NDJSON).
//!
//! A piece is made when the connection has room for it, so that a slow reader costs a piece and not the answer. What fits the first
//! piece goes out as an ordinary body of known length, and fails with a proper status; a later failure cuts the connection, which
//! no client takes for the end of the answer.

use std::future::Future;

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use treehold_engine::api::{Listed, Oid, ReadItem};
use treehold_engine::{Listing, Reading};

use crate::admission::{self, Reserved};
use crate::app::App;
use crate::error::Problem;
use crate::headers::negotiate;
use crate::json::{self, FileWriter};
use crate::respond::Answer;

/// Length from which a piece is sent, bytes.
const PIECE: usize = 128 << 10;

/// Memory for a byte of content that was read and not sent yet: itself, and the text it becomes.
const CONTENT_FACTOR: u64 = 2;

/// How entries are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One JSON object.
    Object,
    /// A line for the head, one for each entry, and one for the end.
    Lines,
}

impl Shape {
    /// What the caller asked for.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        match negotiate(headers, &["application/json", "application/x-ndjson"]) {
            0 => Self::Object,
            _ => Self::Lines,
        }
    }

    fn kind(self) -> HeaderValue {
        match self {
            Self::Object => HeaderValue::from_static("application/json"),
            Self::Lines => HeaderValue::from_static("application/x-ndjson"),
        }
    }

    /// The head: an object goes as far as its first entry.
    pub(crate) fn begin(
        self,
        out: &mut Vec<u8>,
        commit: Option<Oid>,
        revision: Option<Option<i64>>,
        entries: &str,
    ) -> Result<(), Problem> {
        out.extend_from_slice(b"{\"commit\":");
        json::value(out, &commit)?;
        if let Some(revision) = revision {
            out.extend_from_slice(b",\"revision\":");
            json::value(out, &revision)?;
        }
        match self {
            Self::Object => out.extend_from_slice(format!(",\"{entries}\":[").as_bytes()),
            Self::Lines => out.push(b'}'),
        }
        Ok(())
    }

    pub(crate) fn separate(self, out: &mut Vec<u8>, first: bool) {
        match self {
            Self::Object if first => {}
            Self::Object => out.push(b','),
            Self::Lines => out.push(b'\n'),
        }
    }

    fn end(self, out: &mut Vec<u8>, next_cursor: Option<&str>) -> Result<(), Problem> {
        match self {
            Self::Object => out.extend_from_slice(b"],\"next_cursor\":"),
            Self::Lines => out.extend_from_slice(b"\n{\"next_cursor\":"),
        }
        json::value(out, &next_cursor)?;
        out.extend_from_slice(if self == Self::Lines { b"}\n".as_slice() } else { b"}" });
        Ok(())
    }
}

/// An answer that is made piece by piece.
pub(crate) trait Pieces: Send + 'static {
    /// An answer up to this length is sent in one piece, bytes.
    fn whole(&self) -> usize;

    /// Adds about a piece; `false` once the answer is complete.
    fn add(&mut self, app: &App, out: &mut Vec<u8>) -> impl Future<Output = Result<bool, Problem>> + Send;
}

/// Sends it.
pub(crate) async fn send<P: Pieces>(app: &App, shape: Shape, mut pieces: P) -> Answer {
    let mut out = Vec::with_capacity(4 << 10);
    let mut more = true;
    while more && out.len() < pieces.whole() {
        more = pieces.add(app, &mut out).await?;
    }
    let body = if more { Body::from_stream(rest(app.clone(), pieces, out)) } else { Body::from(out) };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, shape.kind())], body).into_response())
}

fn rest(
    app: App,
    pieces: impl Pieces,
    begun: Vec<u8>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    // What is read later is still read for this request, and counts as its project's.
    let current = admission::current();
    futures::stream::try_unfold((app, Some(pieces), begun), move |(app, pieces, begun)| {
        admission::in_name_of(current.clone(), next_piece(app, pieces, begun))
    })
}

type State<P> = (App, Option<P>, Vec<u8>);

/// The next piece, and how to go on.
async fn next_piece<P: Pieces>(
    app: App,
    pieces: Option<P>,
    begun: Vec<u8>,
) -> Result<Option<(Bytes, State<P>)>, std::io::Error> {
    if !begun.is_empty() {
        return Ok(Some((Bytes::from(begun), (app, pieces, Vec::new()))));
    }
    let Some(mut pieces) = pieces else { return Ok(None) };
    let mut out = Vec::with_capacity(PIECE + PIECE / 4);
    match pieces.add(&app, &mut out).await {
        Ok(more) => Ok(Some((Bytes::from(out), (app, more.then_some(pieces), Vec::new())))),
        Err(problem) => {
            let logged = problem.logged();
            let cause = logged.cause.as_deref().unwrap_or("");
            tracing::warn!(code = logged.code, cause, "an answer was cut short");
            Err(std::io::Error::other("the answer could not be completed"))
        }
    }
}

/// A list of files.
pub(crate) struct ListPieces {
    listing: Listing,
    shape: Shape,
    begun: bool,
    first: bool,
}

impl ListPieces {
    pub(crate) fn new(listing: Listing, shape: Shape) -> Self {
        Self { listing, shape, begun: false, first: true }
    }
}

impl Pieces for ListPieces {
    fn whole(&self) -> usize {
        256 << 10
    }

    async fn add(&mut self, app: &App, out: &mut Vec<u8>) -> Result<bool, Problem> {
        if !std::mem::replace(&mut self.begun, true) {
            let (commit, revision) = (self.listing.commit(), self.listing.revision());
            // A list without a user has no revision to speak of; the head line has its place for one, as that of a batch read.
            let revision = (revision.is_some() || self.shape == Shape::Lines).then_some(revision);
            self.shape.begin(out, commit, revision, "files")?;
        }
        let end = out.len() + PIECE;
        loop {
            let (shape, first) = (self.shape, &mut self.first);
            let mut write = |file: Listed<'_>| {
                shape.separate(out, std::mem::take(first));
                json::listed(out, &file);
            };
            if !app.reading(self.listing.show(&mut write)).await? {
                self.shape.end(out, self.listing.next_cursor())?;
                return Ok(false);
            }
            if out.len() >= end {
                return Ok(true);
            }
        }
    }
}

/// A batch read.
pub(crate) struct ReadPieces {
    reading: Reading,
    shape: Shape,
    begun: bool,
    first: bool,
    items: std::vec::IntoIter<ReadItem>,
    open: Option<FileWriter>,
    /// For the contents that were read and not sent yet.
    memory: Option<Reserved>,
}

impl ReadPieces {
    pub(crate) fn new(reading: Reading, shape: Shape) -> Self {
        let items = Vec::new().into_iter();
        Self { reading, shape, begun: false, first: true, items, open: None, memory: None }
    }

    /// Reads the next contents; `false` at the end.
    async fn read(&mut self, app: &App) -> Result<bool, Problem> {
        let Some(bytes) = app.reading(self.reading.ahead()).await? else { return Ok(false) };
        // Who has been sent something waits for memory, holding none; who has not is told to come again.
        let had = self.memory.take().is_some();
        let bytes = bytes.saturating_mul(CONTENT_FACTOR);
        self.memory = Some(if had { app.reserve_in_turn(bytes).await? } else { app.reserve(bytes)? });
        self.items = app.reading(self.reading.read()).await?.into_iter();
        Ok(true)
    }

    /// Writes some of what was read; `false` if all of it is written.
    fn write(&mut self, out: &mut Vec<u8>) -> Result<bool, Problem> {
        if let Some(file) = &mut self.open {
            if file.write(out) {
                self.open = None;
            }
            return Ok(true);
        }
        let Some(item) = self.items.next() else { return Ok(false) };
        self.shape.separate(out, std::mem::take(&mut self.first));
        match item {
            ReadItem::File(file) => self.open = Some(FileWriter::new(out, file)),
            failed @ ReadItem::Failed { .. } => json::value(out, &failed)?,
        }
        Ok(true)
    }
}

impl Pieces for ReadPieces {
    fn whole(&self) -> usize {
        // It is made on other threads than it is sent from, and every piece is a wait for one of them.
        1 << 20
    }

    async fn add(&mut self, app: &App, out: &mut Vec<u8>) -> Result<bool, Problem> {
        if !std::mem::replace(&mut self.begun, true) {
            let (commit, revision) = (self.reading.commit(), self.reading.revision());
            self.shape.begin(out, commit, Some(revision), "files")?;
        }
        let end = out.len() + PIECE;
        while out.len() < end {
            if !self.write(out)? && !self.read(app).await? {
                self.shape.end(out, self.reading.next_cursor())?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}
