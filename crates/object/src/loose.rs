//! Loose objects: the zlib stream of `<kind> SP <size> NUL <content>` (git's `object-file.c`).

use gix_hash::ObjectId;
use gix_object::Kind;

use crate::zlib::{Deflater, Inflater, ZlibError};

/// `commit 18446744073709551615\0`, the longest header there is, with room to spare.
const HEADER_MAX: usize = 32;

/// Why bytes are not a loose object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LooseError {
    /// The zlib stream is damaged, cut off or of another size than its header says.
    #[error(transparent)]
    Zlib(#[from] ZlibError),
    /// The header is not `<kind> SP <size> NUL`.
    #[error("the header of the loose object is malformed")]
    Header,
    /// The header announces more than the reader allows.
    #[error("the object has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// Announced size of the content, bytes.
        size: u64,
        /// The reader's limit, bytes.
        limit: u64,
    },
    /// Something follows the zlib stream.
    #[error("garbage follows the loose object")]
    Garbage,
}

/// Where git keeps the object: `objects/ab/cdef…`.
pub fn key(oid: &ObjectId) -> String {
    let hex = oid.to_string();
    let (fan, rest) = hex.split_at(2);
    format!("objects/{fan}/{rest}")
}

/// The object that [`key`] gives this name to, if it is such a name.
pub fn oid_of_key(key: &str) -> Option<ObjectId> {
    let (fan, rest) = key.strip_prefix("objects/")?.split_once('/')?;
    let hex = format!("{fan}{rest}");
    let lower = fan.len() == 2 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| ObjectId::from_hex(hex.as_bytes()).ok()).flatten()
}

/// The bytes of a loose object.
pub fn encode(kind: Kind, content: &[u8], deflater: &mut Deflater) -> Vec<u8> {
    let header = format!("{kind} {}\0", content.len());
    let mut out = Vec::new();
    deflater.deflate(&[header.as_bytes(), content], &mut out);
    out
}

/// Kind and content of a loose object of at most `limit` bytes. The id is not checked: hash the content.
pub fn decode(data: &[u8], limit: u64, inflater: &mut Inflater) -> Result<(Kind, Vec<u8>), LooseError> {
    let mut head = [0; HEADER_MAX];
    let filled = inflater.begin(data, &mut head)?;
    let (kind, size, length) = parse_header(head.get(..filled).unwrap_or_default())?;
    if size > limit {
        return Err(LooseError::TooLarge { size, limit });
    }
    let begun = head.get(length..filled).unwrap_or_default().to_vec();
    let (content, consumed) = inflater.finish(data, begun, size)?;
    if consumed == data.len() { Ok((kind, content)) } else { Err(LooseError::Garbage) }
}

/// Kind, size of the content and length of the header itself.
fn parse_header(head: &[u8]) -> Result<(Kind, u64, usize), LooseError> {
    let end = head.iter().position(|byte| *byte == 0).ok_or(LooseError::Header)?;
    let text = std::str::from_utf8(head.get(..end).unwrap_or_default()).map_err(|_| LooseError::Header)?;
    let (kind, digits) = text.split_once(' ').ok_or(LooseError::Header)?;
    let kind = Kind::from_bytes(kind.as_bytes()).map_err(|_| LooseError::Header)?;
    let canonical = digits == "0" || (digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'));
    let size = digits.parse().ok().filter(|_| canonical).ok_or(LooseError::Header)?;
    Ok((kind, size, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(1).deflate(&[bytes], &mut out);
        out
    }

    fn read(data: &[u8], limit: u64) -> Result<(Kind, Vec<u8>), LooseError> {
        decode(data, limit, &mut Inflater::default())
    }

    #[test]
    fn keys_are_gits_paths() {
        let oid = ObjectId::empty_blob(gix_hash::Kind::Sha1);
        let name = key(&oid);
        assert_eq!(name, "objects/e6/9de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(oid_of_key(&name), Some(oid));
        for other in ["objects/pack/x", "objects/E6/9de29bb2d1d6434b8b29ae775ad8c2e48c5391", "objects/e69/", "e6/9d"] {
            assert_eq!(oid_of_key(other), None, "{other}");
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        for bad in
            ["blob 3 \0abc", "blob 03\0abc", "blob -3\0abc", "blob +3\0abc", "blob\0abc", "blob 3", "Blob 3\0abc", ""]
        {
            assert_eq!(read(&raw(bad.as_bytes()), 100), Err(LooseError::Header), "{bad:?}");
        }
        let long = format!("blob {}\0", "9".repeat(40));
        assert_eq!(read(&raw(long.as_bytes()), u64::MAX), Err(LooseError::Header));
    }

    #[test]
    fn sizes_are_checked_before_memory_is_reserved() {
        let bomb = raw(b"blob 18446744073709551615\0x");
        assert_eq!(read(&bomb, 1000), Err(LooseError::TooLarge { size: u64::MAX, limit: 1000 }));
        assert!(matches!(read(&bomb, u64::MAX), Err(LooseError::Zlib(ZlibError::WrongSize { .. }))));
        assert!(matches!(read(&raw(b"blob 2\0abc"), 10), Err(LooseError::Zlib(ZlibError::WrongSize { .. }))));
        assert!(matches!(read(&raw(b"blob 4\0abc"), 10), Err(LooseError::Zlib(ZlibError::WrongSize { .. }))));
    }

    #[test]
    fn garbage_after_the_stream_is_refused() {
        let mut data = encode(Kind::Blob, b"abc", &mut Deflater::new(1));
        data.push(0);
        assert_eq!(read(&data, 10), Err(LooseError::Garbage));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(content: Vec<u8>, repeat in 1usize..300, level in 0u32..10) {
            let content = content.repeat(repeat);
            let data = encode(Kind::Tree, &content, &mut Deflater::new(level));
            prop_assert_eq!(read(&data, content.len() as u64), Ok((Kind::Tree, content)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(data: Vec<u8>) {
            let _ = read(&data, 1 << 20);
        }
    }
}
