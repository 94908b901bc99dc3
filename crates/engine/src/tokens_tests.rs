use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::Ambient;
use crate::api::{ProjectSpec, Scope, Scopes};
use crate::properties::World;

/// A clock that tests move.
#[derive(Debug, Default)]
struct Clock(AtomicI64);

impl Ambient for Clock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

struct Stage {
    engine: Engine,
    clock: Arc<Clock>,
    _world: World,
}

impl Stage {
    /// With two projects, `one` and `two`.
    async fn set() -> Self {
        let world = World::new().await;
        let clock = Arc::new(Clock::default());
        let engine = Engine { ambient: clock.clone(), ..world.engine.clone() };
        for name in ["one", "two"] {
            let spec = ProjectSpec { name: Some(name.to_owned()), ..ProjectSpec::default() };
            engine.create_project(None, &spec).await.unwrap();
        }
        Self { engine, clock, _world: world }
    }

    async fn make(&self, project: &str, scope: Scope, lifetime: Option<Duration>) -> NewToken {
        let scopes = [scope].into_iter().collect();
        let spec = TokenSpec { name: Some("ci".to_owned()), user: None, scopes, lifetime };
        self.engine.create_token(project, &spec).await.unwrap()
    }

    async fn refused(&self, spec: TokenSpec) -> &'static str {
        self.engine.create_token("one", &spec).await.unwrap_err().code()
    }
}

fn spec() -> TokenSpec {
    TokenSpec { name: None, user: None, scopes: Scopes::all(), lifetime: None }
}

#[tokio::test]
async fn a_secret_opens_its_project_and_no_other_text_does() {
    let stage = Stage::set().await;
    let (read, write) = (stage.make("one", Scope::GitRead, None).await, stage.make("two", Scope::GitWrite, None).await);
    for made in [&read, &write] {
        let token = &made.token;
        let expected = Authorized {
            token: token.id,
            project: token.project.id,
            project_name: token.project.name.clone(),
            user: None,
            scopes: token.scopes,
            expires_at_ms: None,
        };
        assert_eq!(stage.engine.authorize_token(&made.secret).await.unwrap(), Some(expected));
    }
    assert_eq!((read.token.scopes.has(Scope::GitWrite), write.token.scopes.has(Scope::GitWrite)), (false, true));
    assert_ne!(read.token.project.id, write.token.project.id);
    let secret = read.secret.expose();
    let characters = secret.strip_prefix("thd_").unwrap();
    assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(characters).unwrap().len(), 32);
    assert_ne!(secret, write.secret.expose());
    assert!(!format!("{read:?}").contains(characters), "not even by accident");
    let hex: String = hash(&read.secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let other = format!("thd_{}", "A".repeat(43));
    let longer = format!("{secret}A");
    for wrong in ["", "thd_", characters, &secret[..46], &longer, &other, &hex, &secret.to_uppercase()] {
        let wrong = Secret::new(wrong.to_owned());
        assert_eq!(stage.engine.authorize_token(&wrong).await.unwrap(), None, "{}", wrong.expose());
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let stage = Stage::set().await;
    let made = stage.make("one", Scope::GitRead, Some(Duration::from_secs(90))).await;
    assert_eq!(made.token.expires_at.as_deref(), Some("1970-01-01T00:01:30.000Z"));
    for (now_ms, valid) in [(0, true), (89_999, true), (90_000, false), (i64::MAX, false)] {
        stage.clock.0.store(now_ms, Ordering::Relaxed);
        assert_eq!(stage.engine.authorize_token(&made.secret).await.unwrap().is_some(), valid, "{now_ms}");
        let listed = stage.engine.list_tokens(Some("one"), None, None).await.unwrap().tokens;
        assert_eq!(listed.iter().map(|token| token.expired).collect::<Vec<_>>(), [!valid], "{now_ms}");
    }
    let for_ever = TokenSpec { lifetime: Some(Duration::MAX), ..spec() };
    assert_eq!(stage.refused(for_ever).await, "bad_lifetime");
    assert_eq!(stage.refused(TokenSpec { lifetime: Some(Duration::ZERO), ..spec() }).await, "bad_lifetime");
}

#[tokio::test]
async fn tokens_are_listed_and_revoked() {
    let stage = Stage::set().await;
    let mut made = Vec::new();
    for project in ["one", "two", "one"] {
        made.push(stage.make(project, Scope::GitWrite, None).await);
    }
    let mut expected: Vec<_> = made.iter().map(|made| made.token.clone()).collect();
    expected.sort_by_key(|token| token.id);
    let first = stage.engine.list_tokens(None, None, Some(2)).await.unwrap();
    assert_eq!(first.tokens, expected[..2]);
    let rest = stage.engine.list_tokens(None, first.next_cursor.as_deref(), Some(2)).await.unwrap();
    assert_eq!((&rest.tokens[..], rest.next_cursor), (&expected[2..], None));
    let of_two = stage.engine.list_tokens(Some("two"), None, None).await.unwrap().tokens;
    assert_eq!(of_two, [made[1].token.clone()]);
    assert_eq!((of_two[0].name.as_deref(), of_two[0].project.name.as_deref()), (Some("ci"), Some("two")));

    stage.engine.revoke_token(made[0].token.id).await.unwrap();
    assert_eq!(stage.engine.authorize_token(&made[0].secret).await.unwrap(), None);
    assert!(stage.engine.authorize_token(&made[2].secret).await.unwrap().is_some());
    assert_eq!(stage.engine.revoke_token(made[0].token.id).await.unwrap_err().code(), "token_not_found");
    stage.engine.delete_project("one").await.unwrap();
    assert_eq!(stage.engine.authorize_token(&made[2].secret).await.unwrap(), None, "it goes with its project");
}

#[tokio::test]
async fn a_token_may_be_one_users() {
    let stage = Stage::set().await;
    let user = Some(Uuid::new_v4());
    let scopes = "files:write,pending".parse().unwrap();
    let made = stage.engine.create_token("one", &TokenSpec { user, scopes, ..spec() }).await.unwrap();
    assert_eq!((made.token.user, made.token.scopes), (user, scopes));
    let allowed = stage.engine.authorize_token(&made.secret).await.unwrap().unwrap();
    assert_eq!((allowed.user, allowed.scopes), (user, scopes));
}

#[tokio::test]
async fn what_makes_no_token_is_refused() {
    let stage = Stage::set().await;
    assert_eq!(stage.refused(TokenSpec { scopes: Scopes::default(), ..spec() }).await, "bad_scopes");
    for name in ["", "a\nb", &"n".repeat(201)] {
        assert_eq!(stage.refused(TokenSpec { name: Some(name.to_owned()), ..spec() }).await, "bad_name", "{name:?}");
    }
    let nowhere = stage.engine.create_token("three", &spec()).await.unwrap_err();
    assert_eq!(nowhere.code(), "project_not_found");
    assert_eq!(stage.engine.list_tokens(Some("three"), None, None).await.unwrap_err().code(), "project_not_found");
    assert_eq!(stage.engine.list_tokens(None, Some("x"), None).await.unwrap_err().code(), "bad_request");
    assert_eq!(stage.engine.list_tokens(None, None, None).await.unwrap().tokens, []);
}
