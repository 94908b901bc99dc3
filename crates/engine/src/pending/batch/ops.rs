//! Operations of a batch: decoded, and refused where they are not what the verb takes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use treehold_object::{BString, Kind, ObjectId};

use crate::api::{Condition, Encoding, Mode, Oid, OpConflict, OpError, OpStatus, PendingOp, PendingVerb};
use crate::files::shaped_path;
use crate::pending::text::EditError;
use crate::tree::{Base, Item};
use crate::writer::NewBytes;
use crate::{EngineError, Result};

/// What is to be done, with its content in memory and named.
#[derive(Debug, Clone)]
pub(in crate::pending) enum Verb {
    Put(NewBytes),
    Delete,
    Move,
    Chmod,
    Edit {
        old: Bytes,
        new: Bytes,
        all: bool,
    },
    Patch(Bytes),
    /// Makes a known version the pending one: its file (`None` = a deletion) and size.
    Restore(Option<Item>, u64),
    /// The pending change goes.
    Reset,
}

/// One operation.
#[derive(Debug, Clone)]
pub(in crate::pending) struct Op {
    pub verb: Verb,
    pub path: BString,
    pub from: Option<BString>,
    pub mode: Option<Mode>,
    pub expects: Option<Option<ObjectId>>,
    pub base: Option<ObjectId>,
    /// A restored version brings what it started from.
    pub rebase: Option<Base>,
    pub condition: Condition,
}

/// Why an operation is not done.
#[derive(Debug, Clone)]
pub(in crate::pending) struct Refused {
    pub status: OpStatus,
    pub code: &'static str,
    pub detail: String,
    pub occurrences: Option<usize>,
    pub hunk: Option<usize>,
    pub conflict: Option<Box<OpConflict>>,
}

/// An operation's own failure inside, everybody's outside.
pub(in crate::pending) type Judged<T> = Result<std::result::Result<T, Refused>>;

impl Refused {
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status: OpStatus::Failed, code, detail, occurrences: None, hunk: None, conflict: None }
    }

    /// An error of the request is the operation's; others end the batch.
    pub fn of(error: EngineError) -> Result<Self> {
        match error {
            EngineError::Unprocessable { code, detail } | EngineError::NotFound { code, detail } => {
                Ok(Self::new(code, detail))
            }
            EngineError::TooLarge { .. } => Ok(Self::new("too_large", error.to_string())),
            other => Err(other),
        }
    }

    pub fn error(&self) -> OpError {
        OpError {
            code: self.code.to_owned(),
            detail: self.detail.clone(),
            occurrences: self.occurrences,
            hunk: self.hunk,
            conflict: self.conflict.as_deref().cloned(),
        }
    }
}

impl From<EditError> for Refused {
    fn from(error: EditError) -> Self {
        Self { occurrences: error.occurrences, hunk: error.hunk, ..Self::new(error.code, error.detail) }
    }
}

fn bad(detail: impl Into<String>) -> Refused {
    Refused::new("bad_op", detail)
}

impl Op {
    /// An operation without conditions.
    pub fn new(path: BString, verb: Verb) -> Self {
        let condition = Condition::default();
        Self { verb, path, from: None, mode: None, expects: None, base: None, rebase: None, condition }
    }

    /// Where the file is that it starts from.
    pub fn source(&self) -> &BString {
        self.from.as_ref().unwrap_or(&self.path)
    }

    /// Reads what was asked; `file_bytes` is the largest file.
    pub fn decode(asked: PendingOp, file_bytes: u64) -> Judged<Self> {
        let path = match shaped_path(asked.path.as_bytes()) {
            Ok(path) => path,
            Err(error) => return Refused::of(error).map(Err),
        };
        let from = match asked.from.as_ref().map(|from| shaped_path(from.as_bytes())).transpose() {
            Ok(from) => from,
            Err(error) => return Refused::of(error).map(Err),
        };
        if let Err(refused) = fields(&asked) {
            return Ok(Err(refused));
        }
        let text = |text: Option<String>| Bytes::from(text.unwrap_or_default());
        let verb = match asked.op {
            PendingVerb::Put => {
                let content = match content(asked.content.unwrap_or_default(), asked.encoding) {
                    Ok(content) => content,
                    Err(refused) => return Ok(Err(refused)),
                };
                if content.len() as u64 > file_bytes {
                    let error = EngineError::TooLarge { what: "the file", limit: file_bytes, unit: "bytes" };
                    return Refused::of(error).map(Err);
                }
                match NewBytes::of(Kind::Blob, content) {
                    Ok(blob) => Verb::Put(blob),
                    Err(error) => return Refused::of(error).map(Err),
                }
            }
            PendingVerb::Delete => Verb::Delete,
            PendingVerb::Move => Verb::Move,
            PendingVerb::Chmod => Verb::Chmod,
            PendingVerb::Edit => {
                Verb::Edit { old: text(asked.old_string), new: text(asked.new_string), all: asked.replace_all }
            }
            PendingVerb::Patch => Verb::Patch(text(asked.diff)),
        };
        let expects = asked.expected_oid.map(|oid| oid.map(|Oid(oid)| oid));
        let base = asked.base.map(|Oid(oid)| oid);
        Ok(Ok(Self { from, mode: asked.mode, expects, base, ..Self::new(path, verb) }))
    }
}

/// Refuses fields that the verb does not take, and misses those that it needs.
fn fields(asked: &PendingOp) -> std::result::Result<(), Refused> {
    use PendingVerb::{Chmod, Delete, Edit, Move, Patch, Put};
    let verb = asked.op;
    let given = [
        ("content", asked.content.is_some(), &[Put][..], &[Put][..]),
        ("encoding", asked.encoding.is_some(), &[Put], &[]),
        ("mode", asked.mode.is_some(), &[Put, Move, Chmod], &[Chmod]),
        ("from", asked.from.is_some(), &[Move], &[Move]),
        ("old_string", asked.old_string.is_some(), &[Edit], &[Edit]),
        ("new_string", asked.new_string.is_some(), &[Edit], &[Edit]),
        ("replace_all", asked.replace_all, &[Edit], &[]),
        ("diff", asked.diff.is_some(), &[Patch], &[Patch]),
        ("base", asked.base.is_some(), &[Put, Delete, Move, Edit, Patch], &[]),
    ];
    for (name, is_given, takes, needs) in given {
        if is_given && !takes.contains(&verb) {
            return Err(bad(format!("`{}` does not take `{name}`.", name_of(verb))));
        }
        if !is_given && needs.contains(&verb) {
            return Err(bad(format!("`{}` needs `{name}`.", name_of(verb))));
        }
    }
    match verb {
        Delete | Move if asked.from.as_deref() == Some(asked.path.as_str()) => {
            Err(bad("`from` and `path` are the same."))
        }
        _ => Ok(()),
    }
}

fn name_of(verb: PendingVerb) -> &'static str {
    match verb {
        PendingVerb::Put => "put",
        PendingVerb::Delete => "delete",
        PendingVerb::Move => "move",
        PendingVerb::Chmod => "chmod",
        PendingVerb::Edit => "edit",
        PendingVerb::Patch => "patch",
    }
}

/// Content as a request gives it.
pub(in crate::pending) fn content(text: String, encoding: Option<Encoding>) -> std::result::Result<Bytes, Refused> {
    match encoding {
        None | Some(Encoding::Utf8) => Ok(text.into()),
        Some(Encoding::Base64) => match BASE64_STANDARD.decode(text) {
            Ok(content) => Ok(content.into()),
            Err(_) => Err(Refused::new("bad_content", "`content` is not base64.")),
        },
    }
}
