//! The harness is what every other test trusts, so it is tested first.

mod git;
mod git_http;
mod postgres;
pub mod s3;
