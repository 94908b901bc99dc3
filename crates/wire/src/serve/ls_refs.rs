//! `ls-refs`, answered.

use treehold_object::BString;

use super::{AdvertisedRef, AnswerError, RequestError, check_name, unexpected};
use crate::pktline;

/// From this many prefixes on, git sends all refs (`TOO_MANY_PREFIXES`).
const PREFIXES_MAX: usize = 65_536;

/// One `ls-refs` command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefsRequest {
    prefixes: Vec<BString>,
    /// Say what annotated tags point at.
    pub peel: bool,
    /// Say what symbolic refs point at.
    pub symrefs: bool,
    /// Say where `HEAD` points even if that branch does not exist.
    pub unborn: bool,
}

impl LsRefsRequest {
    /// A request for refs that start with one of `prefixes`; for all of them if there are none, or 65,536 and more.
    pub fn new(mut prefixes: Vec<BString>) -> Self {
        if prefixes.len() >= PREFIXES_MAX {
            prefixes.clear();
        }
        // Without those that others cover, at most one can match a name: the last one not after it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier));
        Self { prefixes, ..Self::default() }
    }

    /// The prefixes, sorted, none of which starts with another; all refs are asked for if there are none.
    pub fn prefixes(&self) -> &[BString] {
        &self.prefixes
    }

    /// Whether a ref of this name is asked for. Takes time that grows with the logarithm of the prefixes.
    pub fn matches(&self, name: &[u8]) -> bool {
        let after = self.prefixes.partition_point(|prefix| prefix.as_slice() <= name);
        self.prefixes.is_empty() || (after > 0 && name.starts_with(&self.prefixes[after - 1]))
    }

    /// Appends the line of one ref, if it is asked for.
    pub fn write_ref(&self, out: &mut Vec<u8>, advertised: &AdvertisedRef) -> Result<(), AnswerError> {
        if !self.matches(&advertised.name) {
            return Ok(());
        }
        check_name(&advertised.name)?;
        let mut line = format!("{} ", advertised.oid).into_bytes();
        line.extend_from_slice(&advertised.name);
        if let Some(target) = advertised.symref_target.as_ref().filter(|_| self.symrefs) {
            check_name(target)?;
            line.extend_from_slice(b" symref-target:");
            line.extend_from_slice(target);
        }
        if let Some(peeled) = advertised.peeled.filter(|_| self.peel) {
            line.extend_from_slice(format!(" peeled:{peeled}").as_bytes());
        }
        Ok(pktline::write_line(out, &[&line])?)
    }

    /// Appends the whole answer: those of `refs` that are asked for, in their order, and a flush packet.
    ///
    /// In git the order is `HEAD`, then all others by name. `unborn_head` is the branch that `HEAD` names if it does
    /// not exist; `refs` then have no `HEAD`.
    pub fn write_answer<'a>(
        &self,
        out: &mut Vec<u8>,
        unborn_head: Option<&[u8]>,
        refs: impl IntoIterator<Item = &'a AdvertisedRef>,
    ) -> Result<(), AnswerError> {
        if let Some(target) = unborn_head.filter(|_| self.unborn && self.symrefs && self.matches(b"HEAD")) {
            check_name(target)?;
            pktline::write_line(out, &[b"unborn HEAD symref-target:", target])?;
        }
        for advertised in refs {
            self.write_ref(out, advertised)?;
        }
        out.extend_from_slice(pktline::FLUSH);
        Ok(())
    }
}

/// Takes the lines of the command.
#[derive(Debug, Default)]
pub(super) struct LsRefsLines {
    prefixes: Vec<BString>,
    request: LsRefsRequest,
}

impl LsRefsLines {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        match line {
            b"peel" => self.request.peel = true,
            b"symrefs" => self.request.symrefs = true,
            b"unborn" => self.request.unborn = true,
            _ => {
                let prefix = line.strip_prefix(b"ref-prefix ").ok_or_else(|| unexpected(line))?;
                if self.prefixes.len() < PREFIXES_MAX {
                    self.prefixes.push(prefix.into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> LsRefsRequest {
        LsRefsRequest { prefixes: LsRefsRequest::new(self.prefixes).prefixes, ..self.request }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use treehold_object::ObjectId;

    use super::*;
    use crate::fetch::{RefLimits, RefsReader};

    #[test]
    fn the_answer_has_what_was_asked_for() {
        let oid = ObjectId::Sha1([0x11; 20]);
        let tag = AdvertisedRef { name: "refs/tags/v1".into(), oid, peeled: Some(oid), symref_target: None };
        let branch = AdvertisedRef { name: "refs/heads/x".into(), peeled: None, ..tag.clone() };
        let mut request = LsRefsRequest::new(vec!["HEAD".into(), "refs/tags/".into()]);
        request.unborn = true;
        let answer = |request: &LsRefsRequest| {
            let mut out = Vec::new();
            request.write_answer(&mut out, Some(b"refs/heads/main"), [&branch, &tag]).unwrap();
            let mut reader = RefsReader::new(RefLimits::default());
            reader.push(&out).unwrap();
            reader.finish().unwrap()
        };
        // Without `symrefs` there is nothing to say about an unborn HEAD.
        let got = answer(&request);
        assert_eq!((got.len(), got[0].name.as_slice(), got[0].peeled), (1, &b"refs/tags/v1"[..], None));
        (request.symrefs, request.peel) = (true, true);
        let got = answer(&request);
        assert_eq!((got[0].oid, got[0].symref_target.clone()), (None, Some("refs/heads/main".into())));
        assert_eq!((got.len(), got[1].peeled), (2, Some(oid)));
        assert_eq!(answer(&LsRefsRequest::default()).len(), 2);
        let bad = AdvertisedRef { name: "refs/heads/a\nb".into(), ..tag };
        assert_eq!(LsRefsRequest::default().write_ref(&mut Vec::new(), &bad), Err(AnswerError::Name));
    }

    #[test]
    fn too_many_prefixes_are_none() {
        let prefixes: Vec<BString> = (0..PREFIXES_MAX).map(|n| format!("refs/heads/{n:06}").into()).collect();
        assert!(LsRefsRequest::new(prefixes.clone()).matches(b"refs/tags/v1"));
        let fewer = LsRefsRequest::new(prefixes[1..].to_vec());
        assert!(!fewer.matches(b"refs/tags/v1") && !fewer.matches(b"refs/heads/000000"));
        assert!(fewer.matches(b"refs/heads/0655350"));
    }

    proptest! {
        #[test]
        fn matching_is_starting_with_one(
            prefixes in prop::collection::vec("[ab/]{0,3}", 0..8), name in "[ab/]{0,5}",
        ) {
            let request = LsRefsRequest::new(prefixes.iter().map(|prefix| prefix.as_str().into()).collect());
            let expected = prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
            prop_assert_eq!(request.matches(name.as_bytes()), expected);
        }
    }
}
