//! The git object model, pure: ids, kinds, hashing, loose and pack encodings, path and ref rules, limits.
//!
//! No I/O, no async, no clock. This crate wraps gitoxide's plumbing, so that one place follows its releases.

pub mod hash;
pub mod idx;
pub mod loose;
pub mod pack;
pub mod zlib;

pub use bstr::{BStr, BString, ByteSlice, ByteVec};
pub use gix_hash::ObjectId;
pub use gix_object::Kind;

pub use hash::{Collision, hash, second_opinion};
