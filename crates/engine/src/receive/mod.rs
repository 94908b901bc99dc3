//! `git-receive-pack`: a push into us (docs/reliability.md, P1–P7).
//!
//! Commands are judged by name and policy (`judge`), the pack goes through the same quarantine as what a fetch brings, and must be
//! closed under what this project's own refs reach. Then bytes before rows before refs: all that was pushed is durable and
//! recorded before the refs move by compare-and-swap, in one transaction; only then the client hears `ok`.

mod judge;
mod reached;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tempfile::NamedTempFile;
use treehold_catalog::{Guard, OpKind, Project, Publish, PublishOutcome, Ref, RefState, RefUpdate};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId, Policy};
use treehold_wire::serve::{ReceiveHead, RefCommand, RefStatus, Report};
use treehold_wire::{Arrival, Quarantine};

use crate::intake::{Arriving, Received, Refused, Rules, SpoolWriter};
use crate::progress::Progress;
use crate::view::branch_ref;
use crate::writer::Operation;
use crate::{Engine, EngineError, Result, Room};
use judge::Verdicts;
use reached::Came;

/// What a ref that names something foreign, absent or of the wrong kind is told; one text for all (T1, T2).
const MISSING: &str = "missing necessary objects";
const STALE: &str = "stale info";
/// How often a move is worked out again because other refs moved meanwhile.
const TRIES: usize = 10;
/// How much a pushed pack may inflate to, as a multiple of its size: real histories come to 65 at most, what is built to hurt to
/// many thousands.
const INFLATED_RATIO: u64 = 1_000;

/// The pack of a push, on its way into a spool file.
pub struct PushedPack {
    /// The file, in the engine's spool directory; it goes away with this value.
    pub spool: NamedTempFile,
    /// How much of the pack is in it.
    pub arrival: Arc<Arrival>,
    /// Brings the rest: each item is how many bytes are in the file by now.
    pub rest: BoxStream<'static, Result<u64>>,
    /// Memory for the table of its objects.
    pub room: Arc<dyn Room>,
}

impl std::fmt::Debug for PushedPack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushedPack").field("spool", &self.spool).finish_non_exhaustive()
    }
}

/// How a push ended.
enum Ended {
    /// A publication moved what was left of it, and closed the operation.
    Published,
    /// Nothing moved; why the pack was not taken in, if that is why.
    Refused(Option<String>),
}

impl Engine {
    /// A file for a pushed pack, how much of it is there, and who writes it.
    pub fn push_spool(&self) -> Result<(NamedTempFile, Arc<Arrival>, SpoolWriter)> {
        SpoolWriter::new(&self.config.spool_dir).map_err(crate::archive::spool_failed)
    }

    /// Carries out a push. What went wrong with it is in the report; an error is ours, and nothing moved.
    pub async fn receive_pack(
        &self,
        project: &str,
        head: &ReceiveHead,
        pack: Option<PushedPack>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let project = self.find_project(project).await?;
        point("P1").await?;
        let mut verdicts = Verdicts::of(&head.commands, head.capabilities.atomic);
        let existing = self.catalog.references(project.id, "refs/").await?;
        verdicts.judge_names(&project, &existing, &head.commands, self.config.limits.refs);
        if verdicts.none_left() {
            drain(pack).await?;
            return Ok(verdicts.report());
        }
        // W0: what the pack refers to is among the roots from before it is looked at.
        let op = self.begin_op(Some(project.id), OpKind::Import).await?;
        let id = op.id;
        match self.kept_alive(id, self.receive_under(op, &project, head, pack, &mut verdicts, progress)).await {
            Ok(Ended::Published) => {
                point("P7").await?;
                Ok(verdicts.report())
            }
            Ok(Ended::Refused(unpack)) => {
                self.end(id).await;
                Ok(match unpack {
                    None => verdicts.report(),
                    Some(why) => verdicts.unpack_failed(&why),
                })
            }
            Err(error) => {
                self.end(id).await;
                Err(error)
            }
        }
    }

    async fn receive_under(
        &self,
        mut op: Operation,
        project: &Project,
        head: &ReceiveHead,
        pack: Option<PushedPack>,
        verdicts: &mut Verdicts,
        progress: &dyn Progress,
    ) -> Result<Ended> {
        // What is found reachable from here on must still be when the refs move.
        let seen = self.catalog.ref_state(project.id).await?;
        point("P2").await?;
        let received = match pack {
            None => None,
            Some(pack) => match self.take_push(project, pack, progress).await {
                Ok(received) => Some(received),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Open) => {
                    verdicts.refuse_all(MISSING);
                    return Ok(Ended::Refused(None));
                }
                Err(Refused::Quota(error)) => return Ok(Ended::Refused(Some(error.to_string()))),
                Err(Refused::Pack(error)) => return Ok(Ended::Refused(Some(error.to_string()))),
            },
        };
        point("P3").await?;
        self.judge_targets(project, &head.commands, received.as_ref(), verdicts).await?;
        if verdicts.none_left() {
            return Ok(Ended::Refused(None));
        }
        point("P4").await?;
        let came = self.store(project, &mut op, &head.commands, received, verdicts, progress).await?;
        point("P6").await?;
        self.move_refs(project, &op, seen, &head.commands, came, verdicts).await
    }

    async fn take_push(
        &self,
        project: &Project,
        pack: PushedPack,
        progress: &dyn Progress,
    ) -> std::result::Result<Received, Refused> {
        let shallow = self.catalog.shallow(project.id).await.map_err(EngineError::from)?;
        let inflated_ratio = INFLATED_RATIO;
        let PushedPack { spool, arrival, rest, room } = pack;
        let rules = Rules { policy: Policy::Push, shallow: &shallow, thin: true, inflated_ratio, room };
        self.quarantine(project, Arriving { pack: spool, arrival, rest }, &rules, progress).await
    }

    /// Every new target must have come with the pack, or be reached by this project already; a branch names a commit.
    async fn judge_targets(
        &self,
        project: &Project,
        commands: &[RefCommand],
        received: Option<&Received>,
        verdicts: &mut Verdicts,
    ) -> Result<()> {
        let reach = self.catalog.reach(project.id).await?;
        let targets: Vec<ObjectId> = commands.iter().filter_map(|command| command.new).collect();
        let mut located = self.catalog.locate(&targets).await?.into_iter();
        for command in commands {
            let Some(new) = command.new else { continue };
            let own = located.next().flatten().filter(|found| reach.contains(found.number)).map(|found| found.kind);
            let pushed = received.and_then(|received| received.quarantine.get(&new)).map(|object| object.kind);
            match pushed.or(own) {
                None => verdicts.refuse(command, MISSING),
                Some(kind) if kind != Kind::Commit && command.name.starts_with(b"refs/heads/") => {
                    verdicts.refuse(command, "a branch must name a commit");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Makes durable and records what came, and pins what is only named.
    async fn store(
        &self,
        project: &Project,
        op: &mut Operation,
        commands: &[RefCommand],
        received: Option<Received>,
        verdicts: &Verdicts,
        progress: &dyn Progress,
    ) -> Result<Option<Came>> {
        let targets: Vec<ObjectId> = verdicts.left(commands).iter().filter_map(|command| command.new).collect();
        let pushed = |oid: &ObjectId, quarantine: &Quarantine| quarantine.contains(oid);
        let own: Vec<ObjectId> = match &received {
            Some(received) => targets.iter().filter(|oid| !pushed(oid, &received.quarantine)).copied().collect(),
            None => targets,
        };
        self.pin_all(op, &own).await?;
        let Some(received) = received.filter(|received| !received.quarantine.is_empty()) else { return Ok(None) };
        // What deltas rest on was reached, and is again now that it was sent in their place.
        let borrowed: Vec<ObjectId> = received.quarantine.borrowed().collect();
        self.pin_all(op, &borrowed).await?;
        let tip = head_of(project, commands, &received.quarantine);
        let quarantine = Arc::clone(&received.quarantine);
        self.store_received(op, received, tip, progress).await?;
        Ok(Some(Came::new(quarantine, self.catalog.shallow(project.id).await?)))
    }

    /// Moves all refs that are left, in one transaction; again without those that are not what the client took them for.
    async fn move_refs(
        &self,
        project: &Project,
        op: &Operation,
        seen: RefState,
        commands: &[RefCommand],
        mut came: Option<Came>,
        verdicts: &mut Verdicts,
    ) -> Result<Ended> {
        let rewinds = self.judge_moves(project, commands, verdicts).await?;
        for _ in 0..TRIES {
            // From before the refs are read that it is worked out from.
            let now = self.catalog.ref_state(project.id).await?;
            let existing = self.catalog.references(project.id, "refs/").await?;
            verdicts.judge_names(project, &existing, commands, self.config.limits.refs);
            let left = verdicts.left(commands);
            if now.shrinks != seen.shrinks {
                verdicts.refuse_all("a ref was deleted or set back meanwhile; push again");
            }
            if left.is_empty() || verdicts.none_left() {
                return Ok(Ended::Refused(None));
            }
            let shrinks = left.iter().any(|command| command.new.is_none() || rewinds.contains(&command.name));
            let creates = left.iter().any(|command| command.old.is_none());
            let guard = if shrinks || creates { Guard::Unmoved(now) } else { Guard::Kept(seen) };
            let mut publish = self.push_publication(project, op, &existing, &left, shrinks).await?;
            if let Some(came) = came.as_mut().filter(|_| !publish.replace_reach) {
                publish.reached = came.reached(self, op, &left).await?;
            }
            match self.catalog.publish(&Publish { guard: Some(guard), ..publish }).await? {
                PublishOutcome::Published => return Ok(Ended::Published),
                PublishOutcome::Overtaken => {}
                PublishOutcome::Moved(name, _) => match left.iter().find(|command| command.name == name.as_bytes()) {
                    Some(command) => verdicts.refuse(command, STALE),
                    None => return Err(EngineError::internal("a ref moved that was not to be moved")),
                },
            }
        }
        verdicts.refuse_all("the project's refs move too fast; push again");
        Ok(Ended::Refused(None))
    }

    /// Moves that lose commits are policy. Answers the names of all of them.
    async fn judge_moves(
        &self,
        project: &Project,
        commands: &[RefCommand],
        verdicts: &mut Verdicts,
    ) -> Result<Vec<treehold_object::BString>> {
        let mut rewinds = Vec::new();
        for command in verdicts.left(commands) {
            let (Some(old), Some(new)) = (command.old, command.new) else { continue };
            let forward = command.name.starts_with(b"refs/heads/") && self.is_ancestor(project.id, old, new).await?;
            if forward || old == new {
                continue;
            }
            rewinds.push(command.name.clone());
            if project.receive.deny_non_fast_forwards && command.name.starts_with(b"refs/heads/") {
                verdicts.refuse(command, "non-fast-forward");
            }
        }
        Ok(rewinds)
    }

    async fn push_publication(
        &self,
        project: &Project,
        op: &Operation,
        existing: &[Ref],
        left: &[&RefCommand],
        shrinks: bool,
    ) -> Result<Publish> {
        let name = |command: &RefCommand| String::from_utf8_lossy(&command.name).into_owned();
        let refs =
            left.iter().map(|command| RefUpdate { name: name(command), expected: command.old, new: command.new });
        let gone = left.iter().filter(|command| command.new.is_none());
        let remote_refs = gone.map(|command| (name(command), None)).collect();
        let mut publish = Publish { remote_refs, ..self.publication(project.id, op, refs.collect(), "push") };
        if shrinks {
            let names: Vec<String> = left.iter().map(|command| name(command)).collect();
            let updates: Vec<_> = names.iter().zip(left).map(|(name, command)| (name.as_str(), command.new)).collect();
            if let Some(reach) = self.shrunk_reach(project, existing, &updates).await? {
                publish.reached = reach;
                publish.replace_reach = true;
            }
        }
        Ok(publish)
    }
}

/// Takes the rest of a pack that nobody wants, so that the client gets to read why.
async fn drain(pack: Option<PushedPack>) -> Result<()> {
    if let Some(mut pack) = pack {
        while let Some(arrived) = pack.rest.next().await {
            arrived?;
        }
    }
    Ok(())
}

/// The commit whose files are read next: that of the default branch if it was pushed, else of any branch.
fn head_of(project: &Project, commands: &[RefCommand], quarantine: &Quarantine) -> Option<ObjectId> {
    let default = branch_ref(&project.default_branch);
    let commit = |oid: &ObjectId| quarantine.get(oid).is_some_and(|object| object.kind == Kind::Commit);
    let pushed = commands.iter().filter(|command| command.new.as_ref().is_some_and(commit));
    let first = pushed.min_by_key(|command| command.name != default.as_bytes());
    first.and_then(|command| command.new)
}

/// The report on a command.
fn status(command: &RefCommand, result: std::result::Result<(), String>) -> RefStatus {
    RefStatus { name: command.name.clone(), result, rewrite: None }
}
