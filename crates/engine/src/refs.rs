//! Branches and tags: list, move by compare-and-swap, delete.

use std::collections::HashMap;

use treehold_catalog::{
    Guard, OpKind, Project, Publish, PublishOutcome, Ref, RefState, RefUpdate, RoaringTreemap, RootSet,
};
use treehold_object::{ObjectId, refname};

use crate::api::{Oid, RefList, RefRequest, RefView};
use crate::mark::Marking;
use crate::text::rfc3339;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 1000;
const LIST_MAX: usize = 10_000;
/// How often a move is worked out again because other refs moved meanwhile.
pub(crate) const TRIES: usize = 5;

/// The code of a ref that cannot be beside another one: one of them would have to be a directory, or only case tells them apart.
pub(crate) const REF_CONFLICT: &str = "ref_conflict";

/// What moves together.
#[derive(Debug)]
pub(crate) struct Moves {
    pub updates: Vec<RefUpdate>,
    /// See [`Publish::lifetimes`].
    pub lifetimes: Vec<(String, Option<i64>)>,
    /// See [`Publish::idle`].
    pub idle: Option<String>,
    /// Whether refs are deleted or set back, so that commits may be lost.
    pub shrinks: bool,
    /// For the reflog and the feed.
    pub reason: &'static str,
}

impl Engine {
    /// Lists refs in byte order of the name.
    pub async fn refs(
        &self,
        project: &str,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<RefList> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let project = self.find_project(project).await?;
        let after: Option<String> = cursor.map(crate::text::read_cursor).transpose()?;
        let prefix = prefix.unwrap_or("refs/");
        // No name has one, and not every database takes such a text.
        if prefix.contains('\0') || after.as_ref().is_some_and(|after| after.contains('\0')) {
            return Ok(RefList { refs: Vec::new(), next_cursor: None });
        }
        let mut found = self.catalog.references_page(project.id, prefix, after.as_deref(), limit as u32 + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more);
        let next_cursor = last.map(|last| crate::text::write_cursor(&last.name)).transpose()?;
        Ok(RefList { refs: found.into_iter().map(view).collect(), next_cursor })
    }

    /// Creates or moves a ref to a commit that the project reaches. `true` = it is new.
    pub async fn put_ref(&self, project: &str, name: &str, request: &RefRequest) -> Result<(RefView, bool)> {
        let project = self.find_project(project).await?;
        for _ in 0..TRIES {
            if let Some(answer) = self.try_put_ref(&project, name, request).await? {
                return Ok(answer);
            }
        }
        Err(EngineError::Busy)
    }

    /// `None` = what it rests on changed meanwhile.
    async fn try_put_ref(
        &self,
        project: &Project,
        name: &str,
        request: &RefRequest,
    ) -> Result<Option<(RefView, bool)>> {
        let seen = self.catalog.ref_state(project.id).await?;
        let name = full_name(name)?;
        let Oid(new) = request.oid;
        if !request.restore {
            self.check_reached_commit(project, new).await?;
        }
        let existing = self.catalog.references(project.id, "refs/").await?;
        let known = existing.iter().find(|found| found.name == name);
        let old = known.map(|found| found.oid);
        let lifetime = Self::lifetime(project, &name, request, known)?;
        let expected = match request.expected_oid {
            Some(Oid(oid)) if oid.is_null() => None,
            Some(Oid(oid)) => Some(oid),
            None => old,
        };
        if expected != old {
            return Err(ref_moved(&name, old));
        }
        if old.is_none() {
            refuse_beside(&existing, &name)?;
        }
        if request.restore {
            if old.is_some() {
                return Err(ref_moved(&name, old));
            }
            return match self.try_restore(project, &name, new, lifetime).await? {
                true => Ok(Some((self.moved_view(project, name, new, lifetime).await?, true))),
                false => Ok(None),
            };
        }
        let rewind = match old {
            Some(old) => !self.is_ancestor(project.id, old, new).await?,
            None => false,
        };
        if rewind && !(request.force && request.expected_oid.is_some()) {
            return Err(not_fast_forward(
                "The move is not a fast-forward; give `expected_oid` and `force` to allow it.",
            ));
        }
        let updates = vec![RefUpdate { name: name.clone(), expected: old, new: Some(new) }];
        let lifetimes = lifetime.map(|lifetime_ms| (name.clone(), lifetime_ms)).into_iter().collect();
        let moves = Moves { updates, lifetimes, idle: None, shrinks: rewind, reason: "update" };
        match self.apply_moves(project, moves, &existing, seen).await? {
            true => Ok(Some((self.moved_view(project, name, new, lifetime).await?, old.is_none()))),
            false => Ok(None),
        }
    }

    /// A ref as it is after a move, which said this of its lifetime.
    async fn moved_view(
        &self,
        project: &Project,
        name: String,
        oid: ObjectId,
        lifetime: Option<Option<i64>>,
    ) -> Result<RefView> {
        let expires_at = match lifetime {
            Some(Some(_)) => self.shown_end(project.id, &name).await?,
            _ => None,
        };
        Ok(RefView { name, oid: Oid(oid), expires_at })
    }

    /// Whether the project may have one more ref of this name, before something is fetched or pushed that needs it. What counts is what
    /// the publication finds.
    pub(crate) async fn check_room_for_ref(&self, project: &Project, name: &str) -> Result<()> {
        let existing = self.catalog.references(project.id, "refs/").await?;
        refuse_beside(&existing, name)?;
        let limit = self.config.limits.refs;
        if existing.len() >= limit {
            return Err(EngineError::TooLarge { what: "the project", limit: limit as u64, unit: "refs" });
        }
        Ok(())
    }

    async fn check_reached_commit(&self, project: &Project, oid: ObjectId) -> Result<()> {
        let readable = self.catalog.may_read(project.id, &[oid]).await?[0];
        let is_commit = self.catalog.generations(&[oid]).await?[0].is_some();
        if readable && is_commit {
            return Ok(());
        }
        Err(EngineError::unprocessable("unknown_oid", "The oid is no commit that this project reaches."))
    }

    /// Deletes a ref. What only it reached can no longer be read.
    pub async fn delete_ref(&self, project: &str, name: &str, expected: Option<ObjectId>) -> Result<()> {
        let project = self.find_project(project).await?;
        for _ in 0..TRIES {
            if self.try_delete_ref(&project, name, expected).await? {
                return Ok(());
            }
        }
        Err(EngineError::Busy)
    }

    /// `false` = what it rests on changed meanwhile.
    async fn try_delete_ref(&self, project: &Project, name: &str, expected: Option<ObjectId>) -> Result<bool> {
        let seen = self.catalog.ref_state(project.id).await?;
        let name = full_name(name)?;
        let existing = self.catalog.references(project.id, "refs/").await?;
        let old = existing.iter().find(|found| found.name == name).map(|found| found.oid);
        let old = old.ok_or_else(|| EngineError::not_found("ref_not_found", format!("There is no ref {name:?}.")))?;
        if expected.is_some_and(|expected| expected != old) {
            return Err(ref_moved(&name, Some(old)));
        }
        if name == crate::view::branch_ref(&project.default_branch) {
            let detail = "The default branch cannot be deleted.";
            return Err(EngineError::unprocessable("default_branch", detail));
        }
        let updates = vec![RefUpdate { name, expected: Some(old), new: None }];
        let moves = Moves { updates, lifetimes: Vec::new(), idle: None, shrinks: true, reason: "delete" };
        self.apply_moves(project, moves, &existing, seen).await
    }

    /// `seen` is from before `existing` was read and anything was judged. `false` = it does not hold any more.
    pub(crate) async fn apply_moves(
        &self,
        project: &Project,
        moves: Moves,
        existing: &[Ref],
        seen: RefState,
    ) -> Result<bool> {
        let Moves { updates, lifetimes, idle, shrinks, reason } = moves;
        let mut op = self.begin_op(Some(project.id), OpKind::Refs).await?;
        let id = op.id;
        // A new name was judged beside all others, what is lost was worked out from all of them, and a lifetime from what it was.
        let new_name = updates.iter().any(|update| update.expected.is_none());
        let whole = shrinks || new_name || updates.len() > 1 || !lifetimes.is_empty();
        let guard = if whole { Guard::Unmoved(seen) } else { Guard::Kept(seen) };
        let published = async {
            let targets: Vec<_> = updates.iter().map(|update| (update.name.as_str(), update.new)).collect();
            let reach = if shrinks { self.shrunk_reach(project, existing, &targets).await? } else { None };
            let replace_reach = reach.is_some();
            op.numbers = reach.unwrap_or_default();
            let gone = targets.iter().filter(|(_, new)| new.is_none());
            let publish = Publish {
                guard: Some(guard),
                idle,
                replace_reach,
                lifetimes,
                remote_refs: gone.map(|(name, _)| ((*name).to_owned(), None)).collect(),
                ..self.publication(project.id, &op, updates.clone(), reason)
            };
            Ok(self.catalog.publish(&publish).await?)
        };
        let published = self.kept_alive(id, published).await;
        if !matches!(published, Ok(PublishOutcome::Published)) {
            self.end(id).await;
        }
        match published? {
            PublishOutcome::Published => Ok(true),
            PublishOutcome::Overtaken => Ok(false),
            PublishOutcome::Moved(name, oid) => Err(ref_moved(&name, oid)),
        }
    }

    /// What the project reaches once refs were moved or deleted; `None` where that loses nothing, so that it need not be found out.
    pub(crate) async fn shrunk_reach(
        &self,
        project: &Project,
        existing: &[Ref],
        updates: &[(&str, Option<ObjectId>)],
    ) -> Result<Option<RoaringTreemap>> {
        let updates: HashMap<&str, Option<ObjectId>> = updates.iter().copied().collect();
        let remote = self.catalog.remote_references(project.id, "refs/").await?;
        // What the remote was seen to have stays known where a branch is moved, and is forgotten where it is deleted.
        let remote = remote.iter().filter(|known| updates.get(known.name.as_str()) != Some(&None));
        let stays = existing.iter().filter(|found| !updates.contains_key(found.name.as_str()));
        let mut tips: Vec<ObjectId> = remote.chain(stays).map(|known| known.oid).collect();
        tips.extend(updates.values().flatten());
        tips.sort_unstable();
        tips.dedup();
        let touched = existing.iter().filter(|found| updates.contains_key(found.name.as_str()));
        let gone: Vec<ObjectId> = touched.map(|found| found.oid).collect();
        let commits = self.catalog.generations(&gone).await?.iter().all(Option::is_some);
        if commits && self.compare(project.id, &gone, &tips).await?.ours.is_empty() {
            return Ok(None);
        }
        self.closure(project, tips).await.map(Some)
    }

    /// What becomes of the project's reach once the remote's branch `name` is known to be at `new`. `shallow` are its cuts by then.
    pub(crate) async fn without_remote(
        &self,
        project: &Project,
        name: &str,
        new: Option<ObjectId>,
        shallow: &[ObjectId],
    ) -> Result<Shift> {
        let mut remote = self.catalog.remote_references(project.id, "refs/").await?;
        let Some(at) = remote.iter().position(|known| known.name == name) else { return Ok(Shift::Grows) };
        let gone = remote.swap_remove(at).oid;
        let onward = match new {
            Some(new) => self.is_ancestor(project.id, gone, new).await?,
            None => false,
        };
        if onward {
            return Ok(Shift::Grows);
        }
        let ours = self.catalog.references(project.id, "refs/").await?;
        let mut tips: Vec<ObjectId> = remote.iter().chain(&ours).map(|known| known.oid).chain(new).collect();
        tips.sort_unstable();
        tips.dedup();
        if self.compare(project.id, &[gone], &tips).await?.ours.is_empty() {
            return Ok(Shift::Keeps);
        }
        self.closure_with(project, tips, shallow).await.map(Shift::Becomes)
    }

    /// Records where the remote's branch is, if nothing had to be fetched for that. `before`: where it was known to be when the remote was
    /// asked.
    pub(crate) async fn note_remote(
        &self,
        project: &Project,
        name: &str,
        mut before: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let seen = self.catalog.ref_state(project.id).await?;
            let shallow = self.catalog.shallow(project.id).await?;
            if let Some(tip) = new
                && self.catalog.may_read(project.id, &[tip]).await? != [true]
            {
                return Err(EngineError::Busy);
            }
            let mut op = self.begin_op(Some(project.id), OpKind::Refs).await?;
            let id = op.id;
            let published = async {
                let shift = self.without_remote(project, name, new, &shallow).await?;
                let replace_reach = shift.replaces();
                op.numbers = shift.reach().unwrap_or_default();
                let publish = Publish {
                    guard: Some(Guard::Unmoved(seen)),
                    remote_refs: vec![(name.to_owned(), new)],
                    remote_seen: vec![(name.to_owned(), before)],
                    replace_reach,
                    ..self.publication(project.id, &op, Vec::new(), "fetch")
                };
                Ok(self.catalog.publish(&publish).await?)
            };
            let published = self.kept_alive(id, published).await;
            if matches!(published, Ok(PublishOutcome::Published)) {
                return Ok(());
            }
            self.end(id).await;
            published?;
            match self.known_since(project, name, before, new).await? {
                Since::Nothing => {}
                Since::Behind(known) => before = Some(known),
                Since::Passed => return Ok(()),
                Since::Apart => break,
            }
        }
        Err(EngineError::Busy)
    }

    /// How the remote's branch, just seen at `new`, stands to what another engine has recorded since it was known to be at `before`. The
    /// remote goes forward, as a rule: what is on top was seen later.
    pub(crate) async fn known_since(
        &self,
        project: &Project,
        name: &str,
        before: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<Since> {
        let remote = self.catalog.remote_references(project.id, name).await?;
        let known = remote.iter().find(|known| known.name == name).map(|known| known.oid);
        if known == before {
            return Ok(Since::Nothing);
        }
        if known == new {
            return Ok(Since::Passed);
        }
        let (Some(known), Some(new)) = (known, new) else { return Ok(Since::Apart) };
        if self.is_ancestor(project.id, new, known).await? {
            return Ok(Since::Passed);
        }
        let behind = self.is_ancestor(project.id, known, new).await?;
        Ok(if behind { Since::Behind(known) } else { Since::Apart })
    }

    /// Ledger numbers of everything that `tips` reach, by a walk. Costs as much as the history is long: only for refs that go
    /// away or are rewound, and for a bundle of one of them.
    pub(crate) async fn closure(&self, project: &Project, tips: Vec<ObjectId>) -> Result<RoaringTreemap> {
        let shallow = self.catalog.shallow(project.id).await?;
        self.closure_with(project, tips, &shallow).await
    }

    async fn closure_with(
        &self,
        project: &Project,
        tips: Vec<ObjectId>,
        shallow: &[ObjectId],
    ) -> Result<RoaringTreemap> {
        let cuts = self.numbers_of(shallow).await?;
        let firm = self.numbers_of(&tips).await?;
        let mut marking = Marking::new(self, &(), None);
        marking.walk(&[RootSet { project: Some(project.id), cuts, firm, loose: RoaringTreemap::new() }]).await?;
        Ok(marking.reached())
    }

    /// Ledger numbers of objects, all of which must be stored.
    async fn numbers_of(&self, oids: &[ObjectId]) -> Result<RoaringTreemap> {
        let numbers = self.catalog.numbers(oids).await?;
        let found = oids.iter().zip(numbers).map(|(oid, found)| match found {
            Some((number, _)) => Ok(number),
            None => Err(EngineError::internal(format!("reachable object {oid} is not in the ledger"))),
        });
        found.collect()
    }
}

/// What a move of the remote's branch does to reach.
#[derive(Debug)]
pub(crate) enum Shift {
    /// It goes forward, or was not known before.
    Grows,
    /// What it had is reached by other refs, as they are now.
    Keeps,
    /// What only it had is lost: reach is this from now on, with the other refs as they are now.
    Becomes(RoaringTreemap),
}

impl Shift {
    /// Whether reach is replaced.
    pub fn replaces(&self) -> bool {
        matches!(self, Self::Becomes(_))
    }

    /// What it is then.
    pub fn reach(self) -> Option<RoaringTreemap> {
        match self {
            Self::Becomes(reach) => Some(reach),
            Self::Grows | Self::Keeps => None,
        }
    }
}

/// What another engine has recorded of the remote's branch while this one looked at it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// Nothing else.
    Nothing,
    /// A commit below what was seen here.
    Behind(ObjectId),
    /// The same, or what is on top of it.
    Passed,
    /// Something else. Which of the two was seen later is not known, and what is recorded is not taken back.
    Apart,
}

fn view(found: Ref) -> RefView {
    let expires_at = found.ephemeral.map(|end| rfc3339(end.expires_at_ms));
    RefView { name: found.name, oid: Oid(found.oid), expires_at }
}

/// A ref that users may move: branches and tags, by full name, with or without `refs/`.
pub(crate) fn full_name(name: &str) -> Result<String> {
    let full = if name.starts_with("refs/") { name.to_owned() } else { format!("refs/{name}") };
    let bad = |why: String| EngineError::unprocessable("bad_ref", format!("The ref {full:?} is refused: {why}."));
    refname::check_full(&full).map_err(|error| bad(error.to_string()))?;
    if !full.starts_with("refs/heads/") && !full.starts_with("refs/tags/") {
        return Err(bad("only refs/heads/ and refs/tags/ can be changed".to_owned()));
    }
    Ok(full)
}

/// Refuses a new ref that cannot be beside those that are there.
pub(crate) fn refuse_beside(existing: &[Ref], name: &str) -> Result<()> {
    let names = existing.iter().map(|found| found.name.as_bytes());
    match refname::conflicts(names, name) {
        Some(clash) => Err(ref_conflict(name, &clash.existing().to_string())),
        None => Ok(()),
    }
}

/// See [`REF_CONFLICT`].
pub(crate) fn ref_conflict(name: &str, existing: &str) -> EngineError {
    let detail = format!("{name:?} cannot be beside the ref {existing:?}.");
    EngineError::Conflict { code: REF_CONFLICT, detail }
}

pub(crate) fn not_fast_forward(detail: &str) -> EngineError {
    EngineError::Conflict { code: "not_fast_forward", detail: detail.to_owned() }
}

pub(crate) fn ref_moved(name: &str, oid: Option<ObjectId>) -> EngineError {
    EngineError::RefMoved { name: name.to_owned(), oid: oid.map(Oid) }
}
