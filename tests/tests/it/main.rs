//! End-to-end tests, and the tests of the harness itself.

mod actions;
mod aftermath;
mod bad_input;
mod batch_read;
mod commits;
mod crashes;
mod dedup;
mod deployment;
mod files;
mod harness;
mod isolation;
mod outages;
mod paths;
mod pending;
mod probe;
mod projects;
mod push;
mod remote_tools;
mod remotes;
mod sync;
mod two_servers;
mod verifications;
