//! Chains of deltas within packs.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use treehold_object::pack::Span;

use super::*;
use crate::{CatalogError, Located};

/// A pack of `bases.len()` objects named after `name`; each entry but the whole ones is a delta against an earlier one.
fn pack(name: &str, bases: &[Option<usize>]) -> Vec<NewObject> {
    let place = |index: usize| 12 + index as u64 * 100;
    let entry = |(index, base): (usize, &Option<usize>)| NewObject {
        offset: place(index),
        length: 90 + index as u64 % 10,
        base: base.map(place),
        ..object(format!("{name} {index}"))
    };
    bases.iter().enumerate().map(entry).collect()
}

async fn located(case: &Case, objects: &[NewObject]) -> Vec<Located> {
    let oids: Vec<ObjectId> = objects.iter().map(|object| object.oid).collect();
    case.catalog.locate(&oids).await.expect("locate").into_iter().map(|found| found.expect("located")).collect()
}

/// What an object rests on, by the entries of its pack.
fn expected(pack: &[NewObject], object: &NewObject) -> Vec<Span> {
    let by_place: HashMap<u64, &NewObject> = pack.iter().map(|object| (object.offset, object)).collect();
    let mut spans = Vec::new();
    let mut next = object.base;
    while let Some(offset) = next {
        spans.push(Span { offset, length: by_place[&offset].length });
        next = by_place[&offset].base;
    }
    spans
}

pub(super) async fn are_followed_to_a_whole_object(case: Case) {
    let op = case.op(case.project().await).await;
    // A whole object, a chain of four on it with a branch, and another whole object.
    let pack = pack("a", &[None, Some(0), Some(1), Some(2), Some(1), None]);
    case.register(op, &pack).await;
    let found = located(&case, &pack).await;
    assert_eq!(
        found.iter().map(|found| found.base).collect::<Vec<_>>(),
        pack.iter().map(|o| o.base).collect::<Vec<_>>()
    );
    let chains = case.catalog.chains(&found).await.expect("chains");
    let spans: Vec<Vec<Span>> = pack.iter().map(|object| expected(&pack, object)).collect();
    assert_eq!(chains, spans);
    assert_eq!(chains[3].len(), 3);
    // Twice the same, and none at all.
    let twice = [found[3].clone(), found[0].clone(), found[3].clone()];
    let chains = case.catalog.chains(&twice).await.expect("chains");
    assert_eq!(chains, [spans[3].clone(), Vec::new(), spans[3].clone()]);
    assert_eq!(case.catalog.chains(&[]).await.expect("chains"), Vec::<Vec<Span>>::new());
    let numbers: Vec<u64> = found.iter().map(|found| found.number).collect();
    assert_eq!(case.catalog.locate_numbers(&numbers).await.expect("locate"), found);
}

pub(super) async fn keep_what_is_known_elsewhere(case: Case) {
    let op = case.op(case.project().await).await;
    let first = pack("a", &[None, Some(0), None]);
    case.register(op, &first).await;
    // The same objects at other places, and new ones that rest on them, directly and over another known one.
    let mut second = pack("a", &[None, Some(0), None]);
    second.rotate_left(1);
    for (index, object) in second.iter_mut().enumerate() {
        (object.offset, object.length) = (5_000 + index as u64 * 50, 40);
    }
    // Now: [a1, a2, a0]. a1 is a delta against a2 here.
    (second[0].base, second[1].base, second[2].base) = (Some(second[1].offset), None, None);
    let new = NewObject { offset: 6_000, length: 7, base: Some(second[0].offset), ..object("new") };
    let next = NewObject { offset: 6_100, length: 8, base: Some(new.offset), ..object("next") };
    second.extend([new.clone(), next.clone()]);
    let registered = case.register(op, &second).await;
    assert_eq!(registered.iter().map(|row| row.new).collect::<Vec<_>>(), [false, false, false, true, true]);
    let found = located(&case, &[next.clone(), first[1].clone()]).await;
    let chains = case.catalog.chains(&found).await.expect("chains");
    assert_eq!(chains, [expected(&second, &next), expected(&first, &first[1])]);
    assert_eq!(chains[0].len(), 3);
}

pub(super) async fn end_in_the_same_pack(case: Case) {
    let op = case.op(case.project().await).await;
    let stray = NewObject { offset: 700, base: Some(12), ..object("stray") };
    let key =
        case.catalog.reserve(op, &["objects/pack/stray.pack".to_owned()]).await.expect("reserve")[0].expect("fresh");
    let outcome = case.catalog.register(op, key, std::slice::from_ref(&stray), NOW).await;
    assert!(matches!(outcome, Err(CatalogError::Invalid { .. })), "{outcome:?}");
    assert_eq!(case.catalog.locate(&[stray.oid]).await.expect("locate"), [None], "nothing of it was recorded");
}

pub(super) async fn follow_the_model(case: Case) {
    let op = case.op(case.project().await).await;
    let seed = model::seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut known: Vec<ObjectId> = Vec::new();
    let mut places: HashMap<ObjectId, (usize, NewObject)> = HashMap::new();
    let mut packs: Vec<Vec<NewObject>> = Vec::new();
    for round in 0..12 {
        let count = rng.random_range(1..60);
        let bases: Vec<Option<usize>> =
            (0..count).map(|at| (at > 0 && rng.random_bool(0.8)).then(|| rng.random_range(0..at))).collect();
        let mut pack = pack(&format!("p{round}"), &bases);
        // Some of it is known already, from packs before.
        for entry in &mut pack {
            if let Some(oid) = known.get(rng.random_range(0..60)).filter(|_| rng.random_bool(0.4)) {
                let known = &places[oid].1;
                *entry = NewObject { offset: entry.offset, length: entry.length, base: entry.base, ..known.clone() };
            }
        }
        case.register(op, &pack).await;
        for entry in &pack {
            places.entry(entry.oid).or_insert_with(|| {
                known.push(entry.oid);
                (round, entry.clone())
            });
        }
        packs.push(pack);
        let objects: Vec<NewObject> = places.values().map(|(_, object)| object.clone()).collect();
        let found = located(&case, &objects).await;
        let chains = case.catalog.chains(&found).await.expect("chains");
        for (object, chain) in objects.iter().zip(chains) {
            let (pack, object) = &places[&object.oid];
            assert_eq!(chain, expected(&packs[*pack], object), "seed {seed}");
        }
    }
}
