use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::CatalogError;

async fn begin(catalog: &Arc<dyn Catalog>) -> Uuid {
    let op = Uuid::new_v4();
    catalog.begin_op(op, None, OpKind::Import, NOW).await.expect("begin");
    op
}

async fn register_alone(catalog: &Arc<dyn Catalog>, objects: &[NewObject]) -> Vec<Registered> {
    let op = begin(catalog).await;
    let name = format!("objects/pack/pack-{}.pack", op.simple());
    let key = catalog.reserve(op, &[name]).await.expect("reserve")[0].expect("a fresh name");
    catalog.register(op, key, objects, NOW).await.expect("register")
}

pub(super) async fn one_object_registered_by_many(case: Case) {
    for round in 0..5 {
        let racing = (0..8).map(|_| {
            let catalog = case.catalog.clone();
            async move { register_alone(&catalog, &[object(format!("round {round}"))]).await[0] }
        });
        let registered = together(racing).await;
        assert_eq!(registered.iter().filter(|row| row.new).count(), 1, "{registered:?}");
        assert!(registered.iter().all(|row| row.number == registered[0].number), "{registered:?}");
    }
    assert_eq!(case.catalog.doomed_never_live(99).await.expect("doomed").len(), 35, "the losers' keys");
}

pub(super) async fn one_name_reserved_by_many(case: Case) {
    for round in 0..5 {
        let racing = (0..8).map(|_| {
            let catalog = case.catalog.clone();
            async move {
                let op = begin(&catalog).await;
                catalog.reserve(op, &[format!("objects/{round}")]).await.expect("reserve")[0]
            }
        });
        assert_eq!(together(racing).await.into_iter().flatten().count(), 1);
    }
}

/// Packs that share objects, each in its own order: no deadlock comes through, and everybody agrees on every number.
pub(super) async fn overlapping_sets_in_any_order(case: Case) {
    let seed = model::seed();
    let racing = (0..6_u64).map(|racer| {
        let catalog = case.catalog.clone();
        async move {
            let mut random = StdRng::seed_from_u64(seed + racer);
            let mut numbers = Vec::new();
            for _ in 0..4 {
                let mut objects: Vec<NewObject> =
                    (0..300).filter(|_| random.random_bool(0.5)).map(|index| object(format!("{index}"))).collect();
                objects.shuffle(&mut random);
                let registered = register_alone(&catalog, &objects).await;
                numbers.extend(objects.iter().map(|object| object.oid).zip(registered.iter().map(|row| row.number)));
                let op = begin(&catalog).await;
                let oids: Vec<ObjectId> = objects.iter().map(|object| object.oid).collect();
                let pinned = catalog.pin(op, &oids).await.expect("pin");
                assert!(pinned.iter().all(Option::is_some), "seed {seed}");
            }
            numbers
        }
    });
    for (oid, number) in together(racing).await.concat() {
        let found = case.catalog.locate(&[oid]).await.expect("locate")[0].clone().expect("located");
        assert_eq!(found.number, number, "seed {seed}");
    }
}

/// A registration either finds its operation open and its rows stay, or it is refused and leaves nothing.
pub(super) async fn a_reaper_against_registrations(case: Case) {
    for round in 0..10 {
        let op = begin(&case.catalog).await;
        let name = format!("objects/{round}");
        let key = case.catalog.reserve(op, &[name]).await.expect("reserve")[0].expect("a fresh name");
        let (writer, reaper) = (case.catalog.clone(), case.catalog.clone());
        let new = object(format!("reaped {round}"));
        let (registered, reaped) = tokio::join!(
            tokio::spawn(async move { writer.register(op, key, &[new], NOW).await }),
            tokio::spawn(async move { reaper.reap_ops(NOW + 1).await }),
        );
        assert_eq!(reaped.expect("no panic").expect("reap"), 1);
        let located = case.catalog.locate(&[oid(format!("reaped {round}"))]).await.expect("locate")[0].is_some();
        let doomed = case.catalog.doomed_never_live(99).await.expect("doomed").iter().any(|(id, _)| *id == key);
        match registered.expect("no panic") {
            Ok(_) => assert!(located && !doomed),
            Err(CatalogError::OpLost) => assert!(!located && doomed),
            Err(other) => panic!("{other:?}"),
        }
    }
}
