//! What is asked and answered, as the HTTP API has it: snake_case JSON, oids as 40 hex digits, times in RFC 3339. They mirror
//! `crates/engine/src/api`, where the sentences come from, so that a program with this client need not compile the engine; a test holds
//! them against the examples of the served document.

mod commits;
mod conflicts;
mod content;
mod feed;
mod files;
mod forge;
mod history;
mod make;
mod pending;
mod projects;
mod search;
mod versions;

pub use commits::*;
pub use conflicts::*;
pub use content::*;
pub use feed::*;
pub use files::*;
pub use forge::*;
pub use history::*;
pub use pending::*;
pub use projects::*;
pub use search::*;
pub use versions::*;

/// 40 hex digits of a git object id.
pub type Oid = String;
/// Six octal digits, such as `100644`.
pub type Mode = String;
