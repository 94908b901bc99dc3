//! Packs that leave: for clones, exports and bundles. Entries are copied out of stored packs as they stand there, in the order in
//! which they lie, deltas included, so that nothing is inflated, deflated or walked.
//!
//! A delta is copied only where its base went out before it, from the same pack: what leaves never rests on, and so never tells of,
//! an object that is not sent. Copied bytes are checked against the CRC-32s of their pack's index; all others by their hash.

mod assemble;
mod layout;
mod planned;

use std::collections::HashSet;
use std::io::Write;

use futures::StreamExt;
use tokio::sync::mpsc;
use treehold_catalog::{KeyId, Located, RoaringTreemap};
use treehold_object::ObjectId;
use treehold_object::pack::{PackWriter, Written};
use treehold_store::{RawPack, StoreError, StoredEntry};
use uuid::Uuid;

use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result, blocking};
use assemble::Step;
pub(crate) use layout::Layouts;
use planned::Planned;

/// Objects located at once.
const CHUNK: usize = 4096;
/// A pack is copied from as it is where so many objects of one chunk lie in it; else they are read one by one.
const DENSE: usize = 64;
/// Bytes that are read at once; a single entry may be longer.
const PART: u64 = 1 << 20;
/// Parts that are read at the same time.
const PARTS_AHEAD: usize = 3;
/// Objects that are written whole at once, if they come to less than [`PART`].
const WHOLE: usize = 64;
/// How often what was moved meanwhile is looked for again.
const ROUNDS: usize = 4;
/// zlib level of what has to be deflated.
const LEVEL: u32 = 6;

/// What a pack is to hold.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Whose objects they are.
    pub project: Uuid,
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
    project: Uuid,
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
        let mut feed = Feed { engine: self, project: contents.project, steps, form, sent: RoaringTreemap::new(), told };
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
        if numbers.len() >= DENSE as u64 {
            for (id, key) in self.engine.dense_packs(self.project, numbers).await?.iter() {
                self.copy_pack(*id, key, numbers).await?;
            }
        }
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
            let chunk: Vec<u64> = chunk.iter().filter(|number| !self.sent.contains(**number)).copied().collect();
            let mut located = self.engine.catalog.locate_numbers(&chunk).await?;
            if located.len() != chunk.len() {
                return Err(lost("an object that the project reaches is not in the ledger"));
            }
            for (id, key) in dense(&located, &copied) {
                // Not where they were last time: it is time to count again.
                self.engine.forget_dense_packs(self.project);
                copied.insert(id);
                self.copy_pack(id, &key, missing).await?;
            }
            located.retain(|object| !self.sent.contains(object.number));
            self.one_by_one(&located).await?;
        }
        Ok(())
    }

    async fn copy_pack(&mut self, id: KeyId, key: &str, missing: &RoaringTreemap) -> Fed {
        match self.engine.store.raw_pack(key).await {
            Ok(pack) => self.copy(id, &pack, missing).await,
            // Without its index the pack's objects may still be there; if it is gone they are elsewhere.
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies what is `missing` and stands in `pack`, front to back.
    async fn copy(&mut self, id: KeyId, pack: &RawPack, missing: &RoaringTreemap) -> Fed {
        self.step(Step::Pack).await?;
        let layout = self.engine.layout(id, pack).await?;
        let wanted = |number: &u64| *number != 0 && missing.contains(*number) && !self.sent.contains(*number);
        let wanted: Vec<u64> = layout.iter().map(|number| if wanted(number) { *number } else { 0 }).collect();
        let reads = parts(pack, &wanted).into_iter().map(|places| async move {
            let read = pack.read(places.clone()).await;
            (places, read)
        });
        let (mut reads, mut planned) = (futures::stream::iter(reads).buffered(PARTS_AHEAD), Planned::default());
        while let Some((places, read)) = reads.next().await {
            let run = match read {
                Ok(run) => run,
                // Whatever could not be read is looked for object by object, which also tells damage from a move.
                Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {
                    let oids: Vec<ObjectId> = pack.entries()[places].iter().map(|entry| entry.oid).collect();
                    self.whole(&oids).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let copied = planned.plan(&run, self.form.deltas);
            let numbers = places.zip(&copied).filter(|(_, copied)| **copied).map(|(at, _)| wanted[at]);
            self.sent.extend(numbers);
            let rest = run.entries.iter().zip(&copied).filter(|(_, copied)| !**copied);
            let rest: Vec<ObjectId> = rest.map(|(entry, _)| entry.oid).collect();
            self.step(Step::Run { run, copied }).await?;
            self.whole(&rest).await?;
            (self.told)(self.sent.len());
        }
        Ok(())
    }

    /// Sends objects whole, from wherever they are.
    async fn whole(&mut self, oids: &[ObjectId]) -> Fed {
        for chunk in oids.chunks(CHUNK) {
            let located: Vec<Located> = self.engine.catalog.locate(chunk).await?.into_iter().flatten().collect();
            self.one_by_one(&located).await?;
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
        if stayed { Err(EngineError::of_damage(error, oids.first()).into()) } else { Ok(()) }
    }

    /// Reads objects by their hash, some ahead of what is written, and sends them whole.
    async fn one_by_one(&mut self, located: &[Located]) -> Fed {
        if located.is_empty() {
            return Ok(());
        }
        let locations = self.engine.locations(located).await?;
        let mut entries = std::pin::pin!(self.engine.store.stream_entries(locations));
        let mut batch = Batch::default();
        for row in located {
            let full = match entries.next().await.transpose() {
                Ok(Some(entry)) => {
                    self.sent.insert(row.number);
                    batch.add(entry)
                }
                Ok(None) => return Err(lost("an object was not read")),
                Err(error) => {
                    self.moved(std::slice::from_ref(row), error).await?;
                    None
                }
            };
            if let Some(full) = full {
                self.step(Step::Entries(full)).await?;
                (self.told)(self.sent.len());
            }
        }
        self.step(Step::Entries(batch.take())).await?;
        (self.told)(self.sent.len());
        Ok(())
    }
}

/// Entries that are written together: not many, and not many bytes, as each may be as long as a file.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<StoredEntry>,
    bytes: u64,
}

impl Batch {
    /// One more; answers those that are to be written now.
    fn add(&mut self, entry: StoredEntry) -> Option<Vec<StoredEntry>> {
        self.bytes += entry.zlib.len() as u64;
        self.entries.push(entry);
        (self.entries.len() >= WHOLE || self.bytes >= PART).then(|| self.take())
    }

    fn take(&mut self) -> Vec<StoredEntry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}

fn lost(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Stop {
    Stop::Failed(EngineError::internal(what))
}

/// The packs in which many of these objects lie, less those of `copied`, in order of their first object.
fn dense(located: &[Located], copied: &HashSet<KeyId>) -> Vec<(KeyId, String)> {
    let same_key = located.chunk_by(|one, next| one.key_id == next.key_id);
    let many = same_key.filter(|rows| rows.len() >= DENSE && rows[0].key.ends_with(".pack"));
    let keys = many.map(|rows| (rows[0].key_id, rows[0].key.clone()));
    keys.filter(|(id, _)| !copied.contains(id)).collect()
}

/// Cuts the entries that have a number into runs of neighbours, each of about [`PART`] bytes.
fn parts(pack: &RawPack, wanted: &[u64]) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut bytes = 0;
    for at in (0..wanted.len()).filter(|at| wanted[*at] != 0) {
        let length = pack.span(at).length;
        match parts.last_mut() {
            Some(part) if part.end == at && bytes + length <= PART => {
                part.end += 1;
                bytes += length;
            }
            _ => {
                parts.push(at..at + 1);
                bytes = length;
            }
        }
    }
    parts
}

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

#[cfg(test)]
mod tests {
    use treehold_object::Kind;

    use super::*;

    /// Goal: however long objects are, few bytes of them wait to be written; and none is forgotten.
    #[test]
    fn few_bytes_are_written_together() {
        let entry = |bytes: usize| StoredEntry {
            oid: ObjectId::Sha1([0; 20]),
            kind: Kind::Blob,
            size: bytes as u64,
            zlib: vec![0; bytes].into(),
        };
        let mut batch = Batch::default();
        let written: Vec<usize> = (0..200).filter_map(|_| batch.add(entry(10))).map(|full| full.len()).collect();
        assert_eq!((written, batch.take().len()), (vec![64, 64, 64], 8));
        let half = PART as usize / 2;
        let lengths = [half, half, 3 * half, 1, half - 1, 2 * half, 5];
        let written: Vec<usize> = lengths.map(|bytes| batch.add(entry(bytes)).map_or(0, |full| full.len())).to_vec();
        assert_eq!((written, batch.take().len()), (vec![0, 2, 1, 0, 0, 3, 0], 1));
        assert_eq!((batch.take().len(), batch.bytes), (0, 0));
    }
}
