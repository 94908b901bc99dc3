//! What a project is said to reach although nothing leads to it: a remote may have sent more than it was asked for.
//!
//! It must leave reach before it is given up. Else clones look for what is gone, and a push may rest on it while it goes: such a push
//! is refused once reach has shrunk, and one that was published before is seen by the next collection's G3.

use treehold_catalog::{Guard, OpKind, Project, PublishOutcome, RoaringTreemap};
use treehold_object::ObjectId;

use crate::{Engine, Result};

/// Projects listed at once.
const PAGE: u32 = 200;

impl Engine {
    /// Takes `garbage` out of every project's reach. What was in any of them is answered: this collection leaves it alone.
    pub(super) async fn take_out_of_reach(&self, garbage: &RoaringTreemap) -> Result<RoaringTreemap> {
        let mut held = RoaringTreemap::new();
        let mut after = None;
        while !garbage.is_empty() {
            let page = self.catalog.projects(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for project in &page {
                let extra = &self.catalog.reach(project.id).await? & garbage;
                if extra.is_empty() {
                    continue;
                }
                tracing::warn!(project = %project.id, objects = extra.len(), "it is said to reach what nothing leads to");
                held |= &extra;
                match self.shrink_reach(project, &extra).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::info!(project = %project.id, "its refs moved; the next collection tries again")
                    }
                    Err(error) => tracing::warn!(project = %project.id, %error, "its reach stays as it is"),
                }
            }
        }
        Ok(held)
    }

    /// `false`: a ref moved meanwhile, and nothing was changed.
    async fn shrink_reach(&self, project: &Project, extra: &RoaringTreemap) -> Result<bool> {
        let op = self.begin_op(Some(project.id), OpKind::Refs).await?;
        let id = op.id;
        let published = async {
            let seen = self.catalog.ref_state(project.id).await?;
            let mut known = self.catalog.references(project.id, "").await?;
            known.extend(self.catalog.remote_references(project.id, "").await?);
            let mut tips: Vec<ObjectId> = known.into_iter().map(|known| known.oid).collect();
            tips.sort_unstable();
            tips.dedup();
            // A ref may have come to it since it was found to be garbage.
            let extra = extra - self.closure(project, tips).await?;
            let mut publish = self.publication(project.id, &op, Vec::new(), "collect");
            publish.reached = self.catalog.reach(project.id).await? - extra;
            publish.replace_reach = true;
            publish.guard = Some(Guard::Unmoved(seen));
            Ok(self.catalog.publish(&publish).await? == PublishOutcome::Published)
        };
        let published = self.kept_alive(id, published).await;
        if !matches!(published, Ok(true)) {
            self.end(id).await;
        }
        published
    }
}
