//! Request bodies: bounded before memory is spent, then read.

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;
use tokio::time::Instant;

use crate::app::{App, Reserved};
use crate::error::Problem;
use crate::headers;

/// Memory for a growing body is set aside in steps of this many bytes.
const STEP: u64 = 64 << 10;

/// A body that was read, with the memory that it holds.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Given back with the bytes.
    pub(crate) memory: Option<Reserved>,
}

/// What a JSON route expects of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expect {
    /// Largest body, bytes.
    pub(crate) bytes: u64,
    /// No body at all stands for `{}`.
    pub(crate) optional: bool,
    /// A list in the body that is bounded: its name and the most items.
    pub(crate) list: Option<(&'static str, usize)>,
}

impl Expect {
    /// A small object.
    pub(crate) const SMALL: Self = Self { bytes: 64 << 10, optional: false, list: None };
    /// A small object, which may be left out.
    pub(crate) const OPTIONAL: Self = Self { optional: true, ..Self::SMALL };
}

/// Reads a body of at most `limit` bytes; `what` is its name in the problem.
pub(crate) async fn read(app: &App, mut body: Body, limit: u64, what: &'static str) -> Result<Upload, Problem> {
    if body.size_hint().lower() > limit {
        return Err(Problem::too_large(what, limit, "bytes"));
    }
    // What is too much for ever is refused before the caller is told to go on (`Expect: 100-continue`), which reading does.
    app.could_reserve(body.size_hint().lower())?;
    let deadline = Instant::now() + app.config().body_timeout;
    let mut memory: Option<Reserved> = None;
    let mut reserved = 0;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = next(app, &mut body, deadline).await? {
        let len = first.len().max(all.len()) as u64 + chunk.len() as u64;
        if len > limit {
            return Err(Problem::too_large(what, limit, "bytes"));
        }
        if len > reserved {
            let more = (len - reserved).next_multiple_of(STEP);
            app.reserve_more(&mut memory, more)?;
            reserved += more;
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Upload { bytes, memory })
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(app: &App, body: &mut Body, deadline: Instant) -> Result<Option<Bytes>, Problem> {
    let until = deadline.min(Instant::now() + app.config().body_idle_timeout);
    loop {
        match tokio::time::timeout_at(until, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => continue,
            },
            Ok(Some(Err(_))) => return Err(Problem::bad_request("bad_body", "the body broke off or is badly framed")),
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_timeout",
                    "the body came too slowly; send it again",
                ));
            }
        }
    }
}

/// Reads the bytes of a file.
pub(crate) async fn file(app: &App, headers: &HeaderMap, body: Body) -> Result<Upload, Problem> {
    headers::plain_body(headers)?;
    read(app, body, app.config().limits.file_bytes, "the file").await
}

/// As [`read_json`], for bodies that carry content: also the memory of what was parsed, to be kept as long as that is.
pub(crate) async fn read_large_json<T: DeserializeOwned + JsonSchema>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    expect: Expect,
) -> Result<(T, Option<Reserved>), Problem> {
    judge(headers)?;
    let Upload { bytes, mut memory } = read(app, body, expect.bytes, "the request body").await?;
    // Text and what is parsed from it are there at once.
    app.reserve_more(&mut memory, bytes.len() as u64)?;
    Ok((parse(&bytes, expect)?, memory))
}

/// Reads a JSON body: 415 for another type, 413 over the limit, 400 `bad_json` if it is not JSON, 422 `bad_shape` if it is
/// JSON of another shape.
pub(crate) async fn read_json<T: DeserializeOwned + JsonSchema>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    expect: Expect,
) -> Result<T, Problem> {
    if expect.optional && body.is_end_stream() {
        return parse(b"{}", expect);
    }
    judge(headers)?;
    let upload = read(app, body, expect.bytes, "the request body").await?;
    if expect.optional && upload.bytes.is_empty() {
        return parse(b"{}", expect);
    }
    parse(&upload.bytes, expect)
}

/// Whether the headers announce JSON, as it is.
fn judge(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers::is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send JSON, with Content-Type: application/json",
        ));
    }
    headers::plain_body(headers)
}

/// Looks at the syntax and the length of the bounded list first, which costs no memory, then at the shape.
fn parse<T: DeserializeOwned + JsonSchema>(bytes: &[u8], expect: Expect) -> Result<T, Problem> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(bad_json(&"it is not UTF-8")) };
    if !text.trim_ascii_start().starts_with('{') {
        return Err(
            well_formed(text).map_or_else(|error| bad_json(&error), |()| bad_shape(".", "an object is expected"))
        );
    }
    let (name, most) = expect.list.unwrap_or(("", usize::MAX));
    let mut outline = serde_json::Deserializer::from_str(text);
    let counted = outline.deserialize_map(Outline(name));
    let count = counted.and_then(|count| outline.end().map(|()| count)).map_err(|error| match well_formed(text) {
        Ok(()) if is_beyond(&error) => bad_shape(name, &error.to_string()),
        Ok(()) => bad_json(&error),
        Err(broken) => bad_json(&broken),
    })?;
    if count > most {
        return Err(Problem::too_large("the list", u64::try_from(most).unwrap_or(u64::MAX), name));
    }
    let mut shape = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut shape).map_err(|error| match error.inner().classify() {
        Category::Data => match (missing(&error.inner().to_string()), error.path().to_string().as_str()) {
            (Some(field), ".") => bad_shape(field, &format!("it is missing{}", expected::<T>(field))),
            (Some(field), above) => bad_shape(&format!("{above}.{field}"), "it is missing"),
            (None, place) => bad_shape(place, &error.inner().to_string()),
        },
        _ if is_beyond(error.inner()) => bad_shape(&error.path().to_string(), &error.inner().to_string()),
        // What only shows when strings are decoded, such as half a surrogate pair.
        Category::Syntax | Category::Eof | Category::Io => bad_json(error.inner()),
    })
}

/// Whether it is JSON at all, of whatever shape, size and depth.
fn well_formed(text: &str) -> serde_json::Result<()> {
    let mut syntax = serde_json::Deserializer::from_str(text);
    IgnoredAny::deserialize(&mut syntax).and_then(|_| syntax.end())
}

/// Whether the parser gave up on JSON that is well formed: a number that no type holds, or nesting that it does not follow. It counts both
/// as syntax, and tells them only by its texts.
fn is_beyond(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.starts_with("number out of range") || text.starts_with("recursion limit exceeded")
}

/// The field that serde says is missing: its errors are texts.
fn missing(error: &str) -> Option<&str> {
    error.strip_prefix("missing field `")?.split('`').next()
}

/// What a field of a shape looks like, as the end of a sentence.
fn expected<T: JsonSchema>(field: &str) -> String {
    let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>();
    let shape = schema.pointer(&format!("/properties/{field}")).unwrap_or(&Value::Null);
    let named = shape["$ref"].as_str().and_then(|place| schema.pointer(place.trim_start_matches('#')));
    let shape = named.unwrap_or(shape);
    let needed: Vec<&str> = shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match (shape["type"].as_str(), needed.as_slice()) {
        (Some("object"), []) => "; give an object".to_owned(),
        (Some("object"), needed) => format!("; give an object with `{}`", needed.join("` and `")),
        (Some("array"), _) => "; give a list".to_owned(),
        (Some("string"), _) => "; give a string".to_owned(),
        _ => String::new(),
    }
}

fn bad_json(error: &dyn std::fmt::Display) -> Problem {
    Problem::bad_request("bad_json", format!("the body is not JSON: {error}"))
}

fn bad_shape(place: &str, what: &str) -> Problem {
    let detail = format!("the body is JSON of another shape than this route takes, at `{place}`: {what}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_shape", detail).with("at", place)
}

/// Counts the items of one list of an object, and keeps nothing.
struct Outline(&'static str);

impl<'de> Visitor<'de> for Outline {
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut most = 0;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                most = most.max(map.next_value::<Items>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(most)
    }
}

/// The number of items, if it is a list.
struct Items(usize);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct ItemsVisitor;

/// Whatever is no list counts nothing here: its shape is judged later.
macro_rules! no_items {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Items, E> { Ok(Items(0)) })*
    };
}

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    no_items!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Items, E> {
        Ok(Items(0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Items(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Items, A::Error> {
        let mut count = 0;
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Items(count))
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
