//! Keys, and who makes tokens.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use treehold_engine::Ambient;
use uuid::Uuid;

use super::*;
use crate::GitHubConfig;

const KEY: &str = include_str!("../../../tests/src/github/app-key.pem");
const BROKEN: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[derive(Debug)]
struct Clock;

impl Ambient for Clock {
    fn now_ms(&self) -> i64 {
        1_750_000_000_000
    }

    fn uuid(&self) -> Uuid {
        Uuid::nil()
    }

    fn random(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// An API that is out of order, and how often it was asked for tokens.
async fn out_of_order() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut request, mut part) = (Vec::<u8>::new(), [0_u8; 4_096]);
            while !request.ends_with(b"{}") {
                let len = stream.read(&mut part).await.unwrap();
                assert_ne!(len, 0, "a whole request");
                request.extend_from_slice(&part[..len]);
            }
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(BROKEN).await.unwrap();
        }
    });
    (origin, asked)
}

#[test]
fn a_key_that_is_none_is_refused_without_showing_it() {
    for pem in ["", "canary", "-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----\n"] {
        let config = AppConfig { id: "1".into(), key_pem: Secret::new(pem.into()) };
        let Err(error) = App::new(&config) else { panic!("{pem:?} is a key") };
        assert!(!error.to_string().contains("canary") && !error.to_string().contains("Y2Fu"), "{error}");
        assert!(!format!("{config:?}").contains("canary"));
    }
}

#[test]
fn a_renamed_repository_is_told_as_one() {
    let told = not_proved(&Answer { status: 301, body: Arc::default() }).to_string();
    assert!(told.contains("renamed") && told.contains("new URL"), "{told}");
}

/// Goal: GitHub in trouble is asked for a token once, however many wait for it; who comes later asks anew.
#[tokio::test]
async fn what_fails_fails_for_all_who_wait() {
    _ = rustls::crypto::ring::default_provider().install_default();
    let (origin, asked) = out_of_order().await;
    let app = AppConfig { id: "1".into(), key_pem: Secret::new(KEY.to_owned()) };
    let config = GitHubConfig { api_url: format!("{origin}/api/v3"), app: Some(app), webhook_secret: None };
    let github = GitHub::new(&config, Arc::new(Clock)).unwrap();
    let url = format!("{origin}/o/r");
    github.app.as_ref().unwrap().remember("o/r".to_owned(), Some(7), Clock.now_ms());
    // All of them begin before the answer is there: it is given by the same thread.
    let waiting = (0..8).map(|_| github.app_token(&url));
    for told in futures::future::join_all(waiting).await {
        assert!(matches!(told, Err(RemoteError::Failed(_))), "{told:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(github.app_token(&url).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
