//! Instances of the model: each has a part of what may go wrong, since all of it at once is more than a machine can look through.

use super::Collection;

/// Nothing happens.
pub fn base() -> Collection {
    Collection {
        ops: [0, 0],
        on_top: false,
        stale_epoch: false,
        repacks: [0, 0],
        attempts: false,
        cycles: 0,
        deletions: 0,
        failovers: 0,
        zombie: false,
        orphan: false,
        foreign: false,
        reads: 0,
        reaper: false,
        published: false,
        mutant: None,
    }
}

/// Instances that are looked through at every change, with their names.
pub fn small() -> Vec<(&'static str, Collection)> {
    vec![
        ("one writer", Collection { ops: [0, 1], stale_epoch: true, reaper: true, ..published() }),
        ("two writers", Collection { ops: [1, 1], ..published() }),
        ("zombie collector", Collection { ops: [0, 1], stale_epoch: true, zombie: true, ..published() }),
        ("attempts", Collection { ops: [1, 1], attempts: true, cycles: 2, deletions: 1, reaper: true, ..base() }),
        ("repack beside a writer", Collection { ops: [0, 1], repacks: [1, 0], reads: 1, ..published() }),
        ("two repackers", Collection { repacks: [1, 1], reads: 1, cycles: 1, on_top: false, ..published() }),
        ("orphans", Collection { ops: [1, 1], orphan: true, foreign: true, cycles: 1, deletions: 1, ..base() }),
        ("fail-over", Collection { ops: [0, 1], cycles: 2, failovers: 1, ..published() }),
    ]
}

/// Instances for long runs.
pub fn full() -> Vec<(&'static str, Collection)> {
    vec![
        ("two writers, stale epochs", Collection { ops: [1, 1], stale_epoch: true, reaper: true, ..published() }),
        (
            "two writers from nothing",
            Collection { ops: [1, 2], on_top: true, cycles: 2, deletions: 1, reaper: true, ..base() },
        ),
        ("zombie collector", Collection { ops: [1, 1], stale_epoch: true, zombie: true, ..published() }),
        ("attempts", Collection { ops: [1, 1], attempts: true, reaper: true, ..published() }),
        ("repack", Collection { ops: [0, 1], repacks: [1, 1], cycles: 1, reads: 1, on_top: false, ..published() }),
        ("orphans", Collection { ops: [1, 1], orphan: true, cycles: 2, deletions: 1, reaper: true, ..base() }),
        ("fail-over", Collection { ops: [1, 1], failovers: 1, ..published() }),
    ]
}

/// Commit C is published, may be deleted, and is collected in two cycles.
fn published() -> Collection {
    Collection { on_top: true, cycles: 2, deletions: 1, published: true, ..base() }
}
