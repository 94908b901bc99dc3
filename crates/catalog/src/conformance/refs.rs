use roaring::RoaringTreemap;

use super::*;
use crate::{CatalogError, Guard, PublishOutcome, Ref};

const MAIN: &str = "refs/heads/main";

pub(super) async fn move_only_from_what_they_were(case: Case) {
    let project = case.project().await;
    let (one, two) = (oid("1"), oid("2"));
    let moved = |actual| PublishOutcome::Moved(MAIN.to_owned(), actual);
    assert_eq!(case.publish(project, vec![update(MAIN, Some(one), Some(two))]).await, moved(None));
    assert_eq!(case.publish(project, vec![update(MAIN, None, Some(one))]).await, PublishOutcome::Published);
    assert_eq!(case.publish(project, vec![update(MAIN, None, Some(two))]).await, moved(Some(one)));
    assert_eq!(case.publish(project, vec![update(MAIN, Some(two), Some(one))]).await, moved(Some(one)), "already new");
    assert_eq!(case.catalog.reference(project, MAIN).await.expect("ref"), Some(one));
    assert_eq!(case.publish(project, vec![update(MAIN, Some(one), Some(one))]).await, PublishOutcome::Published);
    assert_eq!(case.publish(project, vec![update(MAIN, Some(one), Some(two))]).await, PublishOutcome::Published);
    assert_eq!(case.catalog.reference(project, MAIN).await.expect("ref"), Some(two));
    assert_eq!(case.publish(project, vec![update(MAIN, Some(one), None)]).await, moved(Some(two)));
    assert_eq!(case.publish(project, vec![update(MAIN, Some(two), None)]).await, PublishOutcome::Published);
    assert_eq!(case.catalog.reference(project, MAIN).await.expect("ref"), None);
}

pub(super) async fn move_all_or_none(case: Case) {
    let project = case.project().await;
    let op = case.op(project).await;
    let refs = vec![update("refs/heads/a", None, Some(oid("a"))), update("refs/heads/b", Some(oid("x")), None)];
    let mut publish = publication(project, op, refs);
    publish.remote_refs = vec![("refs/heads/a".to_owned(), Some(oid("a")))];
    publish.reached = RoaringTreemap::from_iter([7]);
    publish.shallow = Some(vec![oid("s")]);
    let outcome = case.catalog.publish(&publish).await.expect("publish");
    assert_eq!(outcome, PublishOutcome::Moved("refs/heads/b".to_owned(), None));
    assert_eq!(case.catalog.references(project, "").await.expect("refs"), []);
    assert_eq!(case.catalog.remote_references(project, "").await.expect("refs"), []);
    assert!(case.catalog.reach(project).await.expect("reach").is_empty());
    assert!(case.catalog.shallow(project).await.expect("shallow").is_empty());
    // The operation is still open: the caller may look again and publish under it.
    publish.refs.pop();
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    assert_eq!(case.catalog.reference(project, "refs/heads/a").await.expect("ref"), Some(oid("a")));
}

pub(super) async fn move_only_under_their_guard(case: Case) {
    let project = case.project().await;
    let state = async || case.catalog.ref_state(project).await.expect("state");
    let publish = async |guard, refs, replace_reach| {
        let publish = Publish { guard, replace_reach, ..publication(project, case.op(project).await, refs) };
        case.catalog.publish(&publish).await.expect("publish")
    };
    let seen = state().await;
    let first = vec![update(MAIN, None, Some(oid("1")))];
    assert_eq!(publish(Some(Guard::Unmoved(seen)), first, false).await, PublishOutcome::Published);
    let side = |n: &str| vec![update(&format!("refs/heads/{n}"), None, Some(oid(n)))];
    assert_eq!(publish(Some(Guard::Unmoved(seen)), side("a"), false).await, PublishOutcome::Overtaken);
    assert_eq!(case.catalog.reference(project, "refs/heads/a").await.expect("ref"), None);
    assert_eq!(publish(Some(Guard::Kept(seen)), side("a"), false).await, PublishOutcome::Published);
    let later = state().await;
    assert!(later.moves > seen.moves && later.shrinks == seen.shrinks);
    case.remote_refs(project, &[(MAIN, Some(oid("1")))]).await;
    assert_eq!(publish(Some(Guard::Unmoved(later)), side("b"), false).await, PublishOutcome::Overtaken);
    let gone = vec![update(MAIN, Some(oid("1")), None)];
    let now = state().await;
    assert_eq!(publish(Some(Guard::Unmoved(now)), gone, true).await, PublishOutcome::Published);
    assert_eq!(publish(Some(Guard::Kept(now)), side("b"), false).await, PublishOutcome::Overtaken);
    // Nobody else's refs count.
    let now = state().await;
    case.publish(case.project().await, vec![update(MAIN, None, Some(oid("x")))]).await;
    assert_eq!(publish(Some(Guard::Unmoved(now)), side("b"), false).await, PublishOutcome::Published);
}

/// What was begun for a project that is deleted does not publish into one that is made again under its id.
pub(super) async fn of_a_project_made_again_are_its_own(case: Case) {
    let project = case.project().await;
    let seen = case.catalog.ref_state(project).await.expect("state");
    let op = case.op(project).await;
    assert!(case.catalog.delete_project(project).await.expect("delete"));
    let again = case.catalog.create_project(&super::new_project_at(project, NOW + 1)).await.expect("create");
    assert!(matches!(again, crate::CreateOutcome::Created(_)), "{again:?}");
    for guard in [Guard::Kept(seen), Guard::Unmoved(seen)] {
        let publish =
            Publish { guard: Some(guard), ..publication(project, op, vec![update(MAIN, None, Some(oid("1")))]) };
        assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Overtaken);
    }
}

pub(super) async fn are_listed_by_prefix_in_byte_order(case: Case) {
    let project = case.project().await;
    let mut names = [
        "refs/heads/Z",
        "refs/heads/a",
        "refs/heads/ä",
        "refs/heads/a-b",
        "refs/heads/a.b",
        "refs/heads/😀",
        "refs/tags/v1",
    ];
    let updates = names.iter().map(|name| update(name, None, Some(oid(name)))).collect();
    assert_eq!(case.publish(project, updates).await, PublishOutcome::Published);
    case.publish(case.project().await, vec![update("refs/heads/other", None, Some(oid("other")))]).await;
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for prefix in ["", "refs/", "refs/heads/", "refs/heads/a", "refs/tags/", "refs/tags/v1", "refs/x", "refs/heads/ä"]
    {
        let expected: Vec<Ref> = names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .map(|name| Ref { name: (*name).to_owned(), oid: oid(name), ephemeral: None })
            .collect();
        assert_eq!(case.catalog.references(project, prefix).await.expect("refs"), expected, "{prefix:?}");
        for after in [None, Some("a"), Some("refs/heads/a"), Some("refs/heads/a-"), Some("refs/tags/v1"), Some("x")] {
            for limit in [1, 3, 9] {
                let rest = expected.iter().filter(|found| after.is_none_or(|after| found.name.as_str() > after));
                let rest: Vec<Ref> = rest.take(limit as usize).cloned().collect();
                let page = case.catalog.references_page(project, prefix, after, limit).await.expect("a page");
                assert_eq!(page, rest, "{limit} of {prefix:?} after {after:?}");
            }
        }
    }
}

pub(super) async fn have_one_winner_of_many(case: Case) {
    let project = case.project().await;
    let mut head = None;
    for round in 0..6 {
        let racing = (0..8).map(|racer| {
            let (catalog, new) = (case.catalog.clone(), oid(format!("{round} {racer}")));
            async move {
                let op = Uuid::new_v4();
                catalog.begin_op(op, Some(project), OpKind::Commit, NOW).await.expect("begin");
                let publish = publication(project, op, vec![update(MAIN, head, Some(new))]);
                (new, catalog.publish(&publish).await.expect("publish"))
            }
        });
        let outcomes = together(racing).await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome == PublishOutcome::Published).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        head = Some(winners[0].0);
        let lost = PublishOutcome::Moved(MAIN.to_owned(), head);
        for (_, outcome) in outcomes.iter().filter(|(_, outcome)| *outcome != PublishOutcome::Published) {
            assert_eq!(*outcome, lost, "the loser sees the winner");
        }
        assert_eq!(case.catalog.reference(project, MAIN).await.expect("ref"), head);
    }
}

pub(super) async fn are_never_published_by_a_lost_operation(case: Case) {
    let project = case.project().await;
    let refused = async |op: Uuid| {
        let publish = publication(project, op, vec![update(MAIN, None, Some(oid("1")))]);
        let outcome = case.catalog.publish(&publish).await;
        assert!(matches!(outcome, Err(CatalogError::OpLost)), "{outcome:?}");
        assert_eq!(case.catalog.references(project, "").await.expect("refs"), []);
    };
    refused(Uuid::new_v4()).await;
    let ended = case.op(project).await;
    case.catalog.end_op(ended).await.expect("end");
    refused(ended).await;
    let silent = case.op(project).await;
    assert_eq!(case.catalog.reap_ops(NOW + 1).await.expect("reap"), 1);
    refused(silent).await;
    refused(case.op(case.project().await).await).await;
    let used = case.op(project).await;
    case.catalog.publish(&publication(project, used, Vec::new())).await.expect("publish");
    refused(used).await;
}

pub(super) async fn are_never_published_across_the_horizon(case: Case) {
    let project = case.project().await;
    let late = case.op(project).await;
    // G1 and G2 of a collector that does not wait for this operation.
    case.backend.execute("UPDATE gc_state SET epoch = epoch + 1, horizon = epoch + 1 WHERE id = 1").await;
    let on_time = case.op(project).await;
    let publish = |op| publication(project, op, vec![update(MAIN, None, Some(oid("1")))]);
    assert!(matches!(case.catalog.publish(&publish(late)).await, Err(CatalogError::OpLost)));
    assert_eq!(case.catalog.references(project, "").await.expect("refs"), []);
    assert_eq!(case.catalog.publish(&publish(on_time)).await.expect("publish"), PublishOutcome::Published);
}

pub(super) async fn grow_reach_and_replace_it(case: Case) {
    let project = case.project().await;
    let publish = async |reached: &[u64], replace| {
        let mut publish = publication(project, case.op(project).await, Vec::new());
        publish.reached = reached.iter().copied().collect();
        publish.replace_reach = replace;
        case.catalog.publish(&publish).await.expect("publish");
        case.catalog.reach(project).await.expect("reach")
    };
    let numbers = |numbers: &[u64]| numbers.iter().copied().collect::<RoaringTreemap>();
    assert_eq!(publish(&[1, 2, 1 << 40], false).await, numbers(&[1, 2, 1 << 40]));
    assert_eq!(publish(&[], false).await, numbers(&[1, 2, 1 << 40]));
    assert_eq!(publish(&[2, 3], false).await, numbers(&[1, 2, 3, 1 << 40]));
    assert_eq!(publish(&[3], true).await, numbers(&[3]));
    assert_eq!(publish(&[], true).await, numbers(&[]));
    // Publications at the same time lose nothing of each other.
    let racing = (0..8_u64).map(|racer| {
        let catalog = case.catalog.clone();
        async move {
            let op = Uuid::new_v4();
            catalog.begin_op(op, Some(project), OpKind::Commit, NOW).await.expect("begin");
            let mut publish = publication(project, op, Vec::new());
            publish.reached = (racer * 100..racer * 100 + 50).collect();
            catalog.publish(&publish).await.expect("publish");
        }
    });
    together(racing).await;
    assert_eq!(case.catalog.reach(project).await.expect("reach").len(), 400);
}

pub(super) async fn decide_what_may_be_read(case: Case) {
    let key = case.workspace().await;
    let other = case.workspace().await;
    let op = case.op(key.project).await;
    let registered = case.register(op, &[object("reached"), object("stored")]).await;
    let mut publish = publication(key.project, op, Vec::new());
    publish.reached.insert(registered[0].number);
    case.catalog.publish(&publish).await.expect("publish");
    case.write(&key, &[edit("a", "replaced")]).await;
    case.write(&key, &[edit("a", "pending")]).await;
    let asked = [oid("reached"), oid("stored"), oid("pending"), oid("replaced"), oid("nowhere"), oid("reached")];
    let mine = case.catalog.may_read(key.project, &asked).await.expect("may read");
    assert_eq!(mine, [true, false, true, true, false, true]);
    let theirs = case.catalog.may_read(other.project, &asked).await.expect("may read");
    assert_eq!(theirs, [false; 6], "existence is no proof of access");
    assert!(case.catalog.may_read(key.project, &[]).await.expect("may read").is_empty());
}

pub(super) async fn carry_remote_refs_and_shallow_commits(case: Case) {
    let project = case.project().await;
    let mut publish = publication(project, case.op(project).await, Vec::new());
    publish.remote_refs = vec![(MAIN.to_owned(), Some(oid("1"))), ("refs/heads/x".to_owned(), Some(oid("x")))];
    publish.shallow = Some(vec![oid("s1"), oid("s2"), oid("s1")]);
    case.catalog.publish(&publish).await.expect("publish");
    let seen = async || case.catalog.remote_references(project, "refs/heads/").await.expect("refs");
    let named = |name: &str, target: &str| Ref { name: name.to_owned(), oid: oid(target), ephemeral: None };
    assert_eq!(seen().await, [named(MAIN, "1"), named("refs/heads/x", "x")]);
    let mut shallow = vec![oid("s1"), oid("s2")];
    shallow.sort_unstable();
    assert_eq!(case.catalog.shallow(project).await.expect("shallow"), shallow);

    let refs = [("refs/heads/x", None), (MAIN, Some(oid("2"))), ("refs/heads/gone", None)];
    case.remote_refs(project, &refs).await;
    assert_eq!(seen().await, [named(MAIN, "2")]);
    assert_eq!(case.catalog.shallow(project).await.expect("shallow"), shallow, "untouched without being named");
    let mut publish = publication(project, case.op(project).await, Vec::new());
    publish.shallow = Some(Vec::new());
    case.catalog.publish(&publish).await.expect("publish");
    assert!(case.catalog.shallow(project).await.expect("shallow").is_empty());
    assert_eq!(case.catalog.references(project, "").await.expect("refs"), [], "our own refs are others");
}

/// Who asked the remote earlier does not set back what another one has recorded since.
pub(super) async fn keep_what_was_seen_of_the_remote_since(case: Case) {
    let project = case.project().await;
    let record = async |seen: Option<&str>, new: Option<&str>| {
        let mut publish = publication(project, case.op(project).await, Vec::new());
        publish.remote_refs = vec![(MAIN.to_owned(), new.map(oid))];
        publish.remote_seen = vec![(MAIN.to_owned(), seen.map(oid))];
        let outcome = case.catalog.publish(&publish).await.expect("publish");
        let known = case.catalog.remote_references(project, MAIN).await.expect("refs");
        (outcome == PublishOutcome::Published, known.first().map(|known| known.oid))
    };
    let at = |target: &str| Some(oid(target));
    assert_eq!(record(None, Some("1")).await, (true, at("1")));
    assert_eq!(record(None, Some("2")).await, (false, at("1")), "it was not known when that one asked");
    assert_eq!(record(None, Some("1")).await, (true, at("1")), "two that saw the same agree");
    assert_eq!(record(Some("1"), Some("2")).await, (true, at("2")));
    assert_eq!(record(Some("1"), Some("3")).await, (false, at("2")));
    assert_eq!(record(Some("1"), None).await, (false, at("2")));
    assert_eq!(record(Some("2"), None).await, (true, None));
    assert_eq!(record(Some("2"), None).await, (true, None));
    assert_eq!(record(Some("2"), Some("3")).await, (false, None));

    // Nothing else happens either, and whoever looks again goes on under the same operation.
    let side = "refs/heads/side";
    let mut publish = publication(project, case.op(project).await, vec![update(side, None, at("side"))]);
    publish.remote_refs = vec![(MAIN.to_owned(), at("3"))];
    publish.remote_seen = vec![(MAIN.to_owned(), at("2"))];
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Overtaken);
    assert_eq!(case.catalog.reference(project, side).await.expect("ref"), None);
    publish.remote_seen = vec![(MAIN.to_owned(), None)];
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    assert_eq!(case.catalog.reference(project, side).await.expect("ref"), at("side"));
    // Another project's, and our own refs of the same name, are others.
    let elsewhere = case.project().await;
    case.remote_refs(elsewhere, &[(MAIN, at("4"))]).await;
    case.publish(project, vec![update(MAIN, None, at("5"))]).await;
    assert_eq!(record(Some("3"), Some("6")).await, (true, at("6")));
}

pub(super) async fn are_logged(case: Case) {
    let project = case.project().await;
    case.publish(project, vec![update(MAIN, None, Some(oid("1"))), update("refs/heads/x", None, None)]).await;
    case.publish(project, vec![update(MAIN, Some(oid("1")), Some(oid("1")))]).await;
    case.publish(project, vec![update(MAIN, Some(oid("9")), Some(oid("2")))]).await;
    case.publish(project, vec![update(MAIN, Some(oid("1")), None)]).await;
    let logged = async |sql| case.backend.execute(sql).await;
    assert_eq!(logged("UPDATE reflog SET at = at").await, 2, "what changed nothing is not logged");
    assert_eq!(
        logged("UPDATE reflog SET at = at WHERE old IS NULL AND new IS NOT NULL AND reason = 'update'").await,
        1
    );
    assert_eq!(logged("UPDATE reflog SET at = at WHERE old IS NOT NULL AND new IS NULL").await, 1);

    case.publish(project, vec![update("refs/heads/x", None, Some(oid("x")))]).await;
    let read = async |name, before| case.catalog.reflog(project, name, before, 2).await.expect("reflog");
    let moves = |entries: &[crate::ReflogEntry]| -> Vec<_> {
        entries.iter().map(|entry| (entry.name.clone(), entry.old, entry.new, entry.at_ms)).collect()
    };
    let (x, main) = ("refs/heads/x".to_owned(), MAIN.to_owned());
    let newest = read(None, None).await;
    let expected = [(x.clone(), None, Some(oid("x")), NOW), (main.clone(), Some(oid("1")), None, NOW)];
    assert_eq!(moves(&newest), expected, "newest first");
    let older = read(None, Some(newest[1].id)).await;
    assert_eq!(moves(&older), [(main.clone(), None, Some(oid("1")), NOW)]);
    assert_eq!(moves(&read(Some("refs/heads/x"), None).await), expected[..1]);
    assert_eq!(case.catalog.reflog(case.project().await, None, None, 9).await.expect("reflog"), []);
}

pub(super) async fn are_no_more_than_the_project_may_have(case: Case) {
    let project = case.project().await;
    let name = |n: &str| format!("refs/heads/{n}");
    let made = |n: &str| update(&name(n), None, Some(oid(n)));
    let gone = |n: &str| update(&name(n), Some(oid(n)), None);
    let publish = async |refs, refs_max| {
        let publish = Publish { refs_max, ..publication(project, case.op(project).await, refs) };
        case.catalog.publish(&publish).await
    };
    let passes = async |refs, refs_max| {
        assert_eq!(publish(refs, refs_max).await.expect("publish"), PublishOutcome::Published);
    };
    let refused = async |refs, refs_max: usize| {
        let before = case.catalog.references(project, "").await.expect("refs");
        let outcome = publish(refs, refs_max).await;
        assert!(matches!(outcome, Err(CatalogError::TooManyRefs { limit }) if limit == refs_max), "{outcome:?}");
        assert_eq!(case.catalog.references(project, "").await.expect("refs"), before);
    };
    refused(vec![made("a"), made("b"), made("c"), made("d")], 3).await;
    // Those of other projects do not count.
    case.publish(case.project().await, vec![made("x"), made("y")]).await;
    let count = async || case.catalog.references(project, "").await.expect("refs").len();
    assert_eq!(count().await, 0);
    passes(vec![made("a"), made("b"), made("c")], 3).await;
    refused(vec![made("d")], 3).await;
    refused(vec![gone("a"), made("d"), made("e")], 3).await;
    passes(vec![made("d"), gone("a")], 3).await;
    assert_eq!(count().await, 3);
    passes(vec![update(&name("d"), Some(oid("d")), Some(oid("new")))], 3).await;
    passes(vec![made("e"), gone("e")], 3).await;
    // Where there are more already they stay and move, and can become fewer.
    refused(vec![made("a")], 1).await;
    passes(vec![update(&name("d"), Some(oid("new")), Some(oid("d")))], 1).await;
    passes(vec![gone("b"), made("a")], 1).await;
    passes(vec![gone("c"), gone("d")], 1).await;
    assert_eq!(case.catalog.references(project, "").await.expect("refs").len(), 1);
    refused(vec![made("b")], 1).await;
}

pub(super) async fn are_beside_none_that_they_cannot_be_beside(case: Case) {
    let project = case.project().await;
    let name = |n: &str| format!("refs/heads/{n}");
    let made = |n: &str| update(&name(n), None, Some(oid(n)));
    let gone = |n: &str| update(&name(n), Some(oid(n)), None);
    let publish = async |refs| case.catalog.publish(&publication(project, case.op(project).await, refs)).await;
    let passes = async |refs| assert_eq!(publish(refs).await.expect("publish"), PublishOutcome::Published);
    let refused = async |refs, new: &str, beside: &str| {
        let before = case.catalog.references(project, "").await.expect("refs");
        let told = (name(new), name(beside));
        match publish(refs).await {
            Err(CatalogError::RefConflict { name, existing }) => assert_eq!((name, existing), told),
            outcome => panic!("{outcome:?}"),
        }
        assert_eq!(case.catalog.references(project, "").await.expect("refs"), before);
    };
    passes(vec![made("a"), made("b/c"), made("Ünï")]).await;
    refused(vec![made("a/b")], "a/b", "a").await;
    refused(vec![made("d"), made("A/b/c")], "A/b/c", "a").await;
    refused(vec![made("b")], "b", "b/c").await;
    refused(vec![made("B/C")], "B/C", "b/c").await;
    refused(vec![made("u\u{308}nÏ")], "u\u{308}nÏ", "Ünï").await;
    refused(vec![made("e/f"), made("e")], "e/f", "e").await;
    refused(vec![made("e/f"), made("E/F")], "e/f", "E/F").await;
    // What goes with them does not count, wherever it stands, nor does what is made and goes again, and another project's never does.
    case.publish(case.project().await, vec![made("d/e")]).await;
    passes(vec![made("d"), made("ab"), made("b/d")]).await;
    passes(vec![made("a/b"), gone("a")]).await;
    passes(vec![made("d/e"), gone("d/e")]).await;
    passes(vec![gone("d"), made("D")]).await;
    refused(vec![gone("b/c"), made("b")], "b", "b/d").await;
    // What is there moves, whatever it is beside.
    case.backend.execute("UPDATE refs SET name = 'refs/heads/ab/x' WHERE name = 'refs/heads/b/d'").await;
    passes(vec![update(&name("ab"), Some(oid("ab")), Some(oid("new")))]).await;
    passes(vec![made("f")]).await;
}

pub(super) async fn have_one_winner_of_those_that_cannot_be_together(case: Case) {
    for _ in 0..6 {
        let project = case.project().await;
        let racing = ["a", "a/b", "A", "a/b/c"].into_iter().map(|short| {
            let (catalog, name) = (case.catalog.clone(), format!("refs/heads/{short}"));
            async move {
                let op = Uuid::new_v4();
                catalog.begin_op(op, Some(project), OpKind::Commit, NOW).await.expect("begin");
                let publish = publication(project, op, vec![update(&name, None, Some(oid("1")))]);
                (name, catalog.publish(&publish).await)
            }
        });
        let outcomes = together(racing).await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        for (name, outcome) in outcomes.iter().filter(|(_, outcome)| outcome.is_err()) {
            let Err(CatalogError::RefConflict { name: new, existing }) = outcome else { panic!("{outcome:?}") };
            assert_eq!((new, existing), (name, &winners[0].0));
        }
        let there = case.catalog.references(project, "").await.expect("refs");
        let names: Vec<&String> = there.iter().map(|found| &found.name).collect();
        assert_eq!(names, [&winners[0].0]);
    }
}

pub(super) async fn come_in_thousands(case: Case) {
    let project = case.project().await;
    let name = |index: usize| format!("refs/tags/v{index:05}");
    let updates = (0..10_000).map(|index| update(&name(index), None, Some(oid(index.to_string())))).collect();
    assert_eq!(case.publish(project, updates).await, PublishOutcome::Published);
    let refs = case.catalog.references(project, "refs/tags/").await.expect("refs");
    assert_eq!(refs.len(), 10_000);
    assert!(
        refs.iter().enumerate().all(|(index, found)| found.name == name(index) && found.oid == oid(index.to_string()))
    );
    let updates = (0..10_000).map(|index| update(&name(index), Some(oid(index.to_string())), None)).collect();
    assert_eq!(case.publish(project, updates).await, PublishOutcome::Published);
    assert_eq!(case.catalog.references(project, "").await.expect("refs"), []);
}
