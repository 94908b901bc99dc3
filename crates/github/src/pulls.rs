//! Pull requests.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use treehold_engine::api::{Oid, PullChange, PullFilter, PullPage, PullSpec, PullState, PullView};
use treehold_engine::remote::{ForgeSite, RemoteError};
use treehold_engine::{EngineError, Result};

use crate::client::{Call, GitHub, judged};
use crate::place::Repository;

/// What GitHub tells of one that is listed, bytes: a description of 65,536 characters, and two repositories.
const LISTED_LEN_MAX: usize = 320 << 10;

/// What we read of a pull request.
#[derive(Deserialize)]
struct Pull {
    number: u64,
    url: String,
    html_url: String,
    state: PullState,
    title: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    merged_at: Option<String>,
    head: Side,
    base: Side,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    name: String,
    #[serde(default)]
    sha: Option<String>,
}

impl From<Pull> for PullView {
    fn from(pull: Pull) -> Self {
        let Pull { number, url, html_url, state, title, draft, merged_at, head, base } = pull;
        let head_sha = head.sha.and_then(|sha| sha.parse::<Oid>().ok());
        let (merged, head, base) = (merged_at.is_some(), head.name, base.name);
        Self { number, url, html_url, state, title, draft, merged, head, head_sha, base }
    }
}

fn view(body: &Value) -> Result<PullView> {
    let pull = Pull::deserialize(body);
    Ok(pull.map_err(|error| EngineError::from(RemoteError::Invalid(format!("a pull request: {error}"))))?.into())
}

/// An answer that must be a list.
fn listed(body: &Value) -> Result<&[Value]> {
    let list = body.as_array().map(Vec::as_slice);
    list.ok_or_else(|| RemoteError::Invalid("it is no list of pull requests".into()).into())
}

/// Whether it is a pull request from a branch of the owner's.
fn is_for(pull: &Value, owner: &str, head: &str, base: &str) -> bool {
    let whose = pull["head"]["label"].as_str().and_then(|label| label.split_once(':'));
    let is_own = whose.is_none_or(|(whose, _)| whose.eq_ignore_ascii_case(owner));
    is_own && pull["head"]["ref"] == head && pull["base"]["ref"] == base
}

impl GitHub {
    /// Mostly one call. That one is open already shows itself in the refusal, whose words are all that tells it from others.
    pub(crate) async fn open(
        &self,
        at: &ForgeSite,
        head: &str,
        base: &str,
        spec: &PullSpec,
    ) -> Result<(PullView, bool)> {
        let repository = self.repository(&at.url)?;
        let mut body = json!({"title": spec.title, "head": head, "base": base, "draft": spec.draft});
        if let Some(text) = &spec.body {
            body["body"] = text.as_str().into();
        }
        if let Some(can) = spec.maintainer_can_modify {
            body["maintainer_can_modify"] = can.into();
        }
        let call = Call::new(Method::POST, vec!["repos", &repository.owner, &repository.name, "pulls"]).json(body);
        let answer = self.call(at, &call).await?;
        let refused = answer.status == 422;
        let body = match judged(answer) {
            Ok(body) => body,
            Err(error) if refused => {
                // Also where the words are others than we know: what is open for these branches is what was asked for.
                let open = self.open_for(at, &repository, head, base).await?.ok_or(error)?;
                return Ok((self.updated(at, open, spec).await?, false));
            }
            Err(error) => return Err(error),
        };
        Ok((view(&body)?, true))
    }

    async fn updated(&self, at: &ForgeSite, open: PullView, spec: &PullSpec) -> Result<PullView> {
        if !spec.update {
            return Ok(open);
        }
        let change = PullChange { title: Some(spec.title.clone()), body: spec.body.clone(), ..PullChange::default() };
        self.change(at, open.number, &change).await
    }

    async fn open_for(
        &self,
        at: &ForgeSite,
        repository: &Repository,
        head: &str,
        base: &str,
    ) -> Result<Option<PullView>> {
        let list = Call::new(Method::GET, vec!["repos", &repository.owner, &repository.name, "pulls"])
            .query("state", "open")
            .query("head", format!("{}:{head}", repository.owner))
            .query("base", base);
        let found = judged(self.call(at, &list).await?)?;
        // Were the filters not understood, these would be others': none of them is to be taken for it, or changed.
        listed(&found)?.iter().find(|pull| is_for(pull, &repository.owner, head, base)).map(view).transpose()
    }

    pub(crate) async fn change(&self, at: &ForgeSite, number: u64, change: &PullChange) -> Result<PullView> {
        let (repository, id) = (self.repository(&at.url)?, number.to_string());
        let body = serde_json::to_value(change).map_err(EngineError::internal)?;
        let path = vec!["repos", &repository.owner, &repository.name, "pulls", &id];
        let answer = self.call(at, &Call::new(Method::PATCH, path).json(body)).await?;
        if answer.status == 404 {
            let detail = "There is no pull request of this number, or the credentials do not show it.";
            return Err(EngineError::not_found("pull_not_found", detail));
        }
        view(&*judged(answer)?)
    }

    pub(crate) async fn list(&self, at: &ForgeSite, filter: &PullFilter) -> Result<PullPage> {
        let repository = self.repository(&at.url)?;
        let limit = filter.page_len();
        let page = match filter.cursor.as_deref() {
            None => 1,
            Some(cursor) => cursor
                .parse::<u32>()
                .ok()
                .filter(|page| *page > 1)
                .ok_or_else(|| EngineError::BadRequest("The cursor is not one of ours.".to_owned()))?,
        };
        let state = match filter.state {
            None => "all",
            Some(PullState::Open) => "open",
            Some(PullState::Closed) => "closed",
        };
        let mut call = Call::get(vec!["repos", &repository.owner, &repository.name, "pulls"])
            .answer_len_max(limit * LISTED_LEN_MAX)
            .query("state", state)
            .query("per_page", limit.to_string())
            .query("page", page.to_string());
        if let Some(head) = &filter.head {
            call = call.query("head", format!("{}:{head}", repository.owner));
        }
        let found = judged(self.call(at, &call).await?)?;
        let pulls = listed(&found)?.iter().map(view).collect::<Result<Vec<_>>>()?;
        let next_cursor = (pulls.len() == limit).then(|| page.saturating_add(1).to_string());
        Ok(PullPage { pulls, next_cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_for_others_is_not_taken() {
        let pull = |label: &str| json!({"head": {"label": label, "ref": "topic"}, "base": {"ref": "main"}});
        assert!(is_for(&pull("O:topic"), "o", "topic", "main"), "owners are not told by their case");
        assert!(!is_for(&pull("fork:topic"), "o", "topic", "main"));
        assert!(!is_for(&pull("o:topic"), "o", "Topic", "main"));
        assert!(!is_for(&pull("o:topic"), "o", "topic", "next"));
    }

    #[test]
    fn a_page_that_is_no_list_is_no_empty_one() {
        assert_eq!(listed(&json!([1])).unwrap().len(), 1);
        for body in [Value::Null, json!({"message": "hello"})] {
            assert_eq!(listed(&body).unwrap_err().code(), "remote_invalid");
        }
    }
}
