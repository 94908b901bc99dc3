//! Fetching before protocol v2, stateless: `want` lines, `have` lines, and what `git upload-pack` answers.

use treehold_object::{BString, ByteSlice, ObjectId};

use super::fetch::{FetchLines, oid, write_boundary};
use super::{
    Deepen, FetchArguments, RequestError, RequestLimits, SideBand, check_bytes, next_packet, shown, unexpected,
};
use crate::Capabilities;
use crate::pktline::{self, PacketSlice, PktError, chomp};

/// How the client wants to hear about common commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MultiAck {
    /// Only about the first.
    #[default]
    None,
    /// About each (`multi_ack`).
    Basic,
    /// About each, and when enough is known (`multi_ack_detailed`). Git's own clients ask for this.
    Detailed,
}

/// What the client asked for besides [`FetchArguments`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegacyCapabilities {
    /// How to tell about common commits.
    pub multi_ack: MultiAck,
    /// Send the pack once ready, without waiting for `done`.
    pub no_done: bool,
    /// How the pack is sent.
    pub side_band: SideBand,
    /// The client's program, as sent; see [`printable`](crate::printable).
    pub agent: Option<BString>,
}

/// What a request ends in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestEnd {
    /// The wants: the client only asks for the boundary of history, and will ask again.
    #[default]
    Wants,
    /// A flush packet after haves (or none of them): the client asks what is common.
    Flush,
    /// `done`: the client takes the pack now.
    Done,
}

/// A request to `git-upload-pack` in v0 or v1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadRequest {
    /// What is asked for. Without wants the answer is empty.
    pub arguments: FetchArguments,
    /// How to answer.
    pub capabilities: LegacyCapabilities,
    /// Where the request ends.
    pub end: RequestEnd,
}

/// Reads the body of `POST git-upload-pack` without `Git-Protocol: version=2`, decompressed.
///
/// An empty body or a flush packet alone, as clients send to try their credentials, makes a request without wants. What
/// follows the first flush packet after the wants' is ignored, as git does on stateless connections.
pub fn parse_upload_request(body: &[u8], limits: &RequestLimits) -> Result<UploadRequest, RequestError> {
    check_bytes(body.len(), limits.bytes)?;
    if body.is_empty() {
        return Ok(UploadRequest::default());
    }
    let (mut rest, mut lines) = (body, FetchLines::new(limits));
    let mut wants = Wants::default();
    loop {
        match next_packet(&mut rest)? {
            PacketSlice::Data(line) => wants.line(chomp(line), &mut lines)?,
            PacketSlice::Flush => break,
            _ => return Err(RequestError::Missing("expected flush after the wants")),
        }
    }
    let end = if rest.is_empty() { RequestEnd::Wants } else { haves(&mut rest, &mut lines)? };
    lines.arguments.done = end == RequestEnd::Done;
    Ok(UploadRequest { arguments: lines.finish()?, capabilities: wants.capabilities, end })
}

/// Takes the lines up to the first flush packet.
#[derive(Default)]
struct Wants {
    capabilities: LegacyCapabilities,
    filter: bool,
}

impl Wants {
    fn line(&mut self, line: &[u8], lines: &mut FetchLines<'_>) -> Result<(), RequestError> {
        if lines.boundary(line)? {
            return Ok(());
        }
        if let Some(spec) = line.strip_prefix(b"filter ") {
            if !self.filter {
                return Err(RequestError::Missing("filtering capability not negotiated"));
            }
            return lines.filter(spec);
        }
        let want = line.strip_prefix(b"want ").ok_or_else(|| unexpected(line))?;
        let (hex, words) = want.split_once_str(" ").unwrap_or((want, b""));
        self.words(words, lines)?;
        lines.want(oid(hex, line)?)
    }

    fn words(&mut self, words: &[u8], lines: &mut FetchLines<'_>) -> Result<(), RequestError> {
        if words.is_empty() {
            return Ok(());
        }
        let words = Capabilities::from_words(words.split_str(" "));
        if let Some(format) = words.value("object-format").filter(|format| *format != b"sha1") {
            let client = shown(format);
            return Err(RequestError::Refused(format!("mismatched object format: server sha1; client {client}")));
        }
        let capabilities = &mut self.capabilities;
        if words.has("multi_ack_detailed") {
            capabilities.multi_ack = MultiAck::Detailed;
        } else if words.has("multi_ack") {
            capabilities.multi_ack = MultiAck::Basic;
        }
        if words.has("side-band-64k") {
            capabilities.side_band = SideBand::Large;
        } else if words.has("side-band") {
            capabilities.side_band = SideBand::Small;
        }
        capabilities.no_done |= words.has("no-done");
        if let Some(agent) = words.value("agent") {
            capabilities.agent = Some(agent.into());
        }
        self.filter |= words.has("filter");
        lines.deepen_relative |= words.has("deepen-relative");
        lines.arguments.thin_pack |= words.has("thin-pack");
        lines.arguments.ofs_delta |= words.has("ofs-delta");
        lines.arguments.no_progress |= words.has("no-progress");
        lines.arguments.include_tag |= words.has("include-tag");
        Ok(())
    }
}

fn haves(rest: &mut &[u8], lines: &mut FetchLines<'_>) -> Result<RequestEnd, RequestError> {
    loop {
        match next_packet(rest)? {
            PacketSlice::Data(line) => match chomp(line) {
                b"done" => return Ok(RequestEnd::Done),
                line if lines.have(line)? => {}
                line => return Err(unexpected(line)),
            },
            PacketSlice::Flush => return Ok(RequestEnd::Flush),
            _ => return Err(RequestError::Missing("expected flush after the haves")),
        }
    }
}

impl UploadRequest {
    /// Whether the answer begins with the boundary of history, see [`UploadRequest::write_boundary`].
    pub fn expects_boundary(&self) -> bool {
        !self.arguments.wants.is_empty() && self.arguments.deepen != Deepen::Keep
    }

    /// Appends the boundary of history, if it is expected. Comes before [`UploadRequest::negotiate`].
    ///
    /// `shallow` are commits that are newly at the boundary, `unshallow` those of the client's that no longer are.
    pub fn write_boundary(
        &self,
        out: &mut Vec<u8>,
        shallow: &[ObjectId],
        unshallow: &[ObjectId],
    ) -> Result<(), PktError> {
        if self.expects_boundary() {
            write_boundary(out, shallow, unshallow)?;
            out.extend_from_slice(pktline::FLUSH);
        }
        Ok(())
    }

    /// Appends what `git upload-pack --stateless-rpc` says to the haves, and tells whether the pack follows.
    ///
    /// `common` tells of a have whether the client may know that the repository has it. `enough_at` is the position of
    /// the first have with which enough is known (git: each want reaches a common commit so far, or a parent of one),
    /// `None` if even all of them are not enough. Clients that send `done` get the pack either way.
    ///
    /// The pack goes out in [`LegacyCapabilities::side_band`]. If it does not follow, the answer ends here. In
    /// [`MultiAck::None`] git says `ACK` once more for each parent of the first common commit; here it is said once, as
    /// its documentation has it.
    pub fn negotiate(
        &self,
        out: &mut Vec<u8>,
        common: impl Fn(&ObjectId) -> bool,
        enough_at: Option<usize>,
    ) -> Result<bool, PktError> {
        if self.arguments.wants.is_empty() || self.end == RequestEnd::Wants {
            return Ok(false);
        }
        let mode = self.capabilities.multi_ack;
        let mut ack = |oid: &ObjectId, status: &str| {
            pktline::write_line(out, &[b"ACK ", oid.to_hex().to_string().as_bytes(), status.as_bytes()])
        };
        let (mut last, mut unknown, mut ready) = (None, false, false);
        for (at, oid) in self.arguments.haves.iter().enumerate() {
            let enough = enough_at.is_some_and(|enough_at| enough_at <= at);
            let is_common = common(oid);
            match (is_common, mode) {
                (true, MultiAck::Detailed) => ack(oid, " common")?,
                (true, MultiAck::Basic) => ack(oid, " continue")?,
                (true, MultiAck::None) if last.is_none() => ack(oid, "")?,
                (true, MultiAck::None) => {}
                // Acknowledged though unknown, so that the client stops looking further down.
                (false, MultiAck::Detailed) if enough => {
                    ack(oid, " ready")?;
                    ready = true;
                }
                (false, MultiAck::Basic) if enough => ack(oid, " continue")?,
                (false, _) => {}
            }
            if is_common { last = Some(oid) } else { unknown = true }
        }
        if self.end == RequestEnd::Done {
            match last {
                Some(last) if mode != MultiAck::None => ack(last, "")?,
                Some(_) => {}
                None => pktline::write_line(out, &[b"NAK"])?,
            }
            return Ok(true);
        }
        if let Some(last) = last.filter(|_| mode == MultiAck::Detailed && !unknown && enough_at.is_some()) {
            ack(last, " ready")?;
            ready = true;
        }
        if last.is_none() || mode != MultiAck::None {
            pktline::write_line(out, &[b"NAK"])?;
        }
        match last {
            Some(last) if self.capabilities.no_done && ready => {
                pktline::write_line(out, &[b"ACK ", last.to_hex().to_string().as_bytes()])?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
