//! A remote that does as a test says, once each.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use treehold_engine::Remote;
use treehold_engine::remote::{Endpoint, FetchSpec, Fetching, GitRemote, PushSpec, Pushed, RemoteError, RemoteRefs};

use crate::life::Deed;
use crate::people::Done;

pub struct Staged {
    inner: GitRemote,
    /// While the next push is on its way, somebody commits.
    pub meanwhile: Mutex<Option<Deed<Done>>>,
    /// What the next look at its refs shows in the place of what they are.
    pub past: Mutex<Option<RemoteRefs>>,
    /// The answer to the next push is lost.
    pub loses: Mutex<bool>,
}

impl Staged {
    pub fn new(inner: GitRemote) -> Staged {
        Staged { inner, meanwhile: Mutex::default(), past: Mutex::default(), loses: Mutex::default() }
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").finish_non_exhaustive()
    }
}

#[async_trait]
impl Remote for Staged {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.inner.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.inner.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let past = self.past.lock().expect("a lock").take();
        match past {
            Some(past) => Ok(past),
            None => self.inner.refs(at, prefixes).await,
        }
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        self.inner.fetch(at, spec).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        let meanwhile = self.meanwhile.lock().expect("a lock").take();
        if let Some(meanwhile) = meanwhile {
            let done = meanwhile.await;
            assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");
        }
        let pushed = self.inner.push(at, spec).await;
        match std::mem::take(&mut *self.loses.lock().expect("a lock")) {
            true => Pushed::Unknown("the answer is lost".to_owned()),
            false => pushed,
        }
    }
}
