//! What tokens open, remembered for a moment: so that a request costs no query of its own, and a revoked token ends all the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use treehold_engine::api::Authorized;
use treehold_engine::{Engine, EngineError, Secret};

use crate::app::App;
use crate::auth::digest;
use crate::error::Problem;

/// How long an answer counts: a token that is revoked is refused that much later, at most.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Answers that are kept, those about secrets that open nothing among them.
const ENTRIES_MAX: usize = 4_096;
/// Looked up at once. Whoever has no right to anything waits here, and not among the requests at work.
const LOOKUPS_MAX: usize = 16;

/// How long a lookup waits for its turn; then 503.
const PATIENCE: Duration = Duration::from_secs(5);

type Found = Option<Arc<Authorized>>;

/// What tokens open, by the hash of their secret.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<[u8; 32], (Instant, Found)>>,
    lookups: Semaphore,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), lookups: Semaphore::new(LOOKUPS_MAX) }
    }

    /// What this secret opens now.
    pub(crate) async fn find(&self, app: &App, secret: &Secret) -> Result<Found, Problem> {
        if !Engine::is_token(secret.expose()) {
            return Ok(None);
        }
        let hash = digest(secret.expose().as_bytes());
        let found = match self.recall(&hash, Instant::now()) {
            Some(found) => found,
            None => self.look_up(app, secret, hash).await?,
        };
        // Time goes on while an answer is remembered.
        let now_ms = app.engine().token_clock_ms();
        Ok(found.filter(|token| token.expires_at_ms.is_none_or(|end_ms| end_ms > now_ms)))
    }

    /// The same for git, whose next request after a revocation is refused: only what opens nothing is remembered.
    pub(crate) async fn find_now(&self, app: &App, secret: &Secret) -> Result<Found, Problem> {
        if !Engine::is_token(secret.expose()) {
            return Ok(None);
        }
        let hash = digest(secret.expose().as_bytes());
        if self.is_in_vain(&hash) {
            return Ok(None);
        }
        let _turn = self.turn().await?;
        // Whoever came first may have asked already.
        if self.is_in_vain(&hash) {
            return Ok(None);
        }
        let asked = Instant::now();
        let found = app.reading(app.engine().authorize_token(secret)).await?.map(Arc::new);
        if found.is_none() {
            self.remember(hash, asked, None);
        }
        Ok(found)
    }

    /// Whether a secret opened nothing a moment ago.
    fn is_in_vain(&self, hash: &[u8; 32]) -> bool {
        self.recall(hash, Instant::now()).is_some_and(|found| found.is_none())
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = timeout(PATIENCE, self.lookups.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| EngineError::Busy.into())
    }

    async fn look_up(&self, app: &App, secret: &Secret, hash: [u8; 32]) -> Result<Found, Problem> {
        let _turn = self.turn().await?;
        // Whoever came first may have asked already.
        if let Some(found) = self.recall(&hash, Instant::now()) {
            return Ok(found);
        }
        // It counts from before it was asked for.
        let asked = Instant::now();
        let found = app.reading(app.engine().authorize_token(secret)).await?.map(Arc::new);
        self.remember(hash, asked, found.clone());
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Instant, Found)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, hash: &[u8; 32], now: Instant) -> Option<Found> {
        let known = self.lock();
        let (asked, found) = known.get(hash)?;
        (now.duration_since(*asked) < REMEMBERED).then(|| found.clone())
    }

    fn remember(&self, hash: [u8; 32], asked: Instant, found: Found) {
        let mut known = self.lock();
        if known.len() >= ENTRIES_MAX {
            known.retain(|_, (before, _)| asked.duration_since(*before) < REMEMBERED);
        }
        // Made-up secrets do not crowd out those that open something.
        if known.len() >= ENTRIES_MAX {
            known.retain(|_, (_, found)| found.is_some());
        }
        if known.len() >= ENTRIES_MAX {
            known.clear();
        }
        known.insert(hash, (asked, found));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::auth::git_access_tests::Stage;

    fn made_up() -> Secret {
        Secret::new(format!("thd_{}", "x".repeat(43)))
    }

    #[test]
    fn answers_are_remembered_for_a_moment() {
        let (tokens, asked) = (Tokens::new(), Instant::now());
        tokens.remember([1; 32], asked, None);
        assert_eq!(tokens.recall(&[1; 32], asked), Some(None));
        assert_eq!(tokens.recall(&[2; 32], asked), None);
        assert_eq!(tokens.recall(&[1; 32], asked + REMEMBERED - Duration::from_millis(1)), Some(None));
        assert_eq!(tokens.recall(&[1; 32], asked + REMEMBERED), None);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        for number in 0..3 * ENTRIES_MAX {
            tokens.remember(digest(&number.to_le_bytes()), now, None);
            assert!(tokens.lock().len() <= ENTRIES_MAX);
        }
        let newest = digest(&(3 * ENTRIES_MAX - 1).to_le_bytes());
        assert_eq!(tokens.recall(&newest, now), Some(None));
    }

    #[tokio::test]
    async fn for_git_only_what_opens_nothing_is_remembered() {
        let stage = Stage::set().await;
        let (app, tokens) = (&stage.app, stage.app.tokens());
        let made = stage.token("git:read", None).await;
        assert!(tokens.find_now(app, &made.secret).await.unwrap().is_some());
        assert!(tokens.lock().is_empty());
        assert!(tokens.find_now(app, &made_up()).await.unwrap().is_none());
        let kept: Vec<bool> = tokens.lock().values().map(|(_, found)| found.is_some()).collect();
        assert_eq!(kept, [false]);
        // What the other routes remember is not for git.
        assert!(tokens.find(app, &made.secret).await.unwrap().is_some());
        app.engine().revoke_token(made.token.id).await.unwrap();
        assert!(tokens.find_now(app, &made.secret).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn git_waits_for_its_turn_with_all_others() {
        let stage = Stage::set().await;
        let (app, tokens) = (&stage.app, stage.app.tokens());
        let secret = stage.token("git:read", None).await.secret;
        let turns = tokens.lookups.acquire_many(LOOKUPS_MAX as u32).await.unwrap();
        for secret in [&secret, &made_up()] {
            assert!(tokens.find_now(app, secret).now_or_never().is_none());
        }
        let short = Secret::new("thd_".to_owned());
        assert!(tokens.find_now(app, &short).await.unwrap().is_none(), "what is no token is not looked up");
        drop(turns);
        assert!(tokens.find_now(app, &secret).await.unwrap().is_some());
    }
}
