//! What PostgreSQL says differently. The queries themselves are in `../sql`.

use sqlx::Arguments as _;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::fault::Fault;
use crate::rows::{Column, Rows, Type};

/// Its name in OpenTelemetry's semantic conventions (`db.system.name`).
pub(super) const SYSTEM: &str = "postgresql";

pub(super) type Database = sqlx::Postgres;
pub(super) type Arguments = sqlx::postgres::PgArguments;
pub(super) type Transaction = sqlx::Transaction<'static, Database>;

/// Writers stand beside each other and lock rows, all in the same order.
pub(super) const LOCKS_ROWS: bool = true;
pub(super) const FOR_UPDATE: &str = "FOR UPDATE";
pub(super) const FOR_NO_KEY_UPDATE: &str = "FOR NO KEY UPDATE";
pub(super) const FOR_SHARE: &str = "FOR SHARE";
pub(super) const FOR_KEY_SHARE: &str = "FOR KEY SHARE";
/// What the query of `write::find_workspaces` locks.
pub(super) const LOCK_WORKSPACES: &str = "FOR KEY SHARE OF p FOR UPDATE OF w";
/// Of `attempts`: statistics tell PostgreSQL that those under way are few.
pub(super) const BY_OPEN: &str = "";
pub(super) const GREATEST: &str = "greatest";
/// Whether an upsert's row is new, in its `RETURNING`. Without it that is looked up before, which is exact where writers are serial.
pub(super) const IS_NEW: Option<&str> = Some("(xmax = 0)");

/// A file check that a client can ask for: none.
pub(super) const CHECK_FILES: Option<&str> = None;
/// Removes all rows of a table.
pub(super) const EMPTY: &str = "TRUNCATE";
/// Begins a transaction that sees one moment.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Numbers that were given stay given, whatever was lost.
pub(super) const NUMBERS_AHEAD: [&str; 1] = ["SELECT setval('object_blocks', greatest(
    (SELECT last_value FROM object_blocks), (SELECT coalesce(max(number), 0) / 1024 + 1 FROM objects)))"];

/// Rows in one statement, so that each stays far below the statement timeout.
pub(super) const CHUNK_ROWS: usize = 8192;
/// Bytes of content in one statement.
pub(super) const CHUNK_BYTES: usize = 8 << 20;

/// SQL: is in the list of byte strings that parameter `$parameter` holds.
pub(super) fn in_blobs(parameter: usize) -> String {
    format!("= ANY(${parameter}::bytea[])")
}

/// SQL: is in the list of integers.
pub(super) fn in_ints(parameter: usize) -> String {
    format!("= ANY(${parameter}::bigint[])")
}

/// SQL: is in the list of texts.
pub(super) fn in_texts(parameter: usize) -> String {
    format!("= ANY(${parameter}::text[])")
}

/// SQL: is in the list of UUIDs.
pub(super) fn in_uuids(parameter: usize) -> String {
    format!("= ANY(${parameter}::uuid[])")
}

/// The value of a parameter of [`in_uuids`].
pub(super) fn uuids(values: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
    values.into_iter().collect()
}

/// The value of a parameter of [`in_blobs`].
pub(super) fn blobs<T: AsRef<[u8]>>(values: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    values.into_iter().map(|value| value.as_ref().to_vec()).collect()
}

/// The same for object ids.
pub(super) fn oids(oids: &[ObjectId]) -> Vec<Vec<u8>> {
    blobs(oids.iter().map(ObjectId::as_slice))
}

/// The value of a parameter of [`in_ints`].
pub(super) fn ints(values: impl IntoIterator<Item = i64>) -> Vec<i64> {
    values.into_iter().collect()
}

/// The value of a parameter of [`in_texts`].
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    values.into_iter().map(str::to_owned).collect()
}

/// SQL: the table `r` of the rows that parameters from `$first` on hold; they must be the last ones.
pub(super) fn rows(first: usize, columns: &[(&str, Type)]) -> String {
    let arrays = columns.iter().enumerate().map(|(index, (_, kind))| {
        let kind = match kind {
            Type::Blob => "bytea",
            Type::Int => "bigint",
            Type::Text => "text",
            Type::Uuid => "uuid",
        };
        format!("${}::{kind}[]", first + index)
    });
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    format!("UNNEST({arrays}) AS r ({names})")
}

/// Binds the rows after the other arguments.
pub(super) fn with_rows(mut arguments: Arguments, rows: Rows) -> Result<Arguments, Fault> {
    for column in rows.columns {
        let added = match column {
            Column::Blob(values) => arguments.add(values),
            Column::Int(values) => arguments.add(values),
            Column::Text(values) => arguments.add(values),
            Column::Uuid(values) => arguments.add(values),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
