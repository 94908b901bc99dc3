//! Pending work: what a plan of writes leaves in the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use treehold_object::{BString, ObjectId};
use uuid::Uuid;

pub(super) use super::contents::Contents;
use super::contents::{NewContent, content_values, name_values, put_contents};
use super::feed::{Recorded, event_values, places};
use super::pending::{names, names_of, names_replaced};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::pending::{PendingRow, WorkspaceKey};
use crate::plan::{Plan, Workspace};
use crate::rows::{Rows, Type, arguments, sql};

/// Workspaces whose rows are locked.
pub(super) type Workspaces = HashMap<WorkspaceKey, Workspace>;

pub(super) const ROW: &[(&str, Type)] = &[
    ("workspace", Type::Int),
    ("path", Type::Blob),
    ("action", Type::Int),
    ("mode", Type::Int),
    ("oid", Type::Blob),
    ("size", Type::Int),
    ("base_oid", Type::Blob),
    ("base_mode", Type::Int),
    ("revision", Type::Int),
    ("updated_at", Type::Int),
    ("replaced_at", Type::Int),
    ("device", Type::Text),
    ("actor", Type::Text),
    ("session", Type::Text),
];
pub(super) const PLACE: &[(&str, Type)] = &[("workspace", Type::Int), ("path", Type::Blob)];
pub(super) const REVISION: &[(&str, Type)] = &[("id", Type::Int), ("revision", Type::Int)];

/// Writes what the plan says and tells of it; where the feeds end then.
pub(super) async fn apply_plan(
    tx: &mut Transaction,
    plan: &Plan,
    workspaces: &Workspaces,
    contents: &Contents<'_>,
) -> Result<Recorded, Fault> {
    if !fits_at_once(plan, contents) {
        return apply_in_turn(tx, plan, workspaces, contents).await;
    }
    let values = values_at_once(plan, workspaces, contents)?;
    Ok(sqlx::query_as_with(sql!("{}", apply_at_once::statement()), values).fetch_all(&mut **tx).await?)
}

/// Does the same in one call without a transaction around it, where all workspaces have the revisions of `seen`; `None`: they have not, or it
/// takes more than one call, and nothing was done.
pub(super) async fn apply_seen(
    pool: &sqlx::Pool<Database>,
    plan: &Plan,
    (seen, workspaces): (&BTreeMap<i64, i64>, &Workspaces),
    contents: &Contents<'_>,
) -> Result<Option<Recorded>, Fault> {
    if plan.told.is_empty() || !fits_at_once(plan, contents) {
        return Ok(None);
    }
    let held = Rows::new().ints(seen.keys().copied()).ints(seen.values().copied());
    let values = with_rows(values_at_once(plan, workspaces, contents)?, held)?;
    let recorded = apply_at_once::fetch_held(pool, sql!("{}", apply_at_once::statement_held()), values).await?;
    // Something is told of every change.
    Ok(Some(recorded).filter(|recorded| !recorded.is_empty()))
}

/// Whether one call takes all of it: no event would tell of a project that is only charged, and a statement has its limits.
fn fits_at_once(plan: &Plan, contents: &Contents<'_>) -> bool {
    let bytes: usize = contents.values().map(|content| content.bytes()).sum();
    let most = plan.after.len().max(plan.history.len()).max(plan.told.len()).max(contents.len());
    let told: BTreeSet<Uuid> = plan.told.iter().map(|event| event.project).collect();
    most <= CHUNK_ROWS && bytes <= CHUNK_BYTES && contents.keys().all(|(project, _)| told.contains(project))
}

/// What `apply_at_once::statement` takes, in its order: the names of contents once more where an upsert does not say which are new.
fn values_at_once(plan: &Plan, workspaces: &Workspaces, contents: &Contents<'_>) -> Result<Arguments, Fault> {
    let contents: Vec<(Uuid, &NewContent)> =
        contents.iter().map(|((project, _), content)| (*project, *content)).collect();
    let replaced: Vec<_> = plan.history.iter().map(|(workspace, row, at)| (*workspace, row, *at)).collect();
    let mut parts = vec![
        content_values(&contents),
        row_values(&replaced)?,
        row_values(&set_rows(plan))?,
        place_values(&gone_places(plan)),
        revision_values(workspaces),
        event_values(&plan.told, places(&plan.told)),
    ];
    if IS_NEW.is_none() {
        parts.push(name_values(&contents));
    }
    let mut values = arguments![];
    for part in parts {
        values = with_rows(values, part)?;
    }
    Ok(values)
}

/// The same statement by statement, whatever its size.
async fn apply_in_turn(
    tx: &mut Transaction,
    plan: &Plan,
    workspaces: &Workspaces,
    contents: &Contents<'_>,
) -> Result<Recorded, Fault> {
    let charges = put_contents(tx, contents).await?;
    for chunk in plan.history.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pending_history (workspace, replaced_at, {})
             SELECT r.workspace, r.replaced_at, {} FROM {} WHERE true ON CONFLICT DO NOTHING",
            names(),
            names_of("r"),
            rows(1, ROW)
        );
        let replaced: Vec<_> = chunk.iter().map(|(workspace, row, at)| (*workspace, row, *at)).collect();
        sqlx::query_with(insert, with_rows(arguments![], row_values(&replaced)?)?).execute(&mut **tx).await?;
    }
    for chunk in set_rows(plan).chunks(CHUNK_ROWS) {
        let upsert = sql!(
            "INSERT INTO pending (workspace, {}) SELECT r.workspace, {} FROM {}
             WHERE true ON CONFLICT (workspace, path) DO UPDATE SET {}",
            names(),
            names_of("r"),
            rows(1, ROW),
            names_replaced()
        );
        sqlx::query_with(upsert, with_rows(arguments![], row_values(chunk)?)?).execute(&mut **tx).await?;
    }
    for chunk in gone_places(plan).chunks(CHUNK_ROWS) {
        let delete =
            sql!("DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {})", rows(1, PLACE));
        sqlx::query_with(delete, with_rows(arguments![], place_values(chunk))?).execute(&mut **tx).await?;
    }
    let update =
        sql!("UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id", rows(1, REVISION));
    sqlx::query_with(update, with_rows(arguments![], revision_values(workspaces))?).execute(&mut **tx).await?;
    feed::record(tx, &plan.told, charges).await
}

/// Rows that are there afterwards.
fn set_rows(plan: &Plan) -> Vec<(i64, &PendingRow, i64)> {
    plan.after.iter().filter_map(|((id, _), row)| Some((*id, row.as_ref()?, 0))).collect()
}

/// Places where no row is left.
fn gone_places(plan: &Plan) -> Vec<(i64, &BString)> {
    plan.after.iter().filter(|(_, row)| row.is_none()).map(|((id, path), _)| (*id, path)).collect()
}

fn revision_values(workspaces: &Workspaces) -> Rows {
    let moved: Vec<&Workspace> = workspaces.values().filter(|workspace| workspace.moved).collect();
    Rows::new().ints(moved.iter().map(|workspace| workspace.id)).ints(moved.iter().map(|workspace| workspace.revision))
}

pub(super) fn place_values(places: &[(i64, &BString)]) -> Rows {
    Rows::new().ints(places.iter().map(|place| place.0)).blobs(places.iter().map(|place| place.1))
}

/// Rows with their workspace and, for history, the time of their replacement.
pub(super) fn row_values(rows: &[(i64, &PendingRow, i64)]) -> Result<Rows, CatalogError> {
    let sizes: Vec<i64> = rows.iter().map(|(_, row, _)| codec::signed(row.size)).collect::<Result<_, _>>()?;
    let bytes = |oid: Option<ObjectId>| oid.map(|oid| oid.as_slice().to_vec());
    Ok(Rows::new()
        .ints(rows.iter().map(|(workspace, ..)| *workspace))
        .blobs(rows.iter().map(|(_, row, _)| &row.path))
        .ints(rows.iter().map(|(_, row, _)| codec::action_code(row.action)))
        .ints(rows.iter().map(|(_, row, _)| i64::from(row.mode)))
        .blobs_or_null(rows.iter().map(|(_, row, _)| bytes(row.oid)))
        .ints(sizes)
        .blobs_or_null(rows.iter().map(|(_, row, _)| bytes(row.base_oid)))
        .ints_or_null(rows.iter().map(|(_, row, _)| row.base_mode.map(i64::from)))
        .ints(rows.iter().map(|(_, row, _)| row.revision))
        .ints(rows.iter().map(|(_, row, _)| row.updated_at_ms))
        .ints(rows.iter().map(|(.., at)| *at))
        .texts_or_null(rows.iter().map(|(_, row, _)| row.origin.device.as_deref()))
        .texts_or_null(rows.iter().map(|(_, row, _)| row.origin.actor.as_deref()))
        .texts_or_null(rows.iter().map(|(_, row, _)| row.origin.session.as_deref())))
}
