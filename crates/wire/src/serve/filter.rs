//! Partial-clone filters: `blob:none`, `tree:0`, `combine:…` (git's `rev-list --filter`).

use std::fmt;

use treehold_object::{ByteSlice, Kind};

use super::shown;

/// Most filters that are combined.
const PARTS_MAX: usize = 64;
/// Deepest nesting of `combine:`.
const DEPTH_MAX: usize = 8;
/// Bytes that a part of `combine:` must escape, besides white-space, `%` and `+`.
const RESERVED: &[u8] = b"~`!@#$^&*()[]{}\\;'\",<>?";

/// Why a filter is refused, in words for the client's user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is none.
    #[error("invalid filter-spec '{0}'")]
    Invalid(String),
    /// Git has it, this server does not.
    #[error("filter '{0}' not supported")]
    Unsupported(&'static str),
    /// It combines too much.
    #[error("the filter combines more than {PARTS_MAX} filters or nests them too deeply")]
    TooMany,
}

/// Which objects a client does without. Wants are always sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `blob:none`: no blobs.
    BlobNone,
    /// `blob:limit=<n>`: no blobs of at least so many bytes.
    BlobLimit(u64),
    /// `tree:<depth>`: no trees and blobs at that depth or deeper; a commit's tree is at depth 0.
    TreeDepth(u64),
    /// `object:type=<kind>`: only objects of one kind.
    ObjectType(Kind),
    /// `combine:<filter>+<filter>`: what all of them let through. At least two, none of them combined.
    Combine(Vec<Filter>),
}

impl Filter {
    /// Reads a filter as it stands behind `filter `.
    pub fn parse(spec: &[u8]) -> Result<Self, FilterError> {
        let mut parts = Vec::new();
        collect(spec, 0, &mut parts)?;
        match parts.len() {
            0 => Err(FilterError::Invalid(shown(spec))),
            1 => Ok(parts.remove(0)),
            _ => Ok(Self::Combine(parts)),
        }
    }
}

impl fmt::Display for Filter {
    /// The canonical form, which [`Filter::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobNone => f.write_str("blob:none"),
            Self::BlobLimit(bytes) => write!(f, "blob:limit={bytes}"),
            Self::TreeDepth(depth) => write!(f, "tree:{depth}"),
            Self::ObjectType(kind) => write!(f, "object:type={kind}"),
            Self::Combine(parts) => {
                // None of the forms above has a byte to escape.
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at == 0 { "combine:" } else { "+" })?;
                }
                Ok(())
            }
        }
    }
}

/// Adds the filters of `spec`, which all must let an object through.
fn collect(spec: &[u8], depth: usize, parts: &mut Vec<Filter>) -> Result<(), FilterError> {
    let Some(combined) = spec.strip_prefix(b"combine:") else {
        if parts.len() == PARTS_MAX {
            return Err(FilterError::TooMany);
        }
        parts.push(single(spec)?);
        return Ok(());
    };
    if depth == DEPTH_MAX {
        return Err(FilterError::TooMany);
    }
    for part in combined.split_str("+").filter(|part| !part.is_empty()) {
        if part.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f || RESERVED.contains(byte)) {
            return Err(FilterError::Invalid(shown(part)));
        }
        collect(&percent_decode(part), depth + 1, parts)?;
    }
    Ok(())
}

fn single(spec: &[u8]) -> Result<Filter, FilterError> {
    let invalid = || FilterError::Invalid(shown(spec));
    if spec == b"blob:none" {
        Ok(Filter::BlobNone)
    } else if let Some(number) = spec.strip_prefix(b"blob:limit=") {
        Ok(Filter::BlobLimit(parse_number(number).ok_or_else(invalid)?))
    } else if let Some(number) = spec.strip_prefix(b"tree:") {
        Ok(Filter::TreeDepth(parse_number(number).ok_or_else(invalid)?))
    } else if let Some(kind) = spec.strip_prefix(b"object:type=") {
        Ok(Filter::ObjectType(Kind::from_bytes(kind).map_err(|_| invalid())?))
    } else if spec.starts_with(b"sparse:oid=") {
        Err(FilterError::Unsupported("sparse:oid"))
    } else if spec.starts_with(b"sparse:path=") {
        Err(FilterError::Unsupported("sparse:path"))
    } else {
        Err(invalid())
    }
}

/// A number as in git's configuration: decimal, octal behind `0` or hexadecimal behind `0x`; then `k`, `m`, `g` or not.
fn parse_number(text: &[u8]) -> Option<u64> {
    let (text, factor) = match text.split_last()? {
        (b'k' | b'K', digits) => (digits, 1 << 10),
        (b'm' | b'M', digits) => (digits, 1 << 20),
        (b'g' | b'G', digits) => (digits, 1 << 30),
        _ => (text, 1),
    };
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
        digits => (digits, 10),
    };
    // `from_str_radix` would take a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.starts_with(|c: char| c.is_digit(radix)))?;
    u64::from_str_radix(digits, radix).ok()?.checked_mul(factor)
}

/// `%2B` becomes `+`; a `%` without two digits, or of NUL, stays as it is.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16).map(|digit| digit as u8);
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) if high + low > 0 => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_have_a_canonical_form() {
        for (spec, canonical) in [
            ("blob:none", "blob:none"),
            ("blob:limit=0", "blob:limit=0"),
            ("blob:limit=1k", "blob:limit=1024"),
            ("blob:limit=3G", "blob:limit=3221225472"),
            ("blob:limit=0x10m", "blob:limit=16777216"),
            ("blob:limit=010", "blob:limit=8"),
            ("tree:0", "tree:0"),
            ("object:type=tag", "object:type=tag"),
            ("combine:tree:1", "tree:1"),
            ("combine:tree:3+blob:limit=1k", "combine:tree:3+blob:limit=1024"),
            ("combine:+tree%3A3++blob%3anone+", "combine:tree:3+blob:none"),
            ("combine:combine:tree:1%2Bblob:none+tree:2", "combine:tree:1+blob:none+tree:2"),
        ] {
            assert_eq!(Filter::parse(spec.as_bytes()).unwrap().to_string(), canonical, "{spec}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for spec in [
            "",
            "blob",
            "blob:limit=",
            "blob:limit=-1",
            "blob:limit=+1",
            "blob:limit=1kk",
            "blob:limit=0x",
            "tree:",
            "blob:limit=08",
            "blob:limit=0x+1",
            "tree:x",
            "object:type=",
            "object:type=blobs",
            "combine:",
            "combine:+",
            "combine:tree:1 ",
            "combine:tree:1~",
            "combine:tree:1+junk",
            "blob:limit=18446744073709551616",
            "blob:limit=17179869184g",
            "blob:none\0",
        ] {
            assert_eq!(Filter::parse(spec.as_bytes()), Err(FilterError::Invalid(shown(last_part(spec)))), "{spec}");
        }
        let sparse = Filter::parse(b"combine:blob:none+sparse:oid=main").unwrap_err();
        assert_eq!(sparse.to_string(), "filter 'sparse:oid' not supported");
        assert_eq!(Filter::parse("combine:".repeat(5_000).as_bytes()), Err(FilterError::TooMany));
        let many = format!("combine:{}", "tree:1+".repeat(65));
        assert_eq!(Filter::parse(many.as_bytes()), Err(FilterError::TooMany));
    }

    /// What an error about `spec` repeats: the part that is wrong, or all if none is.
    fn last_part(spec: &str) -> &[u8] {
        spec.strip_prefix("combine:")
            .and_then(|parts| parts.split('+').next_back())
            .filter(|part| !part.is_empty())
            .unwrap_or(spec)
            .as_bytes()
    }

    fn any_single() -> impl Strategy<Value = Filter> {
        prop_oneof![
            Just(Filter::BlobNone),
            any::<u64>().prop_map(Filter::BlobLimit),
            any::<u64>().prop_map(Filter::TreeDepth),
            Just(Filter::ObjectType(Kind::Commit)),
        ]
    }

    proptest! {
        #[test]
        fn every_filter_is_read_again(parts in prop::collection::vec(any_single(), 2..9)) {
            for filter in parts.iter().cloned().chain([Filter::Combine(parts.clone())]) {
                prop_assert_eq!(Filter::parse(filter.to_string().as_bytes()), Ok(filter));
            }
        }

        #[test]
        fn any_bytes_are_survived(spec in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(filter) = Filter::parse(&[b"combine:", &spec[..]].concat()) {
                prop_assert_eq!(Filter::parse(filter.to_string().as_bytes()), Ok(filter));
            }
        }
    }
}
