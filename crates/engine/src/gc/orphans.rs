//! Names in the bucket that the database does not know: left behind by a database that was set back in time, or by a write that came
//! after its key was given up. They are burnt first, so that nobody can come to use them, and then go like any emptied key.

use std::collections::BTreeMap;

use treehold_catalog::NameState;

use super::GcReport;
use crate::keys::owner;
use crate::progress::Progress;
use crate::store_id::STORE_ID_KEY;
use crate::{Engine, Result};

/// Names looked at in one step.
const NAMES: usize = 1000;

/// What was found in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Names, those of indexes by themselves.
    pub names: u64,
    /// Bytes below them.
    pub bytes: u64,
    /// Names that nobody knows, an index with its pack.
    pub orphans: u64,
    /// Bytes below these.
    pub orphan_bytes: u64,
}

impl Engine {
    /// Every writer records a name before it writes there, so that one that is listed and then has no row has no writer.
    pub(super) async fn scan_orphans(
        &self,
        apply: bool,
        report: &mut GcReport,
        progress: &dyn Progress,
    ) -> Result<Scan> {
        let (mut after, mut scan) = (None, Scan::default());
        loop {
            let page = self.store.bucket().list("objects/", after.as_deref(), NAMES).await?;
            scan.names += page.entries.len() as u64;
            let mut names: BTreeMap<String, u64> = BTreeMap::new();
            for (key, size) in &page.entries {
                scan.bytes += size;
                match owner(key) {
                    Some(name) => *names.entry(name).or_default() += size,
                    None if key == STORE_ID_KEY => {}
                    None => report.foreign += 1,
                }
            }
            self.judge_names(names, apply, report, &mut scan).await?;
            progress.step("scanning the bucket", scan.names, None);
            after = page.next;
            if after.is_none() {
                return Ok(scan);
            }
        }
    }

    /// `names` with the bytes below them.
    async fn judge_names(
        &self,
        names: BTreeMap<String, u64>,
        apply: bool,
        report: &mut GcReport,
        scan: &mut Scan,
    ) -> Result<()> {
        let (names, sizes): (Vec<String>, Vec<u64>) = names.into_iter().unzip();
        let states = self.catalog.name_states(&names).await?;
        let mut unknown = Vec::new();
        for ((name, size), state) in names.into_iter().zip(sizes).zip(states) {
            if !matches!(state, NameState::Known(_)) {
                scan.orphans += 1;
                scan.orphan_bytes += size;
            }
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
