//! Fetching a branch: ls-refs, fetch, quarantine, then the remote's branch as we know it. Our own branch is not touched here.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use treehold_catalog::{Guard, OpKind, Project, Publish, PublishOutcome, Ref, RefState};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId, Policy};
use treehold_wire::Quarantine;
use uuid::Uuid;

use crate::intake::{Arriving, Refused, Rules};
use crate::progress::Progress;
use crate::refs::{Shift, Since, TRIES};
use crate::remote::{Endpoint, FetchSpec, Fetching, RemoteError};
use crate::view::branch_ref;
use crate::writer::Operation;
use crate::{Engine, EngineError, Result};

/// How many tips are offered to the remote as known.
const HAVES_MAX: usize = 256;
/// Reflog entries and attempts that are read at once.
const LOOKED: u32 = 1000;

/// What a fetch brought.
#[derive(Debug, Default)]
pub(crate) struct Tip {
    /// The remote's branch; `None` = it has no such branch.
    pub tip: Option<ObjectId>,
    pub objects: u64,
    pub bytes: u64,
}

/// A branch that the remote was asked for.
struct Shown {
    name: String,
    /// What was known of all its branches when it was asked.
    known: Vec<Ref>,
}

impl Shown {
    /// Where the branch was known to be then.
    fn before(&self) -> Option<ObjectId> {
        self.known.iter().find(|known| known.name == self.name).map(|known| known.oid)
    }
}

/// What became of a tip that was fetched.
enum Recorded {
    /// It is recorded, and what it leads to is reached.
    Here,
    /// Another engine has done the same, or more.
    Elsewhere,
    /// What it rests on has changed.
    No,
}

impl From<RemoteError> for EngineError {
    fn from(error: RemoteError) -> Self {
        let failed = |code, retry_after_s| Self::RemoteFailed { code, detail: error.to_string(), retry_after_s };
        match error {
            RemoteError::NotAllowed(detail) => Self::RemoteNotAllowed(detail),
            RemoteError::Auth => Self::RemoteAuth { attempt: None, commit: None },
            RemoteError::Failed(_) | RemoteError::Refused(_) => failed("remote_failed", None),
            RemoteError::Timeout => failed("remote_timeout", None),
            RemoteError::Limited(retry_after_s) => failed("remote_rate_limited", retry_after_s),
            RemoteError::Invalid(_) => failed("remote_invalid", None),
            RemoteError::Spool(source) => Self::Unavailable { what: "the spool disk", source: Box::new(source) },
        }
    }
}

impl Engine {
    /// Brings the remote's branch up to date in our books: objects stored, `remote_refs` moved.
    pub(crate) async fn fetch_remote(
        &self,
        project: &Project,
        branch: &str,
        at: &Endpoint,
        depth: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<Tip> {
        let asked_ms = self.ambient.now_ms();
        // Before it is asked: what another engine records meanwhile may be newer.
        let known = self.catalog.remote_references(project.id, "refs/").await?;
        let shown = Shown { name: branch_ref(branch), known };
        point("I2").await?;
        let refs = self.remote.refs(at, std::slice::from_ref(&shown.name)).await?;
        let tip = refs.refs.into_iter().find(|(found, _)| *found == shown.name).map(|(_, oid)| oid);
        let fetched = match tip {
            Some(tip) => self.fetch_commit(project, &shown, tip, at, depth, progress).await?,
            None => {
                self.note_remote(project, &shown.name, shown.before(), None).await?;
                Tip::default()
            }
        };
        self.asked_remote(project, branch, asked_ms).await?;
        Ok(fetched)
    }

    /// Fetches a tip that `ls-refs` showed. `known`: what was known of the remote's branches when it was asked.
    pub(crate) async fn fetch_tip(
        &self,
        project: &Project,
        branch: &str,
        known: Vec<Ref>,
        tip: ObjectId,
        at: &Endpoint,
    ) -> Result<Tip> {
        let shown = Shown { name: branch_ref(branch), known };
        self.fetch_commit(project, &shown, tip, at, None, &()).await
    }

    async fn fetch_commit(
        &self,
        project: &Project,
        shown: &Shown,
        tip: ObjectId,
        at: &Endpoint,
        depth: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<Tip> {
        let (name, remote) = (&shown.name, &shown.known);
        if shown.before() == Some(tip) {
            return Ok(Tip { tip: Some(tip), ..Tip::default() });
        }
        let ours = self.catalog.references(project.id, "refs/").await?;
        // The branch may also have been set back to a commit that we have: git would send nothing.
        let tips = ours.iter().chain(remote).any(|known| known.oid == tip);
        if tips || self.catalog.may_read(project.id, &[tip]).await? == [true] {
            self.note_remote(project, name, shown.before(), Some(tip)).await?;
            return Ok(Tip { tip: Some(tip), ..Tip::default() });
        }
        let shallow = self.catalog.shallow(project.id).await?;
        let mut haves: Vec<ObjectId> = remote.iter().chain(&ours).map(|known| known.oid).collect();
        haves.sort_unstable();
        haves.dedup();
        haves.truncate(HAVES_MAX);
        // The first fetch of a branch may cut history off; later ones keep the boundary.
        let first = shown.before().is_none();
        let cut = match depth {
            Some(0) => None,
            Some(depth) => Some(depth),
            None if haves.is_empty() || !shallow.is_empty() => Some(1),
            None => None,
        };
        let spec = FetchSpec {
            wants: vec![tip],
            haves,
            shallow: shallow.clone(),
            depth: cut.filter(|_| first),
            alone: false,
            pack_bytes_max: self.config.limits.pack_bytes,
        };
        point("I3").await?;
        let fetching = self.remote.fetch(at, &spec).await?;
        self.take_in(project, shown, tip, fetching, shallow, progress).await
    }

    /// Checks and stores what came, then records where the remote's branch is.
    async fn take_in(
        &self,
        project: &Project,
        shown: &Shown,
        tip: ObjectId,
        fetching: Fetching,
        before: Vec<ObjectId>,
        progress: &dyn Progress,
    ) -> Result<Tip> {
        let told = Cuts { before, shallow: fetching.shallow.clone(), unshallow: fetching.unshallow.clone() };
        let claimed: Vec<ObjectId> = told.before.iter().chain(&told.shallow).copied().collect();
        let inflated_ratio = self.ingest_limits().inflated_ratio;
        let room = Arc::new(());
        let rules = Rules { policy: Policy::Import, shallow: &claimed, thin: false, inflated_ratio, room };
        // What the pack refers to must be reached when it is checked, and still be when it is published.
        let seen = self.catalog.ref_state(project.id).await?;
        point("I4").await?;
        let received = self.quarantine(project, arriving(fetching), &rules, progress).await.map_err(refused)?;
        if received.quarantine.get(&tip).is_none_or(|object| object.kind != Kind::Commit) {
            return Err(invalid("The remote's pack does not hold the commit that was asked for."));
        }
        let was_cut = !told.before.is_empty();
        let shallow = self.cuts(project, told, &received.quarantine).await?;
        let bytes = received.quarantine.pack_len();
        let objects = received.quarantine.len() as u64;
        point("I1").await?;
        let mut op = self.begin_op(Some(project.id), OpKind::Import).await?;
        let id = op.id;
        let storing = async {
            point("I5").await?;
            self.store_received(&mut op, received, Some(tip), progress).await
        };
        let stored = self.kept_alive(id, storing).await;
        if let Err(error) = stored {
            self.end_op(op).await;
            return Err(error);
        }
        if was_cut && shallow.is_empty() {
            let mut tips = self.tips_of(project.id).await?;
            // It leads to most of them, and is walked from first.
            tips.push(tip);
            self.renumber(&tips).await?;
        }
        let recorded = self.record_tip(project, shown, tip, &mut op, (seen, shallow)).await;
        if !matches!(recorded, Ok(Recorded::Here)) {
            self.end(id).await;
        }
        match recorded? {
            Recorded::Here | Recorded::Elsewhere => Ok(Tip { tip: Some(tip), objects, bytes }),
            Recorded::No => {
                let detail = "A ref of the project was deleted or set back while it was synced, or the remote was seen elsewhere; \
                              repeat.";
                Err(EngineError::Conflict { code: "head_moved", detail: detail.to_owned() })
            }
        }
    }

    /// Where the project's refs and the remote's branches are, what is not pushed yet, and what refs were before: all that may be walked from.
    async fn tips_of(&self, project: Uuid) -> Result<Vec<ObjectId>> {
        let (mut tips, mut after) = (Vec::new(), 0);
        loop {
            let moves = self.catalog.inspect_moves(project, after, LOOKED).await?;
            let Some(last) = moves.last() else { break };
            after = last.id;
            tips.extend(moves.iter().flat_map(|step| step.tips).flatten());
        }
        after = 0;
        loop {
            let attempts = self.catalog.inspect_attempts(project, after, LOOKED).await?;
            let Some(last) = attempts.last() else { break };
            after = last.seq;
            tips.extend(attempts.iter().map(|attempt| attempt.commit));
        }
        let ours = self.catalog.references(project, "refs/").await?;
        let remote = self.catalog.remote_references(project, "refs/").await?;
        tips.extend(ours.iter().chain(&remote).map(|known| known.oid));
        Ok(tips)
    }

    /// Publishes what was fetched, and where the remote's branch is. `seen`: the refs as they were when it was checked; `shallow`: the
    /// project's cuts from now on.
    async fn record_tip(
        &self,
        project: &Project,
        shown: &Shown,
        tip: ObjectId,
        op: &mut Operation,
        (seen, shallow): (RefState, Vec<ObjectId>),
    ) -> Result<Recorded> {
        let (id, name, mut before) = (op.id, &shown.name, shown.before());
        let fetched = std::mem::take(&mut op.numbers);
        for _ in 0..TRIES {
            let shift = self.kept_alive(id, self.without_remote(project, name, Some(tip), &shallow)).await?;
            let replace_reach = shift.replaces();
            // Where the remote was set back, what is left was worked out from all refs.
            let guard = if matches!(shift, Shift::Grows) { Guard::Kept(seen) } else { Guard::Unmoved(seen) };
            op.numbers = shift.reach().unwrap_or_else(|| fetched.clone());
            let publish = Publish {
                remote_refs: vec![(name.clone(), Some(tip))],
                remote_seen: vec![(name.clone(), before)],
                shallow: Some(shallow.clone()),
                guard: Some(guard),
                replace_reach,
                ..self.publication(project.id, op, Vec::new(), "fetch")
            };
            point("I6").await?;
            match self.catalog.publish(&publish).await? {
                PublishOutcome::Published => return Ok(Recorded::Here),
                PublishOutcome::Moved(..) => {
                    return Err(EngineError::internal("a publication without refs was refused"));
                }
                PublishOutcome::Overtaken => {}
            }
            match self.known_since(project, name, before, Some(tip)).await? {
                Since::Behind(known) => before = Some(known),
                Since::Passed => return Ok(Recorded::Elsewhere),
                Since::Nothing | Since::Apart => break,
            }
        }
        Ok(Recorded::No)
    }
}

/// What a remote tells of where history is cut off.
struct Cuts {
    /// The project's cuts so far.
    before: Vec<ObjectId>,
    shallow: Vec<ObjectId>,
    unshallow: Vec<ObjectId>,
}

impl Engine {
    /// The project's cuts from now on. A remote is believed only as far as its pack shows it: a new cut is a commit that it has sent and
    /// that was not whole here before, and an old one goes only if its parents are there. Else it could cut off what is ours, or have what
    /// is another project's taken for this one's history.
    async fn cuts(&self, project: &Project, told: Cuts, quarantine: &Quarantine) -> Result<Vec<ObjectId>> {
        let Cuts { before, mut shallow, mut unshallow } = told;
        shallow.retain(|oid| quarantine.get(oid).is_some_and(|object| object.kind == Kind::Commit));
        let whole = self.catalog.may_read(project.id, &shallow).await?;
        let mut whole = whole.into_iter();
        shallow.retain(|_| !whole.next().unwrap_or(false));
        unshallow.retain(|oid| before.contains(oid));
        let rows = self.catalog.commits(&unshallow).await?;
        let mut gone = Vec::with_capacity(unshallow.len());
        for (oid, row) in unshallow.iter().zip(rows) {
            let parents = row.map(|row| row.parents).unwrap_or_default();
            let elsewhere: Vec<ObjectId> = parents.into_iter().filter(|oid| quarantine.get(oid).is_none()).collect();
            if self.catalog.may_read(project.id, &elsewhere).await?.into_iter().all(|reached| reached) {
                gone.push(*oid);
            }
        }
        let mut cuts: Vec<ObjectId> = before.into_iter().filter(|oid| !gone.contains(oid)).chain(shallow).collect();
        cuts.sort_unstable();
        cuts.dedup();
        Ok(cuts)
    }
}

fn arriving(fetching: Fetching) -> Arriving {
    let Fetching { pack, arrival, rest, .. } = fetching;
    Arriving { pack, arrival, rest: rest.map_err(EngineError::from).boxed() }
}

fn invalid(detail: &str) -> EngineError {
    EngineError::RemoteFailed { code: "remote_invalid", detail: detail.to_owned(), retry_after_s: None }
}

fn refused(refused: Refused) -> EngineError {
    match refused {
        Refused::Pack(error) => invalid(&format!("The remote's pack is refused: {error}.")),
        Refused::Open => invalid("The remote's pack refers to objects that it does not hold: missing object."),
        Refused::Failed(error) | Refused::Quota(error) => error,
    }
}
