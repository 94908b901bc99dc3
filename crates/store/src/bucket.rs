//! The boundary to a backend: immutable values under keys.

use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// What to write.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file that the caller made and that stays unchanged until the call returns; it is read in pieces.
    /// The backend may link or copy it; the caller removes it.
    File(PathBuf),
}

/// What a [`Bucket::put`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The key was free and now holds the value.
    Created,
    /// The key already held exactly these bytes (a retry of a call whose answer was lost).
    AlreadyThere,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Keys and sizes in bytes, in byte order of the key.
    pub entries: Vec<(String, u64)>,
    /// Where the next page starts (`after`), if there is one.
    pub next: Option<String>,
}

/// One of the values that a bucket keeps of a key: the one it has, or one that it had before it was overwritten or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The bucket's own name for it, with which it is read.
    pub id: String,
    /// Size of the value, bytes.
    pub size: u64,
    /// It is what the key has now.
    pub current: bool,
}

/// Immutable values under keys such as `objects/pack/pack-….pack`.
///
/// Every implementation guarantees the following; `conformance` (a feature of this crate) tests them by number.
/// 1. *Atomic.* A reader sees a whole value or none, also while a `put` is running or after it was cut off.
/// 2. *Durable on return.* After `put` returns `Ok`, a crash of the host loses nothing.
/// 3. *Visible on return.* After `put` returns `Ok`, any process can `get` the value and `list` its key.
/// 4. *Written once.* `put` to a key that holds the same bytes is `AlreadyThere`; other bytes are `Occupied`,
///    and the first value stays. (A backend without conditional writes may detect this late; callers never
///    reuse a key, so that arbitration rests with the database.)
/// 5. *Exact ranges.* `get` with a range returns exactly those bytes; a range past the end is `Missing`-like absence
///    of data and comes back as what is there (possibly empty), never as padding.
/// 6. *Absence is an answer.* `get` and `head` of an unknown key are `Ok(None)`; `delete` of one is `Ok`.
/// 7. *Listing is complete* for keys that existed before the first page was asked for, in byte order, without repeats.
/// 8. *Older values can be read*, where a backend keeps any ([`Bucket::keeps_versions`]): what was overwritten behind the contract's
///    back or deleted is listed newest first, the current value included, and comes back by its id as exactly as by 5.
///
/// Keys are ASCII, at most 165 bytes, relative, without empty, `.` or `..` components.
/// Implementations do not retry; [`crate::Retrying`] does.
#[async_trait]
pub trait Bucket: Send + Sync + std::fmt::Debug + 'static {
    /// `memory`, `directory` or `s3`: for messages.
    fn name(&self) -> &'static str;

    /// Writes `payload` under `key`, which was never used before.
    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError>;

    /// The value, or the bytes `range` of it.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError>;

    /// The size of the value in bytes.
    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// Up to `limit` keys that start with `prefix` and come after `after` in byte order.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError>;

    /// Removes the value. Only the collector calls this, and only for keys that the database gave up.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Whether values outlive being overwritten or deleted here, at least those of the past. `Refused`: that may not be asked.
    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The `limit` newest values that are kept of exactly this key, newest first. `Refused`: they may not be listed, or the server
    /// does not know what versions are.
    async fn versions(&self, _key: &str, _limit: usize) -> Result<Vec<Version>, StoreError> {
        Ok(Vec::new())
    }

    /// One of [`Bucket::versions`], or the bytes `range` of it; `None`: it is gone.
    async fn get_version(
        &self,
        _key: &str,
        _id: &str,
        _range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}
