//! The rules, one by one: a mutant is the protocol without one of them.

use super::Collection;
use super::sizes::base;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// G2 takes the minimum of open operations, also where that is lower than before, and ends none.
    HorizonMayFall,
    /// W5 does not compare the operation's epoch with the horizon.
    NoPublishFence,
    /// G2 raises the horizon past open operations, and W5 does not compare.
    HorizonIgnoresOps,
    /// G2 raises the horizon past open operations; W5 compares. Those that publish begin again, but recording an attempt
    /// (`store_commit`) asks only whether the operation is open.
    HorizonPastOps,
    /// W0 reads the epoch before the transaction that records the operation. W5 sees it, `store_commit` does not.
    SplitBegin,
    /// W1 does not raise `seen_epoch`.
    PinWithoutEpoch,
    /// W1 takes a condemned object as it is.
    UseCondemnedUnrevived,
    /// W2 takes a name again whose key was doomed or deleted.
    NameReused,
    /// W3 takes a timeout for an acknowledgement.
    RegisterBeforePut,
    /// W4 and W5 do not ask whether the operation is open.
    NoOpenCheck,
    /// W1 takes a pinned commit for a pin of what it needs.
    ChildrenImplied,
    /// G3 forgets the roots of open operations.
    OpRootsNotMarked,
    /// W0 records less than what the operation builds on: a commit goes on top of the remote's tip, the roots are our refs.
    BaseNotAmongRoots,
    /// G3 forgets attempts that wait.
    AttemptsNotMarked,
    /// G6 dooms what G4 condemned, without a look at the row as it is now.
    DoomWithoutRecheck,
    /// G6 dooms a key with the first row that goes.
    DoomKeyWithRows,
    /// G7 does not look at the standby.
    DeleteBeforeStandby,
    /// Operations stay open when a standby takes over that lacks the newest transactions.
    OpsSurviveFailover,
    /// The collector goes on with its mark after that.
    MarkSurvivesFailover,
    /// N4 moves rows wherever they are now.
    MoveUnconditionally,
    /// N5 dooms the keys that were read, also those with rows left.
    MoveDoomsSources,
    /// An entry may rest on one in another key.
    DeltaAcrossKeys,
    /// The orphan scan deletes what it listed, without burning the name first.
    DeleteUnburntOrphan,
    /// A collector does not compare the id of its database with that of the bucket.
    NoStoreId,
    /// R5: a reader takes the first 404 for damage.
    ReaderTrustsFirst404,
    /// W4 does not ask whether the key is still reserved. Harmless: it is, while the operation is open.
    NoReservedCheck,
    /// G6 looks whether the row is still condemned, and no more. Harmless: whoever uses it has revived it.
    DoomByStateAlone,
}

impl Mutant {
    /// Those that do harm.
    pub const ALL: [Self; 25] = [
        Self::HorizonMayFall,
        Self::NoPublishFence,
        Self::HorizonIgnoresOps,
        Self::HorizonPastOps,
        Self::SplitBegin,
        Self::PinWithoutEpoch,
        Self::UseCondemnedUnrevived,
        Self::NameReused,
        Self::RegisterBeforePut,
        Self::NoOpenCheck,
        Self::ChildrenImplied,
        Self::OpRootsNotMarked,
        Self::BaseNotAmongRoots,
        Self::AttemptsNotMarked,
        Self::DoomWithoutRecheck,
        Self::DoomKeyWithRows,
        Self::DeleteBeforeStandby,
        Self::OpsSurviveFailover,
        Self::MarkSurvivesFailover,
        Self::MoveUnconditionally,
        Self::MoveDoomsSources,
        Self::DeltaAcrossKeys,
        Self::DeleteUnburntOrphan,
        Self::NoStoreId,
        Self::ReaderTrustsFirst404,
    ];

    /// Rules that others imply: without any one of them there is no harm. The code keeps them.
    pub const HARMLESS: [Self; 2] = [Self::NoReservedCheck, Self::DoomByStateAlone];

    /// The smallest instance in which leaving the rule out does harm.
    pub fn instance(self) -> Collection {
        let mutant = Some(self);
        match self {
            Self::HorizonMayFall | Self::NoPublishFence => Collection {
                ops: [0, 1],
                stale_epoch: true,
                cycles: 2,
                published: true,
                deletions: 1,
                mutant,
                ..base()
            },
            Self::NoOpenCheck => {
                Collection { ops: [0, 1], cycles: 1, published: true, deletions: 1, reaper: true, mutant, ..base() }
            }
            Self::NameReused => Collection { ops: [0, 1], cycles: 1, published: true, deletions: 1, mutant, ..base() },
            Self::RegisterBeforePut => Collection { ops: [1, 0], mutant, ..base() },
            Self::OpRootsNotMarked | Self::BaseNotAmongRoots => {
                Collection { ops: [0, 1], on_top: true, cycles: 2, published: true, deletions: 1, mutant, ..base() }
            }
            Self::AttemptsNotMarked | Self::HorizonPastOps | Self::SplitBegin => {
                Collection { ops: [1, 0], attempts: true, cycles: 2, reaper: true, mutant, ..base() }
            }
            Self::ChildrenImplied => {
                Collection { ops: [0, 1], cycles: 2, published: true, deletions: 1, mutant, ..base() }
            }
            Self::DeleteBeforeStandby | Self::MarkSurvivesFailover => {
                Collection { cycles: 1, published: true, deletions: 1, failovers: 1, mutant, ..base() }
            }
            Self::OpsSurviveFailover => {
                Collection { ops: [0, 1], cycles: 2, published: true, deletions: 1, failovers: 1, mutant, ..base() }
            }
            Self::MoveUnconditionally => Collection { repacks: [1, 1], published: true, mutant, ..base() },
            Self::MoveDoomsSources | Self::DeltaAcrossKeys => {
                Collection { repacks: [1, 0], published: true, mutant, ..base() }
            }
            Self::DoomKeyWithRows => Collection { cycles: 1, published: true, deletions: 1, mutant, ..base() },
            Self::DeleteUnburntOrphan => Collection { ops: [1, 0], orphan: true, mutant, ..base() },
            Self::NoStoreId => Collection { foreign: true, published: true, mutant, ..base() },
            Self::ReaderTrustsFirst404 => Collection { repacks: [1, 0], published: true, reads: 1, mutant, ..base() },
            Self::HorizonIgnoresOps
            | Self::PinWithoutEpoch
            | Self::UseCondemnedUnrevived
            | Self::DoomWithoutRecheck
            | Self::NoReservedCheck
            | Self::DoomByStateAlone => {
                Collection { ops: [0, 1], cycles: 2, published: true, deletions: 1, mutant, ..base() }
            }
        }
    }
}
