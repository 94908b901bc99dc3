//! Packs of blobs that nothing names, so that a ledger is as long as one likes.

use std::path::Path;

use anyhow::Context as _;
use treehold_object::pack::PackWriter;
use treehold_object::{Kind, hash, idx};

/// Blobs in one pack.
const PACKED: u64 = 100_000;

/// Writes packs with `blobs` small blobs in all, and their indexes, to `objects/pack/` of `store`.
pub fn packs(store: &Path, blobs: u64) -> anyhow::Result<()> {
    let directory = store.join("objects/pack");
    std::fs::create_dir_all(&directory).context("make a directory for packs")?;
    for first in (0..blobs).step_by(usize::try_from(PACKED)?) {
        let count = PACKED.min(blobs - first);
        let mut writer = PackWriter::new(Vec::new(), u32::try_from(count)?, 1)?;
        for blob in first..first + count {
            let content = format!("Nobody names blob {blob}.\n");
            writer.add(hash(Kind::Blob, content.as_bytes())?, Kind::Blob, content.as_bytes())?;
        }
        let (pack, written) = writer.finish()?;
        let stem = directory.join(format!("pack-{}", written.checksum));
        let index = idx::write(&written.entries, &written.checksum)?;
        std::fs::write(stem.with_extension("idx"), index).context("write an index")?;
        std::fs::write(stem.with_extension("pack"), pack).context("write a pack")?;
    }
    Ok(())
}
