//! Memory that an answer needs, found out while it is made.

use std::sync::{Arc, Mutex, PoisonError};

use treehold_engine::EngineError;

use super::memory::{Memory, Reserved};
use super::portions::Key;
use super::reserve_for;
use crate::error::Problem;

/// What one request has set aside. Kept until the answer is sent.
#[derive(Debug)]
pub(crate) struct Room {
    memory: Arc<Memory>,
    key: Key,
    /// Bytes of memory for a byte of content.
    factor: u64,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    memory: Option<Reserved>,
    refused: Option<Problem>,
}

impl Room {
    pub(super) fn new(memory: Arc<Memory>, key: Key, factor: u64) -> Self {
        Self { memory, key, factor, taken: Mutex::default() }
    }

    /// The problem that ended the verb: this one, if there was no room.
    pub(crate) fn explain(&self, problem: Problem) -> Problem {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).refused.take().unwrap_or(problem)
    }
}

impl treehold_engine::Room for Room {
    fn take(&self, bytes: u64) -> Result<(), EngineError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match reserve_for(&self.memory, self.key, taken.memory.as_ref(), bytes.saturating_mul(self.factor)) {
            Ok(more) => {
                match &mut taken.memory {
                    Some(memory) => memory.merge(more),
                    None => taken.memory = Some(more),
                }
                Ok(())
            }
            Err(problem) => {
                taken.refused = Some(problem);
                Err(EngineError::Busy)
            }
        }
    }
}
