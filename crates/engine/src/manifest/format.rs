//! How a manifest is laid out.
//!
//! ```text
//! projects/<last two digits of the id>/<id>/project.json        the project, its refs, its tokens' hashes
//!                                          /workspaces/<h>.json one user's pending changes on one branch; <h> is made of both
//!                                          /contents/<ab>/<oid> what they name: ordinary blobs, so that they stay
//! ```

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use treehold_catalog::{
    Action, Origin, PendingRow, Project, ProjectSnapshot, ReceivePolicy, Ref, Scope, Scopes, Token, WorkspaceSnapshot,
};
use treehold_object::BString;
use uuid::Uuid;

use crate::api::Oid;

/// `project.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    id: Uuid,
    name: Option<String>,
    default_branch: String,
    remote_url: Option<String>,
    deny_non_fast_forwards: bool,
    deny_deletes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    created_at_ms: i64,
    refs: Vec<(String, Oid)>,
    remote_refs: Vec<(String, Oid)>,
    shallow: Vec<Oid>,
    tokens: Vec<TokenRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRecord {
    id: Uuid,
    name: Option<String>,
    /// SHA-256 of the secret, base64.
    hash: String,
    /// Of a manifest from before scopes: whether git may push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<bool>,
    #[serde(default)]
    scopes: Option<Scopes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    created_at_ms: i64,
    expires_at_ms: Option<i64>,
}

/// `workspaces/….json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceFile {
    branch: String,
    user: Uuid,
    revision: i64,
    changes: Vec<Change>,
}

/// A pending change. `path_b64` where the path is not UTF-8.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    action: Act,
    mode: u32,
    oid: Option<Oid>,
    size: u64,
    base_oid: Option<Oid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_mode: Option<u32>,
    revision: i64,
    updated_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Modified,
    Created,
    Deleted,
}

impl ProjectFile {
    pub fn of(snapshot: &ProjectSnapshot) -> Self {
        let Project { id, ref name, ref default_branch, ref remote_url, receive, quota_bytes, created_at_ms, .. } =
            snapshot.project;
        let named = |refs: &[Ref]| refs.iter().map(|named| (named.name.clone(), Oid(named.oid))).collect();
        let token = |(token, hash): &(Token, [u8; 32])| TokenRecord {
            id: token.id,
            name: token.name.clone(),
            hash: BASE64_STANDARD.encode(hash),
            write: None,
            scopes: Some(token.scopes),
            user: token.user,
            created_at_ms: token.created_at_ms,
            expires_at_ms: token.expires_at_ms,
        };
        Self {
            id,
            name: name.clone(),
            default_branch: default_branch.clone(),
            remote_url: remote_url.clone(),
            deny_non_fast_forwards: receive.deny_non_fast_forwards,
            deny_deletes: receive.deny_deletes,
            quota_bytes,
            created_at_ms,
            refs: named(&snapshot.refs),
            remote_refs: named(&snapshot.remote_refs),
            shallow: snapshot.shallow.iter().copied().map(Oid).collect(),
            tokens: snapshot.tokens.iter().map(token).collect(),
        }
    }

    /// The project, without pending work. An error says what is wrong.
    pub fn snapshot(self) -> Result<ProjectSnapshot, String> {
        let id = self.id;
        let named = |refs: Vec<(String, Oid)>| {
            refs.into_iter().map(|(name, oid)| Ref { name, oid: oid.0, ephemeral: None }).collect()
        };
        let token = |record: TokenRecord| {
            let hash = BASE64_STANDARD.decode(&record.hash).ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok());
            let hash = hash.ok_or_else(|| format!("the hash of token {} is none", record.id))?;
            let TokenRecord { id: token, name, write, user, created_at_ms, expires_at_ms, .. } = record;
            let of_git = || if write == Some(true) { Scope::GitWrite } else { Scope::GitRead };
            let scopes = record.scopes.unwrap_or_else(|| [of_git()].into_iter().collect());
            Ok((Token { id: token, project: id, user, name, scopes, created_at_ms, expires_at_ms }, hash))
        };
        let receive =
            ReceivePolicy { deny_non_fast_forwards: self.deny_non_fast_forwards, deny_deletes: self.deny_deletes };
        Ok(ProjectSnapshot {
            project: Project {
                id,
                name: self.name,
                default_branch: self.default_branch,
                remote_url: self.remote_url,
                receive,
                quota_bytes: self.quota_bytes,
                // What comes back is counted at the end.
                bytes: 0,
                created_at_ms: self.created_at_ms,
            },
            refs: named(self.refs),
            remote_refs: named(self.remote_refs),
            shallow: self.shallow.into_iter().map(|oid| oid.0).collect(),
            tokens: self.tokens.into_iter().map(token).collect::<Result<_, String>>()?,
            workspaces: Vec::new(),
        })
    }
}

impl WorkspaceFile {
    pub fn of(workspace: &WorkspaceSnapshot) -> Self {
        let change = |row: &PendingRow| {
            let text = std::str::from_utf8(&row.path).ok();
            Change {
                path: text.map(str::to_owned),
                path_b64: text.is_none().then(|| BASE64_STANDARD.encode(&row.path)),
                action: match row.action {
                    Action::Modified => Act::Modified,
                    Action::Created => Act::Created,
                    Action::Deleted => Act::Deleted,
                },
                mode: row.mode,
                oid: row.oid.map(Oid),
                size: row.size,
                base_oid: row.base_oid.map(Oid),
                base_mode: row.base_mode,
                revision: row.revision,
                updated_at_ms: row.updated_at_ms,
                device: row.origin.device.clone(),
                actor: row.origin.actor.clone(),
                session: row.origin.session.clone(),
            }
        };
        let WorkspaceSnapshot { branch, user, revision, rows } = workspace;
        Self { branch: branch.clone(), user: *user, revision: *revision, changes: rows.iter().map(change).collect() }
    }

    /// An error says what is wrong.
    pub fn snapshot(self) -> Result<WorkspaceSnapshot, String> {
        let row = |change: Change| {
            let path = match (change.path, change.path_b64) {
                (Some(path), None) => BString::from(path),
                (None, Some(path)) => BASE64_STANDARD.decode(path).map_err(|error| error.to_string())?.into(),
                _ => return Err("a change needs one path".to_owned()),
            };
            Ok(PendingRow {
                path,
                action: match change.action {
                    Act::Modified => Action::Modified,
                    Act::Created => Action::Created,
                    Act::Deleted => Action::Deleted,
                },
                mode: change.mode,
                oid: change.oid.map(|oid| oid.0),
                size: change.size,
                base_oid: change.base_oid.map(|oid| oid.0),
                base_mode: change.base_mode,
                revision: change.revision,
                updated_at_ms: change.updated_at_ms,
                origin: Origin { device: change.device, actor: change.actor, session: change.session },
            })
        };
        let Self { branch, user, revision, changes } = self;
        let rows = changes.into_iter().map(row).collect::<Result<_, String>>()?;
        Ok(WorkspaceSnapshot { branch, user, revision, rows })
    }
}

#[cfg(test)]
mod tests {
    use treehold_object::{Kind, hash};

    use super::*;

    #[test]
    fn everything_comes_back() {
        let oid = hash(Kind::Blob, b"x").unwrap();
        let row = |path: &[u8], action, oid| PendingRow {
            path: path.into(),
            action,
            mode: 0o100644,
            oid,
            size: 1,
            base_oid: Some(hash(Kind::Blob, b"y").unwrap()),
            base_mode: oid.map(|_| 0o100755),
            revision: 3,
            updated_at_ms: 4,
            origin: Origin {
                device: oid.map(|_| "laptop".to_owned()),
                actor: Some("agent:a".to_owned()),
                session: None,
            },
        };
        let id = Uuid::from_u128(7);
        let token = Token {
            id: Uuid::from_u128(8),
            project: id,
            name: Some("ci".to_owned()),
            user: Some(Uuid::from_u128(12)),
            scopes: Scopes::all(),
            created_at_ms: 5,
            expires_at_ms: None,
        };
        let snapshot = ProjectSnapshot {
            project: Project {
                id,
                name: None,
                default_branch: "main".to_owned(),
                remote_url: Some("https://example.org/r".to_owned()),
                receive: ReceivePolicy { deny_non_fast_forwards: true, deny_deletes: false },
                quota_bytes: Some(6),
                bytes: 0,
                created_at_ms: 1,
            },
            refs: vec![Ref { name: "refs/heads/main".to_owned(), oid, ephemeral: None }],
            remote_refs: vec![Ref { name: "refs/heads/x".to_owned(), oid, ephemeral: None }],
            shallow: vec![oid],
            tokens: vec![(token, [9; 32])],
            workspaces: vec![WorkspaceSnapshot {
                branch: "main".to_owned(),
                user: Uuid::from_u128(10),
                revision: 11,
                rows: vec![
                    row("ä".as_bytes(), Action::Created, Some(oid)),
                    row(b"\xff", Action::Modified, Some(oid)),
                    row(b"z", Action::Deleted, None),
                ],
            }],
        };
        let text = serde_json::to_string(&ProjectFile::of(&snapshot)).unwrap();
        let mut back = serde_json::from_str::<ProjectFile>(&text).unwrap().snapshot().unwrap();
        let text = serde_json::to_string(&WorkspaceFile::of(&snapshot.workspaces[0])).unwrap();
        back.workspaces = vec![serde_json::from_str::<WorkspaceFile>(&text).unwrap().snapshot().unwrap()];
        assert_eq!(back, snapshot);
    }

    /// Goal: tokens of manifests from before scopes open git, and nothing else.
    #[test]
    fn tokens_of_before_are_for_git() {
        for (write, scopes) in [(true, "git:write,git:read"), (false, "git:read")] {
            let hash = BASE64_STANDARD.encode([9; 32]);
            let project = serde_json::json!({
                "id": Uuid::from_u128(1), "name": null, "default_branch": "main", "remote_url": null,
                "deny_non_fast_forwards": false, "deny_deletes": false, "created_at_ms": 1, "refs": [], "remote_refs": [],
                "shallow": [],
                "tokens": [{"id": Uuid::from_u128(2), "name": null, "hash": hash, "write": write, "created_at_ms": 3,
                    "expires_at_ms": null}],
            });
            let snapshot = serde_json::from_value::<ProjectFile>(project).unwrap().snapshot().unwrap();
            assert_eq!(snapshot.tokens[0].0.scopes, scopes.parse().unwrap());
            assert_eq!(snapshot.tokens[0].0.user, None);
        }
    }
}
