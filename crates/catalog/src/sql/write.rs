//! Pending work: writing. Writes that arrive together make one short transaction of a few statements, whatever the
//! number of workspaces and paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::apply::{Contents, PLACE, Workspaces, apply_plan, apply_seen, place_values};
use super::contents::{NewContent, bases_of_kept, contents_of, hold_kept, in_bucket, kept_by};
use super::feed::{Charges, Recorded};
use super::pending::{COLUMNS, Row, RowOrNone, names, names_of, pending_row};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::feed::{NewEvent, PendingEvent, Told};
use crate::pending::{Origin, PendingChange, PendingOutcome, PendingRow, PendingWrite, Seen, WorkspaceKey};
use crate::plan::{Plan, Workspace};
use crate::rows::{Rows, Type, arguments, sql};

const KEY: &[(&str, Type)] = &[("project", Type::Uuid), ("branch", Type::Text), ("user_id", Type::Uuid)];

/// One call of `write_pending`, its contents packed before any lock is taken.
pub(super) struct Write {
    key: WorkspaceKey,
    expected_revision: Option<i64>,
    writes: Vec<PendingWrite>,
    contents: HashMap<ObjectId, NewContent>,
    /// Contents that are known and must stay.
    kept: Vec<ObjectId>,
    /// What rows with such a content started from: must stay if it is there.
    bases: Vec<ObjectId>,
    /// What the caller saw of the workspace; a hint.
    seen: Option<Seen>,
    now_ms: i64,
}

impl Write {
    pub(super) fn new(
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Result<Self, CatalogError> {
        let contents = contents_of(writes)?;
        let kept = kept_by(writes, &contents);
        let bases = bases_of_kept(writes);
        Ok(Self {
            key: key.clone(),
            expected_revision,
            writes: writes.to_vec(),
            contents,
            kept,
            bases,
            seen: None,
            now_ms,
        })
    }

    /// With what the caller saw.
    pub(super) fn after_seeing(self, seen: Option<Seen>) -> Self {
        Self { seen, ..self }
    }

    /// The project that it is for.
    pub(super) fn project(&self) -> Uuid {
        self.key.project
    }

    /// Whether it is small, and fails for no reason that others should not share.
    pub(super) fn may_share(&self) -> bool {
        self.writes.len() <= 64 && in_bucket(&self.contents).is_empty() && self.kept.is_empty()
    }
}

impl Db {
    /// Writes in order, in one transaction; `None` where the project is gone.
    pub(super) async fn write_once(&self, writes: &[Write]) -> Result<Vec<Option<PendingOutcome>>, Fault> {
        if let Some(outcomes) = self.write_as_seen(writes).await? {
            return Ok(outcomes);
        }
        let mut tx = self.begin().await?;
        let judged = judge(&mut tx, writes).await?;
        // Where nothing changes, nothing is written: not even a workspace.
        if let Some(recorded) = write_judged(&mut tx, writes, &judged).await? {
            tx.commit().await?;
            self.tell(&recorded);
        }
        Ok(judged.outcomes)
    }

    /// The same where all callers saw their workspaces as they still are: those are locked, compared and written in one call, and
    /// nothing is read before. `None`: somebody did not, and nothing was written.
    pub(super) async fn write_as_seen(&self, writes: &[Write]) -> Result<Option<Vec<Option<PendingOutcome>>>, Fault> {
        let Some((seen, mut workspaces)) = seen_by(writes) else { return Ok(None) };
        let (outcomes, plan) = plan_writes(writes, &mut workspaces);
        let written = outcomes.iter().all(|outcome| matches!(outcome, Some(PendingOutcome::Written { .. })));
        if !written || plan.is_empty() {
            return Ok(None);
        }
        let contents = contents_named(writes, &plan, &workspaces);
        let recorded = apply_seen(self.writer(), &plan, (&seen, &workspaces), &contents).await?;
        if let Some(recorded) = &recorded {
            self.tell(recorded);
        }
        Ok(recorded.map(|_| outcomes))
    }

    pub(super) async fn clear_pending_once(
        &self,
        key: &WorkspaceKey,
        origin: &Origin,
        now_ms: i64,
    ) -> Result<(i64, u64), Fault> {
        let mut tx = self.begin().await?;
        let found = find_workspaces(&mut tx, &BTreeSet::from([key])).await?;
        let Some(workspace) = found.get(key) else {
            let projects = share_projects(&mut tx, [key.project]).await?;
            return if projects.is_empty() { Err(CatalogError::NoProject.into()) } else { Ok((0, 0)) };
        };
        sqlx::query(sql!(
            "INSERT INTO pending_history (workspace, replaced_at, {})
             SELECT p.workspace, $2, {} FROM pending p WHERE p.workspace = $1 ON CONFLICT DO NOTHING",
            names(),
            names_of("p")
        ))
        .bind(workspace.id)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        let mut gone: Vec<(Vec<u8>,)> = sqlx::query_as("DELETE FROM pending WHERE workspace = $1 RETURNING path")
            .bind(workspace.id)
            .fetch_all(&mut *tx)
            .await?;
        gone.sort_unstable();
        let count = gone.len() as u64;
        let revision = workspace.revision + codec::signed(count)?;
        sqlx::query("UPDATE workspaces SET revision = $2 WHERE id = $1 AND revision <> $2")
            .bind(workspace.id)
            .bind(revision)
            .execute(&mut *tx)
            .await?;
        let told = gone.into_iter().zip(workspace.revision + 1..).map(|((path,), revision)| NewEvent {
            project: key.project,
            at_ms: now_ms,
            told: Told::Pending {
                user: key.user,
                branch: key.branch.clone(),
                path: path.into(),
                event: PendingEvent::Dropped,
                mode: 0,
                oid: None,
                base_oid: None,
                revision,
                origin: origin.clone(),
            },
        });
        let recorded = feed::record(&mut tx, &told.collect::<Vec<_>>(), Charges::new()).await?;
        tx.commit().await?;
        self.tell(&recorded);
        Ok((revision, count))
    }
}

/// What writes come to, before any is done.
pub(super) struct Judged {
    /// `None` where the project is gone.
    pub(super) outcomes: Vec<Option<PendingOutcome>>,
    plan: Plan,
    workspaces: Workspaces,
}

/// Goes through writes in order, with their workspaces locked.
pub(super) async fn judge(tx: &mut Transaction, writes: &[Write]) -> Result<Judged, Fault> {
    let bucket: Vec<ObjectId> = writes.iter().flat_map(|write| in_bucket(&write.contents)).collect();
    if !bucket.is_empty() {
        share_projects(tx, writes.iter().map(|write| write.key.project)).await?;
        hold_bucket_contents(tx, &bucket).await?;
    }
    let looked = look(tx, writes).await?;
    let seen = looked.is_some();
    let mut workspaces = match looked {
        Some(found) => found,
        None => lock_workspaces(tx, writes.iter().map(|write| &write.key)).await?,
    };
    for write in writes {
        hold_kept(tx, write.key.project, &write.kept, &write.bases).await?;
    }
    if !seen {
        read_rows(tx, &mut workspaces, writes).await?;
    }
    find_commits(tx, &mut workspaces, writes).await?;
    let (outcomes, plan) = plan_writes(writes, &mut workspaces);
    Ok(Judged { outcomes, plan, workspaces })
}

/// What each write comes to (`None` where there is no workspace), and what they change together.
fn plan_writes(writes: &[Write], workspaces: &mut Workspaces) -> (Vec<Option<PendingOutcome>>, Plan) {
    let mut plan = Plan::default();
    let outcomes = writes.iter().map(|write| {
        let workspace = workspaces.get_mut(&write.key)?;
        Some(plan.add(&write.key, workspace, write.expected_revision, &write.writes, write.now_ms))
    });
    (outcomes.collect(), plan)
}

/// Revisions as they were seen, by workspace, and what was seen there; `None` = somebody saw nothing or something else, or what is to be
/// done takes more than a look at its own row.
fn seen_by(writes: &[Write]) -> Option<(BTreeMap<i64, i64>, Workspaces)> {
    let (mut revisions, mut workspaces) = (BTreeMap::new(), Workspaces::new());
    for write in writes {
        let (Some(Seen { workspace: id, revision, row }), [one]) = (&write.seen, &write.writes[..]) else {
            return None;
        };
        if one.change == PendingChange::Undo || !write.may_share() {
            return None;
        }
        if *revisions.entry(*id).or_insert(*revision) != *revision {
            return None;
        }
        let new = || Workspace { id: *id, revision: *revision, ..Workspace::default() };
        let workspace = workspaces.entry(write.key.clone()).or_insert_with(new);
        workspace.rows.extend(row.iter().map(|row| (row.path.clone(), row.clone())));
    }
    Some((revisions, workspaces))
}

/// The contents that rows name afterwards.
fn contents_named<'a>(writes: &'a [Write], plan: &Plan, workspaces: &Workspaces) -> Contents<'a> {
    let mut contents = Contents::new();
    for write in writes {
        let Some(workspace) = workspaces.get(&write.key).map(|workspace| workspace.id) else { continue };
        for content in write.contents.values().filter(|content| plan.names(workspace, content.oid)) {
            let known = contents.entry((write.key.project, content.oid)).or_insert(content);
            if known.stored.is_none() {
                *known = content;
            }
        }
    }
    contents
}

/// Does what they come to and tells of it; where the feeds end then, `None` = nothing changes.
pub(super) async fn write_judged(
    tx: &mut Transaction,
    writes: &[Write],
    Judged { plan, workspaces, .. }: &Judged,
) -> Result<Option<Recorded>, Fault> {
    if plan.is_empty() {
        return Ok(None);
    }
    let contents = contents_named(writes, plan, workspaces);
    apply_plan(tx, plan, workspaces, &contents).await.map(Some)
}

/// Keeps projects from being deleted, and says which there are. This does not wait for publications, nor they for it.
pub(super) async fn share_projects(
    tx: &mut Transaction,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<BTreeSet<Uuid>, Fault> {
    let ids: BTreeSet<Uuid> = ids.into_iter().collect();
    let found: Vec<Uuid> =
        sqlx::query_scalar(sql!("SELECT id FROM projects WHERE id {} ORDER BY id {FOR_KEY_SHARE}", in_uuids(1)))
            .bind(uuids(ids))
            .fetch_all(&mut **tx)
            .await?;
    Ok(found.into_iter().collect())
}

/// Content that is only in the bucket was registered by an operation that is over. This transaction is an operation of
/// its own (W0, W1 and W5 at once): the horizon cannot pass the epoch that it reads until the rows name the content.
async fn hold_bucket_contents(tx: &mut Transaction, wanted: &[ObjectId]) -> Result<(), Fault> {
    if wanted.is_empty() {
        return Ok(());
    }
    let epoch: i64 =
        sqlx::query_scalar(sql!("SELECT epoch FROM gc_state WHERE id = 1 {FOR_SHARE}")).fetch_one(&mut **tx).await?;
    let known = ledger::revive(tx, wanted, epoch).await?;
    if known.len() == wanted.len() { Ok(()) } else { Err(CatalogError::OpLost.into()) }
}

/// Locks the workspaces that exist, in the order of their ids, and keeps their projects from being deleted.
pub(super) async fn find_workspaces(tx: &mut Transaction, keys: &BTreeSet<&WorkspaceKey>) -> Result<Workspaces, Fault> {
    let select = sql!(
        "SELECT w.project, w.branch, w.user_id, w.id, w.revision
         FROM {} JOIN projects p ON p.id = r.project
         JOIN workspaces w ON w.project = p.id AND w.branch = r.branch AND w.user_id = r.user_id
         ORDER BY w.id {LOCK_WORKSPACES}",
        rows(1, KEY)
    );
    let found: Vec<(Uuid, String, Uuid, i64, i64)> =
        sqlx::query_as_with(select, with_rows(arguments![], key_values(keys))?).fetch_all(&mut **tx).await?;
    let workspace = |(project, branch, user, id, revision)| {
        (WorkspaceKey { project, branch, user }, Workspace { id, revision, ..Workspace::default() })
    };
    Ok(found.into_iter().map(workspace).collect())
}

fn key_values(keys: &BTreeSet<&WorkspaceKey>) -> Rows {
    Rows::new()
        .uuids(keys.iter().map(|key| key.project))
        .texts(keys.iter().map(|key| key.branch.as_str()))
        .uuids(keys.iter().map(|key| key.user))
}

/// Locks the workspaces of `keys`, and makes those that are missing; none where the project is gone.
pub(super) async fn lock_workspaces<'a>(
    tx: &mut Transaction,
    keys: impl IntoIterator<Item = &'a WorkspaceKey>,
) -> Result<Workspaces, Fault> {
    let keys: BTreeSet<&WorkspaceKey> = keys.into_iter().collect();
    let found = find_workspaces(tx, &keys).await?;
    let mut missing: BTreeSet<&WorkspaceKey> = keys.iter().copied().filter(|key| !found.contains_key(*key)).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    let projects = share_projects(tx, missing.iter().map(|key| key.project)).await?;
    missing.retain(|key| projects.contains(&key.project));
    if missing.is_empty() {
        return Ok(found);
    }
    // Whoever comes second waits here for the first one, and then finds its row.
    let insert = sql!(
        "INSERT INTO workspaces (project, branch, user_id, revision) SELECT r.project, r.branch, r.user_id, 0 FROM {}
         WHERE true ON CONFLICT DO NOTHING",
        rows(1, KEY)
    );
    sqlx::query_with(insert, with_rows(arguments![], key_values(&missing))?).execute(&mut **tx).await?;
    find_workspaces(tx, &keys).await
}

const SPOT: &[(&str, Type)] =
    &[("project", Type::Uuid), ("branch", Type::Text), ("user_id", Type::Uuid), ("path", Type::Blob)];

/// A workspace, and its row at a path if there is one.
#[derive(sqlx::FromRow)]
struct Looked {
    project: Uuid,
    branch: String,
    user_id: Uuid,
    workspace: i64,
    workspace_revision: i64,
    #[sqlx(flatten)]
    row: RowOrNone,
}

/// Workspaces and the rows that the writes look at in one question, where there are no locks to wait for; `None` = one is missing, or
/// there are too many paths.
async fn look(tx: &mut Transaction, writes: &[Write]) -> Result<Option<Workspaces>, Fault> {
    let spots = writes.iter().flat_map(|write| write.writes.iter().map(|one| (&write.key, &one.path)));
    let spots: BTreeSet<(&WorkspaceKey, &BString)> = spots.collect();
    if LOCKS_ROWS || spots.len() > CHUNK_ROWS {
        return Ok(None);
    }
    let values = Rows::new()
        .uuids(spots.iter().map(|(key, _)| key.project))
        .texts(spots.iter().map(|(key, _)| key.branch.as_str()))
        .uuids(spots.iter().map(|(key, _)| key.user))
        .blobs(spots.iter().map(|(_, path)| path));
    let select = sql!(
        "SELECT w.project, w.branch, w.user_id, w.id AS workspace, w.revision AS workspace_revision, {COLUMNS}
         FROM {} JOIN workspaces w ON w.project = r.project AND w.branch = r.branch AND w.user_id = r.user_id
         LEFT JOIN pending p ON p.workspace = w.id AND p.path = r.path",
        rows(1, SPOT)
    );
    let found: Vec<Looked> = sqlx::query_as_with(select, with_rows(arguments![], values)?).fetch_all(&mut **tx).await?;
    let mut workspaces = Workspaces::new();
    for Looked { project, branch, user_id, workspace: id, workspace_revision: revision, row } in found {
        let key = WorkspaceKey { project, branch, user: user_id };
        let workspace = workspaces.entry(key).or_insert_with(|| Workspace { id, revision, ..Workspace::default() });
        if let Some(row) = row.row() {
            let row = pending_row(row)?;
            workspace.rows.insert(row.path.clone(), row);
        }
    }
    Ok(writes.iter().all(|write| workspaces.contains_key(&write.key)).then_some(workspaces))
}

/// A row and its workspace.
#[derive(sqlx::FromRow)]
struct PlacedRow {
    workspace: i64,
    #[sqlx(flatten)]
    row: Row,
}

/// Reads the rows that the writes look at.
async fn read_rows(tx: &mut Transaction, workspaces: &mut Workspaces, writes: &[Write]) -> Result<(), Fault> {
    let mut places: BTreeSet<(i64, &BString)> = BTreeSet::new();
    for write in writes {
        if let Some(workspace) = workspaces.get(&write.key) {
            places.extend(write.writes.iter().map(|write| (workspace.id, &write.path)));
        }
    }
    let places: Vec<(i64, &BString)> = places.into_iter().collect();
    let mut found: HashMap<i64, HashMap<BString, PendingRow>> = HashMap::new();
    for chunk in places.chunks(CHUNK_ROWS) {
        let select = sql!(
            "SELECT p.workspace, {COLUMNS} FROM {} JOIN pending p ON p.workspace = r.workspace AND p.path = r.path",
            rows(1, PLACE)
        );
        let rows: Vec<PlacedRow> =
            sqlx::query_as_with(select, with_rows(arguments![], place_values(chunk))?).fetch_all(&mut **tx).await?;
        for PlacedRow { workspace, row } in rows {
            let row = pending_row(row)?;
            found.entry(workspace).or_default().insert(row.path.clone(), row);
        }
    }
    for workspace in workspaces.values_mut() {
        workspace.rows = found.remove(&workspace.id).unwrap_or_default();
    }
    Ok(())
}

/// Finds out where a commit is under way that may have taken rows that are to be undone. Whoever prepares one holds the workspace.
async fn find_commits(tx: &mut Transaction, workspaces: &mut Workspaces, writes: &[Write]) -> Result<(), Fault> {
    let undoes = |write: &&Write| write.writes.iter().any(|write| write.change == PendingChange::Undo);
    for write in writes.iter().filter(undoes) {
        let Some(workspace) = workspaces.get_mut(&write.key) else { continue };
        workspace.committing = is_committing(tx, &write.key).await?;
    }
    Ok(())
}

/// Whether a commit of a user's work is under way. Whoever prepares one holds the workspace, as who asks.
pub(super) async fn is_committing(tx: &mut Transaction, key: &WorkspaceKey) -> Result<bool, Fault> {
    let open: i64 = sqlx::query_scalar(sql!("{}", attempts::open_of_user()))
        .bind(key.project)
        .bind(&key.branch)
        .bind(key.user)
        .fetch_one(&mut **tx)
        .await?;
    Ok(open > 0)
}
