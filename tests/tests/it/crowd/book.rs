//! What was written, what was answered, and what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// What became of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody answered yet: it may be there.
    Sent,
    /// It was answered: it must be there from here on.
    Kept,
    /// Whoever made it took it away.
    Withdrawn,
}

/// One edit.
#[derive(Debug, Clone)]
pub struct Edit {
    pub user: usize,
    pub fate: Fate,
    /// When it was sent, and answered, by the book's own count.
    sent: u64,
    kept: u64,
}

/// One commit that was answered.
#[derive(Debug, Clone)]
pub struct Commit {
    pub user: usize,
    pub oid: String,
    pub parent: String,
    /// Path and blob of each file; nothing = deleted.
    pub files: BTreeMap<String, Option<String>>,
    asked: u64,
    answered: u64,
}

#[derive(Debug, Default)]
struct Pages {
    count: u64,
    edits: BTreeMap<String, Edit>,
    commits: Vec<Commit>,
    told: BTreeMap<String, u64>,
}

/// Everybody's account, in one order.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("no panic with the book open")
    }

    /// Before an edit is sent.
    pub fn sends(&self, user: usize, mark: &str) {
        let mut pages = self.pages();
        pages.count += 1;
        let edit = Edit { user, fate: Fate::Sent, sent: pages.count, kept: 0 };
        pages.edits.insert(mark.to_owned(), edit);
    }

    /// When edits were answered.
    pub fn keeps<'a>(&self, marks: impl IntoIterator<Item = &'a String>) {
        let mut pages = self.pages();
        pages.count += 1;
        let now = pages.count;
        for mark in marks {
            let edit = pages.edits.get_mut(mark).expect("it was sent");
            if edit.fate == Fate::Sent {
                (edit.fate, edit.kept) = (Fate::Kept, now);
            }
        }
    }

    /// Before edits are taken away.
    pub fn withdraws(&self, marks: &BTreeSet<String>) {
        let mut pages = self.pages();
        for mark in marks {
            pages.edits.get_mut(mark).expect("it was sent").fate = Fate::Withdrawn;
        }
    }

    /// Before a commit is asked for.
    pub fn asks(&self) -> u64 {
        let mut pages = self.pages();
        pages.count += 1;
        pages.count
    }

    pub fn commits(&self, asked: u64, user: usize, oid: &str, parent: &str, files: BTreeMap<String, Option<String>>) {
        let mut pages = self.pages();
        pages.count += 1;
        let answered = pages.count;
        pages.commits.push(Commit { user, oid: oid.to_owned(), parent: parent.to_owned(), files, asked, answered });
    }

    /// Counts something for the last line.
    pub fn tells(&self, what: &str) {
        *self.pages().told.entry(what.to_owned()).or_default() += 1;
    }

    pub fn told(&self) -> BTreeMap<String, u64> {
        self.pages().told.clone()
    }

    pub fn all_commits(&self) -> Vec<Commit> {
        self.pages().commits.clone()
    }

    pub fn edits(&self) -> BTreeMap<String, Edit> {
        self.pages().edits.clone()
    }
}

impl Edit {
    /// Whether it must be in a commit of its user: answered before that was asked for.
    pub fn is_due_in(&self, commit: &Commit) -> bool {
        self.user == commit.user && self.fate == Fate::Kept && self.kept < commit.asked
    }

    /// Whether it may have come with this commit.
    pub fn may_come_with(&self, commit: &Commit) -> bool {
        self.user == commit.user && self.sent < commit.answered
    }
}
