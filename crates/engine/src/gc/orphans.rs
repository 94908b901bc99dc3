//! Names in the bucket that the database does not know: left behind by a database that was set back in time, or by a write that came
//! after its key was given up. They are burnt first, so that nobody can come to use them, and then go like any emptied key.

use std::collections::BTreeSet;

use treehold_catalog::NameState;

use super::GcReport;
use crate::keys::owner;
use crate::progress::Progress;
use crate::store_id::STORE_ID_KEY;
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
                    None if key == STORE_ID_KEY => {}
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
                        self.delete_value(&name).await?;
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
