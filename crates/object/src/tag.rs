//! Annotated tags.

use crate::commit::{Headers, ParseError, oid, push_header};
use crate::ident::Signature;
use bstr::BString;
use gix_hash::ObjectId;
use gix_object::Kind;

/// An annotated tag that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it tags.
    pub target: ObjectId,
    /// The kind of what it tags.
    pub kind: Kind,
    /// The tag's own name, which need not be the name of its ref.
    pub name: BString,
    /// Who tagged; early tags do not say.
    pub tagger: Option<Signature>,
    /// All other headers, as in [`crate::commit::Commit`].
    pub extra: Vec<(BString, BString)>,
    /// All after the first empty line, a signature included.
    pub message: BString,
}

/// Reads a tag, also one that `git fsck` would complain of, as long as it is plain what it tags.
pub fn parse_tag(content: &[u8]) -> Result<Tag, ParseError> {
    let mut headers = Headers::new(content);
    let mut expect = |expected: &str| match headers.next() {
        Some(Ok((name, value))) if name == expected => Ok(value),
        Some(Err(error)) => Err(error),
        _ => Err(ParseError::Tag),
    };
    let target = oid(expect("object")?).ok_or(ParseError::Tag)?;
    let kind = Kind::from_bytes(expect("type")?).map_err(|_| ParseError::Tag)?;
    let name = expect("tag")?.into();
    let (mut tagger, mut extra) = (None, Vec::new());
    for header in headers.by_ref() {
        let (name, value) = header?;
        match tagger {
            None if name == "tagger" => tagger = Some(Signature::read(value)),
            _ => push_header(&mut extra, name, value),
        }
    }
    Ok(Tag { target, kind, name, tagger, extra, message: headers.rest.into() })
}
