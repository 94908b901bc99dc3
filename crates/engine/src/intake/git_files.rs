//! `.gitmodules` and `.gitattributes`: what trees of a pack name so is looked at once all of the pack is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use treehold_object::fsck::{self, FsckError, GitFile};
use treehold_object::{Kind, ObjectId, Policy, runs};
use treehold_wire::{IngestError, Quarantine};

use super::{ROWS, Refused, unreadable};
use crate::{Engine, EngineError, blocking};

/// Files of the project that are read at once, and their bytes; a single one may be longer.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;

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
        let elsewhere = pushed.await??;
        for chunk in elsewhere.chunks(ROWS) {
            let oids: Vec<ObjectId> = chunk.iter().map(|(oid, _)| *oid).collect();
            let sizes = self.catalog.sizes(&oids).await.map_err(EngineError::from)?;
            let sizes = sizes.into_iter().map(Option::unwrap_or_default);
            let sized: Vec<((ObjectId, GitFile), u64)> = chunk.iter().copied().zip(sizes).collect();
            for few in runs(&sized, BATCH_BYTES, |(_, size)| *size).flat_map(|run| run.chunks(BATCH)) {
                let oids: Vec<ObjectId> = few.iter().map(|((oid, _), _)| *oid).collect();
                for (((oid, file), _), object) in few.iter().zip(self.objects(&oids).await?) {
                    let object = object.ok_or(Refused::Open)?;
                    judge(*file, object.kind, *oid, &object.content, policy)?;
                }
            }
        }
        Ok(())
    }
}

fn judge(file: GitFile, kind: Kind, oid: ObjectId, content: &[u8], policy: Policy) -> Result<(), IngestError> {
    let refused = |error: FsckError| IngestError::BadObject { oid, kind, reason: error.to_string() };
    fsck::check_git_file(file, kind, &oid, content, policy).map_err(refused)?;
    Ok(())
}
