//! The server from outside: a real engine on SQLite and memory, real connections on loopback.

mod api;
mod connections;
mod harness;
mod load;
mod pushes;
mod refused;
mod streams;
mod wire;
