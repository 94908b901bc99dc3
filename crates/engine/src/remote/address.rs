//! Name resolution that gives out only addresses that may be connected to: what was checked is what is used.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::allow::is_public;

/// A name that stands for no public address. It travels inside the HTTP client's error.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no public address")]
pub(super) struct NoPublicAddress(String);

type Found = std::io::Result<Vec<SocketAddr>>;
type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync;

/// Asks the system and drops every address that is not public.
#[derive(Clone)]
pub(super) struct PublicResolver {
    lookup: Arc<Lookup>,
    /// [`is_public`], but in tests, which cannot reach public addresses.
    permits: fn(IpAddr) -> bool,
}

impl std::fmt::Debug for PublicResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicResolver")
    }
}

impl PublicResolver {
    /// Resolves as the system does.
    pub(super) fn system() -> Self {
        Self::new(is_public, |name| async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }

    /// Resolves by `lookup`, and gives out what `permits` lets through.
    pub(super) fn new<F: Future<Output = Found> + Send + 'static>(
        permits: fn(IpAddr) -> bool,
        lookup: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { lookup: Arc::new(move |name| Box::pin(lookup(name))), permits }
    }
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (found, permits) = ((self.lookup)(name.clone()), self.permits);
        Box::pin(async move {
            let public: Vec<SocketAddr> = found.await?.into_iter().filter(|found| permits(found.ip())).collect();
            if public.is_empty() {
                return Err(NoPublicAddress(name).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn resolve(resolver: &PublicResolver) -> Result<Vec<String>, String> {
        let found = resolver.resolve("name.example".parse().unwrap()).await;
        found.map(|found| found.map(|a| a.ip().to_string()).collect()).map_err(|error| error.to_string())
    }

    fn fixed(addresses: &'static [&'static str]) -> PublicResolver {
        PublicResolver::new(is_public, move |_| async move {
            Ok(addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect())
        })
    }

    #[tokio::test]
    async fn only_public_addresses_come_out() {
        let mixed = fixed(&["127.0.0.1", "140.82.121.3", "::1", "169.254.169.254", "2606:4700::1111"]);
        assert_eq!(resolve(&mixed).await.unwrap(), ["140.82.121.3", "2606:4700::1111"]);
        let tunnels = &["2002:7f00:1::1", "2001:0:7f00:1::1", "64:ff9b:1::7f00:1", "::127.0.0.1"][..];
        for private in [&["127.0.0.1"][..], &["::ffff:10.0.0.1", "64:ff9b::7f00:1"], tunnels, &[]] {
            assert_eq!(resolve(&fixed(private)).await.unwrap_err(), "name.example has no public address");
        }
    }

    #[tokio::test]
    async fn an_answer_that_changes_is_judged_again() {
        let calls = AtomicUsize::new(0);
        let flipping = PublicResolver::new(is_public, move |_| {
            let ip = ["140.82.121.3", "127.0.0.1"][calls.fetch_add(1, Ordering::SeqCst) % 2];
            async move { Ok(vec![SocketAddr::new(ip.parse().unwrap(), 0)]) }
        });
        assert!(resolve(&flipping).await.is_ok());
        assert!(resolve(&flipping).await.is_err());
    }

    #[tokio::test]
    async fn a_failing_resolver_opens_nothing() {
        let broken = PublicResolver::new(is_public, |_| async { Err(std::io::Error::other("SERVFAIL")) });
        assert_eq!(resolve(&broken).await.unwrap_err(), "SERVFAIL");
        assert_eq!(
            PublicResolver::system().resolve("localhost".parse().unwrap()).await.err().unwrap().to_string(),
            "localhost has no public address"
        );
    }
}
