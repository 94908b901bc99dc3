//! How verbs are run: by whoever serves the tools, within its limits.

use std::future::Future;

use serde_json::{Map, Value};
use treehold_engine::{Engine, EngineError};

/// What a verb is to those who share the machine with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A look at refs, rows and trees: milliseconds. It ends with its caller.
    Light,
    /// Goes through contents: work for a core. It ends with its caller.
    Batch {
        /// Memory for each byte of content that is read; 0 where contents are given back on the way.
        factor: u64,
        /// Memory for the answer and for what is at hand at a time, bytes.
        bytes: u64,
    },
    /// Writes pending work; once begun, it goes on to its end.
    Write,
    /// Commits, and perhaps talks to a remote; once begun, it goes on to its end.
    Remote,
}

/// What a call is counted as, where there are rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It changes nothing.
    Read,
    /// It changes pending work or the branch, or pushes it.
    Write,
    /// It asks the remote.
    Sync,
}

/// Why a verb was refused: what the HTTP API says of the same, with its code and sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Stable, as the `code` of a problem.
    pub code: String,
    /// A sentence that says what to do.
    pub detail: String,
    /// What else is known, as the members of a problem.
    pub details: Map<String, Value>,
}

impl Refusal {
    /// Without details.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), details: Map::new() }
    }
}

/// Runs verbs.
pub trait Host: Clone + Send + Sync + 'static {
    /// The engine, for what costs nothing: its limits and defaults.
    fn engine(&self) -> &Engine;

    /// Counts a call, or refuses it: there were too many.
    fn count(&self, call: Counted) -> Result<(), Refusal>;

    /// Runs a verb on the engine: after its turn, within the memory and the time that there is for it.
    fn run<T, V, F>(&self, work: Work, verb: V) -> impl Future<Output = Result<T, Refusal>> + Send
    where
        T: Send + 'static,
        V: FnOnce(Engine) -> F + Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static;
}
