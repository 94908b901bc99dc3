//! Many rows as one parameter set, so that a batch of any size is one prepared statement.
//!
//! The two databases take them differently (Postgres an array per column, SQLite one JSON text), so this is only the
//! neutral form; each dialect has
//! `rows(…)` for the SQL and `with_rows(…)` for the binding.

use uuid::Uuid;

/// The values of one column.
#[derive(Debug)]
pub(crate) enum Column {
    Blob(Vec<Option<Vec<u8>>>),
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Uuid(Vec<Option<Uuid>>),
}

/// Rows, by column.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
}

/// The type of a column in the SQL form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Blob,
    Int,
    Text,
    Uuid,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a column of byte strings.
    pub(crate) fn blobs<T: AsRef<[u8]>>(self, values: impl IntoIterator<Item = T>) -> Self {
        self.blobs_or_null(values.into_iter().map(Some))
    }

    /// Adds a column of byte strings, some of them null.
    pub(crate) fn blobs_or_null<T: AsRef<[u8]>>(mut self, values: impl IntoIterator<Item = Option<T>>) -> Self {
        let values = values.into_iter().map(|value| value.map(|value| value.as_ref().to_vec())).collect();
        self.columns.push(Column::Blob(values));
        self
    }

    /// Adds a column of integers.
    pub(crate) fn ints(self, values: impl IntoIterator<Item = i64>) -> Self {
        self.ints_or_null(values.into_iter().map(Some))
    }

    /// Adds a column of integers, some of them null.
    pub(crate) fn ints_or_null(mut self, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.columns.push(Column::Int(values.into_iter().collect()));
        self
    }

    /// Adds a column of texts.
    pub(crate) fn texts<T: Into<String>>(self, values: impl IntoIterator<Item = T>) -> Self {
        self.texts_or_null(values.into_iter().map(Some))
    }

    /// Adds a column of texts, some of them null.
    pub(crate) fn texts_or_null<T: Into<String>>(mut self, values: impl IntoIterator<Item = Option<T>>) -> Self {
        self.columns.push(Column::Text(values.into_iter().map(|value| value.map(Into::into)).collect()));
        self
    }

    /// Adds a column of UUIDs.
    pub(crate) fn uuids(self, values: impl IntoIterator<Item = Uuid>) -> Self {
        self.uuids_or_null(values.into_iter().map(Some))
    }

    /// Adds a column of UUIDs, some of them null.
    pub(crate) fn uuids_or_null(mut self, values: impl IntoIterator<Item = Option<Uuid>>) -> Self {
        self.columns.push(Column::Uuid(values.into_iter().collect()));
        self
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        let length = |column: &Column| match column {
            Column::Blob(values) => values.len(),
            Column::Int(values) => values.len(),
            Column::Text(values) => values.len(),
            Column::Uuid(values) => values.len(),
        };
        let len = self.columns.first().map_or(0, length);
        debug_assert!(self.columns.iter().all(|column| length(column) == len), "columns of different lengths");
        len
    }
}

/// The text of a query, put together once from what the dialects share and what they do not.
macro_rules! sql {
    ($($format:tt)*) => {{
        static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!($($format)*));
        SQL.as_str()
    }};
}
pub(crate) use sql;

/// Arguments of a query that takes rows as well.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut arguments = Arguments::default();
        $(sqlx::Arguments::add(&mut arguments, $value).map_err(sqlx::Error::Encode)?;)*
        arguments
    }};
}
pub(crate) use arguments;

/// Splits items into runs of at most `count_max` items and, but for single items that are larger, `bytes_max` bytes.
pub(crate) fn runs<T>(items: &[T], count_max: usize, bytes_max: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut runs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        let size = size(item);
        if index > start && (index - start >= count_max || bytes + size > bytes_max) {
            runs.push(&items[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < items.len() {
        runs.push(&items[start..]);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_all_items_in_order_and_both_limits() {
        let items = [5, 5, 5, 20, 1, 1, 1, 1, 9];
        let runs = runs(&items, 3, 10, |item| *item);
        assert_eq!(runs, [&[5, 5][..], &[5], &[20], &[1, 1, 1], &[1, 9]]);
        assert_eq!(super::runs(&[0; 0], 3, 10, |item| *item).len(), 0);
    }
}
