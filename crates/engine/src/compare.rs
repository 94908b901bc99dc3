//! What a diff compares: two trees that the project reaches, or one and a user's view; page by page, with renames where asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use treehold_catalog::Project;
use treehold_object::{BString, Kind, ObjectId};

use crate::api::{At, DiffRequest, Mode, Oid, Path, TreeChange, TreeDiff};
use crate::files::pending_item;
use crate::text::{read_cursor, write_cursor};
use crate::tree::{Change, WalkFrom};
use crate::view::{Overlay, View};
use crate::{Engine, EngineError, Result};

/// Changes of a page: where nobody says otherwise, and at most.
const LIMIT_DEFAULT: usize = 1000;
pub(crate) const LIMIT_MAX: usize = 10_000;
/// Deleted files of one content that are looked at for the one that a file was renamed from, as in git.
const SOURCES_MAX: usize = 100;

/// One side: what was named, a commit or a tree, and its tree. Both `None` on an unborn branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub oid: Option<ObjectId>,
    pub tree: Option<ObjectId>,
}

/// Where a comparison goes on: its two sides, and the last path shown.
#[derive(Serialize, Deserialize)]
struct DiffCursor {
    from: Option<Oid>,
    to: Option<Oid>,
    revision: Option<i64>,
    #[serde(with = "crate::text::bytes_text")]
    after: Vec<u8>,
}

/// A change, and the path that the file had before if it was renamed.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub change: Change,
    pub from: Option<BString>,
}

/// What differs.
pub(crate) struct Compared {
    pub project: Project,
    pub from: Point,
    pub to: Point,
    /// Of the user's workspace.
    pub revision: Option<i64>,
    /// In byte order of the path.
    pub changes: Vec<Moved>,
    pub next_cursor: Option<String>,
}

impl Engine {
    /// What differs between two trees, or a tree and a user's view, without the texts.
    pub async fn diff_names(&self, project: &str, request: &DiffRequest) -> Result<TreeDiff> {
        let limit = request.limit.unwrap_or(LIMIT_DEFAULT);
        let compared = self.compared(project, request, Some(limit)).await?;
        Ok(TreeDiff {
            from: compared.from.oid.map(Oid),
            to: compared.to.oid.map(Oid),
            from_tree: compared.from.tree.map(Oid),
            to_tree: compared.to.tree.map(Oid).filter(|_| request.user.is_none()),
            revision: compared.revision,
            files: compared.changes.into_iter().map(tree_change).collect(),
            next_cursor: compared.next_cursor,
        })
    }

    /// Compares what a request names; a page of it, if there is a limit. Without one, more than [`LIMIT_MAX`] changes may not be all.
    pub(crate) async fn compared(
        &self,
        project: &str,
        request: &DiffRequest,
        limit: Option<usize>,
    ) -> Result<Compared> {
        let cursor: Option<DiffCursor> = request.cursor.as_deref().map(read_cursor).transpose()?;
        let (project, to, overlay) = self.newer_side(project, request, cursor.as_ref()).await?;
        let from = match (&cursor, &request.from, &overlay) {
            (Some(cursor), ..) => self.point_again(&project, cursor.from).await?,
            (None, Some(from), _) => self.point(&project, Some(from)).await?,
            (None, None, Some(_)) => to.clone(),
            (None, None, None) => {
                return Err(EngineError::BadRequest("Give `user`, or `from` (and `to`).".to_owned()));
            }
        };
        let after = cursor.map(|cursor| BString::from(cursor.after));
        let prefix: BString = request.prefix.clone().unwrap_or_default().into();
        // A rename may be of a file on an earlier page.
        let within = WalkFrom { prefix, after: after.clone().filter(|_| !request.renames) };
        let revision = overlay.as_ref().map(|overlay| overlay.revision);
        let limit = limit.map(|limit| limit.clamp(1, LIMIT_MAX));
        // One more tells whether there are more, and a row may take one away. A rename may be to or from anywhere.
        let rows = overlay.as_ref().map_or(0, |overlay| overlay.rows.len());
        let most = if request.renames { usize::MAX } else { limit.unwrap_or(LIMIT_MAX) + 1 + rows };
        let mut changes = self.diff_trees_within(from.tree, to.tree, &within, most).await?;
        if let Some(overlay) = overlay {
            changes = self.with_pending(changes, from.tree, overlay, &within).await?;
        }
        let mut changes = if request.renames { renamed(changes) } else { changes.into_iter().map(still).collect() };
        if let Some(after) = &after {
            changes.retain(|moved| moved.change.path > *after);
        }
        let mut next_cursor = None;
        if let Some(limit) = limit.filter(|limit| changes.len() > *limit) {
            changes.truncate(limit);
            let after = changes.last().map(|moved| moved.change.path.to_vec()).unwrap_or_default();
            let (from, to) = (from.oid.map(Oid), to.oid.map(Oid));
            next_cursor = Some(write_cursor(&DiffCursor { from, to, revision, after })?);
        }
        Ok(Compared { project, from, to, revision, changes, next_cursor })
    }

    /// What is compared to: a ref, commit or tree, or the head and the pending work on it.
    async fn newer_side(
        &self,
        project: &str,
        request: &DiffRequest,
        cursor: Option<&DiffCursor>,
    ) -> Result<(Project, Point, Option<Overlay>)> {
        if request.user.is_none() {
            let project = self.find_project(project).await?;
            let to = match cursor {
                Some(cursor) => self.point_again(&project, cursor.to).await?,
                None => self.point(&project, request.to.as_deref()).await?,
            };
            return Ok((project, to, None));
        }
        if request.to.is_some() {
            let why = "Give `user` or `to`, not both: with `user`, that user's view is what is compared to.";
            return Err(EngineError::BadRequest(why.to_owned()));
        }
        let at = At { reference: request.branch.clone(), user: request.user };
        let mut view = self.view(project, &at, None).await?;
        if let Some(cursor) = cursor {
            self.rebind(&mut view, cursor.to, cursor.revision).await?;
        }
        let View { project, head, overlay } = view;
        Ok((project, Point { oid: head.commit, tree: head.tree }, overlay))
    }

    /// The tree that a name means: branch, tag, full ref name, or the oid of a commit or tree that the project reaches. A foreign
    /// oid is the same as an unknown one, after the same work. Everybody has the empty tree.
    async fn point(&self, project: &Project, name: Option<&str>) -> Result<Point> {
        if let Some(Oid(oid)) = name.and_then(|name| name.parse().ok()) {
            let readable = self.catalog.may_read(project.id, &[oid]).await?.contains(&true);
            let located = self.catalog.locate(&[oid]).await?.pop().flatten();
            let is_tree = located.is_some_and(|located| located.kind == Kind::Tree);
            if readable && is_tree || oid == ObjectId::empty_tree(gix_hash::Kind::Sha1) {
                return Ok(Point { oid: Some(oid), tree: Some(oid) });
            }
        }
        let head = self.resolve(project, name).await?;
        Ok(Point { oid: head.commit, tree: head.tree })
    }

    /// A side that a cursor is bound to.
    async fn point_again(&self, project: &Project, oid: Option<Oid>) -> Result<Point> {
        match oid {
            Some(oid) => self.point(project, Some(&oid.to_string())).await,
            None => Ok(Point::default()),
        }
    }

    /// Puts pending rows over what differs.
    async fn with_pending(
        &self,
        changes: Vec<Change>,
        from: Option<ObjectId>,
        overlay: Overlay,
        within: &WalkFrom,
    ) -> Result<Vec<Change>> {
        let mut changes: BTreeMap<BString, Change> =
            changes.into_iter().map(|change| (change.path.clone(), change)).collect();
        let rows: Vec<_> = overlay.rows.into_values().filter(|row| within.takes(&row.path)).collect();
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(from, &paths).await?;
        for (row, old) in rows.into_iter().zip(there) {
            let old = old.filter(|item| !item.is_tree());
            let change = Change { new: pending_item(&row), old, path: row.path };
            match change.old == change.new {
                true => _ = changes.remove(&change.path),
                false => _ = changes.insert(change.path.clone(), change),
            }
        }
        Ok(changes.into_values().collect())
    }
}

fn still(change: Change) -> Moved {
    Moved { change, from: None }
}

/// Pairs files that came with ones that went and had the same content, as `git diff -M100%` does: each goes to one place at most, one
/// of the same name if there is one.
fn renamed(changes: Vec<Change>) -> Vec<Moved> {
    let mut gone: HashMap<ObjectId, Vec<usize>> = HashMap::new();
    // The first one stands last, so that taking one out costs little.
    for (index, change) in changes.iter().enumerate().rev() {
        if let (Some(old), None) = (change.old, change.new) {
            gone.entry(old.oid).or_default().push(index);
        }
    }
    let name = |path: &BString| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
    let is_file = |mode: u32| mode & 0o170_000 == 0o100_000;
    let mut source: HashMap<usize, usize> = HashMap::new();
    for (index, change) in changes.iter().enumerate() {
        let (None, Some(new)) = (change.old, change.new) else { continue };
        let Some(sources) = gone.get_mut(&new.oid) else { continue };
        let fits = |at: &&usize| {
            let old = changes[**at].old.map_or(0, |old| old.mode);
            old == new.mode || is_file(old) && is_file(new.mode)
        };
        let fitting: Vec<usize> = sources.iter().rev().take(SOURCES_MAX).filter(fits).copied().collect();
        let same = fitting.iter().find(|at| name(&changes[**at].path) == name(&change.path));
        if let Some(&from) = same.or(fitting.first()) {
            if let Some(at) = sources.iter().rposition(|at| *at == from) {
                sources.remove(at);
            }
            source.insert(index, from);
        }
    }
    let used: HashSet<usize> = source.values().copied().collect();
    let old = |index: usize| source.get(&index).map(|from| (changes[*from].old, changes[*from].path.clone()));
    let mut moved = Vec::with_capacity(changes.len() - used.len());
    for (index, change) in changes.iter().enumerate() {
        if used.contains(&index) {
            continue;
        }
        moved.push(match old(index) {
            Some((old, from)) => Moved { change: Change { old, ..change.clone() }, from: Some(from) },
            None => still(change.clone()),
        });
    }
    moved
}

/// A change as answers show it.
pub(crate) fn tree_change(Moved { change, from }: Moved) -> TreeChange {
    let action = match (change.old, change.new, &from) {
        (_, _, Some(_)) => "renamed",
        (None, _, _) => "created",
        (_, None, _) => "deleted",
        _ => "modified",
    };
    let text = from.as_ref().map(|from| String::from_utf8_lossy(from).into_owned());
    TreeChange {
        path: Path(change.path),
        action,
        old_path: text,
        old_path_b64: from.as_ref().filter(|from| std::str::from_utf8(from).is_err()).map(|from| base64(from)),
        old_oid: change.old.map(|item| Oid(item.oid)),
        new_oid: change.new.map(|item| Oid(item.oid)),
        old_mode: change.old.map(|item| Mode(item.mode)),
        new_mode: change.new.map(|item| Mode(item.mode)),
        old_name: from,
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
