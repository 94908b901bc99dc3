//! Time, ids and randomness, for the engine.

use std::time::{SystemTime, UNIX_EPOCH};

use treehold_engine::Ambient;
use uuid::Uuid;

/// The host's clock and randomness.
#[derive(Debug, Clone, Copy)]
pub struct Host;

impl Ambient for Host {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn uuid(&self) -> Uuid {
        // Version 7 sorts by time: rows of one time lie together in the index.
        Uuid::now_v7()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}
