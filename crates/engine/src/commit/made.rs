//! What became of commits that the forge was asked to make.
//!
//! Such an attempt stays PREPARED while the forge works: nothing of it is stored or pushed here, and the id of its commit is the forge's. What
//! it records is what we would have made; a commit on the same parent, with the same tree and the same words, is the one that was asked for.

use std::collections::{HashMap, HashSet};

use treehold_catalog::{Attempt, AttemptState, CommitRow, OpKind, RefState};
use treehold_fault::point;
use treehold_object::{ObjectId, parse_commit};
use uuid::Uuid;

use super::held::LEFT_AFTER_MS;
use super::machine::LAG_MS;
use super::request::to_store;
use super::waits::{Outlook, put_off};
use crate::api::CommitAnswer;
use crate::quota::unbound;
use crate::refs::{REF_CONFLICT, TRIES};
use crate::remote::Endpoint;
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// Commits read at a time.
const COMMITS: usize = 32;

/// For so long the remote is asked for a commit where it does not answer. A request with the same key asks later, too.
const ASKED_MS: i64 = 24 * 3_600_000;

/// A commit that the forge made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    oid: ObjectId,
    /// As it was before the commit was found in the project's history.
    seen: RefState,
}

/// What a round of housekeeping has seen of remotes, by project and branch: each is looked at once, however many ask.
#[derive(Debug, Default)]
pub(crate) struct Looked(HashMap<(Uuid, String), (i64, Sight)>);

/// What came of a look, which is told with its time, Unix milliseconds.
#[derive(Debug, Clone, Copy)]
enum Sight {
    /// The branch was fetched.
    Seen,
    /// The remote did not answer, or not to the credentials that are configured.
    Unseen,
    /// There is no remote.
    Nowhere,
}

impl Engine {
    /// The commit that the forge made for an attempt, if our branch has it, or the remote's as it is known here.
    pub(super) async fn made_for(&self, attempt: &Attempt) -> Result<Option<Made>> {
        Ok(self.made_for_all(&[attempt]).await?.pop().flatten())
    }

    /// The same of attempts on one branch, in the order given: it is walked once for all.
    async fn made_for_all(&self, asked: &[&Attempt]) -> Result<Vec<Option<Made>>> {
        let mut made = vec![None; asked.len()];
        let Some(Attempt { project, branch, .. }) = asked.first() else { return Ok(made) };
        let seen = self.catalog.ref_state(*project).await?;
        let Some(base) = self.lowest_base(*project, asked).await? else { return Ok(made) };
        let ours = self.catalog.reference(*project, &branch_ref(branch)).await?;
        let theirs = self.remote_head(*project, branch).await?;
        let tips: Vec<ObjectId> = ours.into_iter().chain(theirs).collect();
        // By all parents: others may have merged it into theirs.
        let since = self.compare(*project, &tips, &[base]).await?.ours;
        for chunk in since.chunks(COMMITS) {
            for row in self.catalog.commits(chunk).await?.into_iter().flatten() {
                for (attempt, made) in asked.iter().zip(&mut made) {
                    if made.is_none() && is_made(&row, attempt)? {
                        *made = Some(Made { oid: row.oid, seen });
                    }
                }
            }
            if made.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(made)
    }

    /// Of what attempts were made on, the commit of the lowest generation: it reaches nothing that was made on any of them, all of which is
    /// of a higher one.
    async fn lowest_base(&self, project: Uuid, of: &[&Attempt]) -> Result<Option<ObjectId>> {
        let mut bases: Vec<ObjectId> = of.iter().filter_map(|attempt| attempt.base).collect();
        bases.sort_unstable();
        bases.dedup();
        if bases.len() <= 1 {
            return Ok(bases.pop());
        }
        let mut known = self.known(project, &bases).await?;
        let mut lowest: Option<(u64, ObjectId)> = None;
        for base in bases {
            if let Some(row) = self.known_commit(&mut known, base).await?
                && lowest.is_none_or(|(generation, _)| row.generation < generation)
            {
                lowest = Some((row.generation, base));
            }
        }
        Ok(lowest.map(|(_, base)| base))
    }

    /// FINALIZED, with the commit that the forge made: our branch goes there unless it is there or past it, and the revisions that it holds
    /// are pending no more. Where our branch has gone elsewhere, it waits for the merge that brings the commit, as what we push does.
    pub(super) async fn take_made(&self, attempt: &Attempt, mut found: Made) -> Result<CommitAnswer> {
        for _ in 0..TRIES {
            match self.try_take_made(attempt, found).await {
                Err(EngineError::Conflict { code: "head_moved" | REF_CONFLICT, .. }) => {}
                taken => return taken,
            }
            // Something has moved since it was found: the remote's branch may have been set back, too.
            match self.made_for(attempt).await? {
                Some(again) => found = again,
                None => break,
            }
        }
        // That it was made is known: whoever comes by looks for it again, and nothing is to be planned anew.
        Err(EngineError::Busy)
    }

    async fn try_take_made(&self, attempt: &Attempt, found: Made) -> Result<CommitAnswer> {
        let made = Attempt { commit: found.oid, push: true, ..attempt.clone() };
        let answer = self.answer_of(&made).await?;
        let text = to_store(&answer)?;
        let refs = self.refs_to_move(&made).await?;
        point("U5").await?;
        let op = self.begin_op(Some(made.project), OpKind::Refs).await?;
        // The fetch that showed the commit has said where the remote is.
        let mut publish = self.finalization(&made, &op, Some(&text));
        match refs {
            Some(refs) => publish.refs = refs,
            None => put_off(&mut publish, found.oid),
        }
        if let Err(error) = self.publish_kept(&publish, found.seen).await {
            // Another engine that came by may have been faster.
            let known = self.catalog.attempt(made.id).await?;
            if !known.is_some_and(|known| known.state == AttemptState::Finalized || known.waits) {
                return Err(error);
            }
        }
        self.close_beside(&made).await;
        Ok(answer)
    }

    /// Takes what the forge has made, as far as it is known here, for whoever asked and did not hear of it. `true`: something was taken.
    pub(super) async fn take_all_made(&self, open: &[Attempt]) -> Result<bool> {
        let asked = |attempt: &&Attempt| attempt.hosted && attempt.state == AttemptState::Prepared;
        // Of two that asked for the same, the later one has the later revisions.
        let asked: Vec<&Attempt> = open.iter().rev().filter(asked).collect();
        let made = match self.made_for_all(&asked).await {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "whether GitHub made commits that were asked for cannot be seen");
                return Ok(false);
            }
        };
        let mut taken = HashSet::new();
        for (attempt, made) in asked.into_iter().zip(made) {
            // Of one parent no more than one can be made for a user, and what else they asked for is closed with it.
            let Some(made) = made.filter(|_| !taken.contains(&(attempt.user, attempt.base))) else { continue };
            match self.take_made(attempt, made).await {
                Ok(_) => {
                    taken.insert((attempt.user, attempt.base));
                }
                Err(error) => {
                    tracing::warn!(%error, attempt = %attempt.id, "a commit that GitHub made was not settled");
                }
            }
        }
        Ok(!taken.is_empty())
    }

    /// Closes what else the user has asked for on the same parent: no more of it can land.
    async fn close_beside(&self, made: &Attempt) {
        // What cannot be read now is left to housekeeping.
        let open = self.open_on(made.project, &made.branch).await.unwrap_or_default();
        for mut other in open {
            let asked = other.hosted && other.state == AttemptState::Prepared;
            if asked && other.id != made.id && (other.user, other.base) == (made.user, made.base) {
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
    pub(crate) async fn settle_hosted(&self, attempt: &mut Attempt, looked: &mut Looked) -> Result<()> {
        // Whoever asks gives signs of life.
        if self.ambient.now_ms().saturating_sub(attempt.updated_at_ms) <= LEFT_AFTER_MS {
            // Whoever asked may be about to repeat it, and hears more if it has no key.
            return Ok(());
        }
        if self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await?.is_none() {
            // It was deleted here, and is not made again.
            return self.step(attempt, AttemptState::Superseded, None).await;
        }
        let over = self.has_had_time(attempt, looked).await?;
        if let Some(made) = self.made_for(attempt).await? {
            return self.take_made(attempt, made).await.map(|_| ());
        }
        match over {
            true => self.step(attempt, AttemptState::Superseded, None).await,
            false => Ok(()),
        }
    }

    /// Ends the wait of an attempt for a merge if it need not wait any more, and remembers where its remote could not be seen.
    pub(crate) async fn end_wait_in_round(
        &self,
        attempt: &mut Attempt,
        at: Option<&Endpoint>,
        looked: &mut Looked,
    ) -> Result<()> {
        let of = (attempt.project, attempt.branch.clone());
        let mut outlook = match looked.0.get(&of) {
            Some((_, Sight::Unseen)) => Outlook::unseen(at),
            _ => Outlook::of(at),
        };
        self.end_wait(attempt, &mut outlook).await?;
        if outlook.is_unseen() {
            looked.0.insert(of, (self.ambient.now_ms(), Sight::Unseen));
        }
        Ok(())
    }

    /// Looks at the remote's branch of an attempt, unless that was done in this round. `true`: its commit would have shown itself by then.
    async fn has_had_time(&self, attempt: &Attempt, looked: &mut Looked) -> Result<bool> {
        let of = (attempt.project, attempt.branch.clone());
        let (at_ms, sight) = match looked.0.get(&of).copied() {
            Some(known) => known,
            None => {
                let new = (self.ambient.now_ms(), self.sight_of(attempt).await?);
                looked.0.insert(of, new);
                new
            }
        };
        let age_ms = at_ms.saturating_sub(attempt.updated_at_ms);
        Ok(match sight {
            Sight::Seen => age_ms > LAG_MS,
            // Only the request had credentials: it looks by itself if it is repeated, and a sync may show the commit.
            Sight::Unseen => age_ms > ASKED_MS,
            Sight::Nowhere => true,
        })
    }

    async fn sight_of(&self, attempt: &Attempt) -> Result<Sight> {
        let project = self.find_project(&attempt.project.to_string()).await?;
        let Some(at) = self.endpoint(&project, None) else { return Ok(Sight::Nowhere) };
        Ok(match self.fetch_remote(&unbound(&project), &attempt.branch, &at, None, &()).await {
            Ok(_) => Sight::Seen,
            Err(EngineError::RemoteAuth { .. }) => Sight::Unseen,
            Err(error) => {
                tracing::warn!(%error, project = %attempt.project, "a commit cannot be looked for at the remote");
                Sight::Unseen
            }
        })
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
