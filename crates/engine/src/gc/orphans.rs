//! Names in the bucket that the database does not know: left behind by a database that was set back in time, or by a write that came
//! after its key was given up. They are burnt first, so that nobody can come to use them, and then go like any emptied key.

use std::collections::BTreeSet;

use treehold_catalog::NameState;

use super::GcReport;
use crate::progress::Progress;
use crate::{Engine, Result};

/// Names looked at in one step.
const NAMES: usize = 1000;

impl Engine {
    /// Every writer records a name before it writes there, so that one that is listed and then has no row has no writer. How many names
    /// there are.
    pub(super) async fn scan_orphans(
        &self,
        apply: bool,
        report: &mut GcReport,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let (mut after, mut seen) = (None, 0);
        loop {
            let page = self.store.bucket().list("objects/", after.as_deref(), NAMES).await?;
            seen += page.entries.len() as u64;
            let mut names = BTreeSet::new();
            for (key, _) in &page.entries {
                match owner(key) {
                    Some(name) => _ = names.insert(name),
                    None => report.foreign += 1,
                }
            }
            self.judge_names(names.into_iter().collect(), apply, report).await?;
            progress.step("scanning the bucket", seen, None);
            after = page.next;
            if after.is_none() {
                return Ok(seen);
            }
        }
    }

    async fn judge_names(&self, names: Vec<String>, apply: bool, report: &mut GcReport) -> Result<()> {
        let states = self.catalog.name_states(&names).await?;
        let mut unknown = Vec::new();
        for (name, state) in names.into_iter().zip(states) {
            match state {
                NameState::Known(_) => {}
                NameState::Unknown => unknown.push(name),
                NameState::Deleted(_) => {
                    report.orphans += 1;
                    if apply {
                        self.store.delete(&name).await?;
                    }
                }
            }
        }
        report.orphans += match apply {
            true => self.catalog.burn_keys(&unknown, report.horizon, self.ambient.now_ms()).await?,
            false => unknown.len() as u64,
        };
        Ok(())
    }
}

/// The key whose row answers for a name: its own, or that of the pack for an index. `None`: not a name that we give.
fn owner(key: &str) -> Option<String> {
    let rest = key.strip_prefix("objects/")?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if let Some(pack) = rest.strip_prefix("pack/pack-") {
        let stem = pack.strip_suffix(".pack").or_else(|| pack.strip_suffix(".idx"))?;
        // Packs of manifests have their time in front.
        let hex = stem.strip_prefix("manifest-").and_then(|stem| stem.get(17..)).unwrap_or(stem);
        return (hex.len() == 40 && is_hex(hex)).then(|| format!("objects/pack/pack-{stem}.pack"));
    }
    let (first, second) = rest.split_once('/')?;
    (first.len() == 2 && second.len() == 38 && is_hex(first) && is_hex(second)).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        let pack = format!("objects/pack/pack-{hex}.pack");
        assert_eq!(owner(&pack), Some(pack.clone()));
        assert_eq!(owner(&format!("objects/pack/pack-{hex}.idx")), Some(pack));
        let loose = format!("objects/{}/{}", &hex[..2], &hex[2..]);
        assert_eq!(owner(&loose), Some(loose.clone()));
        for foreign in
            ["objects/info/packs", "objects/pack/pack-1.pack", "other", "objects/zz/0", "objects/pack/multi-pack-index"]
        {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
