//! Verification: what is on record is compared with what is there, and with itself.
//!
//! Nothing is changed without `repair`, and a repair only adds: what is found somewhere else, and is what the ledger says by two
//! hashes, goes into a fresh pack, and the object's row moves there (docs/reliability.md, N1–N5). It takes away one thing: numbers in a
//! reach that no object has.
//!
//! It runs beside writers, `repack` and the collector: before anything is called missing or damaged, its row and its bytes are
//! looked at again, so that what was moved or given up meanwhile is not taken for damage. How far it is stays in the database, and
//! memory does not grow with the store: everything goes by pages, and what was visited is a bitmap of ledger numbers.

mod bucket;
mod connectivity;
mod database;
mod finding;
mod objects;
mod pace;
mod packs;
mod pending;
mod projects;
mod repair;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::lease::Lease;
use crate::progress::Progress;
use crate::text::rfc3339;
use crate::{Engine, EngineError, Result};
pub use finding::{Code, Finding, Level};
use finding::{Damage, Findings};
use pace::Pace;
use repair::Remotes;

/// Rows and names in one question.
const ROWS: u32 = 1000;

/// What an operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Only what this project reaches, by id or name.
    pub project: Option<String>,
    /// Every byte of every object, not only commits, trees and tags.
    pub full: bool,
    /// Add what is missing where another good copy is found.
    pub repair: bool,
    /// Begin anew, also where a run was stopped before its end.
    pub restart: bool,
    /// Read no more bytes per second from the bucket.
    pub rate: Option<u64>,
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Bucket keys of the ledger, in any state.
    pub keys: u64,
    /// Names in the bucket.
    pub names: u64,
    /// Packs with their indexes.
    pub packs: u64,
    /// Objects whose bytes were read, inflated and hashed: once by place, and again for each project that reaches them.
    pub objects: u64,
    /// Rows of the ledger whose key was looked up.
    pub rows: u64,
    /// Projects.
    pub projects: u64,
    /// Refs, and what the remotes last had.
    pub refs: u64,
    /// Moves of refs in the reflog.
    pub moves: u64,
    /// Commits that projects reach.
    pub commits: u64,
    /// Trees that projects reach.
    pub trees: u64,
    /// Blobs that projects reach.
    pub blobs: u64,
    /// Annotated tags that projects reach.
    pub tags: u64,
    /// Pending rows.
    pub pending: u64,
    /// Contents of pending work, present and past.
    pub contents: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The one project that was looked at.
    pub project: Option<Uuid>,
    /// Whether every byte was read.
    pub full: bool,
    /// Whether damage was repaired where it could be.
    pub repair: bool,
    /// Whether this run went on where another one was stopped.
    pub resumed: bool,
    /// When it began, RFC 3339; the stopped run if this one went on with it.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// How much was looked at.
    pub checked: Checked,
    /// Bytes read from the bucket, about.
    pub bytes_read: u64,
    /// Findings that are damage.
    pub errors: u64,
    /// Findings that should not be as they are.
    pub warnings: u64,
    /// Findings worth knowing.
    pub infos: u64,
    /// Of all findings: repaired by this run.
    pub repaired: u64,
    /// Findings by code.
    pub codes: BTreeMap<String, u64>,
    /// The first 1,000 findings.
    pub findings: Vec<Finding>,
}

/// What a run was asked for: another run goes on with it only if it is asked for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    project: Option<Uuid>,
    full: bool,
    repair: bool,
}

/// The parts of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Bucket,
    Packs,
    Database,
    Objects,
    Projects,
    Done,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    asked: Asked,
    started_ms: i64,
    stage: Stage,
    /// Where the stage goes on, in its own words; empty: at its start.
    after: String,
    checked: Checked,
    bytes_read: u64,
    findings: Findings,
}

impl State {
    fn new(asked: Asked, started_ms: i64) -> Self {
        let stage = if asked.project.is_some() { Stage::Projects } else { Stage::Bucket };
        let (checked, findings) = (Checked::default(), Findings::default());
        Self { asked, started_ms, stage, after: String::new(), checked, bytes_read: 0, findings }
    }

    fn next_stage(&self) -> Stage {
        match self.stage {
            Stage::Bucket => Stage::Packs,
            Stage::Packs => Stage::Database,
            Stage::Database if self.asked.full => Stage::Objects,
            Stage::Database | Stage::Objects => Stage::Projects,
            Stage::Projects | Stage::Done => Stage::Done,
        }
    }
}

/// A run.
struct Run<'a> {
    engine: &'a Engine,
    progress: &'a dyn Progress,
    pace: Pace,
    state: State,
    saved: Arc<Mutex<Option<String>>>,
    /// Whether the bucket keeps versions that may be listed; `None`: not asked yet.
    versions: Option<bool>,
    /// Packs of which the bucket keeps nothing but what they are now.
    plain: HashSet<String>,
    remotes: Remotes,
    /// What was looked for everywhere, in vain: it is not looked for there again.
    vain: HashSet<ObjectId>,
}

impl Engine {
    /// Compares ledger, bucket, refs and pending work; see [`VerifyReport`]. One run at a time: a conflict if there is another one. A
    /// run that was stopped goes on where it was if the same is asked for again.
    pub async fn verify(&self, options: &VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport> {
        let project = match &options.project {
            Some(project) => Some(self.find_project(project).await?.id),
            None => None,
        };
        let asked = Asked { project, full: options.full, repair: options.repair };
        let (lease, left) = Lease::take(self, "verify", "verify_running").await?;
        let left = left.filter(|_| !options.restart).and_then(|text| serde_json::from_str::<State>(&text).ok());
        let left = left.filter(|state| state.asked == asked);
        let resumed = left.is_some();
        let state = left.unwrap_or_else(|| State::new(asked, self.ambient.now_ms()));
        let pace = Pace::new(Arc::clone(&self.ambient), options.rate);
        let mut run = Run {
            engine: self,
            progress,
            pace,
            state,
            saved: lease.progress(),
            versions: None,
            plain: HashSet::new(),
            remotes: Remotes::default(),
            vain: HashSet::new(),
        };
        run.save();
        match lease.kept(run.work()).await {
            Ok(()) => {
                let report = run.report(resumed);
                lease.finish(&serde_json::to_string(&report).map_err(EngineError::internal)?).await?;
                Ok(report)
            }
            Err(error) => {
                lease.stop().await;
                Err(error)
            }
        }
    }
}

impl Run<'_> {
    async fn work(&mut self) -> Result<()> {
        loop {
            match self.state.stage {
                Stage::Bucket => self.check_bucket().await?,
                Stage::Packs => self.check_packs().await?,
                Stage::Database => self.check_database().await?,
                Stage::Objects => self.check_objects().await?,
                Stage::Projects => self.check_projects().await?,
                Stage::Done => return Ok(()),
            }
            self.state.stage = self.state.next_stage();
            self.reached(String::new());
        }
    }

    /// A stopped run goes on behind `after`.
    fn reached(&mut self, after: String) {
        self.state.after = after;
        self.save();
    }

    fn save(&self) {
        // A state is text and numbers: it always has a JSON form.
        let text = serde_json::to_string(&self.state).ok();
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn find(&mut self, damage: Damage, subject: impl Into<String>, project: Option<Uuid>, repaired: bool) {
        self.state.findings.add(Finding::new(damage, subject, project, repaired));
    }

    fn repairs(&self) -> bool {
        self.state.asked.repair
    }

    fn report(&self, resumed: bool) -> VerifyReport {
        let State { asked, started_ms, checked, bytes_read, findings, .. } = self.state.clone();
        VerifyReport {
            project: asked.project,
            full: asked.full,
            repair: asked.repair,
            resumed,
            started_at: rfc3339(started_ms),
            finished_at: rfc3339(self.engine.ambient.now_ms()),
            checked,
            bytes_read,
            errors: findings.count(Level::Error),
            warnings: findings.count(Level::Warning),
            infos: findings.count(Level::Info),
            repaired: findings.repaired,
            codes: findings.codes.iter().map(|(code, count)| (code.name(), *count)).collect(),
            findings: findings.kept,
        }
    }
}
