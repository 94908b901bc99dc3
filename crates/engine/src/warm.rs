//! What a new process would else make its first reader wait for.

use std::time::Duration;

use futures::future::try_join_all;
use treehold_catalog::{Located, ProjectKey, ViewKey};
use treehold_object::{Kind, ObjectId};

use crate::{Engine, Result};

/// Connections that are open from the start.
const CONNECTIONS: usize = 4;
/// A connection that is given back is tried before it is idle again. Who asks for one before opens another.
const GIVEN_BACK: Duration = Duration::from_millis(3);

impl Engine {
    /// Has the database know the questions that reads of files begin with: a new connection to a server reads what its tables are, and each
    /// statement is prepared when it first comes, which takes several times as long as the answer.
    ///
    /// Asks for what nobody has. What fails here fails again for who needs it, and is told then.
    pub async fn warm(&self) {
        if let Err(error) = self.ask_for_nothing().await {
            tracing::debug!(%error, "the database could not be asked at the start");
        }
    }

    /// One question after the other, each on all connections at once, so that every connection knows all of them.
    async fn ask_for_nothing(&self) -> Result<()> {
        let (catalog, nothing) = (&self.catalog, ObjectId::null(gix_hash::Kind::Sha1));
        // No project has such a name.
        let key = ViewKey { project: ProjectKey::Name(".".to_owned()), branch: None, user: None };
        let delta = Located {
            oid: nothing,
            number: 0,
            kind: Kind::Blob,
            size: 0,
            key_id: 0,
            key: String::new(),
            offset: 0,
            length: 0,
            base: Some(0),
        };
        try_join_all((0..CONNECTIONS).map(|_| catalog.view(&key, None))).await?;
        tokio::time::sleep(GIVEN_BACK).await;
        try_join_all((0..CONNECTIONS).map(|_| catalog.trees(std::slice::from_ref(&nothing)))).await?;
        tokio::time::sleep(GIVEN_BACK).await;
        try_join_all((0..CONNECTIONS).map(|_| catalog.locate(std::slice::from_ref(&nothing)))).await?;
        tokio::time::sleep(GIVEN_BACK).await;
        try_join_all((0..CONNECTIONS).map(|_| catalog.chains(std::slice::from_ref(&delta)))).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::properties::World;

    /// Goal: the questions are such that the database answers them.
    #[tokio::test]
    async fn nothing_is_an_answer() {
        let world = World::new().await;
        world.engine.ask_for_nothing().await.unwrap();
        world.engine.warm().await;
    }
}
