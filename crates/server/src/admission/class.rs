//! What a request is to the admission: which class of work, and whose.

use axum::extract::{MatchedPath, OriginalUri, Request};
use http::{HeaderMap, Method, header};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::portions::Key;
use crate::auth::Caller;
use crate::params::captures;

/// The route that names its project in a header.
const MCP: &str = "/mcp";
/// Its call that is answered by a stream of news.
const LISTEN: &str = "subscriptions/listen";
/// The header that says what a message asks for. The route refuses one that says something else than the message.
pub(crate) const METHOD: &str = "mcp-method";

/// A batch read whose request is larger asks for about a thousand paths or more, bytes.
const LARGE_READ: u64 = 64 << 10;

/// Classes have places of their own, so that none of them can take those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reads, autosaves, lists: milliseconds.
    Light,
    /// Reads of many files, searches and diffs: work for a core, without a pause.
    Batch,
    /// Commits, and what talks to a remote: they wait for each other, or for somebody else's server.
    Commit,
    /// Packs for git clients: they wait for whoever takes them, and hold little.
    Clone,
    /// Readers of the change feed: they wait for something to happen, and hold nothing meanwhile.
    Watch,
    /// In proportion to a whole project: archives, bundles, reads of very many files.
    Bulk,
}

impl Class {
    /// Whether it keeps a core busy, so that it runs away from the others.
    pub(crate) fn is_heavy(self) -> bool {
        matches!(self, Self::Batch | Self::Bulk)
    }
}

/// Class and project of a request. Health checks, metrics, the document and the pages have none: they are never refused.
pub(crate) fn of(request: &Request) -> Option<(Class, Key)> {
    let template = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let free = matches!(template, "/healthz" | "/readyz" | "/metrics" | "/openapi.json" | "/docs" | "/docs/{name}");
    if free || template.starts_with(crate::console::ROUTE) {
        return None;
    }
    let path = request.extensions().get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0).path();
    let class = if template.starts_with("/git/") {
        git_class(path)
    } else {
        match class(template, request.method(), request.headers()) {
            // The log of a path compares trees.
            Class::Light if template.ends_with("/log") && asks_for_path(request) => Class::Batch,
            class => class,
        }
    };
    // Its tools take a place of their own class where they need one.
    let key = match template == MCP {
        // A token's project is known; a key says for which it acts.
        true => match request.extensions().get::<Caller>().and_then(|caller| caller.project) {
            Some(project) => project.as_u128(),
            None => key_of(request.headers().get("treehold-project").map_or(&[], |name| name.as_bytes())),
        },
        false => key(template, path),
    };
    Some((class, key))
}

fn asks_for_path(request: &Request) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("path=")))
}

fn git_class(path: &str) -> Class {
    if path.ends_with("/git-upload-pack") {
        Class::Clone
    } else if path.ends_with("/git-receive-pack") {
        Class::Commit
    } else {
        Class::Light
    }
}

fn class(template: &str, method: &Method, headers: &HeaderMap) -> Class {
    let rest = template.strip_prefix("/projects/{project}").unwrap_or("");
    match (rest, method) {
        ("/archive.tar.gz" | "/archive.zip" | "/bundle", _) => Class::Bulk,
        ("/read", _) if length(headers).is_none_or(|length| length > LARGE_READ) => Class::Bulk,
        ("/read" | "/diff" | "/search" | "/conflicts" | "/resolve" | "/blame/" | "/blame/{*path}", _) => Class::Batch,
        // Of a directory with a million files.
        ("/git/trees/{oid}", _) => Class::Batch,
        ("/history/{id}/diff" | "/checkpoints/{id}" | "/checkpoints/{id}/diff" | "/checkpoints/{id}/restore", _) => {
            Class::Batch
        }
        ("/changes", _) => Class::Watch,
        _ if template == MCP && listens(headers) => Class::Watch,
        ("/fork" | "/promote" | "/refs/{*name}", &Method::POST | &Method::PUT | &Method::DELETE) => Class::Commit,
        ("/commit" | "/commits" | "/sync" | "/push" | "/pulls" | "/pulls/{number}" | "/remote", _) => Class::Commit,
        // Many writes in one request; what is small is as light as one of them.
        _ if template == "/pending/{project}/{user}" && *method == Method::POST => {
            if length(headers).is_none_or(|length| length > LARGE_READ) { Class::Batch } else { Class::Light }
        }
        _ if template.starts_with("/files/") && matches!(*method, Method::PUT | Method::DELETE) => Class::Commit,
        _ => Class::Light,
    }
}

/// Whether an agent says that it subscribes.
pub(crate) fn listens(headers: &HeaderMap) -> bool {
    headers.get(METHOD).is_some_and(|method| method == LISTEN)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A project is known by what its callers call it, without asking the database. It has one name and one id at a time, and
/// all spellings of either are one: so whoever uses both gets two portions, and no more than two.
pub(crate) fn key(template: &str, path: &str) -> Key {
    let captured = captures(template, path).unwrap_or_default();
    let named = |wanted: &str| captured.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
    let repository = || named("repo").map(|repo| without(without(repo, b".git"), b"+ephemeral"));
    key_of(named("project").or_else(repository).unwrap_or_default())
}

/// The key of a project, by its name or id.
pub(crate) fn key_of(name: &[u8]) -> Key {
    match std::str::from_utf8(name).ok().and_then(|name| Uuid::try_parse(name).ok()) {
        Some(id) => id.as_u128(),
        None => {
            let hash = Sha256::digest(name);
            hash.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
        }
    }
}

fn without<'a>(name: &'a [u8], end: &[u8]) -> &'a [u8] {
    name.strip_suffix(end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(method: &str, template: &str, length: Option<u64>) -> Class {
        let mut headers = HeaderMap::new();
        headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
        class(template, &method.parse().unwrap(), &headers)
    }

    #[test]
    fn heavy_verbs_have_places_of_their_own() {
        for (method, template, length, expected) in [
            ("GET", "/files/{project}", None, Class::Light),
            ("GET", "/files/{project}/{*path}", None, Class::Light),
            ("PUT", "/files/{project}/{*path}", Some(1), Class::Commit),
            ("DELETE", "/files/{project}/{*path}", None, Class::Commit),
            ("PUT", "/pending/{project}/{user}/{*path}", Some(100 << 20), Class::Light),
            ("POST", "/projects/{project}/read", Some(8_000), Class::Batch),
            ("POST", "/projects/{project}/read", Some(LARGE_READ + 1), Class::Bulk),
            ("POST", "/projects/{project}/read", None, Class::Bulk),
            ("POST", "/projects/{project}/search", Some(90), Class::Batch),
            ("GET", "/projects/{project}/blame/{*path}", None, Class::Batch),
            ("GET", "/projects/{project}/archive.zip", None, Class::Bulk),
            ("GET", "/projects/{project}/bundle", None, Class::Bulk),
            ("POST", "/projects/{project}/commit", Some(9), Class::Commit),
            ("POST", "/projects/{project}/sync", None, Class::Commit),
            ("PATCH", "/projects/{project}/pulls/{number}", Some(9), Class::Commit),
            ("GET", "/projects/{project}/remote", None, Class::Commit),
            ("POST", "/webhooks/github", Some(9), Class::Light),
            ("GET", "/projects/{project}/status", None, Class::Light),
            ("GET", "/projects/{project}/changes", None, Class::Watch),
            ("POST", "/projects/{project}/fork", None, Class::Commit),
            ("PUT", "/projects/{project}/refs/{*name}", None, Class::Commit),
            ("POST", "/pending/{project}/{user}", Some(9), Class::Light),
            ("POST", "/pending/{project}/{user}", Some(LARGE_READ + 1), Class::Batch),
            ("POST", "/projects/{project}/checkpoints/{id}/restore", None, Class::Batch),
            ("POST", "/mcp", Some(16 << 20), Class::Light),
            ("GET", "", None, Class::Light),
        ] {
            assert_eq!(class_of(method, template, length), expected, "{method} {template} {length:?}");
        }
    }

    #[test]
    fn an_agent_that_waits_for_news_takes_no_place_of_those_who_work() {
        let of = |method: &'static str| {
            let headers = HeaderMap::from_iter([("mcp-method".parse().unwrap(), method.parse().unwrap())]);
            class(MCP, &Method::POST, &headers)
        };
        assert_eq!((of("subscriptions/listen"), of("tools/call")), (Class::Watch, Class::Light));
    }

    #[test]
    fn spellings_of_a_name_or_an_id_are_one_project() {
        let of = |segment: &str| key("/files/{project}/{*path}", &format!("/files/{segment}/a"));
        let id = "01a20ada-56ed-71ec-902d-7b9e9f6d51c4";
        for same in [id.to_uppercase(), id.replace('-', ""), format!("%30{}", &id[1..]), format!("%7B{id}%7D")] {
            assert_eq!(of(&same), of(id), "{same}");
        }
        assert_eq!(of("docs"), of("%64ocs"));
        assert_ne!(of("docs"), of("Docs"));
        assert_ne!(of("docs"), of(id));
        assert_eq!(of("docs"), key("/projects/{project}/read", "/projects/docs/read"));
        assert_eq!(of("docs"), key("/git/{repo}/{*rest}", "/git/docs.git/info/refs"));
        assert_eq!(of("docs"), key("/git/{repo}/{*rest}", "/git/docs+ephemeral.git/info/refs"));
        assert_eq!(of(id), key("/git/{repo}/{*rest}", &format!("/git/{id}/git-upload-pack")));
        assert_eq!((of("docs"), of(id)), (key_of(b"docs"), key_of(id.to_uppercase().as_bytes())));
        assert_eq!(of("%zz"), key("", "/nowhere"), "what is malformed is nobody's");
    }
}
