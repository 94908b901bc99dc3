//! The client's side of pushing: one request to `git-receive-pack` (`gitprotocol-pack`, `gitprotocol-http`).
//!
//! The body is the [`head`] (commands and capabilities), then, unless all commands delete, a pack made by
//! [`PushPack`]. The server's check of the old oid is the compare-and-swap; only its report says what happened.

mod http;
mod pack;
mod report;

pub use http::{HttpAnswer, classify_http};
pub use pack::{PackOptions, PackSummary, PushError, PushObject, PushPack, empty_pack};
pub use report::{PushOutcome, PushReport, RefReport, ReportReader};

use treehold_object::{BString, ByteSlice, ObjectId};

use crate::Capabilities;
use crate::pktline::{self, PktError};

/// Move one ref. At least one of the oids is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the ref must be now; `None` = it must not exist.
    pub old: Option<ObjectId>,
    /// What it shall be; `None` = delete it.
    pub new: Option<ObjectId>,
    /// The full name of the ref.
    pub name: BString,
}

/// Why a push cannot be put into words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// There is nothing to do, or a command does nothing.
    #[error("a push needs a command, and each command an old or a new oid")]
    Empty,
    /// A ref's name with a byte that would end it early.
    #[error("the name of a ref has a NUL, LF or space")]
    Name,
    /// The server cannot do what is asked.
    #[error("the server does not offer {0}")]
    Unsupported(&'static str),
    /// A name too long for a packet.
    #[error(transparent)]
    Packet(#[from] PktError),
}

/// What a push asks of the server, after looking at what it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushCapabilities {
    words: Vec<String>,
    side_band: bool,
    atomic: bool,
    delete: bool,
    /// Whether the pack may have `OFS_DELTA` entries.
    pub ofs_delta: bool,
    /// Whether the pack may have deltas against objects that only the server has.
    pub thin: bool,
}

impl PushCapabilities {
    /// For a server that offers `offered`, or for one known to be git or GitHub if `None`.
    ///
    /// Only offered words are sent: other servers fail on those that they do not know.
    pub fn choose(offered: Option<&Capabilities>, agent: &str) -> Self {
        let has = |name: &str| offered.is_none_or(|offered| offered.has(name));
        let mut words = Vec::new();
        let report = if has("report-status-v2") { "report-status-v2" } else { "report-status" };
        words.push(report.to_owned());
        for word in ["side-band-64k", "ofs-delta"] {
            if has(word) {
                words.push(word.to_owned());
            }
        }
        if offered.is_none_or(|offered| offered.value("object-format") == Some(b"sha1")) {
            words.push("object-format=sha1".to_owned());
        }
        if has("agent") {
            words.push(format!("agent={agent}"));
        }
        let thin = offered.is_none_or(|offered| !offered.has("no-thin"));
        let side_band = has("side-band-64k");
        Self { words, side_band, atomic: has("atomic"), delete: has("delete-refs"), ofs_delta: has("ofs-delta"), thin }
    }

    /// Whether the report will come in side-band packets, see [`ReportReader::new`].
    pub fn side_band(&self) -> bool {
        self.side_band
    }
}

/// The start of a push's body: the commands, the capabilities and a flush packet.
///
/// Several commands are asked for as one `atomic` change. A pack must follow unless all commands delete.
pub fn head(commands: &[Command], capabilities: &PushCapabilities) -> Result<Vec<u8>, HeadError> {
    let mut words = capabilities.words.join(" ");
    if commands.len() > 1 {
        if !capabilities.atomic {
            return Err(HeadError::Unsupported("atomic"));
        }
        words.push_str(" atomic");
    }
    if commands.is_empty() || commands.iter().any(|command| command.old.is_none() && command.new.is_none()) {
        return Err(HeadError::Empty);
    }
    let mut out = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        if command.name.is_empty() || command.name.find_byteset(b"\0\n ").is_some() {
            return Err(HeadError::Name);
        }
        if command.new.is_none() && !capabilities.delete {
            return Err(HeadError::Unsupported("delete-refs"));
        }
        let hex = |oid: Option<ObjectId>| oid.map_or_else(|| "0".repeat(40), |oid| oid.to_string());
        let mut line = format!("{} {} ", hex(command.old), hex(command.new)).into_bytes();
        line.extend_from_slice(&command.name);
        if at == 0 {
            line.extend_from_slice(b"\0 ");
            line.extend_from_slice(words.as_bytes());
        }
        pktline::write(&mut out, &line)?;
    }
    out.extend_from_slice(pktline::FLUSH);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(old: bool, new: bool) -> Command {
        let id = ObjectId::Sha1([0x11; 20]);
        Command { old: old.then_some(id), new: new.then_some(id), name: "refs/heads/x".into() }
    }

    #[test]
    fn the_head_names_commands_and_what_the_server_has() {
        let git = PushCapabilities::choose(None, "treehold/0");
        let (ones, zeros) = ("1".repeat(40), "0".repeat(40));
        let line = format!(
            "{zeros} {ones} refs/heads/x\0 report-status-v2 side-band-64k ofs-delta object-format=sha1 agent=treehold/0"
        );
        let text = head(&[command(false, true)], &git).unwrap();
        assert_eq!(text, format!("{:04x}{line}0000", line.len() + 4).into_bytes());
        let two = head(&[command(true, true), command(true, false)], &git).unwrap();
        assert!(two.contains_str(" atomic") && two.contains_str(format!("{ones} {zeros} refs/heads/x0000")));

        let offered = Capabilities::from_words(b"report-status side-band-64k no-thin".split_str(" "));
        let other = PushCapabilities::choose(Some(&offered), "treehold/0");
        assert!(head(&[command(false, true)], &other).unwrap().ends_with(b"\0 report-status side-band-64k0000"));
        assert!(!other.thin && !other.ofs_delta && git.thin && git.ofs_delta);
        assert_eq!(head(&[command(true, false)], &other), Err(HeadError::Unsupported("delete-refs")));
        assert_eq!(head(&[command(true, true), command(true, true)], &other), Err(HeadError::Unsupported("atomic")));
    }

    #[test]
    fn impossible_commands_are_refused() {
        let git = PushCapabilities::choose(None, "treehold/0");
        assert_eq!(head(&[], &git), Err(HeadError::Empty));
        assert_eq!(head(&[command(false, false)], &git), Err(HeadError::Empty));
        for name in ["", "refs/heads/a b", "refs/heads/a\0push-cert", "refs/heads/a\n"] {
            assert_eq!(head(&[Command { name: name.into(), ..command(true, true) }], &git), Err(HeadError::Name));
        }
    }
}
