//! What an operator asks for. One value that runs here or, beside a running embedded server, in that server: the same
//! code either way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use treehold_engine::api::{
    Oid, ProjectChange, ProjectSpec, ProjectView, ReceiveSpec, RemoteSpec, Scopes, TokenSpec, TokenView,
};
use treehold_engine::{Engine, GcOptions, ManifestChoice, Progress, RebuildOptions, RepackOptions, VerifyOptions};
use uuid::Uuid;

use crate::backup;
use crate::failure::Failure;
use crate::open::Opened;

/// What a project may hold, as an operator says it: a number of bytes, or `default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Logical bytes; `None` = the server's default.
    pub bytes: Option<u64>,
}

impl std::str::FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { bytes: if text == "default" { None } else { Some(quota(text)?) } })
    }
}

/// A quota in bytes.
pub fn quota(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number: &u64| *number > 0);
    number.ok_or_else(|| {
        "a whole number of bytes from 1 on is expected; `treehold project set PROJECT --quota-bytes default` takes a project's own quota away"
            .to_owned()
    })
}

/// An operator's request. Its name is the last part of the control route, its fields are the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Makes a project.
    ProjectCreate {
        /// Unique name.
        name: Option<String>,
        /// The caller's id; made if not given.
        id: Option<Uuid>,
        /// Short branch name.
        default_branch: Option<String>,
        /// URL of the remote.
        remote: Option<String>,
        /// What pushes are refused.
        receive: Option<ReceiveSpec>,
        /// What it may hold, logical bytes.
        #[serde(default)]
        quota_bytes: Option<u64>,
    },
    /// Changes what pushes a project refuses, and what it may hold.
    ProjectSet {
        /// Id or name.
        project: String,
        /// What is not named stays as it is.
        receive: ReceiveSpec,
        /// What it may hold, logical bytes; `Some(None)`: the server's default.
        #[serde(default)]
        quota_bytes: Option<Quota>,
    },
    /// Lists projects in order of id, `limit` at most.
    ProjectList {
        /// All if not given.
        limit: Option<usize>,
        /// From the last list.
        cursor: Option<String>,
    },
    /// Shows a project.
    ProjectShow {
        /// Id or name.
        project: String,
    },
    /// Deletes a project: its refs and its pending work.
    ProjectDelete {
        /// Id or name.
        project: String,
    },
    /// Drops a project's local history.
    ProjectForgetHistory {
        /// Id or name.
        project: String,
        /// Only this user's.
        user: Option<Uuid>,
    },
    /// Makes a token.
    TokenCreate {
        /// Id or name of the one project that it opens.
        project: String,
        /// What its owner calls it.
        name: Option<String>,
        /// The one user whose pending work it opens.
        user: Option<Uuid>,
        /// What it allows.
        scopes: Scopes,
        /// How long, seconds; until it is revoked if not given.
        lifetime_s: Option<u64>,
    },
    /// Lists the tokens of a project, or all, in order of id.
    TokenList {
        /// Id or name.
        project: Option<String>,
    },
    /// Revokes a token.
    TokenRevoke {
        /// Its id.
        id: Uuid,
    },
    /// Fetches a repository into a project.
    Import {
        /// URL, or absolute path of a local repository.
        source: String,
        /// Name of the project that is made or found.
        project: Option<String>,
        /// Short branch name; what the source's HEAD names if not given.
        branch: Option<String>,
        /// Commits of history; 0 = all.
        depth: u32,
    },
    /// Writes a project out.
    Export {
        /// Id or name.
        project: String,
        /// Absolute path of the bare repository to make.
        dir: Option<PathBuf>,
        /// Absolute path of the bundle to make.
        bundle: Option<PathBuf>,
        /// Whose pending work is written as `refs/pending/USER`.
        user: Option<Uuid>,
    },
    /// Counts what there is.
    AdminStats {},
    /// Brings the database's schema up to date.
    AdminMigrate {},
    /// Collects garbage, or says what would be collected.
    AdminGc {
        /// Do it.
        apply: bool,
        /// How long objects stay after they were condemned and bytes after their key was emptied, seconds; what the set-up keeps them if
        /// not given.
        grace_s: Option<u64>,
        /// Only what this project reached once: id or name.
        project: Option<String>,
        /// Of that project: forget its reflog, and do not wait.
        now: bool,
        /// Also where more goes than the brake allows.
        force: bool,
    },
    /// Makes the ledger again from the bucket.
    AdminRebuild {
        /// Give up what the ledger has.
        force: bool,
        /// `auto`, `none`, `latest` or a commit.
        manifest: String,
    },
    /// Writes a manifest.
    AdminManifest {},
    /// Copies the embedded database and store.
    AdminBackup {
        /// Absolute path of the copy's directory.
        dir: PathBuf,
    },
    /// Fences off what was under way before the database was set back.
    AdminFence {},
    /// Coalesces small packs and drops dead weight.
    AdminRepack {
        /// Only say what would be done.
        dry_run: bool,
        /// How long the bytes of emptied keys stay, seconds; what the set-up keeps them if not given.
        grace_s: Option<u64>,
    },
    /// Compares what is on record with what is there.
    AdminVerify {
        /// Id or name of the one project to look at.
        project: Option<String>,
        /// Every byte of every object.
        full: bool,
        /// Add what is missing where another good copy is found.
        repair: bool,
        /// Begin anew.
        restart: bool,
        /// Bytes per second at most.
        rate: Option<u64>,
    },
}

impl Operation {
    /// Its name in the control route.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::ProjectCreate { .. } => "project-create",
            Self::ProjectList { .. } => "project-list",
            Self::ProjectShow { .. } => "project-show",
            Self::ProjectDelete { .. } => "project-delete",
            Self::ProjectSet { .. } => "project-set",
            Self::ProjectForgetHistory { .. } => "project-forget-history",
            Self::TokenCreate { .. } => "token-create",
            Self::TokenList { .. } => "token-list",
            Self::TokenRevoke { .. } => "token-revoke",
            Self::Import { .. } => "import",
            Self::Export { .. } => "export",
            Self::AdminStats {} => "admin-stats",
            Self::AdminMigrate {} => "admin-migrate",
            Self::AdminGc { .. } => "admin-gc",
            Self::AdminRebuild { .. } => "admin-rebuild",
            Self::AdminManifest {} => "admin-manifest",
            Self::AdminBackup { .. } => "admin-backup",
            Self::AdminFence {} => "admin-fence",
            Self::AdminRepack { .. } => "admin-repack",
            Self::AdminVerify { .. } => "admin-verify",
        }
    }

    /// Runs it on an engine. The answer is what `--json` prints.
    pub async fn run(&self, opened: &Opened, progress: &dyn Progress) -> Result<Value, Failure> {
        let engine = &opened.engine;
        match self {
            Self::ProjectCreate { name, id, default_branch, remote, receive, quota_bytes } => {
                let remote = remote.clone().map(|url| RemoteSpec { url });
                let (name, default_branch) = (name.clone(), default_branch.clone());
                let spec = ProjectSpec { name, default_branch, remote, receive: *receive, quota_bytes: *quota_bytes };
                create(engine, *id, &spec).await
            }
            Self::ProjectSet { project, receive, quota_bytes } => {
                let quota_bytes = quota_bytes.map(|quota| quota.bytes);
                let change = ProjectChange { receive: Some(*receive), quota_bytes };
                value(&engine.change_project(project, &change).await?)
            }
            Self::ProjectList { limit, cursor } => list(engine, *limit, cursor.clone()).await,
            Self::ProjectShow { project } => value(&engine.show_project(project).await?),
            Self::ProjectDelete { project } => {
                let view: ProjectView = engine.show_project(project).await?;
                engine.delete_project(project).await?;
                Ok(json!({"deleted": true, "id": view.id, "name": view.name}))
            }
            Self::ProjectForgetHistory { project, user } => value(&engine.forget_history(project, *user).await?),
            Self::TokenCreate { project, user, name, scopes, lifetime_s } => {
                let (name, lifetime) = (name.clone(), lifetime_s.map(Duration::from_secs));
                create_token(engine, project, &TokenSpec { name, user: *user, scopes: *scopes, lifetime }).await
            }
            Self::TokenList { project } => tokens(engine, project.as_deref()).await,
            Self::TokenRevoke { id } => {
                engine.revoke_token(*id).await?;
                Ok(json!({"revoked": true, "id": id}))
            }
            Self::Import { source, project, branch, depth } => {
                let report = engine.import(source, project.as_deref(), branch.as_deref(), *depth, progress).await?;
                value(&report)
            }
            Self::Export { project, dir, bundle, user } => {
                export(engine, project, dir.as_deref(), bundle.as_deref(), *user, progress).await
            }
            Self::AdminStats {} => Ok(engine.stats().await?),
            Self::AdminMigrate {} => {
                let report = opened.migrate().await?;
                Ok(json!({"applied": report.applied, "current": report.current}))
            }
            Self::AdminGc { apply, grace_s, project, now, force } => {
                let grace = grace_s.map(Duration::from_secs);
                let options = GcOptions { apply: *apply, grace, project: project.clone(), now: *now, force: *force };
                value(&engine.gc(&options, progress).await?)
            }
            Self::AdminRebuild { force, manifest } => {
                let options = RebuildOptions { force: *force, manifest: manifest_choice(manifest)? };
                opened.migrate().await?;
                value(&engine.rebuild(options, progress).await?)
            }
            Self::AdminManifest {} => match engine.write_manifest(progress).await? {
                Some(report) => value(&report),
                None => Err(Failure::failed("a manifest is being written already; repeat the command later")),
            },
            Self::AdminBackup { dir } => backup::backup(opened, dir, progress).await,
            Self::AdminFence {} => Ok(json!({"epoch": opened.fence().await?})),
            Self::AdminRepack { dry_run, grace_s } => {
                let grace = grace_s.map_or(engine.key_grace(), Duration::from_secs);
                value(&engine.repack(RepackOptions { dry_run: *dry_run, grace }, progress).await?)
            }
            Self::AdminVerify { project, full, repair, restart, rate } => {
                let (project, full, repair) = (project.clone(), *full, *repair);
                let options = VerifyOptions { project, full, repair, restart: *restart, rate: *rate };
                value(&engine.verify(&options, progress).await?)
            }
        }
    }
}

fn manifest_choice(text: &str) -> Result<ManifestChoice, Failure> {
    Ok(match text {
        "auto" => ManifestChoice::Auto,
        "none" => ManifestChoice::Nowhere,
        "latest" => ManifestChoice::Newest,
        commit => match commit.parse::<Oid>() {
            Ok(commit) => ManifestChoice::Commit(commit.0),
            Err(_) => {
                return Err(Failure::usage("--manifest takes `auto`, `none`, `latest` or a commit's 40 hex digits"));
            }
        },
    })
}

fn value(answer: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::failed("the answer cannot be written as JSON").because(error))
}

async fn create(engine: &Engine, id: Option<Uuid>, spec: &ProjectSpec) -> Result<Value, Failure> {
    let (view, created) = engine.create_project(id, spec).await?;
    let mut answer = value(&view)?;
    answer["created"] = json!(created);
    Ok(answer)
}

async fn create_token(engine: &Engine, project: &str, spec: &TokenSpec) -> Result<Value, Failure> {
    let made = engine.create_token(project, spec).await?;
    let mut answer = value(&made.token)?;
    answer["secret"] = json!(made.secret.expose());
    Ok(answer)
}

/// All pages, or as many as `limit` asks for.
async fn list(engine: &Engine, limit: Option<usize>, mut cursor: Option<String>) -> Result<Value, Failure> {
    let mut projects: Vec<ProjectView> = Vec::new();
    loop {
        let wanted = limit.map(|limit| limit.saturating_sub(projects.len()));
        if wanted == Some(0) {
            break;
        }
        let page = engine.list_projects(cursor.as_deref(), wanted).await?;
        projects.extend(page.projects);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(json!({"projects": value(&projects)?, "next_cursor": cursor}))
}

/// All pages.
async fn tokens(engine: &Engine, project: Option<&str>) -> Result<Value, Failure> {
    let mut tokens: Vec<TokenView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = engine.list_tokens(project, cursor.as_deref(), None).await?;
        tokens.extend(page.tokens);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(json!({"tokens": value(&tokens)?}));
        }
    }
}

async fn export(
    engine: &Engine,
    project: &str,
    dir: Option<&Path>,
    bundle: Option<&Path>,
    user: Option<Uuid>,
    progress: &dyn Progress,
) -> Result<Value, Failure> {
    let mut answer = json!({});
    // Both targets are looked at before either is written.
    if let Some(dir) = dir {
        check_empty(dir)?;
    }
    if let Some(file) = bundle {
        check_absent(file)?;
    }
    if bundle.is_some() {
        engine.check_bundle(project).await?;
    }
    if let Some(dir) = dir {
        answer = value(&engine.export(project, dir, user, progress).await?)?;
        answer["dir"] = json!(dir);
    }
    if let Some(file) = bundle {
        progress.step("writing the bundle", 0, None);
        let spooled = engine.bundle(project, None, user).await?;
        let target = file.to_owned();
        let size = tokio::task::spawn_blocking(move || keep_bundle(&spooled, &target))
            .await
            .map_err(|error| Failure::failed("the bundle could not be written").because(error))?;
        let size = size.map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
        answer["bundle"] = json!({"file": file, "bytes": size});
    }
    Ok(answer)
}

/// A bundle replaces nothing.
pub fn check_absent(file: &Path) -> Result<(), Failure> {
    match file.symlink_metadata() {
        Ok(_) => Err(Failure::failed(format!("{} exists already: remove it, or name another file", file.display()))),
        Err(_) => Ok(()),
    }
}

fn check_empty(dir: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                Err(Failure::failed(format!("{} is not empty: export into a new or an empty directory", dir.display())))
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot export into {}: {error}", dir.display()))),
    }
}

/// Copies the spooled bundle beside its target, then names it: whole or not at all, also across file systems.
fn keep_bundle(spooled: &tempfile::NamedTempFile, target: &Path) -> std::io::Result<u64> {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut copy = tempfile::NamedTempFile::new_in(dir)?;
    let mut source = std::fs::File::open(spooled.path())?;
    let size = std::io::copy(&mut source, copy.as_file_mut())?;
    copy.as_file().sync_all()?;
    copy.persist_noclobber(target).map_err(|error| error.error)?;
    crate::home::sync_dir(dir)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_the_name_in_json() {
        let project = || "p".to_owned();
        let all = [
            Operation::ProjectCreate {
                name: None,
                id: None,
                default_branch: None,
                remote: None,
                receive: None,
                quota_bytes: None,
            },
            Operation::ProjectSet { project: project(), receive: ReceiveSpec::default(), quota_bytes: None },
            Operation::TokenCreate {
                project: project(),
                user: Some(Uuid::nil()),
                name: None,
                scopes: Scopes::all(),
                lifetime_s: Some(1),
            },
            Operation::TokenList { project: None },
            Operation::TokenRevoke { id: Uuid::nil() },
            Operation::ProjectList { limit: Some(1), cursor: None },
            Operation::ProjectShow { project: project() },
            Operation::ProjectDelete { project: project() },
            Operation::ProjectForgetHistory { project: project(), user: Some(Uuid::nil()) },
            Operation::Import { source: "/x".into(), project: None, branch: None, depth: 1 },
            Operation::Export { project: project(), dir: Some("/x".into()), bundle: None, user: None },
            Operation::AdminStats {},
            Operation::AdminMigrate {},
            Operation::AdminVerify { project: None, full: true, repair: false, restart: false, rate: Some(1) },
        ];
        for operation in all {
            let text = serde_json::to_value(&operation).unwrap();
            assert_eq!(text["verb"], operation.verb());
            assert_eq!(serde_json::from_value::<Operation>(text).unwrap(), operation);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = json!({"verb": "project-show", "args": {"project": "p", "force": true}});
        assert!(serde_json::from_value::<Operation>(text).is_err());
    }
}
