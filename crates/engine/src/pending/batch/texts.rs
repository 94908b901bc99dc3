//! Contents that a batch works on: those it made, and those it started from, each read once and within a budget.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::Project;
use treehold_object::{Kind, ObjectId};

use crate::objects::Blob;
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// Contents that are asked for at once.
const CHUNK: usize = 256;
/// Text that the edits of one batch look through, bytes, all together.
const WORK_MAX: u64 = 1 << 30;

/// Contents by blob.
#[derive(Debug)]
pub(in crate::pending) struct Texts {
    /// Made here, or sent: not stored anywhere yet.
    pub made: HashMap<ObjectId, NewBytes>,
    read: HashMap<ObjectId, Bytes>,
    limit: u64,
    taken: u64,
    /// Bytes of texts that were looked through, whatever came of it.
    worked: u64,
}

impl Texts {
    /// At most `limit` bytes are read and made.
    pub fn new(limit: u64) -> Self {
        Self { made: HashMap::new(), read: HashMap::new(), limit, taken: 0, worked: 0 }
    }

    /// Counts a text that is to be looked through; `false` = the batch has had its share.
    pub fn work_on(&mut self, bytes: usize) -> bool {
        self.worked = self.worked.saturating_add(bytes as u64);
        self.worked <= WORK_MAX
    }

    /// Names new content; its blob.
    pub fn make(&mut self, engine: &Engine, content: Bytes) -> Result<ObjectId> {
        self.take(content.len() as u64)?;
        engine.room.take(content.len() as u64)?;
        let blob = NewBytes::of(Kind::Blob, content)?;
        let oid = blob.oid;
        self.made.insert(oid, blob);
        Ok(oid)
    }

    /// Bytes of a content that is at hand.
    pub fn get(&self, oid: &ObjectId) -> Option<Bytes> {
        self.made.get(oid).map(|blob| blob.content.clone()).or_else(|| self.read.get(oid).cloned())
    }

    /// Reads those that are not at hand; the caller has seen that the project may.
    pub async fn fetch(&mut self, engine: &Engine, project: &Project, oids: &[ObjectId]) -> Result<()> {
        let mut wanted: Vec<ObjectId> = oids.iter().copied().filter(|oid| self.get(oid).is_none()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for chunk in wanted.chunks(CHUNK) {
            let mut elsewhere = Vec::new();
            for (oid, content) in chunk.iter().zip(engine.catalog.pending_contents(project.id, chunk).await?) {
                match content {
                    Some(content) => {
                        self.take(content.len() as u64)?;
                        engine.room.take(content.len() as u64)?;
                        self.read.insert(*oid, content);
                    }
                    None => elsewhere.push(*oid),
                }
            }
            self.fetch_stored(engine, &elsewhere).await?;
        }
        Ok(())
    }

    /// From the bucket; the sizes are known before the bytes come.
    async fn fetch_stored(&mut self, engine: &Engine, oids: &[ObjectId]) -> Result<()> {
        if oids.is_empty() {
            return Ok(());
        }
        let found = engine.blobs(oids).await?;
        let there: Vec<(ObjectId, &Blob)> =
            oids.iter().zip(&found).filter_map(|(oid, blob)| Some((*oid, blob.as_ref()?))).collect();
        for (_, blob) in &there {
            self.take(blob.size())?;
        }
        let blobs: Vec<&Blob> = there.iter().map(|(_, blob)| *blob).collect();
        for ((oid, _), content) in there.iter().zip(engine.blob_contents(&blobs).await?) {
            self.read.insert(*oid, content?);
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        self.taken = self.taken.saturating_add(bytes);
        match self.taken > self.limit {
            true => Err(EngineError::TooLarge {
                what: "what the operations start from and make",
                limit: self.limit,
                unit: "bytes",
            }),
            false => Ok(()),
        }
    }

    /// One content, read now if it was not foreseen; `None` = it is nowhere.
    pub async fn text(&mut self, engine: &Engine, project: &Project, oid: ObjectId) -> Result<Option<Bytes>> {
        if self.get(&oid).is_none() {
            self.fetch(engine, project, &[oid]).await?;
        }
        Ok(self.get(&oid))
    }
}
