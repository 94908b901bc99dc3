//! From stored bytes to verified objects.

use std::sync::Arc;

use bytes::Bytes;
use treehold_object::loose;
use treehold_object::pack::{EntryHeader, EntryKind};
use treehold_object::zlib::{Deflater, Inflater};

use crate::error::StoreError;
use crate::object_store::{Object, StoredEntry};
use crate::runs::{Member, Run};

/// The verified content of a member and the zlib stream it came from (empty for a loose object and for a delta).
pub(crate) struct Verified {
    content: Bytes,
    zlib: Bytes,
}

impl Verified {
    /// Content without a stream of its own.
    pub fn content(content: Bytes) -> Self {
        Self { content, zlib: Bytes::new() }
    }
}

/// What becomes of a verified member.
pub(crate) trait Decode<T>: Fn(&Member, Verified) -> T + Clone + Send + Sync + 'static {}

impl<T, F: Fn(&Member, Verified) -> T + Clone + Send + Sync + 'static> Decode<T> for F {}

/// The content.
pub(crate) fn object(member: &Member, verified: Verified) -> Object {
    Object { oid: member.oid, kind: member.kind, content: verified.content }
}

/// The zlib stream. A loose object's covers its header too, and a delta's is none of the content: both are deflated again.
pub(crate) fn entry(level: u32) -> impl Decode<StoredEntry> {
    move |member, Verified { content, zlib }| {
        let zlib = if zlib.is_empty() {
            let mut out = Vec::new();
            Deflater::new(level).deflate(&[&content], &mut out);
            out.into()
        } else {
            zlib
        };
        StoredEntry { oid: member.oid, kind: member.kind, size: member.size, zlib }
    }
}

/// All members of a run whose bytes were read; `None` for those that are not what they must be.
pub(crate) fn all<T>(run: &Run, bytes: &Bytes, decode: &impl Decode<T>) -> Vec<Option<T>> {
    let packed = run.key.ends_with(".pack");
    let mut inflater = Inflater::default();
    let decoded = run.members.iter().map(|member| {
        let bytes = slice(run, member, bytes)?;
        let verified =
            if packed { packed_entry(member, &bytes, &mut inflater) } else { loose(member, &bytes, &mut inflater) };
        let verified = verified?;
        let named = treehold_object::hash(member.kind, &verified.content);
        (named == Ok(member.oid)).then(|| decode(member, verified))
    });
    decoded.collect()
}

/// The member's own bytes, if the value goes that far.
fn slice(run: &Run, member: &Member, bytes: &Bytes) -> Option<Bytes> {
    let start = usize::try_from(member.offset.checked_sub(run.range.start)?).ok()?;
    let end = start.checked_add(usize::try_from(member.length).ok()?)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

fn packed_entry(member: &Member, bytes: &Bytes, inflater: &mut Inflater) -> Option<Verified> {
    let (header, length) = EntryHeader::decode(bytes).ok()??;
    if header != (EntryHeader { kind: EntryKind::Whole(member.kind), size: member.size }) {
        return None;
    }
    let zlib = bytes.slice(length..);
    let (content, used) = inflater.inflate(&zlib, member.size).ok()?;
    (used == zlib.len()).then(|| Verified { content: content.into(), zlib })
}

fn loose(member: &Member, bytes: &Bytes, inflater: &mut Inflater) -> Option<Verified> {
    let (kind, content) = loose::decode(bytes, member.size, inflater).ok()?;
    let right = kind == member.kind && content.len() as u64 == member.size;
    right.then(|| Verified::content(content.into()))
}

/// One error for all members of a read, by their places.
pub(crate) fn share<T>(
    places: impl IntoIterator<Item = usize>,
    err: StoreError,
) -> Vec<(usize, Result<T, StoreError>)> {
    let err = Arc::new(err);
    places.into_iter().map(|at| (at, Err(copy(&err)))).collect()
}

/// The same error for somebody else.
pub(crate) fn copy(err: &Arc<StoreError>) -> StoreError {
    let source = Box::new(Shared(Arc::clone(err)));
    match **err {
        StoreError::Unavailable { action, store, .. } => StoreError::Unavailable { action, store, source },
        StoreError::Refused { action, store, .. } => StoreError::Refused { action, store, source },
        StoreError::Missing { ref key } => StoreError::Missing { key: key.clone() },
        StoreError::Occupied { ref key } => StoreError::Occupied { key: key.clone() },
        StoreError::Corrupt { id, ref key } => StoreError::Corrupt { id, key: key.clone() },
    }
}

/// The cause that several errors have in common.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::error::Error::source(&*self.0) {
            Some(source) => write!(f, "{source}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0).and_then(std::error::Error::source)
    }
}
