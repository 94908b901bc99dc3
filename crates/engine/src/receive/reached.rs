//! What a push adds to the project's reach: what the refs that move lead to, not all that came. A refused ref, or an object that
//! nothing names, would else be served to who asks for it, and be in every clone until the collector takes it from under them.

use std::collections::HashSet;
use std::sync::Arc;

use treehold_catalog::RoaringTreemap;
use treehold_object::ObjectId;
use treehold_wire::Quarantine;
use treehold_wire::serve::RefCommand;

use crate::intake::{ROWS, unreadable};
use crate::writer::Operation;
use crate::{Engine, EngineError, Result, blocking};

/// What came with a push, all of it stored.
pub(super) struct Came {
    quarantine: Arc<Quarantine>,
    /// Where the project's history ends.
    shallow: Arc<HashSet<ObjectId>>,
    /// The last answer, and the tips that it is for: it is asked for again whenever others moved refs meanwhile.
    found: Option<(Vec<ObjectId>, RoaringTreemap)>,
}

impl Came {
    pub fn new(quarantine: Arc<Quarantine>, shallow: Vec<ObjectId>) -> Self {
        Self { quarantine, shallow: Arc::new(shallow.into_iter().collect()), found: None }
    }

    /// Ledger numbers of what the commands' new values lead to, as far as it came.
    pub async fn reached(&mut self, engine: &Engine, op: &Operation, left: &[&RefCommand]) -> Result<RoaringTreemap> {
        let mut tips: Vec<ObjectId> = left.iter().filter_map(|command| command.new).collect();
        tips.sort_unstable();
        tips.dedup();
        if let Some((_, numbers)) = self.found.as_ref().filter(|(known, _)| *known == tips) {
            return Ok(numbers.clone());
        }
        let (quarantine, shallow, asked) = (Arc::clone(&self.quarantine), Arc::clone(&self.shallow), tips.clone());
        let numbers = match blocking(move || quarantine.reached(&asked, &shallow).map_err(unreadable)).await? {
            None => op.numbers.clone(),
            Some(oids) => numbers(engine, &oids).await?,
        };
        self.found = Some((tips, numbers.clone()));
        Ok(numbers)
    }
}

async fn numbers(engine: &Engine, oids: &[ObjectId]) -> Result<RoaringTreemap> {
    let mut numbers = RoaringTreemap::new();
    for chunk in oids.chunks(ROWS) {
        for (oid, found) in chunk.iter().zip(engine.catalog.numbers(chunk).await?) {
            let lost = || EngineError::internal(format!("object {oid} was stored and is not in the ledger"));
            numbers.insert(found.ok_or_else(lost)?.0);
        }
    }
    Ok(numbers)
}
