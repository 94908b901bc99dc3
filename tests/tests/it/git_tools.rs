//! What the tests of git clients share: URLs with credentials, clones, and what two repositories have in common.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde_json::json;
use tempfile::TempDir;
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment};

/// The versions of git's protocol.
pub const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// The project as git clients name it, with the key as the password.
pub fn url(d: &Deployment, project: impl std::fmt::Display) -> String {
    url_with(d, project, API_KEY)
}

/// The same with another password.
pub fn url_with(d: &Deployment, project: impl std::fmt::Display, password: &str) -> String {
    d.url(&format!("/git/{project}.git")).replacen("http://", &format!("http://git:{password}@"), 1)
}

/// A repository in a directory of its own, which goes away with it.
pub struct Clone {
    repo: Repo,
    dir: TempDir,
    version: &'static str,
}

impl Deref for Clone {
    type Target = Repo;

    fn deref(&self) -> &Repo {
        &self.repo
    }
}

impl Clone {
    /// A new repository with a work tree, or without.
    pub fn empty(bare: bool) -> Clone {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("repo");
        let repo = if bare { Repo::init_bare(at) } else { Repo::init(at) };
        Clone { repo, dir, version: "2" }
    }

    /// `git clone` of `from` with these options.
    pub fn of(from: &str, version: &'static str, options: &[&str]) -> Clone {
        let dir = tempfile::tempdir().expect("a directory");
        let all = [&["clone", "--quiet"], options, &[from, "repo"]].concat();
        Git::at(dir.path()).config("protocol.version", version).run(all);
        Clone { repo: Repo::open(dir.path().join("repo")), dir, version }
    }

    /// `git clone` of a project.
    pub fn of_project(d: &Deployment, project: Uuid, version: &'static str, options: &[&str]) -> Clone {
        Clone::of(&url(d, project), version, options)
    }

    /// Git in this clone, with its version of the protocol.
    pub fn client(&self) -> Git {
        self.repo.git().clone().config("protocol.version", self.version)
    }

    /// Runs git, which must succeed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.client().run(arguments)
    }

    /// Runs git and returns what it told its user, and whether it succeeded.
    pub fn tell(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.client().output(arguments);
        let words = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&words).into_owned())
    }

    /// Runs git, which must fail and say this.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], says: &str) -> String {
        let (done, words) = self.tell(arguments);
        assert!(!done, "{arguments:?} succeeded: {words}");
        assert!(words.contains(says), "{arguments:?} does not say {says:?}: {words}");
        assert!(!words.contains(API_KEY), "the key is shown: {words}");
        words
    }

    /// A directory beside the repository.
    pub fn beside(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// Oids of all that the refs reach, as far as the repository's history goes.
#[track_caller]
pub fn reached(repo: &Repo) -> BTreeSet<String> {
    repo.reachable().into_iter().collect()
}

/// Oids of all that is stored.
pub fn stored(repo: &Repo) -> BTreeSet<String> {
    let listing = repo.git().run(["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    listing.lines().map(str::to_owned).collect()
}

/// Oids of what is reached and was left out by a filter.
pub fn left_out(repo: &Repo) -> BTreeSet<String> {
    let listing = repo.git().run(["rev-list", "--objects", "--no-object-names", "--all", "--missing=print"]);
    listing.lines().filter_map(|line| line.strip_prefix('?')).map(str::to_owned).collect()
}

/// Commits at the boundary of the history.
pub fn boundary(repo: &Repo) -> BTreeSet<String> {
    let dir = repo.git().run(["rev-parse", "--absolute-git-dir"]);
    let text = std::fs::read_to_string(std::path::Path::new(&dir).join("shallow")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A project that has all of `source`, pushed by stock git.
pub async fn pushed(d: &Deployment, source: &Repo) -> Uuid {
    let project = d.local_project().await;
    source.git().run(["push", "--quiet", "--mirror", &url(d, project)]);
    project
}

/// The refs of a project by the HTTP API.
pub async fn api_refs(d: &Deployment, project: Uuid) -> std::collections::BTreeMap<String, String> {
    let mut refs = std::collections::BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = d.get(&format!("/projects/{project}/refs?limit=1000{cursor}")).await.ok(200);
        for found in page["refs"].as_array().expect("refs") {
            let text = |name: &str| found[name].as_str().expect("text").to_owned();
            refs.insert(text("name"), text("oid"));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return refs,
        }
    }
}

/// Files, history and refs of a project by the HTTP API are those of `repo`, as is what a new clone gets.
pub async fn same_as(d: &Deployment, project: Uuid, repo: &Repo) {
    assert_eq!(api_refs(d, project).await, repo.refs());
    let list = d.get(&format!("/files/{project}?limit=1000")).await.ok(200);
    let files = list["files"].as_array().expect("files");
    let listed: BTreeSet<(Vec<u8>, String, String)> = files
        .iter()
        .map(|file| {
            let text = |name: &str| file[name].as_str().expect("text").to_owned();
            (text("path").into_bytes(), text("mode"), text("oid"))
        })
        .collect();
    let lines = repo.ls_tree("refs/heads/main").into_iter().filter(|line| std::str::from_utf8(&line.path).is_ok());
    let expected: BTreeSet<_> = lines.map(|line| (line.path, line.mode, line.oid)).collect();
    assert_eq!(listed, expected);
    let log = d.get(&format!("/projects/{project}/log?limit=20")).await.ok(200);
    let commits = log["commits"].as_array().expect("commits").iter().map(|commit| commit["commit"].clone());
    let newest = repo.git().run(["log", "--date-order", "--format=%H", "-20", "refs/heads/main"]);
    assert_eq!(commits.collect::<Vec<_>>(), newest.lines().map(|oid| json!(oid)).collect::<Vec<_>>());
    let clone = Clone::of_project(d, project, "2", &["--mirror"]);
    assert_eq!(clone.refs(), repo.refs());
    assert_eq!(reached(&clone), reached(repo));
    clone.fsck_strict();
}
