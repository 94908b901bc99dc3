//! Names of refs: git's own rules (`git check-ref-format`) and some that keep names safe on every platform.

use std::collections::HashMap;

use crate::limits::REF_NAME_BYTES_MAX;
use crate::path::fold;
use bstr::{BStr, BString, ByteSlice};

/// Why a name is no name for a ref. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefNameError {
    /// Nothing, or nothing after `refs/heads/`.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`REF_NAME_BYTES_MAX`] with all its prefixes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// A full name outside of `refs/`, or `refs/` with one component only.
    #[error("a full ref name starts with refs/ and has something after it")]
    NotUnderRefs,
    /// A leading, trailing or doubled slash.
    #[error("a component of the name is empty")]
    EmptyComponent,
    /// A component starts with a dot.
    #[error("a component of the name starts with a dot")]
    LeadingDot,
    /// The name ends with a dot.
    #[error("the name ends with a dot")]
    TrailingDot,
    /// A component ends in `.lock`.
    #[error("a component of the name ends with .lock")]
    Lock,
    /// Two dots, which mean a range.
    #[error("the name has two dots in a row")]
    DotDot,
    /// A control character, a space or one of `~^:?*[\`.
    #[error("the name has a control character, a space or one of ~ ^ : ? * [ \\")]
    Forbidden,
    /// `@{`, which means the reflog.
    #[error("the name has @{{")]
    Reflog,
    /// `@`, which means `HEAD`.
    #[error("the name is @")]
    At,
    /// Branch or tag starts with `-`, as options do.
    #[error("the name starts with a dash")]
    LeadingDash,
    /// A branch or tag called `HEAD`.
    #[error("a branch or tag cannot be called HEAD")]
    Head,
}

/// Checks the short name of a branch (`main`, `feature/x`).
pub fn check_branch(short: impl AsRef<[u8]>) -> Result<(), RefNameError> {
    check_short(b"refs/heads/", short.as_ref())
}

/// Checks the short name of a tag (`v1.0`).
pub fn check_tag(short: impl AsRef<[u8]>) -> Result<(), RefNameError> {
    check_short(b"refs/tags/", short.as_ref())
}

fn check_short(prefix: &[u8], short: &[u8]) -> Result<(), RefNameError> {
    if short.is_empty() {
        return Err(RefNameError::Empty);
    }
    if short == b"@" {
        return Err(RefNameError::At);
    }
    check_full([prefix, short].concat())
}

/// Checks the full name of a ref (`refs/heads/main`).
pub fn check_full(name: impl AsRef<[u8]>) -> Result<(), RefNameError> {
    let name = name.as_ref();
    if name.is_empty() {
        return Err(RefNameError::Empty);
    }
    if name.len() > REF_NAME_BYTES_MAX {
        return Err(RefNameError::TooLong);
    }
    check_format(name)?;
    let Some(rest) = name.strip_prefix(b"refs/") else { return Err(RefNameError::NotUnderRefs) };
    let short = rest.strip_prefix(b"heads/").or_else(|| rest.strip_prefix(b"tags/")).unwrap_or(rest);
    if short.starts_with(b"-") {
        return Err(RefNameError::LeadingDash);
    }
    if short == b"HEAD" {
        return Err(RefNameError::Head);
    }
    Ok(())
}

/// The rules of `git check-ref-format --allow-onelevel`.
pub(crate) fn check_format(name: &[u8]) -> Result<(), RefNameError> {
    if name == b"@" {
        return Err(RefNameError::At);
    }
    if name.iter().any(|&byte| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte)) {
        return Err(RefNameError::Forbidden);
    }
    if name.contains_str("..") {
        return Err(RefNameError::DotDot);
    }
    if name.contains_str("@{") {
        return Err(RefNameError::Reflog);
    }
    for component in name.split_str("/") {
        match component {
            b"" => return Err(RefNameError::EmptyComponent),
            [b'.', ..] => return Err(RefNameError::LeadingDot),
            _ if component.ends_with(b".lock") => return Err(RefNameError::Lock),
            _ => {}
        }
    }
    if name.ends_with(b".") { Err(RefNameError::TrailingDot) } else { Ok(()) }
}

/// Why two refs cannot be together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict<'a> {
    /// One would have to be a file and a directory at once: `refs/heads/a` and `refs/heads/a/b`.
    DirectoryFile(&'a BStr),
    /// They differ in nothing but case or Unicode normalisation.
    CaseFold(&'a BStr),
}

impl<'a> Conflict<'a> {
    /// The ref that is in the way.
    pub fn existing(&self) -> &'a BStr {
        match self {
            Conflict::DirectoryFile(existing) | Conflict::CaseFold(existing) => existing,
        }
    }
}

/// The first of the `existing` full names that `new` cannot be together with. `new` itself among them is no conflict.
pub fn conflicts<'a>(existing: impl IntoIterator<Item = &'a [u8]>, new: impl AsRef<[u8]>) -> Option<Conflict<'a>> {
    let new = new.as_ref();
    let folded = fold(new);
    let is_above = |upper: &[u8], lower: &[u8]| lower.strip_prefix(upper).is_some_and(|rest| rest.starts_with(b"/"));
    existing.into_iter().filter(|&name| name != new).find_map(|name| {
        let other = fold(name);
        if is_above(&other, &folded) || is_above(&folded, &other) {
            return Some(Conflict::DirectoryFile(name.as_bstr()));
        }
        (other == folded).then(|| Conflict::CaseFold(name.as_bstr()))
    })
}

/// Names of refs, for judging many new ones beside them. Says of a name whether it conflicts as [`conflicts`] does.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// By folded name.
    whole: HashMap<Vec<u8>, BString>,
    /// By what stands before each slash of the folded name: one of those that lie below.
    above: HashMap<Vec<u8>, BString>,
}

impl Taken {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        let folded = fold(name);
        for slash in folded.find_iter("/") {
            self.above.entry(folded[..slash].to_vec()).or_insert_with(|| name.into());
        }
        self.whole.entry(folded).or_insert_with(|| name.into());
    }

    /// A name that `new` cannot be together with. `new` itself is no conflict.
    pub fn conflict(&self, new: &[u8]) -> Option<Conflict<'_>> {
        let folded = fold(new);
        let above = folded.find_iter("/").find_map(|slash| self.whole.get(&folded[..slash]));
        if let Some(name) = above.or_else(|| self.above.get(&folded)) {
            return Some(Conflict::DirectoryFile(name.as_bstr()));
        }
        self.whole.get(&folded).filter(|name| *name != new).map(|name| Conflict::CaseFold(name.as_bstr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_name_that_breaks_it() {
        let long = "x".repeat(255);
        for (name, expected) in [
            ("", RefNameError::Empty),
            ("@", RefNameError::At),
            (long.as_str(), RefNameError::TooLong),
            ("/a", RefNameError::EmptyComponent),
            ("a/", RefNameError::EmptyComponent),
            ("a//b", RefNameError::EmptyComponent),
            (".a", RefNameError::LeadingDot),
            ("a/.b", RefNameError::LeadingDot),
            ("a.", RefNameError::TrailingDot),
            ("a.lock", RefNameError::Lock),
            ("a.lock/b", RefNameError::Lock),
            ("a..b", RefNameError::DotDot),
            ("a b", RefNameError::Forbidden),
            ("a\nb", RefNameError::Forbidden),
            ("a\x7f", RefNameError::Forbidden),
            ("a\0", RefNameError::Forbidden),
            ("a~1", RefNameError::Forbidden),
            ("a\\b", RefNameError::Forbidden),
            ("a@{1}", RefNameError::Reflog),
            ("-a", RefNameError::LeadingDash),
            ("HEAD", RefNameError::Head),
        ] {
            assert_eq!(check_branch(name), Err(expected), "{name:?}");
        }
        for name in ["main", "a/b/c", "a.b", "a-b", "x@y", "ünï/日本語", "head", "HEAD/x"] {
            assert_eq!((check_branch(name), check_tag(name)), (Ok(()), Ok(())), "{name:?}");
        }
        assert_eq!(check_full("main"), Err(RefNameError::NotUnderRefs));
        assert_eq!(check_full("HEAD"), Err(RefNameError::NotUnderRefs));
        assert_eq!(check_full("refs"), Err(RefNameError::NotUnderRefs));
        assert_eq!(check_full("refs/stash"), Ok(()));
        assert_eq!(check_full(format!("refs/heads/{}", "x".repeat(244))), Ok(()));
        assert_eq!(check_full(format!("refs/heads/{}", "x".repeat(245))), Err(RefNameError::TooLong));
    }

    #[test]
    fn refs_that_cannot_be_together() {
        let existing = ["refs/heads/a", "refs/heads/b/c", "refs/heads/Ünï"].map(str::as_bytes);
        let with = |new: &str| conflicts(existing, new).map(|conflict| conflict.existing().to_string());
        assert_eq!(with("refs/heads/a/b"), Some("refs/heads/a".into()));
        assert_eq!(with("refs/heads/A/b"), Some("refs/heads/a".into()));
        assert_eq!(with("refs/heads/b"), Some("refs/heads/b/c".into()));
        assert_eq!(with("refs/heads/A"), Some("refs/heads/a".into()));
        assert_eq!(with("refs/heads/u\u{308}nÏ"), Some("refs/heads/Ünï".into()));
        assert_eq!(with("refs/heads/a"), None);
        assert_eq!(with("refs/heads/ab"), None);
        assert_eq!(with("refs/heads/b/d"), None);
    }

    proptest::proptest! {
        #[test]
        fn many_names_are_judged_as_one_by_one(names in proptest::collection::vec("[aAbä](/[aAb]){0,2}", 0..8), new in "[aAbä](/[aAb]){0,2}") {
            let mut taken = Taken::default();
            names.iter().for_each(|name| taken.insert(name.as_bytes()));
            // Two names that differ only in case are one to the index: whichever was first is told.
            let one_by_one = conflicts(names.iter().map(String::as_bytes), &new);
            let folded_twins = names.iter().any(|name| *name != new && fold(name.as_bytes()) == fold(new.as_bytes()));
            let itself = names.iter().position(|name| fold(name.as_bytes()) == fold(new.as_bytes()) );
            if !(folded_twins && itself.is_some_and(|at| names[at] == new)) {
                proptest::prop_assert_eq!(taken.conflict(new.as_bytes()).is_some(), one_by_one.is_some());
            }
        }
    }
}
