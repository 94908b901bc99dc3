//! Facts about a repository and one of its branches. All is asked for at once, and by tag, so that what did not change costs nothing
//! of the rate limit.

use serde::Deserialize;
use treehold_engine::api::{GithubFacts, GithubPermissions};
use treehold_engine::remote::{ForgeSite, RemoteError};
use treehold_engine::{EngineError, Result};

use crate::client::{Answer, Call, GitHub, judged};

#[derive(Deserialize)]
struct Repo {
    full_name: String,
    private: bool,
    default_branch: String,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    permissions: Option<GithubPermissions>,
}

impl GitHub {
    pub(crate) async fn facts_of(&self, at: &ForgeSite, branch: &str) -> Result<GithubFacts> {
        let repository = self.repository(&at.url)?;
        let repo = vec!["repos", repository.owner.as_str(), repository.name.as_str()];
        let path = |more: &[&'static str]| [&repo[..], more, &[branch]].concat();
        let about = Call::get(repo.clone());
        let of_branch = Call::get(path(&["branches"]));
        let rules = Call::get(path(&["rules", "branches"]));
        let (about, of_branch, rules) =
            tokio::try_join!(self.call(at, &about), self.call(at, &of_branch), self.call(at, &rules))?;
        let about = judged(about)?;
        let about = Repo::deserialize(&*about)
            .map_err(|error| EngineError::from(RemoteError::Invalid(format!("a repository: {error}"))))?;
        let protected = (of_branch.status == 200).then(|| of_branch.body["protected"].as_bool()).flatten();
        let mut signed = ruled(&rules);
        // Older protection, beside rules, shows itself to administrators alone.
        if signed != Some(true) && protected == Some(true) {
            let path = [&repo[..], &["branches", branch, "protection", "required_signatures"]].concat();
            let answer = self.call(at, &Call::get(path)).await?;
            signed = match answer.status {
                200 => answer.body["enabled"].as_bool(),
                _ => None,
            };
        }
        Ok(GithubFacts {
            full_name: about.full_name,
            private: about.private,
            default_branch: about.default_branch,
            archived: about.archived,
            size_kb: about.size,
            permissions: about.permissions,
            branch: branch.to_owned(),
            protected,
            requires_signed_commits: signed,
        })
    }
}

/// Whether a rule demands signatures; `None` = the rules are not shown.
fn ruled(rules: &Answer) -> Option<bool> {
    let rules = rules.body.as_array().filter(|_| rules.status == 200)?;
    Some(rules.iter().any(|rule| rule["type"] == "required_signatures"))
}
