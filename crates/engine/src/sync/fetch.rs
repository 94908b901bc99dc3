//! Fetching a branch: ls-refs, fetch, quarantine, then the remote's branch as we know it. Our own branch is not touched here.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use treehold_catalog::{Guard, OpKind, Project, Publish, PublishOutcome};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId, Policy};
use treehold_wire::Quarantine;

use crate::intake::{Arriving, Refused, Rules};
use crate::progress::Progress;
use crate::refs::Shift;
use crate::remote::{Endpoint, FetchSpec, Fetching, RemoteError};
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// How many tips are offered to the remote as known.
const HAVES_MAX: usize = 256;

/// What a fetch brought.
#[derive(Debug, Default)]
pub(crate) struct Tip {
    /// The remote's branch; `None` = it has no such branch.
    pub tip: Option<ObjectId>,
    pub objects: u64,
    pub bytes: u64,
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
        let (name, asked_ms) = (branch_ref(branch), self.ambient.now_ms());
        point("I2").await?;
        let refs = self.remote.refs(at, std::slice::from_ref(&name)).await?;
        let Some(tip) = refs.refs.into_iter().find(|(found, _)| *found == name).map(|(_, oid)| oid) else {
            self.note_remote(project, &name, None).await?;
            self.asked_remote(project, branch, asked_ms).await?;
            return Ok(Tip::default());
        };
        let fetched = self.fetch_commit(project, branch, tip, at, depth, progress).await?;
        self.asked_remote(project, branch, asked_ms).await?;
        Ok(fetched)
    }

    /// Fetches a tip that `ls-refs` showed.
    pub(crate) async fn fetch_tip(
        &self,
        project: &Project,
        branch: &str,
        tip: ObjectId,
        at: &Endpoint,
        progress: &dyn Progress,
    ) -> Result<Tip> {
        self.fetch_commit(project, branch, tip, at, None, progress).await
    }

    async fn fetch_commit(
        &self,
        project: &Project,
        branch: &str,
        tip: ObjectId,
        at: &Endpoint,
        depth: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<Tip> {
        let name = branch_ref(branch);
        let remote = self.catalog.remote_references(project.id, "refs/").await?;
        if remote.iter().any(|known| known.name == name && known.oid == tip) {
            return Ok(Tip { tip: Some(tip), ..Tip::default() });
        }
        let ours = self.catalog.references(project.id, "refs/").await?;
        // The branch may also have been set back to a commit that we have: git would send nothing.
        let tips = ours.iter().chain(&remote).any(|known| known.oid == tip);
        if tips || self.catalog.may_read(project.id, &[tip]).await? == [true] {
            self.note_remote(project, &name, Some(tip)).await?;
            return Ok(Tip { tip: Some(tip), ..Tip::default() });
        }
        let shallow = self.catalog.shallow(project.id).await?;
        let mut haves: Vec<ObjectId> = remote.iter().chain(&ours).map(|known| known.oid).collect();
        haves.sort_unstable();
        haves.dedup();
        haves.truncate(HAVES_MAX);
        // The first fetch of a branch may cut history off; later ones keep the boundary.
        let first = !remote.iter().any(|known| known.name == name);
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
        self.take_in(project, &name, tip, fetching, shallow, progress).await
    }

    /// Checks and stores what came, then records where the remote's branch is.
    async fn take_in(
        &self,
        project: &Project,
        name: &str,
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
            let mut tips = vec![tip];
            tips.extend(self.catalog.references(project.id, "refs/").await?.into_iter().map(|known| known.oid));
            self.renumber(&tips).await?;
        }
        let shift = self.kept_alive(id, self.without_remote(project, name, Some(tip), &shallow)).await;
        let shift = match shift {
            Ok(shift) => shift,
            Err(error) => {
                self.end_op(op).await;
                return Err(error);
            }
        };
        let replace_reach = shift.replaces();
        // Where the remote was set back, what is left was worked out from all refs.
        let guard = if matches!(shift, Shift::Grows) { Guard::Kept(seen) } else { Guard::Unmoved(seen) };
        op.numbers = shift.reach().unwrap_or(op.numbers);
        let publish = Publish {
            remote_refs: vec![(name.to_owned(), Some(tip))],
            shallow: Some(shallow),
            guard: Some(guard),
            replace_reach,
            ..self.publication(project.id, &op, Vec::new(), "fetch")
        };
        point("I6").await?;
        match self.catalog.publish(&publish).await? {
            PublishOutcome::Published => Ok(Tip { tip: Some(tip), objects, bytes }),
            PublishOutcome::Moved(..) => Err(EngineError::internal("a publication without refs was refused")),
            PublishOutcome::Overtaken => {
                self.end(id).await;
                let detail = "A ref of the project was deleted or set back while it was synced; repeat.".to_owned();
                Err(EngineError::Conflict { code: "head_moved", detail })
            }
        }
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
