//! The protocol against real git: its servers, its packs, its fsck; and packs that no git would make.

mod bombs;
mod bounds;
mod fetching;
mod git;
mod hostile;
mod ingesting;
mod nesting;
mod pushing;
mod requests;
mod serving;
mod smart_http;
mod stock_clients;
