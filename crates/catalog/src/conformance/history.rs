use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use treehold_object::BString;

use super::*;
use crate::{
    Answering, Attempt, AttemptState, CatalogError, Claim, ClearCause, ClearPending, ClearedRow, HistoryPolicy,
    NewCheckpoint, PendingOutcome, PublishOutcome, SnapshotRow, Thinned, Version, VersionPlace, WriteOutcome,
};

const HOUR: i64 = 3_600_000;
/// Nothing replaced stays.
const NOTHING: HistoryPolicy = HistoryPolicy { all_ms: 0, hourly_ms: 0, daily_ms: 0 };

fn keep(path: &str, content: &'static str) -> PendingWrite {
    let PendingChange::Set { action, mode, oid, size, base_oid, base_mode, content } = edit(path, content).change
    else {
        panic!("an edit sets")
    };
    let change = PendingChange::Keep { action, mode, oid, size, base_oid, base_mode, content };
    PendingWrite { path: path.into(), expect: RowExpectation::Any, change, origin: Origin::default() }
}

fn shown(versions: &[Version]) -> Vec<(&[u8], i64, Option<ObjectId>, bool)> {
    versions
        .iter()
        .map(|version| {
            (version.row.path.as_slice(), version.row.revision, version.row.oid, version.replaced_at_ms.is_none())
        })
        .collect()
}

impl Case {
    async fn write_at(&self, key: &WorkspaceKey, write: PendingWrite, at: i64) {
        self.catalog.write_pending(key, None, &[write], at).await.expect("write");
    }

    async fn content(&self, project: Uuid, content: &str) -> Option<Bytes> {
        self.catalog.pending_contents(project, &[oid(content)]).await.expect("contents").remove(0)
    }

    /// Thins to the end in steps of `limit`.
    async fn thin(&self, policy: &HistoryPolicy, limit: u32, now: i64) -> Thinned {
        let mut all = Thinned::default();
        let mut after: Option<VersionPlace> = None;
        loop {
            let step = self.catalog.thin_history(after.as_ref(), policy, limit, now).await.expect("thin");
            all.versions += step.versions;
            all.contents += step.contents;
            after = step.next;
            if after.is_none() {
                return all;
            }
        }
    }
}

pub(super) async fn forgets_at_once(case: Case) {
    let key = case.workspace().await;
    let (other, elsewhere) = (WorkspaceKey { user: Uuid::new_v4(), ..key.clone() }, case.workspace().await);
    for key in [&key, &other, &elsewhere] {
        case.write_at(key, edit("a", "1"), NOW).await;
        case.write_at(key, edit("a", "2"), NOW + 1).await;
        case.write_at(key, edit("b", "discarded"), NOW + 1).await;
        case.write_at(key, reset("b"), NOW + 2).await;
    }
    case.write_at(&key, edit("a", "3"), NOW + 9).await;
    let forget =
        async |user, limit| case.catalog.forget_history(key.project, user, limit, NOW + 5).await.expect("forget");
    // One user's: what the other one's history names stays.
    let gone = [forget(Some(key.user), 1).await, forget(Some(key.user), 9).await, forget(Some(key.user), 9).await];
    let gone = gone.map(|gone| (gone.versions, gone.contents, gone.next.is_some()));
    assert_eq!(gone, [(1, 0, true), (1, 0, true), (0, 0, false)], "the end is where none are left");
    let left = case.catalog.versions(&key, None, None, 100).await.expect("versions");
    assert_eq!(left.len(), 2, "what is pending, and what was replaced later: {left:?}");
    assert_eq!(case.content(key.project, "discarded").await, Some("discarded".into()));
    // Everybody's.
    assert_eq!((forget(None, 9).await.versions, forget(None, 9).await.versions), (2, 0));
    assert_eq!(case.content(key.project, "discarded").await, None);
    assert_eq!(
        case.content(key.project, "2").await,
        Some("2".into()),
        "it is pending, and a version that was replaced later"
    );
    assert_eq!(case.catalog.versions(&other, None, None, 100).await.expect("versions").len(), 1);
    assert_eq!(case.catalog.versions(&elsewhere, None, None, 100).await.expect("versions").len(), 3);
    assert_eq!(case.content(elsewhere.project, "discarded").await, Some("discarded".into()));
    let nobody = case.catalog.forget_history(Uuid::new_v4(), None, 9, NOW + 9).await.expect("nobody's");
    assert_eq!(nobody, Thinned::default());
}

pub(super) async fn lists_versions(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1"), edit("b", "1"), edit("a", "2")]).await;
    case.write(&key, &[reset("b"), edit("c", "3")]).await;
    let all = case.catalog.versions(&key, None, None, 100).await.expect("versions");
    let expected = [
        (&b"c"[..], 5, Some(oid("3")), true),
        (&b"a"[..], 3, Some(oid("2")), true),
        (&b"b"[..], 2, Some(oid("1")), false),
        (&b"a"[..], 1, Some(oid("1")), false),
    ];
    assert_eq!(shown(&all), expected, "newest first, current ones among them");
    let a: BString = "a".into();
    let of_a = case.catalog.versions(&key, Some(&a), None, 100).await.expect("versions");
    assert_eq!(shown(&of_a), [expected[1], expected[3]]);
    let page = case.catalog.versions(&key, None, Some(5), 2).await.expect("versions");
    assert_eq!(shown(&page), expected[1..3]);
    for version in &all {
        let found = case.catalog.version(&key, version.row.revision).await.expect("version");
        assert_eq!(found.as_ref(), Some(version));
    }
    assert_eq!(case.catalog.version(&key, 4).await.expect("version"), None, "a removal is no version");
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    assert_eq!(case.catalog.versions(&other, None, None, 100).await.expect("versions"), []);
    assert_eq!(case.catalog.version(&other, 1).await.expect("version"), None);
}

pub(super) async fn keeps_what_could_not_be_taken(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "view")]).await;
    assert_eq!(case.write(&key, &[keep("a", "sent"), keep("new", "other")]).await, (3, vec![Some(2), Some(3)]));
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((revision, rows.len(), rows[0].revision, rows[0].oid), (3, 1, 1, Some(oid("view"))));
    let all = case.catalog.versions(&key, None, None, 9).await.expect("versions");
    let kept: Vec<_> = shown(&all).into_iter().map(|(path, revision, oid, _)| (path, revision, oid)).collect();
    assert_eq!(
        kept,
        [(&b"new"[..], 3, Some(oid("other"))), (&b"a"[..], 2, Some(oid("sent"))), (&b"a"[..], 1, Some(oid("view")))]
    );
    assert_eq!(case.content(key.project, "sent").await, Some("sent".into()));
    assert_eq!(case.content(key.project, "other").await, Some("other".into()));
}

pub(super) async fn answers_a_request_once(case: Case) {
    let key = case.workspace().await;
    assert_eq!(case.catalog.claim(key.project, "k", &[1; 32], NOW).await.expect("claim"), Claim::Open);
    let answering = Answering {
        key: "k".to_owned(),
        body: Arc::new(|revision, rows| serde_json::json!({"revision": revision, "rows": rows}).to_string()),
    };
    let write = async |expected, content| {
        let writes = [edit("a", content)];
        case.catalog.write_answering(&key, expected, &writes, &answering, NOW).await.expect("write")
    };
    // What is refused is no answer.
    assert_eq!(write(Some(7), "1").await, WriteOutcome::Pending(PendingOutcome::WorkspaceMoved(0)));
    assert_eq!(case.catalog.claim(key.project, "k", &[1; 32], NOW).await.expect("claim"), Claim::Open);
    let written = PendingOutcome::Written { revision: 1, rows: vec![Some(1)] };
    assert_eq!(write(Some(0), "1").await, WriteOutcome::Pending(written));
    let answer = Claim::Answered(r#"{"revision":1,"rows":[1]}"#.to_owned());
    assert_eq!(case.catalog.claim(key.project, "k", &[1; 32], NOW).await.expect("claim"), answer);
    // A repetition that did not know writes nothing.
    assert_eq!(write(None, "2").await, WriteOutcome::Answered);
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((revision, rows[0].oid), (1, Some(oid("1"))));
    assert_eq!(case.content(key.project, "2").await, None, "not even its content");
    // An answer is remembered where nothing changes, too.
    case.catalog.claim(key.project, "same", &[2; 32], NOW).await.expect("claim");
    let same = Answering { key: "same".to_owned(), ..answering.clone() };
    let outcome = case.catalog.write_answering(&key, None, &[edit("a", "1")], &same, NOW).await.expect("write");
    assert_eq!(outcome, WriteOutcome::Pending(PendingOutcome::Written { revision: 1, rows: vec![None] }));
    let answer = Claim::Answered(r#"{"revision":1,"rows":[null]}"#.to_owned());
    assert_eq!(case.catalog.claim(key.project, "same", &[2; 32], NOW).await.expect("claim"), answer);
    let gone = WorkspaceKey { project: Uuid::new_v4(), ..key };
    let refused = case.catalog.write_answering(&gone, None, &[edit("a", "1")], &answering, NOW).await;
    assert!(matches!(refused, Err(CatalogError::NoProject)), "{refused:?}");
}

pub(super) async fn is_thinned_by_its_age(case: Case) {
    let key = case.workspace().await;
    let policy = HistoryPolicy { all_ms: 24 * HOUR, hourly_ms: 7 * 24 * HOUR, daily_ms: 30 * 24 * HOUR };
    // On a day's and an hour's border, so that spans are known.
    let start = NOW.div_euclid(24 * HOUR) * 24 * HOUR;
    let contents = ["0", "1", "2", "3", "4", "5", "6", "7"];
    // Replaced after 10, 20, 70, 80, 90, 150 and 1500 minutes.
    for (content, minutes) in contents.into_iter().zip([0, 10, 20, 70, 80, 90, 150, 1500]) {
        case.write_at(&key, edit("a", content), start + minutes * 60_000).await;
    }
    let there = async |now: i64| {
        let thinned = case.thin(&policy, 3, start + now).await;
        let versions = case.catalog.versions(&key, None, None, 100).await.expect("versions");
        let named: Vec<ObjectId> = versions.iter().rev().filter_map(|version| version.row.oid).collect();
        for content in contents {
            let kept = case.content(key.project, content).await.is_some();
            assert_eq!(kept, named.contains(&oid(content)), "{content} is there as long as it is named");
        }
        let names = contents.into_iter().filter(|content| named.contains(&oid(content)));
        (thinned.versions, thinned.contents, names.collect::<String>())
    };
    assert_eq!(there(24 * HOUR).await, (0, 0, "01234567".to_owned()), "young ones all stay");
    assert_eq!(there(3 * 24 * HOUR).await, (3, 3, "14567".to_owned()), "the newest of each hour");
    assert_eq!(there(3 * 24 * HOUR).await, (0, 0, "14567".to_owned()));
    assert_eq!(there(10 * 24 * HOUR).await, (2, 2, "567".to_owned()), "the newest of each day");
    assert_eq!(there(40 * 24 * HOUR).await, (2, 2, "7".to_owned()), "what is current stays however old it is");
}

pub(super) async fn keeps_contents_that_are_named(case: Case) {
    let key = case.workspace().await;
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    let elsewhere = case.workspace().await;
    let based = PendingWrite {
        origin: Origin::default(),
        path: "based".into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Deleted,
            mode: 0,
            oid: None,
            size: 0,
            base_oid: Some(oid("base of a row")),
            base_mode: Some(0o100644),
            content: Content::None,
        },
    };
    for content in ["shared", "alone", "base of a row", "held", "last"] {
        case.write(&key, &[edit("a", content)]).await;
        if content == "held" {
            let new = checkpoint("held");
            case.catalog.create_checkpoint(&key, &new).await.expect("a checkpoint");
        }
    }
    case.write(&other, &[edit("b", "shared"), based]).await;
    case.write(&elsewhere, &[edit("a", "alone")]).await;
    let thinned = case.thin(&NOTHING, 100, NOW + 1).await;
    assert_eq!((thinned.versions, thinned.contents), (4, 1), "the one that nothing else names");
    for (content, kept) in [("shared", true), ("alone", false), ("base of a row", true), ("held", true), ("last", true)]
    {
        assert_eq!(case.content(key.project, content).await.is_some(), kept, "{content}");
    }
    assert!(case.content(elsewhere.project, "alone").await.is_some(), "a project's contents are its own");
    // What a name's end leaves without one goes when that version does.
    case.write(&other, &[reset("b"), reset("based")]).await;
    assert_eq!(case.thin(&NOTHING, 100, NOW + 1).await.contents, 2);
    assert!(case.content(key.project, "shared").await.is_none());
    assert!(case.content(key.project, "base of a row").await.is_none());
    // A content that went comes back with the next write.
    case.write(&key, &[edit("z", "alone")]).await;
    assert!(case.content(key.project, "alone").await.is_some());
}

/// What a commit under way has taken stays until it has landed: what was edited since is to start from there.
/// A content goes no sooner than the last version that started from it, which may be restored and merged.
pub(super) async fn keeps_what_versions_started_from(case: Case) {
    let key = case.workspace().await;
    let started = PendingWrite {
        change: PendingChange::Set {
            action: Action::Deleted,
            mode: 0,
            oid: None,
            size: 0,
            base_oid: Some(oid("start")),
            base_mode: Some(0o100644),
            content: Content::None,
        },
        ..edit("b", "any")
    };
    for content in ["start", "other"] {
        case.write(&key, &[edit("a", content)]).await;
    }
    for write in [started, edit("b", "later")] {
        case.catalog.write_pending(&key, None, &[write], NOW + 10).await.expect("write");
    }
    let thinned = case.thin(&NOTHING, 100, NOW + 1).await;
    assert_eq!((thinned.versions, thinned.contents), (1, 0));
    assert!(case.content(key.project, "start").await.is_some(), "a version started from it");
    let thinned = case.thin(&NOTHING, 100, NOW + 11).await;
    assert_eq!((thinned.versions, thinned.contents), (1, 1));
    assert!(case.content(key.project, "start").await.is_none());
}

pub(super) async fn keeps_what_a_commit_has_taken(case: Case) {
    let key = case.workspace().await;
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    for key in [&key, &other] {
        for content in ["replaced", "taken", "later"] {
            case.write(key, &[edit("a", content)]).await;
        }
    }
    let taken =
        |path: &str, revision| SnapshotRow { path: path.into(), revision, oid: Some(oid("taken")), mode: 0o100644 };
    let attempt = Attempt {
        user: Some(key.user),
        pending_branch: key.branch.clone(),
        snapshot: vec![taken("a", Some(2)), taken("not pending", None)],
        ..attempts::attempt(key.project, "elsewhere")
    };
    case.catalog.insert_attempt(&attempt).await.expect("insert");
    let thin = async || {
        let thinned = case.thin(&NOTHING, 100, NOW + 1).await;
        (thinned.versions, thinned.contents)
    };
    assert_eq!(thin().await, (3, 1), "of two users, all but the version that was taken");
    assert_eq!(thin().await, (0, 0));
    let there = case.catalog.versions(&key, None, None, 10).await.expect("versions");
    assert_eq!(there.iter().map(|version| version.row.revision).collect::<Vec<_>>(), [3, 2]);

    let mut lands = publication(key.project, case.op(key.project).await, Vec::new());
    lands.clear_pending = Some(ClearPending {
        branch: key.branch.clone(),
        user: key.user,
        rows: vec![ClearedRow { path: "a".into(), revision: 2, oid: Some(oid("merged")) }],
        cause: ClearCause::Committed,
    });
    lands.attempt = Some(attempts::to(&attempt, 0, AttemptState::Finalized));
    assert_eq!(case.catalog.publish(&lands).await.expect("publish"), PublishOutcome::Published);
    let (_, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((rows[0].oid, rows[0].base_oid), (Some(oid("later")), Some(oid("taken"))));
    assert_eq!(thin().await, (1, 0), "the version, but not the content, which the edit starts from");

    // Whoever wants all of it forgotten says so.
    let attempt = Attempt { id: Uuid::new_v4(), snapshot: vec![taken("a", Some(3))], ..attempt };
    case.catalog.insert_attempt(&attempt).await.expect("insert");
    case.write(&key, &[edit("a", "last")]).await;
    assert_eq!(thin().await, (0, 0));
    let forgotten = case.catalog.forget_history(key.project, Some(key.user), 10, NOW + 1).await.expect("forget");
    assert_eq!(forgotten.versions, 1);
}

fn checkpoint(name: &str) -> NewCheckpoint {
    NewCheckpoint {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        message: String::new(),
        replace: false,
        expected_revision: None,
        limit: 10,
        now_ms: NOW,
    }
}

/// Goal: whatever thinning and writers do at the same time, what pending work and history name has its content.
/// Method: contents that come and go between few paths of several workspaces, everything replaced thinned at once.
pub(super) async fn is_thinned_beside_writers(case: Case) {
    let first = case.workspace().await;
    let keys: Vec<WorkspaceKey> = (0..3).map(|_| WorkspaceKey { user: Uuid::new_v4(), ..first.clone() }).collect();
    let done = Arc::new(AtomicUsize::new(0));
    let writers = keys.iter().cloned().enumerate().map(|(number, key)| {
        let (catalog, done) = (case.catalog.clone(), done.clone());
        async move {
            for round in 0..30 {
                rewrite(&catalog, &key, round, number).await;
            }
            done.fetch_add(1, Ordering::AcqRel);
            0_u64
        }
    });
    let thinner = || {
        let (catalog, done) = (case.catalog.clone(), done.clone());
        async move {
            let mut gone = 0;
            while done.load(Ordering::Acquire) < 3 {
                let step = catalog.thin_history(None, &NOTHING, 50, NOW + 1_000_000).await.expect("thin");
                gone += step.contents;
                tokio::task::yield_now().await;
            }
            gone
        }
    };
    type Task = Pin<Box<dyn Future<Output = u64> + Send>>;
    let mut tasks: Vec<Task> = writers.map(|writer| Box::pin(writer) as Task).collect();
    tasks.extend((0..2).map(|_| Box::pin(thinner()) as Task));
    let gone: u64 = together(tasks).await.into_iter().sum();
    assert!(gone > 0, "nothing was thinned beside the writers");
    case.thin(&NOTHING, 50, NOW + 1_000_000).await;
    for key in &keys {
        let versions = case.catalog.versions(key, None, None, 1000).await.expect("versions");
        assert!(versions.iter().all(|version| version.replaced_at_ms.is_none()), "nothing replaced stays");
        for version in versions {
            let kept = case.catalog.pending_contents(key.project, &[version.row.oid.expect("a blob")]).await;
            assert!(kept.expect("contents")[0].is_some(), "what is pending has its content");
        }
    }
}

/// Writes one of few contents over another one, and looks whether what is pending has its content.
async fn rewrite(catalog: &Arc<dyn Catalog>, key: &WorkspaceKey, round: usize, number: usize) {
    const CONTENTS: &str = "abcdefghijklmnopqrst";
    let content = round * (number + 1) % CONTENTS.len();
    let at = NOW + i64::try_from(round).expect("small");
    let write = if round % 7 == 6 { reset("p") } else { edit("p", &CONTENTS[content..=content]) };
    catalog.write_pending(key, None, &[write], at).await.expect("write");
    let (_, rows) = catalog.pending(key, None).await.expect("pending");
    for blob in rows.iter().filter_map(|row| row.oid) {
        let kept = catalog.pending_contents(key.project, &[blob]).await.expect("contents");
        assert!(kept[0].is_some(), "round {round}: {blob} is pending without content");
    }
}
