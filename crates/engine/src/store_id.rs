//! Which database a bucket belongs to: both say the same id, or nothing is written and nothing deleted.
//!
//! To a collector everything in the bucket is garbage that its database does not know. In the bucket of another database that is everything:
//! one wrong `store_url` would empty it. So the two are tied to each other once, by an id that stands in a row and in a value beside git's
//! own notes, and whoever is about to write or delete looks whether they are. A copy of both is tied as they are.

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
/// Where packs are.
const PACKS: &str = "objects/pack/";

/// What a bucket holds, beside what a ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Nothing, and the ledger knows nothing.
    Nothing,
    /// For the most part what the ledger knows.
    Ours,
    /// Packs, of which the ledger knows some.
    Some,
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
            Holds::Some | Holds::Others => return Err(unknown()),
        }
        self.tie_to(theirs).await
    }

    /// [`Self::tie_store`] once: this engine remembers that it went well. Until then nobody waits for anybody else: where the bucket does not
    /// answer, each would wait for all before it.
    pub async fn tie_store_once(&self) -> Result<()> {
        if !self.chores.is_tied() {
            self.tie_store().await?;
            self.chores.tied();
        }
        Ok(())
    }

    /// Before a value goes to the bucket. Whoever asks for a write cannot mend a wrong address: to them the store is unavailable, and the
    /// log says why.
    pub(crate) async fn may_write(&self) -> Result<()> {
        let Err(error) = self.tie_store_once().await else { return Ok(()) };
        match error {
            EngineError::Conflict { .. } | EngineError::Damaged { .. } => {
                tracing::error!(code = error.code(), "nothing is written to the bucket: {error}");
                Err(EngineError::Unavailable { what: "the store", source: Box::new(error) })
            }
            other => Err(other),
        }
    }

    /// Whether a database that was set back in time may be tied to the bucket; a look, which changes nothing. Where they are not tied to
    /// each other yet it is enough that the ledger knows some of the packs: most of them may have come after it.
    pub async fn check_set_back(&self) -> Result<()> {
        let (ours, theirs) = (self.catalog.store_id().await?, self.read_store_id().await?);
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            return same(ours, theirs);
        }
        match self.holds().await? {
            Holds::Ours | Holds::Some => Ok(()),
            Holds::Nothing if theirs.is_none() => Ok(()),
            Holds::Nothing => Err(foreign("another database has been tied to it")),
            Holds::Others => Err(unknown()),
        }
    }

    /// Ties a database for which [`Self::check_set_back`] said yes.
    pub async fn tie_set_back(&self) -> Result<()> {
        let theirs = self.read_store_id().await?;
        self.tie_to(theirs).await
    }

    /// The id of the bucket that a rebuild is about to read, before it gives anything up. One that has none gets the database's, or a new
    /// one. Another than the database's is refused, unless it is forced.
    pub(crate) async fn judge_store(&self, force: bool) -> Result<Uuid> {
        let (ours, theirs) = (self.catalog.store_id().await?, self.read_store_id().await?);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if !force => same(ours, theirs).map(|()| theirs),
            (None, Some(theirs)) => {
                tracing::warn!(
                    store = %theirs,
                    "this database takes the bucket's id: if another database still works with the bucket, end that one, or work with a \
                     copy of the bucket; the collector of either deletes what the other one stores"
                );
                Ok(theirs)
            }
            (_, Some(theirs)) => Ok(theirs),
            (ours, None) => self.write_store_id(ours.unwrap_or_else(|| self.ambient.uuid())).await,
        }
    }

    /// The database is of the bucket that says this, whatever it was of before: its ledger is made of that one.
    pub(crate) async fn adopt_store(&self, theirs: Uuid) -> Result<()> {
        same(self.catalog.set_store_id(theirs, true).await?, theirs)
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
        self.tie_store_once().await?;
        Ok(self.store.delete(name).await?)
    }

    /// Between servers that begin at once on a new bucket the database decides, between databases the bucket.
    async fn tie_to(&self, theirs: Option<Uuid>) -> Result<()> {
        if let Some(theirs) = theirs {
            return same(self.catalog.set_store_id(theirs, false).await?, theirs);
        }
        let ours = self.catalog.set_store_id(self.ambient.uuid(), false).await?;
        same(ours, self.write_store_id(ours).await?)
    }

    /// Writes the bucket's id if it has none; the one that it has then.
    async fn write_store_id(&self, id: Uuid) -> Result<Uuid> {
        match self.store.bucket().put(STORE_ID_KEY, Payload::Bytes(written(id).into())).await {
            Ok(_) | Err(StoreError::Occupied { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // A bucket without conditional writes may have replaced another's.
        let there = self.read_store_id().await?;
        there.ok_or_else(|| foreign("the bucket does not keep what is written to it"))
    }

    async fn read_store_id(&self) -> Result<Option<Uuid>> {
        // What does not come out right is read a second time: it may have been damaged on the way.
        for _ in 0..2 {
            let Some(value) = self.store.bucket().get(STORE_ID_KEY, None).await? else { return Ok(None) };
            if let Some(id) = store_id_in(&value) {
                return Ok(Some(id));
            }
        }
        Err(EngineError::Damaged {
            what: format!("value {STORE_ID_KEY} (deleted, it is written again)"),
            source: "it is not an id".into(),
        })
    }

    /// Whether the ledger knows what the bucket holds, for the most part: packs if there are any, else loose objects. Some names that nobody
    /// knows are left in any bucket, and a loose object has the same name in every one.
    async fn holds(&self) -> Result<Holds> {
        // Looked at before the list: what has a row has its bytes.
        let new = self.catalog.stored_keys(0, 1).await?.is_empty();
        for prefix in [PACKS, "objects/"] {
            let page = self.store.bucket().list(prefix, None, NAMES).await?;
            let names: BTreeSet<String> = page.entries.iter().filter_map(|(key, _)| owner(key)).collect();
            if names.is_empty() {
                continue;
            }
            let names: Vec<String> = names.into_iter().collect();
            let states = self.catalog.name_states(&names).await?;
            let known = states.iter().filter(|state| **state != NameState::Unknown).count();
            return Ok(match known {
                known if known * 2 >= names.len() => Holds::Ours,
                known if known > 0 && prefix == PACKS => Holds::Some,
                _ => Holds::Others,
            });
        }
        Ok(if new { Holds::Nothing } else { Holds::Others })
    }
}

fn same(ours: Uuid, theirs: Uuid) -> Result<()> {
    match ours == theirs {
        true => Ok(()),
        false => Err(EngineError::Conflict {
            code: "foreign_store",
            detail: format!(
                "The bucket is not this database's (the database is of the store {ours}, the bucket's {STORE_ID_KEY} says {theirs}), and \
                 the collector would empty it: check `store_url` and `database_url`. If both are what they should be, and the ledger is \
                 not of this bucket: `treehold admin rebuild --force` makes the ledger again from the bucket and takes its id. If the \
                 ledger is of this bucket and only that value came from elsewhere: delete the value, and the next start writes {ours}."
            ),
        }),
    }
}

fn unknown() -> EngineError {
    foreign("they are not tied to each other yet, and what the bucket holds is not what the database knows")
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
