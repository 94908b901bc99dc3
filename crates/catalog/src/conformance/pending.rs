use std::collections::BTreeSet;

use bytes::Bytes;
use treehold_object::BString;

use super::*;
use crate::{CatalogError, EditSpot, PendingOutcome, ProjectKey};

pub(super) fn expecting(expect: RowExpectation, write: PendingWrite) -> PendingWrite {
    PendingWrite { expect, ..write }
}

pub(super) async fn counts_revisions(case: Case) {
    let key = case.workspace().await;
    assert_eq!(case.catalog.workspace_revision(&key).await.expect("revision"), 0);
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), (0, Vec::new()));
    assert_eq!(case.write(&key, &[edit("b", "1"), edit("a", "2")]).await, (2, vec![Some(1), Some(2)]));
    assert_eq!(case.write(&key, &[edit("b", "3")]).await, (3, vec![Some(3)]));
    assert_eq!(case.write(&key, &[reset("a"), reset("none")]).await, (4, vec![Some(4), None]));
    assert_eq!(case.write(&key, &[edit("c", "x"), edit("c", "y"), reset("c")]).await.0, 7, "one for each change");
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((revision, rows.len()), (7, 1));
    let row = &rows[0];
    assert_eq!((row.path.as_slice(), row.revision, row.oid, row.size), (&b"b"[..], 3, Some(oid("3")), 1));
    assert_eq!((row.action, row.mode, row.base_oid), (Action::Modified, 0o100644, Some(oid("base"))));
    assert_eq!(row.updated_at_ms, NOW);
    assert_eq!(case.catalog.workspace_revision(&key).await.expect("revision"), 7);
    // Another user, branch or project counts for itself.
    for other in [
        WorkspaceKey { user: Uuid::new_v4(), ..key.clone() },
        WorkspaceKey { branch: "other".to_owned(), ..key.clone() },
        WorkspaceKey { project: case.project().await, ..key.clone() },
    ] {
        assert_eq!(case.write(&other, &[edit("b", "1")]).await.0, 1);
    }
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), (7, rows));
}

pub(super) async fn skips_what_is_there(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1")]).await;
    let before = case.catalog.pending(&key, None).await.expect("pending");
    let later = case.catalog.write_pending(&key, None, &[edit("a", "1")], NOW + 9).await.expect("write");
    assert_eq!(later, PendingOutcome::Written { revision: 1, rows: vec![None] });
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), before, "not even its time");
    assert_eq!(case.write(&key, &[reset("nothing there")]).await, (1, vec![None]));
    assert_eq!(case.write(&key, &[]).await, (1, Vec::new()));
    // Another mode or base is a change.
    let mut executable = edit("a", "1");
    if let PendingChange::Set { mode, .. } = &mut executable.change {
        *mode = 0o100755;
    }
    assert_eq!(case.write(&key, &[executable.clone()]).await.0, 2);
    if let PendingChange::Set { base_oid, .. } = &mut executable.change {
        *base_oid = None;
    }
    assert_eq!(case.write(&key, std::slice::from_ref(&executable)).await.0, 3);
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1[0].base_oid, None);
    if let PendingChange::Set { base_mode, .. } = &mut executable.change {
        *base_mode = Some(0o100755);
    }
    assert_eq!(case.write(&key, &[executable]).await.0, 4);
}

/// Modes of bases come back wherever rows do; those of rows from before are not known.
pub(super) async fn keeps_modes_of_bases(case: Case) {
    let key = case.workspace().await;
    let modes = [Some(0o100755), None, Some(0o120000)];
    for (content, base_mode) in ["1", "2", "3"].into_iter().zip(modes) {
        let mut write = edit("a", content);
        if let PendingChange::Set { base_mode: mode, .. } = &mut write.change {
            *mode = base_mode;
        }
        case.write(&key, &[write]).await;
    }
    let versions = case.catalog.pending_history(&key, &"a".into(), 9).await.expect("history");
    assert_eq!(versions.iter().map(|version| version.row.base_mode).collect::<Vec<_>>(), [modes[1], modes[0]]);
    let spot = EditSpot {
        project: ProjectKey::Id(key.project),
        branch: Some("main".to_owned()),
        user: key.user,
        path: "a".into(),
    };
    let seen = case.catalog.edit_base(&spot).await.expect("read").expect("a project").row.expect("a row");
    assert_eq!(seen.base_mode, modes[2]);
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1, std::slice::from_ref(&seen));
    let branch = case.catalog.pending_on_branch(key.project, "main", None).await.expect("pending");
    assert_eq!(branch, [(key.user, seen)]);
    case.backend.execute("UPDATE pending SET base_mode = NULL").await;
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1[0].base_mode, None);
}

pub(super) async fn compares_before_it_swaps(case: Case) {
    use RowExpectation::{Absent, Any};
    let at = |revision| row_of(revision, Some("base"));
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1"), edit("b", "1")]).await;
    let before = case.catalog.pending(&key, None).await.expect("pending");
    let refused = async |writes: &[PendingWrite], index| {
        let outcome = case.catalog.write_pending(&key, None, writes, NOW).await.expect("write");
        assert_eq!(outcome, PendingOutcome::Mismatch(index));
        assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), before, "all writes or none");
    };
    refused(&[expecting(Absent, edit("a", "2"))], 0).await;
    refused(&[edit("b", "9"), expecting(at(2), edit("a", "2")), expecting(Absent, edit("b", "3"))], 1).await;
    refused(&[edit("c", "9"), expecting(at(1), edit("d", "2"))], 1).await;
    refused(&[expecting(Absent, edit("c", "1")), expecting(Absent, edit("c", "2"))], 1).await;
    refused(&[expecting(at(7), reset("a"))], 0).await;
    refused(&[expecting(Absent, reset("a"))], 0).await;
    let writes = [
        expecting(at(1), edit("a", "2")),
        expecting(Absent, edit("c", "3")),
        expecting(at(4), edit("c", "4")),
        expecting(Any, reset("b")),
    ];
    assert_eq!(case.write(&key, &writes).await, (6, vec![Some(3), Some(4), Some(5), Some(6)]));
    // The whole workspace as the thing to compare.
    let guarded =
        async |expected, write| case.catalog.write_pending(&key, Some(expected), &[write], NOW).await.expect("write");
    assert_eq!(guarded(5, edit("a", "5")).await, PendingOutcome::WorkspaceMoved(6));
    assert_eq!(guarded(6, edit("a", "5")).await, PendingOutcome::Written { revision: 7, rows: vec![Some(7)] });
    let fresh = case.workspace().await;
    let outcome = case.catalog.write_pending(&fresh, Some(0), &[edit("a", "1")], NOW).await.expect("write");
    assert_eq!(outcome, PendingOutcome::Written { revision: 1, rows: vec![Some(1)] });
}

pub(super) async fn keeps_replaced_versions(case: Case) {
    let key = case.workspace().await;
    let write = async |write: PendingWrite, at| {
        case.catalog.write_pending(&key, None, &[write], NOW + at).await.expect("write");
    };
    write(edit("a", "one"), 1).await;
    write(edit("b", "other"), 2).await;
    write(edit("a", "two"), 3).await;
    write(edit("a", "two"), 4).await;
    write(reset("a"), 5).await;
    write(edit("a", "three"), 6).await;
    let history = case.catalog.pending_history(&key, &"a".into(), 10).await.expect("history");
    let versions: Vec<_> = history
        .iter()
        .map(|old| (old.row.oid, old.row.revision, old.row.updated_at_ms - NOW, old.replaced_at_ms - NOW))
        .collect();
    assert_eq!(versions, [(Some(oid("two")), 3, 3, 5), (Some(oid("one")), 1, 1, 3)], "newest first");
    assert_eq!(history[0].row.path, "a");
    assert_eq!(case.catalog.pending_history(&key, &"a".into(), 1).await.expect("history"), history[..1]);
    assert_eq!(case.catalog.pending_history(&key, &"b".into(), 10).await.expect("history"), []);
    let asked = [oid("one"), oid("two"), oid("three"), oid("never")];
    let contents = case.catalog.pending_contents(key.project, &asked).await.expect("contents");
    assert_eq!(contents, [Some("one".into()), Some("two".into()), Some("three".into()), None]);
    // Versions that one batch replaces on its way are kept as well.
    case.write(&key, &[edit("c", "x"), edit("c", "y")]).await;
    let history = case.catalog.pending_history(&key, &"c".into(), 10).await.expect("history");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].row.oid, Some(oid("x")));
    let contents = case.catalog.pending_contents(key.project, &[oid("x")]).await.expect("contents");
    assert_eq!(contents, [Some("x".into())]);
}

pub(super) async fn orders_paths_by_their_bytes(case: Case) {
    let key = case.workspace().await;
    let mut paths: Vec<BString> = [
        &b"a"[..],
        b"a/b",
        b"a.c",
        b"a-b",
        b"Z",
        b"\xff",
        b"\xfe\x00\xff",
        b"\xc3\xa4",
        b"\xe4",
        b"'\"\\$1",
        b"a\0b",
        b"\x80",
    ]
    .into_iter()
    .map(BString::from)
    .collect();
    let writes: Vec<PendingWrite> = paths.iter().map(|path| edit(path.as_slice(), "1")).collect();
    case.write(&key, &writes).await;
    paths.sort_unstable();
    let listed = async |only: Option<&[BString]>| {
        let (revision, rows) = case.catalog.pending(&key, only).await.expect("pending");
        assert_eq!(revision, 12);
        rows.into_iter().map(|row| row.path).collect::<Vec<_>>()
    };
    assert_eq!(listed(None).await, paths);
    let some = [BString::from("\u{e4}"), BString::from(&b"\xff"[..]), BString::from("missing"), BString::from("Z")];
    assert_eq!(listed(Some(&some)).await, [BString::from("Z"), some[0].clone(), some[1].clone()]);
    assert!(listed(Some(&[])).await.is_empty(), "the revision comes without rows, too");
    for path in &paths {
        case.write(&key, &[edit(path.as_slice(), "2")]).await;
        let history = case.catalog.pending_history(&key, path, 9).await.expect("history");
        assert_eq!(history.iter().map(|old| &old.row.path).collect::<Vec<_>>(), [path]);
    }
}

pub(super) fn inline(path: &str, content: &[u8]) -> PendingWrite {
    PendingWrite {
        path: path.into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Created,
            mode: 0o100644,
            oid: Some(oid(content)),
            size: content.len() as u64,
            base_oid: None,
            base_mode: None,
            content: Content::Inline(Bytes::copy_from_slice(content)),
        },
        origin: Origin::default(),
    }
}

pub(super) async fn stores_contents_once(case: Case) {
    let key = case.workspace().await;
    let (text, noise): (Vec<u8>, Vec<u8>) = (
        b"a line of text\n".repeat(5000),
        (0..3000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect(),
    );
    case.write(&key, &[inline("a", &text), inline("b", &text), inline("noise", &noise), inline("empty", b"")]).await;
    let second = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    case.write(&second, &[inline("a", &text)]).await;
    assert_eq!(case.backend.execute("UPDATE pending_contents SET size = size").await, 3);
    let small = "UPDATE pending_contents SET size = size WHERE length(content) * 10 < size";
    assert_eq!(case.backend.execute(small).await, 1, "text is stored compressed");
    let asked = [oid(&noise), oid(b""), oid(&text), oid("x"), oid(&text)];
    let found = case.catalog.pending_contents(key.project, &asked).await.expect("contents");
    let text = Bytes::from(text);
    assert_eq!(found, [Some(Bytes::from(noise)), Some(Bytes::new()), Some(text.clone()), None, Some(text)]);
    let elsewhere = case.catalog.pending_contents(case.project().await, &asked).await.expect("contents");
    assert_eq!(elsewhere, [None, None, None, None, None], "contents belong to a project");
}

fn large(path: &str, content: &str) -> PendingWrite {
    let mut write = inline(path, content.as_bytes());
    if let PendingChange::Set { content, .. } = &mut write.change {
        *content = Content::Bucket;
    }
    write
}

pub(super) async fn names_what_is_in_the_bucket(case: Case) {
    let key = case.workspace().await;
    let outcome = case.catalog.write_pending(&key, None, &[edit("a", "1"), large("b", "large")], NOW).await;
    assert!(matches!(outcome, Err(CatalogError::OpLost)), "not in the ledger: store it again: {outcome:?}");
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), (0, Vec::new()));

    let op = case.op(key.project).await;
    case.register(op, &[object("large")]).await;
    case.catalog.end_op(op).await.expect("end");
    // Meanwhile a collector condemned it: a pending row brings it back.
    case.backend.execute("UPDATE gc_state SET epoch = epoch + 1, horizon = epoch + 1 WHERE id = 1").await;
    assert_eq!(case.backend.execute("UPDATE objects SET state = 'C'").await, 1);
    assert_eq!(case.write(&key, &[large("b", "large"), large("c", "large")]).await.0, 2);
    let live = "UPDATE objects SET size = size WHERE state = 'L' AND seen_epoch = (SELECT epoch FROM gc_state)";
    assert_eq!(case.backend.execute(live).await, 1);
    let (_, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!(rows.iter().map(|row| row.oid).collect::<Vec<_>>(), [Some(oid("large")); 2]);
    assert_eq!(case.catalog.pending_contents(key.project, &[oid("large")]).await.expect("contents"), [None]);
    assert_eq!(case.catalog.may_read(key.project, &[oid("large")]).await.expect("may read"), [true]);
    let other = case.project().await;
    assert_eq!(case.catalog.may_read(other, &[oid("large")]).await.expect("may read"), [false]);
    // The same content, this time inline, is kept from then on.
    case.write(&key, &[edit("d", "large")]).await;
    let contents = case.catalog.pending_contents(key.project, &[oid("large")]).await.expect("contents");
    assert_eq!(contents, [Some("large".into())]);
    case.write(&key, &[large("e", "large")]).await;
    let contents = case.catalog.pending_contents(key.project, &[oid("large")]).await.expect("contents");
    assert_eq!(contents, [Some("large".into())]);
}

pub(super) async fn shows_everybody_on_a_branch(case: Case) {
    let key = case.workspace().await;
    let mut users: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    for user in &users {
        let theirs = WorkspaceKey { user: *user, ..key.clone() };
        case.write(&theirs, &[edit("b", "1"), edit("a", "2")]).await;
        let elsewhere = WorkspaceKey { branch: "other".to_owned(), ..theirs };
        case.write(&elsewhere, &[edit("c", "3")]).await;
    }
    users.sort_unstable();
    let seen = async |branch: &str, paths: Option<&[BString]>| {
        let rows = case.catalog.pending_on_branch(key.project, branch, paths).await.expect("pending");
        rows.into_iter().map(|(user, row)| (user, row.path.to_string())).collect::<Vec<_>>()
    };
    let both = users.iter().flat_map(|user| [(*user, "a".to_owned()), (*user, "b".to_owned())]);
    assert_eq!(seen("main", None).await, both.collect::<Vec<_>>());
    let only = users.iter().map(|user| (*user, "b".to_owned())).collect::<Vec<_>>();
    assert_eq!(seen("main", Some(&["b".into(), "c".into()])).await, only);
    assert_eq!(seen("main", Some(&[])).await, []);
    assert_eq!(seen("none", None).await, []);
    assert_eq!(seen("other", None).await.len(), 3);
}

pub(super) async fn clears_to_history(case: Case) {
    let key = case.workspace().await;
    assert_eq!(case.catalog.clear_pending(&key, &Origin::default(), NOW).await.expect("clear"), (0, 0));
    case.write(&key, &[edit("a", "1"), edit("b", "2")]).await;
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    case.write(&other, &[edit("a", "3")]).await;
    assert_eq!(case.catalog.clear_pending(&key, &Origin::default(), NOW + 1).await.expect("clear"), (4, 2));
    assert_eq!(case.catalog.clear_pending(&key, &Origin::default(), NOW + 2).await.expect("clear"), (4, 0));
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending"), (4, Vec::new()));
    let history = case.catalog.pending_history(&key, &"a".into(), 9).await.expect("history");
    assert_eq!(
        history.iter().map(|old| (old.row.oid, old.replaced_at_ms)).collect::<Vec<_>>(),
        [(Some(oid("1")), NOW + 1)]
    );
    assert_eq!(case.catalog.pending(&other, None).await.expect("pending").1.len(), 1);
    assert_eq!(case.write(&key, &[edit("a", "1")]).await.0, 5, "revisions are never given twice");
}

/// Each write of two paths leaves both with revisions that follow each other; a reader never sees anything else.
pub(super) async fn reads_one_snapshot(case: Case) {
    let key = case.workspace().await;
    let (writer, writer_key) = (case.catalog.clone(), key.clone());
    let writing = tokio::spawn(async move {
        for round in 0..40 {
            let content: &'static str = if round % 2 == 0 { "even" } else { "odd" };
            writer
                .write_pending(&writer_key, None, &[edit("a", content), edit("b", content)], NOW)
                .await
                .expect("write");
        }
    });
    let mut seen = 0;
    while seen < 80 {
        let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
        assert!(revision >= seen, "{revision} after {seen}");
        seen = revision;
        if let [a, b] = &rows[..] {
            assert_eq!((a.revision + 1, b.revision, a.oid), (b.revision, revision, b.oid));
        } else {
            assert_eq!((revision, rows.len()), (0, 0));
        }
    }
    writing.await.expect("the writer");
}

pub(super) async fn loses_no_write_of_many(case: Case) {
    let key = case.workspace().await;
    // Blind writers of their own paths, all in one workspace, from its first row on.
    let racing = (0..8).map(|racer| {
        let (catalog, key) = (case.catalog.clone(), key.clone());
        async move {
            let mut revisions = Vec::new();
            for round in 0..5 {
                let write = edit(format!("{racer}/{round}"), "content");
                match catalog.write_pending(&key, None, &[write], NOW).await.expect("write") {
                    PendingOutcome::Written { revision, rows } => {
                        assert_eq!(rows, [Some(revision)]);
                        revisions.push(revision);
                    }
                    other => panic!("{other:?}"),
                }
            }
            revisions
        }
    });
    let revisions: BTreeSet<i64> = together(racing).await.concat().into_iter().collect();
    assert_eq!(revisions, (1..=40).collect(), "each revision was given once");
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1.len(), 40);
    // Careful writers of one path: of those that saw the same revision one wins.
    for round in 0..5 {
        let seen = RowExpectation::of(&case.catalog.pending(&key, Some(&["0/0".into()])).await.expect("pending").1[0]);
        let racing = (0..8).map(|racer| {
            let (catalog, key) = (case.catalog.clone(), key.clone());
            let content: &'static str = ["a", "b", "c", "d", "e", "f", "g", "h"][racer];
            let write = expecting(seen, edit("0/0", content));
            async move { catalog.write_pending(&key, None, &[write], NOW).await.expect("write") }
        });
        let outcomes = together(racing).await;
        let changed =
            |outcome: &&PendingOutcome| matches!(outcome, PendingOutcome::Written { rows, .. } if rows[0].is_some());
        assert_eq!(outcomes.iter().filter(changed).count(), 1, "round {round}: {outcomes:?}");
    }
    let history = case.catalog.pending_history(&key, &"0/0".into(), 99).await.expect("history");
    assert_eq!(history.len(), 5);
}

pub(super) async fn takes_large_batches(case: Case) {
    let key = case.workspace().await;
    let path = |index: usize| format!("directory/{index:05}");
    let writes: Vec<PendingWrite> =
        (0..9_000).map(|index| inline(&path(index), format!("content {index}").as_bytes())).collect();
    assert_eq!(case.write(&key, &writes).await.0, 9_000);
    let (_, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert!(
        rows.iter()
            .enumerate()
            .all(|(index, row)| row.path == path(index).as_str() && row.revision == index as i64 + 1)
    );
    let oids: Vec<ObjectId> = rows.iter().filter_map(|row| row.oid).collect();
    let contents = case.catalog.pending_contents(key.project, &oids).await.expect("contents");
    let expected = |index: usize| Some(Bytes::from(format!("content {index}")));
    assert!(contents.iter().enumerate().all(|(index, content)| *content == expected(index)));
    assert_eq!(case.catalog.clear_pending(&key, &Origin::default(), NOW).await.expect("clear"), (18_000, 9_000));
}

/// Writes of many users at once may share a transaction, but neither refusals nor content.
pub(super) async fn keeps_writes_that_arrive_together_apart(case: Case) {
    let key = case.workspace().await;
    let crowd: Vec<WorkspaceKey> = (0..24)
        .map(|index| WorkspaceKey {
            project: if index % 6 == 5 { Uuid::new_v4() } else { key.project },
            branch: format!("branch {}", index % 2),
            user: Uuid::new_v4(),
        })
        .collect();
    for round in 1..=4_i64 {
        let writing = crowd.iter().enumerate().map(|(index, key)| {
            let (catalog, key) = (case.catalog.clone(), key.clone());
            let content: &'static str = ["even", "odd"][round as usize % 2];
            let expect = if index % 6 == 4 { row_of(99, Some("base")) } else { RowExpectation::Any };
            let writes = [expecting(expect, edit("shared path", content)), edit("shared path", content)];
            async move { catalog.write_pending(&key, None, &writes, NOW).await }
        });
        for (index, outcome) in together(writing).await.into_iter().enumerate() {
            match index % 6 {
                5 => assert!(matches!(outcome, Err(CatalogError::NoProject)), "{outcome:?}"),
                4 => assert_eq!(outcome.expect("write"), PendingOutcome::Mismatch(0)),
                _ => {
                    let rows = vec![Some(round), None];
                    assert_eq!(outcome.expect("write"), PendingOutcome::Written { revision: round, rows });
                }
            }
        }
    }
    for (index, key) in crowd.iter().enumerate() {
        let (revision, rows) = case.catalog.pending(key, None).await.expect("pending");
        let written = index % 6 < 4;
        assert_eq!((revision, rows.len()), if written { (4, 1) } else { (0, 0) });
        let history = case.catalog.pending_history(key, &"shared path".into(), 9).await.expect("history");
        assert_eq!(history.len(), if written { 3 } else { 0 });
    }
    assert_eq!(case.backend.execute("UPDATE pending_contents SET size = size").await, 2);
}

/// A caller that stops listening takes nobody else's write with it, and the workspace goes on counting.
pub(super) async fn survives_callers_that_leave(case: Case) {
    let key = case.workspace().await;
    let write = |path: String| {
        let (catalog, key) = (case.catalog.clone(), key.clone());
        tokio::spawn(async move { catalog.write_pending(&key, None, &[edit(path, "1")], NOW).await.expect("write") })
    };
    let calls: Vec<_> = (0..40).map(|index| write(format!("{index}"))).collect();
    for call in calls.iter().step_by(2) {
        call.abort();
    }
    let mut answered = 0;
    for call in calls {
        answered += i64::from(call.await.is_ok());
    }
    assert!(answered >= 20);
    let last = match write("last".to_owned()).await.expect("the last call") {
        PendingOutcome::Written { revision, .. } => revision,
        other => panic!("{other:?}"),
    };
    assert!(last > answered, "{last} after {answered} answers");
}

/// Every way to read a version says where it comes from; alone, another origin is no change.
pub(super) async fn says_where_versions_come_from(case: Case) {
    let key = case.workspace().await;
    let (laptop, agent) = (
        Origin { device: Some("laptop \u{e9}".to_owned()), ..Origin::default() },
        Origin { device: None, actor: Some("agent:a".to_owned()), session: Some("7".to_owned()) },
    );
    let by = |origin: &Origin, write: PendingWrite| PendingWrite { origin: origin.clone(), ..write };
    case.write(&key, &[by(&laptop, edit("a", "1")), edit("b", "1"), by(&agent, edit("c", "1"))]).await;
    assert_eq!(case.write(&key, &[by(&agent, edit("a", "1"))]).await.1, [None]);
    let (_, rows) = case.catalog.pending(&key, None).await.expect("pending");
    let origins = [laptop.clone(), Origin::default(), agent.clone()];
    assert_eq!(rows.iter().map(|row| row.origin.clone()).collect::<Vec<_>>(), origins);
    let shown = case.catalog.pending_on_branch(key.project, "main", None).await.expect("pending");
    assert_eq!(shown.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), rows);
    let spot = EditSpot { project: ProjectKey::Id(key.project), branch: None, user: key.user, path: "a".into() };
    assert_eq!(case.catalog.edit_base(&spot).await.expect("base").expect("a project").row.as_ref(), Some(&rows[0]));
    let view = crate::ViewKey { project: ProjectKey::Id(key.project), branch: None, user: Some(key.user) };
    let view = case.catalog.view(&view, None).await.expect("view").expect("a project");
    assert_eq!(view.pending.map(|(_, rows)| rows), Some(rows));
    case.write(&key, &[by(&agent, edit("a", "2")), by(&laptop, reset("b"))]).await;
    case.catalog.clear_pending(&key, &laptop, NOW).await.expect("clear");
    for (path, expected) in [("a", vec![agent.clone(), laptop]), ("b", vec![Origin::default()]), ("c", vec![agent])] {
        let history = case.catalog.pending_history(&key, &path.into(), 9).await.expect("history");
        assert_eq!(history.into_iter().map(|old| old.row.origin).collect::<Vec<_>>(), expected, "{path}");
    }
}
