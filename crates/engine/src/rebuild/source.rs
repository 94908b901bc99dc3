//! Where projects come from: decided before anything changes, for this run and for whoever finishes it.

use serde::{Deserialize, Serialize};

use super::ManifestChoice;
use crate::api::Oid;
use crate::{Engine, EngineError, Result};

/// What the progress of the job says. The database cannot be asked again: once the first project came back, it does not look like one
/// that lost all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "projects", rename_all = "snake_case")]
pub(crate) enum Source {
    /// They are in the database.
    Database,
    /// From the newest manifest, if there is one.
    AnyManifest,
    /// From the newest manifest.
    NewestManifest,
    /// From this one; also what the two before come to, once it was found.
    Manifest {
        /// Its commit.
        commit: Oid,
    },
}

impl Source {
    /// As the job has it.
    pub fn text(self) -> Result<String> {
        serde_json::to_string(&self).map_err(EngineError::internal)
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Engine {
    /// What is asked for counts; where nothing is, what a rebuild that was cut off had decided (`begun`, its progress).
    pub(super) async fn source(&self, choice: ManifestChoice, begun: Option<&str>) -> Result<Source> {
        match (choice, begun.and_then(Source::read)) {
            (ManifestChoice::Nowhere, _) => return Ok(Source::Database),
            (ManifestChoice::Newest, _) => return Ok(Source::NewestManifest),
            (ManifestChoice::Commit(commit), _) => return Ok(Source::Manifest { commit: Oid(commit) }),
            (ManifestChoice::Auto, Some(source)) => return Ok(source),
            (ManifestChoice::Auto, None) => {}
        }
        match (self.catalog.projects(None, 1).await?.is_empty(), begun) {
            (true, _) => Ok(Source::AnyManifest),
            (false, None) => Ok(Source::Database),
            // Of a release that did not say: its projects may be some of many.
            (false, Some(_)) => Err(EngineError::Conflict {
                code: "rebuild_unfinished",
                detail: "An earlier release began this rebuild, and does not say where projects were to come from: repeat it with \
                         `--manifest latest` if the database had been lost, else with `--manifest none`."
                    .to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use treehold_object::ObjectId;

    use super::*;

    #[test]
    fn what_was_decided_is_read_again() {
        let commit = Oid(ObjectId::Sha1([7; 20]));
        for source in [Source::Database, Source::AnyManifest, Source::NewestManifest, Source::Manifest { commit }] {
            assert_eq!(Source::read(&source.text().unwrap()), Some(source));
        }
        assert_eq!(Source::read("begun"), None, "of earlier releases");
    }
}
