//! Copying entries out of stored packs that hold deltas, without undoing the deltas.
//!
//! The pack is read as a whole and taken apart as when it was received, so that every object is verified once more on its way out. A delta
//! is copied as it is only where its base goes out too, from the same pack: what leaves never rests on, and so never tells of, an object
//! that the project does not reach; and chains cannot close to a circle.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use tempfile::NamedTempFile;
use treehold_catalog::{KeyId, Located, RoaringTreemap};
use treehold_object::ObjectId;
use treehold_object::pack::{EntryHeader, EntryKind, PackWriter};
use treehold_wire::{IngestLimits, IngestOptions, Quarantine, ingest};

use crate::archive::spool_failed;
use crate::export::pack_failed;
use crate::{Engine, EngineError, Result, blocking};

/// Objects located at once.
const CHUNK: usize = 4096;
/// A larger pack, bytes, is not read as a whole for the sake of a few objects.
const LARGE: u64 = 16 << 20;
/// A few: less than 1 / 256 of the pack.
const FEW: u64 = 256;

/// A stored pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPack {
    pub id: KeyId,
    key: String,
}

impl Engine {
    /// The packs of `located` that hold deltas and are worth reading as a whole, less those of `spliced`.
    pub(crate) async fn to_splice(&self, located: &[Located], spliced: &HashSet<KeyId>) -> Result<Vec<StoredPack>> {
        let mut packs: BTreeMap<KeyId, (&str, u64, bool)> = BTreeMap::new();
        for object in located.iter().filter(|object| !spliced.contains(&object.key_id)) {
            let (_, bytes, deltas) = packs.entry(object.key_id).or_insert((&object.key, 0, false));
            *bytes += object.length;
            *deltas |= object.base.is_some();
        }
        let mut found = Vec::new();
        for (id, (key, bytes, _)) in packs.into_iter().filter(|(_, (.., deltas))| *deltas) {
            let size = self.store.bucket().head(key).await?.unwrap_or_default();
            if size <= LARGE || bytes.saturating_mul(FEW) >= size {
                found.push(StoredPack { id, key: key.to_owned() });
            }
        }
        Ok(found)
    }

    /// Writes all objects of a stored pack that are `missing` and not `written`, and adds their numbers to those.
    pub(crate) async fn splice<W: Write + Send + 'static>(
        &self,
        stored: &StoredPack,
        missing: &RoaringTreemap,
        written: &mut RoaringTreemap,
        out: PackWriter<W>,
    ) -> Result<PackWriter<W>> {
        let quarantine = self.reopen_pack(&stored.key).await?;
        let oids: Vec<ObjectId> = quarantine.iter().map(|object| object.oid).collect();
        let mut wanted = HashSet::new();
        for chunk in oids.chunks(CHUNK) {
            let located = self.catalog.locate(chunk).await?.into_iter().flatten();
            let here = located.filter(|object| object.key_id == stored.id && missing.contains(object.number));
            // What was written before is the base of nothing here: it went out elsewhere.
            wanted.extend(here.filter(|object| written.insert(object.number)).map(|object| object.oid));
        }
        blocking(move || copy(&quarantine, &wanted, out)).await
    }

    /// A pack of the bucket, taken apart and verified.
    async fn reopen_pack(&self, key: &str) -> Result<Quarantine> {
        let file = self.spool_file()?;
        let copied = self.store.copy_to(key, file.path()).await;
        copied.map_err(|error| EngineError::of_export(error, None))?;
        let limits = IngestLimits { pack_bytes: u64::MAX, ..self.ingest_limits() };
        let threads = crate::sync::threads();
        let what = format!("pack {key}");
        blocking(move || {
            let opened = NamedTempFile::reopen(&file).map_err(spool_failed)?;
            ingest(opened, &IngestOptions { limits, threads, ..IngestOptions::default() })
                .map_err(|error| EngineError::Damaged { what, source: error.to_string().into() })
        })
        .await
    }
}

fn copy<W: Write>(
    quarantine: &Quarantine,
    wanted: &HashSet<ObjectId>,
    mut out: PackWriter<W>,
) -> Result<PackWriter<W>> {
    let unreadable = |error| EngineError::internal(format!("a stored pack cannot be read: {error}"));
    let lost = || EngineError::internal("a stored pack changed while it was read");
    // Where the entry at an offset of the stored pack went.
    let mut moved: HashMap<u64, u64> = HashMap::with_capacity(wanted.len());
    for object in quarantine.iter().filter(|object| wanted.contains(&object.oid)) {
        let (header, zlib) = quarantine.entry(&object.oid).map_err(unreadable)?.ok_or_else(lost)?;
        let base = object.base.map(|base| moved.get(&base).copied());
        let span = match base {
            None => out.add_entry(object.oid, header, &zlib),
            Some(Some(base)) => {
                let kind = EntryKind::OfsDelta { distance: out.bytes() - base };
                out.add_entry(object.oid, EntryHeader { kind, size: header.size }, &zlib)
            }
            Some(None) => {
                let (kind, content) = quarantine.read(&object.oid).map_err(unreadable)?.ok_or_else(lost)?;
                out.add(object.oid, kind, &content)
            }
        };
        moved.insert(object.offset, span.map_err(pack_failed)?.offset);
    }
    Ok(out)
}
