//! Commits with actions, and of one file: changes that come with the request instead of from a workspace.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use treehold_catalog::Origin;
use treehold_object::{BString, Kind, ObjectId};

use super::change::ChangeRow;
use super::request::{Claimed, Key};
use super::{Changes, Policy};
use crate::api::{
    ActionKind, ActionsRequest, Author, CommitAction, CommitAnswer, Condition, Encoding, FileCommit, Mode, Oid,
    OnConflict,
};
use crate::files::shaped_path;
use crate::remote::Secret;
use crate::tree::{Edit, FILE, GITLINK, Item, SYMLINK};
use crate::view::Head;
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// What a request asks, with contents decoded and named; it is judged against the head in each round.
pub(crate) enum Judged<'a> {
    Actions(Vec<Action<'a>>),
    File { path: BString, mode: Option<Mode>, condition: &'a Condition, content: Option<NewBytes> },
}

impl Judged<'_> {
    /// The contents that come with the request, and their sizes in bytes.
    pub fn contents(&self) -> Vec<(ObjectId, u64)> {
        let sized = |blob: &NewBytes| (blob.oid, blob.content.len() as u64);
        match self {
            Self::Actions(actions) => actions.iter().filter_map(|action| action.content.as_ref()).map(sized).collect(),
            Self::File { content, .. } => content.iter().map(sized).collect(),
        }
    }
}

/// One action.
pub(crate) struct Action<'a> {
    asked: &'a CommitAction,
    path: BString,
    from: Option<BString>,
    content: Option<NewBytes>,
}

/// A path in the hash of a request: two that are not UTF-8 are two, and keys of all others stay what they were.
#[derive(Serialize)]
#[serde(untagged)]
enum Hashed<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Hashed<'a> {
    fn of(path: &'a [u8]) -> Self {
        std::str::from_utf8(path).map_or(Self::Bytes(path), Self::Text)
    }
}

impl Engine {
    /// Makes one commit of many files without pending work.
    pub async fn commit_actions(
        &self,
        project: &str,
        request: &ActionsRequest,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        let project = self.find_project(project).await?;
        let key = Key::new(idempotency_key, "commits", request)?;
        if let Claimed::Answered(answer) = self.claim(&project, &key).await? {
            return answer;
        }
        let limit = self.config.limits.commit_changes;
        if request.actions.len() > limit {
            return Err(EngineError::TooLarge { what: "the commit", limit: limit as u64, unit: "changes" });
        }
        let branch = Self::branch_name(&project, request.branch.as_deref())?;
        let push = self.pushes(&project, &branch, request.push).await?;
        let mut intent = self.intent(&project, &branch, &request.message, &request.author, push)?;
        intent.idempotency_key = idempotency_key.map(str::to_owned);
        let actions = request.actions.iter().map(|action| self.decode(action)).collect::<Result<Vec<_>>>()?;
        let policy = Policy {
            on_conflict: OnConflict::Merge,
            dry_run: false,
            expected_head: request.expected_head_sha.map(|oid| oid.0),
        };
        self.run_commit(intent, Changes::Actions(Judged::Actions(actions)), policy, credentials, key).await
    }

    /// Commits one file, not pushed.
    pub async fn commit_file(
        &self,
        project: &str,
        path: &[u8],
        change: FileCommit,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        let path = shaped_path(path)?;
        let project = self.find_project(project).await?;
        let content = change.content.clone().map(|content| self.named(content)).transpose()?;
        let author = (&change.author_name, &change.author_email);
        let to = (content.as_ref().map(|blob| Oid(blob.oid)), change.mode);
        let body = (Hashed::of(&path), to, &change.message, &change.branch, author);
        let key = Key::new(idempotency_key, "file", &body)?;
        if let Claimed::Answered(answer) = self.claim(&project, &key).await? {
            return answer;
        }
        let branch = Self::branch_name(&project, change.branch.as_deref())?;
        let (name, email) = self.config.author.clone();
        let author = Author {
            name: change.author_name.clone().unwrap_or(name),
            email: change.author_email.clone().unwrap_or(email),
            date: None,
        };
        let verb = if content.is_some() { "Update" } else { "Delete" };
        let message = change.message.clone().unwrap_or_else(|| format!("{verb} {path}"));
        let mut intent = self.intent(&project, &branch, &message, &author, false)?;
        intent.idempotency_key = idempotency_key.map(str::to_owned);
        let judged = Judged::File { path, mode: change.mode, condition: &change.condition, content };
        let policy = Policy { on_conflict: OnConflict::Merge, dry_run: false, expected_head: None };
        self.run_commit(intent, Changes::Actions(judged), policy, credentials, key).await
    }

    fn named(&self, content: Bytes) -> Result<NewBytes> {
        let limit = self.config.limits.file_bytes;
        if content.len() as u64 > limit {
            return Err(EngineError::TooLarge { what: "the file", limit, unit: "bytes" });
        }
        NewBytes::of(Kind::Blob, content)
    }

    fn decode<'a>(&self, asked: &'a CommitAction) -> Result<Action<'a>> {
        let content = match (&asked.content, asked.encoding) {
            (None, _) => None,
            (Some(text), None | Some(Encoding::Utf8)) => Some(Bytes::copy_from_slice(text.as_bytes())),
            (Some(text), Some(Encoding::Base64)) => {
                let decoded = BASE64_STANDARD.decode(text).map_err(|_| {
                    EngineError::unprocessable("bad_content", format!("The content of {:?} is not base64.", asked.path))
                })?;
                Some(decoded.into())
            }
        };
        Ok(Action {
            asked,
            path: shaped_path(asked.path.as_bytes())?,
            from: asked.from.as_ref().map(|from| shaped_path(from.as_bytes())).transpose()?,
            content: content.map(|content| self.named(content)).transpose()?,
        })
    }

    /// Judges what is asked against the head.
    pub(crate) async fn judge_actions(&self, judged: &Judged<'_>, head: &Head) -> Result<Vec<ChangeRow>> {
        match judged {
            Judged::File { path, mode, condition, content } => {
                let there = self.find_paths(head.tree, std::slice::from_ref(path)).await?[0];
                let row = judge_file(path, *mode, condition, content.as_ref(), there)?;
                Ok(vec![row])
            }
            Judged::Actions(actions) => {
                let mut paths: Vec<BString> = actions.iter().map(|action| action.path.clone()).collect();
                paths.extend(actions.iter().filter_map(|action| action.from.clone()));
                let found = self.find_paths(head.tree, &paths).await?;
                let there: BTreeMap<BString, Option<Item>> = paths.into_iter().zip(found).collect();
                let mut rows: BTreeMap<BString, ChangeRow> = BTreeMap::new();
                for action in actions {
                    for row in judge_action(action, &there)? {
                        if let Some(row) = rows.insert(row.path.clone(), row) {
                            return Err(refused("duplicate_path", &row.path, "is named by two actions"));
                        }
                    }
                }
                let rows: Vec<ChangeRow> = rows.into_values().collect();
                self.check_kept_targets(&rows).await?;
                Ok(rows)
            }
        }
    }

    /// Judges the targets of symlinks that are moved, or made by a change of mode, from bytes that are stored already.
    async fn check_kept_targets(&self, rows: &[ChangeRow]) -> Result<()> {
        let links = rows.iter().filter_map(|row| Some((&row.path, row.new.filter(|_| row.content.is_none())?)));
        let (paths, oids): (Vec<_>, Vec<_>) =
            links.filter(|(_, item)| item.mode == SYMLINK).map(|(path, item)| (path, item.oid)).unzip();
        for (path, target) in paths.into_iter().zip(self.contents(&oids).await?) {
            let target = target.ok_or_else(|| EngineError::internal("a stored object could not be read"))?;
            treehold_object::path::check_symlink_target(path, &target)
                .map_err(|error| crate::files::bad_path(&error))?;
        }
        Ok(())
    }
}

fn refused(code: &'static str, path: &BString, why: &str) -> EngineError {
    EngineError::unprocessable(code, format!("{path:?} {why}."))
}

fn change(path: &BString, there: Option<Item>, new: Edit, content: Option<&NewBytes>) -> ChangeRow {
    ChangeRow {
        path: path.clone(),
        base: there.into(),
        new,
        content: content.map(|blob| blob.content.clone()),
        revision: None,
        origin: Origin::default(),
    }
}

fn editable(path: &BString, there: Option<Item>) -> Result<Option<Item>> {
    match there {
        Some(item) if item.mode == GITLINK => {
            Err(refused("bad_path", path, "is a submodule and cannot be edited as a file"))
        }
        Some(item) if item.is_tree() => Ok(None),
        other => Ok(other),
    }
}

/// What becomes a symlink is judged as a new name; a target that comes with the request is judged each time.
fn check_link(path: &BString, there: Option<Item>, mode: u32, content: Option<&NewBytes>) -> Result<()> {
    if mode != SYMLINK {
        return Ok(());
    }
    let bad = |error| crate::files::bad_path(&error);
    if there.is_none_or(|item| item.mode != SYMLINK) {
        treehold_object::path::check_new_name(path, mode).map_err(bad)?;
    }
    match content {
        Some(blob) => treehold_object::path::check_symlink_target(path, &blob.content).map_err(bad),
        None => Ok(()),
    }
}

fn judge_file(
    path: &BString,
    mode: Option<Mode>,
    condition: &Condition,
    content: Option<&NewBytes>,
    there: Option<Item>,
) -> Result<ChangeRow> {
    let there = editable(path, there)?;
    if !condition.holds(there.map(|item| item.oid)) {
        return Err(EngineError::Precondition { oid: there.map(|item| Oid(item.oid)), revision: None });
    }
    let new = match content {
        None if there.is_none() => return Err(crate::files::not_found(None)),
        None => None,
        Some(blob) => {
            let mode = mode.map(|mode| mode.0).or(there.map(|item| item.mode)).unwrap_or(FILE);
            check_link(path, there, mode, content)?;
            Some(Item { mode, oid: blob.oid })
        }
    };
    Ok(change(path, there, new, content))
}

/// The one or two rows that an action makes.
fn judge_action(action: &Action<'_>, there: &BTreeMap<BString, Option<Item>>) -> Result<Vec<ChangeRow>> {
    let (asked, path) = (action.asked, &action.path);
    let at = editable(path, there[path])?;
    let source = match (&action.from, asked.action) {
        (Some(from), ActionKind::Move) => editable(from, there[from])?,
        (None, ActionKind::Move) => return Err(refused("bad_action", path, "is moved, but `from` is missing")),
        (Some(_), _) => return Err(refused("bad_action", path, "has `from`, which only a move takes")),
        (None, _) => at,
    };
    if let Some(Oid(expected)) = asked.expected_oid
        && source.map(|item| item.oid) != Some(expected)
    {
        return Err(EngineError::Precondition { oid: source.map(|item| Oid(item.oid)), revision: None });
    }
    let exists =
        |item: Option<Item>, path: &BString| item.ok_or_else(|| refused("file_missing", path, "does not exist"));
    let content = action.content.as_ref();
    let absent = || match at {
        None => Ok(()),
        Some(_) => Err(refused("file_exists", path, "exists already")),
    };
    let mode = |kept: Option<Item>| asked.mode.map(|mode| mode.0).or(kept.map(|item| item.mode)).unwrap_or(FILE);
    let needed = || content.ok_or_else(|| refused("bad_action", path, "needs `content`"));
    let rows = match asked.action {
        ActionKind::Create => {
            absent()?;
            vec![change(path, None, Some(Item { mode: mode(None), oid: needed()?.oid }), content)]
        }
        ActionKind::Update => {
            let old = exists(at, path)?;
            vec![change(path, at, Some(Item { mode: mode(Some(old)), oid: needed()?.oid }), content)]
        }
        ActionKind::Delete => {
            exists(at, path)?;
            vec![change(path, at, None, None)]
        }
        ActionKind::Chmod => {
            let old = exists(at, path)?;
            let mode = asked.mode.ok_or_else(|| refused("bad_action", path, "needs `mode`"))?.0;
            let oid = content.map_or(old.oid, |blob| blob.oid);
            vec![change(path, at, Some(Item { mode, oid }), content)]
        }
        ActionKind::Move => {
            let from = action.from.as_ref().ok_or_else(|| refused("bad_action", path, "needs `from`"))?;
            let old = exists(source, from)?;
            absent()?;
            let new = Item { mode: mode(Some(old)), oid: content.map_or(old.oid, |blob| blob.oid) };
            vec![change(from, source, None, None), change(path, None, Some(new), content)]
        }
    };
    for row in &rows {
        check_link(&row.path, there[&row.path], row.new.map_or(0, |item| item.mode), content)?;
    }
    Ok(rows)
}
