use bytes::Bytes;

use super::*;
use crate::{CommitRow, Content, Inspected, KeyState};

/// Four keys of one operation: one for each state, in byte order of the name.
async fn four_keys(case: &Case) -> Vec<crate::KeyId> {
    let op = case.op(case.project().await).await;
    let names: Vec<String> = ["aa", "bb", "cc", "dd"].iter().map(|name| format!("objects/pack/{name}.pack")).collect();
    let keys = case.catalog.reserve(op, &names).await.expect("reserve");
    let keys: Vec<_> = keys.into_iter().map(|key| key.expect("a fresh name")).collect();
    for (at, key) in keys.iter().enumerate().take(3) {
        let object = NewObject { offset: 12, length: 30 + at as u64, ..object(format!("object {at}")) };
        case.catalog.register(op, *key, &[object], NOW).await.expect("register");
    }
    case.backend.execute("DELETE FROM objects WHERE len >= 31").await;
    case.backend.execute("UPDATE s3_keys SET state = 'doomed' WHERE s3_key = 'objects/pack/bb.pack'").await;
    case.backend.execute("UPDATE s3_keys SET state = 'deleted' WHERE s3_key = 'objects/pack/cc.pack'").await;
    keys
}

pub(super) async fn keys_whatever_their_state(case: Case) {
    let (catalog, keys) = (&case.catalog, four_keys(&case).await);
    let all = catalog.inspect_keys("", None, 9).await.expect("look");
    let states: Vec<_> = all.iter().map(|key| (key.id, key.state, key.objects, key.end)).collect();
    let expected = [
        (keys[0], KeyState::Present, 1, 42),
        (keys[1], KeyState::Doomed, 0, 0),
        (keys[2], KeyState::Deleted, 0, 0),
        (keys[3], KeyState::Reserved, 0, 0),
    ];
    assert_eq!(states, expected);
    assert_eq!(catalog.inspect_keys("objects/pack/aa.pack", None, 2).await.expect("look"), all[1..3]);
    let until = Some("objects/pack/cc.pack");
    assert_eq!(catalog.inspect_keys("objects/pack/aa.pack", until, 9).await.expect("look"), all[1..3]);
    let names = [all[3].key.clone(), "nowhere".to_owned(), all[0].key.clone()];
    let found = catalog.inspect_names(&names).await.expect("look");
    assert_eq!(found, [Some(all[3].clone()), None, Some(all[0].clone())]);
}

pub(super) async fn objects_whatever_their_state(case: Case) {
    let op = case.op(case.project().await).await;
    let catalog = &case.catalog;
    let objects: Vec<NewObject> =
        (0..5).map(|at| NewObject { offset: 12 + at * 20, ..object(format!("{at}")) }).collect();
    let registered = case.register(op, &objects).await;
    let oids: Vec<ObjectId> = objects.iter().map(|object| object.oid).collect();
    let found = catalog.inspect_objects(&[oids[4], oid("no"), oids[0]]).await.expect("look");
    let last = found[0].clone().expect("its row");
    assert_eq!((last.number, last.live, last.sha256), (registered[4].number, true, objects[4].sha256));
    assert_eq!(last.located(), catalog.locate(&oids[4..]).await.expect("locate")[0]);
    assert!(found[1].is_none() && found[2].is_some());
    let places = catalog.inspect_places(last.key_id, 32, 3).await.expect("look");
    assert_eq!(places.iter().map(|row| row.offset).collect::<Vec<_>>(), [32, 52, 72]);
    let number = |at: usize| registered[at].number;
    assert_eq!(catalog.misplaced(0, 3).await.expect("look"), (Vec::new(), Some(number(2))));
    assert_eq!(catalog.misplaced(number(4), 3).await.expect("look"), (Vec::new(), None));
    case.backend.execute("UPDATE objects SET state = 'C', key_id = key_id + 1000 WHERE off = 52").await;
    let (misplaced, last) = catalog.misplaced(0, 9).await.expect("look");
    assert_eq!(last, Some(number(4)));
    let [row] = &misplaced[..] else { panic!("not one: {misplaced:?}") };
    assert_eq!((row.oid, row.live, &row.key, row.located()), (oids[2], false, &None, None));
    case.backend.execute("UPDATE s3_keys SET state = 'doomed'").await;
    let (misplaced, _) = catalog.misplaced(number(2), 9).await.expect("look");
    let states: Vec<_> = misplaced.iter().map(|row| row.key.as_ref().map(|(_, state)| *state)).collect();
    assert_eq!(states, [Some(KeyState::Doomed), Some(KeyState::Doomed)]);
}

pub(super) async fn what_projects_name(case: Case) {
    let catalog = &case.catalog;
    let key = case.workspace().await;
    let head = oid("head");
    case.publish(key.project, vec![update("refs/heads/main", None, Some(head))]).await;
    case.publish(key.project, vec![update("refs/heads/main", Some(head), None)]).await;
    let moves = catalog.inspect_moves(key.project, 0, 9).await.expect("look");
    let tips: Vec<_> = moves.iter().map(|step| (step.name.as_str(), step.tips)).collect();
    assert_eq!(tips, [("refs/heads/main", [None, Some(head)]), ("refs/heads/main", [Some(head), None])]);
    assert_eq!(catalog.inspect_moves(key.project, moves[0].id, 9).await.expect("look"), moves[1..]);

    case.write(&key, &[edit("b", "text b"), edit("a", "text a"), edit("c", "text c")]).await;
    let rows = catalog.inspect_pending(key.project, None, 9).await.expect("look");
    let named: Vec<_> = rows.iter().map(|row| (row.path.to_vec(), row.oid, row.recorded, row.user)).collect();
    let expected =
        ["a", "b", "c"].map(|name| (name.as_bytes().to_vec(), Some(oid(format!("text {name}"))), true, key.user));
    assert_eq!(named, expected);
    let after = Some((rows[0].workspace, rows[0].path.clone()));
    assert_eq!(catalog.inspect_pending(key.project, after, 9).await.expect("look"), rows[1..]);

    let contents = catalog.inspect_contents(key.project, None, 9).await.expect("look");
    assert_eq!(contents.len(), 3);
    assert!(contents.is_sorted_by_key(|content| content.oid));
    let text = |content: &crate::InspectedContent| content.content == Inspected::Inline(Bytes::from("text b"));
    assert!(contents.iter().any(|content| text(content) && content.oid == oid("text b") && content.size == 6));
    assert_eq!(catalog.inspect_contents(key.project, Some(contents[1].oid), 9).await.expect("look"), contents[2..]);
    case.backend.execute("UPDATE pending_contents SET size = size + 1").await;
    let contents = catalog.inspect_contents(key.project, None, 9).await.expect("look");
    assert!(contents.iter().all(|content| content.content == Inspected::Broken));
    case.backend.execute("UPDATE pending_contents SET content = NULL").await;
    let contents = catalog.inspect_contents(key.project, None, 9).await.expect("look");
    assert!(contents.iter().all(|content| content.content == Inspected::Bucket));
    assert_eq!(catalog.lost_versions(key.project, 9).await.expect("look"), []);
    case.write(&key, &[edit("b", "later b"), edit("a", "later a")]).await;
    case.backend.execute("DELETE FROM pending_contents").await;
    let lost = catalog.lost_versions(key.project, 9).await.expect("look");
    let told: Vec<_> = lost.iter().map(|lost| (lost.path.to_vec(), lost.revision, lost.oid, lost.user)).collect();
    let version =
        |path: &str, revision: i64, content: &str| (path.as_bytes().to_vec(), revision, oid(content), key.user);
    assert_eq!(told, [version("a", 2, "text a"), version("b", 1, "text b")], "what is pending is told elsewhere");
    assert_eq!(catalog.lost_versions(key.project, 1).await.expect("look"), lost[..1]);
    let rows = catalog.inspect_pending(key.project, None, 9).await.expect("look");
    assert!(rows.iter().all(|row| !row.recorded));
    let none = PendingChange::Set {
        action: Action::Deleted,
        mode: 0,
        oid: None,
        size: 0,
        base_oid: Some(oid("base")),
        base_mode: Some(0o100644),
        content: Content::None,
    };
    case.write(&key, &[PendingWrite { change: none, ..reset("d") }]).await;
    let last = catalog.inspect_pending(key.project, None, 9).await.expect("look").pop().expect("a row");
    assert_eq!((last.oid, last.base_oid), (None, Some(oid("base"))));
}

pub(super) async fn what_stands_still(case: Case) {
    let catalog = &case.catalog;
    let op = case.op(case.project().await).await;
    let protocol = catalog.inspect_protocol(NOW, NOW).await.expect("look");
    assert_eq!((protocol.epoch, protocol.horizon), (1, 1));
    assert_eq!((protocol.silent_ops, protocol.stuck_attempts), (Vec::new(), Vec::new()));
    case.backend.execute("UPDATE gc_state SET horizon = 7").await;
    let protocol = catalog.inspect_protocol(NOW + 1, NOW).await.expect("look");
    assert_eq!((protocol.horizon, protocol.silent_ops), (7, vec![(op, NOW)]));
    assert_eq!(catalog.inspect_files().await.expect("look"), Vec::<String>::new());
    let row = |name: &str, parents: Vec<ObjectId>| CommitRow {
        oid: oid(name),
        tree: oid("tree"),
        parents,
        generation: 1,
        time: 0,
        raw: Bytes::from(name.to_owned()),
    };
    let commits = [row("one", vec![oid("p"), oid("a")]), row("two", Vec::new())];
    catalog.put_commits(&commits).await.expect("put");
    let parents = catalog.inspect_parents(&[oid("two"), oid("one"), oid("no")]).await.expect("look");
    assert_eq!(parents, [vec![], vec![oid("p"), oid("a")], vec![]]);
}
