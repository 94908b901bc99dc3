//! The change feed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::seed;
use super::*;
use crate::{
    AttemptState, CatalogError, ClearCause, ClearPending, ClearedRow, Event, FeedEnds, FeedPage, FeedRead,
    PendingEvent, PublishOutcome, PushOutcome, Told,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MAIN: &str = "refs/heads/main";

/// Ends of a feed that was begun at a time and is empty.
fn empty(at_ms: i64) -> FeedEnds {
    FeedEnds { floor: at_ms * 1024, last: at_ms * 1024 }
}

impl Case {
    async fn ends(&self, project: Uuid) -> FeedEnds {
        self.catalog.feed_ends(project).await.expect("ends").expect("a project")
    }

    async fn page(&self, project: Uuid, after: i64, user: Option<Uuid>, limit: u32) -> FeedPage {
        match self.catalog.events(project, after, user, limit).await.expect("events").expect("a project") {
            FeedRead::Page(page) => page,
            FeedRead::Expired => panic!("expired"),
        }
    }

    /// All that is told after a position.
    async fn told(&self, project: Uuid, after: i64) -> Vec<Told> {
        let page = self.page(project, after, None, 1000).await;
        assert_eq!((page.position, page.last), (self.ends(project).await.last, page.position));
        assert!(page.events.iter().zip(after + 1..).all(|(event, seq)| event.seq == seq), "consecutive");
        page.events.into_iter().map(|event| event.told).collect()
    }

    async fn is_expired(&self, project: Uuid, after: i64) -> bool {
        let read = self.catalog.events(project, after, None, 9).await.expect("events");
        read == Some(FeedRead::Expired)
    }
}

/// A pending event, in short.
fn short(told: &Told) -> (String, PendingEvent, Option<ObjectId>, i64) {
    match told {
        Told::Pending { path, event, oid, revision, .. } => (path.to_string(), *event, *oid, *revision),
        other => panic!("not of pending work: {other:?}"),
    }
}

const SET: PendingEvent = PendingEvent::Set(Action::Modified);

pub(super) async fn tells_of_pending_work(case: Case) {
    let key = case.workspace().await;
    let start = case.ends(key.project).await;
    assert_eq!(start, empty(NOW), "it begins with the project");
    let laptop = crate::Origin { device: Some("laptop".to_owned()), ..Default::default() };
    let by = |write: PendingWrite| PendingWrite { origin: laptop.clone(), ..write };
    case.write(&key, &[by(edit("a", "1")), edit("b", "1"), edit("a", "2"), edit("b", "1"), reset("none")]).await;
    let told = case.told(key.project, start.last).await;
    let short_of = |told: &[Told]| told.iter().map(short).collect::<Vec<_>>();
    let expected = [("a", "1", 1), ("b", "1", 2), ("a", "2", 3)];
    assert_eq!(short_of(&told), expected.map(|(path, oid_of, n)| (path.to_owned(), SET, Some(oid(oid_of)), n)));
    assert_eq!(
        told[0],
        Told::Pending {
            user: key.user,
            branch: key.branch.clone(),
            path: "a".into(),
            event: SET,
            mode: 0o100644,
            oid: Some(oid("1")),
            base_oid: Some(oid("base")),
            revision: 1,
            origin: laptop.clone(),
        }
    );
    let position = start.last + 3;
    // What is refused, and what changes nothing, is not told.
    let absent = PendingWrite { expect: RowExpectation::Absent, ..edit("a", "3") };
    case.catalog.write_pending(&key, None, &[edit("c", "1"), absent], NOW).await.expect("write");
    assert_eq!(case.told(key.project, position).await, []);
    case.write(&key, &[reset("a"), edit("c", "1")]).await;
    case.catalog.clear_pending(&key, &laptop, NOW).await.expect("clear");
    case.catalog.clear_pending(&key, &laptop, NOW).await.expect("clear");
    let told = case.told(key.project, position).await;
    let gone = |path: &str, n| (path.to_owned(), PendingEvent::Dropped, None, n);
    let expected = vec![gone("a", 4), ("c".to_owned(), SET, Some(oid("1")), 5), gone("b", 6), gone("c", 7)];
    assert_eq!(short_of(&told), expected);
    assert!(matches!(&told[3], Told::Pending { origin, .. } if *origin == laptop), "by whom it was dropped");
    assert_eq!(case.catalog.workspace_revision(&key).await.expect("revision"), 7);
}

pub(super) async fn tells_of_refs_and_what_moves_with_them(case: Case) {
    let key = case.workspace().await;
    let (project, catalog) = (key.project, &case.catalog);
    case.write(&key, &[edit("a", "1"), edit("b", "1"), edit("b", "2")]).await;
    let attempt = attempts::attempt(project, "main");
    catalog.insert_attempt(&attempt).await.expect("attempt");
    let start = case.ends(project).await.last;
    let moved = vec![update(MAIN, None, Some(oid("c1")))];
    let mut publish = Publish { reason: "commit", ..publication(project, case.op(project).await, moved) };
    let row = |path: &str, revision| ClearedRow { path: path.into(), revision, oid: Some(oid("1")) };
    let rows = vec![row("b", 2), row("a", 1)];
    publish.clear_pending =
        Some(ClearPending { branch: key.branch.clone(), user: key.user, rows, cause: ClearCause::Committed });
    let change = |fence, to| attempts::to(&attempt, fence, to);
    publish.attempt = Some(change(9, AttemptState::Finalized));
    let lost = catalog.publish(&publish).await;
    assert!(matches!(lost, Err(CatalogError::OpLost)), "{lost:?}");
    assert_eq!(case.told(project, start).await, [], "what did not happen is not told");
    publish.attempt = Some(change(0, AttemptState::Finalized));
    assert_eq!(catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    let told = case.told(project, start).await;
    let reference = |from, to, reason: &str| Told::Ref { name: MAIN.to_owned(), from, to, reason: reason.to_owned() };
    let push = |outcome| Told::Push {
        branch: "main".to_owned(),
        attempt: attempt.id,
        commit: attempt.commit,
        user: attempt.user,
        outcome,
    };
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], reference(None, Some(oid("c1")), "commit"));
    assert_eq!(short(&told[1]), ("a".to_owned(), PendingEvent::Committed, Some(oid("1")), 4));
    assert!(
        matches!(&told[2], Told::Pending { path, base_oid, revision: 3, .. } if path == "b" && *base_oid == Some(oid("1")))
    );
    assert_eq!(told[3], push(PushOutcome::Pushed));
    // A branch that follows the remote.
    let start = case.ends(project).await.last;
    let moved = vec![update(MAIN, Some(oid("c1")), Some(oid("c2"))), update("refs/tags/v", None, Some(oid("c2")))];
    let publish = Publish { reason: "sync", ..publication(project, case.op(project).await, moved) };
    catalog.publish(&publish).await.expect("publish");
    let wrong = vec![update(MAIN, Some(oid("c1")), Some(oid("c3")))];
    assert!(matches!(case.publish(project, wrong).await, PublishOutcome::Moved(..)));
    let told = case.told(project, start).await;
    assert_eq!(told[0], reference(Some(oid("c1")), Some(oid("c2")), "sync"));
    assert!(matches!(&told[1], Told::Ref { name, .. } if name == "refs/tags/v"));
    assert_eq!(told[2..], [Told::Sync { branch: "main".to_owned(), from: Some(oid("c1")), to: Some(oid("c2")) }]);
}

pub(super) async fn tells_of_pushes(case: Case) {
    let project = case.project().await;
    let catalog = &case.catalog;
    let (from, mut expected) = (case.ends(project).await.last, Vec::new());
    use AttemptState::{Paused, Pushing, Rejected, Stored, Superseded, Unknown};
    let ways: [(&[AttemptState], &[PushOutcome]); 4] = [
        (&[Stored, Superseded], &[]),
        (&[Stored, Pushing, Rejected], &[PushOutcome::Rejected]),
        (&[Stored, Paused, Superseded], &[PushOutcome::Paused, PushOutcome::Superseded]),
        (&[Stored, Pushing, Unknown, Superseded], &[PushOutcome::Superseded]),
    ];
    for (states, outcomes) in ways {
        for push in [true, false] {
            let attempt = crate::Attempt { push, ..attempts::attempt(project, "main") };
            catalog.insert_attempt(&attempt).await.expect("attempt");
            for (fence, to) in (0..).zip(states) {
                let change = attempts::to(&attempt, fence, *to);
                assert_eq!(catalog.change_attempt(&change, NOW).await.expect("change"), Some(fence + 1));
                assert_eq!(catalog.change_attempt(&change, NOW).await.expect("change"), None, "an old fence");
            }
            expected.extend(outcomes.iter().filter(|_| push).map(|outcome| (attempt.id, *outcome)));
        }
    }
    let told = case.told(project, from).await;
    let told = told.into_iter().map(|told| match told {
        Told::Push { attempt, outcome, .. } => (attempt, outcome),
        other => panic!("not of a push: {other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

pub(super) async fn goes_past_what_is_left_out(case: Case) {
    let key = case.workspace().await;
    let theirs = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    let start = case.ends(key.project).await.last;
    for n in 0..4 {
        let of = if n == 2 { &key } else { &theirs };
        case.write(of, &[edit(format!("{n}"), "1")]).await;
    }
    case.publish(key.project, vec![update(MAIN, None, Some(oid("c")))]).await;
    case.write(&theirs, &[edit("late", "1")]).await;
    let seqs = |page: &FeedPage| page.events.iter().map(|event| event.seq - start).collect::<Vec<_>>();
    let all = case.page(key.project, start, Some(key.user), 9).await;
    assert_eq!((seqs(&all), all.position - start, all.last - start), (vec![3, 5], 6, 6));
    let one = case.page(key.project, start, Some(key.user), 1).await;
    assert_eq!((seqs(&one), one.position - start), (vec![3], 3));
    let rest = case.page(key.project, one.position, Some(key.user), 1).await;
    assert_eq!((seqs(&rest), rest.position - start), (vec![5], 5));
    let none = case.page(key.project, rest.position, Some(key.user), 1).await;
    assert_eq!((seqs(&none), none.position - start), (vec![], 6));
    // Where very much is left out, a reader gets on all the same, by bounded steps.
    for _ in 0..3 {
        let many: Vec<PendingWrite> = (0..4_000).map(|n| edit(format!("{n:04}"), "1")).collect();
        case.write(&theirs, &many).await;
        case.catalog.clear_pending(&theirs, &crate::Origin::default(), NOW).await.expect("clear");
    }
    case.write(&key, &[edit("mine", "1")]).await;
    let (mut position, mut pages, mut seen) = (none.position, 0, 0);
    while position < case.ends(key.project).await.last {
        let page = case.page(key.project, position, Some(key.user), 9).await;
        assert!(page.position > position, "it stands still");
        (position, pages, seen) = (page.position, pages + 1, seen + page.events.len());
    }
    assert_eq!((pages, seen), (3, 1));
}

pub(super) async fn forgets_the_oldest_and_says_so(case: Case) {
    let key = case.workspace().await;
    let (project, catalog) = (key.project, &case.catalog);
    let quiet = case.workspace().await;
    case.write(&quiet, &[edit("a", "1")]).await;
    let start = case.ends(project).await.last;
    for n in 0..10 {
        catalog.write_pending(&key, None, &[edit(format!("{n}"), "1")], NOW + n).await.expect("write");
    }
    let trim = async |before, keep| {
        let mut gone = 0;
        loop {
            match catalog.trim_events(before, keep, 2).await.expect("trim") {
                0 => return gone,
                some => gone += some,
            }
        }
    };
    assert_eq!(trim(NOW, 100).await, 0);
    assert_eq!(trim(NOW + 3, 100).await, 4, "three, and the one of another project");
    assert_eq!(case.ends(project).await, FeedEnds { floor: start + 3, last: start + 10 });
    assert_eq!(trim(NOW, 5).await, 2);
    assert!(case.is_expired(project, start + 4).await);
    assert!(case.is_expired(project, start + 11).await, "none of this feed");
    assert_eq!(case.told(project, start + 5).await.len(), 5);
    assert_eq!(trim(NOW + 100, 100).await, 5);
    assert_eq!(case.told(project, start + 10).await, []);
    assert!(case.is_expired(project, start + 9).await);
    case.write(&key, &[edit("again", "1")]).await;
    assert_eq!(case.told(project, start + 10).await.len(), 1);
    assert_eq!(case.backend.execute("UPDATE events SET at = at").await, 1);
}

pub(super) async fn begins_anew_with_numbers_never_given(case: Case) {
    let key = case.workspace().await;
    let (project, catalog) = (key.project, &case.catalog);
    case.write(&key, &[edit("a", "1"), edit("b", "1"), edit("c", "1")]).await;
    let position = case.ends(project).await.last;
    let snapshot = catalog.snapshot(project).await.expect("snapshot").expect("a project");
    assert!(catalog.delete_project(project).await.expect("delete"));
    assert_eq!(case.backend.execute("UPDATE events SET at = at").await, 0, "they go with their project");
    assert_eq!(catalog.events(project, position, None, 9).await.expect("events"), None);
    assert_eq!(catalog.feed_ends(project).await.expect("ends"), None);
    // Sooner than it had had an event for each millisecond.
    assert!(catalog.restore_project(&snapshot, NOW + 1).await.expect("restore"));
    assert_eq!(case.ends(project).await, empty(NOW + 1));
    case.write(&key, &[edit("a", "2"), edit("b", "2"), edit("c", "2")]).await;
    assert!(case.is_expired(project, position).await);
    // A database that was set back, and fenced.
    let before = case.ends(project).await.last;
    catalog.set_back(NOW + 1_000).await.expect("fence");
    assert_eq!(case.ends(project).await, empty(NOW + 1_000));
    assert!(case.is_expired(project, before).await);
    case.write(&key, &[edit("a", "3")]).await;
    assert_eq!(case.told(project, empty(NOW + 1_000).last).await.len(), 1);
}

pub(super) async fn wakes_those_who_follow(case: Case) {
    let key = case.workspace().await;
    let other = case.workspace().await;
    let mut following = case.catalog.follow(key.project);
    let start = case.ends(key.project).await.last;
    case.write(&other, &[edit("a", "1")]).await;
    assert!(futures::poll!(std::pin::pin!(following.beyond(start))).is_pending(), "nothing has happened here");
    case.write(&key, &[edit("a", "1")]).await;
    following.beyond(start).await;
    case.catalog.clear_pending(&key, &crate::Origin::default(), NOW).await.expect("clear");
    following.beyond(start + 1).await;
    case.publish(key.project, vec![update(MAIN, None, Some(oid("c")))]).await;
    following.beyond(start + 2).await;
    assert!(case.catalog.delete_project(key.project).await.expect("delete"));
    following.beyond(start + 3).await;
}

/// Writers of two projects, in groups and alone, with publications between; readers who read all the while, each in steps of its own.
/// Every reader sees every number once and in order, and of every workspace every revision once and in order.
pub(super) async fn skips_nothing_and_repeats_nothing(case: Case) {
    let seed = seed();
    let (one, two) = (case.project().await, case.project().await);
    let starts = [case.ends(one).await.last, case.ends(two).await.last];
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..4_u64)
        .map(|n| {
            let (project, start) = [(one, starts[0]), (two, starts[1])][n as usize % 2];
            let random = StdRng::seed_from_u64(seed ^ n);
            tokio::spawn(read_all(case.catalog.clone(), project, start, random, Arc::clone(&done)))
        })
        .collect();
    let writers = (0..8_u64).map(|n| {
        let (backend, catalog) = (case.backend.clone(), case.catalog.clone());
        let random = StdRng::seed_from_u64(seed.wrapping_add(n));
        write_at_random(Case { backend, catalog }, [one, two], n, random)
    });
    together(writers).await;
    done.store(true, std::sync::atomic::Ordering::Release);
    for reader in readers {
        reader.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

async fn write_at_random(case: Case, projects: [Uuid; 2], n: u64, mut random: StdRng) {
    let keys =
        projects.map(|project| WorkspaceKey { project, branch: "main".to_owned(), user: Uuid::from_u128(n.into()) });
    let name = format!("refs/heads/{n}");
    let mut at = [None, None];
    for round in 0..25 {
        let which = random.random_range(0..2);
        let (key, now) = (&keys[which], oid(format!("{n} {round}")));
        match random.random_range(0..10) {
            0 => {
                case.publish(key.project, vec![update(&name, at[which], Some(now))]).await;
                at[which] = Some(now);
            }
            1 => {
                case.catalog.clear_pending(key, &crate::Origin::default(), NOW).await.expect("clear");
            }
            _ => {
                let paths: Vec<u32> = (0..random.random_range(1..6)).map(|_| random.random_range(0..8)).collect();
                let content = |path| ["1", "2", "3"][(path + round) as usize % 3];
                let writes: Vec<PendingWrite> =
                    paths.into_iter().map(|path| edit(format!("{path}"), content(path))).collect();
                case.write(key, &writes).await;
            }
        }
    }
}

async fn read_all(
    catalog: Arc<dyn Catalog>,
    project: Uuid,
    start: i64,
    mut random: StdRng,
    done: Arc<std::sync::atomic::AtomicBool>,
) {
    let mut position = start;
    let mut revisions: BTreeMap<Uuid, i64> = BTreeMap::new();
    loop {
        let last_look = done.load(std::sync::atomic::Ordering::Acquire);
        let read = catalog.events(project, position, None, random.random_range(1..40)).await.expect("events");
        let Some(FeedRead::Page(page)) = read else { panic!("{read:?}") };
        for Event { seq, told, .. } in &page.events {
            position += 1;
            assert_eq!(*seq, position, "consecutive");
            if let Told::Pending { user, revision, .. } = told {
                let before = revisions.insert(*user, *revision).unwrap_or(0);
                assert_eq!(*revision, before + 1, "of a workspace");
            }
        }
        assert_eq!(page.position, position);
        if last_look && page.events.is_empty() {
            break;
        }
        if page.events.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let ends = catalog.feed_ends(project).await.expect("ends").expect("a project");
    assert_eq!(position, ends.last);
    for (user, revision) in revisions {
        let key = WorkspaceKey { project, branch: "main".to_owned(), user };
        assert_eq!(catalog.workspace_revision(&key).await.expect("revision"), revision);
    }
}
