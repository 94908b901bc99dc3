//! What is known of each server, so that it is asked for its capabilities once, and never before a push to git's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use treehold_wire::Capabilities;

/// Servers remembered at most; then all are forgotten, which costs one question each.
const HOSTS_MAX: usize = 4_096;
/// A longer list of capabilities is asked for again, bytes: anybody's names may be as many hosts as they like, each of which says much.
const KEPT_BYTES_MAX: usize = 8 << 10;
/// What a word takes beside its bytes.
const WORD_BYTES: usize = 96;
/// Runs a patched git and needs no question at all.
const GITHUB: &str = "https://github.com";
/// What GitHub answers to `info/refs` in version 2.
const GITHUB_UPLOAD: [&[u8]; 4] =
    [b"agent=git/github", b"ls-refs=unborn", b"fetch=shallow filter", b"object-format=sha1"];
/// What `git-receive-pack` can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Receive {
    /// What git can.
    Git,
    /// What the server said.
    Offers(Arc<Capabilities>),
}

#[derive(Debug, Clone, Default)]
struct Facts {
    upload: Option<Arc<Capabilities>>,
    receive: Option<Arc<Capabilities>>,
}

/// What is known, by origin (scheme, host, port).
#[derive(Debug, Default)]
pub(super) struct Hosts {
    facts: Mutex<HashMap<String, Facts>>,
}

/// Whether a list is as short as those of servers are, which have some twenty words.
fn is_short(capabilities: &Capabilities) -> bool {
    capabilities.words().map(|word| word.len() + WORD_BYTES).sum::<usize>() <= KEPT_BYTES_MAX
}

/// Git itself, whatever version.
fn is_git(capabilities: &Capabilities) -> bool {
    capabilities.value("agent").is_some_and(|agent| agent.starts_with(b"git/"))
}

impl Hosts {
    /// What `git-upload-pack` can do there, in version 2.
    pub(super) fn upload(&self, origin: &str) -> Option<Arc<Capabilities>> {
        if origin == GITHUB {
            return Some(Arc::new(Capabilities::from_words(GITHUB_UPLOAD)));
        }
        self.lock().get(origin)?.upload.clone()
    }

    /// What `git-receive-pack` can do there.
    pub(super) fn receive(&self, origin: &str) -> Option<Receive> {
        if origin == GITHUB {
            return Some(Receive::Git);
        }
        let facts = self.lock().get(origin)?.clone();
        let git = facts.upload.is_some_and(|upload| is_git(&upload)).then_some(Receive::Git);
        facts.receive.map(Receive::Offers).or(git)
    }

    /// Remembers an answer for `git-upload-pack`.
    pub(super) fn learn_upload(&self, origin: String, capabilities: Capabilities) -> Arc<Capabilities> {
        let capabilities = Arc::new(capabilities);
        if is_short(&capabilities) {
            self.entry(origin, |facts| facts.upload = Some(capabilities.clone()));
        }
        capabilities
    }

    /// Remembers an answer for `git-receive-pack`.
    pub(super) fn learn_receive(&self, origin: String, capabilities: Capabilities) -> Arc<Capabilities> {
        let capabilities = Arc::new(capabilities);
        if is_short(&capabilities) {
            self.entry(origin, |facts| facts.receive = Some(capabilities.clone()));
        }
        capabilities
    }

    /// Asks again next time: the server did not do what it once said.
    pub(super) fn forget(&self, origin: &str) {
        self.lock().remove(origin);
    }

    /// The same for `git-receive-pack` alone.
    pub(super) fn forget_receive(&self, origin: &str) {
        if let Some(facts) = self.lock().get_mut(origin) {
            facts.receive = None;
        }
    }

    fn entry(&self, origin: String, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        if facts.len() >= HOSTS_MAX && !facts.contains_key(&origin) {
            facts.clear();
        }
        change(facts.entry(origin).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Facts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_needs_no_question_before_a_push_and_others_one() {
        let hosts = Hosts::default();
        assert_eq!(hosts.receive(GITHUB), Some(Receive::Git));
        assert!(hosts.upload(GITHUB).unwrap().has_feature("fetch", "shallow"));
        let (git, other) = ("https://git.example", "https://other.example:8443");
        assert!(hosts.receive(git).is_none() && hosts.upload(git).is_none());
        hosts.learn_upload(git.into(), Capabilities::from_words([&b"agent=git/2.47.3"[..]]));
        assert_eq!(hosts.receive(git), Some(Receive::Git));
        hosts.learn_upload(other.into(), Capabilities::from_words([&b"agent=dulwich/0.22"[..]]));
        assert_eq!(hosts.receive(other), None);
        let offered = hosts.learn_receive(other.into(), Capabilities::from_words([&b"report-status"[..]]));
        assert_eq!(hosts.receive(other), Some(Receive::Offers(offered)));
        hosts.forget_receive(other);
        assert!(hosts.receive(other).is_none() && hosts.upload(other).is_some());
        hosts.forget(other);
        assert!(hosts.upload(other).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let hosts = Hosts::default();
        for host in 0..HOSTS_MAX + 10 {
            hosts.learn_upload(host.to_string(), Capabilities::default());
        }
        assert!(hosts.lock().len() <= HOSTS_MAX);
        let (usual, long) = ("https://usual.example", "https://long.example");
        for (origin, words, kept) in [(usual, 50, true), (long, 100, false)] {
            let told = Capabilities::from_words(vec![&b"word"[..]; words]);
            assert!(hosts.learn_upload(origin.into(), told.clone()).has("word"));
            assert!(hosts.learn_receive(origin.into(), told).has("word"));
            assert_eq!((hosts.upload(origin).is_some(), hosts.receive(origin).is_some()), (kept, kept), "{origin}");
        }
    }
}
