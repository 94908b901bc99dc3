//! Packs that leave: for clones, exports and bundles. Entries are copied out of stored packs as they stand there, in the order in
//! which they lie, deltas included, so that nothing is inflated, deflated or walked.
//!
//! A delta is copied only where its base went out before it, from the same pack: what leaves never rests on, and so never tells of,
//! an object that is not sent. Copied bytes are checked against the CRC-32s of their pack's index; all others by their hash.

mod assemble;
mod planned;

use std::collections::HashSet;
use std::io::Write;

use futures::StreamExt;
use tokio::sync::mpsc;
use treehold_catalog::{KeyId, Located, RoaringTreemap};
use treehold_object::ObjectId;
use treehold_object::pack::{PackWriter, Span, Written};
use treehold_store::{RawPack, StoreError};

use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result, blocking};
use assemble::Step;
use planned::Planned;

/// Objects located at once.
const CHUNK: usize = 4096;
/// Rows of one pack that are looked at at once.
const PAGE: u32 = 8192;
/// A pack is copied from as it is where so many objects of one chunk lie in it; else they are read one by one.
const DENSE: usize = 64;
/// Bytes that are read at once; a single entry may be longer.
const PART: u64 = 1 << 20;
/// Parts that are read at the same time.
const PARTS_AHEAD: usize = 3;
/// Objects that are written whole at once.
const WHOLE: usize = 64;
/// How often what was moved meanwhile is looked for again.
const ROUNDS: usize = 4;
/// zlib level of what has to be deflated.
const LEVEL: u32 = 6;

/// What a pack is to hold.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Stored objects, by ledger number.
    pub numbers: RoaringTreemap,
    /// Objects in memory; none of them is among `numbers`.
    pub fresh: Vec<NewBytes>,
}

impl Contents {
    /// How many objects that is.
    pub fn count(&self) -> Result<u32> {
        u32::try_from(self.numbers.len() + self.fresh.len() as u64).map_err(EngineError::internal)
    }
}

/// How a pack is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Deltas may refer to an entry of the same pack by its distance; else every object goes out whole.
    pub deltas: bool,
    /// Whether [`Written::entries`] is needed.
    pub index: bool,
}

/// Told how many objects went out.
pub(crate) type Told<'a> = dyn Fn(u64) + Sync + 'a;

/// The state of one pack under way.
struct Feed<'a> {
    engine: &'a Engine,
    steps: mpsc::Sender<Step>,
    form: Form,
    /// Ledger numbers that went out.
    sent: RoaringTreemap,
    told: &'a Told<'a>,
}

impl Engine {
    /// Writes a pack to `out`, which may block: it is written to on a thread for that.
    pub(crate) async fn write_pack<W: Write + Send + 'static>(
        &self,
        contents: Contents,
        form: Form,
        out: W,
        told: &Told<'_>,
    ) -> Result<(W, Written)> {
        let count = contents.count()?;
        let (steps, heard) = mpsc::channel(1);
        let assembling = blocking(move || assemble::assemble(out, count, LEVEL, form, heard));
        let mut feed = Feed { engine: self, steps, form, sent: RoaringTreemap::new(), told };
        let fed = async {
            feed.stored(&contents.numbers).await?;
            feed.step(Step::Whole(contents.fresh)).await?;
            drop(feed);
            Ok(())
        };
        match futures::join!(fed, assembling) {
            (Err(Stop::Failed(error)), _) => Err(error),
            // What the sink says is why.
            (Err(Stop::Closed) | Ok(()), assembled) => assembled,
        }
    }
}

/// Why a feed ended early.
enum Stop {
    /// Nobody takes steps any more.
    Closed,
    /// What was to be sent could not be read.
    Failed(EngineError),
}

impl<E: Into<EngineError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Fed = std::result::Result<(), Stop>;

impl Feed<'_> {
    async fn step(&self, step: Step) -> Fed {
        self.steps.send(step).await.map_err(|_| Stop::Closed)
    }

    /// Sends every object of `numbers`, from where it is now. What `repack` moves meanwhile is found at its new place.
    async fn stored(&mut self, numbers: &RoaringTreemap) -> Fed {
        for _ in 0..ROUNDS {
            let missing = numbers - &self.sent;
            if missing.is_empty() {
                return Ok(());
            }
            self.round(&missing).await?;
        }
        match (numbers - &self.sent).min() {
            None => Ok(()),
            Some(number) => Err(lost(format!("object number {number} could not be read where it is"))),
        }
    }

    async fn round(&mut self, missing: &RoaringTreemap) -> Fed {
        let mut copied = HashSet::new();
        let numbers: Vec<u64> = missing.iter().collect();
        for chunk in numbers.chunks(CHUNK) {
            let mut located = self.engine.catalog.locate_numbers(chunk).await?;
            if located.len() != chunk.len() {
                return Err(lost("an object that the project reaches is not in the ledger"));
            }
            located.retain(|object| !self.sent.contains(object.number));
            for (id, key) in dense(&located, &copied) {
                copied.insert(id);
                match self.engine.store.raw_pack(&key).await {
                    Ok(pack) => self.copy(id, &pack, missing).await?,
                    // Without its index the pack's objects are still there.
                    Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            located.retain(|object| !self.sent.contains(object.number));
            self.one_by_one(&located).await?;
        }
        Ok(())
    }

    /// Copies what is `missing` and lies in `pack`, front to back.
    async fn copy(&mut self, id: KeyId, pack: &RawPack, missing: &RoaringTreemap) -> Fed {
        self.step(Step::Pack).await?;
        let (mut planned, mut from) = (Planned::default(), 0);
        loop {
            let rows = self.engine.catalog.objects_in(id, from, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = last.offset + 1;
            let wanted = |row: &Located| missing.contains(row.number) && !self.sent.contains(row.number);
            let rows: Vec<Located> = rows.into_iter().filter(wanted).collect();
            let (copies, whole) = planned.plan(rows, self.form.deltas);
            self.copy_parts(pack, copies).await?;
            self.one_by_one(&whole).await?;
        }
    }

    async fn copy_parts(&mut self, pack: &RawPack, copies: Vec<Located>) -> Fed {
        let parts = parts(copies).into_iter().map(|part| async move {
            let spans: Vec<(ObjectId, Span)> = part.iter().map(|row| (row.oid, span(row))).collect();
            let read = pack.read(&spans).await;
            (part, read)
        });
        let mut parts = futures::stream::iter(parts).buffered(PARTS_AHEAD);
        while let Some((rows, read)) = parts.next().await {
            match read {
                Ok(run) => {
                    self.sent.extend(rows.iter().map(|row| row.number));
                    let bases = rows.iter().map(|row| row.base).collect();
                    self.step(Step::Run { run, start: rows[0].offset, bases }).await?;
                    (self.told)(self.sent.len());
                }
                Err(error) => self.moved(&rows, error).await?,
            }
        }
        Ok(())
    }

    /// What could not be read because it is somewhere else now is left to the next round; anything else is damage.
    async fn moved(&self, rows: &[Located], error: StoreError) -> Fed {
        if !matches!(error, StoreError::Missing { .. } | StoreError::Corrupt { .. }) {
            return Err(error.into());
        }
        let oids: Vec<ObjectId> = rows.iter().map(|row| row.oid).collect();
        let now = self.engine.catalog.locate(&oids).await?;
        let stayed = now.iter().zip(rows).any(|(now, row)| now.as_ref() == Some(row));
        if stayed { Err(error.into()) } else { Ok(()) }
    }

    /// Reads objects by their hash and sends them whole.
    async fn one_by_one(&mut self, located: &[Located]) -> Fed {
        for rows in located.chunks(WHOLE) {
            let locations = self.engine.locations(rows).await?;
            let mut entries = std::pin::pin!(self.engine.store.stream_entries(locations));
            let mut read = Vec::with_capacity(rows.len());
            for row in rows {
                match entries.next().await.transpose() {
                    Ok(Some(entry)) => {
                        self.sent.insert(row.number);
                        read.push(entry);
                    }
                    Ok(None) => return Err(lost("an object was not read")),
                    Err(error) => self.moved(std::slice::from_ref(row), error).await?,
                }
            }
            self.step(Step::Entries(read)).await?;
            (self.told)(self.sent.len());
        }
        Ok(())
    }
}

fn lost(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Stop {
    Stop::Failed(EngineError::internal(what))
}

fn span(row: &Located) -> Span {
    Span { offset: row.offset, length: row.length }
}

/// The packs in which many of these objects lie, less those of `copied`, in order of their first object.
fn dense(located: &[Located], copied: &HashSet<KeyId>) -> Vec<(KeyId, String)> {
    let same_key = located.chunk_by(|one, next| one.key_id == next.key_id);
    let many = same_key.filter(|rows| rows.len() >= DENSE && rows[0].key.ends_with(".pack"));
    let keys = many.map(|rows| (rows[0].key_id, rows[0].key.clone()));
    keys.filter(|(id, _)| !copied.contains(id)).collect()
}

/// Cuts rows that are sorted by offset into runs without gaps, each of about [`PART`] bytes.
fn parts(rows: Vec<Located>) -> Vec<Vec<Located>> {
    let mut parts: Vec<Vec<Located>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let joins = |part: &Vec<Located>| part.last().is_some_and(|last| last.offset + last.length == row.offset);
        bytes += row.length;
        match parts.last_mut() {
            Some(part) if joins(part) && bytes <= PART => part.push(row),
            _ => {
                bytes = row.length;
                parts.push(vec![row]);
            }
        }
    }
    parts
}

/// A pack of `contents` for somebody who needs no index.
impl Form {
    /// For a client that can read deltas by distance, or not.
    pub fn streamed(deltas: bool) -> Self {
        Self { deltas, index: false }
    }

    /// For a file whose index is written beside it.
    pub const FILE: Self = Self { deltas: true, index: true };

    fn writer<W: Write>(self, out: W, count: u32, level: u32) -> Result<PackWriter<W>> {
        let writer = PackWriter::new(out, count, level).map_err(assemble::failed)?;
        Ok(if self.index { writer } else { writer.without_index() })
    }
}
