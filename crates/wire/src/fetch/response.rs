//! The answer to `fetch`: sections of lines, then the pack in side-band packets.

use std::io::{self, Write};

use bytes::Bytes;
use treehold_object::ObjectId;

use super::FetchError;
use crate::pktline::{Decoder, Packet, chomp};
use crate::printable;
use crate::sideband::{Event, FATAL_LEN_MAX, classify};

/// How much of a `fetch` answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Most bytes of pack.
    pub pack_bytes: u64,
    /// Most lines before the pack.
    pub lines: u64,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { pack_bytes: 4 << 30, lines: 5_000_000 }
    }
}

/// What a piece of the answer brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// The next bytes of the pack.
    Pack(Bytes),
    /// Progress text, as sent; see [`printable`].
    Progress(Bytes),
}

/// What the answer said besides the pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchSummary {
    /// Which haves the server has too (servers skip this after `done`).
    pub acknowledged: Vec<ObjectId>,
    /// Commits that are now at the boundary of history: their parents are not in the pack.
    pub shallow: Vec<ObjectId>,
    /// Commits that were at the boundary and no longer are.
    pub unshallow: Vec<ObjectId>,
    /// Bytes of pack.
    pub pack_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Before a section's title.
    Title,
    Acknowledgments,
    ShallowInfo,
    Packfile,
    Complete,
}

/// Reads the answer to `fetch` in any portions. Every event must be taken after each push.
#[derive(Debug)]
pub struct FetchReader {
    decoder: Decoder,
    limits: FetchLimits,
    section: Section,
    lines: u64,
    summary: FetchSummary,
}

impl FetchReader {
    /// A reader at the start of an answer.
    pub fn new(limits: FetchLimits) -> Self {
        let (section, summary) = (Section::Title, FetchSummary::default());
        Self { decoder: Decoder::new(), limits, section, lines: 0, summary }
    }

    /// Takes what the transport received.
    pub fn push(&mut self, chunk: &[u8]) {
        self.decoder.push(chunk);
    }

    /// The next event; `None` = push more.
    pub fn next_event(&mut self) -> Result<Option<FetchEvent>, FetchError> {
        while let Some(packet) = self.decoder.next_packet()? {
            let event = match self.section {
                Section::Packfile => self.pack(packet)?,
                _ => self.head(packet).map(|()| None)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Takes what the transport received and writes the pack's bytes to `out`; progress goes to `progress`.
    ///
    /// The outer error is `out`'s.
    pub fn push_to(
        &mut self,
        chunk: &[u8],
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Result<(), FetchError>> {
        self.push(chunk);
        loop {
            match self.next_event() {
                Ok(Some(FetchEvent::Pack(bytes))) => out.write_all(&bytes)?,
                Ok(Some(FetchEvent::Progress(text))) => progress(&text),
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// What the answer said so far: all of it, but for `pack_bytes`, from the first bytes of the pack on.
    pub fn summary(&self) -> &FetchSummary {
        &self.summary
    }

    /// Whether the answer was complete.
    pub fn finish(&self) -> Result<(), FetchError> {
        self.decoder.finish()?;
        if self.section == Section::Complete { Ok(()) } else { Err(FetchError::Truncated) }
    }

    fn pack(&mut self, packet: Packet) -> Result<Option<FetchEvent>, FetchError> {
        match classify(packet)? {
            Event::Data(bytes) => {
                self.summary.pack_bytes += bytes.len() as u64;
                if self.summary.pack_bytes > self.limits.pack_bytes {
                    return Err(FetchError::Limit { what: "bytes of pack", limit: self.limits.pack_bytes });
                }
                Ok(Some(FetchEvent::Pack(bytes)))
            }
            Event::Progress(text) => Ok(Some(FetchEvent::Progress(text))),
            Event::Fatal(message) => Err(FetchError::Remote(message)),
            Event::End => {
                self.section = Section::Complete;
                Ok(None)
            }
        }
    }

    fn head(&mut self, packet: Packet) -> Result<(), FetchError> {
        let unexpected = |text: &[u8]| Err(FetchError::Unexpected(printable(text, 200)));
        let line = match packet {
            Packet::Data(line) => line,
            Packet::Delim if matches!(self.section, Section::Acknowledgments | Section::ShallowInfo) => {
                self.section = Section::Title;
                return Ok(());
            }
            Packet::ResponseEnd if self.section == Section::Complete => return Ok(()),
            other => return unexpected(format!("{other:?}").as_bytes()),
        };
        let line = chomp(&line);
        if let Some(message) = line.strip_prefix(b"ERR ") {
            return Err(FetchError::Remote(printable(message, FATAL_LEN_MAX)));
        }
        self.lines += 1;
        if self.lines > self.limits.lines {
            return Err(FetchError::Limit { what: "lines", limit: self.limits.lines });
        }
        match self.section {
            Section::Title => {
                self.section = match line {
                    b"acknowledgments" => Section::Acknowledgments,
                    b"shallow-info" => Section::ShallowInfo,
                    b"packfile" => Section::Packfile,
                    other => return unexpected(other),
                }
            }
            Section::Acknowledgments if matches!(line, b"NAK" | b"ready") => {}
            Section::Acknowledgments | Section::ShallowInfo => {
                if self.oid_line(line).is_none() {
                    return unexpected(line);
                }
            }
            Section::Packfile | Section::Complete => return unexpected(line),
        }
        Ok(())
    }

    fn oid_line(&mut self, line: &[u8]) -> Option<()> {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let oid = ObjectId::from_hex(&line[space + 1..]).ok()?;
        match (&line[..space], self.section) {
            (b"ACK", Section::Acknowledgments) => self.summary.acknowledged.push(oid),
            (b"shallow", Section::ShallowInfo) => self.summary.shallow.push(oid),
            (b"unshallow", Section::ShallowInfo) => self.summary.unshallow.push(oid),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{DELIM, FLUSH, write};

    const ID: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn read(parts: &[&str], limits: FetchLimits) -> Result<(Vec<u8>, FetchSummary), FetchError> {
        let mut bytes = Vec::new();
        for part in parts {
            match *part {
                "" => bytes.extend_from_slice(FLUSH),
                "|" => bytes.extend_from_slice(DELIM),
                line => write(&mut bytes, line.as_bytes()).unwrap(),
            }
        }
        let (mut reader, mut pack, mut progress) = (FetchReader::new(limits), Vec::new(), Vec::new());
        for chunk in bytes.chunks(5) {
            reader.push_to(chunk, &mut pack, &mut |text| progress.extend_from_slice(text)).unwrap()?;
        }
        reader.finish()?;
        Ok((pack, reader.summary().clone()))
    }

    #[test]
    fn sections_come_apart() {
        let (ack, shallow, unshallow) = (format!("ACK {ID}\n"), format!("shallow {ID}\n"), format!("unshallow {ID}"));
        let parts =
            ["acknowledgments\n", &ack, "ready\n", "|", "shallow-info\n", &shallow, &unshallow, "|", "packfile\n"];
        let parts = [&parts[..], &["\x01PA", "\x02progress", "\x01CK", ""]].concat();
        let (pack, summary) = read(&parts, FetchLimits::default()).unwrap();
        assert_eq!((pack.as_slice(), summary.pack_bytes), (&b"PACK"[..], 4));
        assert_eq!((summary.acknowledged.len(), summary.shallow.len(), summary.unshallow.len()), (1, 1, 1));
    }

    #[test]
    fn bad_answers_are_told_apart() {
        let limits = FetchLimits::default();
        assert_eq!(read(&["packfile\n", "\x01PACK"], limits), Err(FetchError::Truncated));
        assert_eq!(read(&[], limits), Err(FetchError::Truncated));
        assert_eq!(read(&["ERR not our ref\n"], limits), Err(FetchError::Remote("not our ref".into())));
        assert_eq!(read(&["packfile\n", "\x03died", ""], limits), Err(FetchError::Remote("died".into())));
        assert!(matches!(read(&["packfile-uris\n", "|"], limits), Err(FetchError::Unexpected(_))));
        assert!(matches!(read(&["acknowledgments\n", "NAK\n", ""], limits), Err(FetchError::Unexpected(_))));
        assert!(matches!(read(&["packfile\n", "\x01", "", "\x01"], limits), Err(FetchError::Unexpected(_))));
        let small = FetchLimits { pack_bytes: 3, ..limits };
        assert!(matches!(read(&["packfile\n", "\x01PACK", ""], small), Err(FetchError::Limit { limit: 3, .. })));
    }
}
