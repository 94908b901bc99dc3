//! The server's side of `git-upload-pack` and `git-receive-pack` over stateless requests, such as smart HTTP's.
//!
//! Requests come in as bytes and leave as values; answers are appended to a buffer. Which objects exist, who may see
//! them and what a ref points at is the caller's business: nothing here checks an oid against anything.
//!
//! | request | parsed by | answered by |
//! |---|---|---|
//! | `GET info/refs` | [`Protocol::from_header`] | [`upload_pack_v2`], [`upload_pack`], [`receive_pack`] |
//! | `POST git-upload-pack`, v2 | [`parse_request`] | [`LsRefsRequest`], [`FetchArguments`], [`ObjectInfoRequest`] |
//! | `POST git-upload-pack`, v0 and v1 | [`parse_upload_request`] | [`UploadRequest`] |
//! | `POST git-receive-pack` | [`HeadReader`] | [`Report`] |
//!
//! A request that is not understood is answered with status 200 and [`error_response`] of the error's own words.

mod advertise;
mod band;
mod command;
mod fetch;
mod filter;
mod legacy;
mod ls_refs;
mod object_info;
mod receive;
mod report;

pub use advertise::{AdvertisedRef, Protocol, receive_pack, upload_pack, upload_pack_v2};
pub use band::{Channel, SideBand};
pub use command::{Command, Request, parse_request};
pub use fetch::{Deepen, FetchArguments, FetchStep, write_acknowledgments, write_packfile_head, write_shallow_info};
pub use filter::{Filter, FilterError};
pub use legacy::{LegacyCapabilities, MultiAck, RequestEnd, UploadRequest, parse_upload_request};
pub use ls_refs::LsRefsRequest;
pub use object_info::ObjectInfoRequest;
pub use receive::{
    CommandKind, HeadReader, PushCapabilities, ReceiveHead, ReceiveLimits, RefCommand, ReportStatus, parse_head,
};
pub use report::{RefStatus, Report, Rewrite, write_end, write_message};

use std::collections::HashSet;

use treehold_object::{ByteSlice, ObjectId};

use crate::pktline::{self, PacketSlice, PktError};
use crate::printable;

/// Longest part of a request that an error repeats, in bytes.
const SHOWN_LEN_MAX: usize = 200;
/// Longest text of an error that is sent, in bytes.
const ERROR_LEN_MAX: usize = 4 * 1024;

/// Why a request is not carried out. The text is meant for the client's user, see [`error_response`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is no stream of packets, or ends too early.
    #[error("the request is not git's protocol: {0}")]
    NotGit(#[from] PktError),
    /// A line that the protocol does not have here.
    #[error("unexpected line: '{0}'")]
    Line(String),
    /// Something that has to be said is not.
    #[error("{0}")]
    Missing(&'static str),
    /// A command or capability that nobody offered.
    #[error("unknown {what} '{name}'")]
    Unknown {
        /// `command` or `capability`.
        what: &'static str,
        /// What the client said.
        name: String,
    },
    /// The protocol allows it, and it is refused; says why.
    #[error("{0}")]
    Refused(String),
    /// A filter that is wrong or not served.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The request breaks a limit; says which.
    #[error("the request has more than {limit} {what}")]
    Limit {
        /// What there is too much of, such as `haves`.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

/// Why an answer cannot be put into words: the caller gave what no repository should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A ref's name with a byte that would end it early, or none at all.
    #[error("the name of a ref is empty or has a NUL, LF or space")]
    Name,
    /// A name too long for a packet.
    #[error(transparent)]
    Packet(#[from] PktError),
}

/// How much of a request to `git-upload-pack` is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of the request.
    pub bytes: usize,
    /// Distinct wants.
    pub wants: usize,
    /// Distinct haves.
    pub haves: usize,
    /// Distinct commits of the client's boundary.
    pub shallow: usize,
    /// Refs to exclude from a shallow history.
    pub deepen_not: usize,
    /// Distinct objects asked about by `object-info`.
    pub object_info: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            wants: 500_000,
            haves: 500_000,
            shallow: 500_000,
            deepen_not: 1_000,
            object_info: 10_000,
        }
    }
}

/// `text` as the packet that makes a client give up and show it: `ERR …`, printable and bounded.
///
/// Right before anything else of an answer was sent; inside of side-band packets it is [`Channel::Error`].
pub fn error_response(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // The text is bounded far below a packet, so that this cannot fail.
    let _ = pktline::write(&mut out, &[b"ERR ", one_line(text.as_bytes(), ERROR_LEN_MAX).as_bytes()].concat());
    out
}

/// Printable text of at most about `len_max` bytes that stays on its line.
fn one_line(text: &[u8], len_max: usize) -> String {
    printable(text.trim_ascii_end(), len_max).replace('\n', " ")
}

fn shown(line: &[u8]) -> String {
    one_line(line, SHOWN_LEN_MAX)
}

fn unexpected(line: &[u8]) -> RequestError {
    RequestError::Line(shown(line))
}

/// The next packet of a request held as a whole.
fn next_packet<'a>(rest: &mut &'a [u8]) -> Result<PacketSlice<'a>, RequestError> {
    Ok(pktline::take(rest)?.ok_or(PktError::Truncated)?)
}

fn check_bytes(len: usize, limit: usize) -> Result<(), RequestError> {
    if len > limit { Err(RequestError::Limit { what: "bytes", limit }) } else { Ok(()) }
}

fn check_name(name: &[u8]) -> Result<(), AnswerError> {
    if name.is_empty() || name.find_byteset(b"\0\n ").is_some() { Err(AnswerError::Name) } else { Ok(()) }
}

/// An agent as one word of printable ASCII, as git sends its own.
fn agent_word(agent: &str) -> Vec<u8> {
    agent.trim().bytes().map(|byte| if byte.is_ascii_graphic() { byte } else { b'.' }).collect()
}

/// Distinct oids in the order they came.
#[derive(Debug, Default)]
struct Oids {
    seen: HashSet<ObjectId>,
    list: Vec<ObjectId>,
}

impl Oids {
    fn insert(&mut self, oid: ObjectId, what: &'static str, limit: usize) -> Result<(), RequestError> {
        if self.seen.contains(&oid) {
            return Ok(());
        }
        if self.list.len() >= limit {
            return Err(RequestError::Limit { what, limit });
        }
        self.seen.insert(oid);
        self.list.push(oid);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_bounded_packet() {
        assert_eq!(error_response("access denied"), b"0015ERR access denied");
        let error = RequestError::Line(shown(b"a\nb\x1b[2J\n"));
        assert_eq!(error_response(&error.to_string()), b"0027ERR unexpected line: 'a b\\u{1b}[2J'");
        let long = error_response(&"\x07".repeat(1 << 20));
        assert!(long.len() < ERROR_LEN_MAX + 64 && long.starts_with(b"1"));
        let refused = RequestError::Limit { what: "haves", limit: 3 };
        assert_eq!(refused.to_string(), "the request has more than 3 haves");
        assert_eq!(agent_word(" treehold/0 (x\n) "), b"treehold/0.(x.)");
    }
}
