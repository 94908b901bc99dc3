//! The test harness: real servers and real git, started for one test process and gone with it.
//!
//! Everything listens on 127.0.0.1 or on a Unix socket. Harness code panics with a sentence where a test cannot go on.

pub mod collector;
pub mod git;
pub mod git_http;
pub mod github;
pub mod postgres;
pub mod s3;
pub mod sample;
pub mod scratch;
pub mod serving;
