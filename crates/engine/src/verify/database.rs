//! What must hold in the database whatever happens, and what stands still in it.

use treehold_catalog::{CatalogError, KeyState};

use super::finding::{Code, Damage};
use super::repair::Wanted;
use super::{ROWS, Run};
use crate::Result;
use crate::text::rfc3339;

/// A push that is not settled for so long will not be by itself, milliseconds.
const STUCK_MS: i64 = 24 * 3600 * 1000;

impl Run<'_> {
    pub(super) async fn check_database(&mut self) -> Result<()> {
        let mut after = self.state.after.parse().unwrap_or(0);
        if after == 0 {
            self.check_files().await?;
            self.check_protocol().await?;
        }
        loop {
            let (rows, last) = self.engine.catalog.misplaced(after, ROWS).await?;
            for row in rows {
                let now = self.engine.catalog.inspect_objects(&[row.oid]).await?.pop().flatten();
                let Some(now) = now else { continue };
                let detail = match &now.key {
                    Some((_, KeyState::Present)) => continue,
                    Some((key, state)) => format!("its place is in {key}, which is {state:?}"),
                    None => format!("its place is in key {}, which does not exist", now.key_id),
                };
                let rescued = self.rescue(vec![Wanted::of(&now)]).await?;
                let repaired = rescued.contains_key(&now.oid);
                self.find(Damage::new(Code::LedgerMisplaced, detail), now.oid.to_string(), None, repaired);
            }
            let Some(last) = last else { return Ok(()) };
            self.state.checked.rows += last.saturating_sub(after).min(u64::from(ROWS));
            self.progress.step("checking the ledger", self.state.checked.rows, None);
            after = last;
            self.reached(after.to_string());
        }
    }

    async fn check_files(&mut self) -> Result<()> {
        let faults = match self.engine.catalog.inspect_files().await {
            Ok(faults) => faults,
            // Files so damaged that they cannot even be checked.
            Err(error @ CatalogError::Failed { .. }) => vec![error.to_string()],
            Err(error) => return Err(error.into()),
        };
        for fault in faults {
            self.find(Damage::new(Code::DatabaseCorrupt, fault.clone()), fault, None, false);
        }
        Ok(())
    }

    async fn check_protocol(&mut self) -> Result<()> {
        let now_ms = self.engine.ambient.now_ms();
        // Housekeeping comes round now and then: what it is about to end does not count.
        let timeout_ms = i64::try_from(self.engine.config.op_timeout.as_millis()).unwrap_or(i64::MAX);
        let silent_ms = now_ms.saturating_sub(timeout_ms.saturating_mul(2));
        let protocol = self.engine.catalog.inspect_protocol(silent_ms, now_ms - STUCK_MS).await?;
        let (epoch, horizon) = (protocol.epoch, protocol.horizon);
        if horizon > epoch {
            let detail = format!("the horizon is {horizon}, the epoch {epoch}");
            self.find(Damage::new(Code::HorizonAhead, detail), "gc_state", None, false);
        }
        for (op, at) in protocol.silent_ops {
            let detail = format!("its last sign of life was at {}", rfc3339(at));
            self.find(Damage::new(Code::OpSilent, detail), op.to_string(), None, false);
        }
        for (attempt, project, branch, state, at) in protocol.stuck_attempts {
            let detail = format!("a push to {branch} is {state:?} since {}", rfc3339(at));
            self.find(Damage::new(Code::AttemptStuck, detail), attempt.to_string(), Some(project), false);
        }
        Ok(())
    }
}
