//! `GET info/refs`: which version is spoken, what the server can do and, before v2, which refs there are.

use treehold_object::{BString, ByteSlice, ObjectId};

use super::{AnswerError, agent_word, check_name};
use crate::pktline;

/// What `git upload-pack` says before v2 with `uploadpack.allowReachableSHA1InWant` and `uploadpack.allowFilter`.
const UPLOAD_PACK: &[u8] = b"multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
    deepen-relative no-progress include-tag multi_ack_detailed allow-reachable-sha1-in-want no-done";
/// What `git receive-pack` says.
const RECEIVE_PACK: &[u8] = b"report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta";

/// The version of the protocol that a client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The original one: refs first, negotiation in lines.
    #[default]
    V0,
    /// The same behind a line that names it.
    V1,
    /// Commands; only for `git-upload-pack`.
    V2,
}

impl Protocol {
    /// Reads the value of the header `Git-Protocol` (or of `GIT_PROTOCOL`): keys separated by colons.
    ///
    /// Of several versions the highest counts; what is unknown is ignored. Without the header it is [`Protocol::V0`].
    pub fn from_header(value: &[u8]) -> Self {
        let version = |word: &[u8]| match word {
            b"version=1" => Self::V1,
            b"version=2" => Self::V2,
            _ => Self::V0,
        };
        value.split_str(":").map(version).max().unwrap_or_default()
    }
}

/// A ref as clients get to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedRef {
    /// `HEAD`, `refs/heads/main`.
    pub name: BString,
    /// What it points at.
    pub oid: ObjectId,
    /// What an annotated tag finally points at; `None` for anything else.
    pub peeled: Option<ObjectId>,
    /// The ref that a symbolic ref such as `HEAD` names.
    pub symref_target: Option<BString>,
}

/// The answer to `GET info/refs?service=git-upload-pack` in v2: what can be asked.
pub fn upload_pack_v2(agent: &str) -> Result<Vec<u8>, AnswerError> {
    let mut out = service_head("git-upload-pack")?;
    for line in [&b"version 2"[..], &[b"agent=", &agent_word(agent)[..]].concat(), b"ls-refs=unborn"] {
        pktline::write_line(&mut out, &[line])?;
    }
    for line in ["fetch=shallow wait-for-done filter", "server-option", "object-format=sha1", "object-info=size"] {
        pktline::write_line(&mut out, &[line.as_bytes()])?;
    }
    out.extend_from_slice(pktline::FLUSH);
    Ok(out)
}

/// The answer to `GET info/refs?service=git-upload-pack` before v2.
///
/// `refs` are sent in their order, which in git is `HEAD`, unless it is unborn, then all others by name. `shallow` are
/// the commits whose parents the repository lacks. [`Protocol::V2`] gives the answer of [`upload_pack_v2`].
pub fn upload_pack(
    protocol: Protocol,
    refs: &[AdvertisedRef],
    shallow: &[ObjectId],
    agent: &str,
) -> Result<Vec<u8>, AnswerError> {
    if protocol == Protocol::V2 {
        return upload_pack_v2(agent);
    }
    let mut words = UPLOAD_PACK.to_vec();
    let head = refs.iter().find(|advertised| advertised.name == "HEAD");
    if let Some(target) = head.and_then(|head| head.symref_target.as_ref()) {
        check_name(target)?;
        words.extend_from_slice(b" symref=HEAD:");
        words.extend_from_slice(target);
    }
    words.extend_from_slice(b" filter");
    let mut lines = RefLines::new("git-upload-pack", protocol, words, agent)?;
    for advertised in refs {
        lines.push(&advertised.name, &advertised.oid)?;
        if let Some(peeled) = &advertised.peeled {
            lines.push(&[advertised.name.as_slice(), b"^{}"].concat(), peeled)?;
        }
    }
    lines.finish(shallow)
}

/// The answer to `GET info/refs?service=git-receive-pack`.
///
/// `HEAD` and peeled tags are left out, as git does. There is no v2 of it: a client that asks for v2 gets v0.
/// `push_options` says whether `push-options` is offered.
pub fn receive_pack(
    protocol: Protocol,
    refs: &[AdvertisedRef],
    shallow: &[ObjectId],
    agent: &str,
    push_options: bool,
) -> Result<Vec<u8>, AnswerError> {
    let mut words = RECEIVE_PACK.to_vec();
    if push_options {
        words.extend_from_slice(b" push-options");
    }
    let mut lines = RefLines::new("git-receive-pack", protocol, words, agent)?;
    for advertised in refs.iter().filter(|advertised| advertised.name != "HEAD") {
        lines.push(&advertised.name, &advertised.oid)?;
    }
    lines.finish(shallow)
}

fn service_head(service: &str) -> Result<Vec<u8>, AnswerError> {
    let mut out = Vec::new();
    pktline::write_line(&mut out, &[b"# service=", service.as_bytes()])?;
    out.extend_from_slice(pktline::FLUSH);
    Ok(out)
}

/// Lines of refs, of which the first has the capabilities.
struct RefLines {
    out: Vec<u8>,
    words: Option<Vec<u8>>,
}

impl RefLines {
    fn new(service: &str, protocol: Protocol, mut words: Vec<u8>, agent: &str) -> Result<Self, AnswerError> {
        let mut out = service_head(service)?;
        if protocol == Protocol::V1 {
            pktline::write_line(&mut out, &[b"version 1"])?;
        }
        words.extend_from_slice(b" object-format=sha1 agent=");
        words.extend_from_slice(&agent_word(agent));
        Ok(Self { out, words: Some(words) })
    }

    fn push(&mut self, name: &[u8], oid: &ObjectId) -> Result<(), AnswerError> {
        check_name(name)?;
        let hex = oid.to_hex().to_string();
        match self.words.take() {
            Some(words) => pktline::write_line(&mut self.out, &[hex.as_bytes(), b" ", name, b"\0", &words])?,
            None => pktline::write_line(&mut self.out, &[hex.as_bytes(), b" ", name])?,
        }
        Ok(())
    }

    fn finish(mut self, shallow: &[ObjectId]) -> Result<Vec<u8>, AnswerError> {
        if self.words.is_some() {
            // Without a ref the capabilities need a line of their own.
            self.push(b"capabilities^{}", &ObjectId::Sha1([0; 20]))?;
        }
        for oid in shallow {
            pktline::write_line(&mut self.out, &[b"shallow ", oid.to_hex().to_string().as_bytes()])?;
        }
        self.out.extend_from_slice(pktline::FLUSH);
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Advertisement;

    #[test]
    fn the_highest_known_version_counts() {
        for (value, protocol) in [
            (&b""[..], Protocol::V0),
            (b"version=2", Protocol::V2),
            (b"version=1:version=2:future", Protocol::V2),
            (b"key=value:version=1", Protocol::V1),
            (b"version=0", Protocol::V0),
            (b"version=3", Protocol::V0),
            (b"version=22:\xff:", Protocol::V0),
        ] {
            assert_eq!(Protocol::from_header(value), protocol, "{}", value.as_bstr());
        }
    }

    #[test]
    fn our_client_reads_every_version() {
        let oid = ObjectId::Sha1([0x11; 20]);
        let head =
            AdvertisedRef { name: "HEAD".into(), oid, peeled: None, symref_target: Some("refs/heads/main".into()) };
        let tag = AdvertisedRef { name: "refs/tags/v1".into(), oid, peeled: Some(oid), symref_target: None };
        let refs = [head, tag];
        let v2 = Advertisement::parse(&upload_pack(Protocol::V2, &refs, &[], "treehold/0").unwrap()).unwrap();
        assert_eq!((v2.version, v2.capabilities.value("agent")), (2, Some(&b"treehold/0"[..])));
        assert!(v2.capabilities.has_feature("fetch", "filter") && v2.capabilities.has_feature("ls-refs", "unborn"));
        for word in ["ref-in-want", "sideband-all", "packfile-uris"] {
            assert!(!v2.capabilities.has_feature("fetch", word));
        }
        let v1 = Advertisement::parse(&upload_pack(Protocol::V1, &refs, &[oid], "treehold/0").unwrap()).unwrap();
        assert_eq!((v1.version, v1.shallow), (1, vec![oid]));
        let names: Vec<_> = v1.refs.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["HEAD", "refs/tags/v1", "refs/tags/v1^{}"]);
        assert_eq!(v1.capabilities.value("symref"), Some(&b"HEAD:refs/heads/main"[..]));
        let push = receive_pack(Protocol::V2, &refs, &[], "treehold/0", true).unwrap();
        let push = Advertisement::parse(&push).unwrap();
        assert_eq!((push.version, push.refs.len(), push.capabilities.has("push-options")), (0, 1, true));
        let empty = Advertisement::parse(&receive_pack(Protocol::V0, &[], &[], "x", false).unwrap()).unwrap();
        assert_eq!((empty.refs.len(), empty.capabilities.has("atomic")), (0, true));
        let bad = AdvertisedRef { name: "refs/heads/a b".into(), ..refs[1].clone() };
        assert_eq!(upload_pack(Protocol::V0, &[bad], &[], "x"), Err(AnswerError::Name));
    }
}
