//! The rules, one by one: a mutant is the machine without one of them.

use super::Push;
use super::sizes::base;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Sending again makes the commit again, with another time: it has another oid.
    NewTimeOnRetry,
    /// A lost answer is told as a refusal.
    UnknownIsFailure,
    /// A lost answer is told as success.
    UnknownIsSuccess,
    /// The push does not name the old value.
    ForcedPush,
    /// A push that is sent again names the old value that the remote has now.
    OldValueAnew,
    /// FINALIZE clears the pending path whatever its revision.
    ClearByPath,
    /// Pending work is cleared when the push is sent.
    ClearWhenSent,
    /// A refusal is final though an earlier push of the attempt may still land.
    RefusalEndsDoubt,
    /// A refusal clears pending work.
    RejectedClears,
    /// The same request again makes a new commit, whatever became of it before.
    RetryCommitsAnew,
    /// An engine that gave up its attempt, since another engine was faster with the same request, plans again without a look at the
    /// request's answer.
    SecondRoundAnew,
    /// A new attempt does not look whether an earlier one of its request has landed after all.
    NoLookBack,
    /// It looks at the last one only.
    LookBackOnce,
    /// Only a branch that is at the commit shows that it landed, not one that is above it.
    NoAncestorCheck,
    /// FINALIZE sets our branch to the commit wherever it is.
    FinalizeSetsBack,
    /// FINALIZE settles pending work also where our branch has gone elsewhere and does not get the commit.
    FinalizeElsewhere,
    /// What waits for a merge is settled once the remote is seen to have the commit, not our branch.
    WaitEndsAtTheRemote,
    /// A repeated request asks the forge again without a look for what it has made.
    AskUnlooked,
    /// What the forge has made is known by its words and its parent, whatever tree it has.
    MadeByWordsAlone,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::NewTimeOnRetry,
        Self::UnknownIsFailure,
        Self::UnknownIsSuccess,
        Self::ForcedPush,
        Self::OldValueAnew,
        Self::ClearByPath,
        Self::ClearWhenSent,
        Self::RefusalEndsDoubt,
        Self::RejectedClears,
        Self::RetryCommitsAnew,
        Self::SecondRoundAnew,
        Self::NoLookBack,
        Self::LookBackOnce,
        Self::NoAncestorCheck,
        Self::FinalizeSetsBack,
        Self::FinalizeElsewhere,
        Self::WaitEndsAtTheRemote,
        Self::AskUnlooked,
        Self::MadeByWordsAlone,
    ];

    /// An instance in which leaving the rule out does harm.
    pub fn instance(self) -> Push {
        let mutant = Some(self);
        match self {
            Self::UnknownIsFailure | Self::UnknownIsSuccess | Self::ClearWhenSent => Push { mutant, ..base() },
            Self::RefusalEndsDoubt | Self::RejectedClears => Push { refusals: 1, mutant, ..base() },
            Self::ClearByPath => Push { saves: 2, mutant, ..base() },
            Self::ForcedPush | Self::OldValueAnew | Self::FinalizeSetsBack => Push { foreign: 1, mutant, ..base() },
            Self::NewTimeOnRetry | Self::RetryCommitsAnew | Self::NoLookBack => {
                Push { saves: 2, attempts: 2, mutant, ..base() }
            }
            Self::FinalizeElsewhere | Self::WaitEndsAtTheRemote => {
                Push { saves: 2, local_commits: 1, mutant, ..base() }
            }
            Self::NoAncestorCheck => Push { saves: 2, attempts: 2, foreign: 1, mutant, ..base() },
            Self::AskUnlooked | Self::MadeByWordsAlone => {
                Push { hosted: true, saves: 2, attempts: 2, mutant, ..base() }
            }
            Self::SecondRoundAnew => Push { engines: 2, saves: 2, attempts: 3, mutant, ..base() },
            Self::LookBackOnce => Push { saves: 2, attempts: 3, mutant, ..base() },
        }
    }
}
