//! What each route takes, answers and refuses: a module for each one in `handlers/`, a function for each handler.

pub(crate) mod batches;
pub(crate) mod checkpoints;
pub(crate) mod commits;
pub(crate) mod docs;
pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod forge;
pub(crate) mod git;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod mcp;
pub(crate) mod metrics;
pub(crate) mod objects;
pub(crate) mod pending;
pub(crate) mod projects;
pub(crate) mod refs;
pub(crate) mod remote;
pub(crate) mod search;
pub(crate) mod versions;

/// Oids and ids of the examples, one story in all of them.
mod seen {
    pub(super) const PROJECT: &str = "01a20ada-56ed-71ec-902d-7b9e9f6d51c4";
    pub(super) const USER: &str = "11111111-2222-4333-8444-555555555555";
    pub(super) const BEFORE: &str = "ea91b33ca57ff0581b38e735cc108f831bccbdaa";
    pub(super) const COMMIT: &str = "ed215506274cdc7c8c1645f4271b7be294c62aff";
    pub(super) const TREE: &str = "d46865af1f2e0d9c4b3b7e1c8a5f6d7e8f901234";
    pub(super) const BLOB: &str = "e7c1c81f0e9d8c7b6a5f4e3d2c1b0a9f8e7d6c5b";
    pub(super) const EDIT: &str = "210a2642ff6d1b0c9e8d7f6a5b4c3d2e1f0a9b8c";
    pub(super) const TIME: &str = "2026-03-14T09:26:53.589Z";
    pub(super) const VERSION: &str = "bWFpbg.4";
    pub(super) const CHECKPOINT: &str = "0195f0c2-7a11-7c40-9f00-3d2c1b0a9f8e";
}
