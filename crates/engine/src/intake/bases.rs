//! What deltas of a thin pack rest on, found among what the project reaches.

use std::future::Future;
use std::io;

use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};
use treehold_catalog::{Located, Project};
use treehold_object::ObjectId;
use treehold_wire::ingest::{Bases, Whole};
use uuid::Uuid;

use crate::{Engine, Result};

/// Nothing but what the project reaches, or a delta could tell of others' bytes (T1). For threads that may block.
pub(super) struct OwnBases {
    engine: Engine,
    project: Uuid,
    runtime: Handle,
    span: Span,
}

impl OwnBases {
    pub fn of(engine: &Engine, project: &Project) -> Self {
        Self { engine: engine.clone(), project: project.id, runtime: Handle::current(), span: Span::current() }
    }

    async fn own(&self, oids: &[ObjectId]) -> Result<Vec<Option<Located>>> {
        let reach = self.engine.catalog.reach(self.project).await?;
        let located = self.engine.catalog.locate(oids).await?;
        Ok(located.into_iter().map(|found| found.filter(|found| reach.contains(found.number))).collect())
    }

    async fn whole(&self, oids: &[ObjectId]) -> Result<Vec<Option<Whole>>> {
        let own = self.own(oids).await?;
        let there: Vec<Located> = own.iter().flatten().cloned().collect();
        let mut read = self.engine.read_located(&there).await?.into_iter();
        let mut whole = |found: Option<Located>| found.and_then(|_| read.next()).transpose();
        own.into_iter().map(|found| Ok(whole(found)?.map(|base| (base.kind, base.content)))).collect()
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> io::Result<T> {
        self.runtime.block_on(work.instrument(self.span.clone())).map_err(io::Error::other)
    }
}

impl Bases for OwnBases {
    fn sizes(&self, oids: &[ObjectId]) -> io::Result<Vec<Option<u64>>> {
        self.wait(async { Ok(self.own(oids).await?.into_iter().map(|found| found.map(|found| found.size)).collect()) })
    }

    fn read(&self, oids: &[ObjectId]) -> io::Result<Vec<Option<Whole>>> {
        self.wait(self.whole(oids))
    }
}
