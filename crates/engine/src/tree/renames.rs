//! Where a file went that is gone from its path: to a new file with the same content, or with enough of it.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_object::{BStr, BString, ObjectId};

use super::{Item, is_binary};
use crate::{Engine, Result, blocking};

/// How much of a file must be in another one, of 60,000, for it to be taken as renamed: half of it, as in git.
const SIMILAR: u64 = 30_000;
/// git's scale of similarity (diffcore.h, `MAX_SCORE`).
const SCALE: u64 = 60_000;
/// New files whose content is looked at.
const LOOKED_AT: usize = 100;
/// Longer files are renamed only as they are, bytes.
const LONGEST: u64 = 1 << 20;
/// Git's pieces of a text end with their line, or here.
const PIECE: usize = 64;

/// A file that came into being.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub path: BString,
    pub item: Item,
    /// Its bytes, where they are not stored for the project yet.
    pub content: Option<Bytes>,
}

/// How much of `old` is in `new`, on git's scale (diffcore-rename.c, `estimate_similarity`).
fn similarity(old: &[u8], new: &[u8]) -> u64 {
    let larger = old.len().max(new.len()) as u64;
    if larger == 0 {
        return SCALE;
    }
    let (old, new) = (pieces(old), pieces(new));
    let copied: u64 = old.iter().map(|(piece, bytes)| *bytes.min(new.get(piece).unwrap_or(&0))).sum();
    copied * SCALE / larger
}

/// Bytes of each different piece of a content: lines, cut where they are long; the CR of a text's CR LF does not count.
fn pieces(content: &[u8]) -> HashMap<Vec<u8>, u64> {
    let text = !is_binary(content);
    let mut found: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut piece = Vec::with_capacity(PIECE);
    for (at, byte) in content.iter().enumerate() {
        if text && *byte == b'\r' && content.get(at + 1) == Some(&b'\n') {
            continue;
        }
        piece.push(*byte);
        if piece.len() == PIECE || *byte == b'\n' {
            let bytes = piece.len() as u64;
            *found.entry(std::mem::take(&mut piece)).or_default() += bytes;
        }
    }
    if !piece.is_empty() {
        let bytes = piece.len() as u64;
        *found.entry(piece).or_default() += bytes;
    }
    found
}

fn name(path: &BStr) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

impl Engine {
    /// Which of the `added` files the one at `path` became, whose content was `base`; `None` = none of them is like it. First of all one of
    /// the same content, then the one that has most of it; among equals one of the same name. Reads contents only if none is the same.
    pub(crate) async fn renamed_to(&self, path: &BString, base: ObjectId, added: &[Added]) -> Result<Option<usize>> {
        let file = |added: &&(usize, &Added)| super::merge::is_file(added.1.item.mode);
        let files: Vec<(usize, &Added)> = added.iter().enumerate().collect();
        let namesake = |added: &Added| name(added.path.as_ref()) == name(path.as_ref());
        let same = files.iter().filter(file).filter(|(_, added)| added.item.oid == base);
        if let Some((index, _)) = same.max_by_key(|(index, added)| (namesake(added), usize::MAX - index)) {
            return Ok(Some(*index));
        }
        let Some(old) = self.short_contents(&[base]).await?.pop().flatten() else { return Ok(None) };
        let looked_at: Vec<(usize, &Added)> = files.into_iter().filter(|added| file(&added)).take(LOOKED_AT).collect();
        let stored: Vec<ObjectId> =
            looked_at.iter().filter(|(_, added)| added.content.is_none()).map(|(_, added)| added.item.oid).collect();
        let mut read = self.short_contents(&stored).await?.into_iter();
        let mut compared = Vec::with_capacity(looked_at.len());
        for (index, added) in looked_at {
            let content = added.content.clone().or_else(|| read.next().flatten());
            compared.extend(content.map(|content| (index, namesake(added), content)));
        }
        let best = move || {
            let scored = compared.into_iter().map(|(index, namesake, new)| (similarity(&old, &new), namesake, index));
            let best =
                scored.filter(|(score, ..)| *score >= SIMILAR).max_by_key(|(s, n, at)| (*s, *n, usize::MAX - at));
            Ok(best.map(|(.., index)| index))
        };
        blocking(best).await
    }

    /// Contents of blobs that are not too long to be compared; `None` = it is, or is not there.
    async fn short_contents(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        let sizes = self.catalog.sizes(oids).await?;
        let short: Vec<bool> = sizes.iter().map(|size| size.is_some_and(|size| size <= LONGEST)).collect();
        let wanted: Vec<ObjectId> = oids.iter().zip(&short).filter(|(_, short)| **short).map(|(oid, _)| *oid).collect();
        let mut read = self.contents(&wanted).await?.into_iter();
        Ok(short.into_iter().map(|short| if short { read.next().flatten() } else { None }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_text_is_enough() {
        let lines = |range: std::ops::Range<usize>| range.map(|n| format!("line {n:03}\n")).collect::<String>();
        assert_eq!(similarity(b"", b""), SCALE);
        assert_eq!(similarity(b"a\n", b"b\n"), 0);
        assert_eq!(similarity(lines(0..100).as_bytes(), lines(50..150).as_bytes()), SIMILAR);
        assert_eq!(similarity(lines(0..100).as_bytes(), lines(0..50).as_bytes()), SIMILAR);
        assert_eq!(similarity(b"a\r\nb\r\n", b"a\nb\n"), 4 * SCALE / 6);
    }
}
