//! The figures: a table, JSON and a page.

mod goal;
mod html;
mod plot;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

pub use goal::Goal;

use crate::machine::Machine;
use crate::plan::{Plan, Scenario};

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// The binary measured.
    pub binary: PathBuf,
    /// What it calls itself.
    pub binary_version: String,
    /// Commit of the checkout that the harness was built from, with `-dirty` if it was changed; the binary may be another's.
    pub checkout_commit: String,
    /// Whether the harness itself was built with optimisation.
    pub harness_optimised: bool,
    /// Seed of the repositories and of every choice.
    pub seed: u64,
    /// Whether it was the small run.
    pub quick: bool,
    /// What every S3 call waits, milliseconds.
    pub s3_latency_ms: u64,
    /// Where the text of made repositories comes from.
    pub text: String,
    /// One for each repository and set-up.
    pub sheets: Vec<Sheet>,
}

impl Report {
    /// A report without figures.
    pub fn new(binary: &Path, plan: &Plan, text: &str) -> anyhow::Result<Self> {
        Ok(Self {
            machine: Machine::look(),
            binary: binary.to_owned(),
            binary_version: crate::machine::version_of(binary)?,
            checkout_commit: crate::machine::checkout_commit(),
            harness_optimised: !cfg!(debug_assertions),
            seed: plan.seed,
            quick: plan.quick,
            s3_latency_ms: u64::try_from(plan.s3_latency.as_millis()).unwrap_or(u64::MAX),
            text: text.to_owned(),
            sheets: Vec::new(),
        })
    }

    /// For terminals.
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> anyhow::Result<String> {
        html::page(self)
    }

    /// `machine` and `run`, in two sentences.
    fn about(&self) -> [String; 2] {
        let machine = &self.machine;
        let quick = if self.quick { ", quick: too few runs to compare" } else { "" };
        let debug = if self.harness_optimised { "" } else { ", harness built without optimisation" };
        [
            format!(
                "{}, {} cores, {} MiB, Linux {}, {}, load {}",
                machine.cpu, machine.cores, machine.memory_mib, machine.kernel, machine.git, machine.load
            ),
            format!(
                "{} ({}), checkout {}, seed {}, {} ms per S3 call{quick}{debug}; text: {}",
                self.binary_version,
                self.binary.display(),
                self.checkout_commit,
                self.seed,
                self.s3_latency_ms,
                self.text
            ),
        ]
    }
}

/// The figures of one repository in one set-up.
#[derive(Debug, Serialize)]
pub struct Sheet {
    /// What the store and the database are.
    pub setup: &'static str,
    /// What was measured on.
    pub repository: String,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub missing: Vec<Missing>,
    #[serde(skip)]
    scenario: Scenario,
}

/// A row that could not be measured.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// Of which scenario.
    pub scenario: Scenario,
    /// What would have been measured.
    pub name: String,
    /// Why it was not.
    pub reason: String,
}

impl Sheet {
    /// A sheet without rows.
    pub fn new(setup: &'static str, repository: &str) -> Self {
        Self {
            setup,
            repository: repository.to_owned(),
            rows: Vec::new(),
            missing: Vec::new(),
            scenario: Scenario::Start,
        }
    }

    /// Whose rows follow.
    pub fn begin(&mut self, scenario: Scenario) {
        eprintln!("-- {}", scenario.title());
        self.scenario = scenario;
    }

    /// Adds a row. `values` has one value for each run, at least one.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> &mut Row {
        self.push(Row::new(self.scenario, Who::Treehold, name.into(), unit, values))
    }

    /// Adds a row of a peer.
    pub fn add_peer(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> &mut Row {
        self.push(Row::new(self.scenario, Who::Peer, name.into(), unit, values))
    }

    /// Adds the 50th and the 99th percentile of each run's times, in ms; answers with the latter's row.
    pub fn add_times(&mut self, who: Who, name: &str, runs: &[Vec<Duration>]) -> &mut Row {
        let values = |percent| runs.iter().map(|times| percentile_ms(times, percent)).collect();
        let row = |percent| Row::new(self.scenario, who, format!("{name}, p{percent}"), "ms", values(percent));
        let (middle, late) = (row(50), row(99));
        self.push(middle);
        self.push(late)
    }

    /// Adds how many times `one` is `other`, run by run.
    pub fn add_ratio(&mut self, name: &str, one: &[f64], other: &[f64]) -> &mut Row {
        let ratios = one.iter().zip(other).map(|(one, other)| one / other).collect();
        self.push(Row::new(self.scenario, Who::Ratio, name.to_owned(), "x", ratios))
    }

    /// Says what is not measured.
    pub fn miss(&mut self, name: &str, reason: impl Into<String>) {
        let reason = reason.into();
        eprintln!("{name:<66} not measured: {reason}");
        self.missing.push(Missing { scenario: self.scenario, name: name.to_owned(), reason });
    }

    /// Scenario by scenario, whenever they were measured.
    pub fn in_order(mut self) -> Self {
        self.rows.sort_by_key(|row| row.scenario);
        self
    }

    fn push(&mut self, row: Row) -> &mut Row {
        eprintln!("{:<66} {:>10} {}", row.name, figure(row.median), row.unit);
        self.rows.push(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The binary that is measured.
    Treehold,
    /// What people would use instead.
    Peer,
    /// One beside the other.
    Ratio,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What it belongs to.
    pub scenario: Scenario,
    /// Whose it is.
    pub who: Who,
    /// What was measured.
    pub name: String,
    /// `s`, `ms`, `MiB`, `1/s`, nothing for a count, or `x` for a ratio.
    pub unit: &'static str,
    /// The middle one of the runs.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// One value for each run, in order.
    pub runs: Vec<f64>,
    /// What is aimed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

impl Row {
    fn new(scenario: Scenario, who: Who, name: String, unit: &'static str, runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
        let (min, max) = (at(0), at(sorted.len().saturating_sub(1)));
        Self { scenario, who, name, unit, median: (low + high) / 2.0, min, max, runs, goal: None }
    }

    /// The median is to be at most this.
    pub fn at_most(&mut self, value: f64) {
        self.goal = Some(Goal::at_most(value, self.median));
    }

    /// The median is to be at least this.
    pub fn at_least(&mut self, value: f64) {
        self.goal = Some(Goal::at_least(value, self.median));
    }
}

/// The medians of each run's times, ms.
pub fn medians_ms(runs: &[Vec<Duration>]) -> Vec<f64> {
    runs.iter().map(|times| percentile_ms(times, 50)).collect()
}

/// The percentile by nearest rank, milliseconds.
pub fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// About three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        whole if whole.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_middle_and_both_ends() {
        let row = |runs| Row::new(Scenario::Read, Who::Treehold, "row".to_owned(), "s", runs);
        let one = row(vec![3.0, 1.0, 10.0]);
        assert_eq!((one.median, one.min, one.max), (3.0, 1.0, 10.0));
        assert_eq!(row(vec![4.0, 1.0]).median, 2.5);
        assert_eq!(one.runs, [3.0, 1.0, 10.0]);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&times, 50), 50.0);
        assert_eq!(percentile_ms(&times, 99), 99.0);
        assert_eq!(percentile_ms(&times[..1], 99), 100.0);
    }

    #[test]
    fn a_ratio_is_taken_run_by_run() {
        let mut sheet = Sheet::new("set-up", "repository");
        sheet.begin(Scenario::Read);
        let row = sheet.add_ratio("ratio", &[2.0, 9.0, 4.0], &[2.0, 3.0, 2.0]);
        assert_eq!((&row.runs[..], row.median), (&[1.0, 3.0, 2.0][..], 2.0));
    }
}
