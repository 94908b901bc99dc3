//! What projects hold.

use std::collections::HashSet;

use async_trait::async_trait;
use roaring::RoaringTreemap;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::rows::{Rows, Type, arguments, sql};
use crate::usage::{Charged, Held, Usage};

/// The sizes of objects together. As many statements as there are thousands of runs of numbers: those that came together are one.
pub(super) async fn sum_sizes(
    connection: &mut <Database as sqlx::Database>::Connection,
    objects: &RoaringTreemap,
) -> Result<i64, Fault> {
    let mut sum = 0;
    for chunk in runs_of(objects)?.chunks(CHUNK_ROWS) {
        let select = sql!(
            // A query for each run: as a join it might be planned as one look at the whole ledger.
            "SELECT CAST(coalesce(sum((SELECT sum(o.size) FROM objects o WHERE o.number BETWEEN r.first AND r.last)), 0) AS BIGINT)
             FROM {}",
            rows(1, &[("first", Type::Int), ("last", Type::Int)])
        );
        let ranges = Rows::new().ints(chunk.iter().map(|run| run.0)).ints(chunk.iter().map(|run| run.1));
        let bytes: i64 =
            sqlx::query_scalar_with(select, with_rows(arguments![], ranges)?).fetch_one(&mut *connection).await?;
        sum += bytes;
    }
    Ok(sum)
}

/// First and last number of each run.
fn runs_of(objects: &RoaringTreemap) -> Result<Vec<(i64, i64)>, CatalogError> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for number in objects {
        let number = codec::signed(number)?;
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    Ok(runs)
}

impl Db {
    async fn find_held(&self, project: Uuid) -> Result<Option<Held>, Fault> {
        let found: Option<(i64, i64, Option<Vec<u8>>)> = sqlx::query_as(
            "SELECT f.bytes, CAST(coalesce((SELECT sum(c.size) FROM pending_contents c WHERE c.project = $1), 0) AS BIGINT),
                 (SELECT r.bitmap FROM reach r WHERE r.project = $1)
             FROM feeds f WHERE f.project = $1",
        )
        .bind(project)
        .fetch_optional(self.reader())
        .await?;
        let held = |(counted, pending, bitmap): (i64, i64, Option<Vec<u8>>)| {
            Ok(Held {
                reach: bitmap.as_deref().map(codec::bitmap).transpose()?.unwrap_or_default(),
                pending_bytes: codec::unsigned(pending)?,
                counted,
            })
        };
        found.map(held).transpose()
    }

    async fn find_sizes(&self, objects: &RoaringTreemap) -> Result<u64, Fault> {
        let mut connection = self.reader().acquire().await?;
        Ok(codec::unsigned(sum_sizes(&mut connection, objects).await?)?)
    }

    async fn find_charged(&self, project: Uuid, charged: Charged, wanted: &[ObjectId]) -> Result<Vec<bool>, Fault> {
        let reach = match charged {
            Charged::Reached => self.read_reach(project).await?,
            Charged::Pending => RoaringTreemap::new(),
        };
        let mut known: HashSet<ObjectId> = HashSet::new();
        for chunk in wanted.chunks(CHUNK_ROWS) {
            match charged {
                Charged::Reached => {
                    for (oid, number) in self.numbers_of(chunk).await? {
                        if reach.contains(number) {
                            known.insert(oid);
                        }
                    }
                }
                Charged::Pending => known.extend(self.pending_of(project, chunk).await?),
            }
        }
        Ok(wanted.iter().map(|oid| known.contains(oid)).collect())
    }

    async fn correct_once(&self, project: Uuid, by: i64) -> Result<bool, Fault> {
        let corrected = sqlx::query("UPDATE feeds SET bytes = bytes + $2 WHERE project = $1")
            .bind(project)
            .bind(by)
            .execute(self.writer())
            .await?;
        Ok(corrected.rows_affected() == 1)
    }
}

#[async_trait]
impl Usage for Db {
    async fn held(&self, project: Uuid) -> Result<Option<Held>, CatalogError> {
        run!("read what a project holds", self.find_held(project))
    }

    async fn sum_sizes(&self, objects: &RoaringTreemap) -> Result<u64, CatalogError> {
        run!("sum sizes", self.find_sizes(objects))
    }

    async fn charged(&self, project: Uuid, charged: Charged, oids: &[ObjectId]) -> Result<Vec<bool>, CatalogError> {
        run!("look what a project is charged for", self.find_charged(project, charged, oids))
    }

    async fn correct_usage(&self, project: Uuid, by: i64) -> Result<bool, CatalogError> {
        run!("correct what a project holds", self.correct_once(project, by))
    }
}
