//! The git protocol over bytes: pkt-lines, packs, and both sides of fetch and push.
//!
//! Nothing here opens a socket, knows a store or reads a clock. Requests are byte strings; answers are fed in as the
//! chunks that a transport happens to receive, so that the same code serves smart HTTP and
//! `git upload-pack --stateless-rpc`. [`serve`] is the other side: requests parsed, answers encoded. Everything
//! received is hostile: limits come before memory.

pub mod capabilities;
pub mod fetch;
pub mod ingest;
pub mod pktline;
pub mod push;
pub mod serve;
pub mod sideband;
mod text;

pub use capabilities::{Advertisement, Capabilities};
pub use ingest::{Arrival, IngestError, IngestLimits, IngestOptions, Quarantine, ingest, ingest_arriving};
pub use text::printable;
