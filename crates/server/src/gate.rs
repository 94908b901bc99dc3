//! Refuses request heads that two readers could take for different requests (RFC 9112 sections 2.2, 5.2, 6.3): a line that
//! does not end in CRLF, a folded header, `Content-Length` beside `Transfer-Encoding`, either of them twice, and values
//! that are not plain. So are lines of trailers that do not end in CRLF: the library reads on until an empty line that does, others end
//! there. The HTTP library underneath is lenient with some of these, and a proxy in front may be lenient in another way.
//!
//! The gate reads along before the library does. What it refuses it spoils with a NUL, which no head and no trailer may
//! contain: so the library itself answers 400 and closes. It only ever adds refusals; the library's reading counts.

/// Room for the lines that matter; longer ones are not `Content-Length` or `Transfer-Encoding` as anybody writes them.
const LINE_MAX: usize = 128;

/// Where in the stream of requests the next byte stands.
#[derive(Debug)]
enum At {
    Head(Head),
    /// So many bytes of a body.
    Body(u64),
    Chunks(Chunks),
    /// Something was refused: nothing more will be read.
    Refused,
}

/// A head so far.
#[derive(Debug, Default)]
struct Head {
    /// The request line is complete.
    begun: bool,
    line: Vec<u8>,
    /// Of the whole line, even if `line` holds only its start.
    line_len: usize,
    last: u8,
    length: Option<u64>,
    chunked: bool,
}

/// A chunked body.
#[derive(Debug)]
enum Chunks {
    /// The line with the size: digits so far, and whether the extension has begun.
    Size { size: u64, extension: bool },
    /// So many bytes of data and its line end.
    Content(u64),
    /// Trailers: bytes of the current line, without its end, and whether the last byte was a CR.
    Trailers { len: usize, after_cr: bool },
}

/// The gate of one connection.
#[derive(Debug)]
pub(crate) struct Gate(At);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(At::Head(Head::default()))
    }

    /// Reads along; `false` if something was refused, now or before.
    pub(crate) fn check(&mut self, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() {
            let used = match &mut self.0 {
                At::Refused => return false,
                At::Body(left) | At::Chunks(Chunks::Content(left)) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= used as u64;
                    used
                }
                At::Head(_) | At::Chunks(_) => match self.0.text(bytes) {
                    0 => {
                        let Some(next) = self.0.byte(bytes[0]) else {
                            bytes[0] = 0;
                            self.0 = At::Refused;
                            return false;
                        };
                        if let Some(next) = next {
                            self.0 = next;
                        }
                        1
                    }
                    text => text,
                },
            };
            match self.0 {
                At::Body(0) => self.0 = At::Head(Head::default()),
                At::Chunks(Chunks::Content(0)) => self.0 = At::Chunks(Chunks::start()),
                _ => {}
            }
            bytes = &mut bytes[used..];
        }
        !matches!(self.0, At::Refused)
    }
}

impl At {
    /// Reads text within a line of a head; how many bytes that were.
    fn text(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Head(head) => head.text(bytes),
            Self::Body(_) | Self::Chunks(_) | Self::Refused => 0,
        }
    }

    /// `None` = refused; `Some(Some(…))` = what follows, where that changes.
    fn byte(&mut self, byte: u8) -> Option<Option<Self>> {
        match self {
            Self::Head(head) => head.byte(byte),
            Self::Chunks(chunks) => chunks.byte(byte),
            Self::Body(_) | Self::Refused => Some(None),
        }
    }
}

impl Head {
    /// Reads text up to what ends its line; how many bytes that were. Behind a CR there is none.
    fn text(&mut self, bytes: &[u8]) -> usize {
        if self.last == b'\r' {
            return 0;
        }
        let text = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        if let Some(last) = bytes[..text].last() {
            self.last = *last;
        }
        let room = LINE_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..text.min(room)]);
        self.line_len += text;
        text
    }

    /// Reads what is no [`Self::text`]. `None` = refused; `Some(Some(…))` = the head is complete.
    fn byte(&mut self, byte: u8) -> Option<Option<At>> {
        let after_cr = std::mem::replace(&mut self.last, byte) == b'\r';
        if after_cr != (byte == b'\n') {
            return None;
        }
        if byte != b'\n' {
            return Some(None);
        }
        let empty = self.line_len == 0;
        self.line_len = 0;
        if empty {
            return Some(self.begun.then(|| self.body()));
        }
        if self.begun {
            self.header()?
        } else {
            self.begun = true
        }
        self.line.clear();
        Some(None)
    }

    /// Judges a header line; `None` = refused.
    fn header(&mut self) -> Option<()> {
        if matches!(self.line.first(), Some(b' ' | b'\t')) {
            return None;
        }
        let colon = self.line.iter().position(|byte| *byte == b':').unwrap_or(self.line.len());
        let name = self.line[..colon].trim_ascii();
        let value = self.line.get(colon + 1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let plain = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
            if self.length.is_some() || self.chunked || !plain {
                return None;
            }
            self.length = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            self.chunked = true;
        }
        Some(())
    }

    fn body(&self) -> At {
        match self.length {
            _ if self.chunked => At::Chunks(Chunks::start()),
            Some(length) if length > 0 => At::Body(length),
            _ => At::Head(Self::default()),
        }
    }
}

impl Chunks {
    fn start() -> Self {
        Self::Size { size: 0, extension: false }
    }

    fn after_size(size: u64) -> Self {
        match size {
            0 => Self::Trailers { len: 0, after_cr: false },
            _ => Self::Content(size.saturating_add(2)),
        }
    }

    /// `None` = refused; `Some(Some(…))` = what follows. Malformed sizes and ends of chunks are left to the library, which refuses them.
    fn byte(&mut self, byte: u8) -> Option<Option<At>> {
        match self {
            Self::Size { size, extension } => {
                match char::from(byte).to_digit(16) {
                    _ if byte == b'\n' => return Some(Some(At::Chunks(Self::after_size(*size)))),
                    Some(digit) if !*extension => *size = size.saturating_mul(16).saturating_add(u64::from(digit)),
                    _ => *extension = true,
                }
                Some(None)
            }
            Self::Content(_) => Some(None),
            Self::Trailers { len, after_cr } => {
                if std::mem::replace(after_cr, byte == b'\r') != (byte == b'\n') {
                    return None;
                }
                match byte {
                    b'\n' if *len == 0 => return Some(Some(At::Head(Head::default()))),
                    b'\n' => *len = 0,
                    b'\r' => {}
                    _ => *len += 1,
                }
                Some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};

    const GET: &str = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";

    /// Feeds the stream in pieces of `step` bytes; the position of what was spoiled.
    fn refused_at(stream: &str, step: usize) -> Option<usize> {
        let mut gate = Gate::new();
        let mut bytes = stream.as_bytes().to_vec();
        let passed = bytes.chunks_mut(step).all(|piece| gate.check(piece));
        let spoiled = bytes.iter().position(|byte| *byte == 0);
        assert_eq!(passed, spoiled.is_none());
        spoiled
    }

    #[test]
    fn plain_requests_pass_in_pieces_of_any_size() {
        let long = format!("X: {}\r\n", "a".repeat(10_000));
        let stream = [
            GET,
            "\r\nPUT / HTTP/1.1\r\ncontent-length: 12\r\n\r\nX: a\nb\r c\n\n",
            "PUT / HTTP/1.1\r\nTRANSFER-ENCODING:\tChunked \r\n\r\n",
            "b;x=\"y\"\r\n\n\r\n\n\r\n\n\r\nXY\r\n00\r\nTrailer: x\r\nT: y\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\n",
            &long,
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            GET,
        ]
        .concat();
        for step in [1, 2, 3, 7, 64, 100_000] {
            assert_eq!(refused_at(&stream, step), None, "{step}");
            let after = format!("{stream}GET / HTTP/1.1\n\n");
            assert_eq!(refused_at(&after, step), Some(after.len() - 2), "still reading along, {step}");
        }
    }

    #[test]
    fn heads_that_read_in_two_ways_are_spoiled() {
        for head in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length : 5 5\r\n",
            "content-length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "X: a\nY: b\r\n",
            "X: a\rY: b\r\n",
            "X: a\r\r\n",
            "X: a\r\n b\r\n",
            "X: a\r\n\tb\r\n",
        ] {
            for step in [1, 5, 1_000] {
                assert!(refused_at(&format!("GET / HTTP/1.1\r\n{head}\r\n"), step).is_some(), "{head:?}");
            }
        }
    }

    /// What is read as more than one line by some, and as one by the library.
    #[test]
    fn trailers_that_read_in_two_ways_are_spoiled() {
        let hidden = "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
        let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
        for (trailers, at) in [
            ("\n", 0),
            ("X: a\n\r\n", 4),
            ("X: a\n\n", 4),
            ("X: a\r\n\n", 6),
            ("X: a\rb\r\n\r\n", 5),
            ("X: a\r\r\n", 5),
        ] {
            for step in [1, 5, 1_000] {
                let stream = format!("{head}{trailers}{hidden}");
                assert_eq!(refused_at(&stream, step), Some(head.len() + at), "{trailers:?} {step}");
            }
        }
    }

    fn seeded() -> rand::rngs::StdRng {
        let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| rand::rng().random::<u64>());
        println!("TREEHOLD_TEST_SEED={seed}");
        rand::rngs::StdRng::seed_from_u64(seed)
    }

    /// Whatever is sent, it is refused at the same byte however it comes.
    #[test]
    fn pieces_decide_nothing() {
        let long = "a".repeat(LINE_MAX - 1);
        let parts = [
            "GET / HTTP/1.1\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: ",
            "X: ",
            long.as_str(),
            "\r\n",
            "\r\n\r\n",
            "\r",
            "\n",
            " ",
            "0",
            "2\r\nxy\r\n",
        ];
        let mut random = seeded();
        for _ in 0..2_000 {
            let mut stream = String::from("GET / HTTP/1.1\r\n");
            for _ in 0..random.random_range(0..12) {
                stream.push_str(parts[random.random_range(0..parts.len())]);
            }
            let expected = refused_at(&stream, 1);
            for step in [2, 3, 7, 64, 100_000] {
                assert_eq!(refused_at(&stream, step), expected, "{stream:?} {step}");
            }
        }
    }

    #[test]
    fn random_streams_of_requests_pass_and_end_where_they_end() {
        let mut random = seeded();
        for _ in 0..300 {
            let mut stream = String::new();
            for _ in 0..random.random_range(0..5) {
                let body: String = (0..random.random_range(0..40)).map(|_| random.random_range('\n'..='~')).collect();
                if random.random() {
                    stream.push_str(&format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
                    continue;
                }
                stream.push_str("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.as_bytes().chunks(random.random_range(1..10)) {
                    let piece = std::str::from_utf8(piece).unwrap();
                    stream.push_str(&format!("{:X}\r\n{piece}\r\n", piece.len()));
                }
                stream.push_str("0\r\n\r\n");
            }
            let end = stream.len();
            stream.push_str("G\n");
            assert_eq!(refused_at(&stream, random.random_range(1..20)), Some(end + 1), "{stream:?}");
        }
    }
}
