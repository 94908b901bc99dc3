//! The client's side of fetching, protocol v2 (`gitprotocol-v2`): `ls-refs` and `fetch`.
//!
//! A fetch is one request: the wants, the haves and `done` go together, so that the server never asks back. Thin
//! packs are not asked for, so that what arrives is whole by itself.

mod ls_refs;
mod response;

pub use ls_refs::{LsRefs, RefLimits, RefsReader, RemoteRef};
pub use response::{FetchEvent, FetchLimits, FetchReader, FetchSummary};

use treehold_object::{BString, ObjectId};

use crate::pktline::{self, PktError};
use crate::sideband::SidebandError;

/// Why an answer to `ls-refs` or `fetch` is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The remote answered with an error of its own, in printable form. Repeating the request will not help.
    #[error("the remote says: {0}")]
    Remote(String),
    /// The answer ended too early. Repeating the request may help.
    #[error("the answer is cut off")]
    Truncated,
    /// The answer breaks a limit; says which.
    #[error("the answer has more than {limit} {what}")]
    Limit {
        /// What there was too much of, such as `refs`.
        what: &'static str,
        /// How much was allowed.
        limit: u64,
    },
    /// The answer is not what the protocol allows here.
    #[error("the answer has an unexpected line {0:?}")]
    Unexpected(String),
    /// The answer is no stream of packets at all, say a web page.
    #[error("the answer is not git's protocol: {0}")]
    NotGit(#[from] SidebandError),
}

impl From<PktError> for FetchError {
    fn from(error: PktError) -> Self {
        match error {
            PktError::Truncated => Self::Truncated,
            other => Self::NotGit(other.into()),
        }
    }
}

/// How much history to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Deepen {
    /// Whatever the boundary is now; all of it without one.
    #[default]
    Keep,
    /// This many commits counted from the wants.
    Depth(u32),
    /// This many commits more than the `shallow` boundary has now.
    By(u32),
    /// Commits since this time (Unix seconds).
    Since(i64),
    /// Commits that these refs (names or oids) do not reach.
    Not(Vec<BString>),
    /// All of it: the boundary goes away.
    Unshallow,
}

/// One `fetch` command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// What to bring.
    pub wants: Vec<ObjectId>,
    /// What we have already, with all that it reaches up to `shallow`.
    pub haves: Vec<ObjectId>,
    /// Commits whose parents we lack.
    pub shallow: Vec<ObjectId>,
    /// How much history to bring.
    pub deepen: Deepen,
    /// Bring tags that point at what is sent.
    pub include_tag: bool,
    /// Ask for no progress text.
    pub no_progress: bool,
    /// A partial-clone filter such as `blob:none`; only for servers that offer `filter`.
    pub filter: Option<BString>,
}

/// What goes between a command's name and its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCapabilities<'a> {
    /// `agent=…`; every server with v2 offers it.
    pub agent: Option<&'a str>,
    /// `object-format=sha1`; only for servers that offer `object-format`.
    pub object_format: bool,
}

impl ClientCapabilities<'_> {
    fn write_head(&self, out: &mut Vec<u8>, command: &str) -> Result<(), PktError> {
        pktline::write_line(out, &[b"command=", command.as_bytes()])?;
        if let Some(agent) = self.agent {
            pktline::write_line(out, &[b"agent=", agent.as_bytes()])?;
        }
        if self.object_format {
            pktline::write_line(out, &[b"object-format=sha1"])?;
        }
        out.extend_from_slice(pktline::DELIM);
        Ok(())
    }
}

/// The deepest history that can be asked for (`INFINITE_DEPTH` in git).
const DEPTH_INFINITE: u32 = 0x7fff_ffff;

impl FetchRequest {
    /// The request's body for `POST …/git-upload-pack` with `Git-Protocol: version=2`.
    ///
    /// Fails only where a name or filter is too long for a packet.
    pub fn encode(&self, capabilities: &ClientCapabilities<'_>) -> Result<Vec<u8>, PktError> {
        let mut out = Vec::with_capacity(256 + 50 * (self.wants.len() + self.haves.len() + self.shallow.len()));
        capabilities.write_head(&mut out, "fetch")?;
        pktline::write_line(&mut out, &[b"ofs-delta"])?;
        if self.no_progress {
            pktline::write_line(&mut out, &[b"no-progress"])?;
        }
        if self.include_tag {
            pktline::write_line(&mut out, &[b"include-tag"])?;
        }
        for (name, oids) in [("want ", &self.wants), ("shallow ", &self.shallow)] {
            for oid in oids {
                pktline::write_line(&mut out, &[name.as_bytes(), oid.to_hex().to_string().as_bytes()])?;
            }
        }
        self.write_deepen(&mut out)?;
        if let Some(filter) = &self.filter {
            pktline::write_line(&mut out, &[b"filter ", filter])?;
        }
        for oid in &self.haves {
            pktline::write_line(&mut out, &[b"have ", oid.to_hex().to_string().as_bytes()])?;
        }
        pktline::write_line(&mut out, &[b"done"])?;
        out.extend_from_slice(pktline::FLUSH);
        Ok(out)
    }

    fn write_deepen(&self, out: &mut Vec<u8>) -> Result<(), PktError> {
        let mut depth = |depth: u32| pktline::write_line(out, &[b"deepen ", depth.to_string().as_bytes()]);
        match &self.deepen {
            Deepen::Keep => Ok(()),
            Deepen::Depth(commits) => depth(*commits),
            Deepen::Unshallow => depth(DEPTH_INFINITE),
            Deepen::By(commits) => {
                depth(*commits)?;
                pktline::write_line(out, &[b"deepen-relative"])
            }
            Deepen::Since(time) => pktline::write_line(out, &[b"deepen-since ", time.to_string().as_bytes()]),
            Deepen::Not(names) => {
                names.iter().try_for_each(|name| pktline::write_line(out, &[b"deepen-not ", name.as_slice()]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{Decoder, Packet, chomp};

    #[test]
    fn a_fetch_is_one_message_that_ends_in_done() {
        let id = ObjectId::from_hex(b"ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let request = FetchRequest {
            wants: vec![id],
            haves: vec![id],
            shallow: vec![id],
            deepen: Deepen::By(3),
            no_progress: true,
            ..FetchRequest::default()
        };
        let capabilities = ClientCapabilities { agent: Some("treehold/0"), object_format: true };
        let mut decoder = Decoder::new();
        decoder.push(&request.encode(&capabilities).unwrap());
        let mut lines = Vec::new();
        while let Some(packet) = decoder.next_packet().unwrap() {
            lines.push(match packet {
                Packet::Data(line) => String::from_utf8(chomp(&line).to_vec()).unwrap().replace(&id.to_string(), "X"),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(
            lines.join("|"),
            "command=fetch|agent=treehold/0|object-format=sha1|Delim|ofs-delta|no-progress|want X|shallow X|deepen 3|\
             deepen-relative|have X|done|Flush"
        );
    }
}
