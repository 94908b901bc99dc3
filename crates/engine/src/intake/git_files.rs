//! `.gitmodules` and `.gitattributes`: what trees of a pack name so is looked at once all of the pack is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use treehold_object::fsck::{self, FsckError, GitFile};
use treehold_object::{Kind, ObjectId, Policy};
use treehold_wire::{IngestError, Quarantine};

use super::{Refused, unreadable};
use crate::{Engine, blocking};

/// What the trees of a pack name as a file that git acts on.
#[derive(Debug, Default)]
pub(super) struct GitFiles(Mutex<BTreeSet<(ObjectId, GitFile)>>);

impl GitFiles {
    pub fn note(&self, files: Vec<(GitFile, ObjectId)>) {
        if !files.is_empty() {
            let files = files.into_iter().map(|(file, oid)| (oid, file));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
        }
    }
}

impl Engine {
    /// Refuses what git would refuse to act on, also where the pack only names what the project has already.
    pub(super) async fn check_git_files_of(
        &self,
        quarantine: &Arc<Quarantine>,
        files: GitFiles,
        policy: Policy,
    ) -> Result<(), Refused> {
        if policy == Policy::Import {
            return Ok(());
        }
        let files = files.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let source = Arc::clone(quarantine);
        // One at a time: each may be as long as any file.
        let pushed = blocking(move || {
            let mut elsewhere = Vec::new();
            for (oid, file) in files {
                match source.read(&oid).map_err(unreadable)? {
                    None => elsewhere.push((oid, file)),
                    Some((kind, content)) => {
                        if let Err(refused) = judge(file, kind, oid, &content, policy) {
                            return Ok(Err(refused));
                        }
                    }
                }
            }
            Ok(Ok(elsewhere))
        });
        for (oid, file) in pushed.await?? {
            let object = self.objects(&[oid]).await?.pop().flatten().ok_or(Refused::Open)?;
            judge(file, object.kind, oid, &object.content, policy)?;
        }
        Ok(())
    }
}

fn judge(file: GitFile, kind: Kind, oid: ObjectId, content: &[u8], policy: Policy) -> Result<(), IngestError> {
    let refused = |error: FsckError| IngestError::BadObject { oid, kind, reason: error.to_string() };
    fsck::check_git_file(file, kind, &oid, content, policy).map_err(refused)?;
    Ok(())
}
