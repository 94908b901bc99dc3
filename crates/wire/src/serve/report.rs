//! What became of a push: `report-status`, `report-status-v2` and words for the user.

use treehold_object::{BString, ObjectId};

use super::{AnswerError, Channel, PushCapabilities, ReportStatus, SideBand, check_name, one_line};
use crate::pktline;

/// Longest reason that is sent, in bytes.
const REASON_LEN_MAX: usize = 1_000;

/// What a ref was made instead of what was asked for; only `report-status-v2` can say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Another ref was moved.
    pub name: Option<BString>,
    /// It was this before.
    pub old: Option<ObjectId>,
    /// It is this now.
    pub new: Option<ObjectId>,
    /// It was moved although that loses commits.
    pub forced: bool,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefStatus {
    /// The ref of the command.
    pub name: BString,
    /// Whether the ref is as asked for. `Err` has the reason, one short line.
    pub result: Result<(), String>,
    /// What was done differently; left out if `result` is an error.
    pub rewrite: Option<Rewrite>,
}

/// What became of a push. One status for each command, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the pack was taken in. `Err` has the reason, one short line; then no ref moved.
    pub unpack: Result<(), String>,
    /// What became of each command.
    pub refs: Vec<RefStatus>,
}

impl Report {
    /// Appends the report in the form that the client asked for, or nothing if it asked for none.
    ///
    /// Reasons are made printable and cut at 1,000 bytes. [`write_end`] ends the answer.
    pub fn write(&self, out: &mut Vec<u8>, capabilities: &PushCapabilities) -> Result<(), AnswerError> {
        if capabilities.report_status == ReportStatus::None {
            return Ok(());
        }
        let mut lines = Vec::new();
        let unpack = self.unpack.as_ref().err().map_or_else(|| "ok".to_owned(), |reason| self::reason(reason));
        pktline::write_line(&mut lines, &[b"unpack ", unpack.as_bytes()])?;
        for status in &self.refs {
            check_name(&status.name)?;
            match &status.result {
                Ok(()) => pktline::write_line(&mut lines, &[b"ok ", &status.name])?,
                Err(text) => {
                    pktline::write_line(&mut lines, &[b"ng ", &status.name, b" ", reason(text).as_bytes()])?;
                    continue;
                }
            }
            if let Some(rewrite) = status.rewrite.as_ref().filter(|_| capabilities.report_status == ReportStatus::V2) {
                write_options(&mut lines, rewrite)?;
            }
        }
        lines.extend_from_slice(pktline::FLUSH);
        band(capabilities).write(out, Channel::Data, &lines);
        Ok(())
    }
}

/// Appends text for the user, which clients show line by line behind `remote: `; nothing without a side-band.
///
/// May be used at any time before [`write_end`]. Lines end in LF.
pub fn write_message(out: &mut Vec<u8>, capabilities: &PushCapabilities, text: &str) {
    band(capabilities).write(out, Channel::Progress, text.as_bytes());
}

/// Appends the flush packet that ends the answer to a push in side-band packets; nothing without them.
pub fn write_end(out: &mut Vec<u8>, capabilities: &PushCapabilities) {
    band(capabilities).write_end(out);
}

fn band(capabilities: &PushCapabilities) -> SideBand {
    if capabilities.side_band_64k { SideBand::Large } else { SideBand::None }
}

fn write_options(lines: &mut Vec<u8>, rewrite: &Rewrite) -> Result<(), AnswerError> {
    if let Some(name) = &rewrite.name {
        check_name(name)?;
        pktline::write_line(lines, &[b"option refname ", name])?;
    }
    for (option, oid) in [("old-oid", rewrite.old), ("new-oid", rewrite.new)] {
        if let Some(oid) = oid {
            pktline::write_line(lines, &[format!("option {option} {oid}").as_bytes()])?;
        }
    }
    if rewrite.forced {
        pktline::write_line(lines, &[b"option forced-update"])?;
    }
    Ok(())
}

/// A reason that is neither empty nor mistaken for success.
fn reason(text: &str) -> String {
    match one_line(text.as_bytes(), REASON_LEN_MAX) {
        text if text.is_empty() || text == "ok" => "failed".to_owned(),
        text => text,
    }
}
