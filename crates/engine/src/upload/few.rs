//! A pack of few objects: each as an edit of what stood at its place before, where that is smaller.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use bytes::Bytes;
use treehold_catalog::Located;
use treehold_object::{Kind, ObjectId};
use treehold_wire::push::{PackOptions, PushObject, PushPack};
use treehold_wire::serve::FetchArguments;

use super::Uploaded;
use crate::{Engine, EngineError, Result, blocking};

/// Most objects.
const OBJECTS_MAX: usize = 1000;
/// Most bytes of content.
const BYTES_MAX: u64 = 16 << 20;

/// Few objects, in an order in which what an object is an edit of comes first, if it is among them.
#[derive(Debug)]
pub(super) struct Few {
    oids: Vec<ObjectId>,
    bytes: u64,
    /// What the client has, or gets with this, that an object is an edit of.
    previous: HashMap<ObjectId, ObjectId>,
    options: PackOptions,
    /// The client may lack what it has by right: it left objects out.
    partial: bool,
}

impl Few {
    pub fn new(arguments: &FetchArguments, previous: HashMap<ObjectId, ObjectId>) -> Self {
        let options = PackOptions { level: 6, ofs_delta: arguments.ofs_delta, thin: arguments.thin_pack };
        Self { oids: Vec::new(), bytes: 0, previous, options, partial: arguments.filter.is_some() }
    }

    /// One more; `None` if these are not few.
    pub fn with(mut self, row: &Located) -> Option<Self> {
        self.oids.push(row.oid);
        self.bytes += row.size;
        (self.oids.len() <= OBJECTS_MAX && self.bytes <= BYTES_MAX).then_some(self)
    }

    pub fn with_empty_tree(mut self) -> Self {
        self.oids.push(ObjectId::empty_tree(gix_hash::Kind::Sha1));
        self
    }

    pub async fn send<W: Write + Send + 'static>(self, engine: &Engine, out: W) -> Result<(W, Uploaded)> {
        let inside: HashSet<ObjectId> = self.oids.iter().copied().collect();
        let previous = |oid: &ObjectId| {
            let base = self.previous.get(oid).copied()?;
            (inside.contains(&base) || (self.options.thin && !self.partial)).then_some(base)
        };
        let bases: HashMap<ObjectId, ObjectId> =
            self.oids.iter().filter_map(|oid| previous(oid).map(|base| (*oid, base))).collect();
        let order = bases_first(&self.oids, &bases);
        let outside: Vec<ObjectId> = bases.values().filter(|base| !inside.contains(*base)).copied().collect();
        let contents = contents(engine, &[&order[..], &outside].concat(), &inside).await?;
        let options = self.options;
        let (out, summary) = blocking(move || {
            let count = u32::try_from(order.len()).map_err(EngineError::internal)?;
            let mut pack = PushPack::new(out, count, options).map_err(EngineError::internal)?;
            let mut waiting = inside;
            for oid in order {
                let lost = || EngineError::internal(format!("object {oid} was not read"));
                let (kind, content) = contents.get(&oid).ok_or_else(lost)?;
                let base = bases.get(&oid).and_then(|base| Some((*base, contents.get(base)?)));
                // In a circle one of them is no edit of another.
                let base = base.filter(|(base, (base_kind, _))| base_kind == kind && !waiting.contains(base));
                let base = base.map(|(base, (_, content))| (base, &content[..]));
                pack.add(&PushObject { oid, kind: *kind, content, base }).map_err(EngineError::internal)?;
                waiting.remove(&oid);
            }
            pack.finish().map_err(EngineError::internal)
        })
        .await?;
        Ok((out, Uploaded { objects: u64::from(summary.objects), bytes: summary.bytes }))
    }
}

/// Contents by id. What only serves as a base may be absent; it is one less delta then.
async fn contents(
    engine: &Engine,
    oids: &[ObjectId],
    needed: &HashSet<ObjectId>,
) -> Result<HashMap<ObjectId, (Kind, Bytes)>> {
    let mut contents = HashMap::with_capacity(oids.len());
    for (oid, object) in oids.iter().zip(engine.objects(oids).await?) {
        match object {
            Some(object) => contents.insert(*oid, (object.kind, object.content)),
            None if oid.is_empty_tree() => contents.insert(*oid, (Kind::Tree, Bytes::new())),
            None if needed.contains(oid) => return Err(EngineError::internal(format!("object {oid} is not stored"))),
            None => None,
        };
    }
    Ok(contents)
}

/// The same objects; what one of them is an edit of comes before it, where that does not go round in a circle.
fn bases_first(oids: &[ObjectId], bases: &HashMap<ObjectId, ObjectId>) -> Vec<ObjectId> {
    let mut waiting: HashSet<ObjectId> = oids.iter().copied().collect();
    let mut order = Vec::with_capacity(oids.len());
    for oid in oids {
        let mut chain = Vec::new();
        let mut next = Some(*oid);
        while let Some(oid) = next.filter(|oid| waiting.remove(oid)) {
            chain.push(oid);
            next = bases.get(&oid).copied();
        }
        order.extend(chain.into_iter().rev());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_come_first_and_circles_end() {
        let oid = |byte: u8| ObjectId::Sha1([byte; 20]);
        let oids = [1, 2, 3, 4, 5].map(oid);
        let bases =
            HashMap::from([(oid(1), oid(3)), (oid(3), oid(2)), (oid(4), oid(5)), (oid(5), oid(4)), (oid(2), oid(9))]);
        assert_eq!(bases_first(&oids, &bases), [2, 3, 1, 5, 4].map(oid));
    }
}
