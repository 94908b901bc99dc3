//! What a project may hold, and what it holds.
//!
//! Logical bytes: the sizes of the objects that its refs reach and of the contents of its pending work, present and past, whoever else has
//! them stored; the charge tells nobody what others have (law 5). The catalog counts in the transactions that change it. What would
//! grow a project is compared with its figure, as the request found it, before anything is stored: writers at the same time may go over by what
//! they have under way. What was accepted is never refused later: commits of pending work, merges and settlements are not asked.

use std::collections::{HashMap, VecDeque};

use treehold_catalog::{Charged, Held, Project, RoaringTreemap};
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// Sets whose sum is remembered while projects are counted: forks differ little from one another.
const REMEMBERED: usize = 8;
/// Projects asked for at once.
const PAGE: u32 = 1000;

/// The project as it is for what its quota does not bind: operators, and what the commit of accepted work needs.
pub(crate) fn unbound(project: &Project) -> Project {
    Project { quota_bytes: Some(u64::MAX), ..project.clone() }
}

impl Engine {
    /// What a project may hold, logical bytes; `None` = any number.
    pub(crate) fn quota_of(&self, project: &Project) -> Option<u64> {
        project.quota_bytes.or(self.config.limits.project_bytes)
    }

    /// Refuses what would bring a project over its quota. What adds nothing passes, however much the project holds.
    pub(crate) fn check_quota(&self, project: &Project, adds: u64) -> Result<()> {
        let (used, quota) = (project.bytes, self.quota_of(project));
        match quota.filter(|quota| adds > 0 && used.saturating_add(adds) > *quota) {
            Some(quota) => Err(EngineError::QuotaExceeded { used, quota, adds }),
            None => Ok(()),
        }
    }

    /// The same for objects, of which only what is new to the project grows it; `brought` says them, with their sizes. What others have
    /// stored is new (law 5: or the answer would tell that it is there). The database is asked only where all of it together would not fit.
    pub(crate) async fn check_quota_of<I>(
        &self,
        project: &Project,
        charged: Charged,
        brought: impl Fn() -> I,
    ) -> Result<()>
    where
        I: Iterator<Item = (ObjectId, u64)>,
    {
        if self.check_quota(project, brought().map(|(_, size)| size).sum()).is_ok() {
            return Ok(());
        }
        let brought: HashMap<ObjectId, u64> = brought().collect();
        let oids: Vec<ObjectId> = brought.keys().copied().collect();
        let known = self.catalog.charged(project.id, charged, &oids).await?;
        let new = oids.iter().zip(known).filter(|(_, known)| !known).filter_map(|(oid, _)| brought.get(oid));
        self.check_quota(project, new.sum())
    }

    /// Counts anew what all projects hold, or one; how many figures were wrong.
    pub(crate) async fn recount(&self, only: Option<Uuid>) -> Result<u64> {
        let mut counted = Counted { engine: self, sets: VecDeque::new(), corrected: 0 };
        if let Some(project) = only {
            counted.project(project).await?;
            return Ok(counted.corrected);
        }
        let mut after = None;
        loop {
            let page = self.catalog.projects(after, PAGE).await?;
            for project in &page {
                counted.project(project.id).await?;
            }
            match page.last().filter(|_| page.len() == PAGE as usize) {
                Some(last) => after = Some(last.id),
                None => return Ok(counted.corrected),
            }
        }
    }
}

/// A count of projects, one after the other.
struct Counted<'a> {
    engine: &'a Engine,
    /// The last sets and their sums, the newest first.
    sets: VecDeque<(RoaringTreemap, u64)>,
    corrected: u64,
}

impl Counted<'_> {
    async fn project(&mut self, project: Uuid) -> Result<()> {
        let catalog = &self.engine.catalog;
        let Some(Held { reach, pending_bytes, counted }) = catalog.held(project).await? else { return Ok(()) };
        let holds = self.sum(reach).await?.saturating_add(pending_bytes);
        let by = i64::try_from(holds).unwrap_or(i64::MAX).saturating_sub(counted);
        if by != 0 {
            self.corrected += u64::from(catalog.correct_usage(project, by).await?);
        }
        Ok(())
    }

    /// From the sum of the set that differs least, where that is less work.
    async fn sum(&mut self, objects: RoaringTreemap) -> Result<u64> {
        let differs = |(at, (set, _)): (usize, &(RoaringTreemap, u64))| ((set ^ &objects).len(), at);
        let nearest = self.sets.iter().enumerate().map(differs).min().filter(|(apart, _)| *apart < objects.len());
        let catalog = &self.engine.catalog;
        let sum = match nearest.and_then(|(_, at)| self.sets.remove(at)) {
            Some((set, sum)) => {
                let (come, gone) = (&objects - &set, &set - &objects);
                (sum + catalog.sum_sizes(&come).await?).saturating_sub(catalog.sum_sizes(&gone).await?)
            }
            None => catalog.sum_sizes(&objects).await?,
        };
        self.sets.push_front((objects, sum));
        self.sets.truncate(REMEMBERED);
        Ok(sum)
    }
}
