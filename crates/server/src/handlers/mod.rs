//! One module for each group of routes. Handlers read top-down: what was asked, the verb, the answer.

pub(crate) mod batches;
pub(crate) mod checkpoints;
pub(crate) mod commits;
pub(crate) mod docs;
pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod forge;
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
