//! Diffs: of two commits, or of a user's view against the head.

use bytes::Bytes;
use gix_diff::blob::{Algorithm, InternedInput, UnifiedDiff, diff_with_slider_heuristics, unified_diff};
use treehold_catalog::Project;
use treehold_object::ObjectId;

use crate::api::{Diff, DiffFile, DiffRequest, Mode, Oid, TreeChange};
use crate::compare::{Compared, LIMIT_MAX, Moved, tree_change};
use crate::tree::{Change, GITLINK, Side, is_binary};
use crate::{Engine, EngineError, Result, blocking};

/// Changes whose contents are read at once.
const CHUNK: usize = 256;
/// Files of one diff.
const FILES_MAX: u64 = LIMIT_MAX as u64;

impl Engine {
    /// Compares `from` and `to`, or the head and a user's view of it, with the texts.
    pub async fn diff(&self, project: &str, request: &DiffRequest) -> Result<Diff> {
        let limit = request.limit.or(request.cursor.is_some().then_some(FILES_MAX as usize));
        let Compared { project, from, to, changes, next_cursor, .. } = self.compared(project, request, limit).await?;
        let files = self.file_diffs(&project, changes, [false, request.user.is_some()]).await?;
        Ok(Diff { from: from.oid.map(Oid), to: to.oid.map(Oid), files, next_cursor })
    }

    /// Compares files whose sides may both be pending work, or have been.
    pub(crate) async fn pending_diffs(&self, project: &Project, changes: Vec<Change>) -> Result<Vec<DiffFile>> {
        let changes = changes.into_iter().map(|change| Moved { change, from: None });
        self.file_diffs(project, changes.collect(), [true, true]).await
    }

    /// Compares files. `pending`: whether the contents of a side are those of pending work.
    async fn file_diffs(&self, project: &Project, changes: Vec<Moved>, pending: [bool; 2]) -> Result<Vec<DiffFile>> {
        if changes.len() as u64 > FILES_MAX {
            return Err(EngineError::TooLarge { what: "the diff", limit: FILES_MAX, unit: "files" });
        }
        let mut files = Vec::with_capacity(changes.len());
        for chunk in changes.chunks(CHUNK) {
            let blob = |side: Side| side.filter(|item| item.mode != GITLINK).map(|item| item.oid);
            let olds: Vec<ObjectId> = chunk.iter().filter_map(|moved| blob(moved.change.old)).collect();
            let news: Vec<ObjectId> = chunk.iter().filter_map(|moved| blob(moved.change.new)).collect();
            let mut olds = self.side(project, &olds, pending[0]).await?.into_iter();
            let mut news = self.side(project, &news, pending[1]).await?.into_iter();
            for moved in chunk {
                let old = blob(moved.change.old).and_then(|_| olds.next().flatten());
                let new = blob(moved.change.new).and_then(|_| news.next().flatten());
                let change = tree_change(moved.clone());
                files.push(blocking(move || Ok(file_diff(change, old, new))).await?);
            }
        }
        Ok(files)
    }

    async fn side(&self, project: &Project, oids: &[ObjectId], pending: bool) -> Result<Vec<Option<Bytes>>> {
        match pending {
            true => self.pending_bytes(project, oids).await,
            false => self.contents(oids).await,
        }
    }
}

fn file_diff(change: TreeChange, old: Option<Bytes>, new: Option<Bytes>) -> DiffFile {
    let old = shown(old, change.old_mode, change.old_oid);
    let new = shown(new, change.new_mode, change.new_oid);
    let binary = is_binary(&old) || is_binary(&new);
    if turns(&change) {
        // Git tells it as a file that goes and another one that comes: two hunks, of which the second one starts from nothing. A binary
        // side has none.
        let hunk = |old: &[u8], new: &[u8]| match is_binary(old) || is_binary(new) {
            true => (String::new(), 0, 0),
            false => text_diff(old, new),
        };
        let (gone, come) = (hunk(&old, b""), hunk(b"", &new));
        return DiffFile { change, binary, additions: come.1, deletions: gone.2, patch: gone.0 + &come.0 };
    }
    if binary {
        return DiffFile { change, binary, additions: 0, deletions: 0, patch: String::new() };
    }
    let (patch, additions, deletions) = text_diff(&old, &new);
    DiffFile { change, binary: false, additions, deletions, patch }
}

/// What a diff compares on one side: the content, or a line that names a submodule's commit.
fn shown(content: Option<Bytes>, mode: Option<Mode>, oid: Option<Oid>) -> Bytes {
    match (mode, oid) {
        (Some(Mode(GITLINK)), Some(oid)) => format!("Subproject commit {oid}\n").into(),
        _ => content.unwrap_or_default(),
    }
}

/// Whether a path changes its type: file, link or submodule.
fn turns(change: &TreeChange) -> bool {
    matches!((change.old_mode, change.new_mode), (Some(old), Some(new)) if old.0 & 0o170_000 != new.0 & 0o170_000)
}

/// Hunks, lines added, lines removed.
fn text_diff(old: &[u8], new: &[u8]) -> (String, u64, u64) {
    let input = InternedInput::new(old, new);
    let diff = diff_with_slider_heuristics(Algorithm::Histogram, &input);
    let (additions, deletions) = (u64::from(diff.count_additions()), u64::from(diff.count_removals()));
    let config = unified_diff::ContextSize::symmetrical(3);
    let lines = Lines::default();
    let patch = UnifiedDiff::new(&diff, &input, lines, config).consume().map(|lines| lines.patch).unwrap_or_default();
    (String::from_utf8_lossy(&patch).into_owned(), additions, deletions)
}

/// Writes hunks as git does, with its note where a file does not end in LF.
#[derive(Default)]
struct Lines {
    patch: Vec<u8>,
}

impl unified_diff::ConsumeHunk for Lines {
    type Out = Self;

    fn consume_hunk(
        &mut self,
        header: unified_diff::HunkHeader,
        lines: &[(unified_diff::DiffLineKind, &[u8])],
    ) -> std::io::Result<()> {
        let range = |start: u32, len: u32| match len {
            1 => format!("{start}"),
            0 => format!("{},0", start.saturating_sub(1)),
            _ => format!("{start},{len}"),
        };
        let (before, after) = (
            range(header.before_hunk_start, header.before_hunk_len),
            range(header.after_hunk_start, header.after_hunk_len),
        );
        self.patch.extend_from_slice(format!("@@ -{before} +{after} @@\n").as_bytes());
        for (kind, line) in lines {
            self.patch.push(kind.to_prefix() as u8);
            self.patch.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                self.patch.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
        Ok(())
    }

    fn finish(self) -> Self {
        self
    }
}

/// A path as git's diff headers write it: quoted where it holds control characters, quotes, backslashes or bytes above ASCII.
fn quoted(prefix: &str, path: &[u8]) -> String {
    let plain = path.iter().all(|&b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\');
    if plain {
        return format!("{prefix}{}", String::from_utf8_lossy(path));
    }
    let mut text = format!("\"{prefix}");
    for &b in path {
        match b {
            b'"' | b'\\' => text.extend(['\\', b as char]),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            0x20..0x7f => text.push(b as char),
            _ => text.push_str(&format!("\\{b:03o}")),
        }
    }
    text.push('"');
    text
}

impl Diff {
    /// The diff as `git diff` prints it (without rename detection, or as with `-M100%`), which `git apply` takes for text files.
    pub fn to_unified(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            file.write(&mut text);
        }
        text
    }
}

impl DiffFile {
    /// A change of type as two: the old file goes, the new one comes.
    fn halves(&self) -> [DiffFile; 2] {
        let mut halves = [self.clone(), self.clone()];
        // Lines of the first hunk start with `-` or a backslash, so that this is where the second one starts.
        let at =
            if self.patch.starts_with("@@ -0,0 ") { Some(0) } else { self.patch.find("\n@@ -0,0 ").map(|at| at + 1) };
        let (gone, come) = self.patch.split_at(at.unwrap_or(self.patch.len()));
        (halves[0].change.new_mode, halves[0].change.new_oid, halves[0].patch) = (None, None, gone.to_owned());
        (halves[1].change.old_mode, halves[1].change.old_oid, halves[1].patch) = (None, None, come.to_owned());
        for half in &mut halves {
            let oid = half.change.old_oid.or(half.change.new_oid);
            half.binary &= half.patch.is_empty() && !oid.is_some_and(|oid| oid.0.is_empty_blob());
        }
        halves
    }

    fn write(&self, text: &mut String) {
        let change = &self.change;
        if turns(change) {
            return self.halves().iter().for_each(|half| half.write(text));
        }
        let before = change.old_name.as_ref().unwrap_or(&change.path.0);
        let (a, b) = (quoted("a/", before), quoted("b/", &change.path.0));
        text.push_str(&format!("diff --git {a} {b}\n"));
        match (change.old_mode, change.new_mode) {
            (None, Some(new)) => text.push_str(&format!("new file mode {new}\n")),
            (Some(old), None) => text.push_str(&format!("deleted file mode {old}\n")),
            (Some(old), Some(new)) if old != new => text.push_str(&format!("old mode {old}\nnew mode {new}\n")),
            _ => {}
        }
        if let Some(from) = &change.old_name {
            let (from, to) = (quoted("", from), quoted("", &change.path.0));
            text.push_str(&format!("similarity index 100%\nrename from {from}\nrename to {to}\n"));
        }
        if change.old_oid == change.new_oid {
            return;
        }
        let short =
            |oid: Option<Oid>| oid.map_or_else(|| "0000000".to_owned(), |oid| oid.0.to_hex_with_len(7).to_string());
        text.push_str(&format!("index {}..{}", short(change.old_oid), short(change.new_oid)));
        match (change.old_mode, change.new_mode) {
            (Some(old), Some(new)) if old == new => text.push_str(&format!(" {new}\n")),
            _ => text.push('\n'),
        }
        let side = |there: bool, name: &str| if there { name.to_owned() } else { "/dev/null".to_owned() };
        let (a, b) = (side(change.old_oid.is_some(), &a), side(change.new_oid.is_some(), &b));
        if self.binary {
            text.push_str(&format!("Binary files {a} and {b} differ\n"));
        } else if !self.patch.is_empty() {
            // Git ends names that have a space with a tab, so that readers find their end.
            let end = |name: &str| if name != "/dev/null" && change.path.0.contains(&b' ') { "\t" } else { "" };
            text.push_str(&format!("--- {a}{}\n+++ {b}{}\n{}", end(&a), end(&b), self.patch));
        }
    }
}
