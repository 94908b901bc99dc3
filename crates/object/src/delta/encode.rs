//! Making deltas: blocks of the base are indexed by a hash that rolls over the target (Rabin-Karp, as in xdelta).

/// Bytes of an indexed block; shorter matches are not worth a copy instruction.
const BLOCK: usize = 16;
/// How many blocks with the same hash are tried before the best is taken.
const CHAIN_MAX: usize = 48;
/// Longest copy of one instruction. The format has room for 16 MiB, which old readers do not know.
const COPY_MAX: usize = 0x1_0000;
/// Longest insertion of one instruction.
const INSERT_MAX: usize = 127;
/// A match this long is taken at once.
const GOOD_ENOUGH: usize = 4096;
/// Multiplier of the rolling polynomial, modulo 2^32; odd, so that no byte is lost.
const FACTOR: u32 = 0x0100_0193;
/// `FACTOR` to the power `BLOCK`: what the oldest byte weighs when it leaves the window.
const FACTOR_OUT: u32 = power(FACTOR, BLOCK);
const NONE: u32 = u32::MAX;

const fn power(base: u32, exponent: usize) -> u32 {
    let (mut value, mut at) = (1u32, 0);
    while at < exponent {
        value = value.wrapping_mul(base);
        at += 1;
    }
    value
}

fn block_hash(block: &[u8]) -> u32 {
    block.iter().fold(0u32, |hash, byte| hash.wrapping_mul(FACTOR).wrapping_add(u32::from(*byte) + 1))
}

fn roll(hash: u32, out: u8, next: u8) -> u32 {
    hash.wrapping_mul(FACTOR)
        .wrapping_add(u32::from(next) + 1)
        .wrapping_sub(FACTOR_OUT.wrapping_mul(u32::from(out) + 1))
}

/// The blocks of one base, for any number of targets. Takes about half of the base's size again.
#[derive(Debug)]
pub struct Index<'a> {
    base: &'a [u8],
    /// Per hash the first block with it, in the order of the base.
    heads: Vec<u32>,
    /// Per block the next one with the same hash.
    next: Vec<u32>,
    shift: u32,
}

impl<'a> Index<'a> {
    /// Indexes `base`; `None` if it is too short for any match, or longer than a delta can address.
    pub fn new(base: &'a [u8]) -> Option<Self> {
        let blocks = base.len() / BLOCK;
        if blocks == 0 || base.len() > u32::MAX as usize {
            return None;
        }
        let bits = blocks.next_power_of_two().trailing_zeros().max(4);
        let mut index = Self { base, heads: vec![NONE; 1 << bits], next: vec![NONE; blocks], shift: 32 - bits };
        let mut after: Option<u32> = None;
        // Backwards, so that chains start at the front. Of a run of equal blocks only the first stays: a match is
        // extended forwards from there, and no chain grows with the length of a run.
        for block in (0..blocks).rev() {
            let hash = block_hash(&base[block * BLOCK..(block + 1) * BLOCK]);
            let slot = index.slot(hash);
            if after == Some(hash) && index.heads[slot] == block as u32 + 1 {
                index.next[block] = index.next[block + 1];
            } else {
                index.next[block] = index.heads[slot];
            }
            index.heads[slot] = block as u32;
            after = Some(hash);
        }
        Some(index)
    }

    fn slot(&self, hash: u32) -> usize {
        (hash.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }

    /// The longest match of `target[at..]`: where it starts in the base, and its length (0 = none).
    fn longest(&self, hash: u32, target: &[u8], at: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let mut block = self.heads[self.slot(hash)];
        for _ in 0..CHAIN_MAX {
            if block == NONE || best.1 >= GOOD_ENOUGH {
                break;
            }
            let start = block as usize * BLOCK;
            let len = common_prefix(&self.base[start..], &target[at..]);
            if len > best.1 {
                best = (start, len);
            }
            block = self.next[block as usize];
        }
        if best.1 >= BLOCK { best } else { (0, 0) }
    }

    /// A delta that makes `target` of the base, if one is shorter than `len_max` bytes.
    pub fn delta(&self, target: &[u8], len_max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity((target.len() / 8).min(len_max) + 16);
        push_size(&mut out, self.base.len());
        push_size(&mut out, target.len());
        // target[..done] is encoded; target[done..at] will be inserted, unless a match reaches back over it.
        let (mut done, mut at) = (0, 0);
        let mut hash = target.get(..BLOCK).map(block_hash).unwrap_or_default();
        while at + BLOCK <= target.len() {
            let (mut start, mut len) = self.longest(hash, target, at);
            if len == 0 {
                if let Some(next) = target.get(at + BLOCK) {
                    hash = roll(hash, target[at], *next);
                }
                at += 1;
                if out.len() + (at - done) >= len_max {
                    // Even the pending insertion is too long; a match may still reach back, but not that far.
                    if at - done >= len_max {
                        return None;
                    }
                }
                continue;
            }
            let back = common_suffix(&self.base[..start], &target[done..at]);
            start -= back;
            len += back;
            push_insert(&mut out, &target[done..at - back]);
            push_copy(&mut out, start, len);
            at = at - back + len;
            done = at;
            hash = target.get(at..at + BLOCK).map(block_hash).unwrap_or_default();
            if out.len() >= len_max {
                return None;
            }
        }
        push_insert(&mut out, &target[done..]);
        (out.len() < len_max).then_some(out)
    }
}

/// A delta that makes `target` of `base`, if one is shorter than `target`.
pub fn create(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    Index::new(base)?.delta(target, target.len())
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    // Sixteen bytes at a time: the compiler makes one comparison of each.
    let whole = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(a, b)| a == b).count() * 16;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

fn push_size(out: &mut Vec<u8>, mut size: usize) {
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
}

fn push_insert(out: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(INSERT_MAX) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
}

fn push_copy(out: &mut Vec<u8>, mut start: usize, mut len: usize) {
    while len > 0 {
        let piece = len.min(COPY_MAX);
        let at = out.len();
        let mut code = 0x80;
        out.push(code);
        let fields = (start as u64 & 0xffff_ffff) | ((piece as u64 & 0xffff) << 32);
        for bit in 0..6 {
            let byte = (fields >> (8 * bit)) as u8;
            if byte != 0 {
                code |= 1 << bit;
                out.push(byte);
            }
        }
        out[at] = code;
        start += piece;
        len -= piece;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::apply;
    use proptest::prelude::*;

    fn text(lines: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        (0..lines)
            .flat_map(|line| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                format!("line {line} holds the number {state}\n").into_bytes()
            })
            .collect()
    }

    #[test]
    fn a_small_edit_makes_a_small_delta() {
        let base = text(2_000, 1);
        let mut target = base.clone();
        target.splice(30_000..30_010, *b"edited here");
        target.splice(100..100, *b"new words");
        let delta = create(&base, &target).unwrap();
        assert!(delta.len() < 80, "{} bytes", delta.len());
        assert_eq!(apply(&base, &delta, target.len() as u64).unwrap(), target);
    }

    #[test]
    fn moved_and_repeated_parts_are_found() {
        let base = text(1_000, 2);
        let (a, b) = base.split_at(base.len() / 2 + 3);
        let target = [b, a, &base[500..5_000]].concat();
        let delta = create(&base, &target).unwrap();
        assert!(delta.len() < 60, "{} bytes", delta.len());
        assert_eq!(apply(&base, &delta, target.len() as u64).unwrap(), target);
    }

    #[test]
    fn runs_stay_fast_and_small() {
        let base = vec![0; 4 << 20];
        let mut target = vec![0; 4 << 20];
        target[2_000_000] = 1;
        let delta = create(&base, &target).unwrap();
        assert!(delta.len() < 600, "{} bytes", delta.len());
        assert_eq!(apply(&base, &delta, target.len() as u64).unwrap(), target);
    }

    #[test]
    fn what_has_nothing_in_common_gets_no_delta() {
        assert_eq!(create(&text(100, 3), &[0x55; 3_000].map(|b: u8| b)), None);
        assert_eq!(create(b"short", b"short"), None);
        assert_eq!(create(&text(100, 3), b""), None);
    }

    proptest! {
        #[test]
        fn every_delta_makes_its_target(
            base in prop::collection::vec(0u8..3, 0..400),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..60, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        ) {
            let mut target = base.clone();
            for (at, cut, insert) in edits {
                let at = at.index(target.len() + 1);
                let end = (at + cut).min(target.len());
                target.splice(at..end, insert);
            }
            if let Some(index) = Index::new(&base)
                && let Some(delta) = index.delta(&target, usize::MAX)
            {
                prop_assert_eq!(apply(&base, &delta, target.len() as u64).unwrap(), target);
            }
        }
    }
}
