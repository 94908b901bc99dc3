//! The lines that the quickstart prints: what it does, by which call, in how many milliseconds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;

/// Prints steps as they happen, and keeps them for the summary.
#[derive(Debug)]
pub struct Stage {
    quiet: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    what: String,
    call: String,
    took: Duration,
}

impl Stage {
    /// With `quiet` nothing is printed: the steps are in [`Stage::json`].
    pub fn new(quiet: bool) -> Self {
        Self { quiet, steps: Vec::new() }
    }

    /// A heading.
    pub fn chapter(&self, title: &str) -> Result<(), Failure> {
        self.print(&format!("\n{title}"))
    }

    /// Does something, and prints what, how, and how long it took.
    pub async fn step<T>(
        &mut self,
        what: &str,
        call: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let outcome = work.await;
        let took = began.elapsed();
        let mut failure = match outcome {
            Ok(value) => {
                self.print(&format!("  {what:<46} {call:<58} {:>9}", milliseconds(took)))?;
                self.steps.push(Step { what: what.into(), call: call.into(), took });
                return Ok(value);
            }
            Err(failure) => failure,
        };
        failure.message = format!("the step \"{what}\" failed: {}", failure.message);
        Err(failure)
    }

    /// What a step found.
    pub fn note(&self, text: &str) -> Result<(), Failure> {
        text.lines().try_for_each(|line| self.print(&format!("      {line}")))
    }

    /// A line as it is.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { output::print(&format!("{text}\n")) }
    }

    /// How long the last step with this description took.
    pub fn took(&self, what: &str) -> Option<String> {
        self.steps.iter().rev().find(|step| step.what == what).map(|step| milliseconds(step.took))
    }

    /// All steps: `[{"step", "call", "ms"}]`.
    pub fn json(&self) -> Value {
        let ms = |took: Duration| (took.as_secs_f64() * 1e5).round() / 100.0;
        let steps = self.steps.iter();
        steps.map(|step| json!({"step": step.what, "call": step.call, "ms": ms(step.took)})).collect()
    }
}

fn milliseconds(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}
