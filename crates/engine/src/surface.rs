//! TEMPORARY: signatures of the verbs, until each moves to its module.
#![allow(unused_variables, missing_docs, clippy::unimplemented)]
use crate::api::*;
use crate::remote::Secret;
use crate::{Engine, Result};
use bytes::Bytes;
use std::path::Path as FsPath;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

/// Progress of long work.
pub trait Progress: Send + Sync {
    fn step(&self, what: &str, done: u64, total: Option<u64>);
}
impl Progress for () {
    fn step(&self, _: &str, _: u64, _: Option<u64>) {}
}

impl Engine {
    // `project` is the text from the URL: UUID or unique name. Paths are raw bytes, decoded once by the caller.
    pub async fn create_project(&self, id: Option<Uuid>, spec: &ProjectSpec) -> Result<(ProjectView, bool)> {
        unimplemented!()
    } // true = created (201), false = same as before (200)
    pub async fn show_project(&self, project: &str) -> Result<ProjectView> {
        unimplemented!()
    }
    pub async fn list_projects(&self, cursor: Option<&str>, limit: Option<usize>) -> Result<ProjectPage> {
        unimplemented!()
    }
    pub async fn delete_project(&self, project: &str) -> Result<()> {
        unimplemented!()
    }

    pub async fn list_files(&self, project: &str, at: &At, options: &ListOptions) -> Result<FileList> {
        unimplemented!()
    }
    /// Finds without reading: for HEAD and If-None-Match.
    pub async fn find_file(&self, project: &str, path: &[u8], at: &At) -> Result<FileMeta> {
        unimplemented!()
    }
    pub async fn file_content(&self, project: &str, at: &At, meta: &FileMeta) -> Result<Bytes> {
        unimplemented!()
    }
    pub async fn commit_file(
        &self,
        project: &str,
        path: &[u8],
        change: FileCommit,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        unimplemented!()
    }
    pub async fn commit_actions(
        &self,
        project: &str,
        request: &ActionsRequest,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        unimplemented!()
    }
    pub async fn batch_read(&self, project: &str, request: &ReadRequest) -> Result<ReadAnswer> {
        unimplemented!()
    }

    pub async fn put_pending(&self, project: &str, user: Uuid, path: &[u8], put: PutPending) -> Result<PendingAnswer> {
        unimplemented!()
    }
    pub async fn list_pending(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<PendingList> {
        unimplemented!()
    }
    pub async fn pending_file(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        path: &[u8],
    ) -> Result<(PendingEntry, Bytes)> {
        unimplemented!()
    }
    pub async fn drop_pending(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        path: Option<&[u8]>,
    ) -> Result<DropAnswer> {
        unimplemented!()
    }

    pub async fn status(&self, project: &str, user: Uuid, branch: Option<&str>) -> Result<Status> {
        unimplemented!()
    }
    pub async fn diff(&self, project: &str, request: &DiffRequest) -> Result<Diff> {
        unimplemented!()
    } // Diff::to_unified() -> String gives git's unified text
    pub async fn commit(
        &self,
        project: &str,
        request: &CommitRequest,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        unimplemented!()
    }
    pub async fn sync(
        &self,
        project: &str,
        request: &SyncRequest,
        credentials: Option<Secret>,
        progress: &dyn Progress,
    ) -> Result<SyncAnswer> {
        unimplemented!()
    }
    pub async fn push(
        &self,
        project: &str,
        branch: Option<&str>,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<PushAnswer> {
        unimplemented!()
    }

    pub async fn log(
        &self,
        project: &str,
        reference: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<LogPage> {
        unimplemented!()
    }
    pub async fn refs(
        &self,
        project: &str,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<RefList> {
        unimplemented!()
    }
    pub async fn put_ref(&self, project: &str, name: &str, request: &RefRequest) -> Result<(RefView, bool)> {
        unimplemented!()
    } // true = created
    pub async fn delete_ref(&self, project: &str, name: &str, expected: Option<ObjectId>) -> Result<()> {
        unimplemented!()
    }
    pub async fn raw_object(&self, project: &str, kind: Kind, oid: ObjectId) -> Result<RawObject> {
        unimplemented!()
    } // 404 `not_found` alike for absent, foreign and wrong kind

    /// Written to a spool file that goes away when dropped; commit it was made from.
    pub async fn archive(
        &self,
        project: &str,
        at: &At,
        format: ArchiveFormat,
    ) -> Result<(tempfile::NamedTempFile, Option<ObjectId>)> {
        unimplemented!()
    }
    pub async fn bundle(&self, project: &str) -> Result<tempfile::NamedTempFile> {
        unimplemented!()
    }

    // Operators (CLI, control socket):
    pub async fn import(
        &self,
        source: &str,
        name: Option<&str>,
        branch: Option<&str>,
        depth: u32,
        progress: &dyn Progress,
    ) -> Result<ImportReport> {
        unimplemented!()
    } // depth 0 = all
    pub async fn export(
        &self,
        project: &str,
        dir: &FsPath,
        user: Option<Uuid>,
        progress: &dyn Progress,
    ) -> Result<ExportReport> {
        unimplemented!()
    }
    pub async fn stats(&self) -> Result<serde_json::Value> {
        unimplemented!()
    }
    /// Readiness: database and store answer.
    pub async fn ready(&self) -> Result<()> {
        unimplemented!()
    }
    /// One round of housekeeping: settles unfinished attempts with configured credentials, reaps dead operations, removes keys that were never live. Called at start and every 30 s.
    pub async fn housekeep(&self) -> Result<()> {
        unimplemented!()
    }
}
