//! Where the server is, and how it is spoken with.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use crate::error::{Error, Result};

/// A key, a token or a password of a remote: shown by nothing, in no error.
#[derive(Clone)]
pub struct Secret(HeaderValue);

impl Secret {
    /// Takes the secret over. Refused is what cannot stand in a header.
    pub fn new(text: &str) -> Result<Self> {
        Self::header(text)
    }

    fn header(text: &str) -> Result<Self> {
        let unfit = |_| Error::Usage("a key or token cannot hold line ends or other control characters".to_owned());
        let mut value = HeaderValue::from_str(text.trim()).map_err(unfit)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What goes with every request.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) name: HeaderName,
    pub(crate) secret: Secret,
}

/// Where the server is, and how it is spoken with.
///
/// `http://` is taken for every host, since a server often stands behind a proxy of its own network; the key then crosses that network as
/// it is. Over what others can listen to, use `https://`.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) base_url: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) silence: Duration,
    pub(crate) connect: Duration,
    pub(crate) retries: u32,
    pub(crate) pause_max: Duration,
    pub(crate) proxies: bool,
}

impl Options {
    /// A server, such as `https://store.example.org`; a path is kept, as a proxy may have one.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            credential: None,
            silence: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            retries: 4,
            pause_max: Duration::from_secs(20),
            proxies: true,
        }
    }

    /// Sent as `X-Internal-API-Key`: one of the server's keys.
    pub fn key(mut self, key: &str) -> Result<Self> {
        let name = HeaderName::from_static("x-internal-api-key");
        self.credential = Some(Credential { name, secret: Secret::new(key)? });
        Ok(self)
    }

    /// Sent as `Authorization: Bearer`: what `treehold token create` made.
    pub fn token(mut self, token: &str) -> Result<Self> {
        let secret = Secret::header(&format!("Bearer {}", token.trim()))?;
        self.credential = Some(Credential { name: AUTHORIZATION, secret });
        Ok(self)
    }

    /// How long nothing may come before an attempt has failed; 30 s if not given. Calls that wait for a remote get 5 minutes at least, and
    /// what is sent gets a second more for each 64 KiB.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// How long making a connection may take; 10 s if not given.
    pub fn connect_within(mut self, connect: Duration) -> Self {
        self.connect = connect;
        self
    }

    /// Attempts after the first one, for calls that are safe to repeat; 4 if not given.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Longest pause between attempts, also where the server asks for a longer one; 20 s if not given.
    pub fn pause_at_most(mut self, pause: Duration) -> Self {
        self.pause_max = pause;
        self
    }

    /// Speaks with the server itself, whatever proxies the system names (`HTTPS_PROXY` …).
    pub fn no_proxy(mut self) -> Self {
        self.proxies = false;
        self
    }

    /// The base without a slash at its end.
    pub(crate) fn base(&self) -> Result<String> {
        let wrong = |why: &str| Error::Usage(format!("the server's URL {why}"));
        let url =
            Url::parse(&self.base_url).map_err(|_| wrong("is none: give one such as https://store.example.org"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("must begin with https:// or http://, and name a host"));
        }
        // They would stand in logs and error messages.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold a user name or password: give a key or a token"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must end with its path"));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_by_nothing() {
        let options = Options::new("http://h").key("c4nary").unwrap();
        let token = Options::new("http://h").token("c4nary\n").unwrap();
        let shown = format!("{options:?} {token:?} {:?}", Secret::new("c4nary").unwrap());
        assert!(!shown.contains("c4nary"), "{shown}");
        let refused = Options::new("http://h").key("c4nary\nx").unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("c4nary"));
        assert_eq!(token.credential.unwrap().secret.value(), "Bearer c4nary");
    }

    #[test]
    fn a_base_is_a_plain_url() {
        let base = |url: &str| Options::new(url).base();
        assert_eq!(base("http://127.0.0.1:3001/").unwrap(), "http://127.0.0.1:3001");
        assert_eq!(base("https://h/store/").unwrap(), "https://h/store");
        for url in [
            "",
            "h:3001",
            "localhost",
            "ftp://h",
            "file:///x",
            "https://u@h",
            "https://u:c4nary@h",
            "http://h?x",
            "http://h#x",
        ] {
            let error = base(url).unwrap_err();
            assert!(matches!(error, Error::Usage(_)) && !error.to_string().contains("c4nary"), "{url}: {error}");
        }
    }
}
