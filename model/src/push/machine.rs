//! The machine: what engines, the reconciler and the client's retries do. Every step of an attempt is conditional on its state, as the
//! code's is on the fence, so that it does not matter which engine takes it.

use super::mutants::Mutant;
use super::state::{Answer, Attempt, AttemptState, Author, Commit, Planned, Reply, State};
use super::{Action, Push};

impl Push {
    pub(super) fn machine_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.saves > 0 {
            actions.push(Action::Save);
        }
        for engine in 0..self.engines {
            match state.engines[engine as usize] {
                None => actions.extend((0..self.requests).map(|request| Action::Plan(engine, request))),
                Some(_) => actions.extend([Action::Prepare(engine), Action::Crash(engine)]),
            }
        }
        for (attempt, number) in state.attempts.iter().zip(0..) {
            match attempt.state {
                AttemptState::Prepared if self.hosted => Self::hosted_actions(number, actions),
                AttemptState::Prepared => actions.extend([Action::Store(number), Action::GiveUp(number)]),
                AttemptState::Stored => actions.push(Action::Send(number)),
                AttemptState::Pushing => actions.extend([Action::Hear(number), Action::Lose(number)]),
                AttemptState::Unknown => {
                    actions.extend([Action::Send(number), Action::Defer(number)]);
                    actions.extend(self.shown(state).iter().map(|shown| Action::Look(number, shown)));
                }
                AttemptState::Paused => actions.extend([Action::Send(number), Action::GiveUp(number)]),
                AttemptState::Landed => actions.push(Action::Finalize(number)),
                AttemptState::Waiting => actions.push(Action::EndWait(number)),
                AttemptState::Moved => actions.push(Action::GiveUp(number)),
                AttemptState::Finalized | AttemptState::Rejected | AttemptState::Superseded => {}
            }
        }
        if state.left.local_commits > 0 {
            actions.push(Action::CommitLocally);
        } else if self.local_commits > 0 {
            actions.push(Action::Merge);
        }
        actions.extend(self.shown(state).iter().map(Action::Fetch));
        actions.push(Action::Pull);
    }

    /// Takes a step of ours; `None` if it is refused, or is not ours.
    pub(super) fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Save => {
                state.left.saves -= 1;
                state.acknowledged += 1;
                state.pending = Some(state.acknowledged);
            }
            Action::Plan(engine, request) if self.hosted => self.plan_hosted(state, engine, request)?,
            Action::Plan(engine, request) => self.plan(state, engine, request)?,
            Action::Prepare(engine) => self.prepare(state, engine)?,
            Action::Crash(engine) => state.engines[engine as usize] = None,
            Action::Store(number) => state.attempts[number as usize].state = AttemptState::Stored,
            Action::Send(number) => self.send(state, number)?,
            Action::Hear(number) => self.hear(state, number)?,
            Action::Lose(number) => self.lose(state, number),
            Action::Look(number, shown) => self.look(state, number, shown),
            Action::Defer(number) => state.attempts[number as usize].state = AttemptState::Paused,
            Action::GiveUp(number) => state.attempts[number as usize].state = AttemptState::Superseded,
            Action::Finalize(number) => self.finalize(state, number),
            Action::EndWait(number) => self.end_wait(state, number),
            Action::CommitLocally => {
                state.left.local_commits -= 1;
                state.local = commit_locally(state, None);
            }
            Action::Merge if !is_on_one_line(state) => {
                let second = Some(state.known);
                state.local = commit_locally(state, second);
            }
            Action::Fetch(shown) => state.known = shown,
            Action::Pull if state.is_ancestor(state.local, state.known) => state.local = state.known,
            _ => return None,
        }
        Some(())
    }

    /// A request, or the same one again: its answer if it has one, the rest of what it began, else a new commit of what is
    /// pending, on top of the newest that is known. First it is looked whether that has a commit of this request in it already.
    fn plan(&self, state: &mut State, engine: u8, request: u8) -> Option<()> {
        let earlier: Vec<Attempt> =
            state.attempts.iter().filter(|attempt| attempt.request == request).copied().collect();
        let is_there = |state| earlier.iter().any(|attempt| attempt.state == state);
        let gave_way = is_there(AttemptState::Superseded) && is_there(AttemptState::Finalized);
        let careless = self.is(Mutant::RetryCommitsAnew) || self.is(Mutant::SecondRoundAnew) && gave_way;
        let over = |attempt: &Attempt| matches!(attempt.state, AttemptState::Moved | AttemptState::Superseded);
        if !careless && (state.answers[request as usize].is_some() || !earlier.iter().all(over)) {
            return None;
        }
        if !is_on_one_line(state) {
            // Diverged: a sync must merge first.
            return None;
        }
        let ahead = state.is_ancestor(state.local, state.known);
        let base = if ahead { state.known } else { state.local };
        if !careless && let Some(number) = self.landed_before(state, request, base) {
            state.attempts[number].state = AttemptState::Landed;
            return Some(());
        }
        // Times are taken once for a request, by whichever engine is first to record an attempt.
        let first = earlier.first().map(|attempt| state.commits[attempt.commit as usize].time);
        let time = first.unwrap_or(engine + 1);
        let revision = state.pending?;
        if state.content(base) == revision {
            // Nothing to commit.
            return None;
        }
        state.engines[engine as usize] = Some(Planned { request, base, revision, time });
        Some(())
    }

    /// An attempt of the request, given up or not, whose commit is in the history of `base`.
    fn landed_before(&self, state: &State, request: u8, base: u8) -> Option<usize> {
        if self.is(Mutant::NoLookBack) {
            return None;
        }
        let attempts = state.attempts.iter().enumerate().filter(|(_, attempt)| attempt.request == request);
        let mut attempts: Vec<(usize, &Attempt)> = attempts.collect();
        if self.is(Mutant::LookBackOnce) {
            attempts.drain(..attempts.len().saturating_sub(1));
        }
        let landed = |commit: u8| match self.is(Mutant::NoAncestorCheck) {
            true => commit == base,
            false => state.is_ancestor(commit, base),
        };
        attempts.into_iter().find(|(_, attempt)| landed(attempt.commit)).map(|(number, _)| number)
    }

    /// PREPARED: the commit, its oid and where the remote's branch is to be are on record before anything is sent. Where that is not below the
    /// base any more, the commit is planned again.
    fn prepare(&self, state: &mut State, engine: u8) -> Option<()> {
        let planned = state.engines[engine as usize].take()?;
        state.left.attempts = state.left.attempts.checked_sub(1)?;
        let Planned { request, base, revision, time } = planned;
        // Each commit that the forge makes has an id of its own.
        let time = if self.hosted { 4 + state.attempts.len() as u8 } else { time };
        let old = state.known;
        if !state.is_ancestor(old, base) {
            return None;
        }
        let commit =
            state.number_of(Commit { parent: base, second: None, by: Author::Request(request), revision, time });
        let prepared = AttemptState::Prepared;
        state.attempts.push(Attempt {
            request,
            base,
            old,
            commit,
            revision,
            state: prepared,
            reply: None,
            lost: false,
        });
        Some(())
    }

    /// `PUSHING` is refused while another push of the branch is undecided. The push names the base: the remote compares.
    fn send(&self, state: &mut State, number: u8) -> Option<()> {
        let others = state.attempts.iter().zip(0..).filter(|(_, other)| *other != number);
        let undecided = |state| matches!(state, AttemptState::Pushing | AttemptState::Unknown);
        if others.map(|(attempt, _)| attempt.state).any(undecided) {
            return None;
        }
        let mut attempt = state.attempts[number as usize];
        let repeated = attempt.state != AttemptState::Stored;
        if repeated && self.is(Mutant::OldValueAnew) {
            attempt.old = state.tip;
        }
        if repeated && self.is(Mutant::NewTimeOnRetry) {
            let commit = Commit { time: 3, ..state.commits[attempt.commit as usize] };
            attempt.commit = state.number_of(commit);
        }
        if self.is(Mutant::ClearWhenSent) {
            self.clear(state, attempt.revision);
        }
        (attempt.state, attempt.reply) = (AttemptState::Pushing, None);
        state.attempts[number as usize] = attempt;
        Some(())
    }

    fn hear(&self, state: &mut State, number: u8) -> Option<()> {
        let Attempt { old, commit, .. } = state.attempts[number as usize];
        let under_way = state.pushes.contains(&(old, commit)) && !self.is(Mutant::RefusalEndsDoubt);
        let attempt = &mut state.attempts[number as usize];
        attempt.state = match attempt.reply.take()? {
            Reply::Ok => AttemptState::Landed,
            // It may be our own earlier push that moved the branch.
            Reply::Stale => AttemptState::Unknown,
            // An earlier push may land all the same. (It may here for ever: that one day it cannot any more takes a clock.)
            Reply::Refused if under_way => AttemptState::Unknown,
            Reply::Refused => AttemptState::Rejected,
        };
        let Attempt { request, revision, state: now, .. } = *attempt;
        if now == AttemptState::Rejected {
            state.answers[request as usize].get_or_insert(Answer::Rejected);
            if self.is(Mutant::RejectedClears) {
                self.clear(state, revision);
            }
        }
        Some(())
    }

    /// A timeout, a reset, a cut report, a death: no answer is no answer.
    fn lose(&self, state: &mut State, number: u8) {
        let Attempt { old, commit, .. } = state.attempts[number as usize];
        state.launch((old, commit));
        let attempt = &mut state.attempts[number as usize];
        (attempt.reply, attempt.lost) = (None, true);
        attempt.state = match self.mutant {
            Some(Mutant::UnknownIsFailure) => AttemptState::Rejected,
            Some(Mutant::UnknownIsSuccess) => AttemptState::Landed,
            _ => AttemptState::Unknown,
        };
    }

    /// The branch at the commit, or above it: landed. Where it was: nothing is known. Elsewhere: it cannot land any more.
    fn look(&self, state: &mut State, number: u8, shown: u8) {
        let attempt = state.attempts[number as usize];
        if shown == attempt.old {
            return;
        }
        let above = state.is_ancestor(attempt.commit, shown) && !self.is(Mutant::NoAncestorCheck);
        let landed = shown == attempt.commit || above;
        state.known = shown;
        state.attempts[number as usize].state = if landed { AttemptState::Landed } else { AttemptState::Moved };
    }

    /// FINALIZE: our branch goes to the commit unless it is past it, pending work of that revision is settled, the request is
    /// answered. Where our branch has gone elsewhere, pending work stays until a merge brings the commit.
    fn finalize(&self, state: &mut State, number: u8) {
        let attempt = state.attempts[number as usize];
        let before = state.local;
        let passed = state.is_ancestor(attempt.commit, before);
        let ahead = state.is_ancestor(before, attempt.commit);
        let settles = ahead || passed || self.is(Mutant::FinalizeElsewhere) || self.is(Mutant::FinalizeSetsBack);
        if ahead || self.is(Mutant::FinalizeSetsBack) {
            state.local = attempt.commit;
        }
        state.rewound |= !state.is_ancestor(before, state.local);
        // Unless a look has shown what others put on top of it.
        let Attempt { base, old, .. } = attempt;
        if [base, old].contains(&state.known) || state.is_ancestor(state.known, attempt.commit) {
            state.known = attempt.commit;
        }
        if settles {
            self.clear(state, attempt.revision);
        }
        state.answers[attempt.request as usize].get_or_insert(Answer::Done(attempt.commit));
        let next = if settles { AttemptState::Finalized } else { AttemptState::Waiting };
        state.attempts[number as usize].state = next;
    }

    /// A merge has brought the commit: its revision is settled. Or a look of now shows that the remote has given it up: what was taken is
    /// pending work as before.
    fn end_wait(&self, state: &mut State, number: u8) {
        let attempt = state.attempts[number as usize];
        let at_remote = state.is_ancestor(attempt.commit, state.tip);
        if state.is_ancestor(attempt.commit, state.local) || at_remote && self.is(Mutant::WaitEndsAtTheRemote) {
            self.clear(state, attempt.revision);
        } else {
            state.known = state.tip;
            if at_remote {
                return;
            }
        }
        state.attempts[number as usize].state = AttemptState::Finalized;
    }

    /// Pending work goes if its revision is the one that was committed.
    pub(super) fn clear(&self, state: &mut State, revision: u8) {
        if state.pending == Some(revision) || self.is(Mutant::ClearByPath) {
            state.pending = None;
        }
    }
}

/// Whether neither our branch nor the remote's, as last seen, has what the other lacks.
fn is_on_one_line(state: &State) -> bool {
    state.is_ancestor(state.local, state.known) || state.is_ancestor(state.known, state.local)
}

/// A commit on top of our branch that is not pushed, or a merge.
fn commit_locally(state: &mut State, second: Option<u8>) -> u8 {
    state.number_of(Commit { parent: state.local, second, by: Author::Local, revision: 0, time: 0 })
}
