//! The other direction: a change made by stock git arrives under pending work, and everything leaves again as a
//! repository that stock git checks.

use serde_json::json;

use super::git::git;
use super::people::ADA;
use super::{PROJECT, Tour, call, check};
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::text;

/// Changed by stock git in the remote.
const CHANGED: &str = "docs/guide/configuration.md";
/// Changed by Ada, not committed.
const DRAFT: &str = "docs/guide/glossary.md";

impl Tour {
    /// Pull when asked; pending work stays as it is. The new head is returned.
    pub(super) async fn pull(&mut self) -> Result<String, Failure> {
        self.stage.chapter("Pull: a change made elsewhere arrives when it is asked for")?;
        let draft = format!("/pending/{PROJECT}/{ADA}/{DRAFT}");
        let save = call(self.api.put(&draft, None, "# glossary\n\nA draft that is not committed.\n"));
        self.stage.step("Ada has a draft", &format!("PUT /pending/{PROJECT}/ADA/{DRAFT}"), save).await?;
        let (work, remote) = (self.work.clone(), self.remote());
        let elsewhere = async {
            git(&work, &["clone".as_ref(), "--quiet".as_ref(), remote.as_os_str(), "clone".as_ref()]).await?;
            let clone = work.join("clone");
            let path = clone.join(CHANGED);
            let changed = std::fs::read_to_string(&path).map(|text| format!("{text}\nChanged by stock git.\n"));
            changed
                .and_then(|text| std::fs::write(&path, text))
                .map_err(|error| Failure::failed(format!("cannot change {}: {error}", path.display())))?;
            git(&clone, &["commit", "--quiet", "--all", "--message", "Change the configuration guide"]).await?;
            git(&clone, &["push", "--quiet", "origin", "main"]).await?;
            git(&clone, &["rev-parse", "HEAD"]).await.map(|oid| oid.trim().to_owned())
        };
        let head =
            self.stage.step("Lin changes a file with stock git", "git clone; git commit; git push", elsewhere).await?;
        let route = format!("/projects/{PROJECT}/sync");
        let body = json!({});
        let sync = call(self.api.post(&route, &body));
        let synced = self.stage.step("sync", &format!("POST {route}"), sync).await?;
        check(synced["to"].as_str() == Some(head.as_str()), "the sync did not bring the remote's commit")?;
        let changed = synced["changed"].as_array().map_or(0, Vec::len);
        self.stage.note(&format!("{changed} file changed, {} objects, head {head}", text(&synced, "objects")))?;
        self.check_views().await?;
        Ok(head)
    }

    async fn check_views(&mut self) -> Result<(), Failure> {
        let route = format!("/files/{PROJECT}/{CHANGED}");
        let read = async { self.api.get(&route).await?.ok() };
        let answer = self.stage.step("read what changed", &format!("GET {route}"), read).await?;
        check(answer.body.ends_with(b"Changed by stock git.\n"), "the change did not arrive")?;
        let route = format!("/files/{PROJECT}/{DRAFT}?user={ADA}");
        let read = async { self.api.get(&route).await?.ok() };
        let answer = self
            .stage
            .step("Ada's draft is as it was", &format!("GET /files/{PROJECT}/{DRAFT}?user=ADA"), read)
            .await?;
        check(answer.body.ends_with(b"not committed.\n"), "the sync touched pending work")
    }

    /// A bare repository with the pending work as a ref of its own, checked by stock git.
    pub(super) async fn export(&mut self, head: &str) -> Result<(), Failure> {
        self.stage.chapter("Leave: everything, uncommitted work too, as a git repository")?;
        let dir = self.work.join("export.git");
        let user = ADA.parse().map_err(|_| Failure::failed("the user's id is wrong"))?;
        let operation =
            Operation::Export { project: PROJECT.into(), dir: Some(dir.clone()), bundle: None, user: Some(user) };
        let opened = self.opened.clone();
        let export = operation.run(&opened, &());
        let report = self.stage.step("export it", "treehold export orchard DIR --user ADA", export).await?;
        self.stage.note(&format!(
            "{} refs, {} objects: {}",
            text(&report, "refs"),
            text(&report, "objects"),
            dir.display()
        ))?;
        let fsck = git(&dir, &["fsck", "--strict", "--full"]);
        self.stage.step("stock git finds nothing wrong", "git fsck --strict --full", fsck).await?;
        let tip = git(&dir, &["rev-parse", "refs/heads/main"]).await?;
        check(tip.trim() == head, "the export's main is not the project's head")?;
        let draft = git(&dir, &["show".to_owned(), format!("refs/pending/{ADA}:{DRAFT}")]).await?;
        check(draft.contains("not committed"), "the export lacks the pending work")?;
        self.stage
            .note(&format!("refs/heads/main is {}, refs/pending/… holds Ada's draft", &head[..head.len().min(12)]))
    }
}
