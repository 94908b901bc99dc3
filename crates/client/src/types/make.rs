//! Short ways to what is asked most.

use super::{ActionKind, Author, CommitAction, Content, OnMismatch, PendingBatch, PendingOp, PendingVerb, ReadPath};

impl Author {
    /// Now, in +0000.
    pub fn new(name: impl Into<String>, email: impl Into<String>) -> Self {
        Self { name: name.into(), email: email.into(), date: None }
    }
}

impl From<&str> for ReadPath {
    fn from(path: &str) -> Self {
        Self::Whole(path.to_owned())
    }
}

impl From<String> for ReadPath {
    fn from(path: String) -> Self {
        Self::Whole(path)
    }
}

impl PendingBatch {
    /// All or nothing, and what the view does not expect fails.
    pub fn new(ops: Vec<PendingOp>) -> Self {
        Self { ops, atomic: true, base_revision: None, on_conflict: OnMismatch::Fail }
    }
}

impl PendingOp {
    fn of(op: PendingVerb, path: impl Into<String>) -> Self {
        Self { op, path: path.into(), ..Self::default() }
    }

    /// Writes a file.
    pub fn put(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let Content { encoding, content } = Content::of(content.into());
        Self { content: Some(content), encoding: Some(encoding), ..Self::of(PendingVerb::Put, path) }
    }

    /// The file is to go.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::of(PendingVerb::Delete, path)
    }

    /// The file gets another name.
    pub fn rename(from: impl Into<String>, path: impl Into<String>) -> Self {
        Self { from: Some(from.into()), ..Self::of(PendingVerb::Move, path) }
    }

    /// The file gets another mode, such as `100755`.
    pub fn chmod(path: impl Into<String>, mode: impl Into<String>) -> Self {
        Self { mode: Some(mode.into()), ..Self::of(PendingVerb::Chmod, path) }
    }

    /// Replaces a text that occurs exactly once.
    pub fn edit(path: impl Into<String>, old: impl Into<String>, new: impl Into<String>) -> Self {
        Self { old_string: Some(old.into()), new_string: Some(new.into()), ..Self::of(PendingVerb::Edit, path) }
    }

    /// Applies a unified diff.
    pub fn patch(path: impl Into<String>, diff: impl Into<String>) -> Self {
        Self { diff: Some(diff.into()), ..Self::of(PendingVerb::Patch, path) }
    }
}

impl CommitAction {
    fn of(action: ActionKind, path: impl Into<String>) -> Self {
        Self { action, path: path.into(), ..Self::default() }
    }

    fn writing(action: ActionKind, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let Content { encoding, content } = Content::of(content.into());
        Self { content: Some(content), encoding: Some(encoding), ..Self::of(action, path) }
    }

    /// A file that must not exist.
    pub fn create(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self::writing(ActionKind::Create, path, content)
    }

    /// A file that must exist.
    pub fn update(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self::writing(ActionKind::Update, path, content)
    }

    /// A file that must exist is to go.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::of(ActionKind::Delete, path)
    }

    /// The file gets another name.
    pub fn rename(from: impl Into<String>, path: impl Into<String>) -> Self {
        Self { from: Some(from.into()), ..Self::of(ActionKind::Move, path) }
    }

    /// The file gets another mode, such as `100755`.
    pub fn chmod(path: impl Into<String>, mode: impl Into<String>) -> Self {
        Self { mode: Some(mode.into()), ..Self::of(ActionKind::Chmod, path) }
    }
}
