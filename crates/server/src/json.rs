//! JSON written straight into the bytes that are sent, for answers with a hundred thousand entries or megabytes of content: no
//! tree of values, no text in between. What serde_json writes for the same values is the measure; tests compare the bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use treehold_engine::api::{Encoding, Listed, Oid, ReadFile, Source};

use crate::error::Problem;

/// Content written in one go, bytes: a multiple of three, so that pieces in base64 join.
const PIECE: usize = 192 << 10;

/// A string of valid UTF-8 between its quotes, escaped as serde_json does (RFC 8259 section 7).
fn escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while !text.is_empty() {
        let plain = plain(text);
        out.extend_from_slice(&text[..plain]);
        let Some(&byte) = text.get(plain) else { return };
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\t' => b't',
            b'\r' => b'r',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        match short {
            0 => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            short => out.extend_from_slice(&[b'\\', short]),
        }
        text = &text[plain + 1..];
    }
}

/// How many bytes from the start need no escape.
fn plain(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text[at..].iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    rest.map_or(text.len(), |rest| at + rest)
}

/// The high bit of each byte that needs an escape; exact for the first of them, which is what counts. (The tricks for zero bytes and
/// for bytes below a limit: Sean Eron Anderson, Bit Twiddling Hacks.)
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1)
}

/// A string of bytes that are valid UTF-8.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn oid(out: &mut Vec<u8>, oid: &Oid) {
    let mut hex = [0; 40];
    let len = oid.0.hex_to_buf(&mut hex).len();
    out.push(b'"');
    out.extend_from_slice(&hex[..len]);
    out.push(b'"');
}

fn mode(out: &mut Vec<u8>, mode: u32) {
    out.push(b'"');
    out.extend((0..6).rev().map(|digit| b'0' + (mode >> (3 * digit) & 7) as u8));
    out.push(b'"');
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

fn source(source: Source) -> &'static [u8] {
    match source {
        Source::Committed => b"\"committed\"",
        Source::Pending => b"\"pending\"",
    }
}

/// One file of a list.
pub(crate) fn listed(out: &mut Vec<u8>, file: &Listed<'_>) {
    out.extend_from_slice(b"{\"path\":");
    match std::str::from_utf8(file.path) {
        Ok(_) => string(out, file.path),
        Err(_) => {
            string(out, String::from_utf8_lossy(file.path).as_bytes());
            out.extend_from_slice(b",\"path_b64\":\"");
            base64(out, file.path);
            out.push(b'"');
        }
    }
    out.extend_from_slice(b",\"mode\":");
    mode(out, file.mode.0);
    out.extend_from_slice(b",\"oid\":");
    oid(out, &file.oid);
    out.extend_from_slice(b",\"size\":");
    number(out, file.size);
    out.extend_from_slice(b",\"source\":");
    out.extend_from_slice(source(file.source));
    out.push(b'}');
}

/// A file of a batch read on its way out; a large one goes out in pieces.
pub(crate) struct FileWriter {
    file: ReadFile,
    at: usize,
}

impl FileWriter {
    pub(crate) fn new(out: &mut Vec<u8>, file: ReadFile) -> Self {
        out.extend_from_slice(b"{\"path\":");
        string(out, file.path.as_bytes());
        out.extend_from_slice(b",\"oid\":");
        oid(out, &file.oid);
        out.extend_from_slice(b",\"mode\":");
        mode(out, file.mode.0);
        out.extend_from_slice(b",\"size\":");
        number(out, file.size);
        out.extend_from_slice(b",\"source\":");
        out.extend_from_slice(source(file.source));
        out.extend_from_slice(match file.content.encoding() {
            Encoding::Utf8 => b",\"encoding\":\"utf-8\",\"content\":\"".as_slice(),
            Encoding::Base64 => b",\"encoding\":\"base64\",\"content\":\"",
        });
        Self { file, at: 0 }
    }

    /// Writes the next piece; `true` once the file is complete.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let content = self.file.content.bytes();
        let end = content.len().min(self.at + PIECE);
        let piece = &content[self.at..end];
        match self.file.content.encoding() {
            Encoding::Utf8 => {
                out.reserve(piece.len() + piece.len() / 16);
                escaped(out, piece);
            }
            Encoding::Base64 => base64(out, piece),
        }
        self.at = end;
        if end < content.len() {
            return false;
        }
        out.push(b'"');
        let lines = [
            (&b",\"start_line\":"[..], self.file.start_line),
            (b",\"end_line\":", self.file.end_line),
            (b",\"total_lines\":", self.file.total_lines),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                out.extend_from_slice(name);
                number(out, value);
            }
        }
        out.extend_from_slice(if self.file.truncated { b",\"truncated\":true}".as_slice() } else { b"}" });
        true
    }
}

/// Anything else.
pub(crate) fn value(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Problem> {
    serde_json::to_writer(out, value).map_err(|error| Problem::internal(&error))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
