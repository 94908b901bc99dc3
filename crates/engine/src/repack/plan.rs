//! Which keys are worth rewriting.

use std::collections::HashMap;

use treehold_catalog::StoredKey;

use super::{KEYS, RepackReport, size_with_index};
use crate::{Engine, Result};

/// A pack below this size costs more in requests and rows than it is worth, if there are others like it, bytes.
const SMALL: u64 = 8 << 20;
/// Below this size dead weight is no reason to rewrite a pack, bytes.
const DEAD_MIN: u64 = 4 << 10;
/// A pack is rewritten if more than one part in so many is dead weight.
const DEAD_SHARE: u64 = 5;

/// The keys to rewrite, in the order in which they were written.
pub(super) struct Plan {
    pub keys: Vec<StoredKey>,
    all: u64,
    bytes: u64,
    dead: u64,
}

impl Plan {
    /// To rewrite just these.
    pub fn of(keys: Vec<StoredKey>) -> Self {
        Self { keys, all: 0, bytes: 0, dead: 0 }
    }

    /// Objects to move.
    pub fn objects(&self) -> u64 {
        self.keys.iter().map(|key| key.objects).sum()
    }

    pub fn report(&self, dry_run: bool) -> RepackReport {
        let rewritten = self.keys.len() as u64;
        RepackReport {
            dry_run,
            keys: self.all,
            bytes: self.bytes,
            dead_bytes: self.dead,
            rewritten,
            ..RepackReport::default()
        }
    }
}

impl Engine {
    /// Looks at every key in use. One whose value the bucket does not have is left to `verify`; one that says by its name that it holds a
    /// manifest which is kept stays.
    pub(super) async fn plan_repack(&self, sizes: &HashMap<String, u64>) -> Result<Plan> {
        let (mut heavy, mut small) = (Vec::new(), Vec::new());
        let (mut all, mut bytes, mut dead, mut after) = (0, 0, 0, 0);
        let manifests = self.manifest_keys().await?;
        loop {
            let page = self.catalog.stored_keys(after, KEYS).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for key in page {
                all += 1;
                let Some(size) = sizes.get(&key.key) else { continue };
                bytes += size_with_index(sizes, &key.key);
                let unused = size.saturating_sub(key.bytes);
                dead += unused;
                if manifests.contains(&key.id) {
                    continue;
                }
                if unused.saturating_mul(DEAD_SHARE) > *size && key.key.ends_with(".pack") && *size > DEAD_MIN {
                    heavy.push(key);
                } else if *size <= SMALL {
                    small.push(key);
                }
            }
        }
        small.sort_by_key(|key| key.bytes);
        let live: Vec<u64> = small.iter().map(|key| key.bytes).collect();
        heavy.extend(small.into_iter().take(rolled_up(&live)));
        heavy.sort_unstable_by_key(|key| key.id);
        Ok(Plan { keys: heavy, all, bytes, dead })
    }
}

/// How many of the smallest of `sizes`, which ascend, become one, so that each of the others is at least twice as large as all before it
/// together (git's geometric repacking): what is written for an object in the long run grows with the logarithm of the store only.
fn rolled_up(sizes: &[u64]) -> usize {
    let (mut count, mut sum) = (0, 0u64);
    for (at, size) in sizes.iter().enumerate() {
        if at > 0 && *size < sum.saturating_mul(2) {
            count = at + 1;
        }
        sum = sum.saturating_add(*size);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::rolled_up;

    #[test]
    fn packs_grow_in_steps() {
        assert_eq!(rolled_up(&[]), 0);
        assert_eq!(rolled_up(&[5]), 0);
        assert_eq!(rolled_up(&[5, 5]), 2);
        assert_eq!(rolled_up(&[5, 10]), 0);
        assert_eq!(rolled_up(&[1, 2, 6, 18]), 0);
        assert_eq!(rolled_up(&[1, 1, 100]), 2);
        assert_eq!(rolled_up(&[1, 1, 3, 100]), 3);
        assert_eq!(rolled_up(&[3, 3, 3, 3]), 4);
    }
}
