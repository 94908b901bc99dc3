//! The files of a project.

use bytes::Bytes;
use futures::TryStreamExt as _;
use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use crate::content::Content;
use crate::error::{Error, Result};
use crate::options::Secret;
use crate::project::Project;
use crate::route::Route;
use crate::streams::{Entries, Items, Piece, items};
use crate::transport::{Reply, Request};
use crate::types::{
    CommitAnswer, Content as JsonContent, Encoding, FileEntry, FileList, Oid, ReadFile, ReadItem, ReadPath,
    ReadRequest, Snapshot,
};
use crate::workspace::Expected;

/// Which version is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    pub reference: Option<String>,
    /// Whose pending work lies over it.
    pub user: Option<Uuid>,
}

/// How a file is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Which version.
    pub at: At,
    /// First byte, and the one after the last; all if not given.
    pub range: Option<(u64, Option<u64>)>,
}

/// How a file is committed.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// A sentence is made if not given.
    pub message: Option<String>,
    /// Name and e-mail address; the server's default if not given.
    pub author: Option<(String, String)>,
    /// Six octal digits; kept if not given.
    pub mode: Option<String>,
    /// What the branch must have there.
    pub expected: Option<Expected>,
    /// Credentials for the remote, for this request only.
    pub remote_token: Option<Secret>,
}

/// What is known of a file's bytes before they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHead {
    /// Blob id.
    pub oid: Oid,
    /// Six octal digits.
    pub mode: String,
    /// The snapshot's commit.
    pub commit: Option<Oid>,
    /// Revision of the pending change, where only pending work was asked for.
    pub revision: Option<i64>,
    /// Whether the whole file is longer than this.
    pub partial: bool,
    /// Bytes of what comes, where the server says so.
    pub len: Option<u64>,
}

/// A file whose bytes are still to come. Dropping it ends the transfer.
#[derive(Debug)]
pub struct FileReader {
    /// What is known of it.
    pub head: FileHead,
    reply: Reply,
}

impl FileReader {
    pub(crate) fn new(reply: Reply) -> Self {
        let number = |name: &str| reply.text(name).and_then(|text| text.parse().ok());
        let head = FileHead {
            oid: reply.text("etag").unwrap_or_default().trim_matches('"').to_owned(),
            mode: reply.text("git-mode").unwrap_or_default(),
            commit: reply.text("git-commit"),
            revision: number("x-treehold-revision"),
            partial: reply.status == 206,
            len: reply.text("content-length").and_then(|text| text.parse().ok()),
        };
        Self { head, reply }
    }

    /// The next bytes; `None` = that was all.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.reply.chunk().await
    }

    /// The bytes as they come.
    pub fn stream(self) -> Items<Bytes> {
        items(self, |mut file| async move { Ok(file.chunk().await?.map(|chunk| (chunk, file))) })
    }

    /// All bytes, up to 1 GiB.
    pub async fn bytes(self) -> Result<Vec<u8>> {
        self.reply.bytes().await
    }

    /// As text, where it is UTF-8.
    pub async fn text(self) -> Result<String> {
        let bytes = self.bytes().await?;
        String::from_utf8(bytes).map_err(|_| Error::Usage("the file is not UTF-8; take its bytes".to_owned()))
    }
}

/// What comes one by one, of one snapshot.
pub struct Listed<T> {
    /// Which.
    pub snapshot: Snapshot,
    /// What is there.
    pub items: Items<T>,
}

impl<T> std::fmt::Debug for Listed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listed").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl<T> Listed<T> {
    /// Everything.
    pub async fn all(self) -> Result<Vec<T>> {
        self.items.try_collect().await
    }
}

/// The last line of a list or batch read. Only the cursor, which must be there even if it is `null`, tells it from an entry; a newer
/// server may say more.
#[derive(Debug, Deserialize)]
struct End {
    #[serde(deserialize_with = "Option::deserialize")]
    next_cursor: Option<String>,
}

/// The files of a project.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    project: &'a Project,
}

impl<'a> Files<'a> {
    pub(crate) fn new(project: &'a Project) -> Self {
        Self { project }
    }

    fn all_of(&self) -> Route {
        Route::new("/files").segment(self.project.name())
    }

    fn at(&self, request: Request, at: &At) -> Request {
        request.query("ref", at.reference.as_deref()).query("user", at.user)
    }

    /// Every file whose path starts with `prefix`, in byte order of the path. It comes as a stream, so that it may be long.
    pub async fn list(&self, at: &At, prefix: Option<&str>) -> Result<Listed<FileEntry>> {
        let request = self.at(Request::get(self.all_of()), at).query("prefix", prefix);
        let mut entries: Entries<FileEntry, End> = Entries::new(&self.project.transport, request);
        let snapshot = head(&mut entries).await?;
        let items = items(entries, |mut entries| async move {
            match entries.next().await? {
                Piece::Entry(entry) => Ok(Some((entry, entries))),
                Piece::Head(_) | Piece::End(_) => Ok(None),
            }
        });
        Ok(Listed { snapshot, items })
    }

    /// One page of the same.
    pub async fn page(
        &self,
        at: &At,
        prefix: Option<&str>,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<FileList> {
        let request = self.at(Request::get(self.all_of()), at).query("prefix", prefix);
        self.project.transport.json(&request.query("limit", limit).query("cursor", cursor)).await
    }

    /// A file, whose bytes are then read piece by piece or at once.
    pub async fn read(&self, path: impl AsRef<[u8]>, options: &ReadOptions) -> Result<FileReader> {
        let reply = self.project.transport.send(&self.reading(path.as_ref(), options)).await?;
        Ok(FileReader::new(reply))
    }

    /// The same, unless it still has this oid: then `None`.
    pub async fn read_if_changed(
        &self,
        path: impl AsRef<[u8]>,
        oid: &str,
        options: &ReadOptions,
    ) -> Result<Option<FileReader>> {
        let known = format!("\"{oid}\"");
        let request = self.reading(path.as_ref(), options).header("if-none-match", Some(&known)).accepted(&[304]);
        let reply = self.project.transport.send(&request).await?;
        Ok((reply.status != 304).then(|| FileReader::new(reply)))
    }

    fn reading(&self, path: &[u8], options: &ReadOptions) -> Request {
        let range = options.range.map(|(start, end)| {
            let last = end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
            format!("bytes={start}-{last}")
        });
        self.at(Request::get(self.all_of().path(path)), &options.at).header("range", range.as_deref())
    }

    /// One commit that writes the file.
    pub async fn write(
        &self,
        path: impl AsRef<[u8]>,
        content: impl Into<Content>,
        options: &WriteOptions,
    ) -> Result<CommitAnswer> {
        let request = self.committing(Method::PUT, path.as_ref(), options).content(content.into());
        self.project.transport.json(&request).await
    }

    /// One commit that deletes the file.
    pub async fn delete(&self, path: impl AsRef<[u8]>, options: &WriteOptions) -> Result<CommitAnswer> {
        self.project.transport.json(&self.committing(Method::DELETE, path.as_ref(), options)).await
    }

    fn committing(&self, method: Method, path: &[u8], options: &WriteOptions) -> Request {
        let (name, email) = options.author.as_ref().map(|(name, email)| (name.as_str(), email.as_str())).unzip();
        let request = Request::new(method, self.all_of().path(path))
            .query("branch", options.branch.as_deref())
            .query("message", options.message.as_deref())
            .query("author_name", name)
            .query("author_email", email)
            .query("mode", options.mode.as_deref());
        Expected::condition(options.expected.as_ref(), request).remote(options.remote_token.as_ref()).keyed(None)
    }

    /// Many files of one snapshot, in the order of `paths`, each whole: what the budget of an answer cut is put together. A path that
    /// cannot be read comes with its error, and harms no other.
    pub async fn read_many<P: Into<ReadPath>>(
        &self,
        paths: impl IntoIterator<Item = P>,
        at: &At,
    ) -> Result<Listed<ReadItem>> {
        let (reference, user) = (at.reference.clone(), at.user);
        let paths = paths.into_iter().map(Into::into).collect();
        self.read_batch(ReadRequest { paths, reference, user, ..ReadRequest::default() }).await
    }

    /// The same, as it is asked in JSON: with a budget for each answer.
    pub async fn read_batch(&self, request: ReadRequest) -> Result<Listed<ReadItem>> {
        let mut batch = Batch { project: self.project.clone(), entries: None, open: None, request };
        let mut entries = batch.ask();
        let snapshot = head(&mut entries).await?;
        batch.entries = Some(entries);
        let items = items(batch, |mut batch| async move { Ok(batch.next().await?.map(|item| (item, batch))) });
        Ok(Listed { snapshot, items })
    }
}

/// The first line.
pub(crate) async fn head<T, E>(entries: &mut Entries<T, E>) -> Result<Snapshot>
where
    T: serde::de::DeserializeOwned,
    E: serde::de::DeserializeOwned,
{
    match entries.next().await? {
        Piece::Head(snapshot) => Ok(snapshot),
        Piece::Entry(_) | Piece::End(_) => {
            Err(Error::BadAnswer { status: 200, detail: "the answer does not begin with its snapshot".to_owned() })
        }
    }
}

/// A batch read over as many answers as it takes.
struct Batch {
    project: Project,
    request: ReadRequest,
    entries: Option<Entries<ReadItem, End>>,
    /// A file of which more is to come.
    open: Option<ReadFile>,
}

impl Batch {
    fn ask(&self) -> Entries<ReadItem, End> {
        let request = Request::post(self.project.route("/read")).json(&self.request).repeatable(true);
        Entries::new(&self.project.transport, request)
    }

    async fn next(&mut self) -> Result<Option<ReadItem>> {
        while let Some(entries) = &mut self.entries {
            match entries.next().await? {
                Piece::Head(_) => {}
                Piece::Entry(item) => {
                    let item = match (self.open.take(), item) {
                        (Some(first), ReadItem::File(second)) => ReadItem::File(glued(first, second)?),
                        (_, item) => item,
                    };
                    match item {
                        ReadItem::File(file) if file.truncated => self.open = Some(file),
                        item => return Ok(Some(item)),
                    }
                }
                Piece::End(End { next_cursor }) => {
                    self.request.cursor = next_cursor;
                    self.entries = self.request.cursor.is_some().then(|| self.ask());
                }
            }
        }
        Ok(self.open.take().map(ReadItem::File))
    }
}

/// Two pieces of one file.
fn glued(first: ReadFile, second: ReadFile) -> Result<ReadFile> {
    let start_line = first.start_line.or(second.start_line);
    let content = match (&first.content, &second.content) {
        (
            JsonContent { encoding: Encoding::Utf8, content },
            JsonContent { encoding: Encoding::Utf8, content: more },
        ) => JsonContent { encoding: Encoding::Utf8, content: format!("{content}{more}") },
        (first, second) => {
            let broken = || Error::BadAnswer { status: 200, detail: "the answer's base64 is none".to_owned() };
            let mut bytes = first.bytes().ok_or_else(broken)?;
            bytes.extend(second.bytes().ok_or_else(broken)?);
            JsonContent::of(bytes)
        }
    };
    Ok(ReadFile { content, start_line, ..second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::entry_or_end;
    use crate::types::{Found, SearchEnd};

    #[test]
    fn an_entry_that_cannot_be_read_is_no_end() {
        let line = r#"{"path":"a","mode":"100644","oid":"0","size":1,"source":"committed"}"#;
        assert!(matches!(entry_or_end::<FileEntry, End>(line.as_bytes()), Ok(Piece::Entry(_))), "{line}");
        let newer = line.replace("committed", "borrowed");
        for line in [newer.as_str(), "{}", r#"{"error":"x"}"#, r#"{"next_cursor":7}"#, "7", "x"] {
            let piece = entry_or_end::<FileEntry, End>(line.as_bytes());
            assert!(matches!(piece, Err(Error::BadAnswer { status: 200, .. })), "{line}: {piece:?}");
            let piece = entry_or_end::<ReadItem, End>(line.as_bytes());
            assert!(matches!(piece, Err(Error::BadAnswer { status: 200, .. })), "{line}: {piece:?}");
        }
        for (line, cursor) in [
            (r#"{"next_cursor":null}"#, None),
            (r#"{"next_cursor":"c"}"#, Some("c")),
            (r#"{"next_cursor":null,"new":1}"#, None),
        ] {
            let piece = entry_or_end::<FileEntry, End>(line.as_bytes());
            assert!(matches!(&piece, Ok(Piece::End(end)) if end.next_cursor.as_deref() == cursor), "{line}: {piece:?}");
        }
    }

    #[test]
    fn what_a_search_finds_and_cannot_be_read_is_no_end() {
        let end = r#"{"files_searched":1,"bytes_searched":2,"skipped":{"binary":0,"too_large":0,"unreadable":0},"next_cursor":null}"#;
        assert!(matches!(entry_or_end::<Found, SearchEnd>(end.as_bytes()), Ok(Piece::End(_))), "{end}");
        let newer = r#"{"path":"a","oid":"0","source":"borrowed","count":1}"#;
        let cut = end.replace(r#","next_cursor":null"#, "");
        for line in [newer, cut.as_str(), r#"{"next_cursor":null}"#, "{}"] {
            let piece = entry_or_end::<Found, SearchEnd>(line.as_bytes());
            assert!(matches!(piece, Err(Error::BadAnswer { status: 200, .. })), "{line}: {piece:?}");
        }
        let found = newer.replace("borrowed", "pending");
        assert!(matches!(entry_or_end::<Found, SearchEnd>(found.as_bytes()), Ok(Piece::Entry(_))), "{found}");
    }
}
