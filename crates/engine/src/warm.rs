//! What a new process would else make its first reader wait for.

use treehold_catalog::{Located, ProjectKey, ViewKey};
use treehold_object::{Kind, ObjectId};

use crate::{Engine, Result};

impl Engine {
    /// Has the database know the questions that reads of files begin with: a new connection to a server reads what its tables are, and each
    /// statement is prepared when it first comes, which takes several times as long as the answer. Two connections, as many as are open
    /// from the start.
    ///
    /// Asks for what nobody has. What fails here fails again for who needs it, and is told then.
    pub async fn warm(&self) {
        let (one, other) = tokio::join!(self.ask_for_nothing(), self.ask_for_nothing());
        if let Err(error) = one.and(other) {
            tracing::debug!(%error, "the database could not be asked at the start");
        }
    }

    async fn ask_for_nothing(&self) -> Result<()> {
        let nothing = ObjectId::null(gix_hash::Kind::Sha1);
        // No project has such a name.
        let key = ViewKey { project: ProjectKey::Name(".".to_owned()), branch: None, user: None };
        self.catalog.view(&key, None).await?;
        self.catalog.trees(&[nothing]).await?;
        self.catalog.locate(&[nothing]).await?;
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
        self.catalog.chains(&[delta]).await?;
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
