//! What a verification finds: a code, whose level and remedy are fixed, and what it is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Findings that are kept word for word; the others are counted.
const KEPT_MAX: usize = 1000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Nothing is lost or wrong for a reader, but something should not be as it is.
    Warning,
    /// Damage.
    Error,
}

/// What is found. The names in JSON are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The ledger has a key whose value the bucket does not have.
    KeyMissing,
    /// A value is shorter than the ledger's entries in it, or a loose object is of another length.
    KeyTruncated,
    /// The ledger has a key in which nothing has its place.
    KeyEmpty,
    /// A value that was deleted is in the bucket.
    KeyLeft,
    /// A value that the ledger does not know.
    KeyUnknown,
    /// A name that is none of ours.
    NameForeign,
    /// A repair could not look at what the bucket keeps of overwritten and deleted keys.
    VersionsUnread,
    /// A pack without its index.
    IdxMissing,
    /// An index that does not parse.
    IdxCorrupt,
    /// Ledger and index disagree about where an entry is.
    IdxDisagrees,
    /// A pack's header, trailer or checksum is wrong.
    PackCorrupt,
    /// The bytes of an object are not there.
    ObjectLost,
    /// What is stored is not the object that the ledger names.
    ObjectCorrupt,
    /// A second implementation of SHA-1 names the content otherwise.
    ObjectHash,
    /// The ledger's SHA-256 is not that of the content.
    ObjectSha256,
    /// The object is not well formed.
    ObjectMalformed,
    /// Something that counts refers to an object that the ledger does not have.
    ObjectMissing,
    /// The same for an object that the collector has condemned.
    ObjectCondemned,
    /// An object is of another type than what refers to it says.
    ObjectKind,
    /// A ref, or an unfinished commit, names what the ledger does not have.
    RefBroken,
    /// Only an earlier value of a ref reaches what the ledger does not have.
    ReflogBroken,
    /// A project reaches an object that its reach leaves out: it cannot be read by its id, and a push may be refused.
    ReachMissing,
    /// A project's reach has numbers that no object has: exports and clones of all of it fail.
    ReachDead,
    /// A project's reach has what no ref of it, present or past, reaches.
    ReachExtra,
    /// A project's reach does not decode.
    ReachInvalid,
    /// A commit has no row in the commit table.
    CommitRowMissing,
    /// A commit's row is not the commit.
    CommitRowStale,
    /// A commit's parents, as rows, are not the commit's.
    CommitParentsStale,
    /// A tree's row is not the tree.
    TreeRowStale,
    /// Pending content that is not the blob it is kept for.
    PendingCorrupt,
    /// Pending work whose content is nowhere.
    PendingMissing,
    /// A replaced version of pending work whose content is nowhere.
    HistoryMissing,
    /// The blob that pending work started from is nowhere: it cannot be merged.
    PendingBaseMissing,
    /// An object's row names a key that is not present.
    LedgerMisplaced,
    /// The horizon is ahead of the epoch.
    HorizonAhead,
    /// An open operation without a sign of life.
    OpSilent,
    /// A push that has held up its branch for more than a day.
    AttemptStuck,
    /// The database says that its files are damaged.
    DatabaseCorrupt,
    /// A row does not decode.
    RowInvalid,
    /// A project's remote was asked for lost objects, and did not answer as it should.
    RemoteSilent,
}

impl Code {
    /// How bad it is.
    pub fn level(self) -> Level {
        match self {
            Self::NameForeign | Self::VersionsUnread | Self::RemoteSilent => Level::Info,
            Self::KeyEmpty
            | Self::KeyLeft
            | Self::KeyUnknown
            | Self::ObjectMalformed
            | Self::ReflogBroken
            | Self::ReachExtra
            | Self::HistoryMissing
            | Self::PendingBaseMissing
            | Self::OpSilent
            | Self::AttemptStuck => Level::Warning,
            _ => Level::Error,
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::KeyMissing | Self::KeyTruncated | Self::PackCorrupt | Self::ObjectLost | Self::ObjectCorrupt => {
                "`--repair` looks for other copies; else restore the key from a backup of the bucket"
            }
            Self::IdxMissing | Self::IdxCorrupt => "`--repair` moves the objects into a fresh pack",
            Self::IdxDisagrees | Self::LedgerMisplaced => {
                "`--repair` looks for the object and records where it is; else restore the database"
            }
            Self::ObjectMissing | Self::RefBroken => {
                "`--repair` looks for copies that the ledger does not know; else restore the database, or push or import it again"
            }
            Self::ObjectCondemned => "`--repair` revives it",
            Self::ObjectHash => "keep everything as it is and report it: a defect or an attack",
            Self::ObjectSha256 | Self::ObjectKind => "restore the row from a backup of the database",
            Self::ReflogBroken => "nothing that a ref has now is concerned",
            Self::ReachMissing | Self::CommitRowMissing => "`--repair` adds what is missing",
            Self::ReachDead => "`--repair` writes the reach without them",
            Self::CommitParentsStale => "`--repair` adds what is missing; restore rows that are wrong",
            Self::ReachInvalid | Self::RowInvalid => "restore the row from a backup of the database",
            Self::CommitRowStale => "delete the row, then `--repair` adds it again",
            Self::TreeRowStale => "delete the row; it is only a copy",
            Self::ReachExtra => "harmless; replaced when a ref is next set back or deleted",
            Self::PendingCorrupt | Self::PendingMissing => {
                "save the file again from a device that has it, or restore the database"
            }
            Self::HistoryMissing => {
                "nothing that is pending now is concerned; the version comes back only with the database"
            }
            Self::PendingBaseMissing => {
                "`--repair` looks for copies that the ledger does not know; else the edit can be committed over what is there, not merged"
            }
            Self::KeyUnknown | Self::KeyLeft => "nothing refers to it; the collector's scan for orphans takes it",
            Self::KeyEmpty => "nothing refers to it; it only takes room",
            Self::VersionsUnread => {
                "allow `s3:ListBucketVersions` and `s3:GetObjectVersion`, if the bucket keeps versions, and repair again"
            }
            Self::NameForeign => "not ours; the bucket is better kept to itself",
            Self::ObjectMalformed => "it was stored as it is; git may refuse it",
            Self::HorizonAhead => "stop the collector and restore the database",
            Self::OpSilent => "a running server ends it",
            Self::AttemptStuck => "sync or push with credentials that the remote takes",
            Self::DatabaseCorrupt => "restore the database",
            Self::RemoteSilent => {
                "`--repair` again once it answers, takes the configured credentials and is allowed; else look for copies elsewhere"
            }
        }
    }

    /// The name in JSON.
    pub fn name(self) -> String {
        // A unit variant is always a JSON string.
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Damage that was seen and has not been reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub code: Code,
    pub detail: String,
}

impl Damage {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// The key, object, ref, project or row in question.
    pub subject: String,
    /// The project in which it was found, where that matters.
    pub project: Option<Uuid>,
    /// What was seen.
    pub detail: String,
    /// What to do.
    pub remedy: String,
    /// It was repaired by this run.
    pub repaired: bool,
}

impl Finding {
    pub(super) fn new(damage: Damage, subject: impl Into<String>, project: Option<Uuid>, repaired: bool) -> Self {
        let Damage { code, detail } = damage;
        let (level, remedy) = (code.level(), code.remedy().to_owned());
        Self { code, level, subject: subject.into(), project, detail, remedy, repaired }
    }
}

/// All findings so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Findings {
    pub kept: Vec<Finding>,
    pub codes: BTreeMap<Code, u64>,
    pub repaired: u64,
}

impl Findings {
    /// Counts a finding. What several checks see of one thing is one finding.
    pub fn add(&mut self, finding: Finding) {
        let same = |known: &Finding| {
            (known.code, known.project) == (finding.code, finding.project) && known.subject == finding.subject
        };
        if self.kept.iter().any(same) {
            return;
        }
        *self.codes.entry(finding.code).or_default() += 1;
        self.repaired += u64::from(finding.repaired);
        if self.kept.len() < KEPT_MAX {
            self.kept.push(finding);
        }
    }

    /// Takes over what another list has.
    pub fn absorb(&mut self, other: Self) {
        let Self { kept, mut codes, mut repaired } = other;
        for finding in kept {
            // Counted when it is added, if it is new here.
            if let Some(count) = codes.get_mut(&finding.code) {
                *count = count.saturating_sub(1);
            }
            repaired = repaired.saturating_sub(u64::from(finding.repaired));
            self.add(finding);
        }
        for (code, count) in codes.into_iter().filter(|(_, count)| *count > 0) {
            *self.codes.entry(code).or_default() += count;
        }
        self.repaired += repaired;
    }

    /// How many there are of a level.
    pub fn count(&self, level: Level) -> u64 {
        self.codes.iter().filter(|(code, _)| code.level() == level).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_twice_counts_once_and_lists_are_bounded() {
        let mut findings = Findings::default();
        for number in 0..KEPT_MAX + 5 {
            let finding = Finding::new(Damage::new(Code::ObjectCorrupt, "x"), format!("{number}"), None, number == 3);
            findings.add(finding.clone());
            if number < KEPT_MAX {
                findings.add(finding);
            }
        }
        findings.add(Finding::new(Damage::new(Code::KeyUnknown, "x"), "k", None, false));
        assert_eq!((findings.kept.len(), findings.repaired), (KEPT_MAX, 1));
        let counts = [Level::Error, Level::Warning, Level::Info].map(|level| findings.count(level));
        assert_eq!(counts, [KEPT_MAX as u64 + 5, 1, 0]);
    }

    #[test]
    fn lists_are_put_together() {
        let finding = |number: usize, repaired| {
            Finding::new(Damage::new(Code::ObjectCorrupt, "x"), format!("{number}"), None, repaired)
        };
        let (mut one, mut two) = (Findings::default(), Findings::default());
        (0..10).for_each(|number| one.add(finding(number, true)));
        (5..KEPT_MAX + 105).for_each(|number| two.add(finding(number, number % 2 == 0)));
        two.add(Finding::new(Damage::new(Code::KeyUnknown, "x"), "k", None, false));
        one.absorb(two);
        assert_eq!(one.kept.len(), KEPT_MAX);
        assert_eq!(one.count(Level::Error), KEPT_MAX as u64 + 105, "five were known");
        // Of 5 to 9, two even ones were known already.
        assert_eq!((one.count(Level::Warning), one.repaired), (1, 10 + (KEPT_MAX as u64 + 100) / 2 - 2));
        let mut none = Findings::default();
        none.absorb(Findings::default());
        assert_eq!(none, Findings::default());
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(Code::ObjectSha256.name(), "object_sha256");
        assert_eq!(Code::IdxMissing.name(), "idx_missing");
    }
}
