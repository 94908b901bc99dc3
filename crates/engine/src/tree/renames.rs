//! Where a file went that is gone from its path: to a new file with the same content, or with enough of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use treehold_object::{BStr, BString, ObjectId};
use uuid::Uuid;

use super::{Item, is_binary};
use crate::{Engine, Result, blocking};

/// How much of a file must be in another one, of 60,000, for it to be taken as renamed: half of it, as in git.
const SIMILAR: u64 = 30_000;
/// git's scale of similarity (diffcore.h, `MAX_SCORE`).
const SCALE: u64 = 60_000;
/// New files whose content is looked at, each once.
const LOOKED_AT: usize = 100;
/// Longer files are renamed only as they are, bytes: so all that are looked at are 12.5 MiB at most.
const LONGEST: u64 = 128 << 10;
/// Git's pieces of a text end with their line, or here.
const PIECE: usize = 64;
/// Conflicts of one merge that are tried elsewhere; with more, none is.
pub(crate) const FOLLOWED_MAX: usize = 100;

/// A file that came into being.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub path: BString,
    pub item: Item,
    /// Its bytes, where they are not stored for the project yet.
    pub content: Option<Bytes>,
}

/// Files that came into being, among which renamed ones are looked for.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub added: Vec<Added>,
    /// What is in those that are looked at, and their place; read when it is needed.
    measured: Option<Arc<Vec<(usize, Measured)>>>,
}

impl Candidates {
    pub(crate) fn new(added: impl IntoIterator<Item = Added>) -> Self {
        Self { added: added.into_iter().collect(), measured: None }
    }
}

/// A content, as far as similarity needs it.
#[derive(Debug)]
struct Measured {
    bytes: u64,
    /// Bytes of each different piece: lines, cut where they are long; the CR of a text's CR LF does not count.
    pieces: HashMap<Vec<u8>, u64>,
}

impl Measured {
    fn of(content: &[u8]) -> Self {
        let text = !is_binary(content);
        let mut pieces: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut piece = Vec::with_capacity(PIECE);
        for (at, byte) in content.iter().enumerate() {
            if text && *byte == b'\r' && content.get(at + 1) == Some(&b'\n') {
                continue;
            }
            piece.push(*byte);
            if piece.len() == PIECE || *byte == b'\n' {
                let bytes = piece.len() as u64;
                *pieces.entry(std::mem::take(&mut piece)).or_default() += bytes;
            }
        }
        if !piece.is_empty() {
            let bytes = piece.len() as u64;
            *pieces.entry(piece).or_default() += bytes;
        }
        Self { bytes: content.len() as u64, pieces }
    }

    /// How much of it is in `new`, on git's scale (diffcore-rename.c, `estimate_similarity`).
    fn similarity(&self, new: &Self) -> u64 {
        let copied: u64 =
            self.pieces.iter().map(|(piece, bytes)| *bytes.min(new.pieces.get(piece).unwrap_or(&0))).sum();
        match self.bytes.max(new.bytes) {
            0 => SCALE,
            larger => copied * SCALE / larger,
        }
    }
}

fn name(path: &BStr) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

impl Engine {
    /// Which of the candidates the file at `path` became, whose content was `base`; `None` = none of them is like it, or it was empty. First
    /// of all one of the same content, then the one that has most of it; among equals one of the same name. Contents are read only if
    /// none is the same, and each once. `pending_of`: the project whose pending work `base` may be in, and nowhere else.
    pub(crate) async fn renamed_to(
        &self,
        pending_of: Option<Uuid>,
        path: &BString,
        base: ObjectId,
        candidates: &mut Candidates,
    ) -> Result<Option<usize>> {
        if base.is_empty_blob() {
            return Ok(None);
        }
        let namesake = |added: &Added| name(added.path.as_ref()) == name(path.as_ref());
        let files = candidates.added.iter().enumerate().filter(|(_, added)| super::merge::is_file(added.item.mode));
        let same = files.filter(|(_, added)| added.item.oid == base);
        if let Some((index, _)) = same.max_by_key(|(index, added)| (namesake(added), usize::MAX - index)) {
            return Ok(Some(index));
        }
        let Some(old) = self.short_base(pending_of, base).await? else { return Ok(None) };
        let measured = match &candidates.measured {
            Some(measured) => Arc::clone(measured),
            None => Arc::clone(candidates.measured.insert(self.measure(&candidates.added).await?)),
        };
        let namesakes: Vec<bool> = candidates.added.iter().map(namesake).collect();
        let best = move || {
            let old = Measured::of(&old);
            let scored = measured.iter().map(|(index, new)| (old.similarity(new), namesakes[*index], *index));
            let best =
                scored.filter(|(score, ..)| *score >= SIMILAR).max_by_key(|(s, n, at)| (*s, *n, usize::MAX - at));
            Ok(best.map(|(.., index)| index))
        };
        blocking(best).await
    }

    /// The content that a file had, if it is not too long to be compared. What an edit starts from may be an edit that was taken by a commit
    /// which merged it: then it was never stored as a blob.
    async fn short_base(&self, pending_of: Option<Uuid>, base: ObjectId) -> Result<Option<Bytes>> {
        match (self.short_contents(&[base]).await?.pop().flatten(), pending_of) {
            (None, Some(project)) => {
                let pending = self.catalog.pending_contents(project, &[base]).await?.pop().flatten();
                Ok(pending.filter(|content| content.len() as u64 <= LONGEST))
            }
            (stored, _) => Ok(stored),
        }
    }

    async fn measure(&self, added: &[Added]) -> Result<Arc<Vec<(usize, Measured)>>> {
        let files = added.iter().enumerate().filter(|(_, added)| super::merge::is_file(added.item.mode));
        let looked_at: Vec<(usize, &Added)> = files.take(LOOKED_AT).collect();
        let stored = looked_at.iter().filter(|(_, added)| added.content.is_none());
        let stored: Vec<ObjectId> = stored.map(|(_, added)| added.item.oid).collect();
        let mut read = self.short_contents(&stored).await?.into_iter();
        let mut contents = Vec::with_capacity(looked_at.len());
        for (index, added) in looked_at {
            let content = added.content.clone().or_else(|| read.next().flatten());
            let short = content.filter(|content| content.len() as u64 <= LONGEST);
            contents.extend(short.map(|content| (index, content)));
        }
        let measure = |(index, content): (usize, Bytes)| (index, Measured::of(&content));
        blocking(move || Ok(Arc::new(contents.into_iter().map(measure).collect()))).await
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
        let similarity = |old: &[u8], new: &[u8]| Measured::of(old).similarity(&Measured::of(new));
        let lines = |range: std::ops::Range<usize>| range.map(|n| format!("line {n:03}\n")).collect::<String>();
        assert_eq!(similarity(b"", b""), SCALE);
        assert_eq!(similarity(b"a\n", b"b\n"), 0);
        assert_eq!(similarity(lines(0..100).as_bytes(), lines(50..150).as_bytes()), SIMILAR);
        assert_eq!(similarity(lines(0..100).as_bytes(), lines(0..50).as_bytes()), SIMILAR);
        assert_eq!(similarity(b"a\r\nb\r\n", b"a\nb\n"), 4 * SCALE / 6);
    }
}
