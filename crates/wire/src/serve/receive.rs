//! The head of a push, received: commands, capabilities and push options; the pack follows.

use std::collections::HashSet;

use treehold_object::{BString, ByteSlice, ObjectId};

use super::fetch::oid;
use super::{Oids, RequestError, shown, unexpected};
use crate::Capabilities;
use crate::pktline::{self, PREFIX_LEN, PacketSlice, PktError, chomp};

/// How much of a push is taken in before its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveLimits {
    /// Bytes before the pack.
    pub bytes: usize,
    /// Commands.
    pub commands: usize,
    /// Bytes of a ref's name.
    pub name_bytes: usize,
    /// Distinct commits of the client's boundary.
    pub shallow: usize,
    /// Push options.
    pub push_options: usize,
    /// Bytes of all push options.
    pub push_option_bytes: usize,
}

impl Default for ReceiveLimits {
    fn default() -> Self {
        Self {
            bytes: 20 << 20,
            commands: 50_000,
            name_bytes: 255,
            shallow: 500_000,
            push_options: 256,
            push_option_bytes: 64 << 10,
        }
    }
}

/// What a command does to its ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// It must not exist, and shall.
    Create,
    /// It shall point elsewhere.
    Update,
    /// It shall go away.
    Delete,
}

/// Move one ref. At least one of the oids is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefCommand {
    /// What the client believes the ref to be; `None` = it does not exist.
    pub old: Option<ObjectId>,
    /// What it shall be; `None` = delete it.
    pub new: Option<ObjectId>,
    /// The name of the ref: not empty and without control characters and spaces, otherwise as sent.
    pub name: BString,
}

impl RefCommand {
    /// What it does.
    pub fn kind(&self) -> CommandKind {
        match (self.old, self.new) {
            (_, None) => CommandKind::Delete,
            (None, Some(_)) => CommandKind::Create,
            (Some(_), Some(_)) => CommandKind::Update,
        }
    }
}

/// Which report the client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportStatus {
    /// None: it will not learn what happened.
    #[default]
    None,
    /// `report-status`.
    V1,
    /// `report-status-v2`: also what a ref was made instead of what was asked for.
    V2,
}

/// What the client asked for besides its commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushCapabilities {
    /// Which report to send.
    pub report_status: ReportStatus,
    /// Whether the answer comes in side-band packets.
    pub side_band_64k: bool,
    /// All commands or none.
    pub atomic: bool,
    /// No progress.
    pub quiet: bool,
    /// The pack may have `OFS_DELTA` entries.
    pub ofs_delta: bool,
    /// Push options were sent.
    pub push_options: bool,
    /// The client's program, as sent; see [`printable`](crate::printable).
    pub agent: Option<BString>,
}

/// A push up to its pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiveHead {
    /// What to do, no ref twice. Without any there is nothing to do, and the answer is empty: clients send such a head
    /// to try their credentials.
    pub commands: Vec<RefCommand>,
    /// Commits whose parents the client lacks.
    pub shallow: Vec<ObjectId>,
    /// How to do it.
    pub capabilities: PushCapabilities,
    /// Texts for the server's hooks, without NUL and LF.
    pub push_options: Vec<BString>,
}

impl ReceiveHead {
    /// Whether a pack follows, possibly an empty one: a command that does not delete needs one.
    pub fn expects_pack(&self) -> bool {
        self.commands.iter().any(|command| command.new.is_some())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Commands,
    PushOptions,
    Complete,
}

/// Reads the head of a push in any portions. What follows is not touched.
#[derive(Debug)]
pub struct HeadReader {
    limits: ReceiveLimits,
    section: Section,
    /// The start of a packet that is not whole yet.
    partial: Vec<u8>,
    bytes: usize,
    option_bytes: usize,
    names: HashSet<BString>,
    shallow: Oids,
    head: ReceiveHead,
}

/// Reads the head of a push from the start of `bytes`, and how long it is. What follows is the pack.
pub fn parse_head(bytes: &[u8], limits: ReceiveLimits) -> Result<(ReceiveHead, usize), RequestError> {
    let mut reader = HeadReader::new(limits);
    let len = reader.push(bytes)?;
    Ok((reader.finish()?, len))
}

impl HeadReader {
    /// A reader at the start of a push.
    pub fn new(limits: ReceiveLimits) -> Self {
        Self {
            limits,
            section: Section::default(),
            partial: Vec::new(),
            bytes: 0,
            option_bytes: 0,
            names: HashSet::new(),
            shallow: Oids::default(),
            head: ReceiveHead::default(),
        }
    }

    /// Takes what the transport received, and tells how much of it belongs to the head.
    ///
    /// That is all of `chunk` until the head is complete; then the rest of `chunk`, and of the stream, is the pack.
    /// Nothing may be pushed after an error.
    pub fn push(&mut self, chunk: &[u8]) -> Result<usize, RequestError> {
        let mut rest = chunk;
        while self.section != Section::Complete && !rest.is_empty() {
            if self.partial.is_empty() {
                match pktline::take(&mut rest)? {
                    Some(packet) => self.packet(packet)?,
                    None => self.partial.extend_from_slice(std::mem::take(&mut rest)),
                }
                continue;
            }
            let len = pktline::length(&self.partial)?.unwrap_or(PREFIX_LEN).max(PREFIX_LEN);
            let (more, after) = rest.split_at(rest.len().min(len.saturating_sub(self.partial.len())));
            self.partial.extend_from_slice(more);
            rest = after;
            let partial = std::mem::take(&mut self.partial);
            match pktline::take(&mut &partial[..])? {
                Some(packet) => self.packet(packet)?,
                None => self.partial = partial,
            }
        }
        Ok(chunk.len() - rest.len())
    }

    /// Whether all of the head was pushed.
    pub fn is_complete(&self) -> bool {
        self.section == Section::Complete
    }

    /// The head, if it is complete.
    pub fn finish(self) -> Result<ReceiveHead, RequestError> {
        if self.section != Section::Complete {
            return Err(PktError::Truncated.into());
        }
        Ok(ReceiveHead { shallow: self.shallow.list, ..self.head })
    }

    fn packet(&mut self, packet: PacketSlice<'_>) -> Result<(), RequestError> {
        match (packet, self.section) {
            (PacketSlice::Data(line), section) => {
                self.bytes = self.bytes.saturating_add(line.len() + PREFIX_LEN);
                super::check_bytes(self.bytes, self.limits.bytes)?;
                if section == Section::Commands { self.line(chomp(line)) } else { self.push_option(chomp(line)) }
            }
            (PacketSlice::Flush, Section::Commands)
                if self.head.capabilities.push_options && !self.head.commands.is_empty() =>
            {
                self.section = Section::PushOptions;
                Ok(())
            }
            (PacketSlice::Flush, _) => {
                self.section = Section::Complete;
                Ok(())
            }
            _ => Err(RequestError::Missing("expected flush after the commands")),
        }
    }

    /// `shallow <oid>` or `<old> <new> <name>[NUL <capabilities>]`
    fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        if let Some(hex) = line.strip_prefix(b"shallow ") {
            return self.shallow.insert(oid(hex, line)?, "shallow commits", self.limits.shallow);
        }
        let (text, words) = line.split_once_str("\0").unwrap_or((line, b""));
        if text == b"push-cert" {
            return Err(RequestError::Refused("signed pushes are not supported".to_owned()));
        }
        let mut fields = text.splitn_str(3, " ");
        let (Some(old), Some(new), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(unexpected(text));
        };
        let given = |hex: &[u8]| oid(hex, text).map(|oid| Some(oid).filter(|oid| !oid.is_null()));
        let command = RefCommand { old: given(old)?, new: given(new)?, name: name.into() };
        let bad = name.is_empty() || name.iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
        if bad || (command.old.is_none() && command.new.is_none()) {
            return Err(unexpected(text));
        }
        for (what, len, limit) in [
            ("commands", self.head.commands.len() + 1, self.limits.commands),
            ("bytes in the name of a ref", name.len(), self.limits.name_bytes),
        ] {
            if len > limit {
                return Err(RequestError::Limit { what, limit });
            }
        }
        if !self.names.insert(command.name.clone()) {
            return Err(RequestError::Refused(format!("multiple updates for ref '{}' not allowed", shown(name))));
        }
        self.words(words)?;
        self.head.commands.push(command);
        Ok(())
    }

    fn words(&mut self, words: &[u8]) -> Result<(), RequestError> {
        if words.is_empty() {
            return Ok(());
        }
        let words = Capabilities::from_words(words.split_str(" "));
        if let Some(format) = words.value("object-format").filter(|format| *format != b"sha1") {
            return Err(RequestError::Refused(format!("unsupported object format '{}'", shown(format))));
        }
        let capabilities = &mut self.head.capabilities;
        let report = match (words.has("report-status-v2"), words.has("report-status")) {
            (true, _) => ReportStatus::V2,
            (false, true) => ReportStatus::V1,
            (false, false) => ReportStatus::None,
        };
        capabilities.report_status = capabilities.report_status.max(report);
        capabilities.side_band_64k |= words.has("side-band-64k");
        capabilities.atomic |= words.has("atomic");
        capabilities.quiet |= words.has("quiet");
        capabilities.ofs_delta |= words.has("ofs-delta");
        capabilities.push_options |= words.has("push-options");
        if let Some(agent) = words.value("agent") {
            capabilities.agent = Some(agent.into());
        }
        Ok(())
    }

    fn push_option(&mut self, option: &[u8]) -> Result<(), RequestError> {
        if option.find_byteset(b"\0\n").is_some() {
            return Err(unexpected(option));
        }
        self.option_bytes += option.len();
        for (what, len, limit) in [
            ("push options", self.head.push_options.len() + 1, self.limits.push_options),
            ("bytes of push options", self.option_bytes, self.limits.push_option_bytes),
        ] {
            if len > limit {
                return Err(RequestError::Limit { what, limit });
            }
        }
        self.head.push_options.push(option.into());
        Ok(())
    }
}
