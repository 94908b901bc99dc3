//! zlib streams (RFC 1950) of known size: what loose objects and pack entries are made of.

use std::io::{self, Read};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// No zlib stream inflates to more than this many times its length (deflate's limit is 1032 to 1).
const RATIO_MAX: u64 = 1032;

/// How much of a stream is taken at once where it comes by pieces, bytes.
const PIECE: usize = 64 << 10;
/// What its content grows by at least, bytes.
const STEP: u64 = 64 << 10;

/// The stream is not what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZlibError {
    /// Not a zlib stream, or its checksum is wrong.
    #[error("the zlib stream is damaged")]
    Damaged,
    /// The data ends within the stream.
    #[error("the zlib stream is cut off")]
    Truncated,
    /// The stream inflates to a different size than announced.
    #[error("the zlib stream does not inflate to {announced} bytes")]
    WrongSize {
        /// What was announced, bytes.
        announced: u64,
    },
}

/// Whether a zlib stream of `stream` bytes can inflate to `content` bytes at all: asked before memory is reserved.
pub fn plausible(stream: u64, content: u64) -> bool {
    content <= stream.saturating_mul(RATIO_MAX)
}

/// Deflates one stream after the other with one set of tables.
#[derive(Debug)]
pub struct Deflater {
    state: Compress,
}

impl Deflater {
    /// `level` 0 (store) to 9 (smallest); larger values count as 9.
    pub fn new(level: u32) -> Self {
        Self { state: Compress::new(Compression::new(level.min(9)), true) }
    }

    /// Appends to `out` one complete stream that inflates to the concatenation of `parts`.
    pub fn deflate(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        self.state.reset();
        let content: usize = parts.iter().map(|part| part.len()).sum();
        // Source code deflates to about half; the vector grows where it does not.
        out.reserve(content / 2 + 64);
        for (at, part) in parts.iter().enumerate() {
            let flush = if at + 1 == parts.len() { FlushCompress::Finish } else { FlushCompress::None };
            let begin = self.state.total_in();
            loop {
                let consumed = usize::try_from(self.state.total_in() - begin).unwrap_or(part.len());
                let rest = part.get(consumed..).unwrap_or_default();
                if rest.is_empty() && flush == FlushCompress::None {
                    break;
                }
                if out.capacity() - out.len() < 64 {
                    out.reserve((rest.len() / 2).max(4096));
                }
                // An error would mean misuse of the state machine (a stream that is over, a missing dictionary);
                // neither can follow a reset, and a full buffer is `BufError`, which the next turn resolves.
                match self.state.compress_vec(rest, out, flush) {
                    Ok(Status::StreamEnd) | Err(_) => break,
                    Ok(Status::Ok | Status::BufError) => {}
                }
            }
        }
    }
}

/// Inflates one stream after the other with one window.
#[derive(Debug)]
pub struct Inflater {
    state: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(true) }
    }
}

impl Inflater {
    /// The content of the stream at the start of `data`, which must be exactly `size` bytes, and the length of the stream.
    ///
    /// Reserves `size` bytes, but only where `data` is long enough to hold such a stream. Limits beyond that are the caller's.
    pub fn inflate(&mut self, data: &[u8], size: u64) -> Result<(Vec<u8>, usize), ZlibError> {
        self.state.reset(true);
        self.finish(data, Vec::new(), size)
    }

    /// As [`Self::inflate`], of a stream that is read by pieces from where `data` is. Nothing is reserved on the word of `size`: memory
    /// grows with what comes out, and what is read ends soon after the stream. The outer error is the reader's.
    pub fn inflate_from(&mut self, data: &mut impl Read, size: u64) -> io::Result<Result<(Vec<u8>, u64), ZlibError>> {
        let wrong_size = ZlibError::WrongSize { announced: size };
        self.state.reset(true);
        // A small object needs no large piece.
        let piece_len = usize::try_from(size).unwrap_or(PIECE).saturating_add(1024).min(PIECE);
        let (mut content, mut piece) = (Vec::<u8>::new(), vec![0_u8; piece_len]);
        let (mut begin, mut end) = (0, 0);
        loop {
            if begin == end {
                (begin, end) = (0, data.read(&mut piece)?);
            }
            let (before_in, before_out) = (self.state.total_in(), content.len());
            if before_out == content.capacity() {
                // One byte more than announced, so that a longer stream shows itself.
                let room = size.saturating_sub(before_out as u64).saturating_add(1);
                let more = room.min(STEP.max(before_out as u64));
                content.reserve_exact(usize::try_from(more).unwrap_or(PIECE));
            }
            let rest = piece.get(begin..end).unwrap_or_default();
            let Ok(status) = self.state.decompress_vec(rest, &mut content, FlushDecompress::None) else {
                return Ok(Err(ZlibError::Damaged));
            };
            begin += usize::try_from(self.state.total_in() - before_in).unwrap_or(rest.len());
            match status {
                Status::StreamEnd if content.len() as u64 == size => {
                    return Ok(Ok((content, self.state.total_in())));
                }
                Status::StreamEnd => return Ok(Err(wrong_size)),
                Status::Ok | Status::BufError if content.len() as u64 > size => return Ok(Err(wrong_size)),
                Status::Ok | Status::BufError => {}
            }
            if self.state.total_in() == before_in && content.len() == before_out {
                return Ok(Err(ZlibError::Truncated));
            }
        }
    }

    /// Inflates the first bytes of a stream, up to the length of `head`; returns how many there were.
    pub(crate) fn begin(&mut self, data: &[u8], head: &mut [u8]) -> Result<usize, ZlibError> {
        self.state.reset(true);
        self.state.decompress(data, head, FlushDecompress::None).map_err(|_| ZlibError::Damaged)?;
        Ok(usize::try_from(self.state.total_out()).unwrap_or(head.len()).min(head.len()))
    }

    /// Inflates the rest of a stream of which `begun` bytes of content came from [`Self::begin`] on the same `data`.
    pub(crate) fn finish(&mut self, data: &[u8], begun: Vec<u8>, size: u64) -> Result<(Vec<u8>, usize), ZlibError> {
        let wrong_size = ZlibError::WrongSize { announced: size };
        let mut content = begun;
        let room = usize::try_from(size).ok().and_then(|size| size.checked_add(1)).ok_or(wrong_size)?;
        if !plausible(data.len() as u64, size) || content.len() >= room {
            return Err(wrong_size);
        }
        // One byte more than announced, so that a longer stream shows itself.
        content.reserve_exact(room - content.len());
        let room = content.capacity();
        loop {
            let consumed = usize::try_from(self.state.total_in()).unwrap_or(data.len());
            let (before_in, before_out) = (self.state.total_in(), content.len());
            let rest = data.get(consumed..).unwrap_or_default();
            let status = self.state.decompress_vec(rest, &mut content, FlushDecompress::None);
            match status.map_err(|_| ZlibError::Damaged)? {
                Status::StreamEnd if content.len() as u64 == size => {
                    return Ok((content, usize::try_from(self.state.total_in()).unwrap_or(data.len())));
                }
                Status::StreamEnd => return Err(wrong_size),
                Status::Ok | Status::BufError => {}
            }
            if content.len() == room {
                return Err(wrong_size);
            }
            if self.state.total_in() == before_in && content.len() == before_out {
                return Err(ZlibError::Truncated);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deflated(level: u32, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(level).deflate(parts, &mut out);
        out
    }

    #[test]
    fn one_deflater_makes_independent_streams() {
        let mut deflater = Deflater::new(1);
        let mut out = Vec::new();
        deflater.deflate(&[b"one"], &mut out);
        let first = out.len();
        deflater.deflate(&[b"", b"two", b""], &mut out);
        deflater.deflate(&[b""], &mut out);
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&out, 3), Ok((b"one".to_vec(), first)));
        let (two, second) = inflater.inflate(&out[first..], 3).unwrap();
        assert_eq!(two, b"two");
        let (none, third) = inflater.inflate(&out[first + second..], 0).unwrap();
        assert_eq!((none.len(), first + second + third), (0, out.len()));
    }

    #[test]
    fn a_wrong_size_is_refused_before_and_after_inflating() {
        let stream = deflated(6, &[&[7; 100_000]]);
        let mut inflater = Inflater::default();
        for wrong in [0, 1, 99_999, 100_001, u64::MAX] {
            assert_eq!(inflater.inflate(&stream, wrong), Err(ZlibError::WrongSize { announced: wrong }), "{wrong}");
        }
        assert_eq!(inflater.inflate(&stream, 100_000).map(|(content, _)| content.len()), Ok(100_000));
    }

    #[test]
    fn every_prefix_is_refused() {
        let stream = deflated(1, &[b"some content, some more content"]);
        for end in 0..stream.len() {
            assert!(Inflater::default().inflate(&stream[..end], 31).is_err(), "{end}");
            let by_pieces = Inflater::default().inflate_from(&mut &stream[..end], 31).unwrap();
            assert_eq!(by_pieces, Err(ZlibError::Truncated), "{end}");
        }
    }

    #[test]
    fn an_announced_size_takes_nothing_by_itself() {
        let mut stream = deflated(6, &[&[7; 100_000]]);
        let length = stream.len() as u64;
        stream.resize(100 << 20, 0);
        let mut inflater = Inflater::default();
        for wrong in [0, 1, 99_999, 100_001, u64::from(u32::MAX), u64::MAX] {
            let mut rest = &stream[..];
            let refused = inflater.inflate_from(&mut rest, wrong).unwrap();
            assert_eq!(refused, Err(ZlibError::WrongSize { announced: wrong }), "{wrong}");
            assert!(stream.len() - rest.len() <= PIECE, "what follows was read");
        }
        let (content, used) = inflater.inflate_from(&mut &stream[..], 100_000).unwrap().unwrap();
        assert_eq!((content.len(), used), (100_000, length));
        assert!(content.capacity() <= 200_000, "{}", content.capacity());
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates(content: Vec<u8>, repeat in 1usize..400, split: prop::sample::Index, level in 0u32..12) {
            let content = content.repeat(repeat);
            let (left, right) = content.split_at(split.index(content.len() + 1));
            let mut stream = deflated(level, &[left, right]);
            let length = stream.len();
            stream.extend_from_slice(b"what follows");
            let by_pieces = Inflater::default().inflate_from(&mut &stream[..], content.len() as u64).unwrap();
            prop_assert_eq!(by_pieces, Ok((content.clone(), length as u64)));
            prop_assert_eq!(Inflater::default().inflate(&stream, content.len() as u64), Ok((content, length)));
        }
    }
}
