//! Path segments and query parameters, percent-decoded exactly once.
//!
//! Segments are taken from the request-target as it was sent and split before they are decoded, so that `%2F` is a slash
//! inside of one segment and nothing is normalised. File paths stay bytes: the engine judges them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Method, Uri};
use treehold_engine::api::At;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Problem;

/// So much is repeated of a name that is refused, characters.
const NAME_SHOWN: usize = 100;

/// The captures of a route.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, Vec<u8>)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0);
        let mut found = Self::of(captures(template, uri.path())?);
        // What a token was found to be good for is its project, not a name that may come to mean another one meanwhile.
        if let Some(id) = parts.extensions.get::<Caller>().and_then(|caller| caller.project) {
            let projects = found.0.iter_mut().filter(|(name, _)| name == "project");
            projects.for_each(|(_, value)| *value = id.to_string().into());
        }
        Ok(found)
    }
}

impl Params {
    fn of(captured: Captured<'_>) -> Self {
        Self(captured.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect())
    }

    /// The decoded bytes of a capture; empty if the route has none of that name.
    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        self.0.iter().find(|(key, _)| key == name).map_or(&[], |(_, value)| value)
    }

    /// A capture that must be text.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Problem> {
        std::str::from_utf8(self.bytes(name)).map_err(|_| {
            Problem::bad_parameter("bad_encoding", name, format!("`{name}` in the path must be UTF-8, percent-encoded"))
        })
    }

    /// A capture that must be a UUID.
    pub(crate) fn uuid(&self, name: &str) -> Result<Uuid, Problem> {
        uuid(name, self.text(name)?)
    }

    /// A capture that must be an oid.
    pub(crate) fn oid(&self, name: &str) -> Result<ObjectId, Problem> {
        oid(name, self.text(name)?)
    }
}

/// What the captures of a template caught in a path, decoded, by their names.
pub(crate) type Captured<'a> = Vec<(&'a str, Cow<'a, [u8]>)>;

/// Matches a route's template with the path that it matched, and decodes what the captures caught.
pub(crate) fn captures<'a>(template: &'a str, path: &'a str) -> Result<Captured<'a>, Problem> {
    let mut found = Vec::new();
    let mut rest = path;
    for segment in template.split('/') {
        if let Some(name) = segment.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) {
            found.push((name, decode_segment(name, rest)?));
            break;
        }
        let (here, after) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            found.push((name, decode_segment(name, here)?));
        }
        rest = after;
    }
    Ok(found)
}

fn decode_segment<'a>(name: &str, raw: &'a str) -> Result<Cow<'a, [u8]>, Problem> {
    decode(raw.as_bytes(), false).ok_or_else(|| {
        Problem::bad_parameter("bad_encoding", name, format!("`{name}` in the path has a `%` without two hex digits"))
    })
}

/// Decodes `%XX` once, and in queries `+`; `None` where a `%` is not followed by two hex digits.
fn decode(raw: &[u8], plus_is_space: bool) -> Option<Cow<'_, [u8]>> {
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    Some(Cow::Owned(out))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn uuid(name: &str, text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| Problem::bad_parameter("bad_uuid", name, format!("`{name}` must be a UUID")))
}

fn oid(name: &str, text: &str) -> Result<ObjectId, Problem> {
    text.parse::<treehold_engine::api::Oid>()
        .map(|oid| oid.0)
        .map_err(|_| Problem::bad_parameter("bad_oid", name, format!("`{name}` must be an oid of 40 hex digits")))
}

/// The query. A parameter that is given twice, or has a value that it cannot have, is 400; unknown ones were refused before the route.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl Query {
    /// That of a URI.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        Self::parse_text(uri.query().unwrap_or(""))
    }

    fn parse_text(query: &str) -> Result<Self, Problem> {
        let decoded = |raw: &str| {
            decode(raw.as_bytes(), true)
                .and_then(|bytes| String::from_utf8(bytes.into_owned()).ok())
                .ok_or_else(|| Problem::bad_request("bad_encoding", "the query must be percent-encoded UTF-8"))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        });
        pairs.collect::<Result<_, Problem>>().map(Self)
    }

    /// Refuses what is none of `known`, and what is given twice.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, known));
            }
            if self.0[..at].iter().any(|(other, _)| other == name) {
                return Err(given_twice(name));
            }
        }
        Ok(())
    }

    /// The value of a parameter.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(given_twice(name)),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, Problem> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    /// A parameter that must be a UUID.
    pub(crate) fn uuid(&self, name: &str) -> Result<Option<Uuid>, Problem> {
        self.text(name)?.map(|text| uuid(name, text)).transpose()
    }

    /// As `uuid`, where there is no answer without.
    pub(crate) fn required_uuid(&self, name: &str) -> Result<Uuid, Problem> {
        self.uuid(name)?.ok_or_else(|| Problem::bad_parameter("bad_parameter", name, format!("give `{name}`, a UUID")))
    }

    pub(crate) fn oid(&self, name: &str) -> Result<Option<ObjectId>, Problem> {
        self.text(name)?.map(|text| oid(name, text)).transpose()
    }

    /// A parameter that parses by itself; the error's text says what it must be.
    pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parsed = self.text(name)?.map(str::parse).transpose();
        parsed.map_err(|error: T::Err| Problem::bad_parameter("bad_parameter", name, format!("`{name}`: {error}")))
    }

    /// `limit`: any whole number is fine, the engine clamps it.
    pub(crate) fn limit(&self) -> Result<Option<usize>, Problem> {
        self.clamped("limit")
    }

    /// A whole number that will be clamped: what is less than nothing is nothing.
    pub(crate) fn clamped(&self, name: &str) -> Result<Option<usize>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::bad_parameter("bad_parameter", name, format!("`{name}` must be a number")));
        }
        Ok(Some(if negative { 0 } else { digits.parse().unwrap_or(usize::MAX) }))
    }

    /// `cursor`: an empty one is the start.
    pub(crate) fn cursor(&self) -> Result<Option<&str>, Problem> {
        Ok(self.text("cursor")?.filter(|cursor| !cursor.is_empty()))
    }

    /// `ref` and `user`.
    pub(crate) fn at(&self) -> Result<At, Problem> {
        Ok(At { reference: self.string("ref")?, user: self.uuid("user")? })
    }
}

fn given_twice(name: &str) -> Problem {
    Problem::bad_parameter("bad_parameter", name, format!("`{name}` was given more than once"))
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().take(NAME_SHOWN).collect();
    let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    let detail = format!("`{name}` is no query parameter of this route; those that it takes: {known}");
    Problem::bad_parameter("bad_parameter", &name, detail)
}

/// The query parameters of each route, by its template and method.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<HashMap<String, HashMap<Method, Vec<&'static str>>>>);

impl Known {
    pub(crate) fn of(routes: impl IntoIterator<Item = ((String, Method), Vec<&'static str>)>) -> Self {
        let mut all: HashMap<String, HashMap<Method, Vec<&'static str>>> = HashMap::new();
        for ((template, method), names) in routes {
            all.entry(template).or_default().insert(method, names);
        }
        Self(Arc::new(all))
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0);
        let (Some(template), Some(_)) = (request.extensions().get::<MatchedPath>(), uri.query()) else { return Ok(()) };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        match self.0.get(template.as_str()).and_then(|methods| methods.get(method)) {
            Some(known) => Query::of(uri)?.only(known),
            None => Ok(()),
        }
    }
}

/// Refuses parameters that a route does not know: a mistyped `branch` must not mean the default one.
pub(crate) async fn only_known(State(known): State<Known>, request: Request, next: Next) -> Response {
    match known.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
