//! Branches that end by themselves: how long they stay, how they become what stays, and their end.

use treehold_catalog::{Project, ProjectKey, Ref, RefUpdate};
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::api::{Oid, PromoteRequest, Promoted, RefRequest};
use crate::refs::{Moves, TRIES, full_name, not_fast_forward, ref_moved};
use crate::text::rfc3339;
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// How long a branch stays where nobody says, milliseconds: a week.
const LIFETIME_MS: i64 = 7 * 24 * 3600 * 1000;
/// The longest, seconds: a year.
const LIFETIME_MAX_S: u64 = 365 * 24 * 3600;
/// Branches that are looked for at once.
const ENDS: u32 = 100;

impl Engine {
    /// What a request makes of a ref's lifetime; `None` = nothing is said. `known` is the ref as it is, if it is there.
    pub(crate) fn lifetime(
        project: &Project,
        name: &str,
        request: &RefRequest,
        known: Option<&Ref>,
    ) -> Result<Option<Option<i64>>> {
        let bad = |detail: &str| Err(EngineError::unprocessable("bad_lifetime", detail));
        let lives = known.and_then(|known| known.ephemeral);
        let given_ms = match request.expires_in {
            None => None,
            Some(seconds @ 1..=LIFETIME_MAX_S) => Some(seconds as i64 * 1000),
            Some(_) => return bad("A branch may stay for 1 second to 365 days."),
        };
        match (request.ephemeral, given_ms) {
            (Some(false), Some(_)) => bad("`expires_in` is for ephemeral branches."),
            (Some(false), None) => Ok(lives.map(|_| None)),
            // A move begins its time anew, and so does one to where it is.
            (None, None) => Ok(lives.map(|lives| Some(lives.lifetime_ms))),
            _ if !name.starts_with("refs/heads/") || name == branch_ref(&project.default_branch) => {
                bad("Tags and the default branch cannot be ephemeral.")
            }
            _ if known.is_some() && lives.is_none() => {
                bad("The branch is there to stay; make an ephemeral one beside it.")
            }
            (_, given_ms) => Ok(Some(given_ms.or(lives.map(|lives| lives.lifetime_ms)).or(Some(LIFETIME_MS)))),
        }
    }

    /// When a branch ends, as shown.
    pub(crate) async fn shown_end(&self, project: Uuid, name: &str) -> Result<Option<String>> {
        Ok(self.branch(project, name).await?.and_then(|found| found.ephemeral).map(|end| rfc3339(end.expires_at_ms)))
    }

    async fn branch(&self, project: Uuid, name: &str) -> Result<Option<Ref>> {
        // Of all that begin with the name it is itself the first one.
        let found = self.catalog.references_page(project, name, None, 1).await?;
        Ok(found.into_iter().find(|found| found.name == name))
    }

    /// Whether a branch is ephemeral. The default branch, which is nearly always asked about, costs no query.
    pub(crate) async fn is_ephemeral(&self, project: &Project, branch: &str) -> Result<bool> {
        if branch == project.default_branch {
            return Ok(false);
        }
        let found = self.branch(project.id, &branch_ref(branch)).await?;
        Ok(found.is_some_and(|found| found.ephemeral.is_some()))
    }

    /// What is ephemeral does not leave for the remote.
    pub(crate) fn stays_here() -> EngineError {
        let detail = "The branch is ephemeral and is not pushed; promote it first.";
        EngineError::unprocessable("ephemeral_branch", detail)
    }

    /// Makes an ephemeral branch one that stays, or moves another branch to where it is, by a fast-forward, and ends it.
    pub async fn promote(&self, project: &str, request: &PromoteRequest) -> Result<Promoted> {
        let project = self.find_project(project).await?;
        let (name, into) = (full_name(&branch_ref(&request.branch))?, request.into.as_deref().map(branch_ref));
        let into = into.map(|into| full_name(&into)).transpose()?;
        for _ in 0..TRIES {
            let done = match &into {
                Some(into) => self.try_promote_into(&project, &name, into, request).await?,
                None => self.try_keep(&project, &name, request).await?,
            };
            if let Some(oid) = done {
                return Ok(Promoted { name: into.unwrap_or(name), oid: Oid(oid) });
            }
        }
        Err(EngineError::Busy)
    }

    /// `None` = refs moved meanwhile.
    async fn try_keep(&self, project: &Project, name: &str, request: &PromoteRequest) -> Result<Option<ObjectId>> {
        let seen = self.catalog.ref_state(project.id).await?;
        let existing = self.catalog.references(project.id, "refs/").await?;
        let tip = ephemeral_tip(&existing, name)?;
        if request.expected_oid.is_some_and(|Oid(expected)| expected != tip) {
            return Err(ref_moved(name, Some(tip)));
        }
        let lifetimes = vec![(name.to_owned(), None)];
        let moves = Moves { updates: Vec::new(), lifetimes, idle: None, shrinks: false, reason: "promote" };
        Ok(self.apply_moves(project, moves, &existing, seen).await?.then_some(tip))
    }

    /// `None` = refs moved meanwhile.
    async fn try_promote_into(
        &self,
        project: &Project,
        name: &str,
        into: &str,
        request: &PromoteRequest,
    ) -> Result<Option<ObjectId>> {
        let seen = self.catalog.ref_state(project.id).await?;
        let existing = self.catalog.references(project.id, "refs/").await?;
        let tip = ephemeral_tip(&existing, name)?;
        let target = existing.iter().find(|found| found.name == into && found.name != name);
        let Some(target) = target else {
            return Err(EngineError::not_found("ref_not_found", format!("There is no branch {into:?} beside it.")));
        };
        if request.expected_oid.is_some_and(|Oid(expected)| expected != target.oid) {
            return Err(ref_moved(into, Some(target.oid)));
        }
        if !self.is_ancestor(project.id, target.oid, tip).await? {
            return Err(not_fast_forward("The move is not a fast-forward; merge the branch's work first."));
        }
        let forward = RefUpdate { name: into.to_owned(), expected: Some(target.oid), new: Some(tip) };
        let gone = RefUpdate { name: name.to_owned(), expected: Some(tip), new: None };
        // Whose pending work is on it keeps it; it ends when that is gone.
        let worked_on = !self.catalog.pending_on_branch(project.id, &request.branch, None).await?.is_empty();
        let (updates, idle) = match worked_on {
            true => (vec![forward], None),
            false => (vec![forward, gone], Some(request.branch.clone())),
        };
        // What it alone reached is reached by the other one from now on.
        let moves = Moves { updates, lifetimes: Vec::new(), idle, shrinks: false, reason: "promote" };
        Ok(self.apply_moves(project, moves, &existing, seen).await?.then_some(tip))
    }

    /// Removes branches whose time has come, but where somebody has pending work. Their reflogs have them, as those of deleted ones.
    pub(crate) async fn end_branches(&self) -> Result<()> {
        let (now_ms, mut last) = (self.ambient.now_ms(), None);
        loop {
            // Those that cannot be ended stay, and hide no others.
            let page = self.catalog.expired_branches(now_ms, last.as_ref(), ENDS).await?;
            for (project, branch) in &page {
                let Some(project) = self.catalog.project(&ProjectKey::Id(*project)).await? else { continue };
                self.end_expired(&project, &branch.name).await;
            }
            last = page.into_iter().next_back();
            if last.is_none() {
                return Ok(());
            }
        }
    }

    async fn end_expired(&self, project: &Project, name: &str) {
        match self.end_branch(project, name).await {
            Ok(true) => tracing::info!(project = %project.id, branch = name, "an ephemeral branch ended"),
            // It moved meanwhile, or cannot be ended now: there is another round.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, project = %project.id, "an ephemeral branch could not be ended"),
        }
    }

    /// `false` = it is not to end, or something moved.
    async fn end_branch(&self, project: &Project, name: &str) -> Result<bool> {
        // Read before the branch: whoever moves it, or lets it stay, from now on makes this void.
        let seen = self.catalog.ref_state(project.id).await?;
        let existing = self.catalog.references(project.id, "refs/").await?;
        let now_ms = self.ambient.now_ms();
        let branch = existing.iter().find(|found| found.name == name);
        let over = branch.filter(|found| found.ephemeral.is_some_and(|end| end.expires_at_ms < now_ms));
        let Some(over) = over.filter(|found| found.name != branch_ref(&project.default_branch)) else {
            return Ok(false);
        };
        let gone = RefUpdate { name: over.name.clone(), expected: Some(over.oid), new: None };
        // To find out what is lost may take long, and somebody may begin to work on it meanwhile.
        let idle = over.name.strip_prefix("refs/heads/").map(str::to_owned);
        let moves = Moves { updates: vec![gone], lifetimes: Vec::new(), idle, shrinks: true, reason: "expire" };
        self.apply_moves(project, moves, &existing, seen).await
    }
}

fn ephemeral_tip(existing: &[Ref], name: &str) -> Result<ObjectId> {
    match existing.iter().find(|found| found.name == name) {
        Some(found) if found.ephemeral.is_some() => Ok(found.oid),
        Some(_) => {
            let detail = format!("The branch {name:?} is not ephemeral: it stays as it is.");
            Err(EngineError::Conflict { code: "not_ephemeral", detail })
        }
        None => Err(EngineError::not_found("ref_not_found", format!("There is no ref {name:?}."))),
    }
}
