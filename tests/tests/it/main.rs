//! End-to-end tests, and the tests of the harness itself.

mod aftermath;
mod crashes;
mod deployment;
mod harness;
mod push;
mod remote_tools;
mod verifications;
