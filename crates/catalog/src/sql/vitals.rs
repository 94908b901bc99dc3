//! What an operator watches: only indexes of what is under way are read, and the refs of projects with a remote.

use async_trait::async_trait;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::vitals::{Connections, Vitals, Watch};

impl Db {
    async fn read_vitals(&self) -> Result<Vitals, Fault> {
        let attempts: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT state, count(*), min(created_at) FROM attempts
             WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED') GROUP BY state ORDER BY state",
        )
        .fetch_all(self.reader())
        .await?;
        let ops: (i64, Option<i64>) =
            sqlx::query_as("SELECT count(*), min(heartbeat_at) FROM ops WHERE state = 'open'")
                .fetch_one(self.reader())
                .await?;
        let (unpushed, condemned, doomed): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM refs r JOIN projects p ON p.id = r.project AND p.remote_url IS NOT NULL
                     LEFT JOIN remote_refs m ON m.project = r.project AND m.name = r.name
                     WHERE r.name LIKE 'refs/heads/%' AND r.expires_at IS NULL AND (m.oid IS NULL OR m.oid <> r.oid)),
                 (SELECT count(*) FROM objects WHERE state = 'C'), (SELECT count(*) FROM s3_keys WHERE state = 'doomed')",
        )
        .fetch_one(self.reader())
        .await?;
        let attempts =
            attempts.iter().map(|(state, count, oldest)| Ok((codec::state(state)?, codec::unsigned(*count)?, *oldest)));
        let open = codec::unsigned(ops.0)?;
        Ok(Vitals {
            attempts: attempts.collect::<Result<_, CatalogError>>()?,
            ops: ops.1.map(|oldest| (open, oldest)),
            unpushed_branches: codec::unsigned(unpushed)?,
            condemned: codec::unsigned(condemned)?,
            doomed_keys: codec::unsigned(doomed)?,
        })
    }
}

fn connections(of: &'static str, pool: &sqlx::Pool<Database>) -> Connections {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    Connections { of, max: pool.options().get_max_connections(), open: pool.size(), idle }
}

#[async_trait]
impl Watch for Db {
    fn connections(&self) -> Vec<Connections> {
        let pools = self.pools();
        pools.map(|(of, pool)| connections(of, pool)).into()
    }

    async fn vitals(&self) -> Result<Vitals, CatalogError> {
        run!("read vitals", self.read_vitals())
    }
}
