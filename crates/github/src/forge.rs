//! GitHub as the engine's forge.

use async_trait::async_trait;
use treehold_engine::api::{GithubFacts, PullChange, PullFilter, PullPage, PullSpec, PullView};
use treehold_engine::remote::{Delivery, Forge, ForgeSite, HostedCommit, Hosting, RemoteError, Reported};
use treehold_engine::{Result, Secret};

use crate::client::GitHub;
use crate::{place, webhook};

#[async_trait]
impl Forge for GitHub {
    fn has(&self, url: &str) -> bool {
        place::repository(&self.site, url).is_some()
    }

    async fn credentials(&self, url: &str) -> std::result::Result<Option<Secret>, RemoteError> {
        self.app_token(url).await
    }

    async fn renew(&self, url: &str, refused: &Secret) -> std::result::Result<Option<Secret>, RemoteError> {
        self.renew_app_token(url, refused).await
    }

    async fn open_pull(&self, at: &ForgeSite, head: &str, base: &str, spec: &PullSpec) -> Result<(PullView, bool)> {
        self.open(at, head, base, spec).await
    }

    async fn change_pull(&self, at: &ForgeSite, number: u64, change: &PullChange) -> Result<PullView> {
        self.change(at, number, change).await
    }

    async fn pulls(&self, at: &ForgeSite, filter: &PullFilter) -> Result<PullPage> {
        self.list(at, filter).await
    }

    async fn facts(&self, at: &ForgeSite, branch: &str) -> Result<GithubFacts> {
        self.facts_of(at, branch).await
    }

    async fn commit(&self, at: &ForgeSite, commit: &HostedCommit) -> Result<Hosting> {
        self.make(at, commit).await
    }

    fn takes_webhooks(&self) -> bool {
        self.webhook_secret.is_some()
    }

    fn read_webhook(&self, delivery: &Delivery<'_>) -> Result<Option<Reported>> {
        match &self.webhook_secret {
            Some(key) if webhook::is_signed(key, delivery) => webhook::reported(delivery).map(Some),
            _ => Ok(None),
        }
    }
}
