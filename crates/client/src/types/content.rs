//! Bytes in JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::{Encoding, Oid};

/// Content of a file in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How it is written.
    pub encoding: Encoding,
    /// The bytes, written as `encoding` says.
    pub content: String,
}

impl Content {
    /// The bytes themselves; `None` = it says base64 and is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Utf8 => Some(self.content.clone().into_bytes()),
            Encoding::Base64 => BASE64_STANDARD.decode(&self.content).ok(),
        }
    }

    /// As JSON has it: text where it is UTF-8, else base64.
    pub fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(content) => Self { encoding: Encoding::Utf8, content },
            Err(error) => Self { encoding: Encoding::Base64, content: BASE64_STANDARD.encode(error.as_bytes()) },
        }
    }
}

/// A path in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreePath {
    /// From the root, with U+FFFD in the place of what is not UTF-8.
    pub path: String,
    /// The bytes in base64, only where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
}

impl TreePath {
    /// The path's bytes, as the calls of this client take them.
    pub fn bytes(&self) -> Vec<u8> {
        let exact = self.path_b64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        exact.unwrap_or_else(|| self.path.clone().into_bytes())
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl PartialEq<str> for TreePath {
    fn eq(&self, other: &str) -> bool {
        self.path_b64.is_none() && self.path == other
    }
}

impl PartialEq<&str> for TreePath {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// The snapshot that a list, a batch read or a search is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `None` on an unborn branch.
    pub commit: Option<Oid>,
    /// Of the user's workspace, with a user.
    #[serde(default)]
    pub revision: Option<i64>,
}

/// How far a sync is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncProgress {
    /// What is being done.
    pub step: String,
    /// How much of it.
    pub done: u64,
    /// Of how much; `None` = not known.
    pub total: Option<u64>,
}
