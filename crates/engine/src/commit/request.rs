//! Idempotency: a request is known by its key and the hash of its body, and its first final answer is repeated.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use treehold_catalog::{Claim, FinalAnswer, Project};
use treehold_object::ident::{self, Signature};
use uuid::Uuid;

use super::plan::Intent;
use crate::api::{Author, CommitAnswer, Oid};
use crate::{Engine, EngineError, Result};

const KEY_MAX: usize = 255;

/// An idempotency key with the hash of the request; without a key, nothing is remembered.
pub(crate) struct Key {
    pub key: Option<String>,
    body_sha256: [u8; 32],
}

impl Key {
    /// `verb` keeps two routes with equal bodies apart.
    pub fn new(key: Option<&str>, verb: &str, body: &impl Serialize) -> Result<Self> {
        if let Some(key) = key
            && (key.is_empty() || key.len() > KEY_MAX)
        {
            return Err(EngineError::BadRequest("The idempotency key must have 1 to 255 bytes.".to_owned()));
        }
        let mut sha256 = Sha256::new();
        sha256.update(verb.as_bytes());
        sha256.update([0]);
        sha256.update(serde_json::to_vec(body).map_err(EngineError::internal)?);
        Ok(Self { key: key.map(str::to_owned), body_sha256: sha256.finalize().into() })
    }

    /// For what is no request of its own.
    pub fn none() -> Self {
        Self { key: None, body_sha256: [0; 32] }
    }

    /// For a request that leaves nothing to remember.
    pub fn unused(self) -> Self {
        Self { key: None, ..self }
    }
}

/// What a key is known for.
pub(crate) enum Claimed {
    Open,
    Answered(Result<CommitAnswer>),
}

/// A final answer as stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored {
    Done(CommitAnswer),
    Rejected { attempt: Option<Uuid>, commit: Option<Oid>, message: String },
}

/// A commit's answer as it is stored.
pub(super) fn to_store(answer: &CommitAnswer) -> Result<String> {
    serde_json::to_string(&Stored::Done(answer.clone())).map_err(EngineError::internal)
}

impl Engine {
    /// What is known of a request: nothing, or the answer to it. A key that belongs to another one is refused.
    pub(crate) async fn claimed(&self, project: &Project, key: &Key) -> Result<Claim> {
        let Some(name) = &key.key else { return Ok(Claim::Open) };
        match self.catalog.claim(project.id, name, &key.body_sha256, self.ambient.now_ms()).await? {
            Claim::Reused => Err(EngineError::unprocessable(
                "idempotency_key_reused",
                "The idempotency key was used with another request; choose a new one.",
            )),
            known => Ok(known),
        }
    }

    pub(crate) async fn claim(&self, project: &Project, key: &Key) -> Result<Claimed> {
        match self.claimed(project, key).await? {
            Claim::Open | Claim::Reused => Ok(Claimed::Open),
            Claim::Answered(body) => match serde_json::from_str(&body).map_err(EngineError::internal)? {
                Stored::Done(answer) => Ok(Claimed::Answered(Ok(answer))),
                Stored::Rejected { attempt, commit, message } => {
                    if let Some(attempt) = attempt
                        && let Some(answer) = self.landed_after_all(attempt).await?
                    {
                        return Ok(Claimed::Answered(Ok(answer)));
                    }
                    let commit = commit.map(|oid| oid.0);
                    Ok(Claimed::Answered(Err(EngineError::PushRejected { attempt, commit, message })))
                }
            },
        }
    }

    /// Remembers a refusal that is final, so that the same request is answered alike.
    pub(crate) async fn remember(
        &self,
        project: &Project,
        key: &Key,
        outcome: Result<CommitAnswer>,
    ) -> Result<CommitAnswer> {
        if let (Some(key), Err(EngineError::PushRejected { attempt, commit, message })) = (&key.key, &outcome) {
            let stored = Stored::Rejected { attempt: *attempt, commit: commit.map(Oid), message: message.clone() };
            let body = serde_json::to_string(&stored).map_err(EngineError::internal)?;
            self.catalog.answer(project.id, &FinalAnswer { key: key.clone(), body }).await?;
        }
        outcome
    }

    /// Checks who commits and what they say, before anything else is looked at.
    pub(crate) fn intent(
        &self,
        project: &Project,
        branch: &str,
        message: &str,
        author: &Author,
        push: bool,
    ) -> Result<Intent> {
        let limit = self.config.limits.message_bytes;
        if message.len() > limit {
            return Err(EngineError::TooLarge { what: "the message", limit: limit as u64, unit: "bytes" });
        }
        if message.contains('\0') {
            return Err(EngineError::unprocessable("bad_message", "The message must not hold a NUL."));
        }
        if message.trim().is_empty() {
            return Err(EngineError::unprocessable("bad_message", "The message must not be empty."));
        }
        let now_ms = self.ambient.now_ms();
        let bad = |why: String| EngineError::unprocessable("bad_author", why);
        let (time_s, offset_minutes) = match &author.date {
            None => (now_ms.div_euclid(1000), 0),
            Some(date) => {
                ident::parse_date(date).map_err(|error| bad(format!("The author's date is refused: {error}.")))?
            }
        };
        let author_sig = Signature::new(&author.name, &author.email, time_s, offset_minutes)
            .map_err(|error| bad(format!("The author is refused: {error}.")))?;
        Ok(Intent {
            project: project.clone(),
            branch: branch.to_owned(),
            user: None,
            message: message.to_owned(),
            trailers: false,
            author: author_sig,
            push,
            idempotency_key: None,
            now_ms,
            dated: author.date.is_some(),
            given_up: Vec::new(),
        })
    }

    /// Whether a commit is pushed: as asked, else if there is a remote.
    pub(crate) async fn pushes(&self, project: &Project, branch: &str, asked: Option<bool>) -> Result<bool> {
        let pushes = match (asked, &project.remote_url) {
            (Some(true), None) => {
                return Err(EngineError::unprocessable("no_remote", "The project has no remote to push to."));
            }
            (asked, remote) => asked.unwrap_or(remote.is_some()),
        };
        match pushes && self.is_ephemeral(project, branch).await? {
            true if asked == Some(true) => Err(Self::stays_here()),
            stays => Ok(pushes && !stays),
        }
    }
}
