//! Dropping local history at once, for who needs the room or must not keep what was discarded.

use treehold_catalog::Thinned;
use uuid::Uuid;

use crate::api::Forgotten;
use crate::{Engine, Result};

/// Versions removed in one transaction.
const VERSIONS: u32 = 1_000;

impl Engine {
    /// Drops all versions of a project's pending work that were replaced or discarded by now, of one user or of all. What is pending, what
    /// checkpoints hold and what was committed stays. Safe beside everything else and to repeat; what is replaced meanwhile stays.
    pub async fn forget_history(&self, project: &str, user: Option<Uuid>) -> Result<Forgotten> {
        let found = self.find_project(project).await?;
        let until_ms = self.ambient.now_ms();
        let (mut versions, mut contents) = (0, 0);
        loop {
            let Thinned { versions: gone, contents: freed, next } =
                self.catalog.forget_history(found.id, user, VERSIONS, until_ms).await?;
            versions += gone;
            contents += freed;
            if next.is_none() {
                break;
            }
        }
        let left = self.find_project(&found.id.to_string()).await?;
        Ok(Forgotten { id: found.id, name: found.name, versions, contents, usage: self.usage_of(&left) })
    }
}
