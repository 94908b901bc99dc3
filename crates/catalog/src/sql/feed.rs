//! The change feed: writing events into the transaction at hand, reading, trimming.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::bells::Following;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::feed::{Event, Feed, FeedEnds, FeedPage, FeedRead, NewEvent, PendingEvent, PushOutcome, Told};
use crate::pending::Origin;
use crate::rows::{Rows, Type, arguments, sql};

/// Numbers that one statement looks at, whatever it leaves out.
const WINDOW: i64 = 10_000;
/// Projects trimmed in one round.
const TRIMMED_MAX: i64 = 100;
/// Numbers that a project has for each millisecond of its life.
const NUMBERS_PER_MS: i64 = 1 << 10;
const INVALID: CatalogError = CatalogError::Invalid { what: "event" };

/// An event, as the queries take it. `place` says where among the others: each dialect in its own way.
pub(super) const EVENT: &[(&str, Type)] = &[
    ("project", Type::Uuid),
    ("place", Type::Int),
    ("kind", Type::Int),
    ("at", Type::Int),
    ("user_id", Type::Uuid),
    ("name", Type::Text),
    ("path", Type::Blob),
    ("action", Type::Int),
    ("mode", Type::Int),
    ("old_oid", Type::Blob),
    ("new_oid", Type::Blob),
    ("revision", Type::Int),
    ("reason", Type::Text),
    ("attempt", Type::Uuid),
    ("device", Type::Text),
    ("actor", Type::Text),
    ("session", Type::Text),
];

/// SQL: the columns after `place`, of a table.
pub(super) fn columns_of(table: &str) -> String {
    EVENT[2..].iter().map(|(name, _)| format!("{table}{name}")).collect::<Vec<_>>().join(", ")
}

/// What projects hold more or less after a transaction, logical bytes. It is counted in the rows of `feeds`.
pub(super) type Charges = BTreeMap<Uuid, i64>;

/// Where the feeds of a transaction end once it is committed.
pub(super) type Recorded = Vec<(Uuid, i64)>;

/// Writes events, and counts what projects hold. This is the last thing that a transaction does: the rows of `feeds` that it locks, in order of
/// their projects, come after all others, and are free again as soon as can be. The numbers of events become visible in their order since
/// nobody else counts on before this transaction has ended. A figure may fall below 0, and then counts as 0: it is corrected by differences.
pub(super) async fn record(tx: &mut Transaction, events: &[NewEvent], mut charges: Charges) -> Result<Recorded, Fault> {
    charges.retain(|_, bytes| *bytes != 0);
    let told: BTreeSet<Uuid> = events.iter().map(|event| event.project).collect();
    if !told.is_empty() && charges.keys().any(|project| !told.contains(project)) {
        lock_in_order(tx, told.iter().chain(charges.keys())).await?;
    }
    let mut ends: HashMap<Uuid, i64> = HashMap::new();
    for chunk in events.chunks(CHUNK_ROWS) {
        ends.extend(record_chunk(tx, chunk, &mut charges).await?);
    }
    for (project, bytes) in charges {
        charge(tx, project, bytes).await?;
    }
    Ok(ends.into_iter().collect())
}

/// Those who count and tell nothing stand between those who tell: two transactions would wait for each other.
async fn lock_in_order(tx: &mut Transaction, projects: impl Iterator<Item = &Uuid>) -> Result<(), Fault> {
    let projects: BTreeSet<Uuid> = projects.copied().collect();
    let select = sql!(
        "SELECT last FROM feeds WHERE project IN (SELECT r.project FROM {}) ORDER BY project {FOR_UPDATE}",
        rows(1, &[("project", Type::Uuid)])
    );
    let values = with_rows(arguments![], Rows::new().uuids(projects))?;
    sqlx::query_with(select, values).fetch_all(&mut **tx).await?;
    Ok(())
}

/// Counts what a project holds, where no event is told. As with events nothing else comes after it.
pub(super) async fn charge(tx: &mut Transaction, project: Uuid, bytes: i64) -> Result<(), Fault> {
    if bytes != 0 {
        sqlx::query("UPDATE feeds SET bytes = bytes + $2 WHERE project = $1")
            .bind(project)
            .bind(bytes)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// An event's columns.
#[derive(Default)]
struct Cells<'a> {
    kind: i64,
    user: Option<Uuid>,
    name: &'a str,
    path: Option<&'a [u8]>,
    action: Option<i64>,
    mode: Option<i64>,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    revision: Option<i64>,
    reason: Option<&'a str>,
    attempt: Option<Uuid>,
    origin: Option<&'a Origin>,
}

fn cells(told: &Told) -> Cells<'_> {
    match told {
        Told::Pending { user, branch, path, event, mode, oid, base_oid, revision, origin } => Cells {
            user: Some(*user),
            name: branch,
            path: Some(path),
            action: Some(event_code(*event)),
            mode: Some(i64::from(*mode)),
            old: *base_oid,
            new: *oid,
            revision: Some(*revision),
            origin: Some(origin),
            ..Cells::default()
        },
        Told::Ref { name, from, to, reason } => {
            Cells { kind: 1, name, old: *from, new: *to, reason: Some(reason), ..Cells::default() }
        }
        Told::Sync { branch, from, to } => Cells { kind: 2, name: branch, old: *from, new: *to, ..Cells::default() },
        Told::Push { branch, attempt, commit, user, outcome } => Cells {
            kind: 3,
            user: *user,
            name: branch,
            new: Some(*commit),
            reason: Some(outcome_name(*outcome)),
            attempt: Some(*attempt),
            ..Cells::default()
        },
    }
}

/// Events as rows of [`EVENT`].
pub(super) fn event_values(events: &[NewEvent], places: impl IntoIterator<Item = i64>) -> Rows {
    let all: Vec<Cells<'_>> = events.iter().map(|event| cells(&event.told)).collect();
    let origin = |part: fn(&Origin) -> &Option<String>| {
        all.iter().map(move |cells| cells.origin.and_then(|origin| part(origin).as_deref())).collect::<Vec<_>>()
    };
    Rows::new()
        .uuids(events.iter().map(|event| event.project))
        .ints(places)
        .ints(all.iter().map(|cells| cells.kind))
        .ints(events.iter().map(|event| event.at_ms))
        .uuids_or_null(all.iter().map(|cells| cells.user))
        .texts(all.iter().map(|cells| cells.name))
        .blobs_or_null(all.iter().map(|cells| cells.path))
        .ints_or_null(all.iter().map(|cells| cells.action))
        .ints_or_null(all.iter().map(|cells| cells.mode))
        .blobs_or_null(all.iter().map(|cells| cells.old.as_ref().map(ObjectId::as_slice)))
        .blobs_or_null(all.iter().map(|cells| cells.new.as_ref().map(ObjectId::as_slice)))
        .ints_or_null(all.iter().map(|cells| cells.revision))
        .texts_or_null(all.iter().map(|cells| cells.reason))
        .uuids_or_null(all.iter().map(|cells| cells.attempt))
        .texts_or_null(origin(|origin| &origin.device))
        .texts_or_null(origin(|origin| &origin.actor))
        .texts_or_null(origin(|origin| &origin.session))
}

/// How many events of its project come after each.
pub(super) fn places(events: &[NewEvent]) -> Vec<i64> {
    let mut after: HashMap<Uuid, i64> = HashMap::new();
    let mut places: Vec<i64> = events
        .iter()
        .rev()
        .map(|event| {
            let count = after.entry(event.project).or_default();
            *count += 1;
            *count - 1
        })
        .collect();
    places.reverse();
    places
}

fn event_code(event: PendingEvent) -> i64 {
    match event {
        PendingEvent::Set(action) => codec::action_code(action),
        PendingEvent::Dropped => 3,
        PendingEvent::Committed => 4,
    }
}

fn pending_event(code: i64) -> Result<PendingEvent, CatalogError> {
    match code {
        3 => Ok(PendingEvent::Dropped),
        4 => Ok(PendingEvent::Committed),
        _ => codec::action(code).map(PendingEvent::Set),
    }
}

fn outcome_name(outcome: PushOutcome) -> &'static str {
    match outcome {
        PushOutcome::Pushed => "pushed",
        PushOutcome::Rejected => "rejected",
        PushOutcome::Paused => "paused",
        PushOutcome::Superseded => "superseded",
    }
}

fn outcome(name: &str) -> Result<PushOutcome, CatalogError> {
    let all = [PushOutcome::Pushed, PushOutcome::Rejected, PushOutcome::Paused, PushOutcome::Superseded];
    all.into_iter().find(|outcome| outcome_name(*outcome) == name).ok_or(INVALID)
}

/// A stored event beside the ends of its feed; without one there is a row of nulls.
#[derive(sqlx::FromRow)]
struct Row {
    last: i64,
    floor: i64,
    seq: Option<i64>,
    kind: Option<i64>,
    at: Option<i64>,
    user_id: Option<Uuid>,
    name: Option<String>,
    path: Option<Vec<u8>>,
    action: Option<i64>,
    mode: Option<i64>,
    old_oid: Option<Vec<u8>>,
    new_oid: Option<Vec<u8>>,
    revision: Option<i64>,
    reason: Option<String>,
    attempt: Option<Uuid>,
    #[sqlx(flatten)]
    origin: Origin,
}

impl Row {
    fn event(self) -> Result<Option<Event>, CatalogError> {
        let (Some(seq), Some(kind), Some(at_ms), Some(name)) = (self.seq, self.kind, self.at, self.name) else {
            return Ok(None);
        };
        let (old, new) = (codec::oid_or_null(self.old_oid)?, codec::oid_or_null(self.new_oid)?);
        let told = match kind {
            0 => Told::Pending {
                user: self.user_id.ok_or(INVALID)?,
                branch: name,
                path: self.path.ok_or(INVALID)?.into(),
                event: pending_event(self.action.ok_or(INVALID)?)?,
                mode: u32::try_from(self.mode.ok_or(INVALID)?).map_err(|_| INVALID)?,
                oid: new,
                base_oid: old,
                revision: self.revision.ok_or(INVALID)?,
                origin: self.origin,
            },
            1 => Told::Ref { name, from: old, to: new, reason: self.reason.ok_or(INVALID)? },
            2 => Told::Sync { branch: name, from: old, to: new },
            3 => Told::Push {
                branch: name,
                attempt: self.attempt.ok_or(INVALID)?,
                commit: new.ok_or(INVALID)?,
                user: self.user_id,
                outcome: outcome(&self.reason.ok_or(INVALID)?)?,
            },
            _ => return Err(INVALID),
        };
        Ok(Some(Event { seq, at_ms, told }))
    }
}

/// The statement that reads, with or without a condition on events.
macro_rules! reading {
    ($condition:literal) => {
        sql!(
            "SELECT coalesce(f.last, 0) AS last, coalesce(f.floor, 0) AS floor, e.seq, CAST(e.kind AS BIGINT) AS kind,
                 e.at, e.user_id, e.name, e.path, CAST(e.action AS BIGINT) AS action, CAST(e.mode AS BIGINT) AS mode,
                 e.old_oid, e.new_oid, e.revision, e.reason, e.attempt, e.device, e.actor, e.session
             FROM projects p LEFT JOIN feeds f ON f.project = p.id
             LEFT JOIN events e ON e.project = p.id AND e.seq > $2 AND e.seq <= $3 {}
             WHERE p.id = $1 ORDER BY e.seq LIMIT $4",
            $condition
        )
    };
}

impl Db {
    async fn read_ends(&self, project: Uuid) -> Result<Option<FeedEnds>, Fault> {
        let ends: Option<(i64, i64)> = sqlx::query_as(
            "SELECT coalesce(f.floor, 0), coalesce(f.last, 0) FROM projects p LEFT JOIN feeds f ON f.project = p.id
             WHERE p.id = $1",
        )
        .bind(project)
        .fetch_optional(self.reader())
        .await?;
        Ok(ends.map(|(floor, last)| FeedEnds { floor, last }))
    }

    async fn read_events(
        &self,
        project: Uuid,
        after: i64,
        user: Option<Uuid>,
        limit: u32,
    ) -> Result<Option<FeedRead>, Fault> {
        let until = after.saturating_add(WINDOW);
        let query = match user {
            None => sqlx::query_as::<Database, Row>(reading!("")),
            Some(_) => sqlx::query_as::<Database, Row>(reading!("AND (e.kind <> 0 OR e.user_id = $5)")),
        };
        let mut query = query.bind(project).bind(after).bind(until).bind(i64::from(limit.max(1)));
        if let Some(user) = user {
            query = query.bind(user);
        }
        let rows = query.fetch_all(self.reader()).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (last, floor) = (first.last, first.floor);
        if after < floor || after > last {
            return Ok(Some(FeedRead::Expired));
        }
        let full = rows.len() >= limit.max(1) as usize;
        let events: Vec<Event> =
            rows.into_iter().filter_map(|row| row.event().transpose()).collect::<Result<_, _>>()?;
        let position = match events.last() {
            Some(event) if full => event.seq,
            _ => until.min(last),
        };
        Ok(Some(FeedRead::Page(FeedPage { events, position, last })))
    }

    async fn trim_once(&self, before_ms: i64, keep: i64, limit: i64) -> Result<u64, Fault> {
        let due: Vec<(Uuid,)> = sqlx::query_as(
            "SELECT f.project FROM feeds f WHERE f.last - f.floor > $1 OR (f.last > f.floor AND
                 (SELECT e.at FROM events e WHERE e.project = f.project AND e.seq > f.floor ORDER BY e.seq LIMIT 1) < $2)
             ORDER BY f.project LIMIT $3",
        )
        .bind(keep)
        .bind(before_ms)
        .bind(TRIMMED_MAX)
        .fetch_all(self.reader())
        .await?;
        let mut gone = 0;
        for (project,) in due {
            gone += self.trim_project(project, before_ms, keep, limit).await?;
        }
        Ok(gone)
    }

    /// Writers of the project wait while its oldest events go: hence not many at once.
    async fn trim_project(&self, project: Uuid, before_ms: i64, keep: i64, limit: i64) -> Result<u64, Fault> {
        let mut tx = self.begin().await?;
        let floor: Option<i64> = sqlx::query_scalar(
            "UPDATE feeds SET floor = coalesce((SELECT max(o.seq) FROM (
                     SELECT e.seq, e.at FROM events e WHERE e.project = $1 AND e.seq > feeds.floor ORDER BY e.seq LIMIT $4
                 ) o WHERE o.seq <= feeds.last - $3 OR o.at < $2), floor)
             WHERE project = $1 RETURNING floor",
        )
        .bind(project)
        .bind(before_ms)
        .bind(keep)
        .bind(limit)
        .fetch_optional(&mut *tx)
        .await?;
        let gone = sqlx::query("DELETE FROM events WHERE project = $1 AND seq <= $2")
            .bind(project)
            .bind(floor)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }

    /// Tells those who follow the feeds, here and elsewhere, once the transaction is committed.
    pub(super) fn tell(&self, recorded: &Recorded) {
        for (project, last) in recorded {
            self.bells().ring(*project, *last);
        }
        self.announce(recorded);
    }

    /// The same for a project that is gone.
    pub(super) fn tell_gone(&self, project: Uuid) {
        self.bells().gone(project);
        self.announce(&[(project, i64::MAX)]);
    }
}

/// Where the numbers of a project begin that is made at `now_ms`: beyond all that one of the same id, deleted before, was given.
pub(super) fn first_number(now_ms: i64) -> i64 {
    now_ms.saturating_mul(NUMBERS_PER_MS)
}

/// Begins the feed of a project that is new here.
pub(super) async fn begin(tx: &mut Transaction, project: Uuid, start: i64) -> Result<(), Fault> {
    sqlx::query("INSERT INTO feeds (project, last, floor) VALUES ($1, $2, $2)")
        .bind(project)
        .bind(start)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Begins all feeds anew: what was set back to an earlier time may have told more than it has now.
pub(super) async fn begin_anew(tx: &mut Transaction, now_ms: i64) -> Result<(), Fault> {
    sqlx::query(sql!("{EMPTY} events")).execute(&mut **tx).await?;
    sqlx::query(sql!("UPDATE feeds SET last = {GREATEST}(last, $1), floor = {GREATEST}(last, $1)"))
        .bind(first_number(now_ms))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[async_trait]
impl Feed for Db {
    async fn feed_ends(&self, project: Uuid) -> Result<Option<FeedEnds>, CatalogError> {
        run!("look at a feed", self.read_ends(project))
    }

    async fn events(
        &self,
        project: Uuid,
        after: i64,
        user: Option<Uuid>,
        limit: u32,
    ) -> Result<Option<FeedRead>, CatalogError> {
        run!("read a feed", self.read_events(project, after, user, limit))
    }

    async fn trim_events(&self, before_ms: i64, keep: u64, limit: u32) -> Result<u64, CatalogError> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        run!("trim feeds", self.trim_once(before_ms, keep, i64::from(limit)))
    }

    fn follow(&self, project: Uuid) -> Following {
        let following = self.bells().follow(project);
        self.listen();
        following
    }
}
