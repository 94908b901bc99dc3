//! The main job end to end, on a fresh embedded server and a git remote that stock git makes and checks.

mod api;
mod content;
mod git;
mod people;
mod round_trip;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use treehold_engine::Secret;

use crate::failure::Failure;
use crate::open::Opened;
use crate::operation::Operation;
use crate::output::{grouped, text};
use crate::progress::Bar;
use api::Api;
use git::{git, git_with};
pub use stage::Stage;

/// The project's name.
pub const PROJECT: &str = "orchard";
/// Files of the batch read.
const BATCH: usize = 100;

/// What the steps work on.
#[derive(Debug)]
pub struct Tour {
    stage: Stage,
    api: Api,
    opened: Arc<Opened>,
    /// Where the remote, the clone and the export lie.
    work: PathBuf,
}

/// What the tour found, for the summary.
#[derive(Debug)]
pub struct Found {
    /// The steps with their times.
    pub stage: Stage,
    /// Files of the repository.
    pub files: u64,
    /// How often the remote received a push from us.
    pub pushes: usize,
    /// Commit of the remote and of the store at the end.
    pub head: String,
}

impl Tour {
    /// Over the server at `address`, whose engine is `opened`. `work` is an empty directory.
    pub fn new(stage: Stage, address: std::net::SocketAddr, key: Secret, opened: Arc<Opened>, work: PathBuf) -> Self {
        Self { stage, api: Api::new(address, key), opened, work }
    }

    /// All of it.
    pub async fn run(mut self) -> Result<Found, Failure> {
        self.make_remote().await?;
        let files = self.connect().await?;
        self.read().await?;
        self.edit().await?;
        let pushes = self.commit_and_push().await?;
        let head = self.pull().await?;
        self.export(&head).await?;
        Ok(Found { stage: self.stage, files, pushes, head })
    }

    fn remote(&self) -> PathBuf {
        self.work.join("remote.git")
    }

    /// A bare repository with real content, made by stock git alone. A hook of it counts the pushes.
    async fn make_remote(&mut self) -> Result<(), Failure> {
        self.stage.chapter("A git remote, made by stock git")?;
        let (work, remote) = (self.work.clone(), self.remote());
        let stream = content::fast_import("main");
        let make = async {
            git(&work, &["init", "--quiet", "--bare", "remote.git"]).await?;
            git_with(&remote, &["fast-import", "--quiet", "--done"], &stream).await?;
            write_hook(&remote.join("hooks/post-receive"))
        };
        self.stage.step("a bare repository with files and history", "git init --bare; git fast-import", make).await?;
        let (files, commits) = (content::paths().len(), content::commits());
        self.stage.note(&format!("{files} files, {commits} commits: {}", remote.display()))
    }

    /// Select a repository: objects in the bucket, rows in the database.
    async fn connect(&mut self) -> Result<u64, Failure> {
        self.stage.chapter("Connect: the repository becomes a project, without a clone")?;
        let source = self.remote().to_str().map(str::to_owned);
        let source = source.ok_or_else(|| Failure::usage("the directory's name must be UTF-8"))?;
        let operation = Operation::Import { source, project: Some(PROJECT.into()), branch: None, depth: 0 };
        let bar = Bar::new();
        let opened = self.opened.clone();
        let import = async {
            let report = operation.run(&opened, &bar).await;
            bar.finish();
            report
        };
        let report = self.stage.step("import it", "treehold import PATH --full", import).await?;
        let (objects, head) = (text(&report, "objects"), text(&report, "head"));
        self.stage.note(&format!("{} files, {objects} objects, head {head}", text(&report, "files")))?;
        report["files"].as_u64().ok_or_else(|| Failure::failed("the import did not count its files"))
    }

    /// One call reads many files.
    async fn read(&mut self) -> Result<(), Failure> {
        self.stage.chapter("Read: one call, many files, one snapshot")?;
        let route = format!("/files/{PROJECT}");
        let list = self.stage.step("list the files", &format!("GET {route}"), call(self.api.get(&route))).await?;
        let listed = list["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stride = (listed.len() / BATCH).max(1);
        let paths: Vec<&Value> = listed.iter().step_by(stride).take(BATCH).map(|file| &file["path"]).collect();
        let body = json!({ "paths": paths });
        let route = format!("/projects/{PROJECT}/read");
        for what in ["read 100 files, the first time", "read them again"] {
            let shown = format!("POST {route}");
            let answer = self.stage.step(what, &shown, call(self.api.post(&route, &body))).await?;
            let files = answer["files"].as_array().map(Vec::as_slice).unwrap_or_default();
            let whole = files.iter().filter(|file| file["content"].is_string() && file["truncated"] != true);
            let bytes: u64 = files.iter().filter_map(|file| file["size"].as_u64()).sum();
            check(whole.count() == BATCH, "the batch read did not bring 100 whole files")?;
            self.stage.note(&format!("{BATCH} files, {} bytes, commit {}", grouped(bytes), text(&answer, "commit")))?;
        }
        Ok(())
    }
}

/// The JSON of a call that must succeed.
async fn call(answer: impl Future<Output = Result<api::Answer, Failure>>) -> Result<Value, Failure> {
    answer.await?.ok()?.json()
}

fn check(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::failed(otherwise)) }
}

/// Every push that the remote received, one line each.
fn write_hook(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let script = "#!/bin/sh\necho push >>pushes.log\n";
    let dir = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    dir.and_then(|()| std::fs::write(path, script))
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}
