use super::*;
use crate::{CatalogError, LedgerStats, LedgerSums, Located};

pub(super) async fn numbers_objects_in_order(case: Case) {
    let op = case.op(case.project().await).await;
    let objects: Vec<NewObject> = (0..500).rev().map(|index| object(format!("{index}"))).collect();
    let registered = case.register(op, &objects).await;
    assert_eq!(registered.len(), 500);
    for (index, row) in registered.iter().enumerate() {
        assert!(row.new);
        assert_eq!(row.number, registered[0].number + index as u64, "in the order given, without a gap");
    }
    let next = case.register(op, &[object("next")]).await[0];
    assert!(next.new && registered.iter().all(|row| row.number != next.number));
    // The same object twice in one pack is one object.
    let twice = case.register(op, &[object("t"), object("u"), object("t")]).await;
    assert_eq!(twice[0].number, twice[2].number);
    assert_eq!((twice[0].new, twice[1].new, twice[2].new), (true, true, false));
}

pub(super) async fn takes_twenty_thousand_objects(case: Case) {
    let op = case.op(case.project().await).await;
    let mut objects: Vec<NewObject> = (0..20_000).map(|index| object(format!("object {index}"))).collect();
    for (index, object) in objects.iter_mut().enumerate() {
        object.offset = 12 + index as u64 * 100;
    }
    let registered = case.register(op, &objects).await;
    let runs = registered.windows(2).filter(|pair| pair[0].number + 1 != pair[1].number).count();
    assert_eq!(runs, 0, "one import, one run of numbers");
    let oids: Vec<ObjectId> = objects.iter().map(|object| object.oid).collect();
    let located = case.catalog.locate(&oids).await.expect("locate");
    let sizes = case.catalog.sizes(&oids).await.expect("sizes");
    assert_eq!(sizes, objects.iter().map(|object| Some(object.size)).collect::<Vec<_>>());
    let some = [oid("nowhere"), oids[0], oids[0]];
    let sizes = case.catalog.sizes(&some).await.expect("sizes");
    assert_eq!(sizes, [None, Some(objects[0].size), Some(objects[0].size)]);
    for ((object, row), found) in objects.iter().zip(&registered).zip(&located) {
        let found = found.as_ref().expect("located");
        assert_eq!((found.oid, found.number, found.offset), (object.oid, row.number, object.offset));
    }
    let again = case.register(op, &objects).await;
    assert!(again.iter().zip(&registered).all(|(again, first)| !again.new && again.number == first.number));
    let pinned = case.catalog.pin(op, &oids).await.expect("pin");
    assert!(pinned.iter().zip(&registered).all(|(pin, row)| pin.map(|pin| pin.number) == Some(row.number)));
}

pub(super) async fn keeps_the_first_location(case: Case) {
    let op = case.op(case.project().await).await;
    let catalog = &case.catalog;
    let names = ["objects/aa/first".to_owned(), "objects/pack/second.pack".to_owned()];
    let keys = catalog.reserve(op, &names).await.expect("reserve");
    let (first, second) = (keys[0].expect("fresh"), keys[1].expect("fresh"));
    let known = object("known");
    let number = catalog.register(op, first, std::slice::from_ref(&known), NOW).await.expect("register")[0].number;
    let moved = NewObject { offset: 77, length: 5, ..known.clone() };
    let registered = catalog.register(op, second, &[object("new"), moved], NOW).await.expect("register");
    assert_eq!((registered[1].number, registered[1].new, registered[0].new), (number, false, true));
    let expected = Located {
        oid: known.oid,
        number,
        kind: Kind::Blob,
        size: 5,
        key_id: first,
        key: names[0].clone(),
        offset: 0,
        length: known.length,
        base: None,
    };
    assert_eq!(catalog.locate(&[oid("no"), known.oid]).await.expect("locate"), [None, Some(expected)]);
    assert_eq!(catalog.doomed_never_live(9).await.expect("doomed"), [], "the second key holds one new object");
    let stats = catalog.stats().await.expect("stats");
    let expected =
        LedgerStats { objects: 2, content_bytes: 8, stored_bytes: 24, keys: 2, projects: 1, pending: 0, held_bytes: 0 };
    assert_eq!(stats, expected);
    // The same in parts, of which the last may be empty.
    for (limit, parts) in [(1, 3), (2, 2), (9, 1)] {
        let (mut from, mut sums) = (Some(0), Vec::new());
        while let Some(number) = from {
            sums.push(catalog.sums(number, limit).await.expect("sums"));
            from = sums.last().and_then(|part| part.next);
            assert!(sums.len() <= parts, "{sums:?}");
        }
        let sum = |of: fn(&LedgerSums) -> u64| sums.iter().map(of).sum::<u64>();
        let all = (sum(|part| part.objects), sum(|part| part.content_bytes), sum(|part| part.stored_bytes));
        assert_eq!((all, sums.len()), ((2, 8, 24), parts));
    }
}

pub(super) async fn refuses_collisions(case: Case) {
    let op = case.op(case.project().await).await;
    let known = object("known");
    let number = case.register(op, std::slice::from_ref(&known)).await[0].number;
    let evil = [
        NewObject { sha256: [0; 32], ..known.clone() },
        NewObject { size: known.size + 1, ..known.clone() },
        NewObject { kind: Kind::Tree, ..known.clone() },
    ];
    for (index, evil) in evil.into_iter().enumerate() {
        let key =
            case.catalog.reserve(op, &[format!("objects/evil/{index}")]).await.expect("reserve")[0].expect("fresh");
        let beside = object(format!("beside {index}"));
        let outcome = case.catalog.register(op, key, &[beside.clone(), evil.clone()], NOW).await;
        assert!(matches!(outcome, Err(CatalogError::Collision(oid)) if oid == known.oid), "{outcome:?}");
        assert_eq!(case.catalog.locate(&[beside.oid]).await.expect("locate"), [None], "nothing of it was recorded");
        let found = case.catalog.locate(&[known.oid]).await.expect("locate")[0].clone().expect("still there");
        assert_eq!((found.number, found.size, found.kind), (number, known.size, known.kind));
        let fresh = NewObject { oid: oid(format!("fresh {index}")), ..known.clone() };
        let twins = [fresh.clone(), NewObject { oid: fresh.oid, ..evil }];
        let outcome = case.catalog.register(op, key, &twins, NOW).await;
        assert!(
            matches!(outcome, Err(CatalogError::Collision(oid)) if oid == fresh.oid),
            "within one pack: {outcome:?}"
        );
    }
}

pub(super) async fn burns_names(case: Case) {
    let op = case.op(case.project().await).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let catalog = &case.catalog;
    let reserve = async |op, of: &[&str]| catalog.reserve(op, &names(of)).await.expect("reserve");
    let first = reserve(op, &["b", "a", "c"]).await;
    assert!(first.iter().all(Option::is_some) && first[0] != first[1] && first[1] != first[2]);
    assert_eq!(reserve(op, &["c", "d"]).await[0], first[2], "a repetition by the same operation gets the same key");
    let other = case.op(case.project().await).await;
    assert_eq!(reserve(other, &["a", "b", "c"]).await, [None, None, None]);
    // Registered, doomed or deleted: the name stays burnt for everybody.
    catalog.register(op, first[0].expect("key"), &[object("1")], NOW).await.expect("register");
    catalog.end_op(op).await.expect("end");
    let doomed = catalog.doomed_never_live(9).await.expect("doomed");
    let mut doomed_names: Vec<_> = doomed.iter().map(|(_, name)| name.as_str()).collect();
    doomed_names.sort_unstable();
    assert_eq!(doomed_names, ["a", "c", "d"]);
    for (key, _) in &doomed {
        catalog.key_deleted(*key).await.expect("delete");
        catalog.key_deleted(*key).await.expect("delete again");
    }
    assert_eq!(catalog.doomed_never_live(9).await.expect("doomed"), []);
    assert_eq!(reserve(other, &["a", "b", "c", "d", "e"]).await.iter().flatten().count(), 1);
    assert!(matches!(catalog.reserve(op, &names(&["f"])).await, Err(CatalogError::OpLost)));
    assert!(reserve(other, &["f"]).await[0].is_some());
    // A key that is not doomed cannot be recorded as deleted.
    catalog.key_deleted(first[0].expect("key")).await.expect("ignored");
    assert_eq!(case.backend.execute("UPDATE s3_keys SET op_id = op_id WHERE state = 'present'").await, 1);
}

pub(super) async fn dooms_what_was_never_live(case: Case) {
    let op = case.op(case.project().await).await;
    case.register(op, &[object("1"), object("2")]).await;
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed"), []);
    case.register(op, &[object("2"), object("1")]).await;
    case.register(op, &[]).await;
    let doomed = case.catalog.doomed_never_live(9).await.expect("doomed");
    assert_eq!(doomed.len(), 2, "no row names these keys: {doomed:?}");
    assert_eq!(case.catalog.doomed_never_live(1).await.expect("doomed"), doomed[..1]);
    let reserved = case.catalog.reserve(op, &["objects/unused".to_owned()]).await.expect("reserve")[0];
    assert!(reserved.is_some());
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed").len(), 2, "its bytes may be on their way");
    let project = case.project().await;
    let used = case.op(project).await;
    case.catalog.reserve(used, &["objects/also unused".to_owned()]).await.expect("reserve");
    case.catalog.publish(&publication(project, used, Vec::new())).await.expect("publish");
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed").len(), 3, "a publication closes its operation");
    // What a collector doomed was live once and waits for the grace period.
    case.backend.execute("UPDATE s3_keys SET state = 'doomed' WHERE state = 'present'").await;
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed").len(), 3);
}

pub(super) async fn repeats_a_registration(case: Case) {
    let op = case.op(case.project().await).await;
    let key = case.catalog.reserve(op, &["objects/pack/p.pack".to_owned()]).await.expect("reserve")[0].expect("fresh");
    let objects = [object("1"), object("2")];
    let first = case.catalog.register(op, key, &objects, NOW).await.expect("register");
    let again = case.catalog.register(op, key, &objects, NOW).await.expect("the answer again");
    assert_eq!(first, again);
    let more = [object("1"), object("3")];
    let outcome = case.catalog.register(op, key, &more, NOW).await;
    assert!(matches!(outcome, Err(CatalogError::OpLost)), "a registered key gains no rows: {outcome:?}");
    assert_eq!(case.catalog.locate(&[oid("3")]).await.expect("locate"), [None]);
    let known =
        case.catalog.reserve(op, &["objects/pack/q.pack".to_owned()]).await.expect("reserve")[0].expect("fresh");
    let first = case.catalog.register(op, known, &objects, NOW).await.expect("register");
    assert_eq!(case.catalog.register(op, known, &objects, NOW).await.expect("the answer again"), first);
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed").len(), 1);
}

pub(super) async fn refuses_registrations_without_an_open_operation(case: Case) {
    let project = case.project().await;
    let (mine, other) = (case.op(project).await, case.op(project).await);
    let key = case.catalog.reserve(mine, &["objects/1".to_owned()]).await.expect("reserve")[0].expect("fresh");
    let lost = async |op, key| {
        let outcome = case.catalog.register(op, key, &[object("1")], NOW).await;
        assert!(matches!(outcome, Err(CatalogError::OpLost)), "{outcome:?}");
        assert_eq!(case.catalog.locate(&[oid("1")]).await.expect("locate"), [None]);
    };
    lost(other, key).await;
    lost(mine, key + 1000).await;
    lost(Uuid::new_v4(), key).await;
    case.catalog.end_op(mine).await.expect("end");
    lost(mine, key).await;
    assert!(matches!(case.catalog.pin(mine, &[oid("1")]).await, Err(CatalogError::OpLost)));
    assert!(matches!(case.catalog.heartbeat(mine, NOW).await, Err(CatalogError::OpLost)));
    assert!(matches!(case.catalog.begin_op(mine, Some(project), OpKind::Commit, NOW).await, Err(CatalogError::OpLost)));
    case.catalog.end_op(mine).await.expect("ending twice is ending once");
}

pub(super) async fn pins_and_revives(case: Case) {
    let project = case.project().await;
    let before = case.op(project).await;
    let registered = case.register(before, &[object("1"), object("2"), object("3")]).await;
    let asked = [oid("2"), oid("nowhere"), oid("1"), oid("2")];
    let pin = async |op| {
        let pinned = case.catalog.pin(op, &asked).await.expect("pin");
        pinned.into_iter().map(|pin| pin.map(|pin| pin.number)).collect::<Vec<_>>()
    };
    let (one, two) = (registered[0].number, registered[1].number);
    assert_eq!(pin(before).await, [Some(two), None, Some(one), Some(two)]);
    // A later epoch: the collector has condemned them, and pins bring back those that are asked for.
    case.backend.execute("UPDATE gc_state SET epoch = epoch + 1 WHERE id = 1").await;
    assert_eq!(case.backend.execute("UPDATE objects SET state = 'C'").await, 3);
    let after = case.op(project).await;
    assert_eq!(pin(after).await, [Some(two), None, Some(one), Some(two)]);
    let live = "UPDATE objects SET size = size WHERE state = 'L' AND seen_epoch = (SELECT epoch FROM gc_state)";
    assert_eq!(case.backend.execute(live).await, 2);
    assert_eq!(case.backend.execute("UPDATE objects SET size = size WHERE state = 'C' AND seen_epoch = 1").await, 1);
    // An older operation does not take the newer mark away.
    assert_eq!(pin(before).await[0], Some(two));
    assert_eq!(case.backend.execute(live).await, 2);
    // Registering a condemned object again keeps its place and makes it live.
    let again = case.register(after, &[object("3")]).await[0];
    assert_eq!((again.number, again.new), (registered[2].number, false));
    assert_eq!(case.backend.execute(live).await, 3);
    assert_eq!(case.catalog.pin(after, &[]).await.expect("pin"), []);
}

pub(super) async fn reads_packs_from_front_to_back(case: Case) {
    let op = case.op(case.project().await).await;
    let mut numbers = Vec::new();
    for name in ["objects/pack/b.pack", "objects/pack/a.pack"] {
        let key = case.catalog.reserve(op, &[name.to_owned()]).await.expect("reserve")[0].expect("fresh");
        let objects: Vec<NewObject> = [30, 10, 20]
            .iter()
            .map(|offset| NewObject { offset: *offset, ..object(format!("{name} {offset}")) })
            .collect();
        let registered = case.catalog.register(op, key, &objects, NOW).await.expect("register");
        numbers.extend(registered.iter().map(|row| row.number));
    }
    numbers.push(numbers[0]);
    numbers.push(1 << 50);
    let found = case.catalog.locate_numbers(&numbers).await.expect("locate");
    let places: Vec<(&str, u64)> = found.iter().map(|object| (object.key.as_str(), object.offset)).collect();
    let expected = ["objects/pack/a.pack", "objects/pack/b.pack"].map(|key| [(key, 10), (key, 20), (key, 30)]);
    assert_eq!(places, expected.concat());
    assert_eq!(case.catalog.locate_numbers(&[]).await.expect("locate"), []);
    let keys = |chunk: &[Located], count| (chunk[0].key_id, chunk[0].key.clone(), count);
    let (first, last) =
        (found[3..].iter().map(|o| o.number).min().expect("b"), found[..3].iter().map(|o| o.number).max());
    let counted = case.catalog.keys_between(first, last.expect("a") - 1).await.expect("count");
    let mut expected = [keys(&found[..3], 2), keys(&found[3..], 3)];
    expected.sort();
    assert_eq!(counted, expected);
    assert_eq!(case.catalog.keys_between(1 << 50, 1 << 51).await.expect("count"), []);
    for pack in found.chunks(3) {
        let places: Vec<(u64, u64)> = pack.iter().map(|object| (object.offset, object.number)).collect();
        let read = async |from, limit| case.catalog.places_in(pack[0].key_id, from, limit).await.expect("places");
        assert_eq!(read(0, 9).await, places);
        assert_eq!(read(11, 9).await, places[1..]);
        assert_eq!(read(0, 2).await, places[..2]);
        assert_eq!(read(31, 9).await, []);
    }
}

pub(super) async fn reaps_silent_operations(case: Case) {
    let project = case.project().await;
    let (silent, alive) = (case.op(project).await, case.op(project).await);
    for (op, name) in [(silent, "objects/silent"), (alive, "objects/alive")] {
        assert!(case.catalog.reserve(op, &[name.to_owned()]).await.expect("reserve")[0].is_some());
    }
    case.catalog.heartbeat(alive, NOW + 10).await.expect("heartbeat");
    assert_eq!(case.catalog.reap_ops(NOW).await.expect("reap"), 0, "not before the limit");
    assert_eq!(case.catalog.reap_ops(NOW + 10).await.expect("reap"), 1);
    assert_eq!(case.catalog.reap_ops(NOW + 10).await.expect("reap"), 0);
    let doomed = case.catalog.doomed_never_live(9).await.expect("doomed");
    assert_eq!(doomed.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["objects/silent"]);
    assert!(matches!(case.catalog.heartbeat(silent, NOW + 20).await, Err(CatalogError::OpLost)));
    case.register(alive, &[object("1")]).await;
}

pub(super) async fn records_roots(case: Case) {
    let project = case.project().await;
    let refs =
        ["a", "b", "c"].map(|name| update(&format!("refs/heads/{name}"), None, Some(oid(name.replace('c', "a")))));
    case.publish(project, refs.to_vec()).await;
    let op = Uuid::new_v4();
    let begun = case.catalog.begin_op(op, Some(project), OpKind::Import, NOW).await.expect("begin");
    let again = case.catalog.begin_op(op, Some(project), OpKind::Import, NOW).await.expect("repeat");
    assert_eq!(begun, again, "a repetition after a lost answer");
    let roots = "UPDATE ops SET kind = kind WHERE state = 'open' AND length(roots) = 40 AND kind = 'import'";
    assert_eq!(case.backend.execute(roots).await, 1, "each tip once");
    let free = case.catalog.begin_op(Uuid::new_v4(), None, OpKind::Pending, NOW).await.expect("begin");
    assert_eq!(free.epoch, begun.epoch);
}
