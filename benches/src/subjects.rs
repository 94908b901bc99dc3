//! What is measured on: repositories that were given, or made.

use std::path::Path;

use anyhow::{Context as _, ensure};
use treehold_tests::git::Repo;

use crate::generate::{self, Text};
use crate::peers::git::{self, File};
use crate::plan::{Plan, Scenario};

/// A repository that everything is measured on.
pub struct Subject {
    /// For people.
    pub name: String,
    /// Bare, with the one branch `main`.
    pub repo: Repo,
    /// What stock git lists in it.
    pub files: Vec<File>,
    /// Those of them that are read and edited.
    pub plain: Vec<File>,
    /// Objects that its branch reaches.
    pub objects: usize,
}

/// Too few files to read a batch of.
const FILES_MIN: usize = 100;

impl Subject {
    /// A repository of somebody's, by path or URL; only the branch that its `HEAD` names.
    pub fn given(source: &str, to: &Path) -> anyhow::Result<Self> {
        eprintln!("taking {source}");
        let name = source.trim_end_matches('/').trim_end_matches(".git").rsplit('/').next().unwrap_or(source);
        Self::new(name, git::take(source, to)?)
    }

    /// One that is made.
    pub fn made(name: &str, files: usize, plan: &Plan, text: &Text, to: &Path) -> anyhow::Result<Self> {
        eprintln!("making a repository of {files} files and {} commits", plan.history + 1);
        let subject = Self::new(name, generate::repository(to, files, plan.history, plan.seed, text)?)?;
        ensure!(subject.files.len() == files, "{} files were made", subject.files.len());
        Ok(subject)
    }

    fn new(name: &str, repo: Repo) -> anyhow::Result<Self> {
        let (files, _) = git::list(&repo)?;
        let plain: Vec<File> = files.iter().filter(|file| file.is_plain()).cloned().collect();
        ensure!(plain.len() >= FILES_MIN, "{name} has {} files, {FILES_MIN} are needed", plain.len());
        let objects = repo.reachable().len();
        let name = format!("{name}: {} files, {objects} objects", files.len());
        Ok(Self { name, repo, files, plain, objects })
    }

    /// Where it lies.
    pub fn path(&self) -> anyhow::Result<&str> {
        self.repo.path().to_str().context("a UTF-8 path")
    }

    /// The commit of its branch.
    pub fn head(&self) -> String {
        self.repo.rev_parse("main")
    }
}

/// Repositories of single scenarios.
pub struct Extras {
    /// Of few and of many files, for [`Scenario::Scale`].
    pub scale: Option<[Repo; 2]>,
    /// `main` and its forks, for [`Scenario::Forks`].
    pub forks: Option<Repo>,
}

impl Extras {
    /// Makes what the plan needs.
    pub fn make(plan: &Plan, text: &Text, work: &Path) -> anyhow::Result<Self> {
        let mut extras = Self { scale: None, forks: None };
        if plan.has(Scenario::Scale) {
            let [few, many] = plan.scale;
            eprintln!("making repositories of {few} and {many} small files");
            let make = |files| generate::skeleton(&work.join(format!("scale-{files}.git")), files, plan.seed);
            extras.scale = Some([make(few)?, make(many)?]);
        }
        if plan.has(Scenario::Forks) {
            let [forks, files] = plan.forks;
            eprintln!("making {forks} forks of a repository of {files} files");
            let repo = generate::repository(&work.join("forks.git"), files, plan.history, plan.seed, text)?;
            generate::forks(&repo, forks, plan.seed, text)?;
            extras.forks = Some(repo);
        }
        Ok(extras)
    }
}
