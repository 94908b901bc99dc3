//! `ls-refs`: which refs a remote has.

use treehold_object::{BString, ByteSlice, ObjectId};

use super::{ClientCapabilities, FetchError};
use crate::pktline::{self, Decoder, Packet, PktError, chomp};
use crate::printable;
use crate::sideband::FATAL_LEN_MAX;

/// One `ls-refs` command. It always asks for symbolic targets and peeled tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// Only refs that start with one of these; all if empty. A hint: the server may send more.
    pub prefixes: Vec<BString>,
    /// Ask where `HEAD` points if that branch does not exist yet; only for servers that offer `ls-refs=unborn`.
    pub unborn: bool,
}

impl LsRefs {
    /// The request's body for `POST …/git-upload-pack` with `Git-Protocol: version=2`.
    pub fn encode(&self, capabilities: &ClientCapabilities<'_>) -> Result<Vec<u8>, PktError> {
        let mut out = Vec::new();
        capabilities.write_head(&mut out, "ls-refs")?;
        pktline::write_line(&mut out, &[b"peel"])?;
        pktline::write_line(&mut out, &[b"symrefs"])?;
        if self.unborn {
            pktline::write_line(&mut out, &[b"unborn"])?;
        }
        for prefix in &self.prefixes {
            pktline::write_line(&mut out, &[b"ref-prefix ", prefix.as_slice()])?;
        }
        out.extend_from_slice(pktline::FLUSH);
        Ok(out)
    }
}

/// A ref of the remote. Names are as sent: judge them before use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRef {
    /// `HEAD`, `refs/heads/main`.
    pub name: BString,
    /// What it points at; `None` for a `HEAD` whose branch is unborn.
    pub oid: Option<ObjectId>,
    /// The ref that a symbolic ref names.
    pub symref_target: Option<BString>,
    /// What an annotated tag finally points at.
    pub peeled: Option<ObjectId>,
}

/// How much of an `ls-refs` answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefLimits {
    /// Most refs.
    pub refs: u64,
    /// Most bytes of names.
    pub bytes: u64,
}

impl Default for RefLimits {
    fn default() -> Self {
        Self { refs: 1_000_000, bytes: 256 << 20 }
    }
}

/// Reads the answer to `ls-refs` in any portions.
#[derive(Debug, Default)]
pub struct RefsReader {
    decoder: Decoder,
    limits: RefLimits,
    bytes: u64,
    refs: Vec<RemoteRef>,
    complete: bool,
}

impl RefsReader {
    /// A reader at the start of an answer.
    pub fn new(limits: RefLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes what the transport received.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.decoder.push(chunk);
        while let Some(packet) = self.decoder.next_packet()? {
            match packet {
                Packet::Data(line) if !self.complete => self.line(chomp(&line))?,
                Packet::Flush => self.complete = true,
                Packet::ResponseEnd if self.complete => {}
                other => return Err(FetchError::Unexpected(printable(format!("{other:?}").as_bytes(), 200))),
            }
        }
        Ok(())
    }

    /// The refs, if the answer was complete.
    pub fn finish(self) -> Result<Vec<RemoteRef>, FetchError> {
        self.decoder.finish()?;
        if self.complete { Ok(self.refs) } else { Err(FetchError::Truncated) }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), FetchError> {
        if let Some(message) = line.strip_prefix(b"ERR ") {
            return Err(FetchError::Remote(printable(message, FATAL_LEN_MAX)));
        }
        if self.refs.len() as u64 >= self.limits.refs {
            return Err(FetchError::Limit { what: "refs", limit: self.limits.refs });
        }
        self.bytes += line.len() as u64;
        if self.bytes > self.limits.bytes {
            return Err(FetchError::Limit { what: "bytes of refs", limit: self.limits.bytes });
        }
        let parsed = parse_ref(line).ok_or_else(|| FetchError::Unexpected(printable(line, 200)))?;
        self.refs.push(parsed);
        Ok(())
    }
}

/// `<oid or "unborn"> SP <name> *(SP <attribute>)`
fn parse_ref(line: &[u8]) -> Option<RemoteRef> {
    let mut words = line.split_str(" ");
    let oid = match words.next()? {
        b"unborn" => None,
        hex => Some(ObjectId::from_hex(hex).ok()?),
    };
    let name = words.next().filter(|name| !name.is_empty())?;
    let mut parsed = RemoteRef { name: name.into(), oid, symref_target: None, peeled: None };
    for word in words {
        if let Some(target) = word.strip_prefix(b"symref-target:") {
            parsed.symref_target = Some(target.into());
        } else if let Some(hex) = word.strip_prefix(b"peeled:") {
            parsed.peeled = Some(ObjectId::from_hex(hex).ok()?);
        }
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{FLUSH, write};

    const ID: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn read(lines: &[&str], end: &[u8], limits: RefLimits) -> Result<Vec<RemoteRef>, FetchError> {
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| write(&mut bytes, line.as_bytes()).unwrap());
        bytes.extend_from_slice(end);
        let mut reader = RefsReader::new(limits);
        for chunk in bytes.chunks(7) {
            reader.push(chunk)?;
        }
        reader.finish()
    }

    #[test]
    fn lines_become_refs() {
        let lines = [
            "unborn HEAD symref-target:refs/heads/main\n",
            &format!("{ID} refs/tags/v1 peeled:{ID} future:x\n"),
            &format!("{ID} refs/heads/x"),
        ];
        let refs = read(&lines, FLUSH, RefLimits::default()).unwrap();
        assert_eq!((refs[0].oid, refs[0].symref_target.clone()), (None, Some("refs/heads/main".into())));
        assert_eq!(refs[1].peeled.unwrap().to_string(), ID);
        assert_eq!((refs[2].name.as_slice(), refs.len()), (&b"refs/heads/x"[..], 3));
        assert_eq!(read(&[], FLUSH, RefLimits::default()), Ok(vec![]));
    }

    #[test]
    fn bad_answers_are_told_apart() {
        let line = format!("{ID} refs/heads/x");
        let limits = RefLimits::default();
        assert_eq!(read(&[&line], b"", limits), Err(FetchError::Truncated));
        assert_eq!(read(&[&line], b"00", limits), Err(FetchError::Truncated));
        assert_eq!(read(&["ERR no\n"], FLUSH, limits), Err(FetchError::Remote("no".into())));
        assert!(matches!(read(&["junk"], FLUSH, limits), Err(FetchError::Unexpected(_))));
        assert!(matches!(read(&[], b"<html>", limits), Err(FetchError::NotGit(_))));
        let one = RefLimits { refs: 1, ..limits };
        assert_eq!(read(&[&line, &line], FLUSH, one), Err(FetchError::Limit { what: "refs", limit: 1 }));
    }
}
