//! Names, paths, persons, dates, and the files that git acts on.

use treehold_object::fsck::{GitFile, check_git_file};
use treehold_object::ident::{TIME_S_MAX, parse_date};
use treehold_object::path::{self, RepoPath};
use treehold_object::tree::mode;
use treehold_object::{CommitSpec, Kind, ObjectId, Policy, Signature, parse_commit, refname};

use crate::Input;

const MODES: [u32; 6] = [mode::FILE, mode::EXECUTABLE, mode::SYMLINK, mode::TREE, mode::GITLINK, mode::GROUP_WRITABLE];

/// The name of a ref: short names are good exactly if the full ones are, and no ref clashes with itself.
pub fn ref_name(data: &[u8]) {
    let full = |prefix: &str| refname::check_full([prefix.as_bytes(), data].concat()).is_ok();
    let is_at = data == b"@";
    assert_eq!(refname::check_branch(data).is_ok(), full("refs/heads/") && !data.is_empty() && !is_at);
    assert_eq!(refname::check_tag(data).is_ok(), full("refs/tags/") && !data.is_empty() && !is_at);
    if refname::check_full(data).is_ok() {
        assert!(data.starts_with(b"refs/") && data.len() <= 255 && path::check_existing(&data[5..]).is_ok_or_dotgit());
    }
    let (first, second) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let second = second.get(1..).unwrap_or_default();
    assert!(refname::conflicts([first], first).is_none());
    let clash = |a: &[u8], b: &[u8]| refname::conflicts([a], b).is_some();
    assert_eq!(clash(first, second), clash(second, first));
}

trait ShapeIsRight {
    fn is_ok_or_dotgit(&self) -> bool;
}

impl ShapeIsRight for Result<(), path::PathError> {
    fn is_ok_or_dotgit(&self) -> bool {
        matches!(self, Ok(()) | Err(path::PathError::DotGit))
    }
}

/// A path: what an edit may add can be read, pushed and imported; a symlink's target; names beside it.
pub fn path(data: &[u8]) {
    let (first, second) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let second = second.get(1..).unwrap_or_default();
    for mode in MODES {
        let new = path::check_new_name(first, mode);
        if new.is_ok() {
            path::check_existing(first).unwrap();
            let repo_path = RepoPath::new(first).unwrap();
            let mut joined: Vec<u8> = Vec::new();
            let depth = repo_path.components().count();
            for (at, component) in repo_path.components().enumerate() {
                let mode = if at + 1 == depth { mode } else { mode::TREE };
                path::check_entry(component, mode, Policy::Write).unwrap();
                path::check_entry(component, mode, Policy::Push).unwrap();
                joined.extend_from_slice(if joined.is_empty() { b"" } else { b"/" });
                joined.extend_from_slice(component);
            }
            assert_eq!(joined, first);
            let parent = repo_path.parent().map_or(0, |parent| parent.as_bstr().len() + 1);
            assert_eq!(parent + repo_path.name().len(), first.len());
        }
        if path::check_entry(first, mode, Policy::Push).is_ok() {
            path::check_entry(first, mode, Policy::Import).unwrap();
        }
    }
    let _ = path::check_symlink_target(first, second);
    assert!(path::sibling_conflict(first, [first]).is_none());
    let clash = |a: &[u8], b: &[u8]| path::sibling_conflict(a, [b]).is_some();
    assert_eq!(clash(first, second), clash(second, first));
}

/// A person, who stands in a commit as given: time, time zone, then name and address parted by NUL.
pub fn ident(data: &[u8]) {
    let mut input = Input(data);
    let time_s = input.bytes(6).iter().fold(0, |time, byte| time << 8 | i64::from(*byte));
    let offset_minutes = input.short() as i32 - 0x8000;
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    let (name, email) = text.split_once('\0').unwrap_or((text, "a@example.org"));
    let Ok(person) = Signature::new(name, email, time_s, offset_minutes) else { return };
    let (tree, parents) = (ObjectId::Sha1([1; 20]), vec![ObjectId::Sha1([2; 20])]);
    let spec =
        CommitSpec { tree, parents, author: person.clone(), committer: person.clone(), message: "A message\n".into() };
    let content = spec.encode().unwrap();
    let read = parse_commit(&content).unwrap();
    assert_eq!((&read.author, &read.committer), (&person, &person));
    let oid = ObjectId::Sha1([3; 20]);
    treehold_object::fsck::check(Kind::Commit, &oid, &content, Policy::Push).unwrap();
}

/// A date that a person typed.
pub fn date(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok((time_s, offset_minutes)) = parse_date(text) else { return };
    assert!((0..=TIME_S_MAX).contains(&time_s) && offset_minutes.abs() < 24 * 60);
    let again = format!(
        "@{time_s} {}{:02}{:02}",
        if offset_minutes < 0 { '-' } else { '+' },
        offset_minutes.abs() / 60,
        offset_minutes.abs() % 60
    );
    if let Ok(read) = parse_date(&again) {
        assert_eq!(read, (time_s, offset_minutes));
    }
}

/// `.gitmodules` and `.gitattributes`: a push is refused exactly where an import is flagged.
pub fn git_file(data: &[u8]) {
    for (file, oid) in [(GitFile::Modules, ObjectId::Sha1([1; 20])), (GitFile::Attributes, ObjectId::Sha1([2; 20]))] {
        let push = check_git_file(file, Kind::Blob, &oid, data, Policy::Push);
        let import = check_git_file(file, Kind::Blob, &oid, data, Policy::Import).unwrap();
        assert_eq!(push.is_err(), !import.is_empty());
    }
}
