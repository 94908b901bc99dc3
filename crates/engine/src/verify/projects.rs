//! Projects: what their refs lead to, and what they are said to reach.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use treehold_catalog::{
    AttemptState, CatalogError, CommitRow, Guard, OpKind, Project, PublishOutcome, RefState, RoaringTreemap,
};
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use super::connectivity::{By, Edge, Walk};
use super::finding::{Code, Damage};
use super::{ROWS, Run};
use crate::{EngineError, Result};

/// How often a project is walked again because its refs moved while something was found missing.
const TRIES: usize = 3;
/// Projects listed at once.
const PROJECTS: u32 = 100;
/// Numbers looked up at once.
const NUMBERS: usize = 8192;

/// A project that was walked.
struct Walked {
    walk: Walk,
    state: RefState,
    /// Reach as it was before; `None`: it does not decode.
    reach: Option<RoaringTreemap>,
    /// What refs, the remote's as we know it included, and unfinished attempts lead to.
    present: RoaringTreemap,
    tips: Vec<ObjectId>,
}

impl Run<'_> {
    pub(super) async fn check_projects(&mut self) -> Result<()> {
        if let Some(project) = self.state.asked.project {
            let project = self.engine.find_project(&project.to_string()).await?;
            return self.check_project(&project).await;
        }
        loop {
            let after = Uuid::try_parse(&self.state.after).ok();
            let projects = self.engine.catalog.projects(after, PROJECTS).await?;
            if projects.is_empty() {
                return Ok(());
            }
            for project in projects {
                self.check_project(&project).await?;
                self.reached(project.id.to_string());
            }
        }
    }

    async fn check_project(&mut self, project: &Project) -> Result<()> {
        let outcome = match self.check_refs(project).await {
            Ok(()) => self.check_pending(project).await,
            failed => failed,
        };
        self.state.checked.projects += 1;
        match outcome {
            // It was deleted meanwhile.
            Err(EngineError::NotFound { code: "project_not_found", .. }) => Ok(()),
            Err(EngineError::Internal(cause)) => match cause.downcast_ref::<CatalogError>() {
                Some(error @ CatalogError::Invalid { .. }) => {
                    let damage = Damage::new(Code::RowInvalid, error.to_string());
                    self.find(damage, project.id.to_string(), Some(project.id), false);
                    Ok(())
                }
                _ => Err(EngineError::Internal(cause)),
            },
            outcome => outcome,
        }
    }

    /// Walks again where refs moved while something was found missing: it may have been given up.
    async fn check_refs(&mut self, project: &Project) -> Result<()> {
        for tries in 1.. {
            let checked = self.state.checked.clone();
            let mut walked = self.walk_project(project).await?;
            self.compare_reach(project, &mut walked).await?;
            let moved = walked.walk.lost && self.engine.catalog.ref_state(project.id).await? != walked.state;
            let again = moved && tries < TRIES;
            if walked.walk.added || (self.repairs() && walked.walk.unnumbered) {
                self.engine.renumber(&walked.tips).await?;
            }
            self.state.findings.absorb(walked.walk.repaired);
            if !again {
                self.state.findings.absorb(walked.walk.found);
                break;
            }
            self.state.checked = checked;
        }
        Ok(())
    }

    async fn walk_project(&mut self, project: &Project) -> Result<Walked> {
        let (catalog, id) = (Arc::clone(&self.engine.catalog), project.id);
        let state = catalog.ref_state(id).await?;
        let cut: HashSet<ObjectId> = catalog.shallow(id).await?.into_iter().collect();
        let blobs = self.state.asked.full && self.state.asked.project.is_some();
        let mut walk = Walk::new(id, cut, blobs);
        let reach = match catalog.reach(id).await {
            Ok(reach) => Some(reach),
            Err(error @ CatalogError::Invalid { .. }) => {
                walk.find(Damage::new(Code::ReachInvalid, error.to_string()), id.to_string(), false);
                None
            }
            Err(error) => return Err(error.into()),
        };
        let mut edges = Vec::new();
        for (whose, known) in
            [("ref", catalog.references(id, "").await?), ("remote ref", catalog.remote_references(id, "").await?)]
        {
            edges.extend(known.into_iter().map(|known| Edge {
                oid: known.oid,
                kind: known.name.starts_with("refs/heads/").then_some(Kind::Commit),
                by: By::Root(format!("{whose} {}", known.name).into()),
            }));
        }
        self.state.checked.refs += edges.len() as u64;
        let tips = edges.iter().map(|edge| edge.oid).collect();
        self.follow(&mut walk, edges).await?;
        let present = walk.seen.clone();
        self.follow_attempts(&mut walk).await?;
        walk.past = true;
        let mut after = 0;
        loop {
            let moves = catalog.inspect_moves(id, after, ROWS).await?;
            let Some(last) = moves.last() else { break };
            after = last.id;
            self.state.checked.moves += moves.len() as u64;
            let mut edges = Vec::new();
            for step in moves {
                let by = By::Root(format!("an earlier value of {}", step.name).into());
                edges.extend(step.tips.into_iter().flatten().map(|oid| Edge { oid, kind: None, by: by.clone() }));
            }
            self.follow(&mut walk, edges).await?;
        }
        Ok(Walked { walk, state, reach, present, tips })
    }

    /// Commits that are stored and wait for the remote.
    async fn follow_attempts(&mut self, walk: &mut Walk) -> Result<()> {
        let mut after = 0;
        loop {
            let attempts = self.engine.catalog.inspect_attempts(walk.project, after, ROWS).await?;
            let Some(last) = attempts.last() else { return Ok(()) };
            after = last.seq;
            let stored = attempts.into_iter().filter(|attempt| attempt.state != AttemptState::Prepared);
            let edges = stored.map(|attempt| Edge {
                oid: attempt.commit,
                kind: Some(Kind::Commit),
                by: By::Root(format!("attempt {}", attempt.id).into()),
            });
            self.follow(walk, edges.collect()).await?;
        }
    }

    /// Compares what the project is said to reach with what it does. After the walk reach may have grown, before it it had nothing
    /// that a ref, present or past, did not lead to.
    async fn compare_reach(&mut self, project: &Project, walked: &mut Walked) -> Result<()> {
        let Some(before) = walked.reach.take() else { return Ok(()) };
        let now = self.engine.catalog.reach(project.id).await?;
        let missing = &walked.present - &now;
        let extra = &before - &walked.walk.seen;
        let dead = &self.dead(&extra).await? & &now;
        let whole = !walked.walk.lost;
        // Not if refs were set back since: then it is another set that must be there.
        let kept = self.engine.catalog.ref_state(project.id).await?.shrinks == walked.state.shrinks;
        if kept && !(missing.is_empty() && dead.is_empty()) {
            let right = &(&now - &dead) | &walked.present;
            let repaired = self.repairs() && self.set_reach(project, right, !dead.is_empty(), walked.state).await?;
            for (code, numbers) in [(Code::ReachMissing, &missing), (Code::ReachDead, &dead)] {
                if let Some(first) = numbers.min() {
                    let detail = format!("{} numbers, the first one is {first}", numbers.len());
                    walked.walk.find(Damage::new(code, detail), project.id.to_string(), repaired);
                }
            }
        }
        let extra = extra - dead;
        if let (Some(first), true) = (extra.min(), whole) {
            let detail = format!("{} numbers, the first one is {first}", extra.len());
            walked.walk.find(Damage::new(Code::ReachExtra, detail), project.id.to_string(), false);
        }
        Ok(())
    }

    /// Those of the numbers that no object has.
    async fn dead(&self, numbers: &RoaringTreemap) -> Result<RoaringTreemap> {
        let mut dead = numbers.clone();
        let all: Vec<u64> = numbers.iter().collect();
        for chunk in all.chunks(NUMBERS) {
            for row in self.engine.catalog.locate_numbers(chunk).await? {
                dead.remove(row.number);
            }
        }
        Ok(dead)
    }

    /// Adds what a walk from the refs has proven, if none of them was set back since. Where there are numbers that name nothing,
    /// which no publication takes away, all of it is written anew without them, if no ref moved at all.
    async fn set_reach(&self, project: &Project, right: RoaringTreemap, anew: bool, state: RefState) -> Result<bool> {
        let mut op = self.engine.begin_op(Some(project.id), OpKind::Refs).await?;
        let id = op.id;
        op.numbers = right;
        let mut publish = self.engine.publication(project.id, &op, Vec::new(), "verify");
        publish.guard = Some(if anew { Guard::Unmoved(state) } else { Guard::Kept(state) });
        publish.replace_reach = anew;
        let outcome = self.engine.catalog.publish(&publish).await;
        if !matches!(outcome, Ok(PublishOutcome::Published)) {
            self.engine.end(id).await;
        }
        Ok(outcome? == PublishOutcome::Published)
    }

    /// Tells, and adds, what the commit table lacks of the commits that were just read; one that is new there since it was looked for lacks
    /// nothing.
    pub(super) async fn add_commit_rows(&mut self, walk: &mut Walk) -> Result<()> {
        let rows = std::mem::take(&mut walk.rowless);
        for chunk in rows.chunks(ROWS as usize) {
            let oids: Vec<ObjectId> = chunk.iter().map(|row| row.oid).collect();
            let known = self.engine.catalog.commits(&oids).await?;
            let lacking = chunk.iter().zip(known).filter(|(_, known)| known.is_none());
            let lacking: Vec<CommitRow> = lacking.map(|(row, _)| row.clone()).collect();
            if self.repairs() && !lacking.is_empty() {
                self.engine.catalog.put_commits(&lacking).await?;
                walk.added = true;
            }
            for row in lacking {
                let damage = Damage::new(Code::CommitRowMissing, "the commit table does not have it");
                walk.find(damage, row.oid.to_string(), self.repairs());
            }
        }
        self.add_parents(walk).await
    }

    /// Parents that are missing are written again with their commits; such that are wrong stay.
    async fn add_parents(&mut self, walk: &mut Walk) -> Result<()> {
        let stale = std::mem::take(&mut walk.parentless);
        for chunk in stale.chunks(ROWS as usize) {
            let mut right = HashSet::new();
            if self.repairs() {
                let oids: Vec<ObjectId> = chunk.iter().map(|(oid, _)| *oid).collect();
                let rows: Vec<CommitRow> = self.engine.catalog.commits(&oids).await?.into_iter().flatten().collect();
                self.engine.catalog.put_commits(&rows).await?;
                let parents = self.engine.catalog.inspect_parents(&oids).await?;
                let parents: HashMap<ObjectId, Vec<ObjectId>> = oids.into_iter().zip(parents).collect();
                let whole = rows.iter().filter(|row| parents.get(&row.oid) == Some(&row.parents));
                right.extend(whole.map(|row| row.oid));
                walk.added = true;
            }
            for (oid, detail) in chunk {
                let damage = Damage::new(Code::CommitParentsStale, detail.as_str());
                walk.find(damage, oid.to_string(), right.contains(oid));
            }
        }
        Ok(())
    }
}
