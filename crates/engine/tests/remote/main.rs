//! The remote against real git: stock `git http-backend` behind real HTTP, stock git on this machine, and servers that
//! lie. Every test uses the same token, and every test's end looks for it in the logs of all of them.

mod alone;
mod local;
mod network;
mod push;
mod read;
mod setup;
