//! The REST API.

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Body, Shared, Who, app, failure, full, header, reply};
use crate::git::Repo;

/// A repository that the caller may see.
struct Seen<'a> {
    shared: &'a Shared,
    owner: &'a str,
    name: &'a str,
}

pub(super) fn answer(shared: &Shared, method: &str, what: &str, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let (path, query) = what.split_once('?').unwrap_or((what, ""));
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let credentials = header(headers, "authorization").and_then(|text| text.strip_prefix("Bearer "));
    if header(headers, "user-agent").is_none() {
        return failure(
            StatusCode::FORBIDDEN,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            None,
        );
    }
    match (method, &parts[..]) {
        ("GET", ["repos", owner, name, "installation"]) => {
            return app::installation(shared, credentials.unwrap_or_default(), shared.exists(owner, name));
        }
        ("POST", ["app", "installations", id, "access_tokens"]) => {
            return app::access_token(shared, credentials.unwrap_or_default(), id);
        }
        _ => {}
    }
    let who = match credentials {
        None => None,
        Some(token) => match shared.who(token) {
            Some(who) => Some(who),
            None => return failure(StatusCode::UNAUTHORIZED, "Bad credentials", None),
        },
    };
    let ["repos", owner, name, rest @ ..] = &parts[..] else { return not_found() };
    // All repositories are private: to others they are not there.
    if !matches!(who, Some(Who::Member | Who::App)) || !shared.exists(owner, name) {
        return not_found();
    }
    let seen = Seen { shared, owner, name };
    match (method, rest) {
        ("GET", []) => tagged(headers, &seen.facts()),
        ("GET", ["branches", branch]) => seen.branch(headers, branch),
        ("GET", ["branches", branch, "protection", "required_signatures"]) => seen.signatures(branch, who),
        ("GET", ["rules", "branches", _]) => tagged(headers, &json!([])),
        ("GET", ["pulls"]) => seen.list(headers, query),
        ("POST", ["pulls"]) => seen.open(body),
        ("PATCH", ["pulls", number]) => seen.change(number, body),
        _ => not_found(),
    }
}

fn not_found() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "Not Found", None)
}

fn decoded(part: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().expect("two digits")).to_digit(16).expect("a hex digit");
        out.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).expect("a byte") } else { byte });
    }
    String::from_utf8(out).expect("UTF-8")
}

/// With its tag; 304 if the caller has it.
fn tagged(headers: &HeaderMap, body: &Value) -> Response<Body> {
    let text = body.to_string();
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let tag = format!("W/\"{}\"", hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut response = match header(headers, "if-none-match") == Some(&tag) {
        true => {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        false => reply(StatusCode::OK, body),
    };
    response.headers_mut().insert("etag", HeaderValue::from_str(&tag).expect("ASCII"));
    response
}

fn invalid(errors: Value) -> Response<Body> {
    failure(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed", Some(errors))
}

impl Seen<'_> {
    fn url(&self, rest: &str) -> String {
        format!("{}/api/v3/repos/{}/{}{rest}", self.shared.origin(), self.owner, self.name)
    }

    fn tip(&self, branch: &str) -> Option<String> {
        let repo = Repo::open(self.shared.repositories.join(self.owner).join(format!("{}.git", self.name)));
        repo.refs().get(&format!("refs/heads/{branch}")).cloned()
    }

    fn facts(&self) -> Value {
        json!({
            "id": 1, "name": self.name, "full_name": format!("{}/{}", self.owner, self.name), "private": true,
            "owner": {"login": self.owner}, "html_url": format!("{}/{}/{}", self.shared.origin(), self.owner, self.name),
            "url": self.url(""), "default_branch": "main", "archived": false, "size": 108,
            "permissions": {"admin": false, "maintain": false, "push": true, "triage": true, "pull": true},
        })
    }

    fn branch(&self, headers: &HeaderMap, branch: &str) -> Response<Body> {
        let Some(tip) = self.tip(branch) else { return failure(StatusCode::NOT_FOUND, "Branch not found", None) };
        let protected = self.shared.state().protected.contains_key(branch);
        tagged(headers, &json!({"name": branch, "commit": {"sha": tip}, "protected": protected}))
    }

    fn signatures(&self, branch: &str, who: Option<Who>) -> Response<Body> {
        if who != Some(Who::Member) {
            return failure(StatusCode::FORBIDDEN, "Resource not accessible by integration", None);
        }
        match self.shared.state().protected.get(branch) {
            Some(enabled) => reply(StatusCode::OK, &json!({"url": self.url(""), "enabled": enabled})),
            None => failure(StatusCode::NOT_FOUND, "Branch not protected", None),
        }
    }

    fn list(&self, headers: &HeaderMap, query: &str) -> Response<Body> {
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
        };
        let (state, head, base) = (value("state").unwrap_or_else(|| "open".into()), value("head"), value("base"));
        let number = |name, default| value(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(default);
        let (size, page) = (number("per_page", 30), number("page", 1));
        let pulls = self.shared.state().pulls.clone();
        let all = self.shared.state().unfiltered;
        let fits = |pull: &&Value| {
            (state == "all" || pull["state"] == state.as_str())
                && head.as_ref().is_none_or(|head| all || pull["head"]["label"] == head.as_str())
                && base.as_ref().is_none_or(|base| all || pull["base"]["ref"] == base.as_str())
        };
        let found: Vec<&Value> = pulls.iter().rev().filter(fits).skip((page - 1) * size).take(size).collect();
        tagged(headers, &json!(found))
    }

    fn open(&self, body: &[u8]) -> Response<Body> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return failure(StatusCode::BAD_REQUEST, "Problems parsing JSON", None);
        };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (title, head, base) = (text("title"), text("head"), text("base"));
        let error = |field: &str, code: &str| json!({"resource": "PullRequest", "field": field, "code": code});
        if title.is_empty() {
            return invalid(json!([error("title", "missing_field")]));
        }
        let (Some(from), Some(to)) = (self.tip(&head), self.tip(&base)) else {
            let field = if self.tip(&head).is_none() { "head" } else { "base" };
            return invalid(json!([error(field, "invalid")]));
        };
        let custom = |message: String| json!([{"resource": "PullRequest", "code": "custom", "message": message}]);
        if from == to {
            return invalid(custom(format!("No commits between {base} and {head}")));
        }
        let mut state = self.shared.state();
        let same = |pull: &&Value| {
            pull["state"] == "open" && pull["head"]["ref"] == head.as_str() && pull["base"]["ref"] == base.as_str()
        };
        if state.pulls.iter().find(same).is_some() {
            return invalid(custom(format!("A pull request already exists for {}:{head}.", self.owner)));
        }
        let number = state.pulls.len() + 1;
        let side = |name: &str, sha: &str| json!({"label": format!("{}:{name}", self.owner), "ref": name, "sha": sha});
        let pull = json!({
            "id": number, "number": number, "state": "open", "title": title, "body": body["body"], "merged_at": null,
            "draft": body["draft"].as_bool().unwrap_or_default(), "url": self.url(&format!("/pulls/{number}")),
            "html_url": format!("{}/{}/{}/pull/{number}", self.shared.origin(), self.owner, self.name),
            "head": side(&head, &from), "base": side(&base, &to),
            "maintainer_can_modify": body["maintainer_can_modify"].as_bool().unwrap_or_default(),
        });
        state.pulls.push(pull.clone());
        reply(StatusCode::CREATED, &pull)
    }

    fn change(&self, number: &str, body: &[u8]) -> Response<Body> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return failure(StatusCode::BAD_REQUEST, "Problems parsing JSON", None);
        };
        let base = body["base"].as_str();
        if base.is_some_and(|base| self.tip(base).is_none()) {
            return invalid(json!([{"resource": "PullRequest", "field": "base", "code": "invalid"}]));
        }
        let mut state = self.shared.state();
        let number: Option<u64> = number.parse().ok();
        let Some(pull) = state.pulls.iter_mut().find(|pull| pull["number"].as_u64() == number) else {
            return not_found();
        };
        for name in ["title", "body", "state"] {
            if !body[name].is_null() {
                pull[name] = body[name].clone();
            }
        }
        if let Some(base) = base {
            pull["base"]["ref"] = base.into();
        }
        reply(StatusCode::OK, pull)
    }
}
