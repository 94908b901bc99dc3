//! A Model Context Protocol server over the engine's verbs: what an agent reads, edits and commits, for one project and one user.
//!
//! [`Tools`] is the server of one connection, bound by a [`Binding`]; [`answer`] serves one request of Streamable HTTP without a session,
//! [`serve_stream`] a connection over bytes (stdio). How verbs are run, and within which limits, is the [`Host`]'s business.

#![warn(missing_docs)]

mod binding;
mod bounds;
mod host;
mod resources;
mod service;
mod shown;
mod tools;
mod transport;
mod watch;

pub use binding::{Access, Binding, agent_name, author, plain};
pub use host::{Counted, Host, Refusal, Work};
pub use service::Tools;
pub use transport::{MESSAGE_BYTES_MAX, answer, serve_stream};
