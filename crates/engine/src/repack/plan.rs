//! Which keys are worth rewriting.

use std::collections::HashMap;

use treehold_catalog::StoredKey;

use super::{KEYS, RepackReport, size_with_index};
use crate::{Engine, Result};

/// A pack below this size costs more in requests and rows than it is worth, if there are others like it, bytes.
const SMALL: u64 = 8 << 20;
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
    /// Looks at every key in use. One whose value the bucket does not have is left to `verify`.
    pub(super) async fn plan_repack(&self, sizes: &HashMap<String, u64>) -> Result<Plan> {
        let (mut heavy, mut small) = (Vec::new(), Vec::new());
        let (mut all, mut bytes, mut dead, mut after) = (0, 0, 0, 0);
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
                if unused.saturating_mul(DEAD_SHARE) > *size && key.key.ends_with(".pack") && *size > SMALL {
                    heavy.push(key);
                } else if *size <= SMALL {
                    small.push((key, unused.saturating_mul(DEAD_SHARE) > *size && *size > 4_096));
                }
            }
        }
        // A small pack alone is as good as it gets, unless much of it is dead.
        if small.len() > 1 || small.iter().any(|(_, dead)| *dead) {
            heavy.extend(small.into_iter().map(|(key, _)| key));
        }
        heavy.sort_unstable_by_key(|key| key.id);
        Ok(Plan { keys: heavy, all, bytes, dead })
    }
}
