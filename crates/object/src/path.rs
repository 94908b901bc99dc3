//! Which paths may be. Names are judged by component, on raw bytes; they are refused or carried, never normalised.

mod dotgit;
mod sibling;

pub use dotgit::{is_dotgit, is_dotgitattributes, is_dotgitignore, is_dotgitmodules, is_dotmailmap};
pub(crate) use sibling::normal;
pub use sibling::{Clash, fold, sibling_conflict};

use crate::limits::{
    COMPONENT_BYTES_MAX, ENTRY_NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX, SYMLINK_TARGET_BYTES_MAX,
};
use crate::policy::{Flags, Policy};
use crate::tree::mode;
use bstr::{BStr, BString, ByteSlice};

/// Why a path is refused. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No byte at all.
    #[error("the path is empty")]
    Empty,
    /// A leading, trailing or doubled slash.
    #[error("a component of the path is empty")]
    EmptyComponent,
    /// `.` as a component.
    #[error("a component of the path is .")]
    Dot,
    /// `..` as a component.
    #[error("a component of the path is ..")]
    DotDot,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// A slash inside of what must be one component.
    #[error("a tree entry's name has a slash")]
    Slash,
    /// `.git`, or what some file system takes for it.
    #[error("a component of the path is .git on some file system")]
    DotGit,
    /// `.gitmodules`, `.gitattributes`, `.gitignore` or `.mailmap` as a symlink.
    #[error("a file that git reads cannot be a symlink")]
    SymlinkedGitFile,
    /// `.gitmodules` as a directory.
    #[error(".gitmodules must be a file")]
    GitmodulesNotFile,
    /// A backslash, which is a separator on Windows.
    #[error("the path has a backslash")]
    Backslash,
    /// One of `< > " ? * : |`, which Windows forbids (`C:` would name a drive).
    #[error("the path has one of < > \" ? * : |")]
    WindowsCharacter,
    /// The name of a Windows device, with or without extension.
    #[error("a component of the path is a Windows device name")]
    WindowsDevice,
    /// A component ends in a dot or space, which Windows drops.
    #[error("a component of the path ends in a dot or a space")]
    TrailingDotOrSpace,
    /// 0x01 to 0x1f or 0x7f.
    #[error("the path has a control character")]
    ControlCharacter,
    /// Not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the path is longer than 4096 bytes")]
    TooLong,
    /// A component is longer than [`COMPONENT_BYTES_MAX`].
    #[error("a component of the path is longer than 255 bytes")]
    ComponentTooLong,
    /// A tree entry's name is longer than [`ENTRY_NAME_BYTES_MAX`].
    #[error("a tree entry's name is longer than 4096 bytes")]
    NameTooLong,
    /// More components than [`PATH_DEPTH_MAX`].
    #[error("the path has more than 128 components")]
    TooDeep,
    /// A mode that git does not have, or that this change cannot make.
    #[error("the mode is not allowed")]
    Mode,
    /// A symlink's target is empty.
    #[error("the symlink's target is empty")]
    TargetEmpty,
    /// A symlink's target is longer than [`SYMLINK_TARGET_BYTES_MAX`].
    #[error("the symlink's target is longer than 4096 bytes")]
    TargetTooLong,
    /// A symlink's target has a NUL, a backslash or a `.git` component.
    #[error("the symlink's target has a NUL, a backslash, or names .git")]
    TargetForbidden,
    /// A symlink's target is absolute or leads out of the repository.
    #[error("the symlink's target is outside of the repository")]
    TargetOutside,
}

/// A path whose shape was checked: not empty, no empty, `.` or `..` component, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(BString);

impl RepoPath {
    /// The path, if its shape is right. It may name something that no edit may add.
    pub fn new(path: impl Into<BString>) -> Result<RepoPath, PathError> {
        let path = path.into();
        check_shape(&path)?;
        Ok(RepoPath(path))
    }

    /// The bytes.
    pub fn as_bstr(&self) -> &BStr {
        self.0.as_bstr()
    }

    /// The components, from the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &BStr> {
        self.0.split(|&byte| byte == b'/').map(ByteSlice::as_bstr)
    }

    /// The last component.
    pub fn name(&self) -> &BStr {
        self.components().next_back().unwrap_or_default()
    }

    /// The path of the directory it is in; `None` in the root.
    pub fn parent(&self) -> Option<RepoPath> {
        self.0.rfind_byte(b'/').map(|slash| RepoPath(self.0[..slash].into()))
    }
}

impl AsRef<[u8]> for RepoPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<RepoPath> for BString {
    fn from(path: RepoPath) -> BString {
        path.0
    }
}

impl std::fmt::Display for RepoPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

fn check_shape(path: &[u8]) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    path.split_str("/").try_for_each(check_component_shape)
}

fn check_component_shape(component: &[u8]) -> Result<(), PathError> {
    match component {
        b"" => Err(PathError::EmptyComponent),
        b"." => Err(PathError::Dot),
        b".." => Err(PathError::DotDot),
        _ if component.contains(&0) => Err(PathError::Nul),
        _ => Ok(()),
    }
}

/// Judges a path that an edit adds, with the mode of its file: the strict rules, all limits, every component.
///
/// What is beside it is for [`sibling_conflict`], a symlink's content for [`check_symlink_target`].
pub fn check_new_name(path: &[u8], mode: u32) -> Result<(), PathError> {
    check_shape(path)?;
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    if path.split_str("/").count() > PATH_DEPTH_MAX {
        return Err(PathError::TooDeep);
    }
    if ![mode::FILE, mode::EXECUTABLE, mode::SYMLINK].contains(&mode) {
        return Err(PathError::Mode);
    }
    let mut components = path.split(|&byte| byte == b'/');
    let name = components.next_back().unwrap_or_default();
    for directory in components {
        check_entry(directory, mode::TREE, Policy::Write)?;
    }
    check_entry(name, mode, Policy::Write).map(drop)
}

/// Judges the path of a file that is there already and is read, edited or deleted: its shape, and the `.git` forms.
pub fn check_existing(path: &[u8]) -> Result<(), PathError> {
    check_shape(path)?;
    if path.split_str("/").any(is_dotgit) { Err(PathError::DotGit) } else { Ok(()) }
}

/// Judges one tree entry's name with its mode. What is odd but carried comes back as flags.
pub fn check_entry(component: &[u8], mode: u32, policy: Policy) -> Result<Flags, PathError> {
    check_component_shape(component)?;
    if component.contains(&b'/') {
        return Err(PathError::Slash);
    }
    if is_dotgit(component) {
        return Err(PathError::DotGit);
    }
    let mut flags = check_mode(mode, policy)?;
    flags |= check_git_files(component, mode, policy)?;
    if policy == Policy::Write {
        check_portable(component)?;
    }
    if component.len() > ENTRY_NAME_BYTES_MAX {
        return Err(PathError::NameTooLong);
    }
    if component.iter().any(u8::is_ascii_control) {
        flags |= Flags::CONTROL_CHARACTER;
    }
    Ok(flags)
}

fn check_mode(entry_mode: u32, policy: Policy) -> Result<Flags, PathError> {
    match entry_mode {
        mode::FILE | mode::EXECUTABLE | mode::SYMLINK | mode::TREE => Ok(Flags::NONE),
        mode::GITLINK if policy != Policy::Write => Ok(Flags::NONE),
        mode::GROUP_WRITABLE if policy == Policy::Import => Ok(Flags::ODD_MODE),
        _ => Err(PathError::Mode),
    }
}

fn check_git_files(component: &[u8], entry_mode: u32, policy: Policy) -> Result<Flags, PathError> {
    let is_symlink = mode::is_symlink(entry_mode);
    if is_dotgitmodules(component) {
        return match policy {
            _ if is_symlink => Err(PathError::SymlinkedGitFile),
            _ if mode::is_file(entry_mode) => Ok(Flags::NONE),
            Policy::Import => Ok(Flags::GITMODULES),
            Policy::Write | Policy::Push => Err(PathError::GitmodulesNotFile),
        };
    }
    let is_read_by_git = || is_dotgitattributes(component) || is_dotgitignore(component) || is_dotmailmap(component);
    if policy == Policy::Write && is_symlink && is_read_by_git() {
        return Err(PathError::SymlinkedGitFile);
    }
    Ok(Flags::NONE)
}

/// What a name needs to be written on Windows too, and to be shown in JSON and logs.
fn check_portable(component: &[u8]) -> Result<(), PathError> {
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(PathError::ComponentTooLong);
    }
    if component.iter().any(u8::is_ascii_control) {
        return Err(PathError::ControlCharacter);
    }
    if std::str::from_utf8(component).is_err() {
        return Err(PathError::NotUtf8);
    }
    if component.contains(&b'\\') {
        return Err(PathError::Backslash);
    }
    if component.iter().any(|byte| b"<>\"?*:|".contains(byte)) {
        return Err(PathError::WindowsCharacter);
    }
    if is_windows_device(component) {
        return Err(PathError::WindowsDevice);
    }
    if component.ends_with(b".") || component.ends_with(b" ") {
        return Err(PathError::TrailingDotOrSpace);
    }
    Ok(())
}

/// `CON`, `NUL`, `COM1` and so on, in any case, with any extension; Windows takes `¹²³` for digits and drops spaces.
fn is_windows_device(component: &[u8]) -> bool {
    let stem = component.split_str(".").next().unwrap_or_default().trim_end_with(|character| character == ' ');
    let stem = stem.to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].iter().any(|device| stem == device.as_bytes()) {
        return true;
    }
    let number = stem.strip_prefix(b"COM").or_else(|| stem.strip_prefix(b"LPT"));
    let digits = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"];
    number.is_some_and(|number| digits.iter().any(|digit| number == digit.as_bytes()))
}

/// Judges the target of a symlink that an edit writes at `path`: relative, inside of the repository, not into `.git`.
pub fn check_symlink_target(path: &[u8], target: &[u8]) -> Result<(), PathError> {
    if target.is_empty() {
        return Err(PathError::TargetEmpty);
    }
    if target.len() > SYMLINK_TARGET_BYTES_MAX {
        return Err(PathError::TargetTooLong);
    }
    if target.iter().any(|byte| b"\0\\".contains(byte)) || target.split_str("/").any(is_dotgit) {
        return Err(PathError::TargetForbidden);
    }
    // An absolute path, or a drive on Windows.
    if target.starts_with(b"/") || target.get(1) == Some(&b':') {
        return Err(PathError::TargetOutside);
    }
    let mut depth = path.find_iter("/").count();
    for component in target.split_str("/") {
        depth = match component {
            b"" | b"." => depth,
            b".." => depth.checked_sub(1).ok_or(PathError::TargetOutside)?,
            _ => depth + 1,
        };
    }
    Ok(())
}
