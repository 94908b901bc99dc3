//! The App: it proves with its key who it is (a JSON Web Token, RFC 7519, RS256), finds its installation on a repository, and has tokens
//! made for it that live an hour. They are kept in memory only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use treehold_engine::Secret;
use treehold_engine::remote::RemoteError;

use crate::client::{Answer, Call, GitHub, RENAMED, words};
use crate::place::{self, Repository};
use crate::{AppConfig, ConfigError};

/// Clocks that go differently must not make a proof of the future, seconds.
const BACKDATED_S: i64 = 60;
/// How long a proof lives; GitHub takes at most 10 minutes, seconds.
const PROOF_S: i64 = 9 * 60;
/// Tokens are renewed so long before their end: an operation that begins must be able to end.
const RENEWED_BEFORE_MS: i64 = 5 * 60_000;
/// How long it is believed that a repository has this installation.
const FOUND_MS: i64 = 10 * 60_000;
/// The same where it has none: somebody may be installing the App right now.
const MISSING_MS: i64 = 30_000;
/// How often the installation on a repository is looked for: what is remembered may be gone.
const LOOKS: usize = 2;
/// Repositories and installations remembered.
const REMEMBERED_MAX: usize = 10_000;

/// An App and its tokens.
pub(crate) struct App {
    id: String,
    key: RsaKeyPair,
    found: Mutex<HashMap<String, Found>>,
    tokens: Mutex<HashMap<u64, Slot>>,
}

/// The installation on a repository, or that there is none.
#[derive(Clone, Copy)]
struct Found {
    installation: Option<u64>,
    until_ms: i64,
}

type Slot = Arc<Making>;

/// Whoever holds what was made makes the token for all who wait.
#[derive(Default)]
struct Making {
    made: tokio::sync::Mutex<Made>,
    /// How often it failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct Made {
    minted: Option<Minted>,
    /// Why there is no newer one.
    failed: Option<RemoteError>,
}

struct Minted {
    token: Secret,
    until_ms: i64,
}

impl App {
    pub(crate) fn new(config: &AppConfig) -> Result<Self, ConfigError> {
        let unusable = |error: &dyn std::fmt::Display| ConfigError::Key(error.to_string());
        let pem = config.key_pem.expose().as_bytes();
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable(&"it is no PEM"))? {
            PrivateKeyDer::Pkcs1(key) => {
                RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|error| unusable(&error))?
            }
            PrivateKeyDer::Pkcs8(key) => {
                RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| unusable(&error))?
            }
            _ => return Err(unusable(&"it is no RSA key")),
        };
        Ok(Self { id: config.id.clone(), key, found: Mutex::default(), tokens: Mutex::default() })
    }

    /// The proof of who we are at `now_s`.
    fn proof(&self, now_s: i64) -> Result<Secret, RemoteError> {
        let part = |value: serde_json::Value| BASE64.encode(value.to_string());
        let claims = json!({"iat": now_s - BACKDATED_S, "exp": now_s + PROOF_S, "iss": self.id});
        let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| RemoteError::Failed("the App's key does not sign".into()))?;
        Ok(Secret::new(format!("{signed}.{}", BASE64.encode(signature))))
    }

    fn remembered(&self, repository: &str, now_ms: i64) -> Option<Option<u64>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(repository).filter(|found| found.until_ms > now_ms).map(|found| found.installation)
    }

    fn remember(&self, repository: String, installation: Option<u64>, now_ms: i64) {
        let until_ms = now_ms + if installation.is_some() { FOUND_MS } else { MISSING_MS };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED_MAX {
            found.clear();
        }
        found.insert(repository, Found { installation, until_ms });
    }

    fn forget(&self, repository: &str) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(repository);
    }

    fn slot(&self, installation: u64) -> Slot {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= REMEMBERED_MAX {
            tokens.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        tokens.entry(installation).or_default().clone()
    }
}

impl GitHub {
    /// The App's token for the repository of `url`. `None` = there is no App, or it is not installed there.
    pub(crate) async fn app_token(&self, url: &str) -> Result<Option<Secret>, RemoteError> {
        self.token_but(url, None).await
    }

    /// The same, after `refused` was not accepted: whoever comes first has a new one made, for all.
    pub(crate) async fn renew_app_token(&self, url: &str, refused: &Secret) -> Result<Option<Secret>, RemoteError> {
        self.token_but(url, Some(refused)).await
    }

    async fn token_but(&self, url: &str, refused: Option<&Secret>) -> Result<Option<Secret>, RemoteError> {
        let (Some(app), Some(repository)) = (&self.app, place::repository(&self.site, url)) else { return Ok(None) };
        for _ in 0..LOOKS {
            let Some(installation) = self.installation(app, &repository).await? else { return Ok(None) };
            if let Some(token) = self.token_of(app, installation, refused).await? {
                return Ok(Some(token));
            }
            // It was taken away, or installed anew, since we looked.
            app.forget(&repository.key());
        }
        Ok(None)
    }

    /// The installation's token, made if the one at hand is about to end or is the refused one. `None` = there is no such installation any more.
    /// Who waits for it has what comes of it, be it a failure: in trouble, GitHub is not asked by one after the other of them.
    async fn token_of(
        &self,
        app: &App,
        installation: u64,
        refused: Option<&Secret>,
    ) -> Result<Option<Secret>, RemoteError> {
        let slot = app.slot(installation);
        let failures = slot.failures.load(Ordering::Acquire);
        let mut made = slot.made.lock().await;
        let fresh = made.minted.as_ref().filter(|minted| {
            minted.until_ms - RENEWED_BEFORE_MS > self.ambient.now_ms()
                && refused.is_none_or(|refused| refused.expose() != minted.token.expose())
        });
        if let Some(fresh) = fresh {
            return Ok(Some(fresh.token.clone()));
        }
        if let Some(failed) = made.failed.as_ref().filter(|_| slot.failures.load(Ordering::Acquire) != failures) {
            return Err(same(failed));
        }
        match self.mint(app, installation).await {
            Ok(None) => Ok(None),
            Ok(Some(new)) => {
                let token = new.token.clone();
                *made = Made { minted: Some(new), failed: None };
                Ok(Some(token))
            }
            Err(error) => {
                made.failed = Some(same(&error));
                slot.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    async fn installation(&self, app: &App, repository: &Repository) -> Result<Option<u64>, RemoteError> {
        let (key, now_ms) = (repository.key(), self.ambient.now_ms());
        if let Some(known) = app.remembered(&key, now_ms) {
            return Ok(known);
        }
        let call = Call::new(Method::GET, vec!["repos", &repository.owner, &repository.name, "installation"]);
        let call = call.proved();
        let answer = self.exchange(&call, Some(&app.proof(now_ms / 1_000)?)).await?;
        let installation = match answer.status {
            200 => Some(
                answer.body["id"].as_u64().ok_or_else(|| RemoteError::Invalid("an installation without id".into()))?,
            ),
            404 => {
                tracing::info!(repository = key, "the GitHub App is not installed on a repository");
                None
            }
            _ => return Err(not_proved(&answer)),
        };
        app.remember(key, installation, now_ms);
        Ok(installation)
    }

    /// A new token; `None` = there is no such installation any more.
    async fn mint(&self, app: &App, installation: u64) -> Result<Option<Minted>, RemoteError> {
        let now_ms = self.ambient.now_ms();
        let id = installation.to_string();
        let call = Call::new(Method::POST, vec!["app", "installations", &id, "access_tokens"]);
        let call = call.json(json!({})).proved();
        let answer = self.exchange(&call, Some(&app.proof(now_ms / 1_000)?)).await?;
        match answer.status {
            201 => {}
            404 => return Ok(None),
            _ => return Err(not_proved(&answer)),
        }
        let token = answer.body["token"].as_str().map(|token| Secret::new(token.to_owned()));
        let until = answer.body["expires_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let (Some(token), Some(until)) = (token, until) else {
            return Err(RemoteError::Invalid("a token without its end".into()));
        };
        tracing::debug!(installation, until = %until, "a GitHub App token was made");
        Ok(Some(Minted { token, until_ms: until.as_millisecond() }))
    }
}

/// GitHub does not take the App for what it says it is, or has troubles of its own.
fn not_proved(answer: &Answer) -> RemoteError {
    let (status, said) = (answer.status, words(&answer.body));
    match status {
        401 | 403 => {
            tracing::error!(
                status,
                said,
                "GitHub refuses the App: check `github_app_id`, `github_app_key_file` and this clock"
            );
            RemoteError::Auth
        }
        301 | 302 | 307 | 308 => RemoteError::Failed(RENAMED.to_owned()),
        _ => RemoteError::Failed(format!("GitHub answers HTTP {status}: {said}")),
    }
}

/// The same failure, for somebody else.
fn same(error: &RemoteError) -> RemoteError {
    match error {
        RemoteError::Auth => RemoteError::Auth,
        RemoteError::Timeout => RemoteError::Timeout,
        RemoteError::Limited(wait_s) => RemoteError::Limited(*wait_s),
        RemoteError::Invalid(why) => RemoteError::Invalid(why.clone()),
        RemoteError::Failed(why) | RemoteError::Refused(why) => RemoteError::Failed(why.clone()),
        RemoteError::NotAllowed(_) | RemoteError::Spool(_) => RemoteError::Failed(error.to_string()),
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
