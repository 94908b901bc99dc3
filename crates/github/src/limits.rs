//! Who was asked to come back later. Until then GitHub is left alone: whoever goes on asking may be shut out for good ("Best practices for
//! using the REST API").

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use treehold_engine::Secret;

use crate::client::{Call, sha256};

/// Where GitHub does not say how long, seconds: what its documentation asks for.
const WAIT_S: u64 = 60;
/// A limit is believed for so long at most, seconds: those of requests are for an hour.
const WAIT_MAX_S: u64 = 3_600;
/// Limits remembered.
const REMEMBERED_MAX: usize = 1_000;

/// Who asks, and which API: each has limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    who: Who,
    graphql: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Nobody,
    /// By one of its proofs, each of which is another one.
    App,
    /// The SHA-256 of a token.
    Token([u8; 32]),
}

impl Asker {
    pub(crate) fn of(call: &Call<'_>, token: Option<&Secret>) -> Self {
        let who = match token {
            Some(_) if call.proved => Who::App,
            Some(token) => Who::Token(sha256(token.expose())),
            None => Who::Nobody,
        };
        Self { who, graphql: call.graphql }
    }
}

/// Until when, Unix milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<HashMap<Asker, i64>>);

impl Limits {
    /// How many seconds are left; `None` = GitHub may be asked.
    pub(crate) fn left_s(&self, asker: Asker, now_ms: i64) -> Option<u64> {
        let left_ms = u64::try_from(self.all().get(&asker)?.saturating_sub(now_ms)).ok()?;
        // More than was noted: the clock was set back.
        (1..=WAIT_MAX_S * 1_000).contains(&left_ms).then(|| left_ms.div_ceil(1_000))
    }

    /// GitHub asked to come back in so many seconds.
    pub(crate) fn note(&self, asker: Asker, wait_s: Option<u64>, now_ms: i64) {
        let wait_ms = wait_s.unwrap_or(WAIT_S).min(WAIT_MAX_S) * 1_000;
        let mut all = self.all();
        if all.len() >= REMEMBERED_MAX {
            all.retain(|_, until_ms| *until_ms > now_ms);
        }
        if all.len() < REMEMBERED_MAX {
            all.insert(asker, now_ms.saturating_add_unsigned(wait_ms));
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Asker, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_750_000_000_000;

    fn token(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_limit_is_of_one_asker_and_ends() {
        let (limits, call) = (Limits::default(), Call::get(vec!["user"]));
        let one = Asker::of(&call, Some(&token("one")));
        limits.note(one, Some(90), NOW_MS);
        assert_eq!(limits.left_s(one, NOW_MS), Some(90));
        assert_eq!(limits.left_s(one, NOW_MS + 88_001), Some(2));
        assert_eq!(limits.left_s(one, NOW_MS + 90_000), None);
        assert_eq!(limits.left_s(one, NOW_MS - 1), Some(91));
        assert_eq!(limits.left_s(one, NOW_MS - 3_600_000), None, "the clock was set back");
        let graphql = Call::graphql("{}", serde_json::Value::Null);
        let others =
            [Asker::of(&call, Some(&token("two"))), Asker::of(&call, None), Asker::of(&graphql, Some(&token("one")))];
        for other in others {
            assert_eq!(limits.left_s(other, NOW_MS), None);
        }
        limits.note(one, Some(0), NOW_MS);
        assert_eq!(limits.left_s(one, NOW_MS), None, "it may be asked at once");
        limits.note(one, None, NOW_MS);
        assert_eq!(limits.left_s(one, NOW_MS), Some(60));
        limits.note(one, Some(86_400), NOW_MS);
        assert_eq!(limits.left_s(one, NOW_MS), Some(3_600));
    }

    #[test]
    fn all_proofs_are_the_apps() {
        let (limits, proved) = (Limits::default(), Call::get(vec!["app"]).proved());
        limits.note(Asker::of(&proved, Some(&token("now"))), Some(9), NOW_MS);
        assert_eq!(limits.left_s(Asker::of(&proved, Some(&token("later"))), NOW_MS), Some(9));
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let (limits, call) = (Limits::default(), Call::get(vec!["user"]));
        let asker = |n: usize| Asker::of(&call, Some(&token(&n.to_string())));
        for n in 0..=REMEMBERED_MAX {
            limits.note(asker(n), Some(1), NOW_MS);
        }
        assert_eq!(limits.all().len(), REMEMBERED_MAX);
        limits.note(asker(REMEMBERED_MAX), Some(1), NOW_MS + 1_000);
        assert_eq!(limits.all().len(), 1, "what has ended makes room");
    }
}
