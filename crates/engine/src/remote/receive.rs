//! A pack on its way from the remote into a spool file, to be read while it arrives.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use treehold_object::ObjectId;
use treehold_wire::Arrival;
use treehold_wire::fetch::{FetchEvent, FetchReader};

use super::RemoteError;
use super::client::fetch_error;
use super::transport::Answer;

/// Bytes that are written to the spool file at once, and told of.
const PART: usize = 256 << 10;

/// What comes, while it comes. Dropped before its end, the fetch is broken off.
pub struct Fetching {
    /// The pack, in a file of the spool directory that goes away with this value.
    pub pack: NamedTempFile,
    /// How much of the pack is in the file. It grows only while `rest` is polled.
    pub arrival: Arc<Arrival>,
    /// Commits that are now shallow.
    pub shallow: Vec<ObjectId>,
    /// Commits that are no longer shallow.
    pub unshallow: Vec<ObjectId>,
    /// Brings the rest of the pack: each item is how many bytes of it are in the file by now.
    pub rest: BoxStream<'static, Result<u64, RemoteError>>,
}

impl std::fmt::Debug for Fetching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetching")
            .field("pack", &self.pack)
            .field("shallow", &self.shallow.len())
            .finish_non_exhaustive()
    }
}

impl Fetching {
    /// Reads `answer` up to the first bytes of the pack.
    pub(super) async fn begin(mut answer: Answer, reader: FetchReader, spool_dir: &Path) -> Result<Self, RemoteError> {
        let pack = tempfile::Builder::new().prefix("fetch-").suffix(".pack").tempfile_in(spool_dir);
        let pack = pack.map_err(RemoteError::Spool)?;
        let file = tokio::fs::File::from_std(pack.reopen().map_err(RemoteError::Spool)?);
        let mut spool = Spool { file, reader, part: Vec::new(), bytes: 0, arrival: Arc::default() };
        while spool.part.is_empty()
            && let Some(chunk) = answer.chunk().await?
        {
            spool.take(&chunk)?;
        }
        let arrival = Arc::clone(&spool.arrival);
        let summary = spool.reader.summary();
        let (shallow, unshallow) = (summary.shallow.clone(), summary.unshallow.clone());
        Ok(Self { pack, arrival, shallow, unshallow, rest: spool.fill(answer).boxed() })
    }
}

/// The writing side of the spool file. Whoever reads it hears of its end also if this is dropped early.
struct Spool {
    file: tokio::fs::File,
    reader: FetchReader,
    /// Bytes of the pack that are not in the file yet.
    part: Vec<u8>,
    /// Bytes in the file.
    bytes: u64,
    arrival: Arc<Arrival>,
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.arrival.cut();
    }
}

impl Spool {
    fn take(&mut self, chunk: &[u8]) -> Result<(), RemoteError> {
        self.reader.push(chunk);
        while let Some(event) = self.reader.next_event().map_err(fetch_error)? {
            if let FetchEvent::Pack(bytes) = event {
                self.part.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn fill(self, answer: Answer) -> impl Stream<Item = Result<u64, RemoteError>> {
        futures::stream::try_unfold(Some((self, answer)), async |state| {
            let Some((mut spool, mut answer)) = state else { return Ok(None) };
            let mut more = true;
            while more && spool.part.len() < PART {
                match answer.chunk().await? {
                    Some(chunk) => spool.take(&chunk)?,
                    None => more = false,
                }
            }
            spool.write().await.map_err(RemoteError::Spool)?;
            if !more {
                spool.reader.finish().map_err(fetch_error)?;
                spool.arrival.finish();
            }
            Ok(Some((spool.bytes, more.then_some((spool, answer)))))
        })
    }

    async fn write(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.part).await?;
        // Only now it is in the file.
        self.file.flush().await?;
        self.bytes += self.part.len() as u64;
        self.part.clear();
        self.arrival.grown(self.bytes);
        Ok(())
    }
}
