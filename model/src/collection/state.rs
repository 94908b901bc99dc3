//! What there is: the catalog's rows, the bucket, and what each process holds in memory.

use crate::bits::Bits;

/// A blob.
pub const X: u8 = 0;
/// A commit with the blob in its tree.
pub const C: u8 = 1;
/// Another commit with the same blob, made on top of what the first one brought.
pub const D: u8 = 2;
/// How many objects there are.
pub const OBJECTS: usize = 3;
/// Bucket keys. Each operation has the fresh name of its own number; the last one is a name made of content.
pub const KEYS: usize = 6;
/// The one name that is made of content (`objects/xx/yyy`, or a pack's checksum), so that it may be there from earlier.
pub const OLD_NAME: u8 = KEYS as u8 - 1;

/// Everything that a commit needs.
pub fn closure(commits: Bits) -> Bits {
    let mut all = commits;
    if !commits.is_empty() {
        all.add(X);
    }
    all
}

/// What a row of `objects` says of its object.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Life {
    /// `L`.
    Live,
    /// `C`: condemned. The bytes are still there, and a writer may revive it.
    Condemned,
}

/// A row of `objects`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Row {
    /// `state`.
    pub life: Life,
    /// `seen_epoch`: the newest epoch of an operation that pinned or registered it.
    pub seen_epoch: u8,
    /// `key_id`: the key with its bytes.
    pub key: u8,
    /// The key with the entry that it is a delta against. Always its own key, but for a mutant.
    pub base_key: u8,
}

/// A row of `s3_keys`. It only ever moves down this list.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// No row: the name was never used.
    Unused,
    /// Reserved by an operation; its bytes may be on their way.
    Reserved(u8),
    /// Its bytes are durable and rows of `objects` name it.
    Present,
    /// No row names it, and none will.
    Doomed,
    /// Its bytes were seen gone. The name stays burnt.
    Deleted,
}

/// A row of `ops`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Op {
    /// `state`.
    pub state: OpState,
    /// The epoch in which it began.
    pub epoch: u8,
    /// What its project reached when it began: it may build on that without pinning it.
    pub roots: Bits,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum OpState {
    /// It may still register and publish.
    Open,
    /// Published, or ended by its own process.
    Done,
    /// Ended by the collector or the reaper.
    Dead,
}

/// The database.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Catalog {
    /// `gc_state.epoch`.
    pub epoch: u8,
    /// `gc_state.horizon`: operations from before it may not publish.
    pub horizon: u8,
    /// Commits that a ref names.
    pub refs: Bits,
    /// Commits of attempts that wait to be pushed and published.
    pub outbox: Bits,
    /// `objects`, by object.
    pub rows: [Option<Row>; OBJECTS],
    /// `s3_keys`, by key.
    pub keys: [KeyState; KEYS],
    /// Keys in which a row was ever kept (`s3_keys.kept`). The others were never live.
    pub kept: Bits,
    /// `ops`, by number.
    pub ops: [Option<Op>; KEYS],
}

impl Catalog {
    /// The operation, if its row is there and open.
    pub fn open_op(&self, op: u8) -> Option<Op> {
        self.ops[op as usize].filter(|row| row.state == OpState::Open)
    }

    /// Whether some row has its place in `key`.
    pub fn names(&self, key: u8) -> bool {
        self.rows.iter().flatten().any(|row| row.key == key)
    }

    /// Dooms a key that is in use.
    pub fn doom(&mut self, key: u8) {
        if self.keys[key as usize] == KeyState::Present {
            self.keys[key as usize] = KeyState::Doomed;
        }
    }

    /// Dooms `key` if no row names it: part of the transaction that took the last one away.
    pub fn doom_if_empty(&mut self, key: u8) {
        if !self.names(key) {
            self.doom(key);
        }
    }

    /// A key that was just registered is present; it is doomed at once if the ledger kept no row in it.
    pub fn judge_new(&mut self, key: u8) {
        self.keys[key as usize] = KeyState::Present;
        if self.names(key) {
            self.kept.add(key);
        } else {
            self.doom(key);
        }
    }

    /// Ends an operation and forgets its roots.
    pub fn end_op(&mut self, op: u8, state: OpState) {
        if let Some(row) = &mut self.ops[op as usize] {
            row.state = state;
            row.roots = Bits::default();
        }
    }
}

/// The object store, and what is under way to it.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Bucket {
    /// Keys with bytes.
    pub stored: Bits,
    /// PUTs that may arrive at any time, or never.
    pub puts: Bits,
    /// DELETEs that may arrive at any time, and again.
    pub deletes: Bits,
    /// What the bytes of a key hold.
    pub holds: [Bits; KEYS],
}

/// What a writer wants to do.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Plan {
    /// Publish commit C: blob and commit come from the client.
    First,
    /// Publish commit D on top of C, whose closure it takes from the roots of its operation.
    OnTop,
    /// Publish a commit that an earlier operation stored for an attempt.
    Resume(u8),
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Upload {
    /// Nothing was reserved.
    None,
    /// W2: the key is reserved and the bytes were sent.
    Sent(u8),
    /// W3: the bucket has acknowledged the bytes.
    Acknowledged(u8),
}

/// A writer within an operation.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Work {
    /// What for.
    pub plan: Plan,
    /// The operation.
    pub op: u8,
    /// Objects that are to be pinned or else stored.
    pub unpinned: Bits,
    /// Objects that the ledger did not have: one pack of them is uploaded.
    pub missing: Bits,
    /// How far that is.
    pub upload: Upload,
}

impl Work {
    /// Whether every object is pinned or registered.
    pub fn is_ready(&self) -> bool {
        self.unpinned.is_empty() && self.missing.is_empty()
    }
}

/// A writing process.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Writer {
    /// Nothing to do.
    Idle,
    /// It has read the epoch and not yet recorded its operation.
    Beginning(Plan, u8),
    /// Its operation is recorded.
    Working(Work),
}

/// A repacking process.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Repacker {
    /// Nothing to do.
    Idle,
    /// N1: it has opened an operation.
    Began(u8),
    /// N2, N3: it has read objects at their places, by object, and sent one pack of them.
    Sent {
        /// The operation, whose number is the new key's.
        op: u8,
        /// The key in which each object was read.
        from: [Option<u8>; OBJECTS],
    },
}

/// A mark: what is alive, and the horizon that was fixed before.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Marked {
    /// Objects that some root reaches.
    pub live: Bits,
    /// Objects seen in or after this epoch are spared.
    pub horizon: u8,
    /// What was condemned by this mark. Only a mutant remembers it.
    pub condemned: Bits,
}

/// The collector's process.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Collector {
    /// Between cycles.
    Idle,
    /// G1 is done.
    Counted,
    /// G2 is done.
    Raised,
    /// G3 is done; it condemns and dooms.
    Marked(Marked),
}

/// A reader: it asks the ledger for a place, then the bucket for the bytes.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Reader {
    /// It has not asked yet.
    Idle,
    /// It knows where a published object was.
    Located(u8, u8),
    /// It has the bytes, or the object is no longer there.
    Answered,
    /// It has told its caller that the store is damaged.
    Alarmed,
}

/// How often what may happen still may.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Left {
    /// Operations of each writer.
    pub ops: [u8; 2],
    /// Operations of each repacker.
    pub repacks: [u8; 2],
    /// Cycles of the collector.
    pub cycles: u8,
    /// Deletions of refs and of attempts.
    pub deletions: u8,
    /// Fail-overs.
    pub failovers: u8,
    /// Reads.
    pub reads: u8,
}

/// What must never have happened; looked at where it happens, since a later state does not show it.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub struct Broken {
    /// A key's state moved backwards, or a name was written twice.
    pub key: bool,
    /// The horizon fell.
    pub horizon: bool,
    /// An operation published that was not open or was behind the horizon.
    pub fence: bool,
}

/// The whole state.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    /// The database that answers.
    pub catalog: Catalog,
    /// What its standby has; it takes over at a fail-over.
    pub standby: Option<Box<Catalog>>,
    /// The bucket.
    pub bucket: Bucket,
    /// Writers.
    pub writers: [Writer; 2],
    /// Repackers.
    pub repackers: [Repacker; 2],
    /// The collector.
    pub collector: Collector,
    /// A collector that lost its lease and goes on with an old mark.
    pub zombie: Option<Marked>,
    /// The orphan scan has listed the bucket and found this name, of which the ledger knew nothing.
    pub orphan: Option<u8>,
    /// A reader.
    pub reader: Reader,
    /// How many operations began. Their ids are never used again, whatever a fail-over forgets.
    pub begun: u8,
    /// Budgets.
    pub left: Left,
    /// Monitors.
    pub broken: Broken,
}
