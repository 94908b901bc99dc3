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

    /// The beginning of both files of https://shattered.io, and how each goes on: after that they have the same SHA-1.
    const BOTH: &str = "\
        255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f48656967687420332030\
        20522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163\
        652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0aff\
        d8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01";
    const EACH: [&str; 2] = [
        "\
        7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38\
        e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0d\
        ecc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
        "\
        7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038\
        e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f\
        2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1",
    ];

    fn shattered() -> [Vec<u8>; 2] {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        let bytes = |hex: String| hex.as_bytes().chunks(2).map(|two| (digit(two[0]) << 4) | digit(two[1])).collect();
        EACH.map(|rest| bytes(format!("{BOTH}{rest}")))
    }

    /// Goal: the hasher that names objects notices the collision that is public; and as blobs, which start with their kind and size, the
    /// same bytes do not collide and are fine.
    #[test]
    fn collisions_are_noticed() {
        let files = shattered();
        assert_ne!(files[0], files[1]);
        let plain = files.each_ref().map(|file| sha1_smol::Sha1::from(file).digest().to_string());
        assert_eq!(plain[0], "f92d74e3874587aaf443d1db961d4e26dde13e9c");
        assert_eq!(plain[0], plain[1], "to a hasher that does not look, they are the same");
        for file in &files {
            let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
            hasher.update(file);
            assert!(hasher.try_finalize().is_err());
            assert_eq!(hash(Kind::Blob, file), Ok(second_opinion(Kind::Blob, file)));
        }
        assert_ne!(hash(Kind::Blob, &files[0]), hash(Kind::Blob, &files[1]));
        assert_ne!(sha256(Kind::Blob, &files[0]), sha256(Kind::Blob, &files[1]));
    }
}
