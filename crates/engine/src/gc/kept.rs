//! Why something stays that a project does not reach any more: for whoever wants it gone.

use serde::Serialize;
use treehold_catalog::{RoaringTreemap, Roots};
use uuid::Uuid;

use crate::{Engine, Result};

/// Projects listed at once.
const PAGE: u32 = 200;

/// What stays of what one project reached once, by its reflog, and its refs do not any more. An object may have several reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcKept {
    /// All of these objects.
    pub objects: u64,
    /// Of these: pending work names them, or started from them.
    pub pending: u64,
    /// Local history names them: `project forget-history` ends that.
    pub history: u64,
    /// Checkpoints name them, until they are deleted.
    pub checkpoints: u64,
    /// Refs of other projects reach them.
    pub projects: u64,
    /// None of these: a manifest (of the last two), a reflog that counts, or an operation under way.
    pub others: u64,
}

impl Engine {
    /// `stays`: what `project` reached once, and something leads to.
    pub(super) async fn kept_of(&self, project: Uuid, roots: &Roots, stays: RoaringTreemap) -> Result<GcKept> {
        let kept = stays - self.catalog.reach(project).await?;
        let mut others = RoaringTreemap::new();
        let mut after = None;
        while !kept.is_empty() {
            let page = self.catalog.projects(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for other in page.iter().filter(|other| other.id != project) {
                others |= &self.catalog.reach(other.id).await? & &kept;
            }
        }
        Ok(count(&kept, roots, &others))
    }
}

fn count(kept: &RoaringTreemap, roots: &Roots, others: &RoaringTreemap) -> GcKept {
    let users = &roots.kept;
    let reasons = [&users.pending, &users.history, &users.checkpoints, others].map(|reason| reason & kept);
    let [pending, history, checkpoints, projects] = reasons.each_ref().map(RoaringTreemap::len);
    let mut rest = kept.clone();
    for reason in &reasons {
        rest -= reason;
    }
    GcKept { objects: kept.len(), pending, history, checkpoints, projects, others: rest.len() }
}

#[cfg(test)]
mod tests {
    use treehold_catalog::KeptByUsers;

    use super::*;

    #[test]
    fn each_object_has_a_reason_or_more() {
        let set = |numbers: &[u64]| numbers.iter().copied().collect::<RoaringTreemap>();
        let users = KeptByUsers { pending: set(&[1, 90]), history: set(&[1, 2, 3]), checkpoints: set(&[3, 91]) };
        let roots = Roots { kept: users, ..Roots::default() };
        let counted = count(&set(&[1, 2, 3, 4, 5, 6]), &roots, &set(&[4, 92]));
        let expected = GcKept { objects: 6, pending: 1, history: 3, checkpoints: 1, projects: 1, others: 2 };
        assert_eq!(counted, expected);
    }
}
