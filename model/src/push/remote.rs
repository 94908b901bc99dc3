//! The remote: it compares the old value of each push, and is otherwise as bad as a network allows.

use super::mutants::Mutant;
use super::state::{AttemptState, Author, Commit, Reply, State};
use super::{Action, Push};

impl Push {
    pub(super) fn remote_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (attempt, number) in state.attempts.iter().zip(0..) {
            if attempt.state == AttemptState::Pushing && attempt.reply.is_none() {
                actions.extend([Action::Deliver(number), Action::Refuse(number), Action::TurnAway(number)]);
            }
        }
        actions.extend((0..state.pushes.len() as u8).map(Action::LandLate));
        if state.left.foreign > 0 {
            actions.push(Action::ForeignPush);
        }
        if state.left.forces > 0 {
            actions.extend(state.tips.iter().map(Action::ForcePush));
        }
    }

    /// Takes a step of the remote; `None` if it does nothing.
    pub(super) fn remote(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Deliver(number) => {
                let attempt = state.attempts[number as usize];
                let fits = attempt.old == state.tip || self.is(Mutant::ForcedPush);
                state.launch((attempt.old, attempt.commit));
                let reply = if fits {
                    land(state, attempt.commit);
                    Reply::Ok
                } else {
                    Reply::Stale
                };
                state.attempts[number as usize].reply = Some(reply);
            }
            Action::Refuse(number) => {
                state.left.refusals = state.left.refusals.checked_sub(1)?;
                // A hook may refuse what it let through before, or has still before it: it may ask somebody else, who answers now so, now so.
                state.attempts[number as usize].reply = Some(Reply::Refused);
            }
            Action::TurnAway(number) => state.attempts[number as usize].state = AttemptState::Paused,
            Action::LandLate(push) => {
                let (old, new) = state.pushes[push as usize];
                let fits = old == state.tip || self.is(Mutant::ForcedPush);
                if !fits {
                    return None;
                }
                land(state, new);
            }
            Action::ForeignPush => {
                state.left.foreign -= 1;
                let commit = Commit { parent: state.tip, second: None, by: Author::Foreign, revision: 0, time: 1 };
                state.tip = state.number_of(commit);
                state.tips.add(state.tip);
            }
            Action::ForcePush(to) => {
                state.left.forces -= 1;
                state.tip = to;
            }
            _ => return None,
        }
        Some(())
    }
}

/// The branch moves to what one of our pushes brought.
fn land(state: &mut State, commit: u8) {
    state.rewound |= !state.is_ancestor(state.tip, commit);
    state.again |= state.tips.has(commit);
    state.tip = commit;
    state.tips.add(commit);
}
