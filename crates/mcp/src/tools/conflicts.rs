//! `conflicts` and `resolve`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{self, ConflictFile, ConflictPage, ConflictsRequest, ResolveFile, ResolveRequest};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Files that one call resolves.
const RESOLVED_MAX: usize = 100;
/// What a hunk takes beside its texts, bytes.
const HUNK_BYTES: usize = 80;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Only this path.
    path: Option<String>,
    /// Most files (default 20, at most 100).
    limit: Option<usize>,
    /// Most bytes of texts (default 100000, at most 1000000).
    max_bytes: Option<u64>,
    /// `next_cursor` of the last answer, with the same arguments.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    branch: String,
    files: Vec<File>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    /// `outdated` merges by itself at the next commit, `conflict` does not.
    state: &'static str,
    /// Blob ids: what the edit started from, your edit, what the branch has; null = no file.
    base: Option<String>,
    ours: Option<String>,
    theirs: Option<String>,
    /// Lines that both sides changed. Empty where a side is missing, binary or too large: read the versions then.
    hunks: Vec<Hunk>,
    /// There are more hunks than the budget allows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Hunk {
    base: String,
    ours: String,
    theirs: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resolve {
    /// 1 to 100 files, all or none.
    files: Vec<Resolution>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Resolution {
    path: String,
    take: Take,
    /// For "text": the whole resolved content.
    content: Option<String>,
    /// The `theirs` that you looked at (null: the branch has no file): refused if the branch has another one by now. Left out: whatever it
    /// has.
    #[serde(default, deserialize_with = "given")]
    theirs: Option<Option<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Take {
    /// Your edit, on top of what the branch has.
    Ours,
    /// What the branch has; your edit goes.
    Theirs,
    /// Both, where they merge.
    Merged,
    /// `content`.
    Text,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Resolved {
    revision: i64,
    files: Vec<ResolvedFile>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ResolvedFile {
    path: String,
    /// The file's blob now; null = there is no file.
    oid: Option<String>,
}

/// What is not clean, with the lines that both sides changed.
async fn page<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Answer, Refusal> {
    let request = ConflictsRequest {
        user: call.binding.user,
        branch: call.binding.branch.clone(),
        path: args.path.map(String::into_bytes),
        cursor: args.cursor,
        limit: Some(bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX)),
        ..ConflictsRequest::default()
    };
    let project = call.binding.project.clone();
    let work = Work::Batch { factor: 4, bytes: bounds::memory(bounds::budget(args.max_bytes)) };
    let told = call.host.run(work, move |engine| async move { engine.conflicts(&project, &request).await });
    let ConflictPage { branch, files, next_cursor, .. } = told.await?;
    let mut room = bounds::room(args.max_bytes);
    let files = files.iter().map(|conflict| file(conflict, &mut room)).collect();
    Ok(Answer { branch, files, next_cursor })
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let answer = page(call, args).await?;
    Ok(show(text(&answer), &answer))
}

/// The first conflicts in words, for whoever was refused because of them; nothing if they cannot be told.
pub(super) async fn told<H: Host>(call: &Call<'_, H>) -> String {
    let args = Args { path: None, limit: None, max_bytes: Some(20_000), cursor: None };
    match page(call, args).await {
        Ok(answer) => text(&answer),
        Err(refusal) => {
            tracing::debug!(code = refusal.code, "conflicts could not be told");
            String::new()
        }
    }
}

fn file(conflict: &ConflictFile, room: &mut usize) -> File {
    let (path, _) = shown::path_bytes(&conflict.path.0);
    let (mut hunks, mut truncated) = (Vec::new(), false);
    for hunk in conflict.merged.iter().flat_map(|merged| &merged.hunks) {
        let bytes = hunk.base.len() + hunk.ours.len() + hunk.theirs.len() + HUNK_BYTES;
        if bytes > *room {
            truncated = true;
            break;
        }
        *room -= bytes;
        let api::ConflictHunk { base, ours, theirs, .. } = hunk.clone();
        hunks.push(Hunk { base, ours, theirs });
    }
    let side = |side: &Option<api::MergeSide>| side.as_ref().map(|side| side.oid.to_string());
    File {
        path,
        state: super::status::state(conflict.state),
        base: side(&conflict.base),
        ours: side(&conflict.ours),
        theirs: side(&conflict.theirs),
        hunks,
        truncated,
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for file in &answer.files {
        let named = |oid: &Option<String>| oid.clone().unwrap_or_else(|| "no file".to_owned());
        let (base, ours, theirs) = (named(&file.base), named(&file.ours), named(&file.theirs));
        let path = shown::path(&file.path);
        _ = writeln!(text, "{} {path} (base {base}, ours {ours}, theirs {theirs})", file.state);
        for hunk in &file.hunks {
            for (name, lines) in [("<<<<<<< ours", &hunk.ours), ("||||||| base", &hunk.base), ("=======", &hunk.theirs)]
            {
                let end = if lines.is_empty() || lines.ends_with('\n') { "" } else { "\n" };
                _ = write!(text, "{name}\n{lines}{end}");
            }
            text.push_str(">>>>>>> theirs\n");
        }
        if file.truncated {
            text.push_str(
                "[There are more conflicts in this file than fit: ask for its path with a larger max_bytes.]\n",
            );
        }
    }
    if answer.files.is_empty() {
        text.push_str("[Nothing is in the way of a commit.]");
    }
    if let Some(cursor) = &answer.next_cursor {
        shown::goes_on(&mut text, cursor, &format!("Cut after {} files", answer.files.len()));
    }
    text
}

fn resolutions(args: Resolve) -> Result<Vec<ResolveFile>, Refusal> {
    if args.files.is_empty() || args.files.len() > RESOLVED_MAX {
        return Err(Refusal::new("bad_arguments", format!("give 1 to {RESOLVED_MAX} files in a call")));
    }
    let files = args.files.into_iter().map(|file| {
        let theirs = file.theirs.map(|theirs| theirs.map(|oid| oid.parse()).transpose());
        let theirs = theirs.transpose().map_err(|why: &str| Refusal::new("bad_oid", why))?;
        Ok(ResolveFile {
            path: file.path,
            take: match file.take {
                Take::Ours => api::Take::Ours,
                Take::Theirs => api::Take::Theirs,
                Take::Merged => api::Take::Merged,
                Take::Text => api::Take::Text,
            },
            content: file.content,
            encoding: None,
            mode: None,
            theirs,
        })
    });
    files.collect()
}

/// `null` is given, too: there it says that no file was seen.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

pub(crate) async fn resolve<H: Host>(call: &Call<'_, H>, args: Resolve) -> Result<Shown, Refusal> {
    let files = resolutions(args)?;
    let request = ResolveRequest { user: call.binding.user, branch: call.binding.branch.clone(), files };
    let (project, origin) = (call.binding.project.clone(), call.origin.clone());
    let done = call
        .host
        .run(Work::Write, move |engine| async move { engine.resolve_conflicts(&project, &request, origin).await });
    let done = done.await?;
    let files = done.results.iter().map(|result| ResolvedFile {
        path: shown::path_bytes(&result.path.0).0,
        oid: result.oid.map(|oid| oid.to_string()),
    });
    let answer = Resolved { revision: done.revision, files: files.collect() };
    Ok(show(format!("Resolved {} files; revision {}", answer.files.len(), answer.revision), &answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{ChangeState, ConflictHunk, MergedText, Path};

    #[test]
    fn a_file_that_was_seen_to_be_gone_is_another_thing_than_one_that_was_not_looked_at() {
        let oid = "00000000000000000000000000000000000000aa";
        let asked = serde_json::json!({"files": [
            {"path": "a", "take": "ours"},
            {"path": "a", "take": "ours", "theirs": null},
            {"path": "a", "take": "ours", "theirs": oid},
        ]});
        let files = resolutions(serde_json::from_value(asked).unwrap()).unwrap();
        let theirs: Vec<_> = files.iter().map(|file| file.theirs).collect();
        assert_eq!(theirs, [None, Some(None), Some(oid.parse().ok())]);
        let bad = serde_json::json!({"files": [{"path": "a", "take": "ours", "theirs": "12"}]});
        assert_eq!(resolutions(serde_json::from_value(bad).unwrap()).unwrap_err().code, "bad_oid");
    }

    #[test]
    fn both_sides_are_told_as_far_as_they_fit() {
        let hunk = |text: &str| ConflictHunk {
            line: 1,
            base: "b\n".to_owned(),
            ours: text.to_owned(),
            theirs: "t".to_owned(),
        };
        let merged = MergedText { content: String::new(), hunks: vec![hunk("o\n"), hunk(&"x".repeat(500))] };
        let conflict = ConflictFile {
            path: Path("a".into()),
            state: ChangeState::Conflict,
            base: None,
            ours: None,
            theirs: None,
            mode: None,
            merged: Some(merged),
            others: Vec::new(),
        };
        let mut room = 200;
        let answer = Answer { branch: "main".to_owned(), files: vec![file(&conflict, &mut room)], next_cursor: None };
        let told = text(&answer);
        let sides = "<<<<<<< ours\no\n||||||| base\nb\n=======\nt\n>>>>>>> theirs\n[There are more";
        assert!(told.contains(sides), "{told}");
        assert!(answer.files[0].truncated && answer.files[0].hunks.len() == 1);
    }
}
