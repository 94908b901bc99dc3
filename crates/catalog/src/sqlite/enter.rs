//! Rows of the ledger, many at a time.
//!
//! An import has hundreds of thousands of them, so that it counts what each takes beside being written. JSON is taken apart once more for
//! each column, and a driver takes longer to hand over a row than the database to write it. So rows go in as one value of records of a fixed
//! width, of which `substr` takes a part without looking at the rest, and what they are now comes out as one text.

use super::register::Entered;
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::ledger::{KeyId, NewObject};
use crate::rows::{Type, sql};

/// Digits of a number, with zeros in front, or a minus.
const DIGITS: usize = 19;
/// What a record has: names, types, bytes.
const FIELDS: &[(&str, Type, usize)] = &[
    ("number", Type::Int, DIGITS),
    ("oid", Type::Blob, 20),
    ("kind", Type::Int, DIGITS),
    ("size", Type::Int, DIGITS),
    ("sha256", Type::Blob, 32),
    ("off", Type::Int, DIGITS),
    ("len", Type::Int, DIGITS),
    ("base_off", Type::Int, DIGITS),
];
/// Bytes of all of them.
const RECORD: usize = 6 * DIGITS + 20 + 32;
/// Stands for no base.
const NO_BASE: i64 = -1;

/// The rows that the ledger has of these objects now, in their order. They are read again also where all are new: who brings what others have
/// waits for the same.
pub(super) async fn enter_chunk(
    tx: &mut Transaction,
    epoch: i64,
    key: KeyId,
    chunk: &[(&NewObject, i64)],
) -> Result<Vec<Option<Entered>>, Fault> {
    let (records, count) = (encode(chunk)?, codec::signed(chunk.len() as u64)?);
    // In the order given, which is that of the oids.
    let insert = sql!(
        "INSERT INTO objects (number, oid, type, size, sha256, state, seen_epoch, key_id, off, len, base_off)
         SELECT r.number, r.oid, r.kind, r.size, r.sha256, 'L', $1, $2, r.off, r.len, nullif(r.base_off, {NO_BASE}) FROM {}
         WHERE true
         ON CONFLICT (oid) DO UPDATE SET state = 'L', seen_epoch = {GREATEST}(objects.seen_epoch, excluded.seen_epoch)",
        records_at(3)
    );
    sqlx::query(insert).bind(epoch).bind(key).bind(records.clone()).bind(count).execute(&mut **tx).await?;
    // A cross join is made in the order in which it is written.
    let select = sql!(
        "SELECT string_agg(r.place || ' ' || o.number || ' ' || o.key_id || ' ' ||
             (o.type = r.kind AND o.size = r.size AND o.sha256 = r.sha256), ',')
         FROM {} CROSS JOIN objects o ON o.oid = r.oid",
        records_at(1)
    );
    let rows: Option<String> = sqlx::query_scalar(select).bind(records).bind(count).fetch_one(&mut **tx).await?;
    let mut entered = vec![None; chunk.len()];
    for row in rows.iter().flat_map(|rows| rows.split(',')) {
        let (place, row) = decode(row).ok_or(CatalogError::Invalid { what: "row of the ledger" })?;
        if let Some(of) = entered.get_mut(place) {
            *of = Some(row);
        }
    }
    Ok(entered)
}

/// SQL: the table `r` of the records in parameter `$first`, of which there are as many as the next one says, at least one; `place` counts them.
fn records_at(first: usize) -> String {
    let mut start = 1;
    let fields = FIELDS.iter().map(|(name, kind, width)| {
        let part = format!("substr(${first}, n.i * {RECORD} + {start}, {width})");
        start += width;
        match kind {
            Type::Int => format!("CAST({part} AS INTEGER) AS {name}"),
            Type::Blob | Type::Text | Type::Uuid => format!("{part} AS {name}"),
        }
    });
    let fields = fields.collect::<Vec<_>>().join(", ");
    let count = first + 1;
    format!(
        "(WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${count})
          SELECT n.i AS place, {fields} FROM n) AS r"
    )
}

fn encode(chunk: &[(&NewObject, i64)]) -> Result<Vec<u8>, CatalogError> {
    let mut records = Vec::with_capacity(chunk.len() * RECORD);
    for (object, number) in chunk {
        push(&mut records, *number);
        records.extend_from_slice(object.oid.as_slice());
        push(&mut records, codec::kind_code(object.kind));
        push(&mut records, codec::signed(object.size)?);
        records.extend_from_slice(&object.sha256);
        push(&mut records, codec::signed(object.offset)?);
        push(&mut records, codec::signed(object.length)?);
        push(&mut records, object.base.map_or(Ok(NO_BASE), codec::signed)?);
    }
    debug_assert_eq!(records.len(), chunk.len() * RECORD, "an id of another length");
    Ok(records)
}

/// Not below [`NO_BASE`].
fn push(records: &mut Vec<u8>, number: i64) {
    let (mut digits, mut rest) = ([b'0'; DIGITS], number.unsigned_abs());
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        digits[0] = b'-';
    }
    records.extend_from_slice(&digits);
}

/// Place, number, key, and whether the object is the same.
fn decode(row: &str) -> Option<(usize, Entered)> {
    let mut fields = row.split(' ');
    let place = fields.next()?.parse().ok()?;
    let number = fields.next()?.parse().ok()?;
    let key = fields.next()?.parse().ok()?;
    Some((place, Entered { number, key, same: fields.next()? == "1" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_width_of_its_fields() {
        assert_eq!(FIELDS.iter().map(|(.., width)| width).sum::<usize>(), RECORD);
    }

    #[test]
    fn numbers_take_the_same_room() {
        let digits = |number| {
            let mut digits = Vec::new();
            push(&mut digits, number);
            String::from_utf8(digits).unwrap()
        };
        assert_eq!(digits(0), "0000000000000000000");
        assert_eq!(digits(1_024), "0000000000000001024");
        assert_eq!(digits(i64::MAX), i64::MAX.to_string());
        assert_eq!(digits(NO_BASE), "-000000000000000001");
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let entered = |number, key, same| Entered { number, key, same };
        assert_eq!(decode("3 77 5 1"), Some((3, entered(77, 5, true))));
        assert_eq!(decode("0 1 2 0"), Some((0, entered(1, 2, false))));
        assert_eq!(decode("0 1 2"), None);
    }
}
