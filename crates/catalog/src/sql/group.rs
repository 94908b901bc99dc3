//! Group commit: autosaves that arrive while others are being committed wait for the next transaction and share it.
//!
//! Nobody waits for company: a write that finds a free lane is committed at once, alone. Each is answered after the
//! commit that holds it. A caller that goes away does not take the others with it: the transaction runs in a task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::*;
use crate::error::CatalogError;
use crate::fault::run;
use crate::pending::{PendingOutcome, PendingWrite, WorkspaceKey};
use write::Write;

/// Writes in one transaction.
const SHARED_MAX: usize = 64;

type Answer = Result<PendingOutcome, CatalogError>;

/// A write and who waits for it.
struct Waiting {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// Writes that wait for a transaction.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Tasks that commit.
    running: usize,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

impl Group {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a write; whether a task is to be started for it.
    fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.state();
        state.waiting.push_back(waiting);
        let start = state.running < LANES;
        state.running += usize::from(start);
        start
    }
}

/// A task's place among those that commit.
struct Lane {
    group: Arc<Group>,
    ended: bool,
}

impl Lane {
    /// The writes of the next transaction. None: the task ends, and is counted out in the same moment, so that no write
    /// is left without one.
    fn next(&mut self) -> Vec<Waiting> {
        let mut state = self.group.state();
        let count = state.waiting.len().min(SHARED_MAX);
        if count == 0 {
            state.running -= 1;
            self.ended = true;
        }
        state.waiting.drain(..count).collect()
    }
}

impl Drop for Lane {
    /// A task that was cut off (its runtime ends, or it panics) makes room for the next one.
    fn drop(&mut self) {
        if !self.ended {
            self.group.state().running -= 1;
        }
    }
}

impl Db {
    pub(super) async fn write_grouped(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Answer {
        let write = Write::new(key, expected_revision, writes, now_ms)?;
        if !write.may_share() {
            return self.write_alone(&write).await;
        }
        let (answer, answered) = oneshot::channel();
        if self.group().push(Waiting { write, answer }) {
            let catalog = self.clone();
            let lane = Lane { group: self.group().clone(), ended: false };
            tokio::spawn(async move { catalog.commit_groups(lane).await });
        }
        answered.await.unwrap_or_else(|lost| {
            Err(CatalogError::Unavailable { action: "write pending work", source: Box::new(lost) })
        })
    }

    async fn write_alone(&self, write: &Write) -> Answer {
        let mut outcomes = run!("write pending work", self.write_once(std::slice::from_ref(write)))?;
        outcomes.pop().flatten().ok_or(CatalogError::NoProject)
    }

    async fn commit_groups(self, mut lane: Lane) {
        loop {
            let (writes, answers): (Vec<Write>, Vec<oneshot::Sender<Answer>>) =
                lane.next().into_iter().map(|waiting| (waiting.write, waiting.answer)).unzip();
            if writes.is_empty() {
                return;
            }
            match run!("write pending work", self.write_once(&writes)) {
                Ok(outcomes) => {
                    for (outcome, answer) in outcomes.into_iter().zip(answers) {
                        // Whoever does not listen any more has its write all the same.
                        let _ = answer.send(outcome.ok_or(CatalogError::NoProject));
                    }
                }
                // Perhaps one of them is at fault: let each have its own error, or none.
                Err(CatalogError::Failed { .. } | CatalogError::Invalid { .. }) => {
                    for (write, answer) in writes.iter().zip(answers) {
                        let _ = answer.send(self.write_alone(write).await);
                    }
                }
                Err(error) => refuse(error, answers),
            }
        }
    }
}

/// Tells everybody of one failure.
fn refuse(error: CatalogError, answers: Vec<oneshot::Sender<Answer>>) {
    let shared = Arc::new(error);
    for answer in answers {
        let source = Box::new(shared.clone());
        let _ = answer.send(Err(CatalogError::Unavailable { action: "write pending work", source }));
    }
}
