//! Running the checker and telling what it found.

use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// A violated property with the steps that lead there.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// The steps from the start.
    pub trace: Vec<String>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Longest path looked at.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Violated invariants.
    pub violations: Vec<Violation>,
    /// What must be possible and was not reached.
    pub unreached: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} states, depth {}, {:.1} s", self.states, self.depth, self.took.as_secs_f32())?;
        for missed in &self.unreached {
            write!(out, "\n  never reached: {missed}")?;
        }
        for violation in &self.violations {
            write!(out, "\n  violated: {}, after {} steps:", violation.property, violation.trace.len())?;
            for (number, step) in violation.trace.iter().enumerate() {
                write!(out, "\n    {:2}. {step}", number + 1)?;
            }
        }
        Ok(())
    }
}

/// Looks at every state of `model`.
pub fn explore<M>(model: M, threads: usize) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + fmt::Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + fmt::Debug + PartialEq + Send + Sync + 'static,
{
    let begun = Instant::now();
    report(&model.checker().threads(threads).spawn_bfs().join(), begun)
}

/// Looks for the nearest state in which one of `harm` does not hold.
pub fn hunt<M>(model: &M, harm: &[&'static str]) -> Report
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + fmt::Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + fmt::Debug + PartialEq + Send + Sync + 'static,
{
    let begun = Instant::now();
    let until = HasDiscoveries::AnyOf(harm.iter().copied().collect());
    let mut found: Option<Report> = None;
    loop {
        let mut search = model.clone().checker().finish_when(until.clone());
        if let Some(violation) = found.as_ref().and_then(|report| report.violations.first()) {
            // The checker keeps the last path that it saw, not the shortest: look again, less far. It counts states, not steps.
            search = search.target_max_depth(violation.trace.len() + 1);
        }
        let mut next = report(&search.spawn_bfs().join(), begun);
        next.violations.retain(|violation| harm.contains(&violation.property));
        next.violations.sort_by_key(|violation| violation.trace.len());
        next.violations.truncate(1);
        // The search ended early: what it did not reach says nothing.
        next.unreached.clear();
        match found {
            Some(nearest) if next.violations.is_empty() => return Report { took: begun.elapsed(), ..nearest },
            None if next.violations.is_empty() => return next,
            _ => found = Some(next),
        }
    }
}

fn report<M>(checker: &impl Checker<M>, begun: Instant) -> Report
where
    M: Model,
    M::State: Clone + fmt::Debug + Hash + PartialEq,
    M::Action: Clone + fmt::Debug + PartialEq,
{
    let discoveries = checker.discoveries();
    let mut violations = Vec::new();
    let mut unreached = Vec::new();
    for property in checker.model().properties() {
        match (&property.expectation, discoveries.get(property.name)) {
            (Expectation::Sometimes, None) => unreached.push(property.name),
            (Expectation::Always, Some(path)) => {
                let actions = path.clone().into_actions();
                let trace = actions.iter().map(|action| checker.model().format_action(action)).collect();
                violations.push(Violation { property: property.name, trace });
            }
            _ => {}
        }
    }
    Report {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        violations,
        unreached,
    }
}
