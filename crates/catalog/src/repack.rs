//! Moving objects to new places: what `repack` and the deletion of emptied keys need (docs/reliability.md, N1–N5 and G7).

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::ledger::{KeyId, Located, NewObject};

/// A bucket key in use, and how much of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Row id.
    pub id: KeyId,
    /// The key.
    pub key: String,
    /// Objects whose place it is.
    pub objects: u64,
    /// Of these, how many are deltas.
    pub deltas: u64,
    /// Length of their entries, bytes.
    pub bytes: u64,
}

/// An object's new place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The key where the object was read.
    pub from: KeyId,
    /// The object, with its place in the new key.
    pub object: NewObject,
}

/// Moving objects, and what comes after.
#[async_trait]
pub trait Repack {
    /// Keys that are present, after `after`, in order of their row ids.
    async fn stored_keys(&self, after: KeyId, limit: u32) -> Result<Vec<StoredKey>, CatalogError>;
    /// The objects whose place is in `key` at `from` or behind it, in order of their offsets, `limit` at most.
    async fn objects_in(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<Located>, CatalogError>;
    /// N4 and N5, one transaction: records a key that the operation reserved as present and moves to it those objects that are still
    /// where they were read. A key that loses its last object becomes doomed, as does the new key if nothing moved; an entry
    /// that others of its old key rest on stays on record there. Answers whether each object moved. `OpLost`, `Collision` and
    /// `Invalid` as for a registration. Repeating a call that was committed changes nothing and gives the same answer.
    async fn move_objects(&self, op: Uuid, key: KeyId, moves: &[Move], now_ms: i64) -> Result<Vec<bool>, CatalogError>;
    /// Keys that held objects once and are doomed since before `before_ms`: their bytes may go.
    async fn doomed_before(&self, before_ms: i64, limit: u32) -> Result<Vec<(KeyId, String)>, CatalogError>;
}
