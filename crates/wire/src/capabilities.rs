//! What the other side says it can do: the advertisements of protocol v0, v1 and v2.

use bytes::Bytes;
use treehold_object::{BString, ByteSlice, ObjectId};

use crate::pktline::{Decoder, Packet, PktError, chomp};
use crate::printable;

/// Most lines read of one advertisement.
const LINES_MAX: usize = 1_000_000;

/// What is wrong with an advertisement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvertisementError {
    /// It is no stream of packets.
    #[error(transparent)]
    Packet(#[from] PktError),
    /// It ended before its flush packet.
    #[error("the advertisement is cut off")]
    Truncated,
    /// A line that no version of the protocol has.
    #[error("the advertisement has a line {0:?}")]
    Line(String),
    /// The remote answered with an error of its own.
    #[error("the remote says: {0}")]
    Remote(String),
    /// More lines than anybody needs.
    #[error("the advertisement has more than {LINES_MAX} lines")]
    TooLong,
}

/// Names, each with an optional value: `agent=git/2.47`, `report-status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    entries: Vec<(BString, Option<BString>)>,
}

impl Capabilities {
    /// Reads `name` or `name=value` words.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let split = |word: &'a [u8]| match word.split_once_str("=") {
            Some((name, value)) => (name.into(), Some(value.into())),
            None => (word.into(), None),
        };
        Self { entries: words.into_iter().filter(|word| !word.is_empty()).map(split).collect() }
    }

    /// Whether the capability was named, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// The first value given to `name`.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(key, _)| key == name)?.1.as_ref().map(|value| value.as_slice())
    }

    /// Whether the value of a v2 command, a list of words, names `feature`: `fetch=shallow filter`.
    pub fn has_feature(&self, command: &str, feature: &str) -> bool {
        self.value(command).is_some_and(|value| value.split_str(" ").any(|word| word == feature.as_bytes()))
    }

    /// The words as they were sent.
    pub fn words(&self) -> impl Iterator<Item = BString> + '_ {
        self.entries.iter().map(|(name, value)| match value {
            Some(value) => [name.as_slice(), b"=", value.as_slice()].concat().into(),
            None => name.clone(),
        })
    }
}

/// An answer to `GET …/info/refs?service=…`, or the first words of a pipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// The protocol's version: 0, 1 or 2.
    pub version: u8,
    /// What the remote can do.
    pub capabilities: Capabilities,
    /// The refs it has, in its order (none in version 2, which has `ls-refs`); peeled tags end in `^{}`.
    pub refs: Vec<(BString, ObjectId)>,
    /// Commits whose parents the remote lacks.
    pub shallow: Vec<ObjectId>,
}

impl Advertisement {
    /// Reads a whole advertisement, with or without the `# service=` head of smart HTTP.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdvertisementError> {
        let mut decoder = Decoder::new();
        decoder.push(bytes);
        let mut lines = Vec::new();
        let mut service_head = false;
        loop {
            match decoder.next_packet()? {
                Some(Packet::Data(line)) if lines.is_empty() && line.starts_with(b"# service=") => service_head = true,
                Some(Packet::Data(line)) if line.starts_with(b"ERR ") => {
                    return Err(AdvertisementError::Remote(printable(chomp(&line[4..]), 8 * 1024)));
                }
                Some(Packet::Data(_)) if lines.len() == LINES_MAX => return Err(AdvertisementError::TooLong),
                Some(Packet::Data(line)) => lines.push(line),
                Some(Packet::Flush) if service_head => service_head = false,
                Some(Packet::Flush) => break,
                Some(_) => return Err(AdvertisementError::Line("0001".into())),
                None => return Err(AdvertisementError::Truncated),
            }
        }
        Self::from_lines(&lines)
    }

    fn from_lines(lines: &[Bytes]) -> Result<Self, AdvertisementError> {
        match lines.first().map(|line| chomp(line)) {
            Some(b"version 2") => {
                let capabilities = Capabilities::from_words(lines[1..].iter().map(|line| chomp(line)));
                Ok(Self { version: 2, capabilities, ..Self::default() })
            }
            Some(b"version 1") => Self::from_ref_lines(1, &lines[1..]),
            _ => Self::from_ref_lines(0, lines),
        }
    }

    fn from_ref_lines(version: u8, lines: &[Bytes]) -> Result<Self, AdvertisementError> {
        let mut advertisement = Self { version, ..Self::default() };
        for (at, line) in lines.iter().enumerate() {
            let mut line = chomp(line);
            if at == 0
                && let Some((text, words)) = line.split_once_str("\0")
            {
                advertisement.capabilities = Capabilities::from_words(words.split_str(" "));
                line = text;
            }
            let bad = || AdvertisementError::Line(printable(line, 200));
            if let Some(hex) = line.strip_prefix(b"shallow ") {
                advertisement.shallow.push(ObjectId::from_hex(hex).map_err(|_| bad())?);
                continue;
            }
            let (hex, name) = line.split_once_str(" ").ok_or_else(bad)?;
            let oid = ObjectId::from_hex(hex).map_err(|_| bad())?;
            // An empty repository sends its capabilities on a pseudo-ref.
            if name != b"capabilities^{}" {
                advertisement.refs.push((name.into(), oid));
            }
        }
        Ok(advertisement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline::{FLUSH, write};

    fn message(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            if line.is_empty() { out.extend_from_slice(FLUSH) } else { write(&mut out, line.as_bytes()).unwrap() }
        }
        out
    }

    #[test]
    fn three_versions_are_read() {
        let id = "ce013625030ba8dba906f756967f9e9ca394464a";
        let v2 = message(&[
            "# service=git-upload-pack\n",
            "",
            "version 2\n",
            "agent=git/2.47\n",
            "fetch=shallow filter\n",
            "",
        ]);
        let v2 = Advertisement::parse(&v2).unwrap();
        assert_eq!((v2.version, v2.capabilities.value("agent")), (2, Some(&b"git/2.47"[..])));
        assert!(v2.capabilities.has_feature("fetch", "filter") && !v2.capabilities.has_feature("fetch", "filt"));

        let first = format!("{id} refs/heads/main\0report-status delete-refs agent=git/2.47");
        let v0 = Advertisement::parse(&message(&[
            &first,
            &format!("{id} refs/tags/v1^{{}}\n"),
            &format!("shallow {id}"),
            "",
        ]));
        let v0 = v0.unwrap();
        assert_eq!((v0.version, v0.refs.len(), v0.shallow.len()), (0, 2, 1));
        assert!(v0.capabilities.has("delete-refs") && !v0.capabilities.has("atomic"));
        assert_eq!(v0.capabilities.words().last().unwrap(), "agent=git/2.47");

        let empty = format!("{} capabilities^{{}}\0atomic\n", "0".repeat(40));
        let v1 = Advertisement::parse(&message(&["version 1\n", &empty, ""])).unwrap();
        assert_eq!((v1.version, v1.refs.len(), v1.capabilities.has("atomic")), (1, 0, true));
    }

    #[test]
    fn damage_is_told_apart() {
        assert_eq!(Advertisement::parse(&message(&["version 2\n"])), Err(AdvertisementError::Truncated));
        let refused = Advertisement::parse(&message(&["ERR access\x1b denied\n"]));
        assert_eq!(refused, Err(AdvertisementError::Remote("access\\u{1b} denied".into())));
        assert!(matches!(Advertisement::parse(&message(&["nonsense", ""])), Err(AdvertisementError::Line(_))));
        assert!(matches!(Advertisement::parse(b"<html>"), Err(AdvertisementError::Packet(_))));
    }
}
