//! Commits that the forge makes (`sign: "github"`): their ids are the forge's, so that they are known by what was asked for.

use super::mutants::Mutant;
use super::state::{Answer, Attempt, AttemptState, Author, Planned, State};
use super::{Action, Push};

impl Push {
    /// What may become of an attempt while the forge is asked.
    pub(super) fn hosted_actions(number: u8, actions: &mut Vec<Action>) {
        let asked = [Action::Ask(number), Action::TakeMade(number), Action::NotMade(number), Action::GiveUp(number)];
        actions.extend(asked);
    }

    /// Takes a step of such a commit; `None` if it is refused, or is none of those.
    pub(super) fn host(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            // The forge may carry it out at any time or never; it compares the head.
            Action::Ask(number) => {
                let Attempt { old, commit, .. } = state.attempts[number as usize];
                state.launch((old, commit));
            }
            Action::TakeMade(number) => {
                let made = self.made_for(state, state.attempts[number as usize])?;
                self.take_made(state, number, made);
            }
            Action::NotMade(number) => not_made(state, number)?,
            _ => return None,
        }
        Some(())
    }

    /// A request, or the same one again. First the commit of each of its attempts is looked for, whatever became of them; then it is
    /// recorded what is asked for, on top of what the remote has.
    pub(super) fn plan_hosted(&self, state: &mut State, engine: u8, request: u8) -> Option<()> {
        if state.answers[request as usize].is_some() {
            return None;
        }
        let attempts = state.attempts.clone();
        let earlier = attempts.iter().enumerate().filter(|(_, attempt)| attempt.request == request);
        // Of two that asked for the same, the later one has the later revision.
        for (number, attempt) in earlier.rev().filter(|_| !self.is(Mutant::AskUnlooked)) {
            if let Some(made) = self.made_for(state, *attempt) {
                self.take_made(state, number as u8, made);
                return Some(());
            }
        }
        let (base, revision) = (state.known, state.pending?);
        // What was not pushed must be, first.
        if !state.is_ancestor(state.local, base) || state.content(base) == revision {
            return None;
        }
        state.engines[engine as usize] = Some(Planned { request, base, revision, time: 0 });
        Some(())
    }

    /// A commit in our branch, or in the remote's as last seen, on the same parent, with the same tree and the same words.
    fn made_for(&self, state: &State, attempt: Attempt) -> Option<u8> {
        let there = state.history(state.known).and(state.history(state.local));
        there.iter().find(|commit| {
            let commit = state.commits[*commit as usize];
            let same_tree = commit.revision == attempt.revision || self.is(Mutant::MadeByWordsAlone);
            commit.by == Author::Request(attempt.request) && commit.parent == attempt.base && same_tree
        })
    }

    /// FINALIZED with it. Where our branch has gone elsewhere, the request is answered, and the attempt stays as it is until a merge.
    fn take_made(&self, state: &mut State, number: u8, made: u8) {
        let Attempt { request, revision, .. } = state.attempts[number as usize];
        let ahead = state.is_ancestor(state.local, made);
        if ahead || state.is_ancestor(made, state.local) {
            self.clear(state, revision);
            state.attempts[number as usize].state = AttemptState::Finalized;
        }
        if ahead {
            state.local = made;
        }
        state.answers[request as usize].get_or_insert(Answer::Done(made));
    }
}

/// The forge says that its branch is elsewhere: this time it did nothing and will not.
fn not_made(state: &mut State, number: u8) -> Option<()> {
    let Attempt { old, commit, .. } = state.attempts[number as usize];
    let asked = state.pushes.iter().position(|push| *push == (old, commit))?;
    if state.tip == old || state.tips.has(commit) {
        return None;
    }
    state.pushes.remove(asked);
    state.attempts[number as usize].state = AttemptState::Superseded;
    Some(())
}
