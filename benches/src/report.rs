//! The figures, as a table and as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::machine::Machine;
use crate::plan::Plan;

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
    /// Files of the main and of the second repository.
    pub files: [usize; 2],
    /// One for each set-up.
    pub setups: Vec<Sheet>,
}

impl Report {
    /// A report without figures.
    pub fn new(binary: &Path, plan: &Plan) -> anyhow::Result<Self> {
        Ok(Self {
            machine: Machine::look(),
            binary: binary.to_owned(),
            binary_version: crate::machine::version_of(binary)?,
            checkout_commit: crate::machine::checkout_commit(),
            harness_optimised: !cfg!(debug_assertions),
            seed: plan.seed,
            quick: plan.quick,
            files: [plan.files, plan.other_files],
            setups: Vec::new(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            out,
            "{}, {} cores, {} MiB, Linux {}, {}, load {}",
            machine.cpu, machine.cores, machine.memory_mib, machine.kernel, machine.git, machine.load
        );
        let _ = writeln!(
            out,
            "{} ({}), checkout {}, seed {}, {} and {} files{}",
            self.binary_version,
            self.binary.display(),
            self.checkout_commit,
            self.seed,
            self.files[0],
            self.files[1],
            if self.quick { ", quick: too few runs to compare" } else { "" }
        );
        for sheet in &self.setups {
            let _ = writeln!(out, "\n{:<58} {:>10} {:>10} {:>10}  {:<5} runs", sheet.setup, "median", "min", "max", "");
            for row in &sheet.rows {
                let [median, min, max] = [row.median, row.min, row.max].map(figure);
                let _ = writeln!(
                    out,
                    "{:<58} {median:>10} {min:>10} {max:>10}  {:<5} {}",
                    row.name,
                    row.unit,
                    row.runs.len()
                );
            }
        }
        out
    }
}

/// The figures of one set-up.
#[derive(Debug, Serialize)]
pub struct Sheet {
    /// What the store and the database are.
    pub setup: &'static str,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Sheet {
    /// Adds a row. `values` has one value for each run, at least one.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<f64>) {
        let row = Row::new(name.into(), unit, values);
        eprintln!("{:<58} {:>10} {}", row.name, figure(row.median), row.unit);
        self.rows.push(row);
    }

    /// Adds the 50th and the 99th percentile of each run's times, in ms.
    pub fn add_times(&mut self, name: &str, runs: &[Vec<Duration>]) {
        for percent in [50, 99] {
            let values = runs.iter().map(|times| percentile_ms(times, percent)).collect();
            self.add(format!("{name}, p{percent}"), "ms", values);
        }
    }

    /// Adds how many times as long as stock git it took, by the medians of each run.
    pub fn add_ratio(&mut self, name: &str, ours: &[Vec<Duration>], gits: &[Vec<Duration>]) {
        let ratio = |(ours, gits): (&Vec<Duration>, &Vec<Duration>)| percentile_ms(ours, 50) / percentile_ms(gits, 50);
        self.add(name, "x", ours.iter().zip(gits).map(ratio).collect());
    }
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// `s`, `ms`, `MiB`, `1/s`, or `x` for a ratio.
    pub unit: &'static str,
    /// The middle one of the runs.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// One value for each run, in order.
    pub runs: Vec<f64>,
}

impl Row {
    fn new(name: String, unit: &'static str, runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
        let median = (low + high) / 2.0;
        Self { name, unit, median, min: at(0), max: at(sorted.len().saturating_sub(1)), runs }
    }
}

/// The percentile by nearest rank, milliseconds.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
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
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_middle_and_both_ends() {
        let row = Row::new("row".to_owned(), "s", vec![3.0, 1.0, 10.0]);
        assert_eq!((row.median, row.min, row.max), (3.0, 1.0, 10.0));
        assert_eq!(Row::new("row".to_owned(), "s", vec![4.0, 1.0]).median, 2.5);
        assert_eq!(row.runs, [3.0, 1.0, 10.0]);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&times, 50), 50.0);
        assert_eq!(percentile_ms(&times, 99), 99.0);
        assert_eq!(percentile_ms(&times[..1], 99), 100.0);
    }
}
