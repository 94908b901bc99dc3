//! What a `.gitmodules` or `.gitattributes` file may hold.
//!
//! A submodule's name becomes a directory under `.git/modules`, its path one in the work tree, its URL an argument of
//! a command: each has been used to run code on the machine of whoever clones (CVE-2018-11235, CVE-2018-17456,
//! CVE-2019-19604, CVE-2020-5260, CVE-2020-11008, CVE-2025-48384).

mod config;
mod url;

use crate::limits::{GITATTRIBUTES_BYTES_MAX, GITATTRIBUTES_LINE_BYTES_MAX, GITMODULES_BYTES_MAX};
use bstr::ByteSlice;

/// What is wrong with the file. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GitFileError {
    /// Larger than the limit.
    #[error(".gitmodules is larger than 1 MiB")]
    ModulesTooLarge,
    /// A name that is empty or has a `..` component.
    #[error(".gitmodules has a submodule name that leads out of its directory")]
    Name,
    /// A URL that starts with `-`, has a line break, or names no host.
    #[error(".gitmodules has a URL that git refuses")]
    Url,
    /// A path that starts with `-` or ends in a carriage return.
    #[error(".gitmodules has a path that git refuses")]
    Path,
    /// `update = !command`.
    #[error(".gitmodules has an update command")]
    Update,
    /// Larger than the limit.
    #[error(".gitattributes is larger than 100 MiB")]
    AttributesTooLarge,
    /// A line as long as git does not read.
    #[error(".gitattributes has a line of 2048 bytes or more")]
    AttributesLine,
}

/// Checks the content of `.gitmodules`. Like git, it judges what stands before a syntax error, and not the error:
/// nothing reads on there.
pub fn check_gitmodules(content: &[u8]) -> Result<(), GitFileError> {
    if content.len() > GITMODULES_BYTES_MAX {
        return Err(GitFileError::ModulesTooLarge);
    }
    config::settings(content).filter(|setting| setting.section.eq_ignore_ascii_case(b"submodule")).try_for_each(
        |setting| {
            let Some(name) = setting.subsection else { return Ok(()) };
            if !is_name_allowed(&name) {
                return Err(GitFileError::Name);
            }
            let value = setting.value.unwrap_or_default();
            match setting.key.to_ascii_lowercase().as_slice() {
                b"url" if !url::is_allowed(&value) => Err(GitFileError::Url),
                b"path" if value.starts_with(b"-") || value.ends_with(b"\r") => Err(GitFileError::Path),
                b"update" if value.starts_with(b"!") => Err(GitFileError::Update),
                _ => Ok(()),
            }
        },
    )
}

fn is_name_allowed(name: &[u8]) -> bool {
    !name.is_empty() && name.split(|byte| b"/\\".contains(byte)).all(|component| component != b"..")
}

/// Checks the content of `.gitattributes`.
pub fn check_gitattributes(content: &[u8]) -> Result<(), GitFileError> {
    if content.len() > GITATTRIBUTES_BYTES_MAX {
        return Err(GitFileError::AttributesTooLarge);
    }
    // Git reads the file as a C string.
    let text = content.split_str("\0").next().unwrap_or_default();
    let is_too_long = text.split_str("\n").any(|line| line.len() >= GITATTRIBUTES_LINE_BYTES_MAX);
    if is_too_long { Err(GitFileError::AttributesLine) } else { Ok(()) }
}
