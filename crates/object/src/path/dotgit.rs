//! Names that some file system takes for `.git`, `.gitmodules` and their kin.
//!
//! The rules are those of git's `path.c` (NTFS: trailing dots and spaces, streams, short names) and `utf8.c` (HFS+:
//! ignorable code points, case). A name is judged on its raw bytes.

use bstr::ByteSlice;

/// A name that git gives a meaning to, with what NTFS may call it.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Without the dot.
    name: &'static str,
    /// The first six characters of the short name that NTFS falls back to, a hash of the name.
    short: &'static str,
}

const GITMODULES: Known = Known { name: "gitmodules", short: "gi7eba" };
const GITATTRIBUTES: Known = Known { name: "gitattributes", short: "gi7d29" };
const GITIGNORE: Known = Known { name: "gitignore", short: "gi250a" };
const MAILMAP: Known = Known { name: "mailmap", short: "maba30" };

/// Whether some file system takes `name` for `.git`; or, on Windows, a part of it after a backslash.
pub fn is_dotgit(name: &[u8]) -> bool {
    is_hfs_dot(name, "git") || after_backslashes(name).any(is_ntfs_dotgit)
}

/// Whether some file system takes `name` for `.gitmodules`; or, on Windows, a part of it after a backslash.
pub fn is_dotgitmodules(name: &[u8]) -> bool {
    is_hfs_dot(name, GITMODULES.name) || after_backslashes(name).any(|part| is_ntfs_dot(part, GITMODULES))
}

/// Whether some file system takes `name` for `.gitattributes`.
pub fn is_dotgitattributes(name: &[u8]) -> bool {
    is_known(name, GITATTRIBUTES)
}

/// Whether some file system takes `name` for `.gitignore`.
pub fn is_dotgitignore(name: &[u8]) -> bool {
    is_known(name, GITIGNORE)
}

/// Whether some file system takes `name` for `.mailmap`.
pub fn is_dotmailmap(name: &[u8]) -> bool {
    is_known(name, MAILMAP)
}

fn is_known(name: &[u8], known: Known) -> bool {
    is_hfs_dot(name, known.name) || is_ntfs_dot(name, known)
}

/// The name itself and what follows each backslash in it.
fn after_backslashes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::once(name).chain(name.find_iter("\\").map(|index| &name[index + 1..]))
}

fn is_ntfs_dotgit(name: &[u8]) -> bool {
    let rest = strip_prefix_ignoring_case(name, b".git").or_else(|| strip_prefix_ignoring_case(name, b"git~1"));
    rest.is_some_and(|rest| ends_after_dots_and_spaces(rest, b"\\/:"))
}

fn is_ntfs_dot(name: &[u8], known: Known) -> bool {
    let rest = long_name(name, known).or_else(|| short_name(name, known)).or_else(|| fallback_short_name(name, known));
    rest.is_some_and(|rest| ends_after_dots_and_spaces(rest, b":"))
}

fn long_name(name: &[u8], known: Known) -> Option<&[u8]> {
    strip_prefix_ignoring_case(name.strip_prefix(b".")?, known.name.as_bytes())
}

/// The short name by the usual rule: six letters and `~1` to `~4`.
fn short_name(name: &[u8], known: Known) -> Option<&[u8]> {
    let rest = strip_prefix_ignoring_case(name, known.name.as_bytes().get(..6)?)?;
    matches!(rest, [b'~', b'1'..=b'4', ..]).then(|| &rest[2..])
}

/// The short name of the fifth and later files: up to six characters of a hash, `~` and digits, eight in all.
fn fallback_short_name(name: &[u8], known: Known) -> Option<&[u8]> {
    let (short, rest) = (name.get(..8)?, name.get(8..)?);
    let tilde = short.iter().position(|&byte| byte == b'~').filter(|&tilde| tilde <= 6)?;
    let same = known.short.as_bytes()[..tilde].eq_ignore_ascii_case(&short[..tilde]);
    let digits = &short[tilde + 1..];
    (same && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit)).then_some(rest)
}

fn strip_prefix_ignoring_case<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    name.get(..prefix.len())?.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}

/// NTFS drops dots and spaces at the end of a name, and a colon starts the name of a stream.
fn ends_after_dots_and_spaces(rest: &[u8], ends: &[u8]) -> bool {
    rest.iter().find(|byte| !b". ".contains(byte)).is_none_or(|byte| ends.contains(byte))
}

/// HFS+ ignores case and some code points. Bytes that are not UTF-8 end the name, as in git, which would rather see
/// one `.git` too many.
fn is_hfs_dot(name: &[u8], needle: &str) -> bool {
    // Decides nearly all names without decoding them: the dot may stand after code points that are ignored.
    if !matches!(name.first(), Some(b'.' | 0xe2 | 0xef)) {
        return false;
    }
    let text = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    // git's decoder takes the two non-characters for malformed bytes.
    let text = text.split(['\u{fffe}', '\u{ffff}']).next().unwrap_or("");
    let mut characters = text.chars().filter(|&character| !is_ignorable_on_hfs(character));
    let mut needle = std::iter::once('.').chain(needle.chars());
    needle.all(|expected| characters.next().is_some_and(|found| found.to_ascii_lowercase() == expected))
        && characters.next().is_none_or(|next| next == '/')
}

fn is_ignorable_on_hfs(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}
