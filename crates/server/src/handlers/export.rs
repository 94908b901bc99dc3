//! Archives and bundles, streamed from a spool file.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use tokio_util::io::ReaderStream;
use treehold_engine::EngineError;
use treehold_engine::api::ArchiveFormat;
use treehold_object::ObjectId;

use crate::app::App;
use crate::error::Problem;
use crate::params::{Params, Query};
use crate::respond::{Answer, value};

/// Read from the spool file at once, bytes.
const CHUNK: usize = 256 << 10;
/// What making an archive holds at most, but for single files that are larger: a chunk of contents, and its lists.
const ARCHIVE_BYTES: u64 = 40 << 20;
/// The same for a bundle: entries on their way from the bucket, and the table of all objects.
const BUNDLE_BYTES: u64 = 40 << 20;

/// `GET /projects/{project}/archive.tar.gz?ref&user`
pub(crate) async fn tar_gz(State(app): State<App>, params: Params, query: Query) -> Answer {
    archive(&app, &params, &query, ArchiveFormat::TarGz).await
}

/// `GET /projects/{project}/archive.zip?ref&user`
pub(crate) async fn zip(State(app): State<App>, params: Params, query: Query) -> Answer {
    archive(&app, &params, &query, ArchiveFormat::Zip).await
}

async fn archive(app: &App, params: &Params, query: &Query, format: ArchiveFormat) -> Answer {
    let (project, at) = (params.text("project")?, query.at()?);
    let _memory = app.reserve(ARCHIVE_BYTES)?;
    let (spool, commit) = app.exporting(app.engine().archive(project, &at, format)).await?;
    let (kind, extension) = match format {
        ArchiveFormat::TarGz => ("application/gzip", "tar.gz"),
        ArchiveFormat::Zip => ("application/zip", "zip"),
    };
    let version = commit.map_or_else(|| "empty".to_owned(), |commit| commit.to_hex_with_len(8).to_string());
    let name = format!("{}-{version}.{extension}", file_name(project));
    attachment(spool.reopen().map_err(broken)?, kind, &name, commit).await
}

/// `GET /projects/{project}/bundle?ref&user`
pub(crate) async fn bundle(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, reference, user) = (params.text("project")?, query.text("ref")?, query.uuid("user")?);
    let _memory = app.reserve(BUNDLE_BYTES)?;
    let spool = app.exporting(app.engine().bundle(project, reference, user)).await?;
    let name = format!("{}.bundle", file_name(project));
    attachment(spool.reopen().map_err(broken)?, "application/x-git-bundle", &name, None).await
}

/// Streams a file whose name may be gone already: the open handle keeps its bytes.
async fn attachment(mut file: File, kind: &'static str, name: &str, commit: Option<ObjectId>) -> Answer {
    let len = file.seek(SeekFrom::End(0)).map_err(broken)?;
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let body = Body::from_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK));
    let mut response: Response = (StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    if let Some(value) = value(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Some(value) = commit.and_then(|commit| value(&commit.to_string())) {
        headers.insert("git-commit", value);
    }
    Ok(response)
}

fn broken(error: std::io::Error) -> Problem {
    EngineError::Unavailable { what: "the store", source: Box::new(error) }.into()
}

/// A name that is safe in a header and on any file system.
fn file_name(project: &str) -> String {
    let plain =
        |character: char| if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' };
    let name: String = project.chars().take(100).map(plain).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "project".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    #[test]
    fn file_names_are_harmless() {
        assert_eq!(file_name("docs"), "docs");
        assert_eq!(file_name("../a\"b\r\n\u{e9}"), "a-b");
        assert_eq!(file_name(".."), "project");
        assert_eq!(file_name(&"x".repeat(500)).len(), 100);
    }

    #[tokio::test]
    async fn a_spool_file_is_sent_whole_though_its_name_is_gone() {
        let path = std::env::temp_dir().join(format!("treehold-export-{}", uuid::Uuid::new_v4()));
        let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        std::fs::File::create(&path).unwrap().write_all(&content).unwrap();
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let response = attachment(file, "application/zip", "a.zip", None).await.unwrap();
        assert_eq!(response.headers()["content-length"], "1000000");
        assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"a.zip\"");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), content);
    }
}
