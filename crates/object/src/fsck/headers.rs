//! Commits and tags: headers and persons' lines.

use super::{Fault, IdentFault};
use crate::commit::oid;
use crate::policy::{Flags, Policy};
use bstr::ByteSlice;
use gix_object::Kind;

pub(super) fn check_commit(content: &[u8], policy: Policy) -> Result<Flags, Fault> {
    check_ends(content)?;
    let mut lines = Lines { rest: content };
    let tree = lines.take("tree").ok_or(Fault::MissingTree)?;
    oid(tree).ok_or(Fault::BadTreeOid)?;
    while let Some(parent) = lines.take("parent") {
        oid(parent).ok_or(Fault::BadParentOid)?;
    }
    let mut flags = Flags::NONE;
    let mut authors = 0;
    while let Some(author) = lines.take("author") {
        authors += 1;
        flags |= check_ident(author, policy)?;
    }
    match (authors, policy) {
        (1, _) => {}
        (0, _) => return Err(Fault::MissingAuthor),
        (_, Policy::Import) => flags |= Flags::IDENT,
        _ => return Err(Fault::MultipleAuthors),
    }
    let committer = lines.take("committer").ok_or(Fault::MissingCommitter)?;
    flags |= check_ident(committer, policy)?;
    if lines.rest.contains(&0) {
        if policy != Policy::Import {
            return Err(Fault::NulInCommit);
        }
        flags |= Flags::NUL_IN_MESSAGE;
    }
    Ok(flags)
}

pub(super) fn check_tag(content: &[u8], policy: Policy) -> Result<Flags, Fault> {
    check_ends(content)?;
    let mut lines = Lines { rest: content };
    let object = lines.take("object").ok_or(Fault::MissingObject)?;
    oid(object).ok_or(Fault::BadObjectOid)?;
    let kind = lines.take("type").ok_or(Fault::MissingTypeEntry)?;
    Kind::from_bytes(kind).map_err(|_| Fault::BadType)?;
    lines.take("tag").ok_or(Fault::MissingTagEntry)?;
    // A name that is no ref's, and a missing tagger (as in early tags), are but notices to git.
    lines.take("tagger").map_or(Ok(Flags::NONE), |tagger| check_ident(tagger, policy))
}

/// No NUL before the empty line; and if there is none, a line feed at the end.
fn check_ends(content: &[u8]) -> Result<(), Fault> {
    let headers_end = content.find("\n\n");
    if content[..headers_end.unwrap_or(content.len())].contains(&0) {
        return Err(Fault::NulInHeader);
    }
    if headers_end.is_none() && !content.ends_with(b"\n") { Err(Fault::UnterminatedHeader) } else { Ok(()) }
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The value of the next line, if it is the header `name`.
    fn take(&mut self, name: &str) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
        let (value, rest) = rest.split_once_str("\n")?;
        self.rest = rest;
        Some(value)
    }
}

fn check_ident(line: &[u8], policy: Policy) -> Result<Flags, Fault> {
    match ident_fault(line) {
        None => Ok(Flags::NONE),
        Some(_) if policy == Policy::Import => Ok(Flags::IDENT),
        Some(IdentFault::BadTimezone | IdentFault::MissingSpaceBeforeDate) if policy == Policy::Push => {
            Ok(Flags::IDENT)
        }
        Some(fault) => Err(Fault::Ident(fault)),
    }
}

fn ident_fault(line: &[u8]) -> Option<IdentFault> {
    if line.starts_with(b"<") {
        return Some(IdentFault::MissingNameBeforeEmail);
    }
    let Some(open) = line.find_byteset(b"<>") else { return Some(IdentFault::MissingEmail) };
    if line[open] == b'>' {
        return Some(IdentFault::BadName);
    }
    if !line[..open].ends_with(b" ") {
        return Some(IdentFault::MissingSpaceBeforeEmail);
    }
    let rest = &line[open + 1..];
    let Some(close) = rest.find_byteset(b"<>").filter(|&close| rest[close] == b'>') else {
        return Some(IdentFault::BadEmail);
    };
    match rest[close + 1..].strip_prefix(b" ") {
        Some(date) => date_fault(date),
        None => Some(IdentFault::MissingSpaceBeforeDate),
    }
}

fn date_fault(date: &[u8]) -> Option<IdentFault> {
    let date = date.trim_start_with(|character| " \t".contains(character));
    let digits = date.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (seconds, rest) = date.split_at(digits);
    if seconds.is_empty() {
        return Some(IdentFault::BadDate);
    }
    if seconds[0] == b'0' && date.get(1) != Some(&b' ') {
        return Some(IdentFault::ZeroPaddedDate);
    }
    if seconds.to_str().ok().and_then(|seconds| seconds.parse::<i64>().ok()).is_none() {
        return Some(IdentFault::BadDateOverflow);
    }
    match rest {
        [b' ', b'+' | b'-', zone @ ..] if zone.len() == 4 && zone.iter().all(u8::is_ascii_digit) => None,
        [b' ', ..] => Some(IdentFault::BadTimezone),
        _ => Some(IdentFault::BadDate),
    }
}
