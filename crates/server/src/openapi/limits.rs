//! Limits of the running server, as the document tells them.

use serde_json::{Map, Value, json};

use crate::app::ServerConfig;

/// What a route refuses to take, or to give, more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    FileBytes,
    JsonBytes,
    BatchPaths,
    BatchBytes,
    CommitChanges,
    Refs,
    MessageBytes,
    PackBytes,
    PackObjects,
    InflatedBytes,
    ArchiveBytes,
    PathBytes,
    PathComponentBytes,
    PathDepth,
}

impl Limit {
    const ALL: [Self; 14] = [
        Self::FileBytes,
        Self::JsonBytes,
        Self::BatchPaths,
        Self::BatchBytes,
        Self::CommitChanges,
        Self::Refs,
        Self::MessageBytes,
        Self::PackBytes,
        Self::PackObjects,
        Self::InflatedBytes,
        Self::ArchiveBytes,
        Self::PathBytes,
        Self::PathComponentBytes,
        Self::PathDepth,
    ];

    /// Its name in the document, what it bounds, its unit.
    fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::FileBytes => ("file_bytes", "One file.", "bytes"),
            Self::JsonBytes => ("json_bytes", "One JSON body that carries files.", "bytes"),
            Self::BatchPaths => {
                ("batch_paths", "Paths of a batch read, operations of a batch, files of a resolution.", "paths")
            }
            Self::BatchBytes => ("batch_bytes", "Content of one batch read's answer; a cursor goes on.", "bytes"),
            Self::CommitChanges => ("commit_changes", "Changes of one commit.", "changes"),
            Self::Refs => ("refs", "Branches, tags and notes of a project.", "refs"),
            Self::MessageBytes => ("message_bytes", "A commit's message.", "bytes"),
            Self::PackBytes => ("pack_bytes", "One received pack.", "bytes"),
            Self::PackObjects => ("pack_objects", "Objects of one received pack.", "objects"),
            Self::InflatedBytes => ("inflated_bytes", "All objects of one received pack, inflated.", "bytes"),
            Self::ArchiveBytes => ("archive_bytes", "One archive, and all content in it.", "bytes"),
            Self::PathBytes => ("path_bytes", "A path that is written by the API; fixed.", "bytes"),
            Self::PathComponentBytes => ("path_component_bytes", "One name in such a path; fixed.", "bytes"),
            Self::PathDepth => ("path_depth", "Names in such a path; fixed.", "names"),
        }
    }

    fn value(self, config: &ServerConfig) -> u64 {
        let limits = &config.limits;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match self {
            Self::FileBytes => limits.file_bytes,
            Self::JsonBytes => config.json_bytes,
            Self::BatchPaths => count(limits.batch_paths),
            Self::BatchBytes => limits.batch_bytes,
            Self::CommitChanges => count(limits.commit_changes),
            Self::Refs => count(limits.refs),
            Self::MessageBytes => count(limits.message_bytes),
            Self::PackBytes => limits.pack_bytes,
            Self::PackObjects => limits.pack_objects,
            Self::InflatedBytes => limits.inflated_bytes,
            Self::ArchiveBytes => limits.archive_bytes,
            Self::PathBytes => count(treehold_object::limits::PATH_BYTES_MAX),
            Self::PathComponentBytes => count(treehold_object::limits::COMPONENT_BYTES_MAX),
            Self::PathDepth => count(treehold_object::limits::PATH_DEPTH_MAX),
        }
    }
}

/// `{name: {value, unit, description}}`, as configured.
pub(super) fn shown(limits: &[Limit], config: &ServerConfig) -> Value {
    let told = limits.iter().map(|limit| {
        let (name, description, unit) = limit.told();
        (name.to_owned(), json!({"value": limit.value(config), "unit": unit, "description": description}))
    });
    Value::Object(told.collect::<Map<_, _>>())
}

/// All of them.
pub(super) fn all(config: &ServerConfig) -> Value {
    shown(&Limit::ALL, config)
}
