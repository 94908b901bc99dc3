//! What there is: commits, the local branch, the remote's branch, attempts, pushes under way.

use crate::bits::Bits;

/// The commit that both branches have at the start.
pub const BASE: u8 = 0;

/// Who made a commit.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Author {
    /// Somebody else, straight at the remote.
    Foreign,
    /// A request, by its idempotency key.
    Request(u8),
    /// A commit that is not pushed (`COMMITTED_LOCAL`), or a merge.
    Local,
}

/// A commit. Two that are equal are one: its number stands for its oid.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Commit {
    /// Its parent; the first commit is its own.
    pub parent: u8,
    /// Of a merge: what it brought, a commit of the remote's.
    pub second: Option<u8>,
    /// Who made it.
    pub by: Author,
    /// The revision of the pending file that it holds.
    pub revision: u8,
    /// The recorded time.
    pub time: u8,
}

/// `AttemptState`. Those below `Landed` are open.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptState {
    /// Times taken, oid computed and saved; nothing sent.
    Prepared,
    /// Objects durable.
    Stored,
    /// A push may be on its way.
    Pushing,
    /// A push was sent; what became of it is not known.
    Unknown,
    /// Waits for credentials, or was put aside for somebody else's push.
    Paused,
    /// The remote has it; our branch does not yet.
    Landed,
    /// `LANDED`, and waits for a merge: our branch has gone elsewhere.
    Waiting,
    /// Done.
    Finalized,
    /// The remote's branch is elsewhere.
    Moved,
    /// The remote refused for good.
    Rejected,
    /// Replaced or given up.
    Superseded,
}

impl AttemptState {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Prepared,
        Self::Stored,
        Self::Pushing,
        Self::Unknown,
        Self::Paused,
        Self::Landed,
        Self::Waiting,
        Self::Finalized,
        Self::Moved,
        Self::Rejected,
        Self::Superseded,
    ];
}

/// What the remote answered to the push that is waited for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Reply {
    /// `ok`.
    Ok,
    /// `ng`: the branch is not where the push said.
    Stale,
    /// `ng`: a hook, a protected branch, a secret.
    Refused,
}

/// A row of `attempts`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Attempt {
    /// The request that it is for.
    pub request: u8,
    /// The parent.
    pub base: u8,
    /// What the remote's branch must be for the push to land (`remote_base`): where it was seen when the commit was prepared, at or below the
    /// base.
    pub old: u8,
    /// The commit's oid, saved before anything is sent.
    pub commit: u8,
    /// The revision of the pending file when the commit was prepared.
    pub revision: u8,
    /// Where it is.
    pub state: AttemptState,
    /// The answer that is on its way to us.
    pub reply: Option<Reply>,
    /// An answer to it was lost.
    pub lost: bool,
}

/// A commit that an engine has worked out and not yet recorded. Others may go on meanwhile.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Planned {
    /// The request.
    pub request: u8,
    /// What the commit goes on top of.
    pub base: u8,
    /// The pending revision that was read.
    pub revision: u8,
    /// The time that the commit will have.
    pub time: u8,
}

/// The first final answer to a request.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Answer {
    /// Committed, with this oid.
    Done(u8),
    /// The remote refused.
    Rejected,
}

/// How often what may happen still may.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Left {
    /// Edits.
    pub saves: u8,
    /// Attempts that may be recorded.
    pub attempts: u8,
    /// Pushes by others.
    pub foreign: u8,
    /// Force pushes by others.
    pub forces: u8,
    /// Refusals by the remote.
    pub refusals: u8,
    /// Commits of another user that are not pushed.
    pub local_commits: u8,
}

/// The whole state.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    /// Every commit that was made, by number.
    pub commits: Vec<Commit>,
    /// The newest revision that was acknowledged to the user.
    pub acknowledged: u8,
    /// The revision that is pending.
    pub pending: Option<u8>,
    /// Our branch.
    pub local: u8,
    /// Where the remote's branch was last seen (`remote_refs`).
    pub known: u8,
    /// The remote's branch.
    pub tip: u8,
    /// Every commit that the remote's branch ever was at.
    pub tips: Bits,
    /// Pushes that reached the network and were not turned away, as (old, new): each may be carried out at any time, not at all, or
    /// again.
    pub pushes: Vec<(u8, u8)>,
    /// `attempts`, oldest first.
    pub attempts: Vec<Attempt>,
    /// What the two engines have in memory.
    pub engines: [Option<Planned>; 2],
    /// `requests.answer`, by request.
    pub answers: Vec<Option<Answer>>,
    /// Budgets.
    pub left: Left,
    /// One of ours moved a branch to where its old value is not an ancestor. Watched where it happens.
    pub rewound: bool,
    /// A push was carried out that had been carried out before.
    pub again: bool,
}

impl State {
    /// The revision of the file that a commit has. Of what a merge brings together, one side only has touched it.
    pub fn content(&self, commit: u8) -> u8 {
        let Commit { parent, second, revision, .. } = self.commits[commit as usize];
        if revision != 0 || commit == BASE {
            return revision;
        }
        let below = self.content(parent);
        second.map_or(below, |second| below.max(self.content(second)))
    }

    /// A push is under way from now on.
    pub fn launch(&mut self, push: (u8, u8)) {
        if !self.pushes.contains(&push) {
            self.pushes.push(push);
            self.pushes.sort_unstable();
        }
    }

    /// A commit and everything below it.
    pub fn history(&self, commit: u8) -> Bits {
        let mut all = Bits::default();
        let mut at = commit;
        while !all.has(at) {
            all.add(at);
            let Commit { parent, second, .. } = self.commits[at as usize];
            all = second.map_or(all, |second| all.and(self.history(second)));
            at = parent;
        }
        all
    }

    /// Whether `old` is `new` or below it.
    pub fn is_ancestor(&self, old: u8, new: u8) -> bool {
        self.history(new).has(old)
    }

    /// The number of a commit, which the same commit always has.
    pub fn number_of(&mut self, commit: Commit) -> u8 {
        let known = self.commits.iter().position(|other| *other == commit);
        known.unwrap_or_else(|| {
            self.commits.push(commit);
            self.commits.len() - 1
        }) as u8
    }

    /// Commits of one request among `commits`.
    pub fn of_request(&self, commits: Bits, request: u8) -> impl Iterator<Item = u8> {
        commits.iter().filter(move |commit| self.commits[*commit as usize].by == Author::Request(request))
    }

    /// Everything that the remote ever had.
    pub fn ever(&self) -> Bits {
        self.tips.iter().fold(Bits::default(), |all, tip| all.and(self.history(tip)))
    }
}
