//! The private control socket: how a command reaches the server that owns the embedded database.
//!
//! HTTP/1.1 over a Unix socket of mode 0600 in the data directory. `POST /control/v1/{verb}` with the operation's fields
//! as JSON; the answer is NDJSON: any number of `{"progress": {"what", "done", "total"}}`, then exactly one
//! `{"result": …}` or `{"error": {"status", "code", "message", "causes"}}`.
//!
//! `POST /control/v1/mcp` with `Upgrade: treehold-mcp` is answered with 101 or with such an error; after it the socket carries the
//! messages of the Model Context Protocol, a line each, both ways.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// Where the verbs are.
pub const PREFIX: &str = "/control/v1/";

/// The verb after which the socket is a client's, and its protocol.
pub const MCP: &str = "mcp";
/// What the socket speaks from then on.
pub const MCP_PROTOCOL: &str = "treehold-mcp";

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Long work goes on.
    Progress {
        /// What is being done.
        what: String,
        /// How much of it.
        done: u64,
        /// Of how much, if known.
        total: Option<u64>,
    },
    /// It is done: what `--json` prints.
    Result(Value),
    /// It failed.
    Error {
        /// The command's exit status.
        status: u8,
        /// Stable name.
        code: String,
        /// What happened and what to do.
        message: String,
        /// Causes, outermost first.
        causes: Vec<String>,
    },
}

impl From<Result<Value, Failure>> for Event {
    fn from(outcome: Result<Value, Failure>) -> Self {
        match outcome {
            Ok(value) => Self::Result(value),
            Err(Failure { status, code, message, causes }) => Self::Error { status, code, message, causes },
        }
    }
}

/// A socket's address is limited to about 100 bytes. Where the path is longer, the directory is reached through its
/// descriptor, which the caller keeps open meanwhile.
fn short_path(path: &std::path::Path) -> std::io::Result<(std::path::PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return Ok((path.to_owned(), None));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let dir = std::fs::File::open(dir)?;
    Ok((std::path::Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name), Some(dir)))
}
