//! Commits that the forge makes and signs, for branches that take signed commits only (`sign: "github"`).
//!
//! The commit is planned here as any other: merged, checked, its tree known. Then the forge makes it on top of what the remote has, by
//! its own compare of the head, and it is fetched like anybody's commit; our branch goes there and the pending rows are settled in one
//! transaction. Its id is the forge's, as are author and committer; the author is named in a trailer.
//!
//! An attempt records what is asked for before it is. Where the answer is lost, the remote is looked at: by this request, by the next with the
//! same key, by housekeeping, or by another commit that would merge with it.

use std::sync::Arc;

use treehold_catalog::{Attempt, FinalAnswer, OpKind, Origin, Project, Publish, RefUpdate, WorkspaceKey};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use super::change::ChangeRow;
use super::machine::{clear_of, moved};
use super::made::{says, words};
use super::plan::{Intent, MergedChanges, Planned};
use super::request::{Claimed, Key, Stored};
use super::trailers::with_trailers;
use super::waits::is_idle;
use super::{Changes, Policy, STEPS_BACK};
use crate::api::{CommitAnswer, CommitRequest, Oid, OnConflict};
use crate::graph::Known;
use crate::quota::unbound;
use crate::remote::forge::{HostedCommit, Hosting};
use crate::remote::{Endpoint, ForgeSite, Secret};
use crate::view::{Head, branch_ref};
use crate::{Engine, EngineError, Result};

/// All new content of one such commit, bytes: GitHub takes it as one JSON text.
const CONTENT_MAX: u64 = 30 << 20;
/// The only mode that such a commit can give a file.
const PLAIN: u32 = 0o100644;

/// What a commit of this kind is for, and with what.
struct Hosted<'a> {
    intent: Intent,
    changes: Changes<'a>,
    policy: Policy,
    site: ForgeSite,
    at: Endpoint,
    key: Key,
}

/// How a round ended.
enum Round {
    Done(CommitAnswer),
    /// The remote moved, and was fetched, or what is pending changed: plan again.
    Again,
    /// Nobody knows whether the commit of this attempt was made: plan again, unless it is there by then.
    Unsure(Uuid),
}

fn refused(code: &'static str, detail: &str) -> EngineError {
    EngineError::unprocessable(code, detail)
}

impl Engine {
    /// As `commit`, by the forge.
    pub(super) async fn commit_hosted(
        &self,
        project: &Project,
        request: &CommitRequest,
        credentials: Option<Secret>,
        key: Key,
    ) -> Result<CommitAnswer> {
        if request.push == Some(false) || request.on_conflict == OnConflict::Branch || request.dry_run {
            let detail = "GitHub makes its commits on the branch itself: `sign` goes with neither `push: false`, `dry_run`, nor \
                          `on_conflict: \"branch\"`.";
            return Err(refused("bad_sign", detail));
        }
        let site = self.site(project, credentials.clone())?;
        let at = self.needed_endpoint(project, credentials)?;
        let branch = Self::branch_name(project, request.branch.as_deref())?;
        let mut intent = self.intent(project, &branch, &request.message, &request.author, true)?;
        intent.user = Some(request.user);
        intent.trailers = request.trailers;
        intent.message = with_author(&intent);
        intent.idempotency_key.clone_from(&key.key);
        let shaped =
            |paths: &Vec<String>| paths.iter().map(|path| crate::files::shaped_path(path.as_bytes())).collect();
        let paths = request.paths.as_ref().map(shaped).transpose()?;
        let workspace = WorkspaceKey { project: project.id, branch: branch.clone(), user: request.user };
        let changes = Changes::Pending { key: workspace, paths };
        let expected_head = request.expected_head_sha.map(|oid| oid.0);
        let policy = Policy { on_conflict: request.on_conflict, dry_run: false, expected_head };
        let lock = self.branch_lock(project.id, &branch);
        let _turn = lock.lock().await;
        let hosted = Hosted { intent, changes, policy, site, at, key };
        if let Claimed::Answered(answer) = self.claim(project, &hosted.key).await? {
            return answer;
        }
        let outcome = self.hosted_rounds(&hosted).await;
        // Another engine may have settled the same request meanwhile: it has one answer.
        if let (Some(_), Err(_)) = (&hosted.key.key, &outcome)
            && let Claimed::Answered(answer) = self.claim(project, &hosted.key).await?
        {
            return answer;
        }
        outcome
    }

    async fn hosted_rounds(&self, hosted: &Hosted<'_>) -> Result<CommitAnswer> {
        let Intent { project, branch, user, .. } = &hosted.intent;
        // What is on its way to the branch may move it.
        self.clear_the_way((project.id, *user), branch, &hosted.at, None).await?;
        if !self.asked_before(hosted).await?.is_empty() {
            // Its commit may be there since. Where that cannot be seen, nothing else may be answered or made.
            self.fetch_remote(&unbound(project), branch, &hosted.at, None, &()).await?;
        }
        let mut unsure = Vec::new();
        for _ in 0..=self.config.merge_attempts {
            match self.hosted_round(hosted, &unsure).await? {
                Round::Done(answer) => return Ok(answer),
                Round::Again => {}
                Round::Unsure(attempt) => unsure.push(attempt),
            }
        }
        if unsure.is_empty() {
            return Err(moved(branch));
        }
        // One of them may be made yet: that is nothing that a look at the branch would answer.
        let detail = "GitHub does not say whether it made the commit, and the branch does not have it yet: repeat the \
                      request, which looks for it first.";
        Err(EngineError::RemoteFailed { code: "remote_failed", detail: detail.to_owned(), retry_after_s: None })
    }

    /// What the same request asked for before, oldest first.
    async fn asked_before(&self, hosted: &Hosted<'_>) -> Result<Vec<Attempt>> {
        match &hosted.key.key {
            Some(key) => Ok(self.catalog.attempts_of(hosted.intent.project.id, key).await?),
            None => Ok(Vec::new()),
        }
    }

    /// The answer to the same request, if a commit that it asked for before is there by now, whatever is pending or on the branch since.
    /// `unsure`: attempts of this very request, by which one without a key knows them.
    async fn hosted_known(&self, hosted: &Hosted<'_>, unsure: &[Uuid]) -> Result<Option<CommitAnswer>> {
        let mut attempts = self.asked_before(hosted).await?;
        if hosted.key.key.is_none() {
            for attempt in unsure {
                attempts.extend(self.catalog.attempt(*attempt).await?);
            }
        }
        if attempts.is_empty() {
            return Ok(None);
        }
        if let Claimed::Answered(answer) = self.claim(&hosted.intent.project, &hosted.key).await? {
            return answer.map(Some);
        }
        // Of two that asked for the same, the later one has the later revisions.
        for attempt in attempts.iter().rev() {
            if let Some(made) = self.made_for(attempt).await? {
                return self.take_made(attempt, made).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn hosted_round(&self, hosted: &Hosted<'_>, unsure: &[Uuid]) -> Result<Round> {
        if let Some(answer) = self.hosted_known(hosted, unsure).await? {
            return Ok(Round::Done(answer));
        }
        let Hosted { intent, changes, policy, .. } = hosted;
        let mut intent = intent.clone();
        let head = self.branch_head(&intent.project, &intent.branch).await?;
        if policy.expected_head.is_some() && policy.expected_head != head.commit {
            return Err(moved(&intent.branch));
        }
        if head.commit.is_none() {
            self.check_room_for_ref(&intent.project, &branch_ref(&intent.branch)).await?;
        }
        let pending = self.changes_from_pending(&intent.project, changes).await?;
        let rows = self.change_rows(&intent.project, pending, changes, &head).await?;
        if std::mem::take(&mut intent.trailers) {
            let origins: Vec<Origin> = rows.iter().map(|row| row.origin.clone()).collect();
            intent.message = with_trailers(&intent.message, &origins);
        }
        let intent = &intent;
        let parent = self.hosted_parent(intent, &head).await?;
        let ahead = parent.commit != head.commit;
        if let Some(answer) = self.hosted_before(hosted, intent, &head, &parent, &rows).await? {
            return Ok(Round::Done(answer));
        }
        let mut merged = self.merge_changes(intent.project.id, &rows, &parent, false).await?;
        if self.mind_pushes(intent, &rows, &mut merged, Some(&hosted.at)).await? {
            return Ok(Round::Again);
        }
        if !merged.conflicts.is_empty() {
            return Err(match policy.on_conflict {
                OnConflict::Fail => moved(&intent.branch),
                _ => EngineError::MergeConflict(merged.conflicts),
            });
        }
        if policy.on_conflict == OnConflict::Fail && (ahead || merged.moved) {
            return Err(moved(&intent.branch));
        }
        let planned = self.plan_commit(intent, &parent, merged).await;
        if !ahead {
            self.after_nothing(intent, changes, &head, &rows, &planned).await;
        }
        let planned = planned?;
        let commit = self.hosted_commit(intent, &parent, &planned).await?;
        self.ask_forge(hosted, planned.attempt, &commit).await
    }

    /// PREPARED; then the forge is asked, and what it made is taken. From the one to the other no edit is undone without a trace.
    async fn ask_forge(&self, hosted: &Hosted<'_>, mut attempt: Attempt, commit: &HostedCommit) -> Result<Round> {
        let Intent { project, branch, .. } = &hosted.intent;
        // Its objects come with the commit.
        attempt.push = false;
        attempt.hosted = true;
        attempt.objects.clear();
        point("C1").await?;
        let name = self.fresh_name(&attempt.commit);
        let Some((op, _)) = self.prepare(&attempt, &name).await? else { return Ok(Round::Again) };
        // There is no pack for that name.
        self.end_op(op).await;
        point("U3").await?;
        let hosting = match self.held(&mut attempt, self.forge.commit(&hosted.site, commit)).await {
            Ok(hosting) => hosting,
            Err(error) => {
                self.not_made(&mut attempt).await;
                return Err(error);
            }
        };
        if let Hosting::Unknown(detail) = &hosting {
            tracing::warn!(detail, "whether GitHub made a commit is found out by looking");
        }
        point("U4").await?;
        self.held(&mut attempt, self.fetch_remote(&unbound(project), branch, &hosted.at, None, &())).await?;
        if let Some(made) = self.made_for(&attempt).await? {
            return self.take_made(&attempt, made).await.map(Round::Done);
        }
        match hosting {
            Hosting::Moved => {
                self.not_made(&mut attempt).await;
                Ok(Round::Again)
            }
            // It may still come; asked again, the forge's compare of the head lets one of the two be made.
            Hosting::Unknown(_) => Ok(Round::Unsure(attempt.id)),
            Hosting::Made(oid) => {
                if self.catalog.may_read(project.id, &[oid]).await? != [true] {
                    // The remote's answer is of the past, or its branch was set back at once: what was made is nothing of this project's.
                    return Ok(Round::Unsure(attempt.id));
                }
                self.not_made(&mut attempt).await;
                Err(EngineError::RemoteFailed {
                    code: "remote_invalid",
                    detail: "GitHub made another commit than was asked for; it is on the branch: sync, and look at it."
                        .to_owned(),
                    retry_after_s: None,
                })
            }
        }
    }

    /// An earlier request without the same key, whose answer was lost: a commit between our head and the remote's has all of it, in the same words.
    async fn hosted_before(
        &self,
        hosted: &Hosted<'_>,
        intent: &Intent,
        head: &Head,
        remote: &Head,
        rows: &[ChangeRow],
    ) -> Result<Option<CommitAnswer>> {
        // What changes nothing is in any commit, and in none.
        if remote.commit == head.commit || rows.iter().all(is_idle) {
            return Ok(None);
        }
        for there in self.first_parents(remote, head.commit).await? {
            let Some(row) = &there.row else { continue };
            if !says(&self.raw_of(row).await?, &intent.message)? {
                continue;
            }
            let mut merged = self.merge_changes(intent.project.id, rows, &there, false).await?;
            if merged.conflicts.is_empty() && merged.edits.is_empty() {
                self.hold_back(intent, rows, &mut merged).await?;
                return self.take_hosted(hosted, head, &there, &merged).await;
            }
        }
        Ok(None)
    }

    /// `from` and the commits before it by first parents, newest first, down to `to` and without it, as far as is looked.
    async fn first_parents(&self, from: &Head, to: Option<ObjectId>) -> Result<Vec<Head>> {
        let (mut found, mut known) = (Vec::new(), Known::default());
        let mut next = from.commit;
        while let Some(oid) = next.filter(|oid| Some(*oid) != to && found.len() < STEPS_BACK) {
            let Some(row) = self.known_commit(&mut known, oid).await? else { break };
            next = row.parents.first().copied();
            let (commit, tree) = (Some(oid), Some(row.tree));
            found.push(Head { commit, tree, branch: from.branch.clone(), row: Some(Arc::new(row)) });
        }
        Ok(found)
    }

    /// Where the remote's branch is known to be: the commit goes on top of that, and all that we have must be there.
    async fn hosted_parent(&self, intent: &Intent, head: &Head) -> Result<Head> {
        let not_pushed = || EngineError::Conflict {
            code: "not_pushed",
            detail: "GitHub makes its commits on top of what it has: push the branch first, then repeat.".to_owned(),
        };
        let remote = self.remote_head(intent.project.id, &intent.branch).await?.ok_or_else(not_pushed)?;
        if head.commit == Some(remote) {
            return Ok(head.clone());
        }
        if let Some(ours) = head.commit
            && !self.is_ancestor(intent.project.id, ours, remote).await?
        {
            return Err(not_pushed());
        }
        self.head_of(remote, Some(intent.branch.clone())).await
    }

    /// What the forge is asked for.
    async fn hosted_commit(&self, intent: &Intent, parent: &Head, planned: &Planned) -> Result<HostedCommit> {
        let mut commit = HostedCommit {
            branch: intent.branch.clone(),
            parent: parent.commit.ok_or_else(|| EngineError::internal("the remote's branch is unborn"))?,
            words: words(&intent.message),
            additions: Vec::new(),
            deletions: Vec::new(),
        };
        let mut room = CONTENT_MAX;
        for row in &planned.attempt.snapshot {
            if !planned.answer.files.iter().any(|file| file.path.0 == row.path) {
                continue;
            }
            let path = std::str::from_utf8(&row.path);
            let path = path.map_err(|_| refused("bad_path", "GitHub takes paths in UTF-8 only."))?.to_owned();
            let Some(oid) = row.oid else {
                commit.deletions.push(path);
                continue;
            };
            if row.mode != PLAIN {
                let detail = format!(
                    "GitHub's own commits hold plain files only: {path:?} is executable, a link or a submodule."
                );
                return Err(refused("bad_mode", &detail));
            }
            let planned = planned.objects.iter().find(|object| object.kind == Kind::Blob && object.oid == oid);
            let content = match planned {
                Some(object) => object.content.clone(),
                None => {
                    let read = self.objects(&[oid]).await?.pop().flatten();
                    read.ok_or_else(|| EngineError::internal(format!("{oid} is not stored")))?.content
                }
            };
            let size = content.len() as u64;
            room = room.checked_sub(size).ok_or(EngineError::TooLarge {
                what: "the content of a commit that GitHub makes",
                limit: CONTENT_MAX,
                unit: "bytes",
            })?;
            commit.additions.push((path, content));
        }
        Ok(commit)
    }

    /// Our branch goes to the commit that was made, and what it holds is pending no more. `None`: the project does not reach it any more, as
    /// another server has seen the remote's branch set back meanwhile.
    async fn take_hosted(
        &self,
        hosted: &Hosted<'_>,
        head: &Head,
        there: &Head,
        merged: &MergedChanges,
    ) -> Result<Option<CommitAnswer>> {
        let intent = &hosted.intent;
        let (oid, tree) =
            there.commit.zip(there.tree).ok_or_else(|| EngineError::internal("a commit without a tree"))?;
        // Before the look at what is reached: the publication holds only if nothing was taken from that since.
        let seen = self.catalog.ref_state(intent.project.id).await?;
        if !self.catalog.may_read(intent.project.id, &[oid]).await?[0] {
            return Ok(None);
        }
        let row = self.commit_row(oid).await?;
        let answer = CommitAnswer {
            commit: Oid(oid),
            tree: Oid(tree),
            parents: row.parents.iter().copied().map(Oid).collect(),
            branch: intent.branch.clone(),
            pushed: true,
            files: merged.files.clone(),
            objects: 0,
        };
        let body = serde_json::to_string(&Stored::Done(answer.clone())).map_err(EngineError::internal)?;
        let op = self.begin_op(Some(intent.project.id), OpKind::Refs).await?;
        let update = RefUpdate { name: branch_ref(&intent.branch), expected: head.commit, new: Some(oid) };
        let publish = Publish {
            // The remote has the commit.
            refs_max: usize::MAX,
            clear_pending: clear_of(intent.user, (&intent.branch, &intent.branch), &merged.snapshot),
            answer: hosted.key.key.clone().map(|key| FinalAnswer { key, body }),
            ..self.publication(intent.project.id, &op, vec![update], "commit")
        };
        self.publish_kept(&publish, seen).await?;
        Ok(Some(answer))
    }
}

/// The message with the author, who is not the forge's, in a trailer.
fn with_author(intent: &Intent) -> String {
    let message = intent.message.trim_end();
    let trailer = format!("Co-authored-by: {} <{}>", intent.author.name, intent.author.email);
    match message.contains(&trailer) {
        true => message.to_owned(),
        false => format!("{message}\n\n{trailer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(message: &str) -> Intent {
        Intent {
            project: Project {
                id: uuid::Uuid::nil(),
                name: None,
                default_branch: "main".into(),
                remote_url: None,
                receive: treehold_catalog::ReceivePolicy::default(),
                quota_bytes: None,
                bytes: 0,
                created_at_ms: 0,
            },
            branch: "main".to_owned(),
            user: None,
            message: message.to_owned(),
            trailers: false,
            author: treehold_object::Signature::new("Ann", "ann@example.org", 0, 0).expect("a name"),
            push: true,
            idempotency_key: None,
            now_ms: 0,
            dated: false,
            given_up: Vec::new(),
        }
    }

    #[test]
    fn the_author_is_named_in_a_trailer() {
        let told = |message: &str| words(&with_author(&intent(message)));
        let trailer = "Co-authored-by: Ann <ann@example.org>";
        assert_eq!(told("Say it\n"), ("Say it".into(), trailer.into()));
        assert_eq!(told("Say it\n\nWhy.\n"), ("Say it".into(), format!("Why.\n\n{trailer}")));
        let own = format!("Say it\n\nWhy.\n\n{trailer}");
        assert_eq!(told(&own), ("Say it".into(), format!("Why.\n\n{trailer}")));
    }
}
