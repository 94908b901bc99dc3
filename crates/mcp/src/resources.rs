//! Files as resources: `treehold://{project}/{path}`, as the user sees them; and the status of the user's work as `treehold://{project}/`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;
use treehold_engine::EngineError;
use treehold_engine::api::At;

use crate::bounds::RESOURCE_BYTES_MAX;
use crate::host::{Host, Refusal, Work};
use crate::tools::{Call, ListArgs, list_page, status_now};

/// What stands for itself in a segment of a URI (RFC 3986).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same with the slashes between segments.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');
/// Resources of one page.
const PAGE: usize = 200;

/// What all URIs of a project begin with.
fn root(project: &str) -> String {
    format!("treehold://{}/", utf8_percent_encode(project, SEGMENT))
}

/// The one template: any file of the project.
pub(crate) fn template(project: &str) -> ResourceTemplate {
    ResourceTemplate::new(format!("{}{{+path}}", root(project)), "file")
        .with_title("A file of the project")
        .with_description("Any file, by its path from the repository's root, pending edits included. At most 1 MiB.")
}

/// What a URI names in a project.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The status of the branch and of pending work: no file has an empty path.
    Status,
    /// A file, by its path.
    File(Vec<u8>),
}

/// What a URI names in this project; `None` in any other.
pub(crate) fn named(project: &str, uri: &str) -> Option<Named> {
    let path = path(project, uri)?;
    Some(if path.is_empty() { Named::Status } else { Named::File(path) })
}

/// The status, as it is listed before all files.
fn status(project: &str) -> Resource {
    Resource::new(root(project), "status")
        .with_title("Status")
        .with_description("Head, remote and pending changes, as the tool `status` tells them.")
        .with_mime_type("application/json")
}

/// A page of files; the first one begins with the status.
pub(crate) async fn list<H: Host>(
    call: &Call<'_, H>,
    cursor: Option<String>,
) -> Result<ListResourcesResult, ErrorData> {
    let first = cursor.is_none().then(|| status(&call.binding.project));
    let files = PAGE - usize::from(first.is_some());
    let page = list_page(call, ListArgs::page(files, cursor)).await.map_err(|refusal| error(&refusal))?;
    let root = root(&call.binding.project);
    // A name that is not UTF-8 cannot be asked for, here or anywhere else.
    let files = page.entries.iter().filter(|entry| entry.path_b64.is_none());
    let resources = files.map(|entry| {
        Resource::new(format!("{root}{}", utf8_percent_encode(&entry.path, PATH)), entry.path.clone())
            .with_size(entry.size)
    });
    let mut answer = ListResourcesResult::with_all_items(first.into_iter().chain(resources).collect());
    answer.next_cursor = page.next_cursor;
    Ok(answer)
}

/// One file, or the status.
pub(crate) async fn read<H: Host>(call: &Call<'_, H>, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let path = match named(&call.binding.project, uri).ok_or_else(|| not_found(uri))? {
        Named::File(path) => path,
        Named::Status => {
            let told = status_now(call).await.map_err(|refusal| error(&refusal))?;
            let text = ResourceContents::text(told.value.to_string(), uri).with_mime_type("application/json");
            return Ok(ReadResourceResult::new(vec![text]));
        }
    };
    let (reference, user) = (call.binding.branch.clone(), Some(call.binding.user));
    let (project, at) = (call.binding.project.clone(), At { reference, user });
    let read = call.host.run(Work::Batch { factor: 4, bytes: 0 }, move |engine| async move {
        let meta = engine.find_file(&project, &path, &at).await?;
        if meta.size > RESOURCE_BYTES_MAX {
            return Err(EngineError::TooLarge { what: "the resource", limit: RESOURCE_BYTES_MAX, unit: "bytes" });
        }
        engine.file_content(&meta).await
    });
    let content = read.await.map_err(|mut refusal| {
        if refusal.code == "too_large" {
            refusal.detail.push_str("; read it with read_multiple_files, page by page");
        }
        error(&refusal)
    })?;
    let contents = match std::str::from_utf8(&content) {
        Ok(text) => ResourceContents::text(text, uri),
        Err(_) => {
            ResourceContents::blob(BASE64_STANDARD.encode(&content), uri).with_mime_type("application/octet-stream")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

/// The path that a URI names in this project; `None` in any other.
fn path(project: &str, uri: &str) -> Option<Vec<u8>> {
    let rest = uri.strip_prefix("treehold://")?;
    let (named, path) = rest.split_once('/')?;
    let named = percent_decode_str(named).decode_utf8().ok()?;
    (named == project).then(|| percent_decode_str(path).collect())
}

pub(crate) fn not_found(uri: &str) -> ErrorData {
    let (uri, _) = crate::bounds::cut(uri, 1_000);
    ErrorData::resource_not_found("there is no such resource", Some(json!({"uri": uri})))
}

/// Resources have no errors of their own kind: so the code and the details go beside the sentence.
pub(crate) fn error(refusal: &Refusal) -> ErrorData {
    let data = Some(json!({"code": refusal.code, "details": refusal.details}));
    match refusal.code.as_str() {
        "file_not_found" | "project_not_found" | "pending_deletion" | "bad_path" => {
            ErrorData::resource_not_found(refusal.detail.clone(), data)
        }
        "internal" | "unavailable" | "busy" | "too_many_requests" | "rate_limited" | "timeout" => {
            ErrorData::internal_error(refusal.detail.clone(), data)
        }
        _ => ErrorData::invalid_params(refusal.detail.clone(), data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_has_a_uri_and_comes_back_from_it() {
        for project in ["docs", "my docs/1"] {
            for name in ["a", "d/e f.md", "100%?#", "caf\u{e9}", "a\nb", "..x/%2e"] {
                let uri = format!("{}{}", root(project), utf8_percent_encode(name, PATH));
                assert_eq!(path(project, &uri).as_deref(), Some(name.as_bytes()), "{uri}");
                assert_eq!(path("other", &uri), None);
            }
        }
        for strange in ["file:///etc/passwd", "treehold://docs", "treehold:///a", "treehold://docs2/a", ""] {
            assert_eq!(path("docs", strange), None, "{strange}");
        }
        assert_eq!(named("docs", "treehold://docs/"), Some(Named::Status));
        assert_eq!(named("docs", "treehold://docs/a"), Some(Named::File(b"a".to_vec())));
        assert_eq!(template("a b").uri_template, "treehold://a%20b/{+path}");
    }
}
