//! Pull: what the remote has comes in, our branch goes forward, pending work stays as it is.

mod fetch;
mod merge;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use treehold_catalog::{
    Guard, OpKind, PendingRow, Project, Publish, PublishOutcome, RefState, RefUpdate, WorkspaceKey,
};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::api::{ChangedFile, Mode, Oid, OnDiverged, Path, PendingAction, SyncAnswer, SyncRequest, TouchedPending};
use crate::landed::Standing;
use crate::progress::Progress;
use crate::remote::allow::is_http;
use crate::remote::{Endpoint, Secret};
use crate::tree::{Change, Found, Side, WalkFrom};
use crate::view::{Head, branch_ref};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// How many changed paths an answer lists; `changed_count` counts all.
const CHANGED_MAX: usize = 10_000;
/// Where no more paths changed, they are looked for in everybody's pending work, not the other way round.
const CHANGED_FEW: usize = 256;
/// How many branches of the remote an error names.
const BRANCHES_SHOWN: usize = 5;

impl Engine {
    /// Where the project's remote is. Only an operator can have registered a local path. Whoever may give a project a remote on any host
    /// must not have the server's own token sent to one of theirs.
    pub(crate) fn endpoint(&self, project: &Project, credentials: Option<Secret>) -> Option<Endpoint> {
        let url = project.remote_url.clone()?;
        let operator = !is_http(&url);
        let configured = || self.configured_credentials(&url).filter(|_| self.remote.names_host(&url));
        let credentials = credentials.or_else(configured);
        Some(Endpoint { url, credentials, operator })
    }

    pub(crate) fn needed_endpoint(&self, project: &Project, credentials: Option<Secret>) -> Result<Endpoint> {
        self.endpoint(project, credentials)
            .ok_or_else(|| EngineError::unprocessable("no_remote", "The project has no remote; create it with one."))
    }

    /// Fetches the remote's branch and fast-forwards ours. Pending work is never touched; the answer says which of it lies on
    /// paths that changed, and how it stands.
    pub async fn sync(
        &self,
        project: &str,
        request: &SyncRequest,
        credentials: Option<Secret>,
        progress: &dyn Progress,
    ) -> Result<SyncAnswer> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, request.branch.as_deref())?;
        let at = self.needed_endpoint(&project, credentials)?;
        self.sync_at(&project, &branch, request, &at, progress).await
    }

    pub(crate) async fn sync_at(
        &self,
        project: &Project,
        branch: &str,
        request: &SyncRequest,
        at: &Endpoint,
        progress: &dyn Progress,
    ) -> Result<SyncAnswer> {
        let lock = self.branch_lock(project.id, branch);
        let _turn = lock.lock().await;
        if !request.dry_run {
            self.check_room_for_branch(project, branch).await?;
        }
        let fetched = self.fetch_remote(project, branch, at, request.depth, progress).await?;
        // What was fetched must still be reached when our branch goes there.
        let seen = self.catalog.ref_state(project.id).await?;
        if let Some(tip) = fetched.tip
            && self.catalog.may_read(project.id, &[tip]).await? != [true]
        {
            return Err(moved_meanwhile());
        }
        let from = match self.catalog.reference(project.id, &branch_ref(branch)).await? {
            Some(head) => self.head_of(head, Some(branch.to_owned())).await?,
            None => Head { branch: Some(branch.to_owned()), ..Head::default() },
        };
        let (to, unstored) = match fetched.tip {
            Some(tip) => self.integrate(project, &from, tip, request, seen).await?,
            None if from.commit.is_none() => {
                self.refuse_other_branches(branch, at).await?;
                (from.clone(), Vec::new())
            }
            None => (from.clone(), Vec::new()),
        };
        if !request.dry_run
            && let Err(error) = self.settle_waiting(project.id, branch, Some(at)).await
        {
            // It waits on, and housekeeping comes back to it.
            tracing::warn!(code = error.code(), "what waited for a merge could not be settled yet: {error}");
        }
        let seeing = self.with_made(unstored);
        let changed_count = seeing.count_changes(from.tree, to.tree).await?;
        let within = WalkFrom::default();
        let changed = match seeing.diff_trees_within(from.tree, to.tree, &within, CHANGED_MAX).await {
            // The branch has moved: the count must do.
            Err(EngineError::TooLarge { .. }) => Vec::new(),
            changed => changed?,
        };
        let few = changed.len() as u64 == changed_count && changed.len() <= CHANGED_FEW;
        let few: Option<Vec<BString>> = few.then(|| changed.iter().map(|change| change.path.clone()).collect());
        let pending = seeing.touched(project, branch, (&from, &to), few.as_deref()).await?;
        Ok(SyncAnswer {
            branch: branch.to_owned(),
            from: from.commit.map(Oid),
            to: to.commit.map(Oid),
            changed_count,
            truncated: changed.len() as u64 != changed_count,
            changed: changed.into_iter().map(changed_file).collect(),
            objects: fetched.objects,
            bytes: fetched.bytes,
            pending,
        })
    }

    /// Whether the branch is there or may come. Its whole history is not fetched to find out that it may not.
    async fn check_room_for_branch(&self, project: &Project, branch: &str) -> Result<()> {
        let name = branch_ref(branch);
        match self.catalog.reference(project.id, &name).await? {
            Some(_) => Ok(()),
            None => self.check_room_for_ref(project, &name).await,
        }
    }

    /// Nothing on either side: fine for an empty remote; else the branch was misnamed, and the answer says which there are.
    async fn refuse_other_branches(&self, branch: &str, at: &Endpoint) -> Result<()> {
        let refs = self.remote.refs(at, &["refs/heads/".to_owned()]).await?;
        let names: Vec<&str> = refs.refs.iter().filter_map(|(name, _)| name.strip_prefix("refs/heads/")).collect();
        if names.is_empty() {
            return Ok(());
        }
        let some = names.iter().take(BRANCHES_SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let more = if names.len() > BRANCHES_SHOWN { ", …" } else { "" };
        let detail = format!("The remote has no branch {branch:?}; it has {some}{more}.");
        Err(EngineError::not_found("ref_not_found", detail))
    }

    /// Where our branch goes for the remote's `tip`, and what a dry run made for it and did not store.
    async fn integrate(
        &self,
        project: &Project,
        from: &Head,
        tip: ObjectId,
        request: &SyncRequest,
        seen: RefState,
    ) -> Result<(Head, Vec<NewBytes>)> {
        let branch = from.branch.clone();
        let Some(ours) = from.commit else {
            let to = self.head_of(tip, branch).await?;
            self.advance(project, from, &to, request.dry_run, seen).await?;
            return Ok((to, Vec::new()));
        };
        if self.is_ancestor(project.id, tip, ours).await? {
            return Ok((from.clone(), Vec::new()));
        }
        if self.is_ancestor(project.id, ours, tip).await? {
            let to = self.head_of(tip, branch).await?;
            self.advance(project, from, &to, request.dry_run, seen).await?;
            return Ok((to, Vec::new()));
        }
        match request.on_conflict {
            Some(OnDiverged::Merge) => self.merge_remote(project, from, tip, request.dry_run, seen).await,
            _ => Err(EngineError::Conflict {
                code: "diverged",
                detail: "Our branch has commits that the remote lacks, and the remote moved: sync with on_conflict \"merge\"."
                    .to_owned(),
            }),
        }
    }

    /// Moves our branch to a commit that was fetched.
    async fn advance(&self, project: &Project, from: &Head, to: &Head, dry_run: bool, seen: RefState) -> Result<()> {
        if dry_run {
            return Ok(());
        }
        let branch = to.branch.as_deref().unwrap_or(&project.default_branch);
        let op = self.begin_op(Some(project.id), OpKind::Refs).await?;
        let update = RefUpdate { name: branch_ref(branch), expected: from.commit, new: to.commit };
        let publish = self.publication(project.id, &op, vec![update], "sync");
        self.publish_kept(&publish, seen).await
    }

    /// Publishes if nothing was lost from reach since `seen`, and closes the operation either way.
    pub(super) async fn publish_kept(&self, publish: &Publish, seen: RefState) -> Result<()> {
        let publish = Publish { guard: Some(Guard::Kept(seen)), ..publish.clone() };
        let published = self.catalog.publish(&publish).await;
        if !matches!(published, Ok(PublishOutcome::Published)) {
            self.end(publish.op).await;
        }
        match published? {
            PublishOutcome::Published => Ok(()),
            PublishOutcome::Moved(..) | PublishOutcome::Overtaken => Err(moved_meanwhile()),
        }
    }

    /// A publication of refs and what an operation stored, and nothing else.
    pub(crate) fn publication(
        &self,
        project: Uuid,
        op: &crate::writer::Operation,
        refs: Vec<RefUpdate>,
        reason: &'static str,
    ) -> Publish {
        Publish {
            project,
            op: op.id,
            guard: None,
            refs,
            idle: None,
            refs_max: self.config.limits.refs,
            lifetimes: Vec::new(),
            remote_refs: Vec::new(),
            remote_seen: Vec::new(),
            reached: op.numbers.clone(),
            replace_reach: false,
            shallow: None,
            clear_pending: None,
            attempt: None,
            answer: None,
            reason,
            now_ms: self.ambient.now_ms(),
        }
    }

    /// Everybody's pending work on the changed paths, which are `few`, and how it stands to what is there now.
    async fn touched(
        &self,
        project: &Project,
        branch: &str,
        (from, to): (&Head, &Head),
        few: Option<&[BString]>,
    ) -> Result<Vec<TouchedPending>> {
        if from.tree == to.tree {
            return Ok(Vec::new());
        }
        let mut workspaces: BTreeMap<Uuid, Vec<PendingRow>> = BTreeMap::new();
        for (user, row) in self.catalog.pending_on_branch(project.id, branch, few).await? {
            workspaces.entry(user).or_default().push(row);
        }
        let paths: BTreeSet<&BString> = workspaces.values().flatten().map(|row| &row.path).collect();
        let paths: Vec<BString> = paths.into_iter().cloned().collect();
        let leaf = |found: Found| found.filter(|item| !item.is_tree());
        let before = self.find_paths(from.tree, &paths).await?.into_iter().map(leaf);
        let there = self.find_paths(to.tree, &paths).await?.into_iter().map(leaf);
        let differs = paths.iter().zip(before.zip(there)).filter(|(_, (before, there))| before != there);
        let changed: HashMap<&BString, Side> = differs.map(|(path, (_, there))| (path, there)).collect();
        let mut touched = Vec::new();
        for (user, mut rows) in workspaces {
            // What was renamed, here or there, is looked for beside all that the user has pending.
            let alone =
                |row: &PendingRow| changed.get(&row.path).is_some_and(|there| there.is_some() != row.oid.is_some());
            if few.is_some() && rows.iter().any(alone) {
                let key = WorkspaceKey { project: project.id, branch: branch.to_owned(), user };
                rows = self.catalog.pending(&key, None).await?.1;
            }
            let at = |(at, row): (usize, &PendingRow)| changed.get(&row.path).map(|theirs| (at, *theirs));
            let places: Vec<(usize, Side)> = rows.iter().enumerate().filter_map(at).collect();
            let states = self.change_states(project, to, &rows, &places).await?;
            touched.extend(places.iter().zip(states).map(|((at, _), Standing { state, in_head })| TouchedPending {
                user,
                path: Path(rows[*at].path.clone()),
                state,
                in_head,
            }));
        }
        Ok(touched)
    }
}

fn moved_meanwhile() -> EngineError {
    let detail = "A branch moved, or was set back, while it was synced; repeat.".to_owned();
    EngineError::Conflict { code: "head_moved", detail }
}

/// A change as answers show it.
pub(crate) fn changed_file(change: Change) -> ChangedFile {
    let action = match (change.old, change.new) {
        (None, _) => PendingAction::Created,
        (_, None) => PendingAction::Deleted,
        _ => PendingAction::Modified,
    };
    ChangedFile {
        path: Path(change.path),
        action,
        old_oid: change.old.map(|item| Oid(item.oid)),
        new_oid: change.new.map(|item| Oid(item.oid)),
        old_mode: change.old.map(|item| Mode(item.mode)),
        new_mode: change.new.map(|item| Mode(item.mode)),
    }
}
