//! A transaction in one call: what is left of it where it does not come to its end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tempfile::TempDir;
use treehold_object::Kind;
use uuid::Uuid;

use super::super::write::Write;
use crate::fault::Fault;
use crate::{
    Action, Admin, CatalogError, Content, EditSpot, NewProject, Origin, Pending, PendingChange, PendingOutcome,
    PendingWrite, ProjectKey, Projects, ReceivePolicy, RowExpectation, Seen, SqliteCatalog, WorkspaceKey,
};

/// A workspace in which one path was written once.
struct Stage {
    catalog: SqliteCatalog,
    key: WorkspaceKey,
    _dir: TempDir,
}

fn edit(content: &[u8]) -> PendingWrite {
    PendingWrite {
        path: "p".into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Created,
            mode: 0o100644,
            oid: Some(treehold_object::hash(Kind::Blob, content).expect("harmless content")),
            size: content.len() as u64,
            base_oid: None,
            base_mode: None,
            content: Content::Inline(content.to_vec().into()),
        },
        origin: Origin::default(),
    }
}

impl Stage {
    async fn set() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        let project = Uuid::new_v4();
        let new = NewProject {
            id: project,
            name: None,
            default_branch: "main".to_owned(),
            remote_url: None,
            receive: ReceivePolicy::default(),
            quota_bytes: None,
            bytes: 0,
            created_at_ms: 0,
        };
        catalog.create_project(&new).await.expect("create");
        let key = WorkspaceKey { project, branch: "main".to_owned(), user: Uuid::nil() };
        catalog.write_pending(&key, None, &[edit(b"first")], 0).await.expect("write");
        Self { catalog, key, _dir: dir }
    }

    /// An edit by somebody who has just looked.
    async fn look(&self, content: &[u8]) -> Write {
        let spot =
            EditSpot { project: ProjectKey::Id(self.key.project), branch: None, user: self.key.user, path: "p".into() };
        let base = self.catalog.edit_base(&spot).await.expect("look").expect("a project");
        let seen = base.workspace.map(|workspace| Seen { workspace, revision: base.revision, row: base.row });
        Write::new(&self.key, None, &[edit(content)], 0).expect("harmless content").after_seeing(seen)
    }

    /// The revision that one call leads to, `None` = it did nothing.
    async fn write(&self, write: Write) -> Result<Option<i64>, Fault> {
        let outcomes = self.catalog.write_as_seen(&[write]).await?;
        Ok(outcomes.map(|outcomes| match &outcomes[..] {
            [Some(PendingOutcome::Written { revision, .. })] => *revision,
            other => panic!("{other:?}"),
        }))
    }

    /// The workspace's revision. Each write brought a content and an event, and all but the last one are versions.
    async fn revision(&self) -> i64 {
        let (revision, row, versions, events, contents): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT w.revision, p.revision, (SELECT count(*) FROM pending_history), (SELECT count(*) FROM events),
                    (SELECT count(*) FROM pending_contents)
             FROM workspaces w JOIN pending p ON p.workspace = w.id",
        )
        .fetch_one(self.catalog.reader())
        .await
        .expect("the workspace");
        assert_eq!([row, versions + 1, events, contents], [revision; 4], "half written");
        revision
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.catalog.writer()).await.expect(sql);
    }

    /// SQLite then rolls a commit back, as where it cannot write the log.
    async fn refuse_commits(&self) {
        let mut connection = self.catalog.writer().acquire().await.expect("the writer");
        connection.lock_handle().await.expect("its handle").set_commit_hook(|| false);
    }
}

#[tokio::test]
async fn who_was_overtaken_writes_nothing() {
    let stage = Stage::set().await;
    let (one, other) = (stage.look(b"one").await, stage.look(b"other").await);
    assert_eq!(stage.write(one).await.expect("write"), Some(2));
    assert_eq!(stage.write(other).await.expect("write"), None);
    assert_eq!(stage.revision().await, 2);
}

/// Goal: an error in the middle leaves nothing half written, and no transaction to whoever comes next. Method: a trigger that refuses events,
/// after most has been written.
#[tokio::test]
async fn an_error_in_the_middle_rolls_back() {
    let stage = Stage::set().await;
    stage.run("CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'refused'); END").await;
    for _ in 0..2 {
        match stage.write(stage.look(b"second").await).await {
            Err(Fault::Sql(sqlx::Error::Database(error))) => assert_eq!(error.message(), "refused"),
            other => panic!("{other:?}"),
        }
        assert_eq!(stage.revision().await, 1);
    }
    stage.run("DROP TRIGGER refuse").await;
    assert_eq!(stage.write(stage.look(b"second").await).await.expect("write"), Some(2));
    assert_eq!(stage.revision().await, 2);
}

/// The same, with a limit of SQLite's in place of a full disk.
#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let stage = Stage::set().await;
    stage.run("PRAGMA max_page_count = 1").await;
    let large: Vec<u8> = (0..1 << 16).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
    let full = stage.write(stage.look(&large).await).await.map_err(|fault| fault.into_error("write"));
    assert!(matches!(full, Err(CatalogError::Unavailable { .. })), "{full:?}");
    assert_eq!(stage.revision().await, 1);
    stage.run("PRAGMA max_page_count = 1000000").await;
    assert_eq!(stage.write(stage.look(&large).await).await.expect("write"), Some(2));
    assert_eq!(stage.revision().await, 2);
}

/// Goal: where SQLite rolled a transaction back by itself the next one begins as ever.
#[tokio::test]
async fn a_commit_that_fails_is_over() {
    let stage = Stage::set().await;
    stage.refuse_commits().await;
    assert!(stage.write(stage.look(b"second").await).await.is_err());
    assert_eq!(stage.revision().await, 1);
    assert_eq!(stage.write(stage.look(b"second").await).await.expect("write"), Some(2));
    assert_eq!(stage.revision().await, 2);
}

/// Goal: a call that is given up leaves no transaction open, and nothing half written. Method: give it up where it waits for the first time,
/// for the second, and so on.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_transaction() {
    let stage = Stage::set().await;
    for waits in 0..8 {
        let write = [stage.look(format!("given up, {waits}").as_bytes()).await];
        give_up(stage.catalog.write_as_seen(&write), waits).await;
        // The connection's thread has left it, or closed it, once there is a connection again.
        drop(stage.catalog.writer().acquire().await.expect("the writer"));
        let revision = stage.revision().await;
        let next = stage.look(format!("written, {waits}").as_bytes()).await;
        assert_eq!(stage.write(next).await.expect("write"), Some(revision + 1));
    }
    stage.revision().await;
}

/// Drops a future after it has waited so often, and once more.
async fn give_up(future: impl Future, waits: usize) {
    let mut future = pin!(future);
    let mut waited = 0;
    poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() || waited == waits {
            return Poll::Ready(());
        }
        waited += 1;
        Poll::Pending
    })
    .await;
}
