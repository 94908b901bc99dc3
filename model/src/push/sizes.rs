//! Instances of the model: each has a part of what may go wrong, since all of it at once is more than a machine can look through.

use super::Push;

/// One request, one attempt, a remote that only loses answers and carries out pushes late.
pub fn base() -> Push {
    Push {
        requests: 1,
        engines: 1,
        saves: 1,
        attempts: 1,
        foreign: 0,
        forces: 0,
        refusals: 0,
        local_commits: 0,
        hosted: false,
        stale_looks: false,
        mutant: None,
    }
}

/// Instances that are looked through at every change, with their names.
pub fn small() -> Vec<(&'static str, Push)> {
    vec![
        ("others push", Push { saves: 2, attempts: 2, foreign: 1, refusals: 1, ..base() }),
        ("two engines", Push { engines: 2, saves: 2, attempts: 2, ..base() }),
        ("two requests", Push { requests: 2, saves: 2, attempts: 2, ..base() }),
        ("others force", Push { saves: 1, attempts: 2, foreign: 1, forces: 1, ..base() }),
        ("stale looks", Push { saves: 2, attempts: 2, foreign: 1, stale_looks: true, ..base() }),
        ("local commits", Push { saves: 2, attempts: 1, local_commits: 1, ..base() }),
        ("local commits, others force", Push { local_commits: 1, forces: 1, ..base() }),
        ("two engines, local commits", Push { engines: 2, saves: 2, attempts: 2, local_commits: 1, ..base() }),
        ("the forge commits", Push { hosted: true, saves: 2, attempts: 2, foreign: 1, ..base() }),
        ("the forge commits beside us", Push { hosted: true, saves: 2, attempts: 2, local_commits: 1, ..base() }),
    ]
}

/// Instances for long runs.
pub fn full() -> Vec<(&'static str, Push)> {
    vec![
        ("two engines, others push", Push { engines: 2, saves: 2, attempts: 3, foreign: 1, refusals: 1, ..base() }),
        ("two requests", Push { requests: 2, saves: 2, attempts: 3, foreign: 1, ..base() }),
        ("others force", Push { engines: 2, saves: 2, attempts: 2, foreign: 1, forces: 1, ..base() }),
        ("stale looks", Push { saves: 2, attempts: 3, foreign: 1, forces: 1, stale_looks: true, ..base() }),
        (
            "the forge commits",
            Push { hosted: true, engines: 2, saves: 2, attempts: 2, foreign: 1, local_commits: 1, ..base() },
        ),
        ("local commits", Push { requests: 2, saves: 2, attempts: 2, foreign: 1, local_commits: 1, ..base() }),
    ]
}
