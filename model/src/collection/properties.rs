//! What must always hold, and what must be possible.

use stateright::Property;

use super::Collection;
use super::state::{C, D, KeyState, Life, OBJECTS, OLD_NAME, Reader, State, X, closure};
use crate::bits::Bits;

/// I1.
pub(super) const PUBLISHED: &str = "I1 what refs reach is live, in a present key, with bytes";
/// I2.
pub(super) const BYTES: &str = "I2 every row has bytes, and those it is a delta against";
/// I3.
pub(super) const ONE_LIFE: &str = "I3 a key's state only moves on";
/// I4.
pub(super) const MONOTONE: &str = "I4 the horizon never falls";
/// I5.
pub(super) const FENCED: &str = "I5 whoever publishes is open and not behind the horizon";
/// I6.
pub(super) const ATTEMPTS: &str = "I6 what attempts reach is live or condemned, with bytes";
/// I7.
pub(super) const NO_LEAK: &str = "I7 a present key has rows";
/// I8.
pub(super) const NO_ALARM: &str = "I8 no reader takes a moved object for a damaged one";

/// The properties whose loss is a loss of data, or a false alarm or a leak that nobody would find. Mutants are judged by these.
pub(super) const HARM: [&str; 5] = [PUBLISHED, BYTES, ATTEMPTS, NO_LEAK, NO_ALARM];

/// All properties of an instance: the invariants, and what it must be able to reach.
pub(super) fn all(model: &Collection) -> Vec<Property<Collection>> {
    let mut all = vec![
        Property::always(PUBLISHED, |_, state: &State| {
            closure(state.catalog.refs).iter().all(|object| is_stored(state, object, true))
        }),
        Property::always(BYTES, |_, state: &State| {
            (0..OBJECTS as u8).all(|object| state.catalog.rows[object as usize].is_none() || has_bytes(state, object))
        }),
        Property::always(ONE_LIFE, |_, state: &State| !state.broken.key),
        Property::always(MONOTONE, |_, state: &State| !state.broken.horizon),
        Property::always(FENCED, |_, state: &State| !state.broken.fence),
        Property::always(ATTEMPTS, |_, state: &State| {
            closure(state.catalog.outbox).iter().all(|object| is_stored(state, object, false))
        }),
        Property::always(NO_LEAK, |_, state: &State| {
            let keys = state.catalog.keys.iter().zip(0..);
            keys.filter(|(key, _)| **key == KeyState::Present).all(|(_, key)| state.catalog.names(key))
        }),
        Property::always(NO_ALARM, |_, state: &State| state.reader != Reader::Alarmed),
    ];
    all.extend(possible(model));
    all
}

/// What an instance must be able to reach.
fn possible(model: &Collection) -> Vec<Property<Collection>> {
    let mut all = vec![Property::sometimes("an object is collected and its bytes are gone", |_, state: &State| {
        let keys = state.catalog.keys.iter().zip(0..);
        keys.filter(|(key, _)| **key == KeyState::Deleted).any(|(_, key)| state.catalog.kept.has(key))
    })];
    if model.deletions > 0 && (model.published || model.ops[0] > 0) && model.ops[1] > 0 {
        all.push(Property::sometimes("a collected commit is published again", |_, state: &State| {
            let row = state.catalog.rows[C as usize];
            let gone = state.catalog.keys[0] == KeyState::Deleted && state.catalog.kept.has(0);
            gone && state.catalog.refs.has(C) && row.is_some_and(|row| row.key != 0)
        }));
    }
    if model.reaper && model.ops[1] > 0 {
        // Not harm, but a leak: the orphan scan must delete under burnt names too.
        all.push(Property::sometimes("bytes arrive under a name that was deleted", |_, state: &State| {
            let deleted = |key: u8| state.catalog.keys[key as usize] == KeyState::Deleted;
            state.bucket.stored.iter().any(deleted)
        }));
    }
    if model.on_top {
        all.push(Property::sometimes(
            "a commit is published after the ref of its base was deleted",
            |_, state: &State| state.catalog.refs == Bits::of(&[D]),
        ));
    }
    if model.attempts {
        all.push(Property::sometimes("an attempt waits while nothing else keeps its objects", |_, state: &State| {
            let parked = state.catalog.outbox.has(C) && state.catalog.refs.is_empty();
            parked && state.catalog.rows[X as usize].is_some_and(|row| row.seen_epoch < state.catalog.horizon)
        }));
    }
    if model.repacks[0] > 0 {
        all.push(Property::sometimes("objects move while the ref stays", |_, state: &State| {
            let row = state.catalog.rows[X as usize];
            state.catalog.refs.has(C)
                && state.catalog.keys[0] == KeyState::Deleted
                && row.is_some_and(|row| row.key != 0)
        }));
    }
    if model.orphan {
        all.push(Property::sometimes("a writer adopts what lay in the bucket", |_, state: &State| {
            state.catalog.keys[OLD_NAME as usize] == KeyState::Present && state.catalog.refs.has(C)
        }));
        all.push(Property::sometimes("the scan burns an orphan", |_, state: &State| {
            state.catalog.keys[OLD_NAME as usize] == KeyState::Deleted && !state.catalog.kept.has(OLD_NAME)
        }));
    }
    if model.failovers > 0 {
        all.push(Property::sometimes(
            "a commit is published after a fail-over",
            |model: &Collection, state: &State| {
                state.left.failovers < model.failovers && state.catalog.refs.iter().any(|commit| commit != C)
            },
        ));
    }
    all
}

/// Whether an object can be read, and is on its way to nowhere. What only an attempt reaches may be condemned: it is revived.
fn is_stored(state: &State, object: u8, live: bool) -> bool {
    let Some(row) = state.catalog.rows[object as usize] else { return false };
    let safe = row.life == Life::Live || !live;
    safe && state.catalog.keys[row.key as usize] == KeyState::Present && has_bytes(state, object)
}

/// Whether the bytes of an object's entry, and of the entry that it is a delta against, are in the bucket.
fn has_bytes(state: &State, object: u8) -> bool {
    let Some(row) = state.catalog.rows[object as usize] else { return false };
    let own = state.bucket.stored.has(row.key) && state.bucket.holds[row.key as usize].has(object);
    own && state.bucket.stored.has(row.base_key)
}
