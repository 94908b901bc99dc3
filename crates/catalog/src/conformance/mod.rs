//! What every catalog must do: one suite, run by every backend.
//!
//! [`run`] makes a fresh, migrated catalog per case and panics at the first broken guarantee. Cases look at what exists
//! afterwards, not only at answers.

mod attempts;
mod chains;
mod checkpoints;
mod collect;
mod commits;
mod ephemeral;
mod feed;
mod forks;
mod graph;
mod hints;
mod history;
mod inspect;
mod jobs;
mod ledger;
mod ledger_races;
mod looks;
mod model;
mod pending;
mod projects;
mod rebuild;
mod refs;
mod settle;
mod snapshots;
mod tokens;
mod usage;
mod views;
mod vitals;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use roaring::RoaringTreemap;
use treehold_object::limits::REFS_MAX;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use crate::{
    Action, Catalog, Content, NewObject, NewProject, OpKind, Origin, PendingChange, PendingWrite, Project, Publish,
    ReceivePolicy, RefUpdate, Registered, RowExpectation, WorkspaceKey,
};

/// A database under test.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The catalog in it.
    fn catalog(&self) -> Arc<dyn Catalog>;
    /// Runs statements of the collector (which the catalog has no methods for) on a connection of its own, as one
    /// transaction each; how many rows they changed.
    async fn execute(&self, sql: &'static str) -> u64;
}

/// One case: its database, and short names for what cases do all the time.
struct Case {
    backend: Arc<dyn Backend>,
    catalog: Arc<dyn Catalog>,
}

/// A case on a database of its own, in the heap and made in a frame of its own: together the cases are more than the stack of a thread
/// of tests.
fn on_heap<M, F, G>(make: &M, case: impl FnOnce(Case) -> G) -> Pin<Box<impl Future<Output = ()>>>
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
    G: Future<Output = ()>,
{
    Box::pin(async move {
        let backend = make().await;
        let catalog = backend.catalog();
        case(Case { backend, catalog }).await;
    })
}

/// A commit as most are, from its preparation to its landing, so that a backend can look at how it went: a branch goes from one commit to the
/// next, which takes a pending row and is not pushed.
pub async fn usual_commit(backend: Arc<dyn Backend>) {
    let catalog = backend.catalog();
    commits::land_as_usual(Case { backend, catalog }).await;
}

/// Runs a list of cases, each on a fresh database.
macro_rules! cases {
    ($make:expr, $($module:ident :: $case:ident),* $(,)?) => {
        $(on_heap(&$make, $module::$case).await;)*
    };
}

/// Runs the suite. `make` gives a migrated, empty database.
pub async fn run<M, F>(make: M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        projects::are_created_once,
        projects::have_unique_names,
        projects::are_listed_in_order_of_id,
        projects::carry_what_pushes_are_refused,
        projects::take_everything_with_them,
        projects::stay_if_something_is_in_them,
        projects::are_missed_by_every_writer,
        projects::can_be_migrated_and_pinged,
        usage::counts_contents_of_pending_work,
        usage::counts_what_refs_reach,
        usage::tells_what_is_charged_already,
        usage::corrects_figures,
        usage::counts_beside_other_writers,
        usage::keeps_quotas,
        refs::move_only_from_what_they_were,
        refs::move_all_or_none,
        refs::move_only_under_their_guard,
        refs::of_a_project_made_again_are_its_own,
        refs::are_listed_by_prefix_in_byte_order,
        refs::have_one_winner_of_many,
        refs::are_never_published_by_a_lost_operation,
        refs::are_never_published_across_the_horizon,
        refs::grow_reach_and_replace_it,
        refs::decide_what_may_be_read,
        refs::carry_remote_refs_and_shallow_commits,
        refs::keep_what_was_seen_of_the_remote_since,
        refs::are_logged,
        refs::are_no_more_than_the_project_may_have,
        refs::are_beside_none_that_they_cannot_be_beside,
        refs::have_one_winner_of_those_that_cannot_be_together,
        refs::come_in_thousands,
        forks::begin_with_the_refs_of_another,
        forks::take_what_they_are_told,
        forks::are_refused_whole,
        views::show_what_single_reads_show,
        views::carry_pending_rows,
        views::see_a_publication_whole_or_not_at_all,
        views::outlive_their_branch,
        views::show_parts_of_a_workspace,
        ledger::numbers_objects_in_order,
        ledger::takes_twenty_thousand_objects,
        ledger::keeps_the_first_location,
        ledger::refuses_collisions,
        ledger::burns_names,
        ledger::dooms_what_was_never_live,
        ledger::repeats_a_registration,
        ledger::refuses_registrations_without_an_open_operation,
        ledger::pins_and_revives,
        ledger::reads_packs_from_front_to_back,
        ledger::reaps_silent_operations,
        ledger::records_roots,
        ledger_races::one_object_registered_by_many,
        ledger_races::one_name_reserved_by_many,
        ledger_races::overlapping_sets_in_any_order,
        ledger_races::a_reaper_against_registrations,
    );
    run_graph(&make).await;
    run_settlements(&make).await;
    run_admission(&make).await;
    run_upkeep(&make).await;
    run_rebuild(&make).await;
    run_work(&make).await;
}

/// What rests on other objects, and how commits and trees hang together.
async fn run_graph<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        chains::are_followed_to_a_whole_object,
        chains::keep_what_is_known_elsewhere,
        chains::end_in_the_same_pack,
        chains::follow_the_model,
        graph::commits_come_back,
        graph::walks_stop_at_the_depth,
        graph::walks_read_few_bytes_ahead,
        graph::walks_agree_with_a_plain_search,
        graph::trees_come_back,
    );
}

/// What becomes of pending work that was committed.
async fn run_settlements<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        settle::removes_what_was_committed_and_rebases_the_rest,
        settle::keeps_a_base_that_was_set_meanwhile,
        settle::settles_what_landed,
        settle::rebases_modes,
        settle::moves_with_the_refs_or_not_at_all,
        settle::finishes_attempt_and_request,
    );
}

/// Who may do what, and for how long.
async fn run_admission<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        tokens::come_back_by_their_hash,
        tokens::name_their_project_as_it_is_called,
        tokens::are_created_once,
        tokens::are_listed_by_project_and_in_all,
        tokens::are_revoked_at_once,
        tokens::of_before_are_for_git,
        tokens::go_with_their_project,
        ephemeral::end_a_while_after_their_last_move,
        ephemeral::stay_once_they_are_promoted,
        ephemeral::stay_where_somebody_has_pending_work,
        ephemeral::end_in_forks_too,
    );
}

/// What is done for all projects at once.
async fn run_upkeep<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        collect::horizons_rise_with_the_oldest_operation,
        collect::objects_are_given_up_in_two_steps,
        collect::doomed_objects_take_their_rows_with_them,
        collect::lineage_is_read_some_steps_ahead,
        collect::deltas_outlive_what_they_rest_on,
        collect::everything_that_names_an_object_is_a_root,
        collect::cut_histories_are_kept_apart,
        collect::names_without_a_row_are_burnt,
        collect::what_is_old_is_forgotten,
        collect::one_bucket_is_the_databases,
        collect::writers_lose_nothing_to_a_collector,
        inspect::keys_whatever_their_state,
        inspect::objects_whatever_their_state,
        inspect::what_projects_name,
        inspect::what_stands_still,
        jobs::are_done_by_one_at_a_time,
        jobs::go_on_where_they_were,
        hints::reach_every_project_with_the_remote,
        hints::count_once_and_until_the_remote_was_asked,
        vitals::tell_what_is_under_way,
    );
}

/// What is lost and comes back.
async fn run_rebuild<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        rebuild::records_what_the_bucket_holds,
        rebuild::begins_only_where_nothing_is_lost,
        rebuild::fences_off_what_was_begun_before,
        snapshots::come_back_as_they_were,
        snapshots::are_published_by_a_living_operation,
    );
}

/// What people do in projects.
async fn run_work<M, F>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Backend>>,
{
    cases!(
        make,
        pending::counts_revisions,
        pending::skips_what_is_there,
        pending::keeps_modes_of_bases,
        pending::compares_before_it_swaps,
        pending::keeps_replaced_versions,
        pending::orders_paths_by_their_bytes,
        pending::stores_contents_once,
        pending::names_what_is_in_the_bucket,
        pending::shows_everybody_on_a_branch,
        pending::clears_to_history,
        pending::reads_one_snapshot,
        pending::loses_no_write_of_many,
        looks::loses_no_write_of_those_who_looked,
        pending::takes_large_batches,
        pending::keeps_writes_that_arrive_together_apart,
        pending::survives_callers_that_leave,
        pending::says_where_versions_come_from,
        looks::shows_what_an_edit_starts_from,
        looks::answers_questions_that_arrive_together_apart,
        feed::tells_of_pending_work,
        feed::tells_of_refs_and_what_moves_with_them,
        feed::tells_of_pushes,
        feed::goes_past_what_is_left_out,
        feed::forgets_the_oldest_and_says_so,
        feed::begins_anew_with_numbers_never_given,
        feed::wakes_those_who_follow,
        feed::skips_nothing_and_repeats_nothing,
        history::lists_versions,
        history::forgets_at_once,
        history::keeps_what_could_not_be_taken,
        history::answers_a_request_once,
        history::is_thinned_by_its_age,
        history::keeps_contents_that_are_named,
        history::keeps_what_versions_started_from,
        history::keeps_what_a_commit_has_taken,
        history::is_thinned_beside_writers,
        checkpoints::remember_everything_pending,
        checkpoints::have_names,
        checkpoints::go_with_what_only_they_name,
        checkpoints::are_roots,
        attempts::claims_compare_bodies,
        attempts::answers_stay,
        attempts::come_back_whole,
        attempts::move_by_their_fence,
        attempts::wait_for_a_merge,
        attempts::push_one_at_a_time,
        attempts::are_found_while_open,
        commits::are_recorded_step_by_step,
        commits::land_at_once,
        commits::land_with_what_they_took,
        commits::land_if_what_they_rest_on_holds,
        commits::are_recorded_whole_or_not_at_all,
        commits::may_make_the_same_objects,
        commits::start_from_what_the_project_has,
        commits::know_what_was_undone,
        commits::race_with_undoing,
        model::pending_follows_the_model,
    );
}

/// A time; the catalog has no clock.
const NOW: i64 = 1_750_000_000_000;

/// The id of a blob of these bytes.
fn oid(content: impl AsRef<[u8]>) -> ObjectId {
    treehold_object::hash(Kind::Blob, content.as_ref()).expect("harmless content")
}

/// A blob as it would be registered, alone in its key.
fn object(content: impl AsRef<[u8]>) -> NewObject {
    let content = content.as_ref();
    NewObject {
        oid: oid(content),
        kind: Kind::Blob,
        size: content.len() as u64,
        sha256: treehold_object::hash::sha256(Kind::Blob, content),
        offset: 0,
        length: content.len() as u64 + 8,
        base: None,
    }
}

fn update(name: &str, expected: Option<ObjectId>, new: Option<ObjectId>) -> RefUpdate {
    RefUpdate { name: name.to_owned(), expected, new }
}

/// A publication of refs alone.
fn publication(project: Uuid, op: Uuid, refs: Vec<RefUpdate>) -> Publish {
    Publish {
        project,
        op,
        guard: None,
        refs,
        idle: None,
        refs_max: REFS_MAX,
        lifetimes: Vec::new(),
        remote_refs: Vec::new(),
        remote_seen: Vec::new(),
        reached: RoaringTreemap::new(),
        replace_reach: false,
        shallow: None,
        clear_pending: None,
        attempt: None,
        answer: None,
        reason: "update",
        now_ms: NOW,
    }
}

/// An edit with inline content; the last write wins.
fn edit(path: impl AsRef<[u8]>, content: &'static str) -> PendingWrite {
    PendingWrite {
        path: path.as_ref().into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Modified,
            mode: 0o100644,
            oid: Some(oid(content)),
            size: content.len() as u64,
            base_oid: Some(oid("base")),
            base_mode: Some(0o100644),
            content: Content::Inline(content.into()),
        },
        origin: Origin::default(),
    }
}

/// The row of this revision that starts from this content.
fn row_of(revision: i64, base: Option<&'static str>) -> RowExpectation {
    RowExpectation::Row { revision, base_oid: base.map(oid), base_mode: base.map(|_| 0o100644) }
}

fn reset(path: impl AsRef<[u8]>) -> PendingWrite {
    let (expect, change, origin) = (RowExpectation::Any, PendingChange::Clear, Origin::default());
    PendingWrite { path: path.as_ref().into(), expect, change, origin }
}

impl Case {
    /// A new project.
    async fn project(&self) -> Uuid {
        let id = Uuid::new_v4();
        let new = new_project(id, None);
        self.catalog.create_project(&new).await.expect("create a project");
        id
    }

    /// A workspace in a new project.
    async fn workspace(&self) -> WorkspaceKey {
        WorkspaceKey { project: self.project().await, branch: "main".to_owned(), user: Uuid::new_v4() }
    }

    /// An open operation.
    async fn op(&self, project: Uuid) -> Uuid {
        let id = Uuid::new_v4();
        self.catalog.begin_op(id, Some(project), OpKind::Commit, NOW).await.expect("begin an operation");
        id
    }

    /// Registers objects under a fresh key of the operation.
    async fn register(&self, op: Uuid, objects: &[NewObject]) -> Vec<Registered> {
        let name = format!("objects/pack/pack-{}.pack", Uuid::new_v4().simple());
        let key = self.catalog.reserve(op, &[name]).await.expect("reserve")[0].expect("a fresh name");
        self.catalog.register(op, key, objects, NOW).await.expect("register")
    }

    /// Publishes refs in an operation of their own.
    async fn publish(&self, project: Uuid, refs: Vec<RefUpdate>) -> crate::PublishOutcome {
        let op = self.op(project).await;
        self.catalog.publish(&publication(project, op, refs)).await.expect("publish")
    }

    /// Records what the remote has.
    async fn remote_refs(&self, project: Uuid, refs: &[(&str, Option<ObjectId>)]) {
        let op = self.op(project).await;
        let remote_refs = refs.iter().map(|(name, oid)| ((*name).to_owned(), *oid)).collect();
        let publish = Publish { remote_refs, ..publication(project, op, Vec::new()) };
        self.catalog.publish(&publish).await.expect("publish");
    }

    /// Writes pending work that must be accepted: the revision, and those of the rows.
    async fn write(&self, key: &WorkspaceKey, writes: &[PendingWrite]) -> (i64, Vec<Option<i64>>) {
        match self.catalog.write_pending(key, None, writes, NOW).await.expect("write") {
            crate::PendingOutcome::Written { revision, rows } => (revision, rows),
            other => panic!("refused: {other:?}"),
        }
    }
}

fn new_project_at(id: Uuid, created_at_ms: i64) -> NewProject {
    Project { created_at_ms, ..new_project(id, None) }
}

fn new_project(id: Uuid, name: Option<&str>) -> NewProject {
    Project {
        id,
        name: name.map(str::to_owned),
        default_branch: "main".to_owned(),
        remote_url: Some("https://example.org/o/r".to_owned()),
        receive: ReceivePolicy::default(),
        quota_bytes: None,
        bytes: 0,
        created_at_ms: NOW,
    }
}

/// Runs tasks at once and gives back their results in order.
async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("a task panicked"));
    }
    results
}
