//! A pack on its way from the remote into a spool file, to be read while it arrives.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use tempfile::NamedTempFile;
use treehold_object::ObjectId;
use treehold_wire::Arrival;
use treehold_wire::fetch::{FetchEvent, FetchReader};

use super::RemoteError;
use super::client::fetch_error;
use super::transport::Answer;
use crate::intake::SpoolWriter;

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
        let (pack, arrival, writer) = SpoolWriter::new(spool_dir).map_err(RemoteError::Spool)?;
        let mut filling = Filling { writer, reader, part: Vec::new() };
        while filling.part.is_empty()
            && let Some(chunk) = answer.chunk().await?
        {
            filling.take(&chunk)?;
        }
        let summary = filling.reader.summary();
        let (shallow, unshallow) = (summary.shallow.clone(), summary.unshallow.clone());
        Ok(Self { pack, arrival, shallow, unshallow, rest: filling.run(answer).boxed() })
    }
}

/// From the answer into the spool file.
struct Filling {
    writer: SpoolWriter,
    reader: FetchReader,
    /// Bytes of the pack that are not in the file yet.
    part: Vec<u8>,
}

impl Filling {
    fn take(&mut self, chunk: &[u8]) -> Result<(), RemoteError> {
        self.reader.push(chunk);
        while let Some(event) = self.reader.next_event().map_err(fetch_error)? {
            if let FetchEvent::Pack(bytes) = event {
                self.part.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn run(self, answer: Answer) -> impl Stream<Item = Result<u64, RemoteError>> {
        futures::stream::try_unfold(Some((self, answer)), async |state| {
            let Some((mut filling, mut answer)) = state else { return Ok(None) };
            let mut more = true;
            while more && filling.part.len() < PART {
                match answer.chunk().await? {
                    Some(chunk) => filling.take(&chunk)?,
                    None => more = false,
                }
            }
            let bytes = filling.writer.write(&filling.part).await.map_err(RemoteError::Spool)?;
            filling.part.clear();
            if more {
                return Ok(Some((bytes, Some((filling, answer)))));
            }
            filling.reader.finish().map_err(fetch_error)?;
            filling.writer.finish();
            Ok(Some((bytes, None)))
        })
    }
}
