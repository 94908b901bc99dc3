//! Where object bytes live: buckets (memory, directory, S3) and the object store on top of them.
//!
//! A [`Bucket`] keeps immutable values under keys and knows nothing of git. The [`ObjectStore`] lays git objects
//! out in a bucket exactly as git does on disk (`objects/ab/cdef…`, `objects/pack/pack-*.{pack,idx}`) and gives back
//! nothing that does not hash to the id asked for.

pub mod bucket;
pub mod error;

pub use bucket::{Bucket, ListPage, Payload, Put};
pub use error::StoreError;
