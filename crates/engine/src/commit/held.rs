//! Signs of life of a commit under way.
//!
//! Whoever looks for what was left behind goes by the time at which an attempt was last changed. An upload, a push, or waiting for another
//! one, may take longer than that: meanwhile the attempt, and the operation that keeps its objects, show that somebody is at work.

use std::future::Future;

use futures::future::{Either, select};
use treehold_catalog::Attempt;
use treehold_catalog::AttemptState::{Prepared, Pushing, Stored, Unknown};
use uuid::Uuid;

use crate::writer::HEARTBEAT;
use crate::{Engine, EngineError, Result};

/// An attempt without a sign of life for so long belongs to nobody: whoever comes to it goes on with it.
pub(crate) const LEFT_AFTER_MS: i64 = 120_000;

impl Engine {
    /// Does a part of an attempt's work, and shows meanwhile that it is not left.
    pub(crate) fn held<T>(&self, attempt: &mut Attempt, work: impl Future<Output = T>) -> impl Future<Output = T> {
        // On the heap: parts of a commit lie in each other, and all of them would be on the stack.
        let mut work = Box::pin(work);
        async move {
            let mut ours = true;
            loop {
                if let Ok(done) = tokio::time::timeout(HEARTBEAT, &mut work).await {
                    return done;
                }
                if !ours {
                    continue;
                }
                // Both at once: the work may hold the connection that the sign waits for. A sign that was begun must come to its end, or
                // nobody would know the attempt's fence.
                let beat = std::pin::pin!(self.beat(attempt));
                match select(&mut work, beat).await {
                    Either::Left((done, beat)) => {
                        beat.await;
                        return done;
                    }
                    Either::Right((still, _)) => ours = still,
                }
            }
        }
    }

    /// The same under an operation.
    pub(crate) fn held_under<T>(
        &self,
        op: Uuid,
        attempt: &mut Attempt,
        work: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.kept_alive(op, self.held(attempt, work))
    }

    /// `false`: another engine has taken the attempt over. Ours learns it from its own next step.
    async fn beat(&self, attempt: &mut Attempt) -> bool {
        let (state, error) = (attempt.state, attempt.last_error.clone());
        // Nobody takes what waits for its user for left, and what is over has no life.
        if !matches!(state, Prepared | Stored | Pushing | Unknown) {
            return true;
        }
        match self.step(attempt, state, error).await {
            Ok(()) => true,
            Err(error) => {
                let known = self.catalog.attempt(attempt.id).await;
                // The answer to a sign may be lost, this one's or that of the one before. Our own signs change nothing but the fence.
                if let Ok(Some(known)) = &known
                    && known.state == attempt.state
                    && known.fence == attempt.fence + 1
                {
                    attempt.fence = known.fence;
                    return true;
                }
                tracing::warn!(%error, attempt = %attempt.id, "an attempt could not show that it is not left");
                !matches!(error, EngineError::Busy)
            }
        }
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
