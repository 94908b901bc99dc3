//! `treehold export` from a server elsewhere: a bundle comes over the API, a repository by git itself.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use treehold_client::FileReader;
use treehold_engine::Progress;

use super::Elsewhere;
use crate::failure::Failure;
use crate::{home, operation};

impl Elsewhere {
    /// Writes the bundle. A directory is refused, with git's command for it.
    pub(super) async fn export(
        &self,
        project: &str,
        dir: Option<&Path>,
        bundle: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Value, Failure> {
        if let Some(dir) = dir {
            let scheme = self.url().find("://").map_or(0, |at| at + 3);
            let (scheme, host) = self.url().split_at(scheme);
            return Err(Failure::usage(format!(
                "from a server elsewhere git itself makes a repository: git clone --mirror {scheme}git@{host}/git/{project}.git {} (the password is the key or a token); --bundle works as it is",
                dir.display()
            )));
        }
        let Some(file) = bundle else { return Ok(json!({})) };
        operation::check_absent(file)?;
        progress.step("making the bundle", 0, None);
        let read = self.treehold().project(project).bundle(None).await.map_err(|error| self.failed(error))?;
        let bytes = self.keep(read, file, progress).await?;
        Ok(json!({"bundle": {"file": file, "bytes": bytes}}))
    }

    /// Beside its target, then named: whole or not at all.
    async fn keep(&self, mut read: FileReader, target: &Path, progress: &dyn Progress) -> Result<u64, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", target.display()));
        let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let copy = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        let mut out = tokio::fs::File::from_std(copy.reopen().map_err(failed)?);
        let (total, mut done) = (read.head.len, 0);
        while let Some(chunk) = read.chunk().await.map_err(|error| self.failed(error))? {
            out.write_all(&chunk).await.map_err(failed)?;
            done += chunk.len() as u64;
            progress.step("receiving the bundle", done, total);
        }
        out.flush().await.map_err(failed)?;
        out.sync_all().await.map_err(failed)?;
        copy.persist_noclobber(target).map_err(|error| failed(error.error))?;
        home::sync_dir(dir).map_err(failed)?;
        Ok(done)
    }
}
