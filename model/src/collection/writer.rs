//! The writer's half: W0 to W5, and what happens to operations whose process is gone.

use super::mutants::Mutant;
use super::state::{
    C, Catalog, KeyState, Life, OLD_NAME, Op, OpState, Plan, Row, State, Upload, Work, Writer, X, closure,
};
use super::{Action, Collection, commit_of, needs_of};
use crate::bits::Bits;

impl Collection {
    pub(super) fn writer_actions(&self, state: &State, writer: u8, actions: &mut Vec<Action>) {
        match state.writers[writer as usize] {
            Writer::Idle => {
                if state.left.ops[writer as usize] > 0 {
                    let plans = [Plan::First].into_iter().chain((writer == 1 && self.on_top).then_some(Plan::OnTop));
                    let plans = plans.chain(state.catalog.outbox.iter().map(Plan::Resume));
                    actions.extend(plans.map(|plan| match self.stale_epoch || self.is(Mutant::SplitBegin) {
                        true => Action::ReadEpoch(writer, plan),
                        false => Action::BeginOp(writer, plan),
                    }));
                }
            }
            Writer::Beginning(plan, _) => actions.push(Action::BeginOp(writer, plan)),
            Writer::Working(work) => {
                actions.push(Action::Crash(writer));
                // The commit before its blob: what is pinned first is what a careless writer would trust.
                if let Some(object) = work.unpinned.iter().next_back() {
                    actions.push(Action::Pin(writer, object));
                } else if work.is_ready() {
                    actions.push(Action::Publish(writer));
                    if self.attempts {
                        actions.push(Action::Park(writer));
                    }
                } else {
                    actions.push(match work.upload {
                        Upload::None => Action::Reserve(writer),
                        Upload::Sent(_) => Action::Put(writer),
                        Upload::Acknowledged(_) => Action::Register(writer),
                    });
                }
            }
        }
    }

    /// Takes a writer's step; `None` if it is refused, or is not a writer's.
    pub(super) fn write(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::ReadEpoch(writer, plan) => {
                state.left.ops[writer as usize] -= 1;
                state.writers[writer as usize] = Writer::Beginning(plan, state.catalog.epoch);
            }
            Action::BeginOp(writer, plan) => self.begin_op(state, writer, plan)?,
            Action::Crash(writer) => state.writers[writer as usize] = Writer::Idle,
            Action::Pin(writer, object) => self.pin(state, writer, object)?,
            Action::Reserve(writer) => self.reserve(state, writer)?,
            Action::Put(writer) => self.put(state, writer)?,
            Action::Register(writer) => self.register(state, writer)?,
            // Like a publication it makes a root, but without the fence: an open operation is never behind the horizon, as
            // W0 is one transaction and G2 stays below every open operation.
            Action::Park(writer) => {
                let work = working(state, writer)?;
                state.catalog.open_op(work.op)?;
                state.catalog.outbox.add(commit_of(work.plan));
            }
            Action::Publish(writer) => self.publish(state, writer)?,
            _ => return None,
        }
        Some(())
    }

    /// W0: the operation's epoch and roots are on record before anything is looked up.
    fn begin_op(&self, state: &mut State, writer: u8, plan: Plan) -> Option<()> {
        let epoch = match state.writers[writer as usize] {
            Writer::Beginning(_, epoch) => epoch,
            _ => {
                state.left.ops[writer as usize] -= 1;
                state.catalog.epoch
            }
        };
        let roots = match plan {
            Plan::OnTop if !state.catalog.refs.has(C) => return None,
            Plan::OnTop if !self.is(Mutant::BaseNotAmongRoots) => closure(Bits::of(&[C])),
            _ => Bits::default(),
        };
        let op = state.begun;
        state.begun += 1;
        state.catalog.ops[op as usize] = Some(Op { state: OpState::Open, epoch, roots });
        let work = Work { plan, op, unpinned: needs_of(plan), missing: Bits::default(), upload: Upload::None };
        state.writers[writer as usize] = Writer::Working(work);
        Some(())
    }

    /// W1: a live object is marked as seen in the operation's epoch, a condemned one revived too. A pin covers one object.
    fn pin(&self, state: &mut State, writer: u8, object: u8) -> Option<()> {
        let mut work = working(state, writer)?;
        // The pin needs no open operation: if it has ended, W5 refuses.
        let epoch = state.catalog.ops[work.op as usize]?.epoch;
        match &mut state.catalog.rows[object as usize] {
            Some(row) if row.life == Life::Condemned && self.is(Mutant::UseCondemnedUnrevived) => {}
            Some(row) => {
                if !self.is(Mutant::PinWithoutEpoch) {
                    row.seen_epoch = row.seen_epoch.max(epoch);
                }
                row.life = Life::Live;
                if object == C && self.is(Mutant::ChildrenImplied) {
                    work.unpinned.remove(X);
                }
            }
            // An attempt's objects were stored before; without them there is nothing to publish.
            None if matches!(work.plan, Plan::Resume(_)) => return None,
            None => work.missing.add(object),
        }
        work.unpinned.remove(object);
        state.writers[writer as usize] = Writer::Working(work);
        Some(())
    }

    /// W2 and the sending of W3: one pack of what is missing, under a name that nobody ever used.
    fn reserve(&self, state: &mut State, writer: u8) -> Option<()> {
        let mut work = working(state, writer)?;
        state.catalog.open_op(work.op)?;
        let mut key = work.op;
        // A name made of content is taken if nobody had it, and the bytes that are there are adopted. Not after a fail-over: it may
        // have forgotten that the name is burnt.
        let old = OLD_NAME as usize;
        let trusted = self.orphan && state.left.failovers == self.failovers;
        if trusted && work.missing == state.bucket.holds[old] && state.catalog.keys[old] == KeyState::Unused {
            key = OLD_NAME;
        }
        if self.is(Mutant::NameReused) {
            key = 0;
        }
        if !matches!(state.catalog.keys[key as usize], KeyState::Unused) && !self.is(Mutant::NameReused) {
            return None;
        }
        state.catalog.keys[key as usize] = KeyState::Reserved(work.op);
        if !state.bucket.stored.has(key) {
            state.bucket.puts.add(key);
        }
        state.bucket.holds[key as usize] = work.missing;
        work.upload = Upload::Sent(key);
        state.writers[writer as usize] = Writer::Working(work);
        Some(())
    }

    /// W3: a timeout is no acknowledgement.
    fn put(&self, state: &mut State, writer: u8) -> Option<()> {
        let mut work = working(state, writer)?;
        let Upload::Sent(key) = work.upload else { return None };
        if !state.bucket.stored.has(key) && !self.is(Mutant::RegisterBeforePut) {
            return None;
        }
        work.upload = Upload::Acknowledged(key);
        state.writers[writer as usize] = Writer::Working(work);
        Some(())
    }

    /// W4: the operation is open and the key reserved by it. An object that the ledger has keeps its first place and is live.
    fn register(&self, state: &mut State, writer: u8) -> Option<()> {
        let mut work = working(state, writer)?;
        let Upload::Acknowledged(key) = work.upload else { return None };
        let catalog = &mut state.catalog;
        let op = self.checked_op(catalog, work.op)?;
        let reserved = catalog.keys[key as usize] == KeyState::Reserved(work.op);
        if !reserved && !self.is(Mutant::NoOpenCheck) && !self.is(Mutant::NoReservedCheck) {
            return None;
        }
        for object in work.missing.iter() {
            let new = Row { life: Life::Live, seen_epoch: op.epoch, key, base_key: key };
            let row = catalog.rows[object as usize].get_or_insert(new);
            row.life = Life::Live;
            row.seen_epoch = row.seen_epoch.max(op.epoch);
        }
        catalog.judge_new(key);
        work.missing = Bits::default();
        state.writers[writer as usize] = Writer::Working(work);
        Some(())
    }

    /// W5: the operation is open and not behind the horizon; it is done, and the ref moves, in one transaction.
    fn publish(&self, state: &mut State, writer: u8) -> Option<()> {
        let work = working(state, writer)?;
        let op = self.checked_op(&state.catalog, work.op)?;
        let fenced = op.epoch < state.catalog.horizon;
        if fenced && !self.has_no_fence() {
            return None;
        }
        if let Plan::Resume(commit) = work.plan
            && !state.catalog.outbox.has(commit)
        {
            return None;
        }
        let commit = commit_of(work.plan);
        state.broken.fence |= fenced || op.state != OpState::Open;
        state.catalog.end_op(work.op, OpState::Done);
        state.catalog.outbox.remove(commit);
        state.catalog.refs.add(commit);
        state.writers[writer as usize] = Writer::Idle;
        Some(())
    }

    fn has_no_fence(&self) -> bool {
        self.is(Mutant::NoPublishFence) || self.is(Mutant::HorizonIgnoresOps)
    }

    /// The operation, if it is open (W4, W5).
    fn checked_op(&self, catalog: &Catalog, op: u8) -> Option<Op> {
        let row = catalog.ops[op as usize]?;
        (row.state == OpState::Open || self.is(Mutant::NoOpenCheck)).then_some(row)
    }
}

fn working(state: &State, writer: u8) -> Option<Work> {
    match state.writers[writer as usize] {
        Writer::Working(work) => Some(work),
        _ => None,
    }
}
