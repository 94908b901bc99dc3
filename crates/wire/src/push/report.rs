//! What the server says happened: `report-status` and `report-status-v2`, mostly inside side-band channel 1.

use treehold_object::{BString, ByteSlice, ObjectId};

use crate::pktline::{Decoder, Packet, chomp};
use crate::printable;
use crate::sideband::{Demultiplexer, Event};

/// Most bytes of messages kept.
const MESSAGES_LEN_MAX: usize = 16 * 1024;
/// Longest reason kept, in bytes.
const REASON_LEN_MAX: usize = 1024;
/// Most bytes of report read.
const REPORT_LEN_MAX: usize = 4 << 20;

/// What became of one push of one ref. A variant exists only where the caller acts differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// The ref moved.
    Ok {
        /// What it points at, if the server says that it made this something else than was pushed.
        rewritten: Option<ObjectId>,
    },
    /// The ref was not where the push said, or could not be locked: look where it is now.
    Stale {
        /// The server's words.
        message: String,
    },
    /// A hook, a protected branch or a rule of the host refused. Final.
    Hook {
        /// The server's words, the hook's output among them.
        message: String,
    },
    /// The pack or a file in it is too large for the host. Final.
    TooLarge {
        /// The server's words.
        message: String,
    },
    /// The pack could not be unpacked, most likely since bases were missing: nothing happened. Send it again without
    /// bases that only the server has; if that was so already, treat as refused.
    MissingObjects {
        /// The server's words.
        message: String,
    },
    /// Refused for another reason. Final.
    Refused {
        /// The server's words.
        message: String,
    },
    /// The report is missing, cut or unreadable: the ref may have moved or not.
    Unknown {
        /// What there is of the server's words.
        message: String,
    },
}

/// What the report says of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefReport {
    /// The ref of the command.
    pub name: BString,
    /// `Err` has the server's reason, printable.
    pub result: Result<(), String>,
    /// Lines of `report-status-v2`: `refname`, `old-oid`, `new-oid` and `forced-update`, with their values.
    pub options: Vec<(BString, BString)>,
}

/// A report, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Whether the pack was unpacked; `Err` has the server's reason, `None` = not said.
    pub unpack: Option<Result<(), String>>,
    /// One per command, in the server's order.
    pub refs: Vec<RefReport>,
    /// What the server wrote for the user, printable and bounded.
    pub messages: String,
    /// Whether the report ended where reports end.
    pub complete: bool,
}

/// Reads the answer to a push in any portions. Never fails: what cannot be read makes the report incomplete.
#[derive(Debug)]
pub struct ReportReader {
    band: Option<Demultiplexer>,
    lines: Decoder,
    /// Bytes given to `lines`.
    len: usize,
    messages: Vec<u8>,
    /// The side-band cannot be read any further.
    band_broken: bool,
    /// The report inside of it cannot, though messages may follow.
    report_broken: bool,
    report: PushReport,
}

impl ReportReader {
    /// A reader for an answer in side-band packets or without.
    pub fn new(side_band: bool) -> Self {
        Self {
            band: side_band.then(Demultiplexer::new),
            lines: Decoder::new(),
            len: 0,
            messages: Vec::new(),
            band_broken: false,
            report_broken: false,
            report: PushReport::default(),
        }
    }

    /// Takes what the transport received.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.band_broken {
            return;
        }
        let Some(mut band) = self.band.take() else { return self.report_bytes(chunk) };
        band.push(chunk);
        loop {
            match band.next_event() {
                Ok(Some(Event::Data(bytes))) => self.report_bytes(&bytes),
                Ok(Some(Event::Progress(text))) => self.message(&text),
                Ok(Some(Event::Fatal(text))) => {
                    self.message(text.as_bytes());
                    self.message(b"\n");
                }
                Ok(Some(Event::End)) => {}
                Ok(None) => break,
                Err(_) => {
                    self.band_broken = true;
                    break;
                }
            }
        }
        self.band = Some(band);
    }

    /// The report, as far as it came.
    pub fn finish(mut self) -> PushReport {
        let whole = self.band.as_ref().is_none_or(|band| band.finish().is_ok()) && self.lines.finish().is_ok();
        self.report.complete &= whole && !self.band_broken && !self.report_broken && self.report.unpack.is_some();
        self.report.messages = printable(&self.messages, MESSAGES_LEN_MAX);
        self.report
    }

    fn message(&mut self, text: &[u8]) {
        let room = (MESSAGES_LEN_MAX + 1).saturating_sub(self.messages.len());
        self.messages.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn report_bytes(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        self.report_broken |= self.len > REPORT_LEN_MAX;
        if self.report_broken {
            return;
        }
        self.lines.push(bytes);
        loop {
            match self.lines.next_packet() {
                Ok(Some(Packet::Data(line))) if !self.report.complete => {
                    if self.line(chomp(&line)).is_none() {
                        self.report_broken = true;
                        return;
                    }
                }
                Ok(Some(Packet::Flush)) => self.report.complete = true,
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => {
                    self.report_broken = true;
                    return;
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let reason = |text: &[u8]| printable(text, REASON_LEN_MAX);
        if let Some(message) = line.strip_prefix(b"ERR ") {
            self.message(message);
            return None;
        }
        if let Some(result) = line.strip_prefix(b"unpack ") {
            self.report.unpack = Some(if result == b"ok" { Ok(()) } else { Err(reason(result)) });
        } else if let Some(name) = line.strip_prefix(b"ok ") {
            self.report.refs.push(RefReport { name: name.into(), result: Ok(()), options: Vec::new() });
        } else if let Some(rest) = line.strip_prefix(b"ng ") {
            // A ref's name has no space; a server that leaves out the reason still refused.
            let (name, text) = rest.split_once_str(" ").unwrap_or((rest, b"refused"));
            let result = Err(reason(text));
            self.report.refs.push(RefReport { name: name.into(), result, options: Vec::new() });
        } else if let Some(rest) = line.strip_prefix(b"option ") {
            let (name, value) = rest.split_once_str(" ").unwrap_or((rest, b""));
            self.report.refs.last_mut()?.options.push((name.into(), value.into()));
        } else {
            return None;
        }
        Some(())
    }
}

impl PushReport {
    /// What became of the push of `name` to `new`.
    pub fn outcome(&self, name: &[u8], new: Option<&ObjectId>) -> PushOutcome {
        let of_name = self.refs.iter().find(|report| report.name == name);
        let (true, Some(unpack)) = (self.complete, &self.unpack) else {
            // A server that dies over the size of a pack says so and sends no report.
            return if self.says(TOO_LARGE) {
                PushOutcome::TooLarge { message: self.words("") }
            } else {
                PushOutcome::Unknown { message: self.words("the report is incomplete") }
            };
        };
        match (unpack, of_name.map(|report| (&report.result, report))) {
            (Ok(()), Some((Ok(()), report))) => {
                let said = report.options.iter().find(|(option, _)| option == "new-oid");
                let said = said.and_then(|(_, hex)| ObjectId::from_hex(hex).ok());
                PushOutcome::Ok { rewritten: said.filter(|oid| Some(oid) != new) }
            }
            (Ok(()), Some((Err(reason), _))) => self.refusal(reason),
            (Err(reason), _) => self.unpack_failure(reason),
            (Ok(()), None) => PushOutcome::Unknown { message: self.words("the report does not name the ref") },
        }
    }

    fn refusal(&self, reason: &str) -> PushOutcome {
        let message = self.words(reason);
        let lower = reason.to_ascii_lowercase();
        let is = |patterns: &[&str]| patterns.iter().any(|pattern| lower.contains(pattern));
        if self.says(TOO_LARGE) || is(TOO_LARGE) {
            PushOutcome::TooLarge { message }
        } else if is(&["missing necessary objects"]) {
            PushOutcome::MissingObjects { message }
        } else if is(HOOK) || self.says(HOOK_MESSAGES) {
            PushOutcome::Hook { message }
        } else if self.says(&["; cannot create", "cannot create '"]) || is(&["; cannot create", "refname conflict"]) {
            // A ref is in the way (a/b where a exists): this will not pass by itself.
            PushOutcome::Refused { message }
        } else if is(STALE) {
            PushOutcome::Stale { message }
        } else {
            PushOutcome::Refused { message }
        }
    }

    fn unpack_failure(&self, reason: &str) -> PushOutcome {
        let message = self.words(reason);
        if self.says(TOO_LARGE) || TOO_LARGE.iter().any(|pattern| reason.contains(pattern)) {
            PushOutcome::TooLarge { message }
        } else if self.says(&["fsck error", "strict: error", "no space left", "quota"]) {
            PushOutcome::Refused { message }
        } else {
            PushOutcome::MissingObjects { message }
        }
    }

    /// Whether the messages have one of these phrases, given in lower case.
    fn says(&self, phrases: &[&str]) -> bool {
        let messages = self.messages.to_ascii_lowercase();
        phrases.iter().any(|phrase| messages.contains(phrase))
    }

    fn words(&self, reason: &str) -> String {
        let messages = self.messages.trim();
        match (reason.is_empty(), messages.is_empty()) {
            (_, true) => reason.to_owned(),
            (true, false) => messages.to_owned(),
            (false, false) => format!("{reason}\n{messages}"),
        }
    }
}

/// Git: "pack exceeds maximum allowed size"; GitHub: GH001 and "exceeds GitHub's file size limit".
const TOO_LARGE: &[&str] = &[
    "exceeds maximum allowed",
    "gh001",
    "file size limit",
    "size limit of",
    "larger than the maximum",
    "is too large",
];

/// Reasons after which a rule of the host stands behind the refusal.
const HOOK: &[&str] = &["hook declined", "protected branch", "rule violations", "push declined", "policy"];

/// GitHub: GH006 protected branch, GH009/GH013 rules and secrets.
const HOOK_MESSAGES: &[&str] = &["gh006", "gh009", "gh013", "protected branch", "push protection", "rule violations"];

/// Reasons (git's `refs.c` and `receive-pack.c`, GitHub, GitLab) that say that the ref is not where we thought.
const STALE: &[&str] = &[
    "stale info",
    "fetch first",
    "non-fast-forward",
    "failed to update ref",
    "cannot lock ref",
    "failed to lock",
    "unable to lock",
    "reference already exists",
    "already exists",
    "reference does not exist",
    "incorrect old value",
    "failed to delete",
    "but expected",
    "atomic transaction failed",
    "transaction failed",
    "concurrent",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{FLUSH, write};

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.iter().for_each(|line| write(&mut out, line.as_bytes()).unwrap());
        out.extend_from_slice(FLUSH);
        out
    }

    fn banded(messages: &[&str], report: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        messages.iter().for_each(|text| write(&mut out, &[b"\x02", text.as_bytes()].concat()).unwrap());
        report.chunks(11).for_each(|piece| write(&mut out, &[b"\x01", piece].concat()).unwrap());
        out.extend_from_slice(FLUSH);
        out
    }

    fn read(side_band: bool, bytes: &[u8], portion: usize) -> PushReport {
        let mut reader = ReportReader::new(side_band);
        bytes.chunks(portion).for_each(|chunk| reader.push(chunk));
        reader.finish()
    }

    fn outcome(messages: &[&str], report: &[&str]) -> PushOutcome {
        read(true, &banded(messages, &lines(report)), 7).outcome(b"refs/heads/x", None)
    }

    #[test]
    fn reports_are_read_with_and_without_side_band() {
        let id = "ce013625030ba8dba906f756967f9e9ca394464a";
        let report =
            lines(&["unpack ok\n", "ok refs/heads/x\n", &format!("option new-oid {id}\n"), "ng refs/heads/y no way\n"]);
        let plain = read(false, &report, 3);
        assert!(plain.complete && plain.unpack == Some(Ok(())) && plain.refs.len() == 2);
        assert_eq!(plain.refs[1].result, Err("no way".into()));
        let oid = ObjectId::from_hex(id.as_bytes()).unwrap();
        assert_eq!(plain.outcome(b"refs/heads/x", Some(&oid)), PushOutcome::Ok { rewritten: None });
        assert_eq!(plain.outcome(b"refs/heads/x", None), PushOutcome::Ok { rewritten: Some(oid) });
        assert_eq!(plain.outcome(b"refs/heads/y", None), PushOutcome::Refused { message: "no way".into() });
        assert!(matches!(plain.outcome(b"refs/heads/z", None), PushOutcome::Unknown { .. }));
        let banded = read(true, &banded(&["hello\x1b[31m\n"], &report), 1);
        assert_eq!(banded.messages, "hello\\u{1b}[31m\n");
        assert_eq!(PushReport { messages: String::new(), ..banded }, plain);
    }

    #[test]
    fn reasons_fall_into_what_the_caller_does() {
        for reason in [
            "failed to update ref",
            "cannot lock ref 'refs/heads/x': is at a but expected b",
            "fetch first",
            "stale info",
            "non-fast-forward",
            "reference already exists",
            "incorrect old value provided",
        ] {
            let got = outcome(&[], &["unpack ok", &format!("ng refs/heads/x {reason}")]);
            assert_eq!(got, PushOutcome::Stale { message: reason.into() });
        }
        for (messages, reason) in [
            (&["no tabs, please\n"][..], "pre-receive hook declined"),
            (&[], "hook declined"),
            (&["error: GH006: Protected branch update failed for refs/heads/x.\n"], "protected branch hook declined"),
            (&["error: GH013: Repository rule violations found\n"], "push declined due to repository rule violations"),
        ] {
            let got = outcome(messages, &["unpack ok", &format!("ng refs/heads/x {reason}")]);
            assert!(matches!(&got, PushOutcome::Hook { message } if message.starts_with(reason)), "{got:?}");
        }
        let gh001 = "error: GH001: Large files detected.\n";
        let got = outcome(&[gh001], &["unpack ok", "ng refs/heads/x pre-receive hook declined"]);
        assert!(matches!(got, PushOutcome::TooLarge { .. }));
        let got = outcome(
            &["error: cannot lock ref 'refs/heads/x': 'refs/heads' exists; cannot create 'refs/heads/x'\n"],
            &["unpack ok", "ng refs/heads/x failed to update ref"],
        );
        assert!(matches!(got, PushOutcome::Refused { .. }));
        let got = outcome(&[], &["unpack ok", "ng refs/heads/x missing necessary objects"]);
        assert!(matches!(got, PushOutcome::MissingObjects { .. }));
        let unpack = "unpack index-pack abnormal exit";
        let got = outcome(&["fatal: pack has 1 unresolved delta\n"], &[unpack, "ng refs/heads/x unpacker error"]);
        assert!(matches!(got, PushOutcome::MissingObjects { .. }));
        let got = outcome(
            &["fatal: pack exceeds maximum allowed size (1.00 KiB)\n"],
            &[unpack, "ng refs/heads/x unpacker error"],
        );
        assert!(matches!(got, PushOutcome::TooLarge { .. }));
        let got = outcome(&["fatal: fsck error in packed object\n"], &[unpack, "ng refs/heads/x unpacker error"]);
        assert!(matches!(got, PushOutcome::Refused { .. }));
        let got = outcome(&[], &["unpack ok", "ng refs/heads/x deny updating a hidden ref"]);
        assert!(matches!(got, PushOutcome::Refused { .. }));
    }

    #[test]
    fn a_report_cut_anywhere_is_unknown() {
        let report = lines(&["unpack ok\n", "ok refs/heads/x\n"]);
        for end in 0..report.len() {
            let got = read(false, &report[..end], 5).outcome(b"refs/heads/x", None);
            assert!(matches!(got, PushOutcome::Unknown { .. }), "cut at {end}: {got:?}");
        }
        let banded = banded(&["message"], &report);
        // The outer flush packet may be lost: the report itself is complete.
        for end in 0..banded.len() - 4 {
            let got = read(true, &banded[..end], 5).outcome(b"refs/heads/x", None);
            assert!(matches!(got, PushOutcome::Unknown { .. }), "cut at {end}: {got:?}");
        }
        assert_eq!(read(true, &banded, 5).outcome(b"refs/heads/x", None), PushOutcome::Ok { rewritten: None });
        for junk in [&b"<html>gateway</html>"[..], b"0000", b"", b"000eunpack junk"] {
            assert!(matches!(read(false, junk, 4).outcome(b"refs/heads/x", None), PushOutcome::Unknown { .. }));
            assert!(matches!(read(true, junk, 4).outcome(b"refs/heads/x", None), PushOutcome::Unknown { .. }));
        }
    }

    #[test]
    fn messages_are_bounded() {
        let flood = vec!["x".repeat(60_000); 20];
        let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
        let report = read(true, &banded(&flood, &lines(&["unpack ok", "ok refs/heads/x"])), 4096);
        assert!(report.messages.len() <= MESSAGES_LEN_MAX + 4 && report.complete);
    }
}
