//! Naming objects.
//!
//! The id of an object is SHA-1 over `<kind> SP <size> NUL <content>` (git's object format).

use gix_hash::ObjectId;
use gix_object::Kind;

/// The content was built to collide with another object's id; it must be refused, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content is part of a SHA-1 collision attack")]
pub struct Collision;

/// The id of `content` as an object of `kind`, by SHA-1 with collision detection (sha1dc).
///
/// Everything that comes from outside is named by this function and by no other: objects are shared
/// between tenants, so that an undetected collision would be a break-in.
pub fn hash(kind: Kind, content: &[u8]) -> Result<ObjectId, Collision> {
    gix_object::compute_hash(gix_hash::Kind::Sha1, kind, content).map_err(|_| Collision)
}

/// The same id by an independent implementation (`sha1_smol`, no collision detection).
///
/// Never names an object; it checks, before an object leaves in a push, that the first answer was right.
pub fn second_opinion(kind: Kind, content: &[u8]) -> ObjectId {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(kind.as_bytes());
    sha1.update(format!(" {}\0", content.len()).as_bytes());
    sha1.update(content);
    ObjectId::from_bytes_or_panic(&sha1.digest().bytes())
}

/// SHA-256 over the same framing as [`hash`]: what the ledger compares before two objects count as one.
pub fn sha256(kind: Kind, content: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    let mut sha256 = sha2::Sha256::new();
    sha256.update(kind.as_bytes());
    sha256.update(format!(" {}\0", content.len()).as_bytes());
    sha256.update(content);
    sha256.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_git_and_with_each_other() {
        // `git hash-object -t blob /dev/null`, `git hash-object -t tree /dev/null`
        for (kind, content, id) in [
            (Kind::Blob, &b""[..], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            (Kind::Tree, b"", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
            (Kind::Blob, b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
        ] {
            assert_eq!(hash(kind, content).map(|id| id.to_string()), Ok(id.to_owned()));
            assert_eq!(second_opinion(kind, content).to_string(), id);
        }
    }
}
