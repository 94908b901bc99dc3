//! The shapes of questions and answers: what callers of the engine pass in and get back. They serialise as the HTTP API
//! shows them (snake_case JSON, oids as 40 hex digits), since idempotent answers are stored and repeated word for word.

mod batches;
mod blame;
mod commits;
mod conflicts;
mod feed;
mod files;
mod forge;
mod history;
mod local_history;
mod pending;
mod projects;
mod remotes;
mod search;
mod tokens;
mod values;

use batches::nullable;
pub use batches::*;
pub use blame::*;
pub use commits::*;
pub use conflicts::*;
pub use feed::*;
pub use files::*;
pub use forge::*;
pub use history::*;
pub use local_history::*;
pub use pending::*;
pub use projects::*;
pub use remotes::*;
pub use search::*;
pub use tokens::*;
pub use values::*;
