//! Repack, N1 to N5: objects move to a fresh pack while everything else goes on.

use super::mutants::Mutant;
use super::state::{KEYS, KeyState, OBJECTS, Op, OpState, Repacker, State};
use super::{Action, Collection};
use crate::bits::Bits;

impl Collection {
    pub(super) fn repacker_actions(&self, state: &State, repacker: u8, actions: &mut Vec<Action>) {
        match state.repackers[repacker as usize] {
            Repacker::Idle => {
                if state.left.repacks[repacker as usize] > 0 {
                    actions.push(Action::BeginRepack(repacker));
                }
            }
            Repacker::Began(_) => {
                actions.push(Action::ReadAll(repacker, None));
                // A damaged object stays where it is.
                let rows = (0..OBJECTS as u8).filter(|object| state.catalog.rows[*object as usize].is_some());
                actions.extend(rows.map(|object| Action::ReadAll(repacker, Some(object))));
                actions.push(Action::CrashRepack(repacker));
            }
            Repacker::Sent { .. } => actions.extend([Action::Move(repacker), Action::CrashRepack(repacker)]),
        }
    }

    /// Takes a repacker's step; `None` if it is refused, or is not a repacker's.
    pub(super) fn repack(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::BeginRepack(repacker) => {
                state.left.repacks[repacker as usize] -= 1;
                let op = state.begun;
                state.begun += 1;
                let row = Op { state: OpState::Open, epoch: state.catalog.epoch, roots: Bits::default() };
                state.catalog.ops[op as usize] = Some(row);
                state.repackers[repacker as usize] = Repacker::Began(op);
            }
            Action::ReadAll(repacker, damaged) => read_all(state, repacker, damaged)?,
            Action::Move(repacker) => self.move_objects(state, repacker)?,
            Action::CrashRepack(repacker) => state.repackers[repacker as usize] = Repacker::Idle,
            _ => return None,
        }
        Some(())
    }

    /// N4 and N5, one transaction: the operation is open and the key reserved by it; rows move that are still where they were
    /// read. Keys without rows are doomed, be they old or the new one. No pin is needed: a row that was doomed does not move.
    fn move_objects(&self, state: &mut State, repacker: u8) -> Option<()> {
        let Repacker::Sent { op, from } = state.repackers[repacker as usize] else { return None };
        if !state.bucket.stored.has(op) {
            return None;
        }
        let catalog = &mut state.catalog;
        catalog.open_op(op)?;
        if catalog.keys[op as usize] != KeyState::Reserved(op) {
            return None;
        }
        for (row, from) in catalog.rows.iter_mut().zip(from) {
            let Some(from) = from else { continue };
            if let Some(row) = row.as_mut().filter(|row| row.key == from || self.is(Mutant::MoveUnconditionally)) {
                row.key = op;
                if !self.is(Mutant::DeltaAcrossKeys) {
                    row.base_key = op;
                }
            }
        }
        catalog.judge_new(op);
        for key in from.into_iter().flatten() {
            catalog.doom_if_empty(key);
            if self.is(Mutant::MoveDoomsSources) {
                catalog.doom(key);
            }
        }
        catalog.end_op(op, OpState::Done);
        state.repackers[repacker as usize] = Repacker::Idle;
        Some(())
    }
}

/// N1's reservation, N2 and N3: the places of all objects but `damaged`, and one pack of their bytes under a fresh name.
fn read_all(state: &mut State, repacker: u8, damaged: Option<u8>) -> Option<()> {
    let Repacker::Began(op) = state.repackers[repacker as usize] else { return None };
    state.catalog.open_op(op)?;
    let mut from = [None; OBJECTS];
    let mut holds = Bits::default();
    for object in (0..OBJECTS as u8).filter(|object| Some(*object) != damaged) {
        // What cannot be read stays where it is.
        let row = state.catalog.rows[object as usize].filter(|row| state.bucket.stored.has(row.key));
        from[object as usize] = row.map(|row| row.key);
        if row.is_some() {
            holds.add(object);
        }
    }
    if holds.is_empty() || op as usize >= KEYS {
        return None;
    }
    state.catalog.keys[op as usize] = KeyState::Reserved(op);
    state.bucket.puts.add(op);
    state.bucket.holds[op as usize] = holds;
    state.repackers[repacker as usize] = Repacker::Sent { op, from };
    Some(())
}
