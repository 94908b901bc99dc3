//! Group commit: autosaves that arrive while others are being committed wait for the next transaction and share it. What
//! they are judged by is read in the same way.
//!
//! Nobody waits for company: whoever finds a free lane goes at once, alone. A write is answered after the commit that
//! holds it. A caller that goes away does not take the others with it: the work runs in a task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::*;
use crate::cores;
use crate::error::CatalogError;
use crate::fault::run;
use crate::pending::{EditBase, EditSpot, PendingOutcome};
use write::Write;

/// Calls that are answered together.
const SHARED_MAX: usize = 64;

/// Queries at a time that read what writes are judged by: they go on beside the transaction that writes the ones before.
fn read_lanes() -> usize {
    (cores() / 2).clamp(2, 8)
}

/// Both kinds of calls that are grouped.
#[derive(Debug, Default)]
pub(super) struct Groups {
    writes: Arc<Group<Write, PendingOutcome>>,
    reads: Arc<Group<EditSpot, Option<EditBase>>>,
}

type Answer<A> = Result<A, CatalogError>;

/// A call and who waits for it.
struct Waiting<Q, A> {
    call: Q,
    answer: oneshot::Sender<Answer<A>>,
    /// The span that waits.
    span: Span,
}

/// Calls that wait for a lane.
struct Group<Q, A> {
    state: Mutex<State<Q, A>>,
}

struct State<Q, A> {
    waiting: VecDeque<Waiting<Q, A>>,
    /// Tasks that answer calls.
    running: usize,
}

impl<Q, A> Default for Group<Q, A> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), running: 0 }) }
    }
}

impl<Q, A> std::fmt::Debug for Group<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

impl<Q, A> Group<Q, A> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call; a lane, if one is free, in which it is to be answered.
    fn push(self: &Arc<Self>, call: Q, answer: oneshot::Sender<Answer<A>>, lanes: usize) -> Option<Lane<Q, A>> {
        let mut state = self.state();
        state.waiting.push_back(Waiting { call, answer, span: Span::current() });
        let start = state.running < lanes;
        state.running += usize::from(start);
        start.then(|| Lane { group: self.clone(), ended: false })
    }
}

/// A task's place among those that answer calls.
struct Lane<Q, A> {
    group: Arc<Group<Q, A>>,
    ended: bool,
}

impl<Q, A> Lane<Q, A> {
    /// The calls to answer next, and the span of the first one: what is done for all of them is traced there. None: the task ends, and
    /// is counted out in the same moment, so that no call is left without one.
    fn next(&mut self) -> (Vec<Q>, Vec<oneshot::Sender<Answer<A>>>, Span) {
        let mut state = self.group.state();
        let count = state.waiting.len().min(SHARED_MAX);
        if count == 0 {
            state.running -= 1;
            self.ended = true;
        }
        let span = state.waiting.front().map_or_else(Span::none, |first| first.span.clone());
        let (calls, answers) = state.waiting.drain(..count).map(|waiting| (waiting.call, waiting.answer)).unzip();
        (calls, answers, span)
    }
}

impl<Q, A> Drop for Lane<Q, A> {
    /// A task that was cut off (its runtime ends, or it panics) makes room for the next one.
    fn drop(&mut self) {
        if !self.ended {
            self.group.state().running -= 1;
        }
    }
}

impl Db {
    pub(super) async fn write_grouped(&self, write: Write) -> Answer<PendingOutcome> {
        if !write.may_share() {
            return self.write_alone(&write).await;
        }
        let (answer, answered) = oneshot::channel();
        let span = treehold_calls::span::catalog(SYSTEM, "wait for a shared transaction");
        if let Some(lane) = span.in_scope(|| self.groups().writes.push(write, answer, self.write_lanes())) {
            let catalog = self.clone();
            tokio::spawn(async move { catalog.commit_groups(lane).await });
        }
        answered.instrument(span).await.unwrap_or_else(|lost| Err(unavailable("write pending work", lost)))
    }

    async fn write_alone(&self, write: &Write) -> Answer<PendingOutcome> {
        let mut outcomes = run!("write pending work", self.write_once(std::slice::from_ref(write)))?;
        outcomes.pop().flatten().ok_or(CatalogError::NoProject)
    }

    async fn commit_groups(self, mut lane: Lane<Write, PendingOutcome>) {
        loop {
            let (writes, answers, span) = lane.next();
            if writes.is_empty() {
                return;
            }
            let written = async { run!("write pending work", self.write_once(&writes)) };
            match written.instrument(span).await {
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
                Err(error) => refuse("write pending work", error, answers),
            }
        }
    }

    pub(super) async fn edit_base_grouped(&self, spot: EditSpot) -> Answer<Option<EditBase>> {
        let (answer, answered) = oneshot::channel();
        let span = treehold_calls::span::catalog(SYSTEM, "wait for a shared read");
        if let Some(lane) = span.in_scope(|| self.groups().reads.push(spot, answer, read_lanes())) {
            let catalog = self.clone();
            tokio::spawn(async move { catalog.read_groups(lane).await });
        }
        answered.instrument(span).await.unwrap_or_else(|lost| Err(unavailable("read pending work", lost)))
    }

    async fn read_groups(self, mut lane: Lane<EditSpot, Option<EditBase>>) {
        loop {
            let (spots, answers, span) = lane.next();
            if spots.is_empty() {
                return;
            }
            let read = async { run!("read pending work", self.read_edit_bases(&spots)) };
            match read.instrument(span).await {
                Ok(bases) => {
                    for (base, answer) in bases.into_iter().zip(answers) {
                        let _ = answer.send(Ok(base));
                    }
                }
                // Perhaps one of them is at fault, by a name that the database does not take.
                Err(CatalogError::Failed { .. } | CatalogError::Invalid { .. }) => {
                    for (spot, answer) in spots.iter().zip(answers) {
                        let alone = run!("read pending work", self.read_edit_bases(std::slice::from_ref(spot)));
                        let _ = answer.send(alone.map(|mut bases| bases.pop().flatten()));
                    }
                }
                Err(error) => refuse("read pending work", error, answers),
            }
        }
    }
}

fn unavailable(action: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> CatalogError {
    CatalogError::Unavailable { action, source: Box::new(source) }
}

/// Tells everybody of one failure.
fn refuse<A>(action: &'static str, error: CatalogError, answers: Vec<oneshot::Sender<Answer<A>>>) {
    let shared = Arc::new(error);
    for answer in answers {
        let _ = answer.send(Err(unavailable(action, shared.clone())));
    }
}
