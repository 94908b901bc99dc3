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
/// Most bytes of content; and most bytes of what the client has and deltas rest on.
const BYTES_MAX: u64 = 16 << 20;
/// What a delta rests on is no larger than this, bytes…
const BASE_MAX: u64 = 4 << 20;
/// …nor than so many times the object: what little is left of something long is sent as it is.
const BASE_SHARE: u64 = 8;

/// Few objects, in an order in which what an object is an edit of comes first, if it is among them.
#[derive(Debug)]
pub(super) struct Few {
    oids: Vec<ObjectId>,
    sizes: HashMap<ObjectId, u64>,
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
        Self {
            oids: Vec::new(),
            sizes: HashMap::new(),
            bytes: 0,
            previous,
            options,
            partial: arguments.filter.is_some(),
        }
    }

    /// One more; `None` if these are not few.
    pub fn with(mut self, row: &Located) -> Option<Self> {
        self.oids.push(row.oid);
        self.sizes.insert(row.oid, row.size);
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
        let bases: Vec<(ObjectId, ObjectId)> =
            self.oids.iter().filter_map(|oid| previous(oid).map(|base| (*oid, base))).collect();
        let mut outside: Vec<ObjectId> =
            bases.iter().map(|(_, base)| *base).filter(|oid| !inside.contains(oid)).collect();
        outside.sort_unstable();
        outside.dedup();
        let located = engine.catalog.locate(&outside).await?;
        let outside: HashMap<ObjectId, u64> = located.into_iter().flatten().map(|row| (row.oid, row.size)).collect();
        let (bases, outside) = worth_reading(bases, &inside, &self.sizes, &outside);
        let order = bases_first(&self.oids, &bases);
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

/// Leaves out bases that would cost more to read than the deltas against them save; also those that are left and do not come with the
/// pack. Content of what comes with it is read anyway.
fn worth_reading(
    bases: Vec<(ObjectId, ObjectId)>,
    inside: &HashSet<ObjectId>,
    sizes: &HashMap<ObjectId, u64>,
    outside: &HashMap<ObjectId, u64>,
) -> (HashMap<ObjectId, ObjectId>, Vec<ObjectId>) {
    let (mut kept, mut read, mut bytes) = (HashMap::new(), HashSet::new(), 0);
    for (oid, base) in bases {
        if inside.contains(&base) || read.contains(&base) {
            kept.insert(oid, base);
            continue;
        }
        let Some(size) = outside.get(&base) else { continue };
        let most = sizes.get(&oid).map_or(0, |own| own.saturating_mul(BASE_SHARE)).min(BASE_MAX);
        if *size <= most && bytes + size <= BYTES_MAX {
            bytes += size;
            read.insert(base);
            kept.insert(oid, base);
        }
    }
    (kept, read.into_iter().collect())
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
    fn no_more_bases_are_read_than_pay() {
        let oid = |byte: u8| ObjectId::Sha1([byte; 20]);
        let inside: HashSet<ObjectId> = (1..=9).map(oid).collect();
        let sizes = |sizes: &[(u8, u64)]| sizes.iter().map(|(byte, size)| (oid(*byte), *size)).collect();
        let own = sizes(&[
            (1, 100),
            (2, 100),
            (3, 4 << 20),
            (4, 4 << 20),
            (5, 4 << 20),
            (6, 4 << 20),
            (7, 4 << 20),
            (8, 5 << 20),
        ]);
        let outside = sizes(&[
            (11, 800),
            (12, 801),
            (13, 4 << 20),
            (14, 4 << 20),
            (15, 4 << 20),
            (16, (4 << 20) - 800),
            (17, 1),
            (18, (4 << 20) + 1),
        ]);
        let bases = [(1, 11), (2, 12), (3, 13), (4, 14), (5, 15), (6, 16), (7, 17), (8, 18), (9, 1)];
        let bases = bases.map(|(one, base)| (oid(one), oid(base))).to_vec();
        let (kept, mut read) = worth_reading(bases, &inside, &own, &outside);
        read.sort_unstable();
        assert_eq!(read, [11, 13, 14, 15, 16].map(oid), "not what is too large, nor more than fits");
        let mut kept: Vec<_> = kept.into_iter().collect();
        kept.sort_unstable();
        assert_eq!(
            kept,
            [(1, 11), (3, 13), (4, 14), (5, 15), (6, 16), (9, 1)].map(|(one, base)| (oid(one), oid(base)))
        );
    }

    #[test]
    fn bases_come_first_and_circles_end() {
        let oid = |byte: u8| ObjectId::Sha1([byte; 20]);
        let oids = [1, 2, 3, 4, 5].map(oid);
        let bases =
            HashMap::from([(oid(1), oid(3)), (oid(3), oid(2)), (oid(4), oid(5)), (oid(5), oid(4)), (oid(2), oid(9))]);
        assert_eq!(bases_first(&oids, &bases), [2, 3, 1, 5, 4].map(oid));
    }
}
