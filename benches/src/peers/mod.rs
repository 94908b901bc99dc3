//! What people would use instead, at the same work.

pub mod git;
pub mod github;
pub mod plain;
pub mod rows;
pub mod s3;
pub mod upserts;
pub mod worktree;
