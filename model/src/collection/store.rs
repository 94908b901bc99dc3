//! The bucket, which is slow and repeats itself; the deletion of keys (G7); the orphan scan; a reader (R5); the standby.

use super::mutants::Mutant;
use super::state::{C, Collector, D, KEYS, KeyState, OLD_NAME, OpState, Reader, State, X};
use super::{Action, Collection};

impl Collection {
    pub(super) fn store_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for key in 0..KEYS as u8 {
            let row = state.catalog.keys[key as usize];
            if let KeyState::Reserved(_) = row {
                actions.push(Action::ReapKey(key));
            }
            if row == KeyState::Doomed {
                let sent = state.bucket.deletes.has(key);
                actions.push(if sent { Action::KeyDeleted(key) } else { Action::DeleteKey(key) });
            }
            if state.bucket.puts.has(key) {
                actions.push(Action::PutArrives(key));
            }
            if state.bucket.deletes.has(key) && state.bucket.stored.has(key) {
                actions.push(Action::DeleteArrives(key));
            }
            // A bucket may be listed at any time; names without a row are what fail-overs and restores leave.
            let stray = state.bucket.stored.has(key) && row == KeyState::Unused;
            if stray && state.orphan.is_none() && (key == OLD_NAME || self.failovers > 0) && self.orphan {
                actions.push(Action::ListOrphan(key));
            }
        }
        if state.orphan.is_some() {
            actions.push(Action::BurnOrphan);
        }
        if self.foreign {
            actions.extend(state.bucket.stored.iter().map(Action::ForeignDelete));
        }
        match state.reader {
            Reader::Idle if state.left.reads > 0 => actions.extend([X, C, D].map(Action::Locate)),
            Reader::Located(..) => actions.push(Action::Read),
            _ => {}
        }
        if state.left.failovers > 0 && state.standby.as_deref() != Some(&state.catalog) {
            actions.extend([Action::Replicate, Action::Failover]);
        }
    }

    /// Takes a step of the bucket or of what reads and cleans it; `None` if it is refused.
    pub(super) fn store(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::ReapKey(key) => {
                let KeyState::Reserved(op) = state.catalog.keys[key as usize] else { return None };
                if state.catalog.open_op(op).is_some() {
                    return None;
                }
                state.catalog.keys[key as usize] = KeyState::Doomed;
            }
            Action::DeleteKey(key) => self.delete_key(state, key)?,
            // 404 is success.
            Action::KeyDeleted(key) if state.bucket.stored.has(key) => return None,
            Action::KeyDeleted(key) => state.catalog.keys[key as usize] = KeyState::Deleted,
            Action::PutArrives(key) => {
                state.bucket.puts.remove(key);
                state.bucket.stored.add(key);
            }
            Action::DeleteArrives(key) => state.bucket.stored.remove(key),
            Action::ListOrphan(key) => state.orphan = Some(key),
            Action::BurnOrphan => self.burn_orphan(state)?,
            // Database and bucket have one id, which is compared before anything is deleted.
            Action::ForeignDelete(key) if self.is(Mutant::NoStoreId) => state.bucket.deletes.add(key),
            Action::Locate(object) => {
                let row = state.catalog.rows[object as usize]?;
                state.left.reads -= 1;
                state.reader = Reader::Located(object, row.key);
            }
            Action::Read => self.read(state)?,
            Action::Replicate => state.standby = Some(Box::new(state.catalog.clone())),
            Action::Failover => self.fail_over(state)?,
            _ => return None,
        }
        Some(())
    }

    /// G7: only what the standby shows as doomed too, so that no fail-over brings the key back. A key in which no row was ever kept
    /// goes at once: every operation that could still register it ends at a fail-over.
    fn delete_key(&self, state: &mut State, key: u8) -> Option<()> {
        if let Some(standby) = &state.standby
            && standby.keys[key as usize] < KeyState::Doomed
            && state.catalog.kept.has(key)
            && !self.is(Mutant::DeleteBeforeStandby)
        {
            return None;
        }
        state.bucket.deletes.add(key);
        Some(())
    }

    /// The name is recorded as doomed: if a writer reserved it meanwhile, one of the two inserts loses.
    fn burn_orphan(&self, state: &mut State) -> Option<()> {
        let key = state.orphan.take()?;
        if self.is(Mutant::DeleteUnburntOrphan) {
            state.bucket.deletes.add(key);
        } else if state.catalog.keys[key as usize] == KeyState::Unused {
            state.catalog.keys[key as usize] = KeyState::Doomed;
        }
        Some(())
    }

    /// R5: no bytes mean that the object moved or was collected, unless the ledger says that it is still there.
    fn read(&self, state: &mut State) -> Option<()> {
        let Reader::Located(object, key) = state.reader else { return None };
        state.reader = if state.bucket.stored.has(key) {
            Reader::Answered
        } else if self.is(Mutant::ReaderTrustsFirst404) {
            Reader::Alarmed
        } else {
            match state.catalog.rows[object as usize] {
                None => Reader::Answered,
                Some(row) if row.key == key => Reader::Alarmed,
                Some(row) => Reader::Located(object, row.key),
            }
        };
        Some(())
    }

    /// The standby takes over without the newest transactions. What was told to writers may be forgotten, so every operation ends
    /// and the epoch jumps past all that were handed out, as after a restore; a mark of before means nothing, since a ref may have come back
    /// that was deleted then. Writers and repackers live on and do not notice.
    fn fail_over(&self, state: &mut State) -> Option<()> {
        state.left.failovers -= 1;
        let past = state.catalog.epoch + 1;
        state.catalog = state.standby.as_deref().cloned()?;
        if !self.is(Mutant::MarkSurvivesFailover) {
            (state.collector, state.zombie) = (Collector::Idle, None);
        }
        if self.is(Mutant::OpsSurviveFailover) {
            return Some(());
        }
        (state.catalog.epoch, state.catalog.horizon) = (past, past);
        for op in 0..KEYS as u8 {
            if state.catalog.open_op(op).is_some() {
                state.catalog.end_op(op, OpState::Dead);
            }
        }
        Some(())
    }
}
