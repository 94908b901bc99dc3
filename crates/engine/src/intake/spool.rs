//! The file in which a pack arrives.

use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use treehold_wire::Arrival;

/// The writing side of a spool file. Whoever reads it meanwhile hears of its end also if this is dropped early.
#[derive(Debug)]
pub struct SpoolWriter {
    file: tokio::fs::File,
    arrival: Arc<Arrival>,
    /// In the file.
    bytes: u64,
}

impl SpoolWriter {
    /// A new file in `dir`, which goes away with the first value; how much of it is there; and who writes it.
    pub(crate) fn new(dir: &Path) -> std::io::Result<(NamedTempFile, Arc<Arrival>, Self)> {
        let pack = tempfile::Builder::new().prefix("fetch-").suffix(".pack").tempfile_in(dir)?;
        let file = tokio::fs::File::from_std(pack.reopen()?);
        let arrival = Arc::<Arrival>::default();
        Ok((pack, Arc::clone(&arrival), Self { file, arrival, bytes: 0 }))
    }

    /// Appends `part`, and tells whoever reads. Answers how many bytes there are.
    pub async fn write(&mut self, part: &[u8]) -> std::io::Result<u64> {
        self.file.write_all(part).await?;
        // Only now it is in the file.
        self.file.flush().await?;
        self.bytes += part.len() as u64;
        self.arrival.grown(self.bytes);
        Ok(self.bytes)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// That was all.
    pub fn finish(self) {
        self.arrival.finish();
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.arrival.cut();
    }
}
