//! The threads on which texts are searched: as many at a time as there are cores, in turns that all searches take.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::Semaphore;
use treehold_object::ObjectId;

use super::plan::Plan;
use super::text::{self, Hits};
use crate::tree::is_binary;
use crate::{EngineError, Result, blocking};

/// Texts for one turn, and what it may find in them, bytes: so that others come to theirs soon.
const TURN_BYTES: usize = 1 << 20;

/// What one text has.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It is not searched.
    Binary,
    /// Its matches, perhaps none.
    Hits(Arc<Hits>),
}

/// Ends the work for a search once nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who may search now.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new(cores)) }
    }
}

impl Turns {
    /// Searches texts, each from its start. What a turn finds is bounded, too: texts after that have no outcome yet.
    pub(super) async fn search(
        &self,
        plan: &Arc<Plan>,
        stop: &Stop,
        texts: Vec<(ObjectId, Bytes)>,
    ) -> Result<HashMap<ObjectId, Outcome>> {
        let turns = divided(texts).into_iter().map(|texts| {
            let plan = Arc::clone(plan);
            self.turn(stop, move |stop| {
                let mut outcomes = Vec::with_capacity(texts.len());
                let mut bytes = 0;
                for (oid, content) in texts {
                    if bytes >= TURN_BYTES || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = outcome(&plan, &content, stop)?;
                    if let Outcome::Hits(hits) = &outcome {
                        bytes += hits.list.iter().map(|(hit, _)| text::weight(hit)).sum::<usize>();
                    }
                    outcomes.push((oid, outcome));
                }
                Ok(outcomes)
            })
        });
        Ok(futures::future::try_join_all(turns).await?.into_iter().flatten().collect())
    }

    /// Searches one text from a point on.
    pub(super) async fn search_one(
        &self,
        plan: &Arc<Plan>,
        stop: &Stop,
        content: Bytes,
        from: u64,
    ) -> Result<Arc<Hits>> {
        let plan = Arc::clone(plan);
        self.turn(stop, move |stop| Ok(Arc::new(text::search(&plan, &content, from, stop)?))).await
    }

    /// A place is given back when the work has ended, whether or not somebody still waits for it.
    async fn turn<T: Send + 'static>(
        &self,
        stop: &Stop,
        work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(EngineError::internal)?;
        let stop = stop.flag();
        blocking(move || {
            let _place = place;
            work(&stop)
        })
        .await
    }
}

fn outcome(plan: &Plan, content: &Bytes, stop: &AtomicBool) -> Result<Outcome> {
    if !plan.include_binary && is_binary(content) {
        return Ok(Outcome::Binary);
    }
    Ok(Outcome::Hits(Arc::new(text::search(plan, content, 0, stop)?)))
}

/// Texts in portions of about [`TURN_BYTES`], a larger one alone.
fn divided(texts: Vec<(ObjectId, Bytes)>) -> Vec<Vec<(ObjectId, Bytes)>> {
    let mut portions: Vec<Vec<(ObjectId, Bytes)>> = Vec::new();
    let mut bytes = TURN_BYTES;
    for text in texts {
        if bytes >= TURN_BYTES {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += text.1.len();
        if let Some(portion) = portions.last_mut() {
            portion.push(text);
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: once a search is dropped, work that is under way ends, what waits for a place never begins, and all places are free again.
    #[tokio::test]
    async fn what_nobody_waits_for_ends() {
        let turns = Turns::default();
        let all = turns.places.available_permits();
        let (begun, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let stop = Stop::default();
        {
            let work = (0..all + 3).map(|_| {
                let begun = begun.clone();
                turns.turn(&stop, move |stop| {
                    begun.send(()).map_err(EngineError::internal)?;
                    // As long as it takes until it is told.
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(())
                })
            });
            let work = futures::future::join_all(work);
            tokio::pin!(work);
            for _ in 0..all {
                tokio::select! {
                    _ = &mut work => panic!("it ended by itself"),
                    seen = seen.recv() => assert!(seen.is_some()),
                }
            }
            assert_eq!(turns.places.available_permits(), 0);
        }
        drop((stop, begun));
        assert!(seen.recv().await.is_none(), "no more of it begins");
        while turns.places.available_permits() < all {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
