//! What a forge does for a project: pull requests, facts about the remote, and word of what moved there.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use treehold_catalog::{Project, RemoteHint, RemoteReport};

use crate::api::{OpenedPull, PullChange, PullFilter, PullPage, PullSpec, PullView, RemoteView};
use crate::remote::forge::{Delivery, ForgeSite, Reported, not_github};
use crate::remote::{Keyed, Secret};
use crate::view::{branch_ref, check_branch};
use crate::{Engine, EngineError, Result};

/// How long deliveries are remembered: longer than a forge offers to send them again.
const DELIVERIES_KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Nobody proved to have sent it; nothing happened.
    Unsigned,
    /// The forge tries whether anybody is there.
    Ping,
    /// Projects were told.
    Noted,
    /// It came before; nothing happened.
    Repeated,
    /// It means nothing here.
    Ignored,
}

impl Engine {
    /// The same engine with a forge, whose credentials count for its repositories where a request brings none.
    #[must_use]
    pub fn with_forge(&self, forge: std::sync::Arc<dyn crate::remote::Forge>) -> Self {
        let fallback = self.config.remote_token.clone();
        let keyed = Keyed { remote: self.remote.clone(), forge: forge.clone(), fallback };
        Self { remote: std::sync::Arc::new(keyed), forge, ..self.clone() }
    }

    /// The configured credentials for a remote; `None` also where the forge finds its own when they are needed.
    pub(crate) fn configured_credentials(&self, url: &str) -> Option<Secret> {
        self.config.remote_token.clone().filter(|_| !self.forge.has(url))
    }

    /// The project's repository at the forge, if it is among the remotes that the server may use.
    pub(crate) fn site(&self, project: &Project, token: Option<Secret>) -> Result<ForgeSite> {
        let no_remote =
            || EngineError::unprocessable("no_remote", "The project has no remote; create it with one.".to_owned());
        let url = project.remote_url.clone().ok_or_else(no_remote)?;
        if !self.forge.has(&url) {
            return Err(not_github());
        }
        // An operator may have brought the project in from anywhere, or have narrowed the list since.
        self.remote.check_url(&url)?;
        Ok(ForgeSite { url, token, fallback: self.config.remote_token.clone() })
    }

    /// Opens a pull request for a branch that was pushed. Where one is open for the same branches, that is the answer.
    pub async fn open_pull(&self, project: &str, spec: &PullSpec, credentials: Option<Secret>) -> Result<OpenedPull> {
        let project = self.find_project(project).await?;
        let head = Self::branch_name(&project, spec.head.as_deref())?;
        let base = Self::branch_name(&project, spec.base.as_deref())?;
        let at = self.site(&project, credentials)?;
        check_title(&spec.title)?;
        if head == base {
            let detail = "The changes would go to the branch that they are on: name another `head`, or another `base`.";
            return Err(EngineError::unprocessable("same_branch", detail));
        }
        self.check_pushed(&project, &head).await?;
        let (pull, created) = self.forge.open_pull(&at, &head, &base, spec).await?;
        Ok(OpenedPull { pull, created })
    }

    /// Refuses a branch of which the remote lacks something that we have.
    async fn check_pushed(&self, project: &Project, branch: &str) -> Result<()> {
        let not_pushed = |what: &str| EngineError::Conflict {
            code: "not_pushed",
            detail: format!(
                "{what}: push the branch first (POST /projects/{{project}}/push with `branch`), then repeat."
            ),
        };
        let ours = self.catalog.reference(project.id, &branch_ref(branch)).await?;
        match (self.remote_head(project.id, branch).await?, ours) {
            (None, _) => Err(not_pushed(&format!("The remote is not known to have a branch {branch:?}"))),
            (Some(theirs), Some(ours)) if !self.is_ancestor(project.id, ours, theirs).await? => {
                Err(not_pushed(&format!("The branch {branch:?} has commits that the remote lacks")))
            }
            _ => Ok(()),
        }
    }

    /// Changes a pull request.
    pub async fn change_pull(
        &self,
        project: &str,
        number: u64,
        change: &PullChange,
        credentials: Option<Secret>,
    ) -> Result<PullView> {
        let project = self.find_project(project).await?;
        change.base.as_deref().map(check_branch).transpose()?;
        change.title.as_deref().map(check_title).transpose()?;
        self.forge.change_pull(&self.site(&project, credentials)?, number, change).await
    }

    /// Lists pull requests.
    pub async fn pulls(&self, project: &str, filter: &PullFilter, credentials: Option<Secret>) -> Result<PullPage> {
        let project = self.find_project(project).await?;
        filter.head.as_deref().map(check_branch).transpose()?;
        self.forge.pulls(&self.site(&project, credentials)?, filter).await
    }

    /// Where the project's remote is, and what the forge says of it and of a branch.
    pub async fn show_remote(
        &self,
        project: &str,
        branch: Option<&str>,
        credentials: Option<Secret>,
    ) -> Result<RemoteView> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, branch)?;
        let url = self.needed_endpoint(&project, None)?.url;
        let host = url::Url::parse(&url).ok().and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
        });
        let github = match self.forge.has(&url) {
            true => Some(self.forge.facts(&self.site(&project, credentials)?, &branch).await?),
            false => None,
        };
        Ok(RemoteView { url, host, github })
    }

    /// Whether webhooks can be told from what anybody may send.
    pub fn takes_webhooks(&self) -> bool {
        self.forge.takes_webhooks()
    }

    /// Takes a webhook. What it says of a remote is noted for every project on that remote, as a hint: it says nothing about access,
    /// since what it names is not here.
    pub async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Delivered> {
        let Some(reported) = self.forge.read_webhook(delivery)? else { return Ok(Delivered::Unsigned) };
        let (urls, name, oid) = match reported {
            Reported::Ping => return Ok(Delivered::Ping),
            Reported::Other => return Ok(Delivered::Ignored),
            Reported::Moved { urls, name, oid } => (urls, name, oid),
        };
        let branch = name.strip_prefix("refs/heads/");
        if branch.is_none_or(|branch| check_branch(branch).is_err()) {
            return Ok(Delivered::Ignored);
        }
        let mut urls: Vec<String> = urls.iter().filter(|url| self.forge.has(url)).map(|url| remote_key(url)).collect();
        urls.sort_unstable();
        urls.dedup();
        let at_ms = self.ambient.now_ms();
        let (delivery, forget_before_ms) = (known_by(delivery.body), at_ms - DELIVERIES_KEPT_MS);
        let report = RemoteReport { delivery, urls, name, oid, at_ms, forget_before_ms };
        match self.catalog.report_remote(&report).await? {
            None => Ok(Delivered::Repeated),
            Some(projects) => {
                tracing::debug!(projects, "a remote is said to have moved");
                Ok(Delivered::Noted)
            }
        }
    }

    /// Where the remote's branch is said to be, if that is not where we know it to be, and when that was said.
    pub(crate) async fn said_to_be(
        &self,
        project: &Project,
        branch: &str,
        known: Option<treehold_object::ObjectId>,
    ) -> Result<Option<RemoteHint>> {
        if !project.remote_url.as_deref().is_some_and(|url| self.forge.has(url)) {
            return Ok(None);
        }
        let hint = self.catalog.remote_hint(project.id, &branch_ref(branch)).await?;
        let Some(hint) = hint.filter(|hint| hint.oid != known) else { return Ok(None) };
        // What was said late may be behind what we know by now.
        if let (Some(said), Some(known)) = (hint.oid, known)
            && self.catalog.may_read(project.id, &[said]).await? == [true]
            && self.is_ancestor(project.id, said, known).await?
        {
            return Ok(None);
        }
        Ok(Some(hint))
    }

    /// The remote itself was asked at that time: what was said of the branch before counts no more.
    pub(crate) async fn asked_remote(&self, project: &Project, branch: &str, at_ms: i64) -> Result<()> {
        if project.remote_url.as_deref().is_some_and(|url| self.forge.has(url)) {
            self.catalog.forget_hint(project.id, &branch_ref(branch), at_ms).await?;
        }
        Ok(())
    }
}

fn check_title(title: &str) -> Result<()> {
    match title.trim().is_empty() {
        true => Err(EngineError::unprocessable("bad_title", "A pull request needs a title.")),
        false => Ok(()),
    }
}

/// What a delivery is known by when it comes again: what was signed. An id beside it is not, so that whoever has seen a delivery could send
/// it under another one later, and what was said since would be forgotten. Two pushes have the same body only if they move a branch alike
/// within one second, there and back in between: then the hint may be of the move back, until the next sync.
fn known_by(body: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(body).into();
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// The URL as remotes are looked up: small letters, nothing at its end.
fn remote_key(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let url = url.trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::remote_key;
    use crate::api::{ProjectSpec, RemoteSpec};
    use crate::properties::World;
    use crate::remote::{GitRemote, RemoteTimeouts, Secret};
    use crate::{Engine, EngineConfig};

    #[test]
    fn spellings_of_a_url_are_one_remote() {
        for url in [
            "https://GitHub.com/O/R",
            "https://github.com/o/r.git",
            "https://github.com/o/r/",
            "https://github.com/o/r.GIT/",
        ] {
            assert_eq!(remote_key(url), "https://github.com/o/r");
        }
    }

    /// Goal: the server's own token goes to hosts that its configuration names, and not to any host that a project may be given.
    #[tokio::test]
    async fn the_configured_token_goes_to_hosts_that_are_named() {
        let world = World::new().await;
        let allowed = ["https://", "https://git.example/o", "http://127.0.0.1:3000/"].map(str::to_owned).to_vec();
        let spool_dir = world.engine.config.spool_dir.clone();
        let remote = GitRemote::new(allowed, spool_dir, RemoteTimeouts::default()).expect("a remote");
        let remote_token = Some(Secret::new("ours".to_owned()));
        let config = EngineConfig { remote_token, ..(*world.engine.config).clone() };
        let engine = Engine { remote: Arc::new(remote), config: Arc::new(config), ..world.engine.clone() };
        for (url, is_named) in [
            ("https://git.example/o/docs", true),
            ("https://git.example/other", false),
            ("https://evil.example/o/docs", false),
            ("https://git.example.evil.example/o/docs", false),
            ("http://127.0.0.1:3000/docs", true),
        ] {
            engine.remote.check_url(url).expect("an allowed URL");
            let remote = Some(RemoteSpec { url: url.to_owned() });
            let spec = ProjectSpec { remote, ..ProjectSpec::default() };
            let project = engine.checked_project(None, &spec).expect("a project");
            let sent = |own: Option<&str>| {
                let at = engine.endpoint(&project, own.map(|own| Secret::new(own.to_owned()))).expect("a remote");
                at.credentials.map(|secret| secret.expose().to_owned())
            };
            assert_eq!(sent(None).as_deref(), is_named.then_some("ours"), "{url}");
            assert_eq!(sent(Some("own")).as_deref(), Some("own"), "{url}");
        }
    }
}
