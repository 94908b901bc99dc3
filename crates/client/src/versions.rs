//! Local history and checkpoints of a user's pending work.

use reqwest::Method;
use serde::Serialize;
use uuid::Uuid;

use crate::error::Result;
use crate::files::FileReader;
use crate::streams::Pages;
use crate::transport::Request;
use crate::types::{
    CheckpointDetail, CheckpointEntry, CheckpointList, CheckpointRestored, Diff, OpResult, VersionList,
};
use crate::workspace::{Expected, Workspace};

impl Workspace {
    /// One version or checkpoint, which its user names with it.
    fn named(&self, method: Method, kind: &str, id: &str, rest: &str) -> Request {
        let route = self.project.route(kind).segment(id).then(rest);
        self.told(Request::new(method, route)).query("user", Some(self.user))
    }

    /// Every version that was saved lately, newest first; of `path` alone if it is given.
    pub fn history(&self, path: Option<&str>, limit: Option<usize>) -> Pages<VersionList> {
        Pages::new(&self.project.transport, self.listing("/history").query("path", path).query("limit", limit))
    }

    /// The bytes of a version.
    pub async fn version(&self, id: &str) -> Result<FileReader> {
        let request = self.named(Method::GET, "/history", id, "");
        Ok(FileReader::new(self.project.transport.send(&request).await?))
    }

    /// What differs between a version and `current`, `head` or another version; `current` if not given.
    pub async fn version_diff(&self, id: &str, against: Option<&str>) -> Result<Diff> {
        let request = self.named(Method::GET, "/history", id, "/diff").query("against", against);
        self.project.transport.json(&request.accept("application/json")).await
    }

    /// Makes a version pending again; `expected` as for a write.
    pub async fn restore_version(&self, id: &str, expected: Option<&Expected>) -> Result<OpResult> {
        let request = self.named(Method::POST, "/history", id, "/restore");
        self.project.transport.json(&Expected::condition(expected, request)).await
    }

    /// Newest first.
    pub fn checkpoints(&self, limit: Option<usize>) -> Pages<CheckpointList> {
        Pages::new(&self.project.transport, self.listing("/checkpoints").query("limit", limit))
    }

    /// Keeps all that is pending, under a name, with a message that says why.
    pub async fn create_checkpoint(&self, name: &str, message: &str) -> Result<CheckpointEntry> {
        #[derive(Serialize)]
        struct Asked<'a> {
            user: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
            name: &'a str,
            message: &'a str,
        }
        let asked = Asked { user: self.user, branch: self.branch.as_deref(), name, message };
        self.project.transport.json(&Request::post(self.project.route("/checkpoints")).json(&asked)).await
    }

    /// A checkpoint with its changes.
    pub async fn checkpoint(&self, id: Uuid) -> Result<CheckpointDetail> {
        self.project.transport.json(&self.named(Method::GET, "/checkpoints", &id.to_string(), "")).await
    }

    /// What differs between a checkpoint and what is pending.
    pub async fn checkpoint_diff(&self, id: Uuid) -> Result<Diff> {
        let request = self.named(Method::GET, "/checkpoints", &id.to_string(), "/diff");
        self.project.transport.json(&request.accept("application/json")).await
    }

    /// Makes pending again what the checkpoint has, and only that; the answer names the checkpoint that undoes it.
    pub async fn restore_checkpoint(&self, id: Uuid) -> Result<CheckpointRestored> {
        self.project.transport.json(&self.named(Method::POST, "/checkpoints", &id.to_string(), "/restore")).await
    }

    /// Forgets a checkpoint.
    pub async fn delete_checkpoint(&self, id: Uuid) -> Result<()> {
        let request = self.named(Method::DELETE, "/checkpoints", &id.to_string(), "").repeatable(false);
        self.project.transport.done(&request).await
    }
}
