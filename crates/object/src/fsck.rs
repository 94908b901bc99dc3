//! Whether an object is well formed: what `git fsck --strict` checks, object by object.
//!
//! Connectivity, and that what stands at `.gitmodules` is there at all, is for the caller, who alone has all objects.
//! The names of faults are git's (`git help fsck-msgids`).

mod headers;
mod tree;

pub use crate::gitmodules::{GitFileError, check_gitattributes, check_gitmodules};

use crate::path::PathError;
use crate::policy::{Flags, Policy};
use gix_hash::ObjectId;
use gix_object::Kind;

/// An object that is refused, and the first fault that was found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("object {oid}: {fault}")]
pub struct FsckError {
    /// The object.
    pub oid: ObjectId,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with an object. The sentences are stable, as are the names ([`Fault::id`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A NUL byte before the end of the headers.
    #[error("a NUL byte is in the headers")]
    NulInHeader,
    /// The headers do not end in a line feed.
    #[error("the headers are not terminated")]
    UnterminatedHeader,
    /// No `tree` line at the start of a commit.
    #[error("the tree line is missing")]
    MissingTree,
    /// The `tree` line has no oid.
    #[error("the tree line is malformed")]
    BadTreeOid,
    /// A `parent` line has no oid.
    #[error("a parent line is malformed")]
    BadParentOid,
    /// No `author` line after the parents.
    #[error("the author line is missing")]
    MissingAuthor,
    /// More than one `author` line.
    #[error("there are several author lines")]
    MultipleAuthors,
    /// No `committer` line after the author.
    #[error("the committer line is missing")]
    MissingCommitter,
    /// A NUL byte in the message of a commit.
    #[error("a NUL byte is in the message")]
    NulInCommit,
    /// No `object` line at the start of a tag.
    #[error("the object line is missing")]
    MissingObject,
    /// The `object` line has no oid.
    #[error("the object line is malformed")]
    BadObjectOid,
    /// No `type` line.
    #[error("the type line is missing")]
    MissingTypeEntry,
    /// A type that is none of git's four.
    #[error("the type is unknown")]
    BadType,
    /// No `tag` line.
    #[error("the tag line is missing")]
    MissingTagEntry,
    /// A person's line is malformed.
    #[error("{0}")]
    Ident(IdentFault),
    /// The bytes cannot be read as a tree.
    #[error("the bytes are no tree")]
    BadTree,
    /// Entries out of order.
    #[error("the entries are not in git's order")]
    TreeNotSorted,
    /// Two entries with one name.
    #[error("two entries have the same name")]
    DuplicateEntries,
    /// An entry with the null id.
    #[error("an entry has the null id")]
    NullOid,
    /// An entry that is the empty tree, which an edit never leaves behind.
    #[error("an entry is the empty tree")]
    EmptySubtree,
    /// An entry's name or mode.
    #[error("an entry is refused: {0}")]
    Entry(PathError),
    /// The content of `.gitmodules` or `.gitattributes`.
    #[error("{0}")]
    GitFile(GitFileError),
    /// `.gitmodules` or `.gitattributes` is no blob.
    #[error("a file that git reads is no blob")]
    GitFileNotBlob,
}

/// What is wrong with an author, committer or tagger line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say it")]
pub enum IdentFault {
    #[error("a person's line has no name before the e-mail address")]
    MissingNameBeforeEmail,
    #[error("a person's line has a malformed name")]
    BadName,
    #[error("a person's line has no e-mail address")]
    MissingEmail,
    #[error("a person's line has no space before the e-mail address")]
    MissingSpaceBeforeEmail,
    #[error("a person's line has a malformed e-mail address")]
    BadEmail,
    #[error("a person's line has no space before the date")]
    MissingSpaceBeforeDate,
    #[error("a person's line has a date padded with zeros")]
    ZeroPaddedDate,
    #[error("a person's line has a date beyond 63 bits")]
    BadDateOverflow,
    #[error("a person's line has a malformed date")]
    BadDate,
    #[error("a person's line has a malformed time zone")]
    BadTimezone,
}

impl Fault {
    /// The name of the fault; git's own, where git has one.
    pub fn id(&self) -> &'static str {
        match self {
            Fault::NulInHeader => "nulInHeader",
            Fault::UnterminatedHeader => "unterminatedHeader",
            Fault::MissingTree => "missingTree",
            Fault::BadTreeOid => "badTreeSha1",
            Fault::BadParentOid => "badParentSha1",
            Fault::MissingAuthor => "missingAuthor",
            Fault::MultipleAuthors => "multipleAuthors",
            Fault::MissingCommitter => "missingCommitter",
            Fault::NulInCommit => "nulInCommit",
            Fault::MissingObject => "missingObject",
            Fault::BadObjectOid => "badObjectSha1",
            Fault::MissingTypeEntry => "missingTypeEntry",
            Fault::BadType => "badType",
            Fault::MissingTagEntry => "missingTagEntry",
            Fault::Ident(fault) => fault.id(),
            Fault::BadTree => "badTree",
            Fault::TreeNotSorted => "treeNotSorted",
            Fault::DuplicateEntries => "duplicateEntries",
            Fault::NullOid => "nullSha1",
            Fault::EmptySubtree => "emptySubtree",
            Fault::Entry(error) => entry_id(*error),
            Fault::GitFile(error) => git_file_id(*error),
            Fault::GitFileNotBlob => "gitmodulesBlob",
        }
    }
}

impl IdentFault {
    fn id(self) -> &'static str {
        match self {
            IdentFault::MissingNameBeforeEmail => "missingNameBeforeEmail",
            IdentFault::BadName => "badName",
            IdentFault::MissingEmail => "missingEmail",
            IdentFault::MissingSpaceBeforeEmail => "missingSpaceBeforeEmail",
            IdentFault::BadEmail => "badEmail",
            IdentFault::MissingSpaceBeforeDate => "missingSpaceBeforeDate",
            IdentFault::ZeroPaddedDate => "zeroPaddedDate",
            IdentFault::BadDateOverflow => "badDateOverflow",
            IdentFault::BadDate => "badDate",
            IdentFault::BadTimezone => "badTimezone",
        }
    }
}

fn entry_id(error: PathError) -> &'static str {
    match error {
        PathError::Dot => "hasDot",
        PathError::DotDot => "hasDotdot",
        PathError::DotGit => "hasDotgit",
        PathError::Slash => "fullPathname",
        PathError::NameTooLong => "largePathname",
        PathError::Mode => "badFilemode",
        PathError::SymlinkedGitFile => "gitmodulesSymlink",
        PathError::GitmodulesNotFile => "gitmodulesBlob",
        _ => "unsafeName",
    }
}

fn git_file_id(error: GitFileError) -> &'static str {
    match error {
        GitFileError::ModulesTooLarge => "gitmodulesLarge",
        GitFileError::Name => "gitmodulesName",
        GitFileError::Url => "gitmodulesUrl",
        GitFileError::Path => "gitmodulesPath",
        GitFileError::Update => "gitmodulesUpdate",
        GitFileError::AttributesTooLarge => "gitattributesLarge",
        GitFileError::AttributesLine => "gitattributesLineLength",
    }
}

/// A file that git reads and acts on, so that its content matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GitFile {
    /// `.gitmodules`.
    Modules,
    /// `.gitattributes`.
    Attributes,
}

/// What a look at an object found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// What is odd and carried.
    pub flags: Flags,
    /// Of a tree: the entries whose content the caller must give to [`check_git_file`] too.
    pub git_files: Vec<(GitFile, ObjectId)>,
}

/// Checks one object. `oid` is only for the error; it is not compared with the content.
///
/// [`Policy::Push`] refuses all that `git fsck --strict` takes for an error, but for `badTimezone`,
/// `missingSpaceBeforeDate` and `zeroPaddedFilemode`, and unlike git also modes that git does not write.
/// [`Policy::Import`] carries what only looks odd: persons' lines of any form, NUL in a message, null ids, old modes.
pub fn check(kind: Kind, oid: &ObjectId, content: &[u8], policy: Policy) -> Result<Checked, FsckError> {
    let checked = match kind {
        Kind::Blob => Ok(Checked::default()),
        Kind::Tree => tree::check(content, policy),
        Kind::Commit => headers::check_commit(content, policy).map(|flags| Checked { flags, ..Checked::default() }),
        Kind::Tag => headers::check_tag(content, policy).map(|flags| Checked { flags, ..Checked::default() }),
    };
    checked.map_err(|fault| FsckError { oid: *oid, fault })
}

/// Checks what stands at `.gitmodules` or `.gitattributes` in some tree. Imports carry what is wrong there.
pub fn check_git_file(
    file: GitFile,
    kind: Kind,
    oid: &ObjectId,
    content: &[u8],
    policy: Policy,
) -> Result<Flags, FsckError> {
    let (flag, verdict) = match (kind, file) {
        (Kind::Blob, GitFile::Modules) => (Flags::GITMODULES, check_gitmodules(content).map_err(Fault::GitFile)),
        (Kind::Blob, GitFile::Attributes) => {
            (Flags::GITATTRIBUTES, check_gitattributes(content).map_err(Fault::GitFile))
        }
        (_, GitFile::Modules) => (Flags::GITMODULES, Err(Fault::GitFileNotBlob)),
        (_, GitFile::Attributes) => (Flags::GITATTRIBUTES, Err(Fault::GitFileNotBlob)),
    };
    match verdict {
        Ok(()) => Ok(Flags::NONE),
        Err(_) if policy == Policy::Import => Ok(flag),
        Err(fault) => Err(FsckError { oid: *oid, fault }),
    }
}
