//! Where the client's history ends: `deepen` and its kin, as git's `upload-pack.c` and `shallow.c` answer them.

use std::collections::HashSet;

use treehold_catalog::Project;
use treehold_object::ObjectId;
use treehold_wire::serve::{Deepen, FetchArguments};

use super::commits::History;
use crate::view::branch_ref;
use crate::{EngineError, Result};

/// Deeper than any history.
const INFINITE: u32 = u32::MAX;

/// Where history is cut.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// New at the boundary: the client is told.
    pub shallow: Vec<ObjectId>,
    /// No longer at the boundary: the client is told.
    pub unshallow: Vec<ObjectId>,
    /// Commits whose parents are not looked at, on either side.
    pub cut: HashSet<ObjectId>,
    /// Wanted, too: what lies behind the old boundary.
    pub wants: Vec<ObjectId>,
    /// The client has these, as they were at its boundary.
    pub edges: Vec<ObjectId>,
    /// The project's own history is cut off.
    pub cut_here: bool,
}

impl Boundary {
    pub async fn of(
        history: &mut History<'_>,
        project: &Project,
        wants: &[ObjectId],
        arguments: &FetchArguments,
    ) -> Result<Self> {
        let client: HashSet<ObjectId> = arguments.shallow.iter().copied().collect();
        let cut_here = !history.cut.is_empty();
        let none = HashSet::new();
        let (inside, last) = match &arguments.deepen {
            Deepen::Keep if !cut_here => (HashSet::new(), HashSet::new()),
            Deepen::Unshallow if !cut_here => (client.clone(), HashSet::new()),
            // What the client has already ends where it says; what else it gets ends where the project's history does.
            Deepen::Keep => history.at_depth(wants, INFINITE, &client).await?,
            Deepen::Unshallow => history.at_depth(wants, INFINITE, &none).await?,
            Deepen::Depth { commits, relative: false } => history.at_depth(wants, *commits, &none).await?,
            Deepen::Depth { commits, relative: true } => {
                let reached = history.between(wants, &[], &none, None).await?;
                let tips: Vec<ObjectId> =
                    reached.commits.iter().map(|row| row.oid).filter(|oid| client.contains(oid)).collect();
                history.at_depth(&tips, commits.saturating_add(1), &none).await?
            }
            Deepen::Bounded { since, not } => bounded(history, project, wants, *since, not).await?,
        };
        let mut shallow: Vec<ObjectId> = last.iter().filter(|oid| !client.contains(*oid)).copied().collect();
        let mut unshallow: Vec<ObjectId> = client.iter().filter(|oid| inside.contains(*oid)).copied().collect();
        shallow.sort_unstable();
        unshallow.sort_unstable();
        let mut behind = Vec::new();
        for oid in &unshallow {
            behind.extend(history.find(*oid).await?.map(|row| row.parents).unwrap_or_default());
        }
        let mut cut = history.cut.clone();
        cut.extend(last);
        cut.extend(client);
        Ok(Self { shallow, edges: unshallow.clone(), unshallow, cut, wants: behind, cut_here })
    }
}

/// Commits that are young enough and not excluded: those that have all their parents with them, and those that lack one.
async fn bounded(
    history: &mut History<'_>,
    project: &Project,
    wants: &[ObjectId],
    since: Option<i64>,
    not: &[treehold_object::BString],
) -> Result<(HashSet<ObjectId>, HashSet<ObjectId>)> {
    let mut excluded = Vec::new();
    for name in not {
        excluded.push(history.resolve(project, name).await?);
    }
    history.begin_at(project, &[wants, &excluded].concat()).await?;
    let cut = history.cut.clone();
    let chosen = history.between(wants, &excluded, &cut, since).await?.commits;
    if chosen.is_empty() {
        let detail = "no commits selected for shallow requests";
        return Err(EngineError::unprocessable("empty_history", detail));
    }
    let all: HashSet<ObjectId> = chosen.iter().map(|row| row.oid).collect();
    let lacks = |row: &&treehold_catalog::CommitRow| {
        cut.contains(&row.oid) || row.parents.iter().any(|parent| !all.contains(parent))
    };
    let last: HashSet<ObjectId> = chosen.iter().filter(lacks).map(|row| row.oid).collect();
    let inside = all.difference(&last).copied().collect();
    Ok((inside, last))
}

impl History<'_> {
    /// The commit that a ref's full or short name stands for.
    async fn resolve(&self, project: &Project, name: &[u8]) -> Result<ObjectId> {
        let text = String::from_utf8_lossy(name).into_owned();
        let candidates = match text.as_str() {
            "HEAD" => vec![branch_ref(&project.default_branch)],
            text if text.starts_with("refs/") => vec![text.to_owned()],
            text => vec![format!("refs/tags/{text}"), format!("refs/heads/{text}")],
        };
        for candidate in candidates {
            if let Some(oid) = self.engine().catalog.reference(project.id, &candidate).await? {
                // The walk may not know it: no want has to lead to it.
                let chain = match self.engine().catalog.generations(&[oid]).await?.contains(&None) {
                    false => return Ok(oid),
                    true => self.engine().tag_chains(&[oid], usize::MAX).await?.pop().unwrap_or_default(),
                };
                if let Some((_, target)) = chain.last() {
                    return Ok(*target);
                }
            }
        }
        let detail = format!("deepen-not is not a ref: {text}");
        Err(EngineError::unprocessable("bad_ref", treehold_wire::printable(detail.as_bytes(), 300)))
    }
}
