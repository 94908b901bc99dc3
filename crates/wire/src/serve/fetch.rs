//! `fetch`, answered: what is asked for, and the sections before the pack.

use treehold_object::{BString, ObjectId};

use super::{Filter, Oids, RequestError, RequestLimits, shown, unexpected};
use crate::pktline::{self, PktError};

/// The depth that stands for all of history (`INFINITE_DEPTH` in git).
const DEPTH_INFINITE: u32 = 0x7fff_ffff;

/// How much history is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Deepen {
    /// Whatever the client's boundary is now; all of it without one.
    #[default]
    Keep,
    /// So many commits: those at the boundary have no parents afterwards.
    Depth {
        /// How many, at least 1.
        commits: u32,
        /// Counted from the client's boundary, not from the wants.
        relative: bool,
    },
    /// Commits that are both young enough and not excluded. At least one of the two is given.
    Bounded {
        /// Only commits since this time (Unix seconds, not negative).
        since: Option<i64>,
        /// Only commits that these do not reach: names of refs, full or short, which the caller resolves.
        not: Vec<BString>,
    },
    /// All of it: the boundary goes away.
    Unshallow,
}

/// What the server has to do next for a `fetch` of v2, as git does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStep {
    /// Nothing is wanted: the answer is empty.
    Nothing,
    /// Tell which haves are common with [`write_acknowledgments`]. If ready, go on as with [`FetchStep::Pack`].
    Acknowledge,
    /// Send the boundary if it is expected ([`write_shallow_info`]), then [`write_packfile_head`] and the pack, which
    /// may be empty.
    Pack,
}

/// What a client asks for, in any version of the protocol. Lists have no duplicates and the client's order.
///
/// Nothing of it is checked against the repository: every oid may be unknown, of any kind, or not for this client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchArguments {
    /// What to send. The caller checks that each is reachable from a ref; else `upload-pack: not our ref <oid>`.
    pub wants: Vec<ObjectId>,
    /// What the client says it has, with all that it reaches up to `shallow`. Unknown ones are ignored.
    pub haves: Vec<ObjectId>,
    /// The client will take the pack now, whatever is common.
    pub done: bool,
    /// Never be ready before `done`.
    pub wait_for_done: bool,
    /// The pack may have deltas against objects that only the client has.
    pub thin_pack: bool,
    /// Send no progress.
    pub no_progress: bool,
    /// Send annotated tags that point at what is sent.
    pub include_tag: bool,
    /// The pack may have `OFS_DELTA` entries.
    pub ofs_delta: bool,
    /// Commits whose parents the client lacks. Unknown ones are ignored.
    pub shallow: Vec<ObjectId>,
    /// How much history to send.
    pub deepen: Deepen,
    /// What to leave out.
    pub filter: Option<Filter>,
}

impl FetchArguments {
    /// What to do next, in v2. (v0 and v1: [`UploadRequest::negotiate`](super::UploadRequest::negotiate).)
    pub fn step(&self) -> FetchStep {
        if self.wants.is_empty() && !self.wait_for_done {
            FetchStep::Nothing
        } else if self.haves.is_empty() || self.done {
            FetchStep::Pack
        } else {
            FetchStep::Acknowledge
        }
    }

    /// Whether the client expects a `shallow-info` section before the pack, in v2.
    ///
    /// So it does too if the repository itself is shallow.
    pub fn expects_shallow_info(&self) -> bool {
        self.deepen != Deepen::Keep || !self.shallow.is_empty()
    }
}

/// Appends the `acknowledgments` section of v2: `common` are the haves that the client may see, in its order.
///
/// `ready` says that enough is known: the other sections follow in the same answer. Else the answer ends here, and the
/// client asks again. Git is ready once each want reaches a common commit or a parent of one, and never if
/// `wait_for_done`.
pub fn write_acknowledgments(out: &mut Vec<u8>, common: &[ObjectId], ready: bool) -> Result<(), PktError> {
    pktline::write_line(out, &[b"acknowledgments"])?;
    if common.is_empty() {
        pktline::write_line(out, &[b"NAK"])?;
    }
    for oid in common {
        pktline::write_line(out, &[b"ACK ", oid.to_hex().to_string().as_bytes()])?;
    }
    if ready {
        pktline::write_line(out, &[b"ready"])?;
    }
    out.extend_from_slice(if ready { pktline::DELIM } else { pktline::FLUSH });
    Ok(())
}

/// Appends the `shallow-info` section of v2, see [`FetchArguments::expects_shallow_info`].
///
/// `shallow` are commits that are newly at the boundary, `unshallow` those of the client's that no longer are.
pub fn write_shallow_info(out: &mut Vec<u8>, shallow: &[ObjectId], unshallow: &[ObjectId]) -> Result<(), PktError> {
    pktline::write_line(out, &[b"shallow-info"])?;
    write_boundary(out, shallow, unshallow)?;
    out.extend_from_slice(pktline::DELIM);
    Ok(())
}

pub(super) fn write_boundary(out: &mut Vec<u8>, shallow: &[ObjectId], unshallow: &[ObjectId]) -> Result<(), PktError> {
    for (word, oids) in [("shallow", shallow), ("unshallow", unshallow)] {
        for oid in oids {
            // Without LF, as git sends them.
            pktline::write(out, format!("{word} {oid}").as_bytes())?;
        }
    }
    Ok(())
}

/// Appends the title of the `packfile` section of v2; the pack follows in [`SideBand::Large`](super::SideBand::Large).
pub fn write_packfile_head(out: &mut Vec<u8>) -> Result<(), PktError> {
    pktline::write_line(out, &[b"packfile"])
}

/// Takes the lines of a request, of v2 and before.
#[derive(Debug)]
pub(super) struct FetchLines<'l> {
    limits: &'l RequestLimits,
    wants: Oids,
    haves: Oids,
    shallow: Oids,
    depth: Option<u32>,
    since: Option<i64>,
    not: Vec<BString>,
    /// The depth counts from the client's boundary.
    pub(super) deepen_relative: bool,
    /// Flags and filter.
    pub(super) arguments: FetchArguments,
}

impl<'l> FetchLines<'l> {
    pub(super) fn new(limits: &'l RequestLimits) -> Self {
        Self {
            limits,
            wants: Oids::default(),
            haves: Oids::default(),
            shallow: Oids::default(),
            depth: None,
            since: None,
            not: Vec::new(),
            deepen_relative: false,
            arguments: FetchArguments::default(),
        }
    }

    /// A line of v2.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        let arguments = &mut self.arguments;
        match line {
            b"thin-pack" => arguments.thin_pack = true,
            b"ofs-delta" => arguments.ofs_delta = true,
            b"no-progress" => arguments.no_progress = true,
            b"include-tag" => arguments.include_tag = true,
            b"done" => arguments.done = true,
            b"wait-for-done" => arguments.wait_for_done = true,
            b"deepen-relative" => self.deepen_relative = true,
            _ => {
                if let Some(hex) = line.strip_prefix(b"want ") {
                    self.want(oid(hex, line)?)?;
                } else if !self.have(line)? && !self.boundary(line)? {
                    let spec = line.strip_prefix(b"filter ").ok_or_else(|| unexpected(line))?;
                    self.filter(spec)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn want(&mut self, oid: ObjectId) -> Result<(), RequestError> {
        self.wants.insert(oid, "wants", self.limits.wants)
    }

    /// Whether `line` was a `have`.
    pub(super) fn have(&mut self, line: &[u8]) -> Result<bool, RequestError> {
        let Some(hex) = line.strip_prefix(b"have ") else { return Ok(false) };
        self.haves.insert(oid(hex, line)?, "haves", self.limits.haves)?;
        Ok(true)
    }

    /// Whether `line` was about the boundary of history.
    pub(super) fn boundary(&mut self, line: &[u8]) -> Result<bool, RequestError> {
        if let Some(hex) = line.strip_prefix(b"shallow ") {
            self.shallow.insert(oid(hex, line)?, "shallow commits", self.limits.shallow)?;
        } else if let Some(number) = line.strip_prefix(b"deepen ") {
            let depth = decimal(number).and_then(|depth| u32::try_from(depth).ok());
            let depth = depth.filter(|depth| (1..=DEPTH_INFINITE).contains(depth));
            self.depth = Some(depth.ok_or_else(|| refused("Invalid deepen", line))?);
        } else if let Some(number) = line.strip_prefix(b"deepen-since ") {
            self.since = Some(decimal(number).ok_or_else(|| refused("Invalid deepen-since", line))?);
        } else if let Some(name) = line.strip_prefix(b"deepen-not ") {
            if self.not.len() == self.limits.deepen_not {
                return Err(RequestError::Limit { what: "deepen-not lines", limit: self.limits.deepen_not });
            }
            self.not.push(name.into());
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn filter(&mut self, spec: &[u8]) -> Result<(), RequestError> {
        if self.arguments.filter.is_some() {
            return Err(RequestError::Refused("multiple filter-specs cannot be combined".to_owned()));
        }
        self.arguments.filter = Some(Filter::parse(spec)?);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<FetchArguments, RequestError> {
        let bounded = self.since.is_some() || !self.not.is_empty();
        let deepen = match self.depth {
            Some(_) if bounded => {
                let text = "deepen and deepen-since (or deepen-not) cannot be used together";
                return Err(RequestError::Refused(text.to_owned()));
            }
            Some(DEPTH_INFINITE) => Deepen::Unshallow,
            Some(commits) => Deepen::Depth { commits, relative: self.deepen_relative },
            None if bounded => Deepen::Bounded { since: self.since, not: self.not },
            None => Deepen::Keep,
        };
        let (wants, haves, shallow) = (self.wants.list, self.haves.list, self.shallow.list);
        Ok(FetchArguments { wants, haves, shallow, deepen, ..self.arguments })
    }
}

/// The oid that is all of `hex`, which stands in `line`.
pub(super) fn oid(hex: &[u8], line: &[u8]) -> Result<ObjectId, RequestError> {
    ObjectId::from_hex(hex).ok().filter(|_| hex.len() == 40).ok_or_else(|| unexpected(line))
}

fn refused(why: &str, line: &[u8]) -> RequestError {
    RequestError::Refused(format!("{why}: {}", shown(line)))
}

/// Digits only.
fn decimal(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
