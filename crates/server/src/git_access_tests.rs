//! Goal: a git client gets in with a key or a token as its password, and in no other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use tower::ServiceExt as _;
use treehold_engine::api::{NewToken, ProjectSpec, TokenSpec};
use treehold_engine::remote::{GitRemote, RemoteTimeouts};
use treehold_engine::{Ambient, Engine, EngineConfig, Limits};
use treehold_store::{MemoryBucket, ObjectStore, StoreOptions};

use super::*;
use crate::admission::{self, AdmissionConfig, Bounds, Class};
use crate::app::ServerConfig;

const KEYS: [&str; 2] = ["first:key", "second-key"];

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

pub(crate) struct Stage {
    pub(crate) app: App,
    clock: Arc<Clock>,
    pub(crate) project: Uuid,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(AdmissionConfig::default()).await
    }

    async fn set_with(admission: AdmissionConfig) -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("catalog.db").display());
        let catalog = treehold_catalog::open_catalog(&url).await.unwrap();
        catalog.migrate().await.unwrap();
        let spool_dir = directory.path().to_owned();
        let store = ObjectStore::new(Arc::new(MemoryBucket::new()), StoreOptions::new(spool_dir.clone()));
        let remote = GitRemote::new(Vec::new(), spool_dir.clone(), RemoteTimeouts::default()).unwrap();
        let config = EngineConfig {
            limits: Limits::default(),
            spool_dir,
            remote_token: None,
            author: ("T".to_owned(), "t@example.org".to_owned()),
            merge_attempts: 1,
            sole: true,
            tree_cache_bytes: 0,
            op_timeout: Duration::from_secs(60),
            feed: treehold_engine::FeedRetention::default(),
            key_grace: Duration::from_secs(3600),
        };
        let clock = Arc::new(Clock::default());
        let engine = Engine::new(catalog, store, Arc::new(remote), clock.clone(), config);
        let (project, _) = engine.create_project(None, &ProjectSpec::default()).await.unwrap();
        let api_keys = KEYS.iter().map(|key| Secret::new((*key).to_owned())).chain([Secret::new(String::new())]);
        let scoped = |key: &str, scopes: &str| (Secret::new(key.to_owned()), scopes.parse().unwrap());
        let scoped_keys = vec![scoped("git-key", "git:write"), scoped("admin-key", "admin")];
        let config = ServerConfig { api_keys: api_keys.collect(), scoped_keys, admission, ..ServerConfig::default() };
        Self { app: App::new(engine, config), clock, project: project.id, _directory: directory }
    }

    pub(crate) async fn token(&self, scopes: &str, lifetime: Option<Duration>) -> NewToken {
        let spec = TokenSpec { name: None, user: None, scopes: scopes.parse().unwrap(), lifetime };
        self.app.engine().create_token(&self.project.to_string(), &spec).await.unwrap()
    }

    /// What these `Authorization` headers open; `None` = 401.
    async fn access(&self, values: &[&str]) -> Option<GitAccess> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        match git_access(&self.app, &headers).await {
            Ok(access) => Some(access),
            Err(GitRefused::Unauthorized) => None,
            Err(GitRefused::Failed(problem)) => panic!("{problem:?}"),
        }
    }
}

fn basic(pair: &str) -> String {
    format!("Basic {}", BASE64.encode(pair))
}

/// What a git client is answered that asks this project for its refs.
async fn refs(router: axum::Router, project: &str, password: &str) -> Response {
    let request = http::Request::get(format!("/git/{project}.git/info/refs?service=git-upload-pack"));
    let request =
        request.header("git-protocol", "version=2").header("authorization", basic(&format!("git:{password}")));
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_key_opens_everything() {
    let stage = Stage::set().await;
    for user in ["", "x-access-token", "anybody", "\u{e9}"] {
        for key in KEYS {
            assert_eq!(
                stage.access(&[&basic(&format!("{user}:{key}"))]).await,
                Some(GitAccess::Key(Scopes::all())),
                "{user} {key}"
            );
        }
    }
    for same in
        [basic("u:second-key").replace("Basic ", "bAsIc  "), "Bearer second-key".into(), "bearer first:key".into()]
    {
        assert_eq!(stage.access(&[&same]).await, Some(GitAccess::Key(Scopes::all())), "{same}");
    }
}

#[tokio::test]
async fn a_token_opens_its_project() {
    let stage = Stage::set().await;
    let id = stage.project;
    for (scopes, read, write) in [
        ("git:read", true, false),
        ("git:write", true, true),
        ("git:read,admin", true, false),
        ("files:write,pending,admin", false, false),
    ] {
        let secret = stage.token(scopes, None).await.secret;
        for header in [basic(&format!("git:{}", secret.expose())), format!("Bearer {}", secret.expose())] {
            let got = stage.access(&[&header]).await.unwrap();
            assert_eq!(got, GitAccess::Project { id, scopes: scopes.parse().unwrap() });
            assert_eq!((got.knows(id), got.may_read(id), got.may_write(id)), (true, read, write));
            assert!(![got.knows(Uuid::nil()), got.may_read(Uuid::nil()), got.may_write(Uuid::nil())].contains(&true));
        }
        let as_user = basic(&format!("{}:", secret.expose()));
        assert_eq!(stage.access(&[&as_user]).await, None, "the user name says nothing");
    }
    let key = |scopes: &str| GitAccess::Key(scopes.parse().unwrap());
    assert!(key("git:write").may_read(id) && key("git:write").may_write(id) && !key("git:write").may_read_pending());
    assert!(!key("pending,files:write").may_read(id) && key("git:read,pending").may_read_pending());
}

#[tokio::test]
async fn tokens_that_ended_open_nothing() {
    let stage = Stage::set().await;
    let made = stage.token("git:write", Some(Duration::from_secs(1))).await;
    let header = format!("Bearer {}", made.secret.expose());
    assert!(stage.access(&[&header]).await.is_some());
    stage.clock.0.store(1000, Ordering::Relaxed);
    assert_eq!(stage.access(&[&header]).await, None, "expired");
    let made = stage.token("git:write", None).await;
    let header = format!("Bearer {}", made.secret.expose());
    assert!(stage.access(&[&header]).await.is_some());
    stage.app.engine().revoke_token(made.token.id).await.unwrap();
    assert_eq!(stage.access(&[&header]).await, None, "revoked");
}

#[tokio::test]
async fn nothing_else_opens_anything() {
    let stage = Stage::set().await;
    let right = basic("u:second-key");
    assert_eq!(stage.access(&[]).await, None);
    assert_eq!(stage.access(&[&right, &right]).await, None, "a repeated header");
    assert_eq!(stage.access(&["Basic x", &right]).await, None, "a repeated header");
    for wrong in [
        "",
        "Basic",
        "Basic ",
        "Bearer",
        "Bearer ",
        "second-key",
        "Digest second-key",
        "Basic second-key",
        "Basic !!!!",
        "Bearer second-key, Bearer second-key",
        "Bearer Second-Key",
        &basic("second-key"),
        &basic("u:"),
        &basic(":"),
        &basic("u:second-key\n"),
        &basic("second-key:u"),
        &basic("u:second-ke"),
        &basic("u:key"),
        &format!("Basic {}", BASE64.encode(b"u:\xff")),
    ] {
        assert_eq!(stage.access(&[wrong]).await, None, "{wrong:?}");
    }
}

#[tokio::test]
async fn who_is_refused_is_told_how_to_get_in() {
    let response = GitRefused::Unauthorized.into_response();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], r#"Basic realm="treehold", charset="UTF-8""#);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"), "git shows plain text");
    let body = to_bytes(response.into_body(), 1000).await.unwrap();
    assert!(std::str::from_utf8(&body).unwrap().contains("as the password"));
}

#[tokio::test]
async fn who_has_no_right_takes_no_place() {
    let light = Bounds::without_queue(1);
    let stage = Stage::set_with(AdmissionConfig { light, ..AdmissionConfig::for_cores(1) }).await;
    let (app, project) = (&stage.app, stage.project.to_string());
    let place = admission::enter(app.admission(), Class::Light, 1).await.unwrap();
    let full = refs(app.router(), &project, "second-key").await.status();
    assert!(matches!(full.as_u16(), 429 | 503), "no place is left: {full}");
    for (number, made_up) in ["wrong", "thd_", &format!("thd_{}", "x".repeat(43))].iter().enumerate() {
        for project in [&project, &format!("no-project-{number}")] {
            let refused = refs(app.router(), project, made_up).await;
            assert_eq!(refused.status(), 401, "{made_up}");
            assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        }
    }
    drop(place);
    assert_eq!(refs(app.router(), &project, "second-key").await.status(), 200);
    assert_eq!(refs(app.router(), "no-project", "second-key").await.status(), 404);
}
