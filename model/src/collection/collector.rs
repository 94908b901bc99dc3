//! The collector's half: G1 to G6. It takes no lock that stops a writer for longer than one transaction.

use super::mutants::Mutant;
use super::state::{Catalog, Collector, Life, Marked, OBJECTS, OpState, State, closure};
use super::{Action, Collection};
use crate::bits::Bits;

impl Collection {
    pub(super) fn collector_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let objects = 0..OBJECTS as u8;
        match state.collector {
            Collector::Idle if state.left.cycles > 0 => actions.push(Action::NextEpoch),
            Collector::Idle => {}
            Collector::Counted => actions.extend([Action::RaiseHorizon, Action::EndCycle]),
            Collector::Raised => actions.extend([Action::Mark, Action::EndCycle]),
            Collector::Marked(_) => {
                actions.push(Action::EndCycle);
                actions.extend(objects.clone().flat_map(|object| [Action::Condemn(object), Action::Doom(object)]));
            }
        }
        if state.zombie.is_some() {
            actions.extend(objects.flat_map(|object| [Action::ZombieCondemn(object), Action::ZombieDoom(object)]));
        }
        for op in 0..state.begun {
            if self.reaper && state.catalog.open_op(op).is_some() {
                actions.push(Action::ReapOp(op));
            }
        }
    }

    /// Takes the collector's step; `None` if it changes nothing, or is not the collector's.
    pub(super) fn collect(&self, state: &mut State, action: Action) -> Option<()> {
        match (action, state.collector) {
            (Action::NextEpoch, _) => {
                state.left.cycles -= 1;
                state.catalog.epoch += 1;
                state.collector = Collector::Counted;
            }
            (Action::RaiseHorizon, _) => {
                self.raise_horizon(&mut state.catalog);
                state.collector = Collector::Raised;
            }
            (Action::Mark, _) => state.collector = Collector::Marked(self.mark(&state.catalog)),
            (Action::Condemn(object), Collector::Marked(mut marked)) => {
                condemn(&mut state.catalog, marked, object)?;
                if self.is(Mutant::DoomWithoutRecheck) {
                    marked.condemned.add(object);
                    state.collector = Collector::Marked(marked);
                }
            }
            (Action::ZombieCondemn(object), _) => condemn(&mut state.catalog, state.zombie?, object)?,
            (Action::Doom(object), Collector::Marked(marked)) => self.doom(&mut state.catalog, marked, object)?,
            (Action::ZombieDoom(object), _) => self.doom(&mut state.catalog, state.zombie?, object)?,
            (Action::EndCycle, collector) => {
                if let (true, Collector::Marked(marked)) = (self.zombie, collector) {
                    state.zombie = Some(marked);
                }
                state.collector = Collector::Idle;
            }
            (Action::ReapOp(op), _) => state.catalog.end_op(op, OpState::Dead),
            _ => return None,
        }
        Some(())
    }

    /// G2: ends operations from before the horizon, then raises it to the oldest one that is open. It never falls.
    fn raise_horizon(&self, catalog: &mut Catalog) {
        if !self.is(Mutant::HorizonMayFall) {
            for op in 0..catalog.ops.len() as u8 {
                if catalog.open_op(op).is_some_and(|row| row.epoch < catalog.horizon) {
                    catalog.end_op(op, OpState::Dead);
                }
            }
        }
        let open = catalog.ops.iter().flatten().filter(|row| row.state == OpState::Open);
        let oldest = open.map(|row| row.epoch).min().unwrap_or(catalog.epoch).min(catalog.epoch);
        catalog.horizon = match self.is(Mutant::HorizonIgnoresOps) || self.is(Mutant::HorizonPastOps) {
            true => catalog.epoch,
            false if self.is(Mutant::HorizonMayFall) => oldest,
            false => catalog.horizon.max(oldest),
        };
    }

    /// G3: a snapshot taken after the horizon was fixed. Roots are refs, attempts that wait, and the roots of open operations.
    fn mark(&self, catalog: &Catalog) -> Marked {
        let mut live = closure(catalog.refs);
        if !self.is(Mutant::AttemptsNotMarked) {
            live = live.and(closure(catalog.outbox));
        }
        if !self.is(Mutant::OpRootsNotMarked) {
            let open = catalog.ops.iter().flatten().filter(|row| row.state == OpState::Open);
            live = open.fold(live, |live, row| live.and(row.roots));
        }
        Marked { live, horizon: catalog.horizon, condemned: Bits::default() }
    }

    /// G6: judges again; the row goes, and its key is doomed when no row is left in it.
    fn doom(&self, catalog: &mut Catalog, marked: Marked, object: u8) -> Option<()> {
        let row = catalog.rows[object as usize]?;
        let seen = row.seen_epoch >= marked.horizon || marked.live.has(object);
        let spared = row.life == Life::Live || seen && !self.is(Mutant::DoomByStateAlone);
        if spared && !marked.condemned.has(object) {
            return None;
        }
        catalog.rows[object as usize] = None;
        if self.is(Mutant::DoomKeyWithRows) {
            catalog.doom(row.key);
        }
        catalog.doom_if_empty(row.key);
        Some(())
    }
}

/// G4: what nobody saw since the horizon and no root reaches.
fn condemn(catalog: &mut Catalog, marked: Marked, object: u8) -> Option<()> {
    let row = catalog.rows[object as usize].as_mut().filter(|row| row.life == Life::Live)?;
    if row.seen_epoch >= marked.horizon || marked.live.has(object) {
        return None;
    }
    row.life = Life::Condemned;
    Some(())
}
