//! A request of protocol v2: one command with its arguments.

use treehold_object::{BString, ByteSlice};

use super::fetch::FetchLines;
use super::ls_refs::LsRefsLines;
use super::object_info::ObjectInfoLines;
use super::{
    FetchArguments, LsRefsRequest, ObjectInfoRequest, RequestError, RequestLimits, check_bytes, next_packet, shown,
};
use crate::pktline::{PacketSlice, chomp};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// List refs.
    LsRefs(LsRefsRequest),
    /// Send a pack, or find out what is common first.
    Fetch(FetchArguments),
    /// Tell the sizes of objects.
    ObjectInfo(ObjectInfoRequest),
}

/// A command, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// The client's program, as sent; see [`printable`](crate::printable).
    pub agent: Option<BString>,
}

/// Reads the body of `POST git-upload-pack` with `Git-Protocol: version=2`, decompressed.
///
/// `None` = it is empty or only a flush packet, as clients send to try their credentials; the answer is empty. What
/// follows the flush packet that ends the command is ignored, as git does on stateless connections.
pub fn parse_request(body: &[u8], limits: &RequestLimits) -> Result<Option<Request>, RequestError> {
    check_bytes(body.len(), limits.bytes)?;
    if body.is_empty() {
        return Ok(None);
    }
    let (mut rest, mut command, mut agent, mut anything) = (body, None, None, false);
    let has_arguments = loop {
        match next_packet(&mut rest)? {
            PacketSlice::Data(line) => {
                anything = true;
                let line = chomp(line);
                if let Some(name) = line.strip_prefix(b"command=") {
                    if command.is_some() {
                        return Err(RequestError::Refused(format!("a second command '{}'", shown(name))));
                    }
                    command = Some(Lines::of(name, limits)?);
                } else {
                    capability(line, &mut agent)?;
                }
            }
            PacketSlice::Flush if !anything => return Ok(None),
            PacketSlice::Flush => break false,
            PacketSlice::Delim => break true,
            PacketSlice::ResponseEnd => return Err(RequestError::Line("0002".to_owned())),
        }
    };
    let mut lines = command.ok_or(RequestError::Missing("no command requested"))?;
    if has_arguments {
        arguments(&mut rest, &mut lines)?;
    }
    Ok(Some(Request { command: lines.finish()?, agent }))
}

fn arguments(rest: &mut &[u8], lines: &mut Lines<'_>) -> Result<(), RequestError> {
    loop {
        match next_packet(rest)? {
            PacketSlice::Data(line) => lines.line(chomp(line))?,
            PacketSlice::Flush => return Ok(()),
            _ => return Err(RequestError::Missing("expected flush after the command's arguments")),
        }
    }
}

/// Takes a line between a command and its arguments.
fn capability(line: &[u8], agent: &mut Option<BString>) -> Result<(), RequestError> {
    let (name, value) = line.split_once_str("=").map_or((line, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        (b"agent", value) => *agent = value.map(BString::from),
        (b"server-option", _) | (b"object-format", Some(b"sha1")) => {}
        (b"object-format", value) => {
            let client = shown(value.unwrap_or_default());
            return Err(RequestError::Refused(format!("mismatched object format: server sha1; client {client}")));
        }
        _ => return Err(RequestError::Unknown { what: "capability", name: shown(line) }),
    }
    Ok(())
}

/// Takes the arguments of a command.
enum Lines<'l> {
    LsRefs(LsRefsLines),
    Fetch(Box<FetchLines<'l>>),
    ObjectInfo(ObjectInfoLines),
}

impl<'l> Lines<'l> {
    fn of(command: &[u8], limits: &'l RequestLimits) -> Result<Self, RequestError> {
        Ok(match command {
            b"ls-refs" => Self::LsRefs(LsRefsLines::default()),
            b"fetch" => Self::Fetch(Box::new(FetchLines::new(limits))),
            b"object-info" => Self::ObjectInfo(ObjectInfoLines::new(limits)),
            _ => return Err(RequestError::Unknown { what: "command", name: shown(command) }),
        })
    }

    fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        match self {
            Self::LsRefs(lines) => lines.line(line),
            Self::Fetch(lines) => lines.line(line),
            Self::ObjectInfo(lines) => lines.line(line),
        }
    }

    fn finish(self) -> Result<Command, RequestError> {
        Ok(match self {
            Self::LsRefs(lines) => Command::LsRefs(lines.finish()),
            Self::Fetch(lines) => Command::Fetch(lines.finish()?),
            Self::ObjectInfo(lines) => Command::ObjectInfo(lines.finish()),
        })
    }
}
