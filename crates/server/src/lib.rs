//! The HTTP API. It translates between HTTP and the engine's verbs, and holds no rule of the product.
//!
//! [`App`] carries what every request needs; [`App::router`] is the public API. `router.rs` lists every route.

#![warn(missing_docs)]

mod access;
mod admission;
mod app;
mod auth;
mod body;
mod compress;
mod conditions;
mod console;
mod context;
mod error;
mod gate;
mod git;
mod handlers;
mod headers;
mod heavy;
mod json;
mod mcp;
mod meters;
mod openapi;
mod params;
mod protocol;
mod range;
mod rates;
mod respond;
mod router;
mod searched;
mod sending;
mod serve;
mod stream;
mod tokens;
mod traces;
mod watched;

pub use admission::{AdmissionConfig, Bounds, PATIENCE};
pub use app::{App, ServerConfig};
pub use error::Problem;
pub use mcp::{McpHost, mcp_over};
pub use rates::RateLimits;
pub use router::document;
pub use serve::{ServeOptions, serve};
pub use traces::{TraceParent, TracedAnswer, TracedRequest, Traces};
