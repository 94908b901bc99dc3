//! `.gitmodules` and `.gitattributes`: what trees of a pack name so is looked at once all of the pack is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use treehold_object::fsck::{self, GitFile};
use treehold_object::{Kind, ObjectId, Policy};
use treehold_wire::{IngestError, Quarantine};

use super::{Refused, unreadable};
use crate::{Engine, blocking};

/// Objects read at once.
const BATCH: usize = 64;

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
        let files: Vec<_> = files.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
        for files in files.chunks(BATCH) {
            let oids: Vec<ObjectId> = files.iter().map(|(oid, _)| *oid).collect();
            let source = Arc::clone(quarantine);
            let pushed = blocking(move || oids.iter().map(|oid| source.read(oid).map_err(unreadable)).collect());
            let pushed: Vec<Option<(Kind, Bytes)>> = pushed.await?;
            for ((oid, file), pushed) in files.iter().zip(pushed) {
                let content = match pushed {
                    Some(content) => Some(content),
                    None => self.objects(&[*oid]).await?.pop().flatten().map(|object| (object.kind, object.content)),
                };
                let Some((kind, content)) = content else { return Err(Refused::Open) };
                fsck::check_git_file(*file, kind, oid, &content, policy).map_err(|error| IngestError::BadObject {
                    oid: *oid,
                    kind,
                    reason: error.to_string(),
                })?;
            }
        }
        Ok(())
    }
}
