//! The program as its users start it.

mod program;

mod configuration;
mod operators;
mod quickstart;
mod serve;
mod shared;
mod usage;
