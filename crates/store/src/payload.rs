//! Reading a [`Payload`], wherever it is.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;

use crate::bucket::Payload;

impl Payload {
    /// Its size in bytes. Looks at the file system, briefly.
    pub fn size(&self) -> std::io::Result<u64> {
        match self {
            Payload::Bytes(bytes) => Ok(bytes.len() as u64),
            Payload::File(path) => Ok(std::fs::metadata(path)?.len()),
        }
    }

    /// All of its bytes in memory. Blocks.
    pub(crate) fn read(&self) -> std::io::Result<Bytes> {
        match self {
            Payload::Bytes(bytes) => Ok(bytes.clone()),
            Payload::File(path) => Ok(std::fs::read(path)?.into()),
        }
    }

    /// A reader of its bytes. Blocks.
    pub(crate) fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        match self {
            Payload::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Payload::File(path) => Ok(Box::new(File::open(path)?)),
        }
    }
}

/// Whether two readers give the same bytes. Blocks; reads in pieces.
pub(crate) fn same_bytes(left: &mut dyn Read, right: &mut dyn Read) -> std::io::Result<bool> {
    const PIECE: u64 = 1 << 18;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        two.clear();
        left.take(PIECE).read_to_end(&mut one)?;
        right.take(PIECE).read_to_end(&mut two)?;
        if one != two {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

/// The bytes `range` of `value`, as far as it goes.
pub(crate) fn clip(value: &Bytes, range: Option<std::ops::Range<u64>>) -> Bytes {
    let Some(range) = range else { return value.clone() };
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(value.len());
    let (start, end) = (clamp(range.start), clamp(range.end));
    if start < end { value.slice(start..end) } else { Bytes::new() }
}
