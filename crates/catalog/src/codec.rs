//! How values look in a column.

use std::cell::RefCell;

use bytes::Bytes;
use roaring::RoaringTreemap;
use treehold_object::zlib::{Deflater, Inflater};
use treehold_object::{Kind, ObjectId};

use crate::attempts::AttemptState;
use crate::error::CatalogError;
use crate::pending::Action;
use crate::scopes::{Scope, Scopes};

const INVALID_NUMBER: CatalogError = CatalogError::Invalid { what: "number" };

/// An id, from its 20 bytes.
pub(crate) fn oid(bytes: &[u8]) -> Result<ObjectId, CatalogError> {
    ObjectId::try_from(bytes).map_err(|_| CatalogError::Invalid { what: "object id" })
}

/// An id that may be null.
pub(crate) fn oid_or_null(bytes: Option<Vec<u8>>) -> Result<Option<ObjectId>, CatalogError> {
    bytes.map(|bytes| oid(&bytes)).transpose()
}

/// Ids, one after the other.
pub(crate) fn join_oids(oids: &[ObjectId]) -> Vec<u8> {
    oids.iter().flat_map(|oid| oid.as_slice().iter().copied()).collect()
}

/// The ids of [`join_oids`].
pub(crate) fn split_oids(bytes: &[u8]) -> Result<Vec<ObjectId>, CatalogError> {
    let (oids, rest) = bytes.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(CatalogError::Invalid { what: "list of object ids" });
    }
    oids.iter().map(|bytes| oid(bytes)).collect()
}

/// An unsigned number as the databases' signed one.
pub(crate) fn signed(number: u64) -> Result<i64, CatalogError> {
    i64::try_from(number).map_err(|_| INVALID_NUMBER)
}

/// And back.
pub(crate) fn unsigned(number: i64) -> Result<u64, CatalogError> {
    u64::try_from(number).map_err(|_| INVALID_NUMBER)
}

/// Types have the numbers that packs give them (git's pack-format).
pub(crate) fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

/// The type of [`kind_code`].
pub(crate) fn kind(code: i64) -> Result<Kind, CatalogError> {
    match code {
        1 => Ok(Kind::Commit),
        2 => Ok(Kind::Tree),
        3 => Ok(Kind::Blob),
        4 => Ok(Kind::Tag),
        _ => Err(CatalogError::Invalid { what: "object" }),
    }
}

/// The number of a pending action.
pub(crate) fn action_code(action: Action) -> i64 {
    match action {
        Action::Modified => 0,
        Action::Created => 1,
        Action::Deleted => 2,
    }
}

/// The action of [`action_code`].
pub(crate) fn action(code: i64) -> Result<Action, CatalogError> {
    match code {
        0 => Ok(Action::Modified),
        1 => Ok(Action::Created),
        2 => Ok(Action::Deleted),
        _ => Err(CatalogError::Invalid { what: "pending" }),
    }
}

/// What a token of before scopes allows, by the name of its access.
pub(crate) fn access(name: &str) -> Result<Scopes, CatalogError> {
    match name {
        "read" => Ok([Scope::GitRead].into_iter().collect()),
        "write" => Ok([Scope::GitWrite].into_iter().collect()),
        _ => Err(CatalogError::Invalid { what: "token" }),
    }
}

/// The states of an attempt, by the names that indexes and queries use.
const STATES: [(AttemptState, &str); 10] = [
    (AttemptState::Prepared, "PREPARED"),
    (AttemptState::Stored, "STORED"),
    (AttemptState::Pushing, "PUSHING"),
    (AttemptState::Unknown, "UNKNOWN"),
    (AttemptState::Landed, "LANDED"),
    (AttemptState::Finalized, "FINALIZED"),
    (AttemptState::CommittedLocal, "COMMITTED_LOCAL"),
    (AttemptState::Rejected, "REJECTED"),
    (AttemptState::Paused, "PAUSED"),
    (AttemptState::Superseded, "SUPERSEDED"),
];

/// The name of a state.
pub(crate) fn state_name(state: AttemptState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| name)
}

/// The state of a name.
pub(crate) fn state(name: &str) -> Result<AttemptState, CatalogError> {
    let found = STATES.iter().find(|(_, known)| *known == name);
    found.map(|(state, _)| *state).ok_or(CatalogError::Invalid { what: "attempt" })
}

/// A bitmap in roaring's portable 64-bit form, with runs where they are shorter: an import's numbers lie together, and
/// so do a commit's, so that its size follows the number of imports and commits and not that of objects.
pub(crate) fn bitmap_bytes(mut bitmap: RoaringTreemap) -> Result<Vec<u8>, CatalogError> {
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes).map_err(|_| CatalogError::Invalid { what: "reach" })?;
    Ok(bytes)
}

/// The bitmap of [`bitmap_bytes`].
pub(crate) fn bitmap(bytes: &[u8]) -> Result<RoaringTreemap, CatalogError> {
    RoaringTreemap::deserialize_from(bytes).map_err(|_| CatalogError::Invalid { what: "reach" })
}

/// The level at which pending content is deflated: it is on its way for milliseconds and kept for days.
const CONTENT_LEVEL: u32 = 1;

thread_local! {
    /// The tables of a stream are larger than most contents, so that they are kept.
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new(CONTENT_LEVEL));
    /// And so is the window of one that is read.
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// Content as stored: its encoding (0 as it is, 1 zlib) and the bytes.
pub(crate) fn pack_content(content: &[u8]) -> (i64, Vec<u8>) {
    let mut packed = Vec::new();
    DEFLATER.with_borrow_mut(|deflater| deflater.deflate(&[content], &mut packed));
    if packed.len() < content.len() { (1, packed) } else { (0, content.to_vec()) }
}

/// The content of [`pack_content`], of exactly `size` bytes.
pub(crate) fn unpack_content(encoding: i64, size: i64, stored: Vec<u8>) -> Result<Bytes, CatalogError> {
    let invalid = || CatalogError::Invalid { what: "pending content" };
    let size = unsigned(size).map_err(|_| invalid())?;
    let content = match encoding {
        0 => stored,
        1 => INFLATER.with_borrow_mut(|inflater| inflater.inflate(&stored, size)).map_err(|_| invalid())?.0,
        _ => return Err(invalid()),
    };
    if content.len() as u64 != size {
        return Err(invalid());
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_is_smaller_where_it_can_be() {
        let text = b"the same line again\n".repeat(100);
        let (encoding, stored) = pack_content(&text);
        assert_eq!(encoding, 1);
        assert!(stored.len() < text.len() / 4);
        assert_eq!(unpack_content(encoding, text.len() as i64, stored.clone()).unwrap(), text);
        assert!(unpack_content(encoding, 10, stored.clone()).is_err(), "longer than recorded");
        assert!(unpack_content(encoding, 100_000, stored).is_err(), "shorter than recorded");
        let (encoding, stored) = pack_content(b"");
        assert_eq!((encoding, &stored[..]), (0, &b""[..]));
        assert_eq!(unpack_content(encoding, 0, stored).unwrap(), Bytes::new());
    }

    /// All are inflated by the thread's one inflater: what was wrong with one is nothing to the next.
    #[test]
    fn damaged_content_is_refused_and_the_next_is_read() {
        let text = b"the same line again\n".repeat(100);
        let (encoding, stored) = pack_content(&text);
        let size = text.len() as i64;
        let spoiled = |at: usize| {
            let mut bytes = stored.clone();
            bytes[at] ^= 0xff;
            bytes
        };
        let cut = |len: usize| stored[..len].to_vec();
        let last = stored.len() - 1;
        for (wrong, size) in [
            (spoiled(0), size),
            (spoiled(last), size),
            (cut(0), size),
            (cut(last / 2), size),
            (cut(last), size),
            (stored.clone(), size - 1),
            (stored.clone(), size + 1),
            (stored.clone(), 0),
            (stored.clone(), -1),
            (stored.clone(), i64::MAX),
        ] {
            assert!(unpack_content(encoding, size, wrong).is_err(), "{size}");
            assert_eq!(unpack_content(encoding, text.len() as i64, stored.clone()).unwrap(), text);
        }
        assert!(unpack_content(2, size, stored).is_err());
    }

    #[test]
    fn every_state_has_a_name_of_its_own() {
        for (known, name) in STATES {
            assert_eq!(state_name(known), name);
            assert_eq!(state(name).unwrap(), known);
        }
        assert!(state("").is_err());
    }

    #[test]
    fn lists_of_ids_come_back() {
        let oids = [treehold_object::hash(Kind::Blob, b"a").unwrap(), treehold_object::hash(Kind::Blob, b"b").unwrap()];
        assert_eq!(split_oids(&join_oids(&oids)).unwrap(), oids);
        assert!(split_oids(b"short").is_err());
    }

    #[test]
    fn a_bitmap_comes_back() {
        let bitmap: RoaringTreemap = (0..5000).chain([1 << 40]).collect();
        assert_eq!(super::bitmap(&bitmap_bytes(bitmap.clone()).unwrap()).unwrap(), bitmap);
        assert!(super::bitmap(b"junk").is_err());
        // Those that were written before runs were used are read as well.
        let mut plain = Vec::new();
        bitmap.serialize_into(&mut plain).unwrap();
        assert_eq!(super::bitmap(&plain).unwrap(), bitmap);
    }

    #[test]
    fn a_bitmap_is_as_small_as_its_history() {
        let imported: RoaringTreemap = (1024..501_024).collect();
        assert!(bitmap_bytes(imported.clone()).unwrap().len() < 200);
        // A thousand commits of 40 objects, each in a block of its own.
        let commits = (0..1000_u64).flat_map(|commit| (1 << 20) + commit * 1024..(1 << 20) + commit * 1024 + 40);
        let grown = imported | commits.collect::<RoaringTreemap>();
        assert!(bitmap_bytes(grown).unwrap().len() < 5_000);
    }
}
