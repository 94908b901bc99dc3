//! Answers that come in pieces: lines, server-sent events, lists that are asked for page by page.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::BytesMut;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, TransportError};
use crate::transport::{Reply, Request, Transport, Tries, parsed};
use crate::types::{
    CheckpointEntry, CheckpointList, ConflictFile, ConflictPage, Diff, DiffFile, LogEntry, LogPage, PendingEntry,
    PendingList, ProjectPage, ProjectView, PullPage, PullView, RefList, RefView, ReflogPage, ReflogView, Snapshot,
    TreeChange, TreeDiff, VersionEntry, VersionList,
};

/// Longest line, bytes: a file of 100 MiB in JSON.
const LINE_BYTES_MAX: usize = 512 << 20;

/// What comes one by one. Dropping it ends what is under way.
pub type Items<T> = BoxStream<'static, Result<T>>;

/// A stream of what `next` gives until it gives `None`.
pub(crate) fn items<S, T, F, G>(state: S, next: F) -> Items<T>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Fn(S) -> G + Send + 'static,
    G: Future<Output = Result<Option<(T, S)>>> + Send + 'static,
{
    futures::stream::try_unfold(state, next).boxed()
}

/// The lines of an answer, as they come. The last one counts only if it is ended: a cut answer has no last line.
#[derive(Debug)]
pub(crate) struct Lines {
    reply: Reply,
    held: BytesMut,
    looked: usize,
}

impl Lines {
    pub(crate) fn new(reply: Reply) -> Self {
        Self { reply, held: BytesMut::new(), looked: 0 }
    }

    /// Without its end; `None` = the answer has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(at) = self.held[self.looked..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.held.split_to(self.looked + at + 1);
                line.truncate(line.len() - 1);
                self.looked = 0;
                return Ok(Some(line));
            }
            self.looked = self.held.len();
            if self.looked > LINE_BYTES_MAX {
                return Err(Error::BadAnswer {
                    status: self.reply.status,
                    detail: "a line of the answer is too long".to_owned(),
                });
            }
            match self.reply.chunk().await? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) event: String,
    pub(crate) data: String,
    /// The last id that the stream has named so far.
    pub(crate) id: Option<String>,
}

/// Server-sent events (HTML living standard, section 9.2.6). One without data is given too: it is a sign of life.
#[derive(Debug)]
pub(crate) struct ServerEvents {
    lines: Lines,
    id: Option<String>,
}

impl ServerEvents {
    pub(crate) fn new(reply: Reply) -> Self {
        Self { lines: Lines::new(reply), id: None }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<ServerEvent>> {
        let mut event = ServerEvent::default();
        while let Some(line) = self.lines.next().await? {
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            if line.is_empty() {
                event.id = self.id.clone();
                return Ok(Some(event));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event.event = value.to_owned(),
                "data" if event.data.is_empty() => event.data = value.to_owned(),
                "data" => event.data = format!("{}\n{value}", event.data),
                "id" => self.id = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What a streamed list holds.
#[derive(Debug)]
pub(crate) enum Piece<T, E> {
    Head(Snapshot),
    Entry(T),
    End(E),
}

/// One NDJSON answer: a head, a line each, an end.
///
/// An answer that is cut is asked for again. What comes is of the same snapshot if its head is the same; then it goes on where it was
/// cut, else it fails.
#[derive(Debug)]
pub(crate) struct Entries<T, E> {
    transport: Arc<Transport>,
    request: Request,
    lines: Option<Lines>,
    head: Option<BytesMut>,
    given: u64,
    /// Entries to pass over, which were given before the answer was cut.
    skip: u64,
    tries: Tries,
    _of: PhantomData<fn() -> (T, E)>,
}

impl<T: DeserializeOwned, E: DeserializeOwned> Entries<T, E> {
    pub(crate) fn new(transport: &Arc<Transport>, request: Request) -> Self {
        let request = request.accept("application/x-ndjson");
        let tries = transport.tries();
        let transport = Arc::clone(transport);
        Self { transport, request, lines: None, head: None, given: 0, skip: 0, tries, _of: PhantomData }
    }

    /// Not to be called after the end.
    pub(crate) async fn next(&mut self) -> Result<Piece<T, E>> {
        loop {
            match self.piece().await {
                Ok(Some(piece)) => return Ok(piece),
                Ok(None) => {}
                Err(failure @ Error::Transport(_)) => {
                    self.lines = None;
                    self.tries.again(true, failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Piece<T, E>>> {
        let Some(lines) = &mut self.lines else {
            // Its own attempts are counted by `send`.
            self.lines = Some(Lines::new(self.transport.send(&self.request).await?));
            return self.begin().await;
        };
        let line = lines.next().await?.ok_or_else(cut)?;
        if line.is_empty() {
            return Ok(None);
        }
        let piece = entry_or_end(&line)?;
        if !matches!(piece, Piece::Entry(_)) {
            return Ok(Some(piece));
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(None);
        }
        // What was given already is no progress: an answer that is always cut at one place must come to an end.
        self.tries.progressed();
        self.given += 1;
        Ok(Some(piece))
    }

    async fn begin(&mut self) -> Result<Option<Piece<T, E>>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let line = lines.next().await?.ok_or_else(cut)?;
        self.skip = self.given;
        match &self.head {
            Some(head) if *head == line => Ok(None),
            Some(_) if self.given > 0 => Err(Error::SnapshotChanged),
            told => {
                let first = told.is_none();
                let head = parsed(200, &line)?;
                self.head = Some(line);
                Ok(first.then_some(Piece::Head(head)))
            }
        }
    }
}

/// A line after the head. What is neither is a broken entry, never an end: a list with an entry that we do not understand is not complete.
pub(crate) fn entry_or_end<T: DeserializeOwned, E: DeserializeOwned>(line: &[u8]) -> Result<Piece<T, E>> {
    match parsed(200, line) {
        Ok(entry) => Ok(Piece::Entry(entry)),
        Err(failure) => serde_json::from_slice(line).map(Piece::End).map_err(|_| failure),
    }
}

fn cut() -> Error {
    TransportError::Broken("the answer was cut".into()).into()
}

/// A page of a list.
pub trait Page: DeserializeOwned + Send + 'static {
    /// What it lists.
    type Item: Send + 'static;
    /// The entries, and where the next page begins.
    fn split(self) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! pages {
    ($($page:ident: $field:ident of $item:ident;)*) => {$(
        impl Page for $page {
            type Item = $item;
            fn split(self) -> (Vec<$item>, Option<String>) {
                (self.$field, self.next_cursor)
            }
        }
    )*};
}

pages! {
    ProjectPage: projects of ProjectView;
    PendingList: changes of PendingEntry;
    ConflictPage: files of ConflictFile;
    Diff: files of DiffFile;
    TreeDiff: files of TreeChange;
    LogPage: commits of LogEntry;
    RefList: refs of RefView;
    ReflogPage: entries of ReflogView;
    VersionList: versions of VersionEntry;
    CheckpointList: checkpoints of CheckpointEntry;
    PullPage: pulls of PullView;
}

/// A list that comes in pages, asked for as they are needed.
#[derive(Debug, Clone)]
pub struct Pages<P> {
    transport: Arc<Transport>,
    request: Request,
    _of: PhantomData<fn() -> P>,
}

impl<P: Page> Pages<P> {
    pub(crate) fn new(transport: &Arc<Transport>, request: Request) -> Self {
        Self { transport: Arc::clone(transport), request, _of: PhantomData }
    }

    /// One page; the first one without a cursor.
    pub async fn page(&self, cursor: Option<&str>) -> Result<P> {
        self.transport.json(&self.request.clone().query("cursor", cursor)).await
    }

    /// Everything.
    pub async fn all(&self) -> Result<Vec<P::Item>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (mut entries, next) = self.page(cursor.as_deref()).await?.split();
            all.append(&mut entries);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// One entry after the other, a page in memory at a time.
    pub fn stream(self) -> Items<P::Item> {
        let state = (self, Vec::new().into_iter(), Some(None::<String>));
        items(state, |(pages, mut held, mut next)| async move {
            loop {
                if let Some(entry) = held.next() {
                    return Ok(Some((entry, (pages, held, next))));
                }
                let Some(cursor) = next else { return Ok(None) };
                let (entries, after) = pages.page(cursor.as_deref()).await?.split();
                held = entries.into_iter();
                next = after.map(Some);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_as_they_are_cut_and_only_if_they_end() {
        let mut lines = Lines::new(Reply::of(vec!["on", "e\n\ntwo\nth", "ree"]));
        for expected in ["one", "", "two"] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        assert_eq!(lines.next().await.unwrap(), None, "a cut answer has no last line");
    }

    #[tokio::test]
    async fn events_have_names_ids_and_lines() {
        let text =
            vec![": hello\n\nid: 7\nevent: pending\r\ndata: {\"a\":\ndata:1}\n", "\ndata: x\n\nevent: cut\ndata: y\n"];
        let mut events = ServerEvents::new(Reply::of(text));
        let event = |event: &str, data: &str, id: Option<&str>| {
            Some(ServerEvent { event: event.into(), data: data.into(), id: id.map(str::to_owned) })
        };
        assert_eq!(events.next().await.unwrap(), event("", "", None), "a sign of life");
        assert_eq!(events.next().await.unwrap(), event("pending", "{\"a\":\n1}", Some("7")));
        assert_eq!(events.next().await.unwrap(), event("", "x", Some("7")));
        assert_eq!(events.next().await.unwrap(), None, "what has no end was cut");
    }
}
