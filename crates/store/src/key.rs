//! Bucket keys: which strings are keys, and where git keeps its objects.

use treehold_object::ObjectId;
use treehold_object::pack::Checksum;

use crate::error::StoreError;

/// Longest key, bytes. Servers limit bucket name and key together, and some limit file names to 255.
pub const KEY_LEN_MAX: usize = 165;

/// Where git keeps an object of its own: `objects/ab/cdef…`.
pub fn loose_key(oid: &ObjectId) -> String {
    treehold_object::loose::key(oid)
}

/// A name for a pack that no other pack ever had: `objects/pack/pack-<sha1(of‖uuid)>.pack`. `of`: its checksum, or an object in it.
///
/// The same objects packed again get another name, since the name of a deleted key is never used again.
/// `uuid` is fresh and random.
pub fn pack_key(of: &ObjectId, uuid: [u8; 16]) -> String {
    let mut name = Checksum::default();
    name.update(of.as_slice());
    name.update(&uuid);
    // 36 bytes cannot hold a collision attack, which takes two blocks of 64; the id is then as good a name.
    let name = name.finish().unwrap_or(*of);
    format!("objects/pack/pack-{name}.pack")
}

/// The key of a pack's index: `.idx` instead of `.pack`. `None`: not the key of a pack.
pub fn idx_key(pack_key: &str) -> Option<String> {
    pack_key.strip_suffix(".pack").map(|stem| format!("{stem}.idx"))
}

/// Whether `key` is one: see [`crate::Bucket`].
pub fn is_key(key: &str) -> bool {
    key.len() <= KEY_LEN_MAX
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Refuses what is no key, before it reaches a file system or a server.
pub(crate) fn check(store: &'static str, action: &'static str, key: &str) -> Result<(), StoreError> {
    if is_key(key) {
        return Ok(());
    }
    Err(StoreError::Refused { action, store, source: format!("{key:?} is not a key").into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_relative_ascii_paths() {
        let longest = "k".repeat(KEY_LEN_MAX);
        for good in ["objects/ab/cd", "a", "a-b/c.d", "...", &longest] {
            assert!(is_key(good), "{good}");
        }
        let long = "k".repeat(KEY_LEN_MAX + 1);
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "ä", "a b", "a\\b", "a\0b", "a\nb", &long] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn pack_names_are_fresh() {
        let checksum = ObjectId::Sha1([7; 20]);
        let (one, two) = (pack_key(&checksum, [1; 16]), pack_key(&checksum, [2; 16]));
        assert_ne!(one, two);
        assert_eq!(one, pack_key(&checksum, [1; 16]));
        // printf of twenty 07 and sixteen 01, through sha1sum.
        assert_eq!(one, format!("objects/pack/pack-{}.pack", "4002a5a4dcd52c0d1174bc48532140d674a66aa8"));
        assert_eq!(idx_key(&one).as_deref(), Some(one.replace(".pack", ".idx").as_str()));
        assert_eq!(idx_key(&loose_key(&checksum)), None);
    }
}
