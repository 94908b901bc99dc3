//! `edit`, `write_file`, `delete_file`, `move_file`, `discard`: pending edits of the user, durable when answered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{
    BatchAnswer, Condition, DropAnswer, Encoding, Mode, Oid, OnMismatch, OpConflict, OpResult, OpStatus, PendingBatch,
    PendingOp, PendingVerb,
};

use treehold_engine::EngineError;

use super::{Call, Shown, show};
use crate::host::{Host, Refusal, Work};
use crate::shown;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// From the repository's root.
    path: String,
    /// The exact text to replace, white space and line ends included. It must occur exactly once, unless `replace_all`: add lines around
    /// it until it does.
    old_string: Option<String>,
    /// What stands there afterwards.
    new_string: Option<String>,
    /// True makes the file executable, false not. With it, old_string and new_string may be left out: then only this changes.
    executable: Option<bool>,
    /// Replace every occurrence.
    #[serde(default)]
    replace_all: bool,
    /// Refuse unless the file still is this version (an `oid` from a read).
    expected_oid: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    /// From the repository's root; directories come with it.
    path: String,
    /// The whole new content.
    content: String,
    /// Of `content`: "utf-8" (default) or "base64".
    encoding: Option<ContentEncoding>,
    /// The version that is replaced: `oid` from your last read of the file. Left out: the file must not exist yet.
    expected_oid: Option<String>,
    /// Replace the file whatever it is by now. What was there stays in local history. Prefer expected_oid.
    #[serde(default)]
    overwrite: bool,
    /// Where the file changed since `expected_oid`: "fail" (default), or "merge" your content with it if that goes without conflict.
    #[serde(default)]
    on_conflict: OnConflict,
    /// True makes it executable, false not; kept if left out.
    executable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum ContentEncoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnConflict {
    #[default]
    Fail,
    Merge,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delete {
    /// From the repository's root. One file, not a directory.
    path: String,
    /// Refuse unless the file still is this version (an `oid` from a read).
    expected_oid: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    /// Where the file is.
    from: String,
    /// Where it goes: nothing may be there.
    path: String,
    /// Refuse unless the file still is this version (an `oid` from a read).
    expected_oid: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    /// From the repository's root.
    path: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Discarded {
    path: String,
    /// Counts up with every change of your pending work.
    revision: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    path: String,
    status: Status,
    /// The file's blob now, for the next `expected_oid`; null = there is no file.
    oid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Of a plain file: whether it is executable now.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    /// Counts up with every change of your pending work.
    revision: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Done as asked.
    Applied,
    /// Merged with what the file had become.
    Merged,
    /// It was so already.
    Unchanged,
}

/// An operation without anything.
fn op(op: PendingVerb, path: String) -> PendingOp {
    PendingOp {
        op,
        path,
        from: None,
        content: None,
        encoding: None,
        mode: None,
        old_string: None,
        new_string: None,
        replace_all: false,
        diff: None,
        expected_oid: None,
        base: None,
    }
}

fn oid(text: Option<&str>) -> Result<Option<Option<Oid>>, Refusal> {
    let parsed =
        text.map(|text| text.parse::<Oid>().map_err(|why| Refusal::new("bad_oid", format!("{why}: {text:?}"))));
    Ok(parsed.transpose()?.map(Some))
}

/// Git's mode of a plain file.
fn mode(executable: bool) -> Mode {
    Mode(if executable { 0o100_755 } else { 0o100_644 })
}

/// The operations of an edit: of the text, of the mode, or of both.
fn edits(args: Edit) -> Result<Vec<PendingOp>, Refusal> {
    let expected_oid = oid(args.expected_oid.as_deref())?;
    let chmod =
        |path: String| args.executable.map(|yes| PendingOp { mode: Some(mode(yes)), ..op(PendingVerb::Chmod, path) });
    match (args.old_string, args.new_string) {
        (Some(old), Some(new)) => {
            let chmod = chmod(args.path.clone());
            let (old_string, new_string) = (Some(old), Some(new));
            let edit = op(PendingVerb::Edit, args.path);
            let edit = PendingOp { old_string, new_string, replace_all: args.replace_all, expected_oid, ..edit };
            Ok(std::iter::once(edit).chain(chmod).collect())
        }
        (None, None) => {
            let missing = || Refusal::new("bad_arguments", "give old_string and new_string, or executable");
            Ok(vec![PendingOp { expected_oid, ..chmod(args.path).ok_or_else(missing)? }])
        }
        (Some(_), None) => Err(Refusal::new("bad_arguments", "give new_string with old_string")),
        (None, Some(_)) => Err(Refusal::new("bad_arguments", "give old_string with new_string")),
    }
}

pub(crate) async fn edit<H: Host>(call: &Call<'_, H>, args: Edit) -> Result<Shown, Refusal> {
    apply(call, edits(args)?, OnMismatch::Fail).await
}

pub(crate) async fn write<H: Host>(call: &Call<'_, H>, args: Write) -> Result<Shown, Refusal> {
    let expected = match (args.expected_oid.as_deref(), args.overwrite) {
        (Some(_), true) => {
            return Err(Refusal::new("bad_arguments", "give expected_oid or overwrite, not both"));
        }
        (None, true) => None,
        // What the writer has not seen must not be there.
        (None, false) => Some(None),
        (text, false) => oid(text)?,
    };
    let mode = args.executable.map(mode);
    let op = PendingOp {
        content: Some(args.content),
        encoding: args.encoding.map(|encoding| match encoding {
            ContentEncoding::Utf8 => Encoding::Utf8,
            ContentEncoding::Base64 => Encoding::Base64,
        }),
        mode,
        expected_oid: expected,
        ..op(PendingVerb::Put, args.path)
    };
    let on_mismatch = match args.on_conflict {
        OnConflict::Fail => OnMismatch::Fail,
        OnConflict::Merge => OnMismatch::Merge,
    };
    apply(call, vec![op], on_mismatch).await
}

pub(crate) async fn delete<H: Host>(call: &Call<'_, H>, args: Delete) -> Result<Shown, Refusal> {
    let expected_oid = oid(args.expected_oid.as_deref())?;
    apply(call, vec![PendingOp { expected_oid, ..op(PendingVerb::Delete, args.path) }], OnMismatch::Fail).await
}

pub(crate) async fn rename<H: Host>(call: &Call<'_, H>, args: Move) -> Result<Shown, Refusal> {
    let expected_oid = oid(args.expected_oid.as_deref())?;
    let op = PendingOp { from: Some(args.from), expected_oid, ..op(PendingVerb::Move, args.path) };
    apply(call, vec![op], OnMismatch::Fail).await
}

pub(crate) async fn discard<H: Host>(call: &Call<'_, H>, args: Discard) -> Result<Shown, Refusal> {
    let binding = call.binding;
    let (project, user, branch) = (binding.project.clone(), binding.user, binding.branch.clone());
    let (origin, name) = (call.origin.clone(), args.path.clone());
    let dropped = call.host.run(Work::Write, move |engine| async move {
        engine.drop_pending(&project, user, branch.as_deref(), name.as_bytes(), &Condition::default(), origin).await
    });
    let DropAnswer { revision, .. } = dropped.await?;
    let text = format!("Discarded what was pending of {}; revision {revision}", shown::path(&args.path));
    Ok(show(text, &Discarded { path: args.path, revision }))
}

/// Operations on one path, all or none, with a result each: so what one fails of is told as such.
async fn apply<H: Host>(call: &Call<'_, H>, ops: Vec<PendingOp>, on_conflict: OnMismatch) -> Result<Shown, Refusal> {
    let binding = call.binding;
    let (project, user, branch) = (binding.project.clone(), binding.user, binding.branch.clone());
    let atomic = ops.len() > 1;
    let (origin, batch) = (call.origin.clone(), PendingBatch { ops, atomic, base_revision: None, on_conflict });
    let written = call.host.run(Work::Write, move |engine| async move {
        match engine.write_batch(&project, user, branch.as_deref(), batch, origin, None).await {
            // Its results say which one failed, and why.
            Err(EngineError::Batch(refused)) => Ok(BatchAnswer { revision: 0, results: refused.results }),
            answered => answered,
        }
    });
    let BatchAnswer { revision, results } = written.await?;
    match outcome(results) {
        Some(result) => told(result, revision),
        None => Err(Refusal::new("internal", "the write was not answered; look at the status")),
    }
}

/// Of several results the one that stopped the others, else the last, which says how the file is now.
fn outcome(mut results: Vec<OpResult>) -> Option<OpResult> {
    let stopped = results.iter().position(|result| matches!(result.status, OpStatus::Conflict | OpStatus::Failed));
    if let Some(at) = stopped {
        return Some(results.swap_remove(at));
    }
    let applied = results.iter().any(|result| result.status == OpStatus::Applied);
    let mut last = results.pop()?;
    if applied && last.status == OpStatus::Duplicate {
        last.status = OpStatus::Applied;
    }
    Some(last)
}

fn told(result: OpResult, revision: i64) -> Result<Shown, Refusal> {
    let status = match result.status {
        OpStatus::Applied => Status::Applied,
        OpStatus::Merged => Status::Merged,
        OpStatus::Duplicate => Status::Unchanged,
        OpStatus::Conflict | OpStatus::Failed | OpStatus::NotApplied => return Err(failed(result)),
    };
    let (path, _) = shown::path_bytes(&result.path.0);
    let oid = result.oid.map(|oid| oid.to_string());
    let executable = result.mode.filter(|_| oid.is_some()).and_then(shown::executable);
    let text = match (&oid, status) {
        (None, _) => format!("Deleted {}; revision {revision}", shown::path(&path)),
        (Some(oid), Status::Applied) => format!("Saved {}, now oid {oid}; revision {revision}", shown::path(&path)),
        (Some(oid), Status::Merged) => {
            format!(
                "Merged with what {} had become, now oid {oid}: read it again; revision {revision}",
                shown::path(&path)
            )
        }
        (Some(oid), Status::Unchanged) => {
            format!("{} was so already, oid {oid}; revision {revision}", shown::path(&path))
        }
    };
    let revision = result.revision.unwrap_or(revision);
    Ok(show(text, &Answer { path, status, oid, size: result.size, executable, revision }))
}

fn failed(result: OpResult) -> Refusal {
    let error = result.error.unwrap_or_default();
    let mut refusal = Refusal::new(error.code, error.detail);
    let (path, _) = shown::path_bytes(&result.path.0);
    refusal.details.insert("path".to_owned(), path.into());
    let current = result.oid.map_or(serde_json::Value::Null, |oid| oid.to_string().into());
    refusal.details.insert("current_oid".to_owned(), current);
    if let Some(occurrences) = error.occurrences {
        refusal.details.insert("occurrences".to_owned(), occurrences.into());
    }
    if let Some(OpConflict { base, ours, theirs, version }) = error.conflict {
        let oid = |oid: Option<Oid>| oid.map_or(serde_json::Value::Null, |oid| oid.to_string().into());
        for (name, value) in [("base", oid(base)), ("ours", oid(ours)), ("theirs", oid(theirs))] {
            refusal.details.insert(name.to_owned(), value);
        }
        // What was sent is not lost: it can be listed and restored.
        refusal.details.extend(version.map(|version| ("version".to_owned(), version.into())));
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{OpError, Path};

    fn result(status: OpStatus, error: Option<OpError>) -> OpResult {
        let oid = "00000000000000000000000000000000000000aa".parse().ok();
        OpResult {
            path: Path("a".into()),
            status,
            oid,
            size: Some(1),
            mode: None,
            base_oid: None,
            revision: None,
            error,
        }
    }

    #[test]
    fn what_was_not_done_is_a_refusal_that_names_both_sides() {
        let side = |digit: &str| digit.repeat(40).parse().ok();
        let conflict =
            OpConflict { base: side("1"), ours: side("2"), theirs: side("3"), version: Some("v".to_owned()) };
        let error = OpError {
            code: "conflict".to_owned(),
            detail: "It does not merge.".to_owned(),
            conflict: Some(conflict),
            ..OpError::default()
        };
        let refusal = told(result(OpStatus::Conflict, Some(error)), 7).unwrap_err();
        assert_eq!((refusal.code.as_str(), &refusal.details["theirs"]), ("conflict", &"3".repeat(40).into()));
        assert_eq!((&refusal.details["ours"], &refusal.details["version"]), (&"2".repeat(40).into(), &"v".into()));
    }

    #[test]
    fn what_was_done_says_the_version_to_go_on_from() {
        let shown = told(result(OpStatus::Applied, None), 7).unwrap();
        assert_eq!(shown.text, "Saved a, now oid 00000000000000000000000000000000000000aa; revision 7");
        assert_eq!(shown.value["status"], "applied");
        assert_eq!(told(result(OpStatus::Duplicate, None), 7).unwrap().value["status"], "unchanged");
    }

    #[test]
    fn an_edit_is_of_the_text_or_of_the_mode_or_of_both() {
        let asked = |old: Option<&str>, new: Option<&str>, executable| {
            let (old_string, new_string) = (old.map(str::to_owned), new.map(str::to_owned));
            let path = "a".to_owned();
            edits(Edit { path, old_string, new_string, executable, replace_all: false, expected_oid: None })
        };
        let verbs =
            |ops: Vec<PendingOp>| ops.into_iter().map(|op| (op.op, op.mode.map(|mode| mode.0))).collect::<Vec<_>>();
        assert_eq!(verbs(asked(Some("a"), Some("b"), None).unwrap()), [(PendingVerb::Edit, None)]);
        assert_eq!(verbs(asked(None, None, Some(true)).unwrap()), [(PendingVerb::Chmod, Some(0o100_755))]);
        let both = verbs(asked(Some("a"), Some("b"), Some(false)).unwrap());
        assert_eq!(both, [(PendingVerb::Edit, None), (PendingVerb::Chmod, Some(0o100_644))]);
        for (old, new) in [(None, None), (Some("a"), None), (None, Some("b"))] {
            assert_eq!(asked(old, new, None).unwrap_err().code, "bad_arguments", "{old:?} {new:?}");
        }
    }

    #[test]
    fn of_several_results_the_one_that_failed_is_told() {
        let told = |statuses: &[OpStatus]| {
            outcome(statuses.iter().map(|status| result(*status, None)).collect()).map(|result| result.status)
        };
        assert_eq!(told(&[OpStatus::Failed, OpStatus::NotApplied]), Some(OpStatus::Failed));
        assert_eq!(told(&[OpStatus::NotApplied, OpStatus::Failed]), Some(OpStatus::Failed));
        assert_eq!(told(&[OpStatus::Applied, OpStatus::Duplicate]), Some(OpStatus::Applied));
        assert_eq!(told(&[OpStatus::Duplicate, OpStatus::Duplicate]), Some(OpStatus::Duplicate));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn an_oid_that_is_none_is_refused() {
        assert_eq!(oid(Some("12")).unwrap_err().code, "bad_oid");
        assert_eq!(oid(None).unwrap(), None);
    }
}
