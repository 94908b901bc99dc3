//! The collector, step by step and against writers.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::{AttemptState, CommitRow, Lineage, Located, NameState, RootSet, Roots};

const ALL: (u64, u64) = (0, u64::MAX >> 1);

impl Case {
    /// G1 and G2.
    async fn horizon(&self) -> i64 {
        self.catalog.next_epoch().await.expect("epoch");
        self.catalog.raise_horizon(NOW - 1000).await.expect("horizon")
    }

    /// Objects that nobody needs: an operation stored them and ended.
    async fn garbage(&self, objects: &[NewObject]) -> Vec<u64> {
        let op = self.op(self.project().await).await;
        let registered = self.register(op, objects).await;
        self.catalog.end_op(op).await.expect("end");
        registered.into_iter().map(|registered| registered.number).collect()
    }

    async fn located(&self, objects: &[NewObject]) -> Vec<Option<Located>> {
        let oids: Vec<ObjectId> = objects.iter().map(|object| object.oid).collect();
        self.catalog.locate(&oids).await.expect("locate")
    }
}

pub(super) async fn horizons_rise_with_the_oldest_operation(case: Case) {
    let catalog = &case.catalog;
    let ahead = catalog.horizon_ahead().await.expect("ahead");
    let first = case.horizon().await;
    assert_eq!(first, ahead, "what was foreseen");
    let project = case.project().await;
    let old = case.op(project).await;
    let held = case.horizon().await;
    assert_eq!(held, first, "held by an open operation");
    assert_eq!(catalog.horizon_ahead().await.expect("ahead"), first);
    let young = case.op(project).await;
    catalog.end_op(old).await.expect("end");
    let raised = case.horizon().await;
    assert_eq!(raised, first + 1, "held by the younger one");
    catalog.heartbeat(young, NOW - 2000).await.expect("heartbeat");
    let free = case.horizon().await;
    assert_eq!(free, first + 3, "the silent one is dead");
    assert!(matches!(catalog.heartbeat(young, NOW).await, Err(crate::CatalogError::OpLost)));
    let publish = publication(project, young, Vec::new());
    assert!(matches!(catalog.publish(&publish).await, Err(crate::CatalogError::OpLost)));
}

pub(super) async fn objects_are_given_up_in_two_steps(case: Case) {
    let catalog = &case.catalog;
    let objects = [object("one"), object("two"), object("three")];
    let numbers = case.garbage(&objects).await;
    assert_eq!(catalog.stale(&[ALL], 1, 10).await.expect("stale"), [], "not before the horizon");
    let horizon = case.horizon().await;
    let stale = catalog.stale(&[ALL], horizon, 10).await.expect("stale");
    assert_eq!(stale.iter().map(|stale| stale.number).collect::<Vec<_>>(), numbers);
    assert_eq!(stale.iter().map(|stale| stale.bytes).collect::<Vec<_>>(), objects.each_ref().map(|o| o.length));
    assert_eq!(catalog.stale(&[ALL], horizon, 2).await.expect("stale"), stale[..2]);
    let ranges = [(0, numbers[0]), (numbers[2], u64::MAX >> 1)];
    let found = catalog.stale(&ranges, horizon, 10).await.expect("stale");
    assert_eq!(found, [stale[0], stale[2]]);
    // Live objects cannot be doomed, nor those condemned that were seen since.
    assert_eq!(catalog.doom(&numbers, horizon, NOW).await.expect("doom").objects, 0);
    assert_eq!(catalog.condemn(&numbers, horizon, NOW + 7).await.expect("condemn"), 3);
    assert_eq!(catalog.condemn(&numbers, horizon, NOW + 8).await.expect("again"), 0);
    assert_eq!(catalog.stale(&[ALL], horizon, 10).await.expect("stale"), []);
    let condemned = catalog.condemned(0, 10).await.expect("condemned");
    assert!(condemned.iter().all(|stale| stale.condemned_at_ms == Some(NOW + 7)), "{condemned:?}");
    assert_eq!(catalog.condemned(numbers[0], 1).await.expect("condemned"), condemned[1..2]);
    let op = case.op(case.project().await).await;
    let pinned = catalog.pin(op, &[objects[0].oid]).await.expect("pin");
    assert_eq!(pinned[0].map(|pinned| pinned.number), Some(numbers[0]), "still there");
    assert_eq!(catalog.spare(&[numbers[1]]).await.expect("spare"), 1);
    assert_eq!(catalog.doom(&numbers, horizon, NOW).await.expect("doom").objects, 1);
    let there = case.located(&objects).await;
    assert_eq!(there.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(catalog.pin(op, &[objects[2].oid]).await.expect("pin"), [None], "store it anew");
}

pub(super) async fn doomed_objects_take_their_rows_with_them(case: Case) {
    let catalog = &case.catalog;
    let (kept, gone) = (object("kept"), object("gone"));
    let numbers = case.garbage(&[kept.clone(), gone.clone()]).await;
    let alone = case.garbage(&[object("alone")]).await;
    let row = |oid| CommitRow {
        oid,
        tree: oid,
        parents: vec![kept.oid],
        generation: 2,
        time: 1,
        raw: bytes::Bytes::from_static(b"raw"),
    };
    catalog.put_commits(&[row(kept.oid), row(gone.oid)]).await.expect("commits");
    catalog.put_trees(&[(kept.oid, "tree".into()), (gone.oid, "tree".into())]).await.expect("trees");
    let horizon = case.horizon().await;
    let give_up = [numbers[1], alone[0]];
    assert_eq!(catalog.condemn(&give_up, horizon, NOW).await.expect("condemn"), 2);
    let doomed = catalog.doom(&give_up, horizon, NOW).await.expect("doom");
    assert_eq!((doomed.objects, doomed.keys), (2, 1), "a key with one object left stays");
    assert_eq!(doomed.bytes, gone.length + object("alone").length);
    let commits = catalog.commits(&[kept.oid, gone.oid]).await.expect("commits");
    let lineage = catalog.lineage(&[gone.oid, kept.oid], 3).await.expect("lineage");
    assert_eq!(lineage, [Lineage { oid: kept.oid, tree: kept.oid, parents: vec![kept.oid] }]);
    assert_eq!(commits.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    let trees = catalog.trees(&[kept.oid, gone.oid]).await.expect("trees");
    assert_eq!(trees.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert_eq!(catalog.commits_back(&[gone.oid], 3).await.expect("walk"), []);
    assert_eq!(catalog.doomed_before(NOW, 10).await.expect("doomed"), [], "doomed just now");
    assert_eq!(catalog.doomed_before(NOW + 1, 10).await.expect("doomed").len(), 1);
    assert_eq!(catalog.doomed_never_live(10).await.expect("doomed"), [], "it was live once");
    assert_eq!(catalog.doom(&give_up, horizon, NOW).await.expect("again").objects, 0);
}

pub(super) async fn lineage_is_read_some_steps_ahead(case: Case) {
    let catalog = &case.catalog;
    let name = |at: usize| oid(format!("commit {at}"));
    let row = |at: usize| CommitRow {
        oid: name(at),
        tree: oid(format!("tree {at}")),
        parents: if at == 0 { Vec::new() } else { vec![name(at - 1), name(at / 2)] },
        generation: at as u64 + 1,
        time: 1,
        raw: bytes::Bytes::from_static(b"raw"),
    };
    let rows: Vec<CommitRow> = (0..50).map(row).collect();
    catalog.put_commits(&rows).await.expect("commits");
    for (tips, steps) in [(vec![49], 0_u32), (vec![49, 20], 3), (vec![49], 60), (vec![99], 3)] {
        let mut expected: BTreeSet<usize> = tips.iter().copied().filter(|tip| *tip < 50).collect();
        for _ in 0..steps {
            let parents = expected.iter().filter(|at| **at > 0).flat_map(|at| [at - 1, at / 2]);
            expected.extend(parents.collect::<Vec<_>>());
        }
        let tips: Vec<ObjectId> = tips.into_iter().map(name).collect();
        let mut found = catalog.lineage(&tips, steps).await.expect("lineage");
        found.sort_by_key(|lineage| lineage.oid);
        let mut expected: Vec<Lineage> = expected
            .into_iter()
            .map(|at| Lineage { oid: rows[at].oid, tree: rows[at].tree, parents: rows[at].parents.clone() })
            .collect();
        expected.sort_by_key(|lineage| lineage.oid);
        assert_eq!(found, expected);
    }
}

pub(super) async fn deltas_outlive_what_they_rest_on(case: Case) {
    let catalog = &case.catalog;
    let place = |at: u64, base: Option<u64>, name: &str| NewObject { offset: at, base, ..object(name) };
    let pack = [place(12, None, "whole"), place(100, Some(12), "middle"), place(200, Some(100), "tip")];
    let numbers = case.garbage(&pack).await;
    let horizon = case.horizon().await;
    catalog.condemn(&numbers[..2], horizon, NOW).await.expect("condemn");
    let doomed = catalog.doom(&numbers[..2], horizon, NOW).await.expect("doom");
    assert_eq!((doomed.objects, doomed.keys), (2, 0));
    let tip = case.located(&pack).await.pop().flatten().expect("the tip stays");
    let chain = catalog.chains(&[tip]).await.expect("chains").remove(0);
    assert_eq!(chain.iter().map(|span| span.offset).collect::<Vec<_>>(), [100, 12]);
}

fn only(roots: &Roots) -> &RootSet {
    assert_eq!(roots.sets.len(), 1, "{roots:?}");
    &roots.sets[0]
}

pub(super) async fn everything_that_names_an_object_is_a_root(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    let op = case.op(project).await;
    let names = ["old", "tip", "remote", "base", "large", "commit", "manifest", "nobody"];
    let objects = names.map(|name| NewObject { offset: name.len() as u64 * 100, ..object(name) });
    let objects: Vec<NewObject> =
        objects.into_iter().enumerate().map(|(at, object)| NewObject { offset: at as u64 * 100, ..object }).collect();
    let numbers: Vec<u64> = case.register(op, &objects).await.into_iter().map(|registered| registered.number).collect();
    let number = |name: &str| numbers[names.iter().position(|known| *known == name).expect("a name")];
    catalog.end_op(op).await.expect("end");
    let main = "refs/heads/main";
    case.publish(project, vec![update(main, None, Some(oid("old")))]).await;
    case.publish(project, vec![update(main, Some(oid("old")), Some(oid("tip")))]).await;
    case.remote_refs(project, &[(main, Some(oid("remote")))]).await;
    let key = WorkspaceKey { project, branch: "main".to_owned(), user: Uuid::new_v4() };
    let large = PendingWrite {
        change: PendingChange::Set {
            action: Action::Modified,
            mode: 0o100644,
            oid: Some(oid("large")),
            size: 5,
            base_oid: Some(oid("base")),
            base_mode: Some(0o100644),
            content: Content::Bucket,
        },
        ..reset("a")
    };
    catalog.write_pending(&key, None, &[large], NOW).await.expect("write");
    let attempt = attempts::attempt(project, "main");
    catalog.insert_attempt(&attempt).await.expect("attempt");
    let stored = attempts::to(&attempt, 0, AttemptState::Stored);
    catalog.change_attempt(&stored, NOW).await.expect("stored").expect("the fence");
    let holder = Uuid::new_v4();
    catalog.take_job("manifest", holder, NOW, NOW).await.expect("take").expect("free");
    let report = format!(r#"{{"commits": ["{}"], "more": 1}}"#, oid("manifest"));
    catalog.release_job("manifest", holder, NOW, Some(&report)).await.expect("release");
    let roots = catalog.roots(NOW, None).await.expect("roots");
    assert_eq!(roots.missing, []);
    assert_eq!((roots.objects, roots.last), (8, *numbers.iter().max().expect("numbers")));
    let set = only(&roots);
    let firm = ["tip", "large", "commit"].map(number);
    assert_eq!(set.firm, RoaringTreemap::from_iter(firm));
    for name in ["old", "tip", "remote", "base", "large", "manifest"] {
        assert!(set.loose.contains(number(name)), "{name}");
    }
    assert!(!set.loose.contains(number("nobody")));
    // Later, when the reflog is old, or is not asked for.
    let without = [catalog.roots(NOW + 1, None).await, catalog.roots(NOW, Some(project)).await];
    for roots in without {
        assert!(!only(&roots.expect("roots")).loose.contains(number("old")));
    }
    let reflog = catalog.reflog_roots(project).await.expect("reflog");
    assert_eq!(reflog.loose, RoaringTreemap::from_iter(["old", "tip"].map(number)));
    // An operation that is open keeps what it began from, also after the ref is gone.
    let op = case.op(project).await;
    case.publish(project, vec![update(main, Some(oid("tip")), None)]).await;
    case.remote_refs(project, &[(main, None)]).await;
    let of_op = |roots: Roots| ["tip", "remote"].map(|name| only(&roots).loose.contains(number(name)));
    assert_eq!(of_op(catalog.roots(NOW + 1, None).await.expect("roots")), [true, true]);
    catalog.end_op(op).await.expect("end");
    assert_eq!(of_op(catalog.roots(NOW + 1, None).await.expect("roots")), [false, false]);
    case.publish(project, vec![update(main, None, Some(oid("nowhere")))]).await;
    let missing = catalog.roots(NOW, None).await.expect("roots").missing;
    assert_eq!(missing, [("a ref", oid("nowhere"))]);
    assert!(catalog.delete_project(project).await.expect("delete"));
    let roots = catalog.roots(0, None).await.expect("roots");
    assert_eq!(only(&roots).loose, RoaringTreemap::from_iter([number("manifest")]), "{roots:?}");
    assert!(only(&roots).firm.is_empty(), "{roots:?}");
}

pub(super) async fn cut_histories_are_kept_apart(case: Case) {
    let (catalog, whole, cut) = (&case.catalog, case.project().await, case.project().await);
    let objects = ["shared", "own"].map(object);
    let op = case.op(cut).await;
    let numbers: Vec<u64> = case.register(op, &objects[..1]).await.iter().map(|registered| registered.number).collect();
    let more: Vec<u64> = case.register(op, &objects[1..]).await.iter().map(|registered| registered.number).collect();
    let refs =
        vec![update("refs/heads/main", None, Some(oid("shared"))), update("refs/heads/b", None, Some(oid("own")))];
    let shallow = Publish { shallow: Some(vec![oid("own"), oid("elsewhere")]), ..publication(cut, op, refs) };
    assert_eq!(catalog.publish(&shallow).await.expect("publish"), crate::PublishOutcome::Published);
    case.publish(whole, vec![update("refs/heads/main", None, Some(oid("shared")))]).await;
    let roots = catalog.roots(NOW + 1, None).await.expect("roots");
    let [first, second] = &roots.sets[..] else { panic!("{roots:?}") };
    assert_eq!((first.project, &first.cuts), (None, &RoaringTreemap::new()));
    assert_eq!(first.firm, RoaringTreemap::from_iter(numbers.clone()));
    assert_eq!((second.project, &second.cuts), (Some(cut), &RoaringTreemap::from_iter(more.clone())));
    assert_eq!(second.firm, RoaringTreemap::from_iter([numbers[0], more[0]]));
}

pub(super) async fn names_without_a_row_are_burnt(case: Case) {
    let catalog = &case.catalog;
    let names = ["objects/a", "objects/b", "objects/c"].map(str::to_owned);
    let op = case.op(case.project().await).await;
    let reserved = catalog.reserve(op, &names[..1]).await.expect("reserve")[0].expect("fresh");
    let states = catalog.name_states(&names).await.expect("states");
    assert_eq!(states, [NameState::Known(reserved), NameState::Unknown, NameState::Unknown]);
    let horizon = case.horizon().await;
    assert_eq!(catalog.burn_keys(&names[..2], horizon + 1, NOW).await.expect("burn"), 0, "another horizon");
    assert_eq!(catalog.burn_keys(&names[..2], horizon, NOW).await.expect("burn"), 1, "a reserved name is its writer's");
    assert_eq!(catalog.burn_keys(&names[..2], horizon, NOW).await.expect("again"), 0);
    assert_eq!(catalog.reserve(op, &names).await.expect("reserve")[1], None, "burnt");
    let doomed = catalog.doomed_before(NOW + 1, 10).await.expect("doomed");
    assert_eq!(doomed.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["objects/b"]);
    catalog.key_deleted(doomed[0].0).await.expect("deleted");
    assert_eq!(catalog.name_states(&names).await.expect("states")[1], NameState::Deleted(doomed[0].0));
}

pub(super) async fn what_is_old_is_forgotten(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    let op = case.op(project).await;
    case.register(op, &[object("a")]).await;
    let silent = case.op(project).await;
    catalog.reserve(silent, &["objects/late".to_owned()]).await.expect("reserve");
    case.publish(project, vec![update("refs/heads/main", None, Some(oid("a")))]).await;
    assert_eq!(catalog.forget(NOW, NOW).await.expect("forget"), crate::Forgotten::default());
    let forgotten = catalog.forget(NOW + 1, NOW + 1).await.expect("forget");
    assert_eq!(forgotten, crate::Forgotten { reflog: 1, ops: 1 }, "open operations stay");
    assert_eq!(catalog.reap_ops(NOW + 1).await.expect("reap"), 2);
    assert_eq!(catalog.forget(NOW + 1, NOW + 1).await.expect("forget").ops, 2);
    assert_eq!(catalog.doomed_never_live(9).await.expect("doomed").len(), 1, "their keys are not");
    case.publish(project, vec![update("refs/heads/b", None, Some(oid("a")))]).await;
    assert_eq!(catalog.forget_reflog(case.project().await).await.expect("forget"), 0);
    assert_eq!(catalog.forget_reflog(project).await.expect("forget"), 1);
}

pub(super) async fn one_bucket_is_the_databases(case: Case) {
    let catalog = &case.catalog;
    assert_eq!(catalog.store_id().await.expect("read"), None, "a new database is tied to none");
    let ids = [1, 2, 3, 4].map(Uuid::from_u128);
    let said = futures::future::join_all(ids.map(|id| catalog.set_store_id(id, false))).await;
    let said: BTreeSet<Uuid> = said.into_iter().map(|said| said.expect("set")).collect();
    let first = catalog.store_id().await.expect("read").expect("an id");
    assert_eq!(said, BTreeSet::from([first]), "servers that begin at once agree");
    let other = Uuid::from_u128(5);
    assert_eq!(catalog.set_store_id(other, false).await.expect("set"), first);
    // The ledger is made again, or the database was set back: it is the same bucket's still.
    let holder = Uuid::from_u128(6);
    catalog.take_job("rebuild", holder, NOW, NOW + 1000).await.expect("take").expect("nobody else has it");
    let begun = catalog.begin_rebuild(crate::RebuildFrom::Anything, "rebuild", holder, "begun").await;
    assert!(begun.expect("begin"));
    catalog.set_back(NOW).await.expect("set back");
    assert_eq!(catalog.store_id().await.expect("read"), Some(first));
    assert_eq!(catalog.set_store_id(other, true).await.expect("set"), other);
    assert_eq!(catalog.store_id().await.expect("read"), Some(other));
}

/// A collector that thinks that nothing is needed, beside writers that pin and store: what an open operation has is never given up.
pub(super) async fn writers_lose_nothing_to_a_collector(case: Case) {
    let seed = model::seed();
    let names: Vec<String> = (0..40).map(|index| format!("raced {index}")).collect();
    let writers = (0..4_u64).map(|writer| {
        let (catalog, names) = (case.catalog.clone(), names.clone());
        async move {
            let mut random = StdRng::seed_from_u64(seed + writer);
            for round in 0..12 {
                let op = Uuid::new_v4();
                catalog.begin_op(op, None, OpKind::Import, NOW).await.expect("begin");
                let wanted: BTreeSet<&String> = (0..8).map(|_| &names[random.random_range(0..names.len())]).collect();
                let oids: Vec<ObjectId> = wanted.iter().map(oid).collect();
                let pinned = catalog.pin(op, &oids).await.expect("pin");
                let absent = wanted.iter().zip(&pinned).filter(|(_, pinned)| pinned.is_none());
                let absent: Vec<NewObject> = absent.map(|(name, _)| object(name)).collect();
                if !absent.is_empty() {
                    let name = format!("objects/pack/pack-{writer}-{round}.pack");
                    let key = catalog.reserve(op, &[name]).await.expect("reserve")[0].expect("fresh");
                    catalog.register(op, key, &absent, NOW).await.expect("register");
                }
                let found = catalog.locate(&oids).await.expect("locate");
                assert!(found.iter().all(Option::is_some), "writer {writer}, round {round}: {found:?}");
                catalog.end_op(op).await.expect("end");
            }
        }
    });
    let collector = {
        let catalog = case.catalog.clone();
        async move {
            for _ in 0..30 {
                catalog.next_epoch().await.expect("epoch");
                let horizon = catalog.raise_horizon(NOW - 1000).await.expect("horizon");
                let stale = catalog.stale(&[ALL], horizon, 1000).await.expect("stale");
                let numbers: Vec<u64> = stale.iter().map(|stale| stale.number).collect();
                catalog.condemn(&numbers, horizon, NOW).await.expect("condemn");
                let condemned = catalog.condemned(0, 1000).await.expect("condemned");
                let numbers: Vec<u64> = condemned.iter().map(|stale| stale.number).collect();
                catalog.doom(&numbers, horizon, NOW).await.expect("doom");
            }
        }
    };
    let collector = tokio::spawn(collector);
    together(writers).await;
    collector.await.expect("the collector");
}
