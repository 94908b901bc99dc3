//! Taking everything out: a bare repository, or a bundle, that stock git reads. The project's reach says which objects that is, so
//! that nothing is walked but for one ref alone.

use std::io::Write;
use std::path::{Path as FsPath, PathBuf};

use tempfile::NamedTempFile;
use treehold_catalog::{Project, Ref, RoaringTreemap};
use treehold_object::ObjectId;
use treehold_object::pack::Written;
use uuid::Uuid;

use crate::api::ExportReport;
use crate::archive::spool_failed;
use crate::commit::Planned;
use crate::outgoing::{Contents, Form};
use crate::progress::Progress;
use crate::refs::TRIES;
use crate::view::{branch_needed, branch_ref, is_oid, ref_not_found};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// What is taken out, as it was at one time.
struct Standing {
    refs: Vec<Ref>,
    /// Where history ends.
    shallow: Vec<ObjectId>,
    pending: Option<Planned>,
    /// Objects that refs and pending work rest on.
    numbers: RoaringTreemap,
}

impl Engine {
    /// Whether the project can be bundled: a shallow one has no complete history, an empty one nothing at all.
    pub async fn check_bundle(&self, project: &str) -> Result<()> {
        let project = self.find_project(project).await?;
        self.check_complete(&project).await
    }

    async fn check_complete(&self, project: &Project) -> Result<()> {
        if !self.catalog.shallow(project.id).await?.is_empty() {
            return Err(EngineError::unprocessable(
                "shallow_history",
                "The project's history is cut off, and a bundle needs all of it: export a directory, or import the repository again with all of its history.",
            ));
        }
        let refs = self.catalog.references(project.id, "refs/").await?;
        if refs.is_empty() {
            return Err(EngineError::unprocessable("empty_project", "The project has no commit to bundle yet."));
        }
        Ok(())
    }

    /// Refs, and what they lead to: what is read first is within what is read last, as long as nothing is taken away between.
    async fn standing(&self, project: &Project, only: Option<&str>, user: Option<Uuid>) -> Result<Standing> {
        for _ in 0..TRIES {
            let seen = self.catalog.ref_state(project.id).await?;
            let mut refs = self.catalog.references(project.id, "refs/").await?;
            if let Some(name) = only {
                refs = vec![self.only_ref(project, refs, name, user).await?];
            }
            let branch = only.and_then(|_| refs.first()?.name.strip_prefix("refs/heads/"));
            let pending = match user {
                Some(user) => self.pending_commit(project, branch.unwrap_or(&project.default_branch), user).await?,
                None => None,
            };
            let shallow = self.catalog.shallow(project.id).await?;
            let numbers = match only {
                Some(_) => {
                    let parent = pending.as_ref().and_then(|planned| planned.attempt.base);
                    self.closure(project, refs.iter().map(|found| found.oid).chain(parent).collect()).await?
                }
                None => self.catalog.reach(project.id).await?,
            };
            if self.catalog.ref_state(project.id).await?.shrinks == seen.shrinks {
                return Ok(Standing { refs, shallow, pending, numbers });
            }
        }
        Err(EngineError::Busy)
    }

    /// The ref that `name` stands for: with a user, a branch.
    async fn only_ref(&self, project: &Project, refs: Vec<Ref>, name: &str, user: Option<Uuid>) -> Result<Ref> {
        let Some(found) = named(refs, name) else {
            if !is_oid(name) {
                return Err(ref_not_found(name));
            }
            self.resolve(project, Some(name)).await?;
            return Err(match user {
                Some(_) => branch_needed(),
                None => EngineError::unprocessable(
                    "not_a_ref",
                    "A bundle brings refs, which have names: name a branch or a tag, or make one at this commit first.",
                ),
            });
        };
        match user.is_none() || found.name.starts_with("refs/heads/") {
            true => Ok(found),
            false => Err(branch_needed()),
        }
    }

    /// Writes a git bundle into a spool file, with all refs or with the one that `reference` names (branch, tag or full name); with
    /// `user`, that user's pending work on that branch (the default one, if none is named) as a commit under `refs/pending/`.
    pub async fn bundle(&self, project: &str, reference: Option<&str>, user: Option<Uuid>) -> Result<NamedTempFile> {
        let project = self.find_project(project).await?;
        self.check_complete(&project).await?;
        let Standing { refs, pending, numbers, .. } = self.standing(&project, reference, user).await?;
        let (spool, mut out, verdict) = self.spool_file("the bundle", u64::MAX)?;
        let mut head = String::from("# v2 git bundle\n");
        if let Some(default) = refs.iter().find(|found| found.name == branch_ref(&project.default_branch)) {
            head.push_str(&format!("{} HEAD\n", default.oid));
        }
        for found in &refs {
            head.push_str(&format!("{} {}\n", found.oid, found.name));
        }
        if let Some((planned, user)) = pending.as_ref().zip(user) {
            head.push_str(&format!("{} refs/pending/{user}\n", planned.attempt.commit));
        }
        head.push('\n');
        let begun = out.write_all(head.as_bytes()).map_err(spool_failed);
        verdict.on(begun)?;
        verdict.on(self.write_all(&project, numbers, pending.as_ref(), out, &()).await)?;
        Ok(spool)
    }

    /// Writes a bare repository into `dir`, which must be absent or empty; with `user`, that user's pending work on the default
    /// branch as a commit under `refs/pending/`.
    pub async fn export(
        &self,
        project: &str,
        dir: &FsPath,
        user: Option<Uuid>,
        progress: &dyn Progress,
    ) -> Result<ExportReport> {
        let project = self.find_project(project).await?;
        let Standing { refs, shallow, pending, numbers } = self.standing(&project, None, user).await?;
        let failed = |error: std::io::Error| {
            EngineError::unprocessable("export_failed", format!("Cannot write to {}: {error}.", dir.display()))
        };
        let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            let detail = format!("{} is not empty; name a new directory.", dir.display());
            return Err(EngineError::unprocessable("export_failed", detail));
        }
        let made = Made::begin(dir).map_err(failed)?;
        let packs = dir.join("objects/pack");
        std::fs::create_dir(&packs).map_err(failed)?;
        let file = NamedTempFile::new_in(&packs).map_err(failed)?;
        let out = std::io::BufWriter::new(file.reopen().map_err(failed)?);
        let written = self.write_all(&project, numbers, pending.as_ref(), out, progress).await?;
        let bytes = file.as_file().metadata().map_err(failed)?.len();
        if !written.entries.is_empty() {
            let name = packs.join(format!("pack-{}", written.checksum));
            let idx =
                treehold_object::idx::write(&written.entries, &written.checksum).map_err(EngineError::internal)?;
            file.as_file().sync_all().map_err(failed)?;
            file.persist(name.with_extension("pack")).map_err(|error| failed(error.error))?;
            std::fs::write(name.with_extension("idx"), idx).map_err(failed)?;
        }
        write_repository(dir, &project, &refs, pending.as_ref().zip(user), &shallow).map_err(failed)?;
        made.keep();
        Ok(ExportReport {
            refs: refs.len() as u64 + u64::from(pending.is_some()),
            objects: written.entries.len() as u64,
            bytes,
            shallow: !shallow.is_empty(),
        })
    }

    /// Objects that the project reaches, by their ledger numbers, and those of a pending commit, as one pack.
    async fn write_all<W: Write + Send + 'static>(
        &self,
        project: &Project,
        mut numbers: RoaringTreemap,
        pending: Option<&Planned>,
        out: W,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let fresh = match pending {
            Some(planned) => self.fresh_of(planned, &mut numbers).await?,
            None => Vec::new(),
        };
        let contents = Contents { project: project.id, numbers, fresh };
        let total = u64::from(contents.count()?);
        let told = |done| progress.step("exporting", done, Some(total));
        Ok(self.write_pack(contents, Form::FILE, out, &told).await?.1)
    }

    /// Of a commit in memory: what is not among `numbers`, to which what it uses of the store is added.
    pub(crate) async fn fresh_of(&self, planned: &Planned, numbers: &mut RoaringTreemap) -> Result<Vec<NewBytes>> {
        let reused = self.catalog.locate(&planned.reused).await?;
        numbers.extend(reused.into_iter().flatten().map(|located| located.number));
        // What the commit makes may be stored already, and go out from there.
        let oids: Vec<_> = planned.objects.iter().map(|object| object.oid).collect();
        let known = self.catalog.locate(&oids).await?;
        let stored = known.iter().map(|known| known.as_ref().is_some_and(|known| numbers.contains(known.number)));
        let fresh = planned.objects.iter().zip(stored).filter(|(_, stored)| !stored);
        Ok(fresh.map(|(object, _)| object.clone()).collect())
    }
}

/// The ref that a name stands for: a full name, a branch, or a tag.
fn named(refs: Vec<Ref>, name: &str) -> Option<Ref> {
    let full = [name.to_owned(), branch_ref(name), format!("refs/tags/{name}")];
    let place = full.iter().find_map(|full| refs.iter().position(|found| found.name == *full))?;
    refs.into_iter().nth(place)
}

/// What an export has made so far. Unless it is kept, it goes again.
struct Made {
    dir: PathBuf,
    /// Directories that were not there before, the innermost first.
    new: Vec<PathBuf>,
}

impl Made {
    /// Makes `dir`, and `objects` in it: of two that export to one place, one fails here.
    fn begin(dir: &FsPath) -> std::io::Result<Self> {
        let above = dir.ancestors().filter(|path| !path.as_os_str().is_empty());
        let new: Vec<PathBuf> = above.take_while(|path| !path.exists()).map(FsPath::to_owned).collect();
        std::fs::create_dir_all(dir)?;
        std::fs::create_dir(dir.join("objects"))?;
        Ok(Self { dir: dir.to_owned(), new })
    }

    fn keep(mut self) {
        self.dir = PathBuf::new();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return;
        }
        for name in ["objects", "refs"] {
            _ = std::fs::remove_dir_all(self.dir.join(name));
        }
        for name in ["config", "packed-refs", "shallow", "HEAD"] {
            _ = std::fs::remove_file(self.dir.join(name));
        }
        // Only those that are empty.
        for dir in &self.new {
            _ = std::fs::remove_dir(dir);
        }
    }
}

fn write_repository(
    dir: &FsPath,
    project: &Project,
    refs: &[Ref],
    pending: Option<(&Planned, Uuid)>,
    shallow: &[ObjectId],
) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.join("refs/heads"))?;
    std::fs::create_dir_all(dir.join("refs/tags"))?;
    let config = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
    std::fs::write(dir.join("config"), config)?;
    let mut names: Vec<(String, ObjectId)> = refs.iter().map(|found| (found.name.clone(), found.oid)).collect();
    names.extend(pending.map(|(planned, user)| (format!("refs/pending/{user}"), planned.attempt.commit)));
    names.sort();
    let mut packed = String::from("# pack-refs with: sorted \n");
    for (name, oid) in names {
        packed.push_str(&format!("{oid} {name}\n"));
    }
    std::fs::write(dir.join("packed-refs"), packed)?;
    if !shallow.is_empty() {
        let lines: String = shallow.iter().map(|oid| format!("{oid}\n")).collect();
        std::fs::write(dir.join("shallow"), lines)?;
    }
    // HEAD comes last: without it nobody takes the directory for a repository.
    std::fs::write(dir.join("HEAD"), format!("ref: {}\n", branch_ref(&project.default_branch)))
}
