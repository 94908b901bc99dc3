//! Where object bytes live: buckets (memory, directory, S3) and the object store on top of them.
//!
//! A [`Bucket`] keeps immutable values under keys and knows nothing of git. The [`ObjectStore`] lays git objects
//! out in a bucket exactly as git does on disk (`objects/ab/cdef…`, `objects/pack/pack-*.{pack,idx}`) and gives back
//! nothing that does not hash to the id asked for.

pub mod bucket;
mod cache;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod decode;
mod deltas;
pub mod directory;
pub mod error;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
pub mod key;
pub mod memory;
pub mod metered;
pub mod object_store;
pub mod open;
pub mod pack_builder;
mod payload;
mod raw_pack;
pub mod retrying;
mod runs;
pub mod s3;
mod s3_errors;

pub use bucket::{Bucket, ListPage, Payload, Put, Version};
pub use cache::{CacheOptions, CacheStats, DiskOptions, DiskStats};
pub use directory::DirectoryBucket;
pub use error::StoreError;
#[cfg(any(test, feature = "conformance"))]
pub use faulty::{Fault, FaultRates, Faulty};
pub use key::{idx_key, loose_key, pack_key};
pub use memory::MemoryBucket;
pub use metered::Metered;
pub use object_store::{Location, Object, ObjectStore, StoreOptions, Stored, StoredEntry};
pub use open::{OpenError, StoreUrl, keeps_first_value, open_bucket};
pub use pack_builder::{FinishedPack, PackBuilder, PackEntry};
pub use raw_pack::{RawBase, RawEntry, RawPack, RawRun};
pub use retrying::{RetryPolicy, Retrying};
pub use s3::{S3Bucket, S3Options, Versioning};
