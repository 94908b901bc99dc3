//! Isolation on PostgreSQL: what a writer does while a collector is in the middle of a step, and the other way round.
//!
//! Each case stops one side inside its transaction (by a lock that the test holds), lets the other side run into it,
//! and only then lets go. No sleeping and hoping: the server says who waits for whom.

use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Postgres as Database, Transaction};
use tokio::task::JoinHandle;
use treehold_catalog::{
    Action, Admin, CatalogError, ClearCause, ClearPending, ClearedRow, Content, EditBase, EditSpot, History,
    HistoryPolicy, Ledger, NewObject, NewProject, OpKind, Origin, Pending, PendingChange, PendingOutcome, PendingWrite,
    PostgresCatalog, PostgresOptions, ProjectKey, Projects, Publish, PublishOutcome, ReceivePolicy, RefUpdate, Refs,
    RoaringTreemap, RowExpectation, Seen, Thinned, WorkspaceKey,
};
use treehold_object::{Kind, ObjectId};
use treehold_tests::postgres::Postgres;
use uuid::Uuid;

const MAIN: &str = "refs/heads/main";

struct Stage {
    catalog: PostgresCatalog,
    pool: PgPool,
    project: Uuid,
}

fn oid(content: &str) -> ObjectId {
    treehold_object::hash(Kind::Blob, content.as_bytes()).expect("harmless content")
}

/// Two ids in the order in which their rows are locked.
fn ordered() -> [&'static str; 2] {
    if oid("x") < oid("y") { ["x", "y"] } else { ["y", "x"] }
}

impl Stage {
    /// A project, and two live objects that were last seen in epoch 1; the epoch is 2 now.
    async fn set() -> Self {
        let url = Postgres::shared().await.schema_url().await;
        let catalog = PostgresCatalog::connect(&url, PostgresOptions::default()).await.expect("connect");
        catalog.migrate().await.expect("migrate");
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.expect("connect");
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
        let stage = Self { catalog, pool, project };
        let op = stage.begin().await;
        let key = stage.catalog.reserve(op, &["objects/p.pack".to_owned()]).await.expect("reserve")[0].expect("fresh");
        let objects = ordered().map(|content| NewObject {
            oid: oid(content),
            kind: Kind::Blob,
            size: 1,
            sha256: [0; 32],
            offset: 0,
            length: 1,
            base: None,
        });
        stage.catalog.register(op, key, &objects, 0).await.expect("register");
        stage.catalog.end_op(op).await.expect("end");
        stage.run("UPDATE gc_state SET epoch = epoch + 1").await;
        stage
    }

    async fn begin(&self) -> Uuid {
        let op = Uuid::new_v4();
        self.catalog.begin_op(op, Some(self.project), OpKind::Commit, 0).await.expect("begin");
        op
    }

    async fn run(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.pool).await.expect(sql).rows_affected()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect(sql)
    }

    /// A transaction of the test's own, and the id of its server process.
    async fn hold(&self) -> (Transaction<'static, Database>, i32) {
        let mut tx = self.pool.begin().await.expect("begin");
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *tx).await.expect("pid");
        (tx, pid)
    }

    /// Waits until some process waits for `pid`; its id.
    async fn waiting_for(&self, pid: i32) -> i32 {
        for _ in 0..2_000 {
            let waiting: Option<i32> =
                sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)) LIMIT 1")
                    .bind(pid)
                    .fetch_optional(&self.pool)
                    .await
                    .expect("activity");
            if let Some(waiting) = waiting {
                return waiting;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody waits for {pid}");
    }

    fn condemn(&self) -> JoinHandle<u64> {
        // G4: both objects are unreachable for this collector, whose horizon is 2.
        self.spawn("UPDATE objects SET state = 'C' WHERE state = 'L' AND seen_epoch < 2")
    }

    fn spawn(&self, sql: &'static str) -> JoinHandle<u64> {
        let pool = self.pool.clone();
        tokio::spawn(async move { sqlx::query(sql).execute(&pool).await.expect(sql).rows_affected() })
    }

    /// G2, in two statements: the lock first, so that the second one sees what the lock waited for.
    fn move_horizon(&self) -> JoinHandle<()> {
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let mut tx = pool.begin().await.expect("begin");
            sqlx::query("SELECT epoch FROM gc_state WHERE id = 1 FOR UPDATE").execute(&mut *tx).await.expect("lock");
            let horizon = "UPDATE gc_state SET horizon =
                greatest(horizon, coalesce((SELECT min(epoch) FROM ops WHERE state = 'open'), epoch))";
            sqlx::query(horizon).execute(&mut *tx).await.expect("horizon");
            tx.commit().await.expect("commit");
        })
    }

    async fn live(&self) -> i64 {
        self.number("SELECT count(*) FROM objects WHERE state = 'L' AND seen_epoch = 2").await
    }

    fn publication(&self, op: Uuid) -> Publish {
        Publish {
            project: self.project,
            op,
            guard: None,
            refs: vec![RefUpdate { name: MAIN.to_owned(), expected: None, new: Some(oid("x")) }],
            idle: None,
            refs_max: usize::MAX,
            lifetimes: Vec::new(),
            remote_refs: Vec::new(),
            remote_seen: Vec::new(),
            reached: RoaringTreemap::new(),
            replace_reach: false,
            shallow: None,
            clear_pending: None,
            attempt: None,
            answer: None,
            reason: "commit",
            now_ms: 0,
        }
    }

    fn publish(&self, publish: Publish) -> JoinHandle<Result<PublishOutcome, CatalogError>> {
        let catalog = self.catalog.clone();
        tokio::spawn(async move { catalog.publish(&publish).await })
    }

    fn key(&self) -> WorkspaceKey {
        WorkspaceKey { project: self.project, branch: "main".to_owned(), user: Uuid::nil() }
    }

    /// Writes an edit, of what was `base`.
    fn edit(
        &self,
        path: &str,
        of: &str,
        base: Option<&str>,
        content: Content,
    ) -> JoinHandle<Result<PendingOutcome, CatalogError>> {
        let (catalog, key) = (self.catalog.clone(), self.key());
        let change = PendingChange::Set {
            action: if base.is_some() { Action::Modified } else { Action::Created },
            mode: 0o100644,
            oid: Some(oid(of)),
            size: 1,
            base_oid: base.map(oid),
            base_mode: base.map(|_| 0o100644),
            content,
        };
        let write = PendingWrite { path: path.into(), expect: RowExpectation::Any, change, origin: Origin::default() };
        tokio::spawn(async move { catalog.write_pending(&key, None, &[write], 0).await })
    }

    fn write(&self, content: Content, of: &str) -> JoinHandle<()> {
        let writing = self.edit("p", of, None, content);
        tokio::spawn(async move { _ = writing.await.expect("a task").expect("write") })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_waits_for_a_condemnation_revives() {
    let stage = Stage::set().await;
    let op = stage.begin().await;
    let (mut collector, pid) = stage.hold().await;
    let condemned = sqlx::query("UPDATE objects SET state = 'C' WHERE state = 'L' AND seen_epoch < 2");
    assert_eq!(condemned.execute(&mut *collector).await.expect("condemn").rows_affected(), 2);
    let catalog = stage.catalog.clone();
    let pinning = tokio::spawn(async move { catalog.pin(op, &[oid("x"), oid("y")]).await.expect("pin") });
    stage.waiting_for(pid).await;
    collector.commit().await.expect("commit");
    assert!(pinning.await.expect("pin").iter().all(Option::is_some));
    assert_eq!(stage.live().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemnation_that_waits_for_a_pin_spares() {
    let stage = Stage::set().await;
    let op = stage.begin().await;
    // The pin has the first row and stops at the second.
    let (mut test, pid) = stage.hold().await;
    let second =
        sqlx::query("SELECT oid FROM objects WHERE oid = $1 FOR UPDATE").bind(oid(ordered()[1]).as_slice().to_vec());
    second.execute(&mut *test).await.expect("lock");
    let catalog = stage.catalog.clone();
    let pinning = tokio::spawn(async move { catalog.pin(op, &ordered().map(oid)).await.expect("pin") });
    let pinner = stage.waiting_for(pid).await;
    let condemning = stage.condemn();
    stage.waiting_for(pinner).await;
    test.rollback().await.expect("let go");
    assert!(pinning.await.expect("pin").iter().all(Option::is_some));
    assert_eq!(condemning.await.expect("condemn"), 0, "the rows were judged again, as they are now");
    assert_eq!(stage.live().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemnation_that_waits_for_pending_work_spares() {
    let stage = Stage::set().await;
    stage.write(Content::Inline("first".into()), "first").await.expect("write");
    // The write has marked its object and stops at its workspace.
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT id FROM workspaces FOR UPDATE").execute(&mut *test).await.expect("lock");
    let writing = stage.write(Content::Bucket, "x");
    let writer = stage.waiting_for(pid).await;
    let condemning = stage.condemn();
    stage.waiting_for(writer).await;
    test.rollback().await.expect("let go");
    writing.await.expect("write");
    assert_eq!(condemning.await.expect("condemn"), 1, "only the object that nobody asked for");
    assert_eq!(stage.live().await, 1);
    let (_, rows) = stage.catalog.pending(&stage.key(), None).await.expect("pending");
    assert_eq!(rows[0].oid, Some(oid("x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_horizon_waits_for_pending_work_that_names_the_bucket() {
    let stage = Stage::set().await;
    stage.write(Content::Inline("first".into()), "first").await.expect("write");
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT id FROM workspaces FOR UPDATE").execute(&mut *test).await.expect("lock");
    let writing = stage.write(Content::Bucket, "x");
    let writer = stage.waiting_for(pid).await;
    let moving = stage.move_horizon();
    stage.waiting_for(writer).await;
    assert_eq!(stage.number("SELECT horizon FROM gc_state").await, 1, "not before the row names its content");
    test.rollback().await.expect("let go");
    writing.await.expect("write");
    moving.await.expect("horizon");
    assert_eq!(stage.number("SELECT horizon FROM gc_state").await, 2);
    assert_eq!(stage.live().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_horizon_that_waits_for_a_beginning_operation_counts_it() {
    let stage = Stage::set().await;
    let id = Uuid::new_v4();
    // The operation has read its epoch and stops at its own row.
    let (mut test, pid) = stage.hold().await;
    let same = "INSERT INTO ops (op_id, kind, epoch, state, roots, heartbeat_at) VALUES ($1, '', 1, 'dead', '', 0)";
    sqlx::query(same).bind(id).execute(&mut *test).await.expect("insert");
    let (catalog, project) = (stage.catalog.clone(), stage.project);
    let beginning = tokio::spawn(async move { catalog.begin_op(id, Some(project), OpKind::Commit, 0).await });
    let writer = stage.waiting_for(pid).await;
    let epoch = stage.spawn("UPDATE gc_state SET epoch = epoch + 1");
    stage.waiting_for(writer).await;
    test.rollback().await.expect("let go");
    let op = beginning.await.expect("begin").expect("an operation");
    epoch.await.expect("epoch");
    stage.move_horizon().await.expect("horizon");
    assert_eq!(op.epoch, 2);
    assert_eq!(stage.number("SELECT epoch FROM gc_state").await, 3);
    assert_eq!(stage.number("SELECT horizon FROM gc_state").await, 2, "not past an open operation");
    let published = stage.catalog.publish(&stage.publication(id)).await.expect("publish");
    assert_eq!(published, PublishOutcome::Published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_horizon_that_waits_for_a_publication_finds_it_done() {
    let stage = Stage::set().await;
    stage.write(Content::Inline("first".into()), "first").await.expect("write");
    let op = stage.begin().await;
    // The publication has passed the fence and stops at the workspace that it settles.
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT id FROM workspaces FOR UPDATE").execute(&mut *test).await.expect("lock");
    let key = stage.key();
    let clear = ClearPending {
        branch: key.branch,
        user: key.user,
        rows: vec![ClearedRow { path: "p".into(), revision: 1, oid: Some(oid("first")) }],
        cause: ClearCause::Committed,
    };
    let publishing = stage.publish(Publish { clear_pending: Some(clear), ..stage.publication(op) });
    let writer = stage.waiting_for(pid).await;
    let moving = stage.move_horizon();
    stage.waiting_for(writer).await;
    test.rollback().await.expect("let go");
    assert_eq!(publishing.await.expect("publish").expect("published"), PublishOutcome::Published);
    moving.await.expect("horizon");
    assert_eq!(stage.number("SELECT horizon FROM gc_state").await, 2, "no operation is open");
    assert_eq!(stage.catalog.reference(stage.project, MAIN).await.expect("ref"), Some(oid("x")));
}

/// Goal: a branch that ends where nobody works waits for whoever is just saving an edit, and sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_ends_waits_for_edits() {
    let stage = Stage::set().await;
    let op = stage.begin().await;
    // As a transaction does that writes pending work.
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT id FROM projects FOR KEY SHARE").execute(&mut *test).await.expect("lock");
    let publish = Publish { idle: Some(stage.key().branch), ..stage.publication(op) };
    let publishing = stage.publish(publish);
    stage.waiting_for(pid).await;
    stage.write(Content::Inline("first".into()), "first").await.expect("write");
    test.rollback().await.expect("let go");
    assert_eq!(publishing.await.expect("publish").expect("answered"), PublishOutcome::Overtaken);
    assert_eq!(stage.catalog.reference(stage.project, MAIN).await.expect("ref"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_waits_for_the_horizon_is_refused() {
    let stage = Stage::set().await;
    let op = stage.begin().await;
    let (mut collector, pid) = stage.hold().await;
    for step in ["SELECT epoch FROM gc_state WHERE id = 1 FOR UPDATE", "UPDATE gc_state SET epoch = 9, horizon = 9"] {
        sqlx::query(step).execute(&mut *collector).await.expect(step);
    }
    let publishing = stage.publish(stage.publication(op));
    stage.waiting_for(pid).await;
    collector.commit().await.expect("commit");
    let outcome = publishing.await.expect("publish");
    assert!(matches!(outcome, Err(CatalogError::OpLost)), "{outcome:?}");
    assert_eq!(stage.catalog.reference(stage.project, MAIN).await.expect("ref"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_of_an_operation_are_tips_of_one_moment() {
    let stage = Stage::set().await;
    let (mut mover, pid) = stage.hold().await;
    let lock = sqlx::query("SELECT id FROM projects WHERE id = $1 FOR NO KEY UPDATE").bind(stage.project);
    lock.execute(&mut *mover).await.expect("lock");
    let insert = sqlx::query("INSERT INTO refs (project, name, oid) VALUES ($1, 'refs/heads/main', $2)");
    insert.bind(stage.project).bind(oid("tip").as_slice().to_vec()).execute(&mut *mover).await.expect("move");
    let (catalog, project) = (stage.catalog.clone(), stage.project);
    let id = Uuid::new_v4();
    let beginning = tokio::spawn(async move { catalog.begin_op(id, Some(project), OpKind::Import, 0).await });
    stage.waiting_for(pid).await;
    mover.commit().await.expect("commit");
    beginning.await.expect("begin").expect("an operation");
    let roots: Vec<u8> = sqlx::query_scalar("SELECT roots FROM ops WHERE op_id = $1")
        .bind(id)
        .fetch_one(&stage.pool)
        .await
        .expect("roots");
    assert_eq!(roots, oid("tip").as_slice());
}

/// Autosaves hold up no publication, nor the other way round: they share the project's row.
#[tokio::test(flavor = "multi_thread")]
async fn an_autosave_does_not_wait_for_a_publication() {
    let stage = Stage::set().await;
    let (mut publishing, _) = stage.hold().await;
    let lock = sqlx::query("SELECT id FROM projects WHERE id = $1 FOR NO KEY UPDATE").bind(stage.project);
    lock.execute(&mut *publishing).await.expect("lock");
    stage.write(Content::Inline("now".into()), "now").await.expect("write");
    publishing.rollback().await.expect("let go");
    assert_eq!(stage.catalog.workspace_revision(&stage.key()).await.expect("revision"), 1);
}

/// What replaces at once, so that every replaced version goes.
const NOTHING: HistoryPolicy = HistoryPolicy { all_ms: 0, hourly_ms: 0, daily_ms: 0 };

impl Stage {
    /// A path that was `a` and is `b`: the content of `a` has one name, a replaced version.
    async fn replaced(&self) {
        self.write(Content::Inline("a".into()), "a").await.expect("write");
        self.write(Content::Inline("b".into()), "b").await.expect("write");
    }

    fn thin(&self) -> JoinHandle<Thinned> {
        let catalog = self.catalog.clone();
        tokio::spawn(async move { catalog.thin_history(None, &NOTHING, 10, 1).await.expect("thin") })
    }

    /// A thinning that has removed the content of `a`, and not committed yet.
    async fn thinned(&self) -> (Transaction<'static, Database>, i32) {
        let (mut thinning, pid) = self.hold().await;
        for step in [
            "SELECT oid FROM pending_contents WHERE oid = $1 FOR UPDATE",
            "DELETE FROM pending_contents WHERE oid = $1",
        ] {
            sqlx::query(step).bind(oid("a").as_slice().to_vec()).execute(&mut *thinning).await.expect(step);
        }
        (thinning, pid)
    }

    /// What somebody sees at `p` who looks before writing.
    async fn look(&self) -> EditBase {
        let spot = EditSpot {
            project: ProjectKey::Id(self.project),
            branch: Some("main".to_owned()),
            user: Uuid::nil(),
            path: "p".into(),
        };
        self.catalog.edit_base(&spot).await.expect("look").expect("a project")
    }

    /// Writes to `p` after such a look.
    fn write_after(&self, base: &EditBase, expect: RowExpectation, of: &'static str) -> JoinHandle<PendingOutcome> {
        let (catalog, key, base) = (self.catalog.clone(), self.key(), base.clone());
        let change = PendingChange::Set {
            action: Action::Created,
            mode: 0o100644,
            oid: Some(oid(of)),
            size: 1,
            base_oid: None,
            base_mode: None,
            content: Content::Inline(of.into()),
        };
        let seen = base.workspace.map(|workspace| Seen { workspace, revision: base.revision, row: base.row });
        let write = PendingWrite { path: "p".into(), expect, change, origin: Origin::default() };
        tokio::spawn(async move { catalog.write_seen(&key, seen, None, write, 0).await.expect("an answer") })
    }

    /// Whether the process is in the statement of those who have looked.
    async fn is_gated(&self, pid: i32) -> bool {
        let query = "SELECT query LIKE 'WITH held AS%' FROM pg_stat_activity WHERE pid = $1";
        sqlx::query_scalar(query).bind(pid).fetch_one(&self.pool).await.expect("activity")
    }

    async fn kept(&self, content: &str) -> bool {
        self.catalog.pending_contents(self.project, &[oid(content)]).await.expect("contents")[0].is_some()
    }
}

/// A writer has named the content again, and not committed yet, when the thinning comes to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_thinning_that_waits_for_a_writer_sees_what_it_names() {
    let stage = Stage::set().await;
    stage.replaced().await;
    let (mut writer, pid) = stage.hold().await;
    // What a write does: the content's row first (its upsert locks it so), then the rows that name it.
    let lock = sqlx::query("SELECT oid FROM pending_contents WHERE oid = $1 FOR NO KEY UPDATE");
    lock.bind(oid("a").as_slice().to_vec()).execute(&mut *writer).await.expect("lock");
    let name = sqlx::query(
        "INSERT INTO pending (workspace, path, action, mode, oid, size, revision, updated_at)
         SELECT id, 'again', 1, 33188, $1, 1, 3, 0 FROM workspaces",
    );
    name.bind(oid("a").as_slice().to_vec()).execute(&mut *writer).await.expect("name");
    let thinning = stage.thin();
    stage.waiting_for(pid).await;
    writer.commit().await.expect("commit");
    let thinned = thinning.await.expect("thin");
    assert_eq!((thinned.versions, thinned.contents), (1, 0));
    assert!(stage.kept("a").await, "the content is named, and went");
}

/// A thinning has removed the content, and not committed yet, when a writer names it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_for_a_thinning_brings_the_content_again() {
    let stage = Stage::set().await;
    stage.replaced().await;
    let (thinning, pid) = stage.thinned().await;
    let writing = stage.write(Content::Inline("a".into()), "a");
    stage.waiting_for(pid).await;
    thinning.commit().await.expect("commit");
    writing.await.expect("write");
    assert!(stage.kept("a").await, "the content is named, and went");
}

/// So does a writer who has looked before: its one statement may have named the content by the time that it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_has_looked_brings_the_content_again() {
    let stage = Stage::set().await;
    stage.replaced().await;
    let base = stage.look().await;
    let (thinning, pid) = stage.thinned().await;
    let writing = stage.write_after(&base, RowExpectation::Any, "a");
    assert!(stage.is_gated(stage.waiting_for(pid).await).await);
    thinning.commit().await.expect("commit");
    let outcome = writing.await.expect("a task");
    assert_eq!(outcome, PendingOutcome::Written { revision: 3, rows: vec![Some(3)] });
    assert!(stage.kept("a").await, "the content is named, and went");
}

/// And when a thinning comes to the content after that, it waits for the statement and sees what it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_thinning_waits_for_a_writer_who_has_looked() {
    let stage = Stage::set().await;
    stage.replaced().await;
    let base = stage.look().await;
    // The statement stops at the feed, which comes last.
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT project FROM feeds FOR UPDATE").execute(&mut *test).await.expect("lock");
    let writing = stage.write_after(&base, RowExpectation::Any, "a");
    let writer = stage.waiting_for(pid).await;
    assert!(stage.is_gated(writer).await);
    let thinning = stage.thin();
    stage.waiting_for(writer).await;
    test.rollback().await.expect("let go");
    let outcome = writing.await.expect("a task");
    assert_eq!(outcome, PendingOutcome::Written { revision: 3, rows: vec![Some(3)] });
    let thinned = thinning.await.expect("thin");
    assert_eq!((thinned.versions, thinned.contents), (1, 0));
    assert!(stage.kept("a").await, "the content is named, and went");
}

/// Somebody else's edit has not committed yet when a writer comes who has seen what was there before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_for_another_edit_is_judged_by_it() {
    let stage = Stage::set().await;
    stage.write(Content::Inline("a".into()), "a").await.expect("write");
    let base = stage.look().await;
    let row = base.row.clone().expect("a row");
    let (mut other, pid) = stage.hold().await;
    for step in [
        "SELECT id FROM workspaces FOR UPDATE",
        "UPDATE pending SET revision = 2, size = 7",
        "UPDATE workspaces SET revision = 2",
    ] {
        sqlx::query(step).execute(&mut *other).await.expect(step);
    }
    let careful = stage.write_after(&base, RowExpectation::of(&row), "b");
    stage.waiting_for(pid).await;
    other.commit().await.expect("commit");
    assert_eq!(careful.await.expect("a task"), PendingOutcome::Mismatch(0));
    // What was seen is old by now: the version that is replaced is the one that is there.
    let outcome = stage.write_after(&base, RowExpectation::Any, "b").await.expect("a task");
    assert_eq!(outcome, PendingOutcome::Written { revision: 3, rows: vec![Some(3)] });
    let history = stage.catalog.pending_history(&stage.key(), &"p".into(), 9).await.expect("history");
    assert_eq!(history.iter().map(|version| (version.row.revision, version.row.size)).collect::<Vec<_>>(), [(2, 7)]);
}

/// A restoration, which brings no content, finds it gone: it must not name what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_restoration_that_waits_for_a_thinning_is_refused() {
    let stage = Stage::set().await;
    stage.replaced().await;
    let (thinning, pid) = stage.thinned().await;
    let restoring = stage.edit("p", "a", None, Content::Kept);
    stage.waiting_for(pid).await;
    thinning.commit().await.expect("commit");
    let outcome = restoring.await.expect("a task");
    assert!(matches!(outcome, Err(CatalogError::OpLost)), "{outcome:?}");
}

/// A restoration holds what its rows started from, too: here the content of a version that goes meanwhile, and that nothing else names.
#[tokio::test(flavor = "multi_thread")]
async fn a_thinning_that_waits_for_a_restoration_leaves_its_base() {
    let stage = Stage::set().await;
    stage.replaced().await;
    // The restoration has looked at what it keeps and stops at the feed, which comes last.
    let (mut test, pid) = stage.hold().await;
    sqlx::query("SELECT project FROM feeds FOR UPDATE").execute(&mut *test).await.expect("lock");
    let restoring = stage.edit("q", "b", Some("a"), Content::Kept);
    let writer = stage.waiting_for(pid).await;
    let thinning = stage.thin();
    stage.waiting_for(writer).await;
    test.rollback().await.expect("let go");
    restoring.await.expect("a task").expect("write");
    let thinned = thinning.await.expect("thin");
    assert_eq!((thinned.versions, thinned.contents), (1, 0));
    assert!(stage.kept("a").await, "a row starts from it, and it went");
}
