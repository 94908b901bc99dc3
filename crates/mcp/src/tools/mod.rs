//! The tools: what a model is told of them, and where they are.

mod commit;
mod conflicts;
mod diff;
mod list;
mod log;
mod push;
mod read;
mod search;
mod status;
mod sync;
mod write;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use treehold_engine::api::Origin;
use uuid::Uuid;

use crate::binding::{Access, Binding};
use crate::host::{Counted, Host, Refusal};

pub(crate) use list::{Args as ListArgs, page as list_page};
pub(crate) use status::now as status_now;

/// What every tool needs.
pub(crate) struct Call<'a, H> {
    pub(crate) host: &'a H,
    pub(crate) binding: &'a Binding,
    /// Where edits of this call come from.
    pub(crate) origin: Origin,
}

impl<H> Call<'_, H> {
    /// Which version is read: the one that is asked for as it was committed, else the user's view.
    fn view(&self, reference: Option<String>) -> (Option<String>, Option<Uuid>) {
        match reference {
            Some(reference) => (Some(reference), None),
            None => (self.binding.branch.clone(), Some(self.binding.user)),
        }
    }
}

/// An answer, for models that read text and for programs.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) value: Value,
}

fn show(text: String, answer: &impl Serialize) -> Shown {
    // Answers hold texts, numbers and lists: they always have a JSON form.
    Shown { text, value: serde_json::to_value(answer).unwrap_or_default() }
}

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Reads,
    /// It changes the user's pending work; what it replaces stays in local history.
    Edits { destructive: bool, idempotent: bool },
    /// It also changes the branch, and perhaps the remote.
    Publishes,
}

fn tool<A: JsonSchema, R: JsonSchema>(
    name: &'static str,
    title: &'static str,
    effect: Effect,
    text: &'static str,
) -> Tool {
    let hints = ToolAnnotations::with_title(title);
    let hints = match effect {
        Effect::Reads => hints.read_only(true).destructive(false).idempotent(true).open_world(false),
        Effect::Edits { destructive, idempotent } => {
            hints.read_only(false).destructive(destructive).idempotent(idempotent).open_world(false)
        }
        Effect::Publishes => hints.read_only(false).destructive(false).idempotent(false).open_world(true),
    };
    let tool = Tool::new(Cow::Borrowed(name), Cow::Borrowed(text), read_schema::<A>()).with_title(title);
    tool.with_annotations(hints).with_raw_output_schema(written_schema::<R>())
}

/// What a type is read from.
fn read_schema<T: JsonSchema>() -> Arc<JsonObject> {
    schema::<T>(SchemaSettings::default())
}

/// What a type is written as: fields that may be left out are not required.
fn written_schema<T: JsonSchema>() -> Arc<JsonObject> {
    schema::<T>(SchemaSettings::default().for_serialize())
}

/// A type's JSON schema, without what says nothing to a model.
fn schema<T: JsonSchema>(settings: SchemaSettings) -> Arc<JsonObject> {
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    thin(&mut schema);
    match schema {
        Value::Object(mut object) => {
            for known in ["$schema", "title"] {
                object.remove(known);
            }
            Arc::new(object)
        }
        _ => Arc::default(),
    }
}

/// Removes formats that are Rust's own names of numbers, which JSON Schema does not know.
fn thin(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object
                .get("format")
                .is_some_and(|format| format.as_str().is_some_and(|name| name.starts_with(['u', 'i'])))
            {
                object.remove("format");
            }
            object.values_mut().for_each(thin);
        }
        Value::Array(items) => items.iter_mut().for_each(thin),
        _ => {}
    }
}

static READERS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    let reads = Effect::Reads;
    vec![
        tool::<read::Args, read::Answer>(
            "read_multiple_files",
            "Read files",
            reads,
            "Read up to 500 files, whole or by lines, in one call at one snapshot. Always prefer one call with many paths to many calls: a \
             hundred small files cost little more than one. A path that fails does not stop the others. The answer is bounded by \
             max_bytes; if next_cursor is set, call again with the same paths and that cursor. Your own pending edits are included.",
        ),
        tool::<list::Args, list::Answer>(
            "list_files",
            "List files",
            reads,
            "List files by prefix and globs, in order of the path. Begin with depth 1, which shows directories as one line each, and go \
             down from there; in a large repository an unbounded list costs many tokens. Use search to find text.",
        ),
        tool::<search::Args, search::Answer>(
            "search",
            "Search text",
            reads,
            "Find text in all files at once, literal or by regular expression, like ripgrep: the cheapest way to find where something is. \
             Narrow it with globs or prefix. For a query that may match a lot use count_only first. Binary files and those over 16 MiB \
             are skipped.",
        ),
        tool::<status::Args, status::Answer>(
            "status",
            "Pending changes",
            reads,
            "What is pending (edited but not committed), whether it still fits the branch, and how the branch stands to its remote: ahead, \
             behind, and whether it is said to have moved. Cheap: the remote itself is not asked, which sync with dry_run does.",
        ),
        tool::<diff::Args, diff::Answer>(
            "diff",
            "Compare versions",
            reads,
            "Without arguments: what you have pending, as a unified diff; look at it before you commit. With from and to: what differs \
             between two branches, tags or commits. names_only is cheap however much differs.",
        ),
        tool::<log::Args, log::Answer>(
            "log",
            "History",
            reads,
            "Commits, newest first, of a branch or of one path. Long messages are cut.",
        ),
        tool::<conflicts::Args, conflicts::Answer>(
            "conflicts",
            "Conflicts",
            reads,
            "Pending changes that do not fit the branch any more, with the lines of both sides. Use it when status or commit reports \
             conflicts, then settle them with resolve.",
        ),
    ]
});

static WRITERS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    let edits = |destructive, idempotent| Effect::Edits { destructive, idempotent };
    vec![
        tool::<write::Edit, write::Answer>(
            "edit",
            "Edit a file",
            edits(false, false),
            "Replace exact text in one file: the way to change a part of a file, as it sends only what changes. Fails, and changes nothing, \
             if old_string is not found or is found more than once (unless replace_all). Saved as a pending edit when answered; \
             commit when all is done. What others saved meanwhile in the same file is kept. With executable it also sets whether the \
             file is executable, or only that.",
        ),
        tool::<write::Write, write::Answer>(
            "write_file",
            "Write a file",
            edits(true, true),
            "Write a whole file: a new one, or another version of one that you have read (then give its oid as expected_oid). Without it \
             an existing file is not replaced. For small changes use edit. Saved as a pending edit when answered.",
        ),
        tool::<write::Delete, write::Answer>(
            "delete_file",
            "Delete a file",
            edits(true, true),
            "Delete one file, as a pending edit: it is gone from the branch with the next commit; until then discard brings it back.",
        ),
        tool::<write::Move, write::Answer>(
            "move_file",
            "Move a file",
            edits(false, false),
            "Move or rename one file without sending its content. Nothing may be at the new path.",
        ),
        tool::<write::Discard, write::Discarded>(
            "discard",
            "Discard a pending change",
            edits(true, false),
            "Take back what is pending of one file, whoever of your devices wrote it: the file is as the branch has it again, and a deletion \
             is undone. What was pending stays in the user's local history.",
        ),
        tool::<conflicts::Resolve, conflicts::Resolved>(
            "resolve",
            "Resolve conflicts",
            edits(true, false),
            "Settle conflicting pending changes, file by file: take ours (your edit), theirs (the branch), merged (both, where they \
             merge), or text (the whole content, in which you have put both together).",
        ),
        tool::<commit::Args, commit::Answer>(
            "commit",
            "Commit and push",
            Effect::Publishes,
            "Commit what is pending as one commit and, if the project has a remote, push it. May take seconds. Refused with the \
             conflicting lines, and nothing changed, where the branch moved and does not merge. With dry_run nothing is changed. If the \
             answer is lost, look at status and log before you commit again.",
        ),
        tool::<sync::Args, sync::Answer>(
            "sync",
            "Pull",
            Effect::Publishes,
            "Take over what the project's remote has by now. Pending work stays as it is, and the answer says which of it does not fit any \
             more. Use it when status says that the remote moved, or commit is refused as diverged. With dry_run nothing is changed.",
        ),
        tool::<push::Args, push::Answer>(
            "push",
            "Push",
            Effect::Publishes,
            "Send the remote what the branch has ahead of it: commits made without push, merges of a sync, and what others committed here. \
             Pending edits are not sent: commit them first. May take seconds. Refused as diverged, and nothing sent, where the remote \
             has commits that are not here. Safe to repeat: what the remote has is not sent again.",
        ),
    ]
});

/// The tools that are there for a binding.
pub(crate) fn all(access: Access) -> impl Iterator<Item = &'static Tool> {
    let writers = match access {
        Access::Write => WRITERS.as_slice(),
        Access::Read => &[],
    };
    READERS.iter().chain(writers)
}

/// Runs a tool of [`all`]; `None` if there is none of this name.
pub(crate) async fn run<H: Host>(
    call: &Call<'_, H>,
    name: &str,
    arguments: JsonObject,
) -> Option<Result<Shown, Refusal>> {
    if !all(call.binding.access).any(|tool| tool.name == name) {
        return None;
    }
    if let Err(refusal) = call.host.count(counted(name)) {
        return Some(Err(refusal));
    }
    Some(dispatch(call, name, arguments).await)
}

/// What a call counts as, by what it does.
fn counted(name: &str) -> Counted {
    match name {
        "sync" => Counted::Sync,
        _ if READERS.iter().any(|tool| tool.name == name) => Counted::Read,
        _ => Counted::Write,
    }
}

/// Each tool on the heap: together they are too much for a stack.
async fn dispatch<H: Host>(call: &Call<'_, H>, name: &str, arguments: JsonObject) -> Result<Shown, Refusal> {
    match name {
        "read_multiple_files" => Box::pin(read::run(call, parse(arguments)?)).await,
        "list_files" => Box::pin(list::run(call, parse(arguments)?)).await,
        "search" => Box::pin(search::run(call, parse(arguments)?)).await,
        "status" => Box::pin(status::run(call, parse(arguments)?)).await,
        "diff" => Box::pin(diff::run(call, parse(arguments)?)).await,
        "log" => Box::pin(log::run(call, parse(arguments)?)).await,
        "conflicts" => Box::pin(conflicts::run(call, parse(arguments)?)).await,
        "edit" => Box::pin(write::edit(call, parse(arguments)?)).await,
        "write_file" => Box::pin(write::write(call, parse(arguments)?)).await,
        "delete_file" => Box::pin(write::delete(call, parse(arguments)?)).await,
        "move_file" => Box::pin(write::rename(call, parse(arguments)?)).await,
        "discard" => Box::pin(write::discard(call, parse(arguments)?)).await,
        "resolve" => Box::pin(conflicts::resolve(call, parse(arguments)?)).await,
        "commit" => Box::pin(commit::run(call, parse(arguments)?)).await,
        "sync" => Box::pin(sync::run(call, parse(arguments)?)).await,
        "push" => Box::pin(push::run(call, parse(arguments)?)).await,
        _ => Err(Refusal::new("unknown_tool", format!("there is no tool {name:?}"))),
    }
}

/// Arguments of another shape are the caller's to mend: so they are told where, and what is expected.
fn parse<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.into_inner().to_string());
        let (why, _) = crate::bounds::cut(&why, 1_000);
        Refusal::new("bad_arguments", format!("the arguments do not fit, at `{path}`: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_is() {
        let tools: Vec<_> = all(Access::Write).collect();
        assert_eq!(tools.len(), 16);
        for tool in &tools {
            let input = &tool.input_schema;
            assert_eq!(
                (&input["type"], &input["additionalProperties"]),
                (&"object".into(), &false.into()),
                "{}",
                tool.name
            );
            assert!(tool.description.as_ref().is_some_and(|text| text.len() > 60 && text.len() < 600), "{}", tool.name);
            assert_eq!(tool.output_schema.as_ref().map(|schema| schema["type"].clone()), Some("object".into()));
            let hints = tool.annotations.as_ref().unwrap();
            assert!(hints.read_only_hint.is_some() && hints.open_world_hint.is_some(), "{}", tool.name);
            let told = serde_json::to_string(tool).unwrap();
            assert!(!told.contains("uint") && !told.contains("$schema"), "{told}");
        }
        // All of them are in every context that uses them.
        let bytes: usize = tools.iter().map(|tool| serde_json::to_string(tool).unwrap().len()).sum();
        assert!(bytes < 40_000, "{bytes}");
    }

    #[test]
    fn what_may_be_left_out_of_an_answer_is_not_required() {
        let schema = written_schema::<read::Answer>();
        let required = schema["$defs"]["File"]["required"].clone();
        assert_eq!(
            (required, &schema["required"]),
            (serde_json::json!(["path"]), &serde_json::json!(["commit", "files", "next_cursor"]))
        );
    }

    #[test]
    fn who_may_only_read_has_no_tool_that_writes() {
        assert!(all(Access::Read).all(|tool| tool.annotations.as_ref().unwrap().read_only_hint == Some(true)));
        assert_eq!(all(Access::Read).count(), 7);
    }

    #[test]
    fn calls_count_by_what_they_do() {
        for tool in all(Access::Write) {
            let expected = match (tool.name.as_ref(), tool.annotations.as_ref().and_then(|hints| hints.read_only_hint))
            {
                ("sync", _) => Counted::Sync,
                (_, Some(true)) => Counted::Read,
                _ => Counted::Write,
            };
            assert_eq!(counted(&tool.name), expected, "{}", tool.name);
        }
    }

    #[test]
    fn arguments_of_another_shape_are_told_where() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let refused = |value: Value| parse::<search::Args>(object(value)).unwrap_err().detail;
        assert!(refused(serde_json::json!({})).contains("missing field `query`"));
        assert!(refused(serde_json::json!({"query": "a", "limit": "x"})).contains("at `limit`"));
        assert!(refused(serde_json::json!({"query": "a", "user": "x"})).contains("unknown field `user`"));
    }
}
