//! Commits: written byte for byte as git writes them, read whatever they are.

use crate::ident::{IdentError, Signature};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;

/// Why a commit cannot be written. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A NUL byte in the message.
    #[error("the message has a NUL byte")]
    MessageNul,
    /// The message is not UTF-8, and a commit without an encoding header says that it is.
    #[error("the message is not UTF-8")]
    MessageNotUtf8,
    /// Author or committer.
    #[error("author or committer: {0}")]
    Ident(#[from] IdentError),
}

/// Why bytes are no commit or tag that could be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A commit's first line must be `tree <oid>`.
    #[error("the commit does not start with its tree")]
    Tree,
    /// A `parent` line without an oid.
    #[error("the commit has a malformed parent line")]
    Parent,
    /// A tag's first lines must be `object <oid>`, `type <kind>` and `tag <name>`.
    #[error("the tag does not start with its object, type and name")]
    Tag,
    /// A header without a line feed at its end.
    #[error("a header is not terminated")]
    Unterminated,
}

/// A commit to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSpec {
    /// The root tree.
    pub tree: ObjectId,
    /// The parents, in order.
    pub parents: Vec<ObjectId>,
    /// Who made the change.
    pub author: Signature,
    /// Who made the commit.
    pub committer: Signature,
    /// The message; line feeds at its end become exactly one.
    pub message: BString,
}

impl CommitSpec {
    /// The commit's content, as `git commit-tree` writes it.
    pub fn encode(&self) -> Result<Vec<u8>, CommitError> {
        self.author.check()?;
        self.committer.check()?;
        if self.message.contains(&0) {
            return Err(CommitError::MessageNul);
        }
        let idents = [&self.author, &self.committer].into_iter().flat_map(|ident| [&ident.name, &ident.email]);
        if idents.chain([&self.message]).any(|text| text.to_str().is_err()) {
            return Err(CommitError::MessageNotUtf8);
        }
        let mut content = format!("tree {}\n", self.tree).into_bytes();
        for parent in &self.parents {
            content.extend_from_slice(format!("parent {parent}\n").as_bytes());
        }
        content.extend_from_slice(b"author ");
        self.author.write(&mut content);
        content.extend_from_slice(b"\ncommitter ");
        self.committer.write(&mut content);
        content.extend_from_slice(b"\n\n");
        let message = self.message.trim_end_with(|character| character == '\n');
        content.extend_from_slice(message);
        if !message.is_empty() {
            content.push(b'\n');
        }
        Ok(content)
    }
}

/// The commit with a signature over it: the header `gpgsig` at the end of the headers, its further lines behind a space each, as git
/// has it (gitformat-signature). A verifier takes the header out and has the signed bytes again.
pub fn signed(content: &[u8], signature: &str) -> Vec<u8> {
    let headers = content.find(b"\n\n").map_or(content.len(), |at| at + 1);
    let (head, rest) = content.split_at(headers);
    let mut out = head.to_vec();
    out.extend_from_slice(format!("gpgsig {}\n", signature.trim_end().replace('\n', "\n ")).as_bytes());
    out.extend_from_slice(rest);
    out
}

/// A commit that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The root tree.
    pub tree: ObjectId,
    /// The parents, in order.
    pub parents: Vec<ObjectId>,
    /// The first author line; parts that are malformed or missing are empty or zero.
    pub author: Signature,
    /// The first committer line, likewise.
    pub committer: Signature,
    /// All other headers in order (`encoding`, `gpgsig`, …); the lines of a value that has several are joined by line
    /// feeds, without the space that each starts with.
    pub extra: Vec<(BString, BString)>,
    /// All after the first empty line, as it is.
    pub message: BString,
}

/// Reads a commit, also one that `git fsck` would complain of, as long as its tree and parents are plain.
pub fn parse_commit(content: &[u8]) -> Result<Commit, ParseError> {
    let mut headers = Headers::new(content);
    let (name, value) = headers.next().ok_or(ParseError::Tree)??;
    let tree = oid(value).filter(|_| name == "tree").ok_or(ParseError::Tree)?;
    let (mut parents, mut author, mut committer, mut extra) = (Vec::new(), None, None, Vec::new());
    for header in headers.by_ref() {
        let (name, value) = header?;
        match name.as_bytes() {
            // Git takes parents only where they belong, after the tree.
            b"parent" if author.is_none() && committer.is_none() && extra.is_empty() => {
                parents.push(oid(value).ok_or(ParseError::Parent)?);
            }
            b"author" if author.is_none() => author = Some(Signature::read(value)),
            b"committer" if committer.is_none() => committer = Some(Signature::read(value)),
            _ => push_header(&mut extra, name, value),
        }
    }
    let nobody = || Signature::read(b"");
    Ok(Commit {
        tree,
        parents,
        author: author.unwrap_or_else(nobody),
        committer: committer.unwrap_or_else(nobody),
        extra,
        message: headers.rest.into(),
    })
}

/// A line that starts with a space (its name is empty then) goes on with the value before it.
pub(crate) fn push_header(extra: &mut Vec<(BString, BString)>, name: &BStr, value: &BStr) {
    match extra.last_mut() {
        Some((_, last)) if name.is_empty() => {
            last.push(b'\n');
            last.extend_from_slice(value);
        }
        _ => extra.push((name.into(), value.into())),
    }
}

/// 40 hex digits in either case, as git takes them.
pub(crate) fn oid(hex: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(hex).ok().filter(|_| hex.len() == 40)
}

/// The header lines of a commit or tag, up to the empty line; then `rest` is the message.
pub(crate) struct Headers<'a> {
    pub(crate) rest: &'a [u8],
    ended: bool,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Headers<'a> {
        Headers { rest: content, ended: false }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<(&'a BStr, &'a BStr), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.rest.is_empty() {
            return None;
        }
        let Some(end) = self.rest.find_byte(b'\n') else {
            self.ended = true;
            return Some(Err(ParseError::Unterminated));
        };
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        if line.is_empty() {
            self.ended = true;
            return None;
        }
        let space = line.find_byte(b' ').unwrap_or(line.len());
        Some(Ok((line[..space].as_bstr(), line.get(space + 1..).unwrap_or_default().as_bstr())))
    }
}
