//! The harness is what every other test trusts, so it is tested first.

mod postgres;
mod s3;
