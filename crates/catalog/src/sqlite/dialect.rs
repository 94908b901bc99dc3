//! What SQLite says differently. The queries themselves are in `../sql`.

use std::fmt::Write;

use sqlx::Arguments as _;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::fault::Fault;
use crate::rows::{Column, Rows, Type};

/// Its name in OpenTelemetry's semantic conventions (`db.system.name`).
pub(super) const SYSTEM: &str = "sqlite";

pub(super) type Database = sqlx::Sqlite;
pub(super) type Arguments = sqlx::sqlite::SqliteArguments;
pub(super) type Transaction = sqlx::Transaction<'static, Database>;

/// Write transactions are serial here, so that rows need no locks.
pub(super) const LOCKS_ROWS: bool = false;
pub(super) const FOR_UPDATE: &str = "";
pub(super) const FOR_NO_KEY_UPDATE: &str = "";
pub(super) const FOR_SHARE: &str = "";
pub(super) const FOR_KEY_SHARE: &str = "";
pub(super) const LOCK_WORKSPACES: &str = "";
/// Of `attempts`: those under way are few, and all that a project ever had are many; without statistics SQLite would go through these.
pub(super) const BY_OPEN: &str = "INDEXED BY attempts_open";
pub(super) const GREATEST: &str = "max";
pub(super) const IS_NEW: Option<&str> = None;

/// How the database checks its own files, 100 faults at most.
pub(super) const CHECK_FILES: Option<&str> = Some("PRAGMA integrity_check(100)");
/// Removes all rows of a table.
pub(super) const EMPTY: &str = "DELETE FROM";
/// Begins a transaction that sees one moment.
pub(super) const SNAPSHOT: &str = "BEGIN";
/// Numbers that were given stay given, whatever was lost.
pub(super) const NUMBERS_AHEAD: [&str; 2] = [
    "INSERT INTO object_numbers (id, next) VALUES (1, 1) ON CONFLICT DO NOTHING",
    "UPDATE object_numbers SET next = max(next, (SELECT coalesce(max(number), 0) + 1 FROM objects)) WHERE id = 1",
];

/// Rows in one statement; the JSON of a batch stays within a few MiB.
pub(super) const CHUNK_ROWS: usize = 8192;
/// Bytes of content in one statement.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// SQL: is in the list of byte strings that parameter `$parameter` holds.
pub(super) fn in_blobs(parameter: usize) -> String {
    format!("IN (SELECT unhex(value) FROM json_each(${parameter}))")
}

/// SQL: is in the list of integers.
pub(super) fn in_ints(parameter: usize) -> String {
    format!("IN (SELECT value FROM json_each(${parameter}))")
}

/// SQL: is in the list of texts.
pub(super) fn in_texts(parameter: usize) -> String {
    in_ints(parameter)
}

/// SQL: is in the list of UUIDs.
pub(super) fn in_uuids(parameter: usize) -> String {
    in_blobs(parameter)
}

/// The value of a parameter of [`in_uuids`].
pub(super) fn uuids(values: impl IntoIterator<Item = Uuid>) -> String {
    blobs(values.into_iter().map(Uuid::into_bytes))
}

/// The value of a parameter of [`in_blobs`].
pub(super) fn blobs<T: AsRef<[u8]>>(values: impl IntoIterator<Item = T>) -> String {
    let mut json = String::from("[");
    for value in values {
        separate(&mut json);
        hex(&mut json, value.as_ref());
    }
    json.push(']');
    json
}

/// The same for object ids.
pub(super) fn oids(oids: &[ObjectId]) -> String {
    blobs(oids.iter().map(ObjectId::as_slice))
}

/// The value of a parameter of [`in_ints`].
pub(super) fn ints(values: impl IntoIterator<Item = i64>) -> String {
    let mut json = String::from("[");
    for value in values {
        separate(&mut json);
        int(&mut json, value);
    }
    json.push(']');
    json
}

/// The value of a parameter of [`in_texts`].
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for value in values {
        separate(&mut json);
        text(&mut json, value);
    }
    json.push(']');
    json
}

/// SQL: the table `r` of the rows that parameters from `$first` on hold; they must be the last ones.
pub(super) fn rows(first: usize, columns: &[(&str, Type)]) -> String {
    let select = columns.iter().enumerate().map(|(index, (name, kind))| match kind {
        Type::Blob | Type::Uuid => format!("unhex(value->>{index}) AS {name}"),
        Type::Int | Type::Text => format!("value->>{index} AS {name}"),
    });
    let select = select.collect::<Vec<_>>().join(", ");
    format!("(SELECT {select} FROM json_each(${first})) AS r")
}

/// Room for a value among others, bytes: ids and paths take more, numbers and what is not there take less.
const CELL_BYTES: usize = 16;

/// Binds the rows after the other arguments.
pub(super) fn with_rows(mut arguments: Arguments, rows: Rows) -> Result<Arguments, Fault> {
    let mut json = String::with_capacity(rows.len() * rows.columns.len() * CELL_BYTES + 2);
    json.push('[');
    for row in 0..rows.len() {
        separate(&mut json);
        json.push('[');
        for column in &rows.columns {
            if !json.ends_with('[') {
                json.push(',');
            }
            cell(&mut json, column, row);
        }
        json.push(']');
    }
    json.push(']');
    arguments.add(json).map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

fn separate(json: &mut String) {
    if json.len() > 1 {
        json.push(',');
    }
}

fn cell(json: &mut String, column: &Column, row: usize) {
    match column {
        Column::Blob(values) => match &values[row] {
            Some(value) => hex(json, value),
            None => json.push_str("null"),
        },
        Column::Int(values) => match values[row] {
            Some(value) => int(json, value),
            None => json.push_str("null"),
        },
        Column::Text(values) => match &values[row] {
            Some(value) => text(json, value),
            None => json.push_str("null"),
        },
        Column::Uuid(values) => match &values[row] {
            Some(value) => hex(json, value.as_bytes()),
            None => json.push_str("null"),
        },
    }
}

fn hex(json: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.reserve(bytes.len() * 2 + 2);
    json.push('"');
    // By pieces: to append a digit takes a string about as long as to append a hundred.
    let mut digits = [[0_u8; 2]; 64];
    for piece in bytes.chunks(digits.len()) {
        for (pair, byte) in digits.iter_mut().zip(piece) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        json.push_str(std::str::from_utf8(digits[..piece.len()].as_flattened()).unwrap_or_default());
    }
    json.push('"');
}

fn int(json: &mut String, value: i64) {
    // Writing to a string does not fail.
    let _ = write!(json, "{value}");
}

fn text(json: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = write!(json, "{}", serde_json::Value::from(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hex_however_many_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in [0, 1, 63, 64, 65, 128, 700] {
            let expected: String = bytes[..len].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(blobs([&bytes[..len]]), format!("[\"{expected}\"]"));
        }
    }

    #[test]
    fn numbers_are_their_digits() {
        assert_eq!(ints([0, -1, i64::MAX, i64::MIN]), format!("[0,-1,{},{}]", i64::MAX, i64::MIN));
    }
}
