//! Which database a bucket belongs to: both say the same id, or nothing is deleted.
//!
//! To a collector everything in the bucket is garbage that its database does not know. In the bucket of another database that is everything:
//! one wrong `store_url` would empty it. So the two are tied to each other once, by an id that stands in a row and in a value beside git's
//! own notes, and whoever is about to delete looks whether they are. A copy of both is tied as they are.

use std::collections::BTreeSet;

use treehold_catalog::NameState;
use treehold_store::{Payload, StoreError};
use uuid::Uuid;

use crate::keys::owner;
use crate::{Engine, EngineError, Result};

/// The bucket key of the id: git passes it over, as all that it does not know in `objects/info`.
pub const STORE_ID_KEY: &str = "objects/info/treehold-store-id";
/// Names of the bucket that are looked up to tell whose it is.
const NAMES: usize = 1000;

/// What a bucket holds, beside what a ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Nothing, and the ledger knows nothing.
    Nothing,
    /// For the most part what the ledger knows.
    Ours,
    /// Something else.
    Others,
}

impl Engine {
    /// Ties database and bucket to each other if they are not yet, and what the one holds is what the other knows; so are both of a new
    /// store. Refuses (`foreign_store`) where they are not each other's. Costs a read of each, and may be repeated, also by several servers
    /// at once.
    pub async fn tie_store(&self) -> Result<()> {
        let (ours, theirs) = (self.catalog.store_id().await?, self.read_store_id().await?);
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            return same(ours, theirs);
        }
        match self.holds().await? {
            Holds::Ours => {}
            // Another server of this database may just have tied the two. Another database that was here first has stored nothing yet.
            Holds::Nothing if theirs.is_none() || self.catalog.store_id().await?.is_some() => {}
            Holds::Nothing => return Err(foreign("another database has been tied to it")),
            Holds::Others => {
                return Err(foreign(
                    "they are not tied to each other yet, and what the bucket holds is not what the database knows",
                ));
            }
        }
        self.tie_to(theirs, false).await
    }

    /// Ties the database to the bucket on the word of an operator, whatever either holds. `anew`: also a database that is tied to another.
    pub async fn take_store(&self, anew: bool) -> Result<()> {
        let theirs = self.read_store_id().await?;
        self.tie_to(theirs, anew).await
    }

    /// Whether what a collector would do is done to the bucket that it is meant for; a look, which changes nothing.
    pub(crate) async fn look_at_store(&self) -> Result<()> {
        match (self.catalog.store_id().await?, self.read_store_id().await?) {
            (Some(ours), Some(theirs)) => same(ours, theirs),
            _ => Ok(()),
        }
    }

    /// Removes a value, if the bucket is this database's; that is found out once.
    pub(crate) async fn delete_value(&self, name: &str) -> Result<()> {
        self.chores.tied().get_or_try_init(|| self.tie_store()).await?;
        Ok(self.store.delete(name).await?)
    }

    /// Between servers that begin at once on a new bucket the database decides, between databases the bucket.
    async fn tie_to(&self, theirs: Option<Uuid>, anew: bool) -> Result<()> {
        if let Some(theirs) = theirs {
            return same(self.catalog.set_store_id(theirs, anew).await?, theirs);
        }
        let ours = self.catalog.set_store_id(self.ambient.uuid(), false).await?;
        match self.store.bucket().put(STORE_ID_KEY, Payload::Bytes(written(ours).into())).await {
            Ok(_) | Err(StoreError::Occupied { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // A bucket without conditional writes may have replaced another's.
        match self.read_store_id().await? {
            Some(theirs) => same(ours, theirs),
            None => Err(foreign("the bucket does not keep what is written to it")),
        }
    }

    async fn read_store_id(&self) -> Result<Option<Uuid>> {
        let Some(value) = self.store.bucket().get(STORE_ID_KEY, None).await? else { return Ok(None) };
        match store_id_in(&value) {
            Some(id) => Ok(Some(id)),
            None => Err(EngineError::Damaged {
                what: format!("value {STORE_ID_KEY} (deleted, it is written again)"),
                source: "it is not an id".into(),
            }),
        }
    }

    /// Whether the ledger knows what the bucket holds, for the most part: packs if there are any, else loose objects. Some names that nobody
    /// knows are left in any bucket, and a loose object has the same name in every one.
    async fn holds(&self) -> Result<Holds> {
        // Looked at before the list: what has a row has its bytes.
        let new = self.catalog.stored_keys(0, 1).await?.is_empty();
        for prefix in ["objects/pack/", "objects/"] {
            let page = self.store.bucket().list(prefix, None, NAMES).await?;
            let names: BTreeSet<String> = page.entries.iter().filter_map(|(key, _)| owner(key)).collect();
            if names.is_empty() {
                continue;
            }
            let names: Vec<String> = names.into_iter().collect();
            let states = self.catalog.name_states(&names).await?;
            let known = states.iter().filter(|state| **state != NameState::Unknown).count();
            return Ok(if known * 2 >= names.len() { Holds::Ours } else { Holds::Others });
        }
        Ok(if new { Holds::Nothing } else { Holds::Others })
    }
}

fn same(ours: Uuid, theirs: Uuid) -> Result<()> {
    match ours == theirs {
        true => Ok(()),
        false => Err(foreign(&format!("the database is of the store {ours}, the bucket says {theirs}"))),
    }
}

fn foreign(why: &str) -> EngineError {
    EngineError::Conflict {
        code: "foreign_store",
        detail: format!(
            "The bucket is not this database's ({why}), and the collector would empty it: check `store_url` and `database_url`; if the \
             database was lost, run `treehold admin rebuild`; if it was set back in time, `treehold admin restore --fence`."
        ),
    }
}

/// The id twice, so that a value with a wrong digit is not taken for another bucket's.
fn written(id: Uuid) -> String {
    format!("{id}\n{id}\n")
}

/// The id that the value of [`STORE_ID_KEY`] tells; `None`: it is damaged.
pub fn store_id_in(value: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(value).ok()?;
    let id = Uuid::try_parse(text.lines().next()?).ok()?;
    (written(id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_id_is_no_id() {
        let (id, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let text = written(id);
        assert_eq!(store_id_in(text.as_bytes()), Some(id));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            assert_eq!(store_id_in(&bytes[..at]), None, "cut off at {at}");
            bytes[at] ^= 1;
            assert_eq!(store_id_in(&bytes), None, "another bit at {at}");
        }
        assert_eq!(store_id_in(format!("{id}\n{other}\n").as_bytes()), None);
        assert_eq!(store_id_in(b"\xff"), None);
    }

    #[test]
    fn only_the_same_id_is_let_through() {
        let (id, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        assert!(same(id, id).is_ok());
        let refused = same(id, other).unwrap_err();
        assert_eq!(refused.code(), "foreign_store");
        assert!(refused.to_string().contains("store_url"), "{refused}");
    }
}
