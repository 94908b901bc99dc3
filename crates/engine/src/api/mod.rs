//! The shapes of questions and answers: what callers of the engine pass in and get back. They serialise as the HTTP API
//! shows them (snake_case JSON, oids as 40 hex digits), since idempotent answers are stored and repeated word for word.

mod commits;
mod files;
mod forge;
mod history;
mod pending;
mod projects;
mod remotes;
mod tokens;
mod values;

pub use commits::*;
pub use files::*;
pub use forge::*;
pub use history::*;
pub use pending::*;
pub use projects::*;
pub use remotes::*;
pub use tokens::*;
pub use values::*;
