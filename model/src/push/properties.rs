//! What must always hold, and what must be possible.

use stateright::Property;

use super::Push;
use super::state::{Answer, AttemptState, Author, State};

/// A1.
pub(super) const KEPT: &str = "A1 the newest acknowledged edit is pending or in a branch";
/// A2.
pub(super) const ONCE: &str = "A2 no history has two commits of one request";
/// A3.
pub(super) const ANSWERED: &str = "A3 the commit that a request was answered is the one that landed";
/// A4.
pub(super) const REFUSED: &str = "A4 what was answered as refused does not land";
/// A5.
pub(super) const FORWARD: &str = "A5 we move branches forward only";
/// A6.
pub(super) const TOGETHER: &str = "A6 our branch and the remote's, as last seen, are on one line";

/// A7.
pub(super) const ARRIVED: &str = "A7 what is finalized is in our branch, or its edit is in view";

/// All invariants: each stands for harm to somebody.
pub(super) const HARM: [&str; 7] = [KEPT, ONCE, ANSWERED, REFUSED, FORWARD, TOGETHER, ARRIVED];

/// All properties of an instance: the invariants, and what it must be able to reach.
pub(super) fn all(model: &Push) -> Vec<Property<Push>> {
    let mut all = vec![
        Property::always(KEPT, is_kept),
        Property::always(ONCE, |_, state: &State| {
            [state.tip, state.local].into_iter().all(|head| {
                let history = state.history(head);
                (0..state.answers.len() as u8).all(|request| state.of_request(history, request).count() <= 1)
            })
        }),
        Property::always(ANSWERED, |model: &Push, state: &State| was_forced(model, state) || is_answered(state)),
        Property::always(REFUSED, |_, state: &State| {
            let mut rejected = state.attempts.iter().filter(|attempt| attempt.state == AttemptState::Rejected);
            rejected.all(|attempt| !state.tips.has(attempt.commit))
        }),
        Property::always(FORWARD, |_, state: &State| !state.rewound),
        // A branch that others set back, or commits that were never pushed, diverge without our doing.
        Property::always(TOGETHER, |model: &Push, state: &State| {
            let (local, known) = (state.local, state.known);
            let diverging = was_forced(model, state) || state.left.local_commits < model.local_commits;
            diverging || state.is_ancestor(local, known) || state.is_ancestor(known, local)
        }),
        Property::always(ARRIVED, |_, state: &State| {
            let mut finalized = state.attempts.iter().filter(|attempt| attempt.state == AttemptState::Finalized);
            finalized
                .all(|attempt| state.is_ancestor(attempt.commit, state.local) || is_in_view(state, attempt.revision))
        }),
        Property::sometimes("an attempt is PREPARED", |_, state: &State| is_somewhere(state, AttemptState::Prepared)),
        Property::sometimes("an attempt is FINALIZED", |_, state: &State| is_somewhere(state, AttemptState::Finalized)),
        Property::sometimes("an attempt is SUPERSEDED", |_, state: &State| {
            is_somewhere(state, AttemptState::Superseded)
        }),
    ];
    all.extend(possible(model));
    if !model.hosted {
        all.extend(pushed());
    }
    all
}

/// What can be reached where we push ourselves.
fn pushed() -> [Property<Push>; 6] {
    [
        Property::sometimes("an attempt is STORED", |_, state: &State| is_somewhere(state, AttemptState::Stored)),
        Property::sometimes("an attempt is PUSHING", |_, state: &State| is_somewhere(state, AttemptState::Pushing)),
        Property::sometimes("an attempt is UNKNOWN", |_, state: &State| is_somewhere(state, AttemptState::Unknown)),
        Property::sometimes("an attempt is PAUSED", |_, state: &State| is_somewhere(state, AttemptState::Paused)),
        Property::sometimes("an attempt is LANDED", |_, state: &State| is_somewhere(state, AttemptState::Landed)),
        Property::sometimes("a lost answer is settled", |_, state: &State| {
            state.attempts.iter().any(|attempt| attempt.lost && attempt.state == AttemptState::Finalized)
        }),
    ]
}

/// What only some instances can reach.
fn possible(model: &Push) -> Vec<Property<Push>> {
    let mut all = Vec::new();
    if (model.foreign > 0 || model.attempts > 1) && !model.hosted {
        all.push(Property::sometimes("an attempt is MOVED", |_, state: &State| {
            is_somewhere(state, AttemptState::Moved)
        }));
    }
    if model.refusals > 0 {
        all.push(Property::sometimes("an attempt is REJECTED", |_, state: &State| {
            is_somewhere(state, AttemptState::Rejected)
        }));
    }
    if model.attempts > 1 {
        all.push(Property::sometimes("a push lands after its attempt was given up", |_, state: &State| {
            let given_up = |state| matches!(state, AttemptState::Superseded);
            state.attempts.iter().any(|attempt| given_up(attempt.state) && state.tips.has(attempt.commit))
        }));
    }
    if model.saves > 1 {
        all.push(Property::sometimes(
            "a newer edit stays pending beside its committed forerunner",
            |_, state: &State| {
                let finalized = |revision| {
                    let mut attempts = state.attempts.iter();
                    attempts.any(|attempt| attempt.state == AttemptState::Finalized && attempt.revision < revision)
                };
                state.pending.is_some_and(finalized)
            },
        ));
    }
    if model.local_commits > 0 && !model.hosted {
        all.push(Property::sometimes("an attempt waits for a merge", |_, state: &State| {
            is_somewhere(state, AttemptState::Waiting)
        }));
        all.push(Property::sometimes("a push brings what was committed here", |_, state: &State| {
            state.history(state.tip).iter().any(|commit| state.commits[commit as usize].by == Author::Local)
        }));
    }
    if model.local_commits > 0 && model.forces == 0 {
        all.push(Property::sometimes("what waited is settled by a merge", |_, state: &State| {
            let merged = |commit: u8| state.commits[commit as usize].second.is_some();
            is_somewhere(state, AttemptState::Finalized) && state.history(state.local).iter().any(merged)
        }));
    }
    if model.local_commits > 0 && model.forces > 0 {
        all.push(Property::sometimes("the remote gives up what waits, and its edit is pending", |_, state: &State| {
            let gone = |commit: u8| !state.is_ancestor(commit, state.local) && !state.is_ancestor(commit, state.tip);
            let mut finalized = state.attempts.iter().filter(|attempt| attempt.state == AttemptState::Finalized);
            finalized.any(|attempt| gone(attempt.commit) && state.pending == Some(attempt.revision))
        }));
    }
    if model.forces > 0 {
        all.push(Property::sometimes("one push lands twice", |_, state: &State| state.again));
    }
    all
}

fn is_somewhere(state: &State, at: AttemptState) -> bool {
    state.attempts.iter().any(|attempt| attempt.state == at)
}

fn was_forced(model: &Push, state: &State) -> bool {
    state.left.forces < model.forces
}

/// The newest acknowledged edit is pending, or in the history of our branch or of the remote's.
fn is_kept(_: &Push, state: &State) -> bool {
    let committed = state.history(state.local).and(state.history(state.tip));
    let mut revisions = committed.iter().map(|commit| state.commits[commit as usize].revision);
    state.pending == Some(state.acknowledged) || revisions.any(|revision| revision == state.acknowledged)
}

/// An edit, or a newer one, is pending or in the history of our branch.
fn is_in_view(state: &State, revision: u8) -> bool {
    let mut committed = state.history(state.local).iter().map(|commit| state.commits[commit as usize].revision);
    state.pending.is_some_and(|pending| pending >= revision) || committed.any(|there| there >= revision)
}

fn is_answered(state: &State) -> bool {
    let landed = state.history(state.tip);
    state.answers.iter().zip(0..).all(|(answer, request)| match answer {
        Some(Answer::Done(commit)) => {
            landed.has(*commit) && state.of_request(landed, request).all(|one| one == *commit)
        }
        _ => true,
    })
}
