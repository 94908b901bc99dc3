//! Signed commits, with an Ed25519 key of OpenSSH, as `git commit -S` makes them with `gpg.format=ssh`.
//!
//! The key's format is that of OpenSSH's PROTOCOL.key, the signature's that of its PROTOCOL.sshsig with the namespace `git`. Ed25519 needs
//! no randomness: the same commit has the same signature and so the same id, however often it is made.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use treehold_object::commit::{CommitSpec, signed};
use treehold_object::ident::Signature;

use crate::remote::Secret;
use crate::{Engine, EngineError, Result};

const KIND: &[u8] = b"ssh-ed25519";
const NAMESPACE: &[u8] = b"git";
const HASH: &[u8] = b"sha512";
/// Characters on a line of an armoured signature.
const LINE_LEN: usize = 70;

/// Why a key cannot be used. No text holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// Not an OpenSSH private key.
    #[error("it is no private key of OpenSSH (-----BEGIN OPENSSH PRIVATE KEY-----)")]
    Format,
    /// Encrypted.
    #[error("it has a passphrase; make one without, readable by this server alone")]
    Passphrase,
    /// Another algorithm.
    #[error("it is no Ed25519 key; make one with `ssh-keygen -t ed25519`")]
    Algorithm,
}

/// Signs commits with one key.
pub struct CommitSigner {
    key: Ed25519KeyPair,
    committer: Option<(String, String)>,
}

impl std::fmt::Debug for CommitSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommitSigner(…)")
    }
}

/// A reader of strings with their lengths before them (RFC 4251 section 5).
struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).ok()?)
    }
}

fn put(out: &mut Vec<u8>, strings: &[&[u8]]) {
    for string in strings {
        // None of them is longer than a few hundred bytes.
        out.extend_from_slice(&(string.len() as u32).to_be_bytes());
        out.extend_from_slice(string);
    }
}

/// The key inside of an armoured file.
fn parse(armoured: &str) -> std::result::Result<Ed25519KeyPair, SigningKeyError> {
    let body = armoured.trim().strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----");
    let body = body.and_then(|body| body.strip_suffix("-----END OPENSSH PRIVATE KEY-----"));
    let lines = zeroize::Zeroizing::new(body.ok_or(SigningKeyError::Format)?.split_whitespace().collect::<String>());
    let bytes = zeroize::Zeroizing::new(BASE64.decode(lines.as_bytes()).map_err(|_| SigningKeyError::Format)?);
    let mut file = Strings(bytes.strip_prefix(b"openssh-key-v1\0").ok_or(SigningKeyError::Format)?);
    let cipher = file.string().ok_or(SigningKeyError::Format)?;
    if cipher != b"none" {
        return Err(SigningKeyError::Passphrase);
    }
    let mut rest = || {
        let (_kdf, _options, keys, _public) = (file.string()?, file.string()?, file.number()?, file.string()?);
        file.string().filter(|_| keys == 1)
    };
    let mut private = Strings(rest().ok_or(SigningKeyError::Format)?);
    let same = private.number().zip(private.number()).is_some_and(|(one, other)| one == other);
    let kind = private.string().filter(|_| same).ok_or(SigningKeyError::Format)?;
    if kind != KIND {
        return Err(SigningKeyError::Algorithm);
    }
    let pair = private.string().zip(private.string()).ok_or(SigningKeyError::Format)?;
    let (public, (seed, _)) = (pair.0, pair.1.split_at_checked(32).ok_or(SigningKeyError::Format)?);
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SigningKeyError::Format)
}

impl CommitSigner {
    /// Takes a key as `ssh-keygen -t ed25519` writes it. `committer`: whose commits are signed, if not their author's, since hosts
    /// show a signature as verified only if the key belongs to the committer.
    pub fn new(armoured: &Secret, committer: Option<(String, String)>) -> std::result::Result<Self, SigningKeyError> {
        Ok(Self { key: parse(armoured.expose())?, committer })
    }

    /// The public key as `authorized_keys` and `allowed_signers` have it.
    pub fn public_key(&self) -> String {
        format!("ssh-ed25519 {}", BASE64.encode(self.public()))
    }

    fn public(&self) -> Vec<u8> {
        let mut public = Vec::new();
        put(&mut public, &[KIND, self.key.public_key().as_ref()]);
        public
    }

    /// The armoured signature of a message.
    fn sign(&self, message: &[u8]) -> String {
        let hash = digest::digest(&digest::SHA512, message);
        let mut preimage = b"SSHSIG".to_vec();
        put(&mut preimage, &[NAMESPACE, b"", HASH, hash.as_ref()]);
        let mut signature = Vec::new();
        put(&mut signature, &[KIND, self.key.sign(&preimage).as_ref()]);
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        put(&mut blob, &[&self.public(), NAMESPACE, b"", HASH, &signature]);
        let text = BASE64.encode(blob);
        let mut armoured = String::from("-----BEGIN SSH SIGNATURE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE_LEN));
            armoured.push_str(line);
            armoured.push('\n');
            rest = after;
        }
        armoured + "-----END SSH SIGNATURE-----"
    }
}

impl Engine {
    /// The same engine, which signs the commits that it makes.
    #[must_use]
    pub fn with_signer(&self, signer: std::sync::Arc<CommitSigner>) -> Self {
        Self { signer: Some(signer), ..self.clone() }
    }

    /// The content of a commit of ours.
    pub(crate) fn encode_commit(&self, mut spec: CommitSpec) -> Result<Vec<u8>> {
        let bad = |error: &dyn std::fmt::Display| EngineError::unprocessable("bad_message", error.to_string());
        let Some(signer) = &self.signer else { return spec.encode().map_err(|error| bad(&error)) };
        if let Some((name, email)) = &signer.committer {
            let Signature { time_s, offset_minutes, .. } = spec.committer;
            spec.committer = Signature::new(name, email, time_s, offset_minutes).map_err(EngineError::internal)?;
        }
        let content = spec.encode().map_err(|error| bad(&error))?;
        Ok(signed(&content, &signer.sign(&content)))
    }
}
