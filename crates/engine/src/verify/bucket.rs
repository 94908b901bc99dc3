//! Ledger and bucket, compared both ways: two lists in the same order.

use std::collections::BTreeMap;

use treehold_catalog::{InspectedKey, KeyState};
use treehold_object::pack::TRAILER_LEN;

use super::finding::{Code, Damage};
use super::{ROWS, Run};
use crate::Result;
use crate::keys::owner;

/// Where git keeps notes of its own, and a server one that says how the bucket arbitrates.
const INFO: &str = "objects/info/";

impl Run<'_> {
    pub(super) async fn check_bucket(&mut self) -> Result<()> {
        loop {
            let after = self.state.after.clone();
            let from = Some(after.as_str()).filter(|after| !after.is_empty());
            let page = self.engine.store.bucket().list("objects/", from, ROWS as usize).await?;
            self.state.checked.names += page.entries.len() as u64;
            let names = page.entries.into_iter().collect();
            self.compare(&after, page.next.as_deref(), names).await?;
            self.progress.step("comparing the ledger with the bucket", self.state.checked.names, None);
            match page.next {
                Some(next) => self.reached(next),
                None => return Ok(()),
            }
        }
    }

    /// Compares the keys behind `after`, up to and including `until`, with the names there.
    async fn compare(&mut self, after: &str, until: Option<&str>, mut names: BTreeMap<String, u64>) -> Result<()> {
        let mut after = after.to_owned();
        loop {
            let keys = self.engine.catalog.inspect_keys(&after, until, ROWS).await?;
            let Some(last) = keys.last() else { break };
            after = last.key.clone();
            self.state.checked.keys += keys.len() as u64;
            for key in keys {
                let size = names.remove(&key.key);
                if let Some(idx) = treehold_store::idx_key(&key.key) {
                    names.remove(&idx);
                }
                if key_damage(&key, size).is_some() {
                    self.check_key(&key.key).await?;
                }
            }
        }
        for (name, _) in names {
            self.check_name(name).await?;
        }
        Ok(())
    }

    /// Looks again at a key that seems to be damaged: at its value first, since a key is given up before its value goes.
    async fn check_key(&mut self, name: &str) -> Result<()> {
        let size = self.engine.store.bucket().head(name).await?;
        let key = self.engine.catalog.inspect_names(&[name.to_owned()]).await?.pop().flatten();
        let Some(key) = key else { return Ok(()) };
        let Some(damage) = key_damage(&key, size) else { return Ok(()) };
        let lost = matches!(damage.code, Code::KeyMissing | Code::KeyTruncated);
        let repaired = lost && self.rescue_key(&key).await?;
        self.find(damage, key.key, None, repaired);
        Ok(())
    }

    /// A name that no key of the page has: an index behind the end of its page, a key that is new, or one that nobody knows.
    async fn check_name(&mut self, name: String) -> Result<()> {
        let pack = name.strip_suffix(".idx").map(|stem| format!("{stem}.pack"));
        let key = pack.unwrap_or_else(|| name.clone());
        if let Some(key) = self.engine.catalog.inspect_names(std::slice::from_ref(&key)).await?.pop().flatten() {
            if key.state == KeyState::Deleted && self.is_there(&name).await? {
                self.find(Damage::new(Code::KeyLeft, "it was deleted, and is there"), name, None, false);
            }
            return Ok(());
        }
        if key.starts_with(INFO) {
            return Ok(());
        }
        if owner(&key).is_none() {
            self.find(Damage::new(Code::NameForeign, "git keeps nothing of ours there"), name, None, false);
        } else if self.is_there(&name).await? {
            self.find(Damage::new(Code::KeyUnknown, "the ledger does not know it"), name, None, false);
        }
        Ok(())
    }

    async fn is_there(&self, name: &str) -> Result<bool> {
        Ok(self.engine.store.bucket().head(name).await?.is_some())
    }
}

/// What is wrong with a key whose value has this size.
fn key_damage(key: &InspectedKey, size: Option<u64>) -> Option<Damage> {
    let packed = key.key.ends_with(".pack");
    match (key.state, size) {
        (KeyState::Present, None) => {
            Some(Damage::new(Code::KeyMissing, format!("{} objects have their place there", key.objects)))
        }
        (KeyState::Present, Some(size)) => {
            let least = key.end + if packed { TRAILER_LEN as u64 } else { 0 };
            let right = if packed { size >= least } else { size == least };
            let detail = || format!("it has {size} bytes, the ledger's entries take {least}");
            match key.objects {
                0 => Some(Damage::new(Code::KeyEmpty, "no object has its place there")),
                _ => (!right).then(|| Damage::new(Code::KeyTruncated, detail())),
            }
        }
        (KeyState::Deleted, Some(_)) => Some(Damage::new(Code::KeyLeft, "it was deleted, and is there")),
        (KeyState::Reserved | KeyState::Doomed | KeyState::Deleted, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, state: KeyState, objects: u64) -> InspectedKey {
        InspectedKey { id: 1, key: name.to_owned(), state, objects, end: 100 }
    }

    #[test]
    fn sizes_must_hold_what_the_ledger_says() {
        let code = |key: InspectedKey, size| key_damage(&key, size).map(|damage| damage.code);
        let pack = |state| key("objects/pack/pack-x.pack", state, 3);
        assert_eq!(code(pack(KeyState::Present), Some(120)), None);
        assert_eq!(code(pack(KeyState::Present), Some(9_000)), None, "dead weight");
        assert_eq!(code(pack(KeyState::Present), Some(119)), Some(Code::KeyTruncated));
        assert_eq!(code(pack(KeyState::Present), None), Some(Code::KeyMissing));
        for state in [KeyState::Reserved, KeyState::Doomed, KeyState::Deleted] {
            assert_eq!(code(pack(state), None), None);
        }
        assert_eq!(code(pack(KeyState::Doomed), Some(1)), None);
        assert_eq!(code(pack(KeyState::Deleted), Some(1)), Some(Code::KeyLeft));
        let loose = |size| code(key("objects/ab/cd", KeyState::Present, 1), Some(size));
        assert_eq!([loose(100), loose(99), loose(101)], [None, Some(Code::KeyTruncated), Some(Code::KeyTruncated)]);
        assert_eq!(code(key("objects/ab/cd", KeyState::Present, 0), Some(0)), Some(Code::KeyEmpty));
    }
}
