//! A server elsewhere: whether it answers, and what is shown to it is accepted.

use super::Finding;
use crate::elsewhere::Elsewhere;

/// Nothing of this machine matters then.
pub(super) async fn examine(elsewhere: &Elsewhere) -> Vec<Finding> {
    let url = elsewhere.url();
    let ready = match elsewhere.treehold().ready().await {
        Ok(()) => Finding::ok("server", format!("one answers at {url}, and is ready")),
        Err(error) if error.status() == Some(503) => {
            let found = format!("one answers at {url}, and is not ready: {error}");
            Finding::fail("server", found, "run `treehold doctor` where it runs")
        }
        Err(error) => {
            return vec![Finding::fail("server", format!("{url}: {error}"), "check --server, and that it runs")];
        }
    };
    let known = match elsewhere.treehold().projects(Some(1)).page(None).await {
        Ok(_) => Finding::ok("credential", "it opens every project"),
        // A token is for one project, and a scoped key for a part of all: both were accepted.
        Err(error) if matches!(error.code(), Some("key_required" | "scope_missing")) => {
            Finding::ok("credential", "it opens a part of what is there")
        }
        Err(error) if error.status() == Some(401) => {
            Finding::fail("credential", "the server does not know it", elsewhere.advice())
        }
        Err(error) => Finding::fail("credential", error.to_string(), "look at the server's log"),
    };
    vec![ready, known]
}
