//! What became of commits that the forge was asked to make.
//!
//! Such an attempt stays PREPARED while the forge works: nothing of it is stored or pushed here, and the id of its commit is the forge's. What
//! it records is what we would have made; a commit on the same parent, with the same tree and the same words, is the one that was asked for.

use treehold_catalog::{Attempt, AttemptState, CommitRow, OpKind, RefState};
use treehold_fault::point;
use treehold_object::{ObjectId, parse_commit};

use super::held::LEFT_AFTER_MS;
use super::machine::LAG_MS;
use super::request::to_store;
use crate::api::CommitAnswer;
use crate::quota::unbound;
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// Commits read at a time.
const COMMITS: usize = 1000;

/// Open attempts of a branch that are looked at.
const ATTEMPTS: u32 = 100;

/// For so long the remote is asked for a commit where it does not answer. A request with the same key asks later, too.
const ASKED_MS: i64 = 24 * 3_600_000;

/// A commit that the forge made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    oid: ObjectId,
    /// As it was before the commit was found in the project's history.
    seen: RefState,
}

impl Engine {
    /// The commit that the forge made for an attempt, if our branch has it, or the remote's as it is known here.
    pub(super) async fn made_for(&self, attempt: &Attempt) -> Result<Option<Made>> {
        let Some(base) = attempt.base else { return Ok(None) };
        let seen = self.catalog.ref_state(attempt.project).await?;
        let ours = self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await?;
        let theirs = self.remote_head(attempt.project, &attempt.branch).await?;
        let tips: Vec<ObjectId> = ours.into_iter().chain(theirs).collect();
        // By all parents: others may have merged it into theirs.
        let since = self.compare(attempt.project, &tips, &[base]).await?.ours;
        for chunk in since.chunks(COMMITS) {
            for row in self.catalog.commits(chunk).await?.into_iter().flatten() {
                if is_made(&row, attempt)? {
                    return Ok(Some(Made { oid: row.oid, seen }));
                }
            }
        }
        Ok(None)
    }

    /// FINALIZED, with the commit that the forge made: our branch goes there unless it is there or past it, and the revisions that it holds
    /// are pending no more.
    pub(super) async fn take_made(&self, attempt: &Attempt, found: Made) -> Result<CommitAnswer> {
        let made = Attempt { commit: found.oid, push: true, ..attempt.clone() };
        let answer = self.answer_of(&made).await?;
        let text = to_store(&answer)?;
        let refs = self.refs_to_move(&made).await?;
        point("U5").await?;
        let op = self.begin_op(Some(made.project), OpKind::Refs).await?;
        let mut publish = self.finalization(&made, &op, Some(&text));
        // The fetch that showed the commit has said where the remote is.
        publish.remote_refs.clear();
        match refs {
            Some(refs) => publish.refs = refs,
            // Our branch has gone elsewhere: until a merge brings the commit, the edits are in view as pending work only.
            None => publish.clear_pending = None,
        }
        self.publish_kept(&publish, found.seen).await?;
        self.close_beside(&made).await;
        Ok(answer)
    }

    /// Closes what else the user has asked for on the same parent: no more of it can land.
    async fn close_beside(&self, made: &Attempt) {
        let of = Some((made.project, made.branch.as_str()));
        // What cannot be read now is left to housekeeping.
        let open = self.catalog.open_attempts(of, ATTEMPTS).await.unwrap_or_default();
        for mut other in open {
            if other.hosted && other.id != made.id && (other.user, other.base) == (made.user, made.base) {
                self.not_made(&mut other).await;
            }
        }
    }

    /// Closes an attempt whose commit the forge has not made and will not.
    pub(super) async fn not_made(&self, attempt: &mut Attempt) {
        if let Err(error) = self.step(attempt, AttemptState::Superseded, None).await {
            tracing::warn!(%error, attempt = %attempt.id, "an attempt that came to nothing is left to housekeeping");
        }
    }

    /// Settles an attempt that was left while the forge was asked, by looking at the remote with the configured credentials. While the commit
    /// may still show itself there, the attempt stays open, so that no edit that it has is undone without a trace.
    pub(crate) async fn settle_hosted(&self, attempt: &mut Attempt) -> Result<()> {
        // Whoever asks gives signs of life.
        let age_ms = self.ambient.now_ms().saturating_sub(attempt.updated_at_ms);
        if age_ms <= LEFT_AFTER_MS {
            // Whoever asked may be about to repeat it, and hears more if it has no key.
            return Ok(());
        }
        if self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await?.is_none() {
            // It was deleted here, and is not made again.
            return self.step(attempt, AttemptState::Superseded, None).await;
        }
        let project = self.find_project(&attempt.project.to_string()).await?;
        let over = match self.endpoint(&project, None) {
            None => true,
            Some(at) => match self.fetch_remote(&unbound(&project), &attempt.branch, &at, None, &()).await {
                Ok(_) => age_ms > LAG_MS,
                // Only the request had credentials: it looks by itself if it is repeated, and a sync may show the commit.
                Err(EngineError::RemoteAuth { .. }) => age_ms > ASKED_MS,
                Err(error) if age_ms <= ASKED_MS => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, attempt = %attempt.id, "a commit is looked for no more");
                    true
                }
            },
        };
        if let Some(made) = self.made_for(attempt).await? {
            return self.take_made(attempt, made).await.map(|_| ());
        }
        match over {
            true => self.step(attempt, AttemptState::Superseded, None).await,
            false => Ok(()),
        }
    }
}

/// Whether a commit is what an attempt asked for.
fn is_made(row: &CommitRow, attempt: &Attempt) -> Result<bool> {
    if row.tree != attempt.tree || row.parents.as_slice() != attempt.base.as_slice() {
        return Ok(false);
    }
    let asked = parse_commit(&attempt.raw).map_err(EngineError::internal)?;
    says(&row.raw, &String::from_utf8_lossy(&asked.message))
}

/// Whether a commit has the words of a message that the forge was asked for.
pub(super) fn says(raw: &[u8], message: &str) -> Result<bool> {
    let commit = parse_commit(raw).map_err(EngineError::internal)?;
    let (headline, body) = words(message);
    let expected = format!("{headline}\n\n{body}");
    Ok(commit.message.trim_ascii_end() == expected.trim_ascii_end().as_bytes())
}

/// Headline and body.
pub(super) fn words(message: &str) -> (String, String) {
    let message = message.trim_end();
    let (headline, body) = message.split_once('\n').unwrap_or((message, ""));
    (headline.trim_end().to_owned(), body.trim_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_words() {
        let raw = |message: &str| {
            let (tree, who) = ("4b825dc642cb6eb9a060e54bf8d69288fbee4904", "A <a@example.org> 1700000000 +0000");
            format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n{message}").into_bytes()
        };
        for (made, asked, same) in [
            ("Say it\n\nWhy.\n", "Say it\n\nWhy.", true),
            ("Say it\n\nWhy.", "Say it\nWhy.\n", true),
            ("Say it\n\nWhy not.\n", "Say it\n\nWhy.", false),
            ("Say it\n", "Say it", true),
        ] {
            assert_eq!(says(&raw(made), asked).expect("a commit"), same, "{made:?}, {asked:?}");
        }
    }
}
