//! Status: where the branch is against the remote, and how pending work stands to the head.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::{PendingRow, Project, WorkspaceKey};
use treehold_object::BString;
use uuid::Uuid;

use crate::api::{AttemptView, ChangeState, Mode, Oid, Path, Status, StatusEntry};
use crate::files::{base_of, pending_item};
use crate::landed::{Standing, gives_theirs};
use crate::modes::seen_item;
use crate::text::rfc3339;
use crate::tree::{Resolution3, Side};
use crate::view::{Head, branch_ref};
use crate::{Engine, Result};

/// Pending work of others, by path.
pub(crate) type Others = HashMap<BString, Vec<(Uuid, PendingRow)>>;

impl Engine {
    /// Status of a branch for a user, or without one of the branch alone. Rows whose base is still in the head cost nothing; the others are merged to tell.
    pub async fn status(&self, project: &str, user: Option<Uuid>, branch: Option<&str>) -> Result<Status> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, branch)?;
        let key = user.map(|user| WorkspaceKey { project: project.id, branch: branch.clone(), user });
        let (revision, rows) = match &key {
            Some(key) => self.catalog.pending(key, None).await?,
            None => Default::default(),
        };
        let head = self.branch_head(&project, &branch).await?;
        let name = branch_ref(&branch);
        let known = self.catalog.remote_references(project.id, &name).await?;
        let remote_head = known.into_iter().find(|known| known.name == name).map(|known| known.oid);
        let said = self.said_to_be(&project, &branch, remote_head).await?;
        let (ours, theirs): (Vec<_>, Vec<_>) = (head.commit.into_iter().collect(), remote_head.into_iter().collect());
        let (ahead, behind) = match ours == theirs {
            true => (0, 0),
            false => {
                let comparison = self.compare(project.id, &ours, &theirs).await?;
                (comparison.ours.len() as u64, comparison.theirs)
            }
        };
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(head.tree, &paths).await?;
        let mut others = match &key {
            Some(key) => self.others_at(key, &paths).await?,
            None => Others::new(),
        };
        let mut changes = Vec::with_capacity(rows.len());
        let there: Vec<Side> = there.into_iter().map(|found| found.filter(|item| !item.is_tree())).collect();
        let places: Vec<(usize, Side)> = there.iter().copied().enumerate().collect();
        let states = self.change_states(&project, &head, &rows, &places).await?;
        for ((row, theirs), Standing { state, in_head }) in rows.into_iter().zip(there).zip(states) {
            changes.push(StatusEntry {
                action: row.action.into(),
                oid: seen_item(&row, theirs).map(|item| Oid(item.oid)),
                base_oid: row.base_oid.map(Oid),
                head_oid: theirs.map(|item| Oid(item.oid)),
                mode: row.oid.map(|_| Mode(row.mode)),
                head_mode: theirs.map(|item| Mode(item.mode)),
                base_mode: row.base_mode.map(Mode),
                state,
                in_head,
                revision: row.revision,
                others: others.remove(&row.path).unwrap_or_default().into_iter().map(|(user, _)| user).collect(),
                path: Path(row.path),
            });
        }
        let open = self.catalog.open_attempts(Some((project.id, &branch)), 100).await?;
        let attempts =
            open.into_iter().filter(|attempt| user.is_some() && attempt.user == user).map(|attempt| AttemptView {
                attempt: attempt.id,
                commit: Oid(attempt.commit),
                state: format!("{:?}", attempt.state).to_lowercase(),
            });
        Ok(Status {
            branch,
            head: head.commit.map(Oid),
            remote_head: remote_head.map(Oid),
            remote_moved: said.is_some(),
            remote_head_reported: said.and_then(|hint| hint.oid).map(Oid),
            remote_reported_at: said.map(|hint| rfc3339(hint.at_ms)),
            ahead,
            behind,
            revision,
            changes,
            attempts: attempts.collect(),
        })
    }

    /// What others have pending on these paths, by path.
    pub(crate) async fn others_at(&self, key: &WorkspaceKey, paths: &[BString]) -> Result<Others> {
        let mut others = Others::new();
        if !paths.is_empty() {
            for (user, row) in self.catalog.pending_on_branch(key.project, &key.branch, Some(paths)).await? {
                if user != key.user {
                    others.entry(row.path.clone()).or_default().push((user, row));
                }
            }
        }
        Ok(others)
    }

    /// How some of a workspace's rows stand to what the branch has at their paths: `places` are those in `rows`, and what is there. Files
    /// that were renamed are looked for together, as a commit of all rows does.
    pub(crate) async fn change_states(
        &self,
        project: &Project,
        head: &Head,
        rows: &[PendingRow],
        places: &[(usize, Side)],
    ) -> Result<Vec<Standing>> {
        let mut states = Vec::with_capacity(places.len());
        for (at, theirs) in places {
            let row = &rows[*at];
            let ours = pending_item(row);
            if base_of(row).is(*theirs) {
                states.push(Standing { state: ChangeState::Clean, in_head: ours == *theirs });
                continue;
            }
            let merged = self.merge_row(project, row, *theirs).await?;
            let state = match merged {
                Resolution3::Conflict => ChangeState::Conflict,
                _ => ChangeState::Outdated,
            };
            states.push(Standing { state, in_head: gives_theirs(&merged, ours, *theirs) });
        }
        let one_sided = |(at, theirs): &(usize, Side)| rows[*at].oid.is_some() != theirs.is_some();
        let conflicts: Vec<(usize, Side)> = places
            .iter()
            .zip(&states)
            .filter(|(place, standing)| standing.state == ChangeState::Conflict && one_sided(place))
            .map(|(place, _)| *place)
            .collect();
        if conflicts.is_empty() {
            return Ok(states);
        }
        let changes = self.changes_of_pending(project, rows.to_vec()).await?;
        let followed = self.follow(project.id, &conflicts, &changes, head).await?;
        for ((at, _), standing) in places.iter().zip(&mut states) {
            if followed.contains_key(at) {
                standing.state = ChangeState::Outdated;
            }
        }
        Ok(states)
    }

    /// Merges a pending row with what the branch has at its path.
    pub(crate) async fn merge_row(&self, project: &Project, row: &PendingRow, theirs: Side) -> Result<Resolution3> {
        let content: Option<Bytes> = match row.oid {
            // What is not kept inline is in the store, and read if it has to be merged.
            Some(oid) => self.catalog.pending_contents(project.id, &[oid]).await?.pop().flatten(),
            None => None,
        };
        self.merge_path(Some(project.id), base_of(row), pending_item(row), theirs, content).await
    }
}
