//! What is sent as a file.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sha1_smol::Sha1;

use crate::error::{Error, Result};
use crate::types::Oid;

/// A stream of a file's bytes.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// A file's bytes: in memory, or as a stream that can be begun anew for each attempt.
#[derive(Clone)]
pub struct Content(Kind);

#[derive(Clone)]
enum Kind {
    Whole(Bytes),
    Stream { len: u64, begin: Arc<dyn Fn() -> ByteStream + Send + Sync> },
}

impl Content {
    /// `len` bytes; `begin` gives them from the start, each time that it is called. Nothing of it is held in memory but a piece.
    pub fn stream(len: u64, begin: impl Fn() -> ByteStream + Send + Sync + 'static) -> Self {
        Self(Kind::Stream { len, begin: Arc::new(begin) })
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.0 {
            Kind::Whole(bytes) => bytes.len() as u64,
            Kind::Stream { len, .. } => *len,
        }
    }

    pub(crate) fn attach(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.0 {
            Kind::Whole(bytes) => request.body(bytes.clone()),
            Kind::Stream { len, begin } => {
                request.header(reqwest::header::CONTENT_LENGTH, *len).body(reqwest::Body::wrap_stream(begin()))
            }
        }
    }

    /// The id that git gives to a file with this content.
    pub(crate) async fn oid(&self) -> Result<Oid> {
        match &self.0 {
            Kind::Whole(bytes) => Ok(blob_oid(bytes)),
            Kind::Stream { len, begin } => {
                let mut hash = head(*len);
                let mut pieces = begin();
                while let Some(piece) = pieces.next().await {
                    let unread = |error| Error::Usage(format!("what was to be sent cannot be read again: {error}"));
                    hash.update(&piece.map_err(unread)?);
                }
                Ok(hash.digest().to_string())
            }
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.len())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Bytes::copy_from_slice(text.as_bytes()).into()
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

/// The id that git gives to a file with this content.
pub fn blob_oid(content: &[u8]) -> Oid {
    let mut hash = head(content.len() as u64);
    hash.update(content);
    hash.digest().to_string()
}

fn head(len: u64) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(format!("blob {len}\0").as_bytes());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn oids_are_git_s() {
        // `git hash-object --stdin`
        assert_eq!(blob_oid(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(blob_oid(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        let pieces = || futures::stream::iter(["he", "llo\n"].map(|piece| Ok(Bytes::from(piece)))).boxed();
        assert_eq!(Content::stream(6, pieces).oid().await.unwrap(), blob_oid(b"hello\n"));
    }
}
