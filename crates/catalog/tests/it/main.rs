//! The conformance suite on both databases, and what only one of them can show.

mod isolation;
mod postgres;
mod sqlite;
