//! What is recorded under the ids of objects, whatever their number.

use std::collections::HashMap;

use sqlx::FromRow;
use treehold_object::ObjectId;

use super::*;
use crate::error::CatalogError;
use crate::fault::Fault;

impl Db {
    /// What a query finds whose one parameter is a list of ids, in the order of `wanted`; `read` says of a row which id it is for.
    pub(super) async fn by_oid<R, T>(
        &self,
        query: &'static str,
        wanted: &[ObjectId],
        read: impl Fn(R) -> Result<(ObjectId, T), CatalogError>,
    ) -> Result<Vec<Option<T>>, Fault>
    where
        R: for<'r> FromRow<'r, <Database as sqlx::Database>::Row> + Send + Unpin,
        T: Clone,
    {
        let mut found: HashMap<ObjectId, T> = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK_ROWS) {
            let query = sqlx::query_as::<Database, R>(query).bind(oids(chunk));
            for row in query.fetch_all(self.reader()).await? {
                let (oid, item) = read(row)?;
                found.insert(oid, item);
            }
        }
        Ok(wanted.iter().map(|oid| found.get(oid).cloned()).collect())
    }
}
