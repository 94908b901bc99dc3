//! How much is measured. Every loop of the harness is bounded by a number from here.

/// The largest second repository that is generated without being asked for, files.
const OTHER_FILES_MAX: usize = 100_000;

/// The numbers of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Files of the main repository.
    pub files: usize,
    /// Files of the second repository, which is only imported: to compare the memory of two imports.
    pub other_files: usize,
    /// Seed of the repositories and of every choice.
    pub seed: u64,
    /// Whether it is the small run.
    pub quick: bool,
    /// Starts of the server on an empty, and again on a filled data directory.
    pub starts: usize,
    /// Imports of each repository, connections to a remote, exports.
    pub transfers: usize,
    /// Runs of everything that follows.
    pub runs: usize,
    /// Batch reads in a run.
    pub batches: usize,
    /// Single reads in a run.
    pub singles: usize,
    /// Autosaves in a run of one connection.
    pub saves: usize,
    /// Autosaves of each of 16 connections in a run.
    pub saves_each: usize,
    /// Commits in a run.
    pub commits: usize,
}

impl Plan {
    /// The default run or the quick one.
    pub fn new(quick: bool, files: Option<usize>, seed: u64) -> Self {
        let files = files.unwrap_or(if quick { 500 } else { 5_000 });
        let other_files = if files * 4 <= OTHER_FILES_MAX { files * 4 } else { files / 4 };
        let full = Self {
            files,
            other_files,
            seed,
            quick,
            starts: 10,
            transfers: 3,
            runs: 5,
            batches: 50,
            singles: 200,
            saves: 200,
            saves_each: 100,
            commits: 5,
        };
        match quick {
            false => full,
            true => Self {
                starts: 2,
                transfers: 1,
                runs: 2,
                batches: 5,
                singles: 20,
                saves: 20,
                saves_each: 4,
                commits: 1,
                ..full
            },
        }
    }
}
