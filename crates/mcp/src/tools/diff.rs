//! `diff`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{self, DiffRequest, TreeChange};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// What a file takes beside its paths and its patch, bytes.
const FILE_BYTES: usize = 80;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Branch, tag or commit to compare from. Left out: the branch's head.
    from: Option<String>,
    /// Branch, tag or commit to compare to. Left out: your own view, so that with neither of them the answer is what you have pending.
    to: Option<String>,
    /// Only paths that start with this.
    prefix: Option<String>,
    /// Only which files differ, without the texts: cheap.
    #[serde(default)]
    names_only: bool,
    /// Most files (default 100, at most 1000).
    limit: Option<usize>,
    /// Most bytes of patches (default 100000, at most 1000000).
    max_bytes: Option<u64>,
    /// `next_cursor` of the last answer, with the same arguments.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    from: Option<String>,
    /// With pending work: the commit under it.
    to: Option<String>,
    files: Vec<File>,
    /// There are more: call again with it.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    /// `created`, `deleted`, `modified` or `renamed`.
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletions: Option<u64>,
    /// It is not shown as text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    /// Hunks of a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    /// The patch is larger than the budget and ends early: ask again with a larger `max_bytes`, or read the file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    patch_truncated: bool,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let limit = bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX);
    let room = bounds::room(args.max_bytes);
    let mut answer = page(call, &args, limit).await?;
    let fit = fitting(&answer.files, room);
    if fit < answer.files.len() {
        // Cursors stand at the end of a page: so the page is made as long as what fits.
        answer = page(call, &args, fit).await?;
    }
    trim(&mut answer.files, room);
    Ok(show(text(&answer), &answer))
}

async fn page<H: Host>(call: &Call<'_, H>, args: &Args, limit: usize) -> Result<Answer, Refusal> {
    let view = args.to.is_none();
    let request = DiffRequest {
        user: view.then_some(call.binding.user),
        branch: call.binding.branch.clone().filter(|_| view),
        from: args.from.clone().or_else(|| call.binding.branch.clone().filter(|_| !view)),
        to: args.to.clone(),
        prefix: args.prefix.clone(),
        renames: true,
        limit: Some(limit),
        cursor: args.cursor.clone(),
    };
    let project = call.binding.project.clone();
    let oid = |oid: Option<api::Oid>| oid.map(|oid| oid.to_string());
    if args.names_only {
        let names =
            call.host.run(Work::Light, move |engine| async move { engine.diff_names(&project, &request).await });
        let names = names.await?;
        let files = names.files.iter().map(File::named).collect();
        return Ok(Answer { from: oid(names.from), to: oid(names.to), files, next_cursor: names.next_cursor });
    }
    let work = Work::Batch { factor: 2, bytes: bounds::memory(bounds::budget(args.max_bytes)) };
    let diff = call.host.run(work, move |engine| async move { engine.diff(&project, &request).await }).await?;
    let files = diff.files.into_iter().map(|file| File {
        additions: Some(file.additions),
        deletions: Some(file.deletions),
        binary: file.binary,
        patch: (!file.binary).then_some(file.patch),
        ..File::named(&file.change)
    });
    Ok(Answer { from: oid(diff.from), to: oid(diff.to), files: files.collect(), next_cursor: diff.next_cursor })
}

impl File {
    fn named(change: &TreeChange) -> Self {
        let (path, path_b64) = shown::path_bytes(&change.path.0);
        Self {
            path,
            path_b64,
            action: change.action,
            old_path: change.old_path.clone(),
            additions: None,
            deletions: None,
            binary: false,
            patch: None,
            patch_truncated: false,
        }
    }

    fn bytes(&self) -> usize {
        let patch = self.patch.as_ref().map_or(0, String::len);
        FILE_BYTES + self.path.len() + self.old_path.as_ref().map_or(0, String::len) + patch
    }
}

/// How many of the files fit; one at least.
fn fitting(files: &[File], mut room: usize) -> usize {
    let mut fit = 0;
    for file in files {
        let bytes = file.bytes();
        if bytes > room && fit > 0 {
            break;
        }
        room = room.saturating_sub(bytes);
        fit += 1;
    }
    fit
}

/// Cuts the patch that alone is larger than the room, or that grew since the page was measured.
fn trim(files: &mut [File], mut room: usize) {
    for file in files {
        if let Some(patch) = &file.patch {
            let (head, cut) = bounds::cut(patch, room);
            if cut {
                file.patch = Some(head.to_owned());
                file.patch_truncated = true;
            }
        }
        room = room.saturating_sub(file.bytes());
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for file in &answer.files {
        _ = write!(text, "{} {}", file.action, shown::path(&file.path));
        if let Some(old) = &file.old_path {
            _ = write!(text, " (was {})", shown::path(old));
        }
        if let (Some(additions), Some(deletions)) = (file.additions, file.deletions) {
            _ = write!(text, " +{additions} -{deletions}");
        }
        text.push_str(if file.binary { " binary\n" } else { "\n" });
        text.push_str(file.patch.as_deref().unwrap_or_default());
        if file.patch_truncated {
            text.push_str("[This patch is cut: ask with a larger max_bytes, or read the file.]\n");
        }
    }
    if answer.files.is_empty() {
        text.push_str("[Nothing differs.]");
    }
    if let Some(cursor) = &answer.next_cursor {
        shown::goes_on(&mut text, cursor, &format!("Cut after {} files", answer.files.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, patch: &str) -> File {
        File {
            path: path.to_owned(),
            path_b64: None,
            action: "modified",
            old_path: None,
            additions: Some(1),
            deletions: Some(0),
            binary: false,
            patch: Some(patch.to_owned()),
            patch_truncated: false,
        }
    }

    #[test]
    fn a_page_holds_what_fits_and_one_file_at_least() {
        let files = [file("a", "x"), file("b", "y"), file("c", "z")];
        assert_eq!(fitting(&files, 10_000), 3);
        assert_eq!(fitting(&files, 2 * FILE_BYTES + 4), 2);
        assert_eq!(fitting(&files, 1), 1);
        assert_eq!(fitting(&[], 1), 0);
    }

    #[test]
    fn a_patch_that_is_cut_says_so() {
        let mut files = [file("a", "@@ -0,0 +1,2 @@\n+one\n+two\n"), file("b", "")];
        trim(&mut files, 22);
        assert_eq!(files[0].patch.as_deref(), Some("@@ -0,0 +1,2 @@\n+one\n"));
        assert!(files[0].patch_truncated && !files[1].patch_truncated);
        let answer = Answer { from: None, to: None, files: files.into(), next_cursor: None };
        assert!(text(&answer).contains("\n[This patch is cut"));
    }
}
