//! Uncommitted work as commits, under `refs/pending/{user}`: for exports, bundles, and git clients that ask for it by name. Such a
//! commit is made when it is asked for, and stored nowhere.

use quick_cache::sync::Cache;
use treehold_catalog::{Project, WorkspaceKey};
use treehold_object::ObjectId;
use treehold_object::ident::Signature;
use treehold_wire::serve::AdvertisedRef;
use uuid::Uuid;

use crate::commit::{Intent, Planned};
use crate::{Engine, EngineError, Result};

/// Commits that were offered and may be asked for.
const OFFERS: usize = 10_000;
/// Users whose work is looked through for a commit that another instance offered.
const USERS_MAX: usize = 32;

/// Whose work a commit is that was offered.
#[derive(Debug)]
pub(crate) struct Offers(Cache<(Uuid, ObjectId), Uuid>);

impl Default for Offers {
    fn default() -> Self {
        Self(Cache::new(OFFERS))
    }
}

impl Engine {
    /// The pending work of users on the default branch as refs; those who have none are left out.
    pub async fn advertise_pending(&self, project: &str, users: &[Uuid]) -> Result<Vec<AdvertisedRef>> {
        let project = self.find_project(project).await?;
        let mut refs = Vec::new();
        for user in users {
            let Some(planned) = self.pending_commit(&project, &project.default_branch, *user).await? else { continue };
            let oid = planned.attempt.commit;
            self.offers.0.insert((project.id, oid), *user);
            let name = format!("refs/pending/{user}").into();
            refs.push(AdvertisedRef { name, oid, peeled: None, symref_target: None });
        }
        Ok(refs)
    }

    /// The pending work that is this very commit.
    pub(super) async fn offered(&self, project: &Project, commit: ObjectId) -> Result<Option<Planned>> {
        let users = match self.offers.0.get(&(project.id, commit)) {
            Some(user) => vec![user],
            None => {
                let rows = self.catalog.pending_on_branch(project.id, &project.default_branch, None).await?;
                let mut users: Vec<Uuid> = rows.into_iter().map(|(user, _)| user).collect();
                users.dedup();
                users.truncate(USERS_MAX);
                users
            }
        };
        for user in users {
            let planned = self.pending_commit(project, &project.default_branch, user).await?;
            if let Some(planned) = planned.filter(|planned| planned.attempt.commit == commit) {
                return Ok(Some(planned));
            }
        }
        Ok(None)
    }

    /// A user's pending work on a branch as a commit on its head, in memory only; `None` if there is none. Made again it is the same
    /// commit, as long as neither the work nor the head changes.
    pub(crate) async fn pending_commit(&self, project: &Project, branch: &str, user: Uuid) -> Result<Option<Planned>> {
        let key = WorkspaceKey { project: project.id, branch: branch.to_owned(), user };
        let (_, rows) = self.catalog.pending(&key, None).await?;
        let last_ms = rows.iter().map(|row| row.updated_at_ms).max();
        let head = self.branch_head(project, branch).await?;
        let changes = self.changes_of_pending(project, rows).await?;
        let merged = self.merge_changes(project.id, &changes, &head, true).await?;
        let Some(now_ms) = last_ms else { return Ok(None) };
        let (name, email) = &self.config.author;
        let author = Signature::new(name, email, now_ms.div_euclid(1000), 0).map_err(EngineError::internal)?;
        let intent = Intent {
            project: project.clone(),
            branch: branch.to_owned(),
            user: Some(user),
            message: format!("Pending work of {user}"),
            trailers: false,
            author,
            push: false,
            idempotency_key: None,
            now_ms,
            dated: false,
            given_up: Vec::new(),
        };
        match self.plan_commit(&intent, &head, merged).await {
            Ok(planned) => Ok(Some(planned)),
            Err(EngineError::Unprocessable { code: "nothing_to_commit", .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
