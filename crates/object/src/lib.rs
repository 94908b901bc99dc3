//! The git object model, pure: ids, kinds, hashing, loose and pack encodings, path and ref rules, limits.
//!
//! No I/O, no async, no clock. This crate wraps gitoxide's plumbing, so that one place follows its releases.

pub mod commit;
pub mod delta;
pub mod fsck;
mod gitmodules;
pub mod hash;
pub mod ident;
pub mod idx;
pub mod limits;
pub mod loose;
pub mod pack;
pub mod path;
mod policy;
pub mod refname;
mod runs;
pub mod tag;
pub mod tree;
pub mod zlib;

pub use bstr::{BStr, BString, ByteSlice, ByteVec};
pub use gix_hash::ObjectId;
pub use gix_object::Kind;

pub use commit::{Commit, CommitSpec, parse_commit};
pub use hash::{Collision, hash, second_opinion};
pub use ident::Signature;
pub use path::RepoPath;
pub use policy::{Flags, Policy};
pub use runs::runs;
pub use tag::{Tag, parse_tag};
pub use tree::{TreeEntry, encode_tree, parse_tree};
