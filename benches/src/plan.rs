//! How much is measured. Every loop of the harness is bounded by a number from here.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// What can be measured, in the order of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Start-up and idle memory
    Start,
    /// Full history over HTTP and by path
    Import,
    /// Files in batches and alone, warm
    Read,
    /// A batch with empty caches
    Cold,
    /// All files
    List,
    /// In all files
    Search,
    /// 4 KB, durable
    Autosave,
    /// From an edit to another device's event
    Feed,
    /// 10 files, not pushed
    Commit,
    /// The same in a large and in a small repository
    Scale,
    /// All objects into a bare repository
    Export,
    /// Sync and push
    Remote,
    /// A hundred forks in one store
    Forks,
    /// One project beside another that floods
    Neighbour,
    /// Stock git clones, fetches and pushes
    Clients,
    /// Collection and verification
    Upkeep,
    /// Requests to the bucket of each verb
    Calls,
    /// Whether time tells what other projects have
    Tells,
}

impl Scenario {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Import => "Import of the full history",
            Self::Read => "Reads, warm",
            Self::Cold => "Batch read, cold",
            Self::List => "List of all files",
            Self::Search => "Search in all files, warm",
            Self::Autosave => "Autosaves",
            Self::Feed => "Change feed",
            Self::Commit => "Commit of 10 files, before the push",
            Self::Scale => "Commit in a large and in a small repository",
            Self::Export => "Export",
            Self::Remote => "Work with a remote",
            Self::Forks => "Forks in one store",
            Self::Neighbour => "Noisy neighbour",
            Self::Clients => "Git clients",
            Self::Upkeep => "Collection and verification",
            Self::Calls => "Requests to the bucket",
            Self::Tells => "What time tells of other projects",
        }
    }
}

/// The numbers of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seed of the repositories and of every choice.
    pub seed: u64,
    /// Whether it is the small run.
    pub quick: bool,
    /// What is measured; nothing = everything.
    pub only: Vec<Scenario>,
    /// What every S3 call waits.
    pub s3_latency: Duration,
    /// Files of the generated repository.
    pub files: usize,
    /// Commits after the first one in made repositories.
    pub history: usize,
    /// Files of the small and of the large repository of [`Scenario::Scale`].
    pub scale: [usize; 2],
    /// Forks, and files of the repository that is forked.
    pub forks: [usize; 2],
    /// Starts of the server on an empty, and again on a filled data directory.
    pub starts: usize,
    /// Imports, connections to a remote, exports.
    pub transfers: usize,
    /// Runs of everything that follows.
    pub runs: usize,
    /// Batch reads in a run.
    pub batches: usize,
    /// Single reads in a run.
    pub singles: usize,
    /// Connections, and autosaves of each of them in a run.
    pub saves: [(usize, usize); 3],
    /// Commits in a run.
    pub commits: usize,
    /// Requests of the quiet project in a run, and connections of the loud one.
    pub neighbour: [usize; 2],
    /// Clients that take everything at once.
    pub clones: usize,
    /// Blobs of garbage that fill the ledger up.
    pub ledger: u64,
}

impl Plan {
    /// The default run or the quick one.
    pub fn new(quick: bool, seed: u64) -> Self {
        let full = Self {
            seed,
            quick,
            only: Vec::new(),
            s3_latency: Duration::from_millis(30),
            files: 5_000,
            history: 20,
            scale: [5_000, 500_000],
            forks: [100, 2_000],
            starts: 5,
            transfers: 3,
            runs: 5,
            batches: 30,
            singles: 100,
            saves: [(1, 300), (16, 200), (64, 100)],
            commits: 5,
            neighbour: [300, 64],
            clones: 50,
            ledger: 1_000_000,
        };
        match quick {
            false => full,
            true => Self {
                files: 300,
                history: 8,
                scale: [150, 600],
                forks: [2, 150],
                starts: 1,
                transfers: 1,
                runs: 2,
                batches: 2,
                singles: 5,
                saves: [(1, 6), (16, 2), (64, 1)],
                commits: 1,
                neighbour: [8, 4],
                clones: 3,
                ledger: 2_000,
                ..full
            },
        }
    }

    /// Whether a scenario was asked for.
    pub fn has(&self, scenario: Scenario) -> bool {
        self.only.is_empty() || self.only.contains(&scenario)
    }

    /// Whether one of them was.
    pub fn has_any(&self, scenarios: &[Scenario]) -> bool {
        scenarios.iter().any(|&scenario| self.has(scenario))
    }
}
