//! What is aimed at. A goal is shown, never asserted.

use serde::Serialize;

/// A bound for the median of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// Which side is good.
    pub bound: Bound,
    /// The bound itself, in the row's unit.
    pub value: f64,
    /// Whether the median keeps it.
    pub reached: bool,
}

/// Which side of a bound is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Less is better.
    AtMost,
    /// More is better.
    AtLeast,
}

impl Goal {
    /// Less is better.
    pub fn at_most(value: f64, median: f64) -> Self {
        Self { bound: Bound::AtMost, value, reached: median <= value }
    }

    /// More is better.
    pub fn at_least(value: f64, median: f64) -> Self {
        Self { bound: Bound::AtLeast, value, reached: median >= value }
    }

    /// `<= 1.2, reached`.
    pub fn words(&self) -> String {
        let sign = match self.bound {
            Bound::AtMost => "<=",
            Bound::AtLeast => ">=",
        };
        let reached = if self.reached { "reached" } else { "not reached" };
        format!("{sign} {}, {reached}", super::figure(self.value))
    }

    /// How many times as good as asked for; below 1 the goal is not reached.
    pub fn margin(&self, median: f64) -> f64 {
        match self.bound {
            // None of what there should be none of.
            Bound::AtMost if self.value == median => 1.0,
            Bound::AtMost => self.value / median,
            Bound::AtLeast => median / self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_a_good_side() {
        let goal = Goal::at_most(1.2, 1.2);
        assert_eq!((goal.reached, goal.words().as_str()), (true, "<= 1.20, reached"));
        assert!(!Goal::at_most(1.2, 1.21).reached);
        let goal = Goal::at_least(10.0, 5.0);
        assert_eq!((goal.reached, goal.words().as_str()), (false, ">= 10.0, not reached"));
        assert_eq!((Goal::at_most(0.0, 0.0).margin(0.0), Goal::at_most(0.0, 2.0).margin(2.0)), (1.0, 0.0));
        assert_eq!((goal.margin(5.0), Goal::at_most(3.0, 1.5).margin(1.5)), (0.5, 2.0));
        assert!(!Goal::at_least(1.0, f64::NAN).reached && !Goal::at_most(1.0, f64::NAN).reached);
    }
}
