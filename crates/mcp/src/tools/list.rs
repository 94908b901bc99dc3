//! `list_files`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::Globs;
use treehold_engine::api::{At, ListOptions, Listed, Source};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 500;
const LIMIT_MAX: usize = 5_000;
/// What an entry takes beside its path, bytes.
const ENTRY_BYTES: usize = 40;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Only paths that start with this, such as "src/".
    prefix: Option<String>,
    /// Globs as in .gitignore, the last that matches decides: "*.rs", "/docs/**", "!*.lock".
    #[serde(default)]
    globs: Vec<String>,
    /// Show directories this many levels below the prefix as one line with the number of files in them. Use 1 for a first look.
    depth: Option<usize>,
    /// List this branch, tag or commit as committed. Left out: your own view, pending edits included.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Most entries (default 500, at most 5000).
    limit: Option<usize>,
    /// `next_cursor` of the last answer, with the same arguments.
    cursor: Option<String>,
}

impl Args {
    /// A page of everything.
    pub(crate) fn page(limit: usize, cursor: Option<String>) -> Self {
        Self { prefix: None, globs: Vec::new(), depth: None, reference: None, limit: Some(limit), cursor }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// The commit that was listed; null on an empty branch.
    commit: Option<String>,
    /// In byte order of the path.
    entries: Vec<Entry>,
    /// There are more: call again with it.
    next_cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Entry {
    pub(crate) path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_b64: Option<String>,
    kind: Kind,
    /// Bytes; of a directory, of all its files.
    pub(crate) size: u64,
    /// Of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    /// You have pending edits there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Executable,
    Link,
    Submodule,
    Directory,
}

/// Gathers what is listed into at most so many entries, of at most so many bytes.
struct Gather {
    prefix: usize,
    depth: Option<usize>,
    globs: Globs,
    limit: usize,
    room: usize,
    entries: Vec<Entry>,
    /// The bytes of the last path that is in an entry.
    last: Vec<u8>,
    /// The bytes of the directory that the last entry is.
    dir: Option<Vec<u8>>,
    full: bool,
}

impl Gather {
    fn take(&mut self, file: &Listed<'_>) {
        if self.full || !self.globs.take(file.path) {
            return;
        }
        let dir = self.depth.and_then(|depth| directory(file.path, self.prefix, depth));
        if let (Some(dir), Some(known), Some(entry)) = (dir, &self.dir, self.entries.last_mut())
            && dir == known.as_slice()
        {
            entry.size += file.size;
            entry.files = entry.files.map(|files| files + 1);
            entry.pending |= file.source == Source::Pending;
            self.last = file.path.to_vec();
            return;
        }
        let bytes = dir.unwrap_or(file.path);
        let left = self.room.saturating_sub(bytes.len() + ENTRY_BYTES);
        if self.entries.len() >= self.limit || (left == 0 && !self.entries.is_empty()) {
            self.full = true;
            return;
        }
        self.room = left;
        let (path, path_b64) = shown::path_bytes(bytes);
        let kind = match (dir, file.mode.0) {
            (Some(_), _) => Kind::Directory,
            (None, 0o100_755) => Kind::Executable,
            (None, 0o120_000) => Kind::Link,
            (None, 0o160_000) => Kind::Submodule,
            (None, _) => Kind::File,
        };
        let pending = file.source == Source::Pending;
        self.entries.push(Entry { path, path_b64, kind, size: file.size, files: dir.map(|_| 1), pending });
        self.dir = dir.map(<[u8]>::to_vec);
        self.last = file.path.to_vec();
    }
}

/// The directory (with its last slash) that a path is in, `depth` levels below the prefix; `None` if the path is not that deep.
fn directory(path: &[u8], prefix: usize, depth: usize) -> Option<&[u8]> {
    // A prefix may end within a name: levels count from the directory that it is in.
    let base = path.get(..prefix).unwrap_or(path).iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let slashes = path.iter().enumerate().skip(base).filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).nth(depth.max(1) - 1).map(|at| &path[..=at])
}

/// A page of entries.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) commit: Option<String>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) next_cursor: Option<String>,
}

pub(crate) async fn page<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Page, Refusal> {
    let (reference, user) = call.view(args.reference);
    let at = At { reference, user };
    let limit = bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX);
    let prefix = args.prefix.as_ref().map_or(0, String::len);
    let options = ListOptions { prefix: args.prefix, limit: None, streamed: true, cursor: args.cursor };
    let work = Work::Batch { factor: 0, bytes: bounds::memory(bounds::BUDGET_DEFAULT) };
    let (project, depth, globs) = (call.binding.project.clone(), args.depth, args.globs);
    let listed = call.host.run(work, move |engine| async move {
        let globs = Globs::new(&globs)?;
        let mut listing = engine.open_list(&project, &at, &options).await?;
        let room = bounds::room(None);
        let (entries, last) = (Vec::new(), Vec::new());
        let mut gather = Gather { prefix, depth, globs, limit, room, entries, last, dir: None, full: false };
        while listing.show(&mut |file| gather.take(&file)).await? && !gather.full {}
        let next = gather.full.then(|| listing.cursor_after(&gather.last)).transpose()?;
        Ok((listing.commit(), gather.entries, next))
    });
    let (commit, entries, next_cursor) = listed.await?;
    Ok(Page { commit: commit.map(|oid| oid.to_string()), entries, next_cursor })
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let Page { commit, entries, next_cursor } = page(call, args).await?;
    let answer = Answer { commit, entries, next_cursor };
    Ok(show(text(&answer), &answer))
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for entry in &answer.entries {
        text.push_str(&shown::path(&entry.path));
        match (entry.kind, entry.files) {
            (Kind::Directory, Some(files)) => _ = write!(text, " ({files} files, {} bytes)", entry.size),
            (Kind::Submodule, _) => text.push_str(" (submodule)"),
            (Kind::Link, _) => text.push_str(" (link)"),
            (Kind::Executable, _) => _ = write!(text, " ({} bytes, executable)", entry.size),
            (_, _) => _ = write!(text, " ({} bytes)", entry.size),
        }
        text.push_str(if entry.pending { " pending\n" } else { "\n" });
    }
    if answer.entries.is_empty() {
        text.push_str("[No file matches.]");
    }
    if let Some(cursor) = &answer.next_cursor {
        shown::goes_on(&mut text, cursor, &format!("Cut after {} entries", answer.entries.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{Mode, Oid};

    fn gathered(
        paths: &[&str],
        depth: Option<usize>,
        prefix: &str,
        limit: usize,
        room: usize,
    ) -> (Vec<String>, Vec<u8>) {
        let globs = Globs::new(&[]).unwrap();
        let (entries, last) = (Vec::new(), Vec::new());
        let mut gather =
            Gather { prefix: prefix.len(), depth, globs, limit, room, entries, last, dir: None, full: false };
        let oid: Oid = "0000000000000000000000000000000000000001".parse().unwrap();
        for path in paths {
            let source = if *path == "d/p" { Source::Pending } else { Source::Committed };
            gather.take(&Listed { path: path.as_bytes(), mode: Mode(0o100_644), oid, size: 2, source });
        }
        let answer = Answer { commit: None, entries: gather.entries, next_cursor: None };
        (text(&answer).lines().map(str::to_owned).collect(), gather.last)
    }

    #[test]
    fn directories_are_one_entry_each() {
        let paths = ["a", "d/e/f", "d/p", "d/q", "e/x"];
        let (lines, last) = gathered(&paths, Some(1), "", 9, 9_999);
        assert_eq!(lines, ["a (2 bytes)", "d/ (3 files, 6 bytes) pending", "e/ (1 files, 2 bytes)"]);
        assert_eq!(last, b"e/x");
        assert_eq!(gathered(&paths[1..4], Some(1), "d/", 9, 9_999).0[0], "d/e/ (1 files, 2 bytes)");
        assert_eq!(gathered(&paths[1..4], Some(1), "d", 9, 9_999).0.len(), 1, "a prefix may end within a name");
        assert_eq!(gathered(&paths, Some(9), "", 9, 9_999).0.len(), 5);
    }

    #[test]
    fn a_page_ends_after_a_whole_entry_and_has_at_least_one() {
        let paths = ["a", "d/e/f", "d/p", "d/q", "e/x"];
        let (lines, last) = gathered(&paths, Some(1), "", 2, 9_999);
        assert_eq!((lines.len(), last.as_slice()), (2, &b"d/q"[..]));
        let (lines, last) = gathered(&paths, None, "", 9, 1);
        assert_eq!((lines.len(), last.as_slice()), (1, &b"a"[..]));
        let (lines, last) = gathered(&paths, None, "", 9, 2 * ENTRY_BYTES + 7);
        assert_eq!((lines.len(), last.as_slice()), (2, &b"d/e/f"[..]));
    }
}
