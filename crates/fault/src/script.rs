//! Faults that a server is started with: `TREEHOLD_FAULTS`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Decision, Faults, Injected, Moment};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The process dies at once, as by kill -9: nothing is flushed, no destructor runs.
    Kill,
    /// The step is not taken, or its answer is lost.
    Fail,
    /// The thread stands still.
    Delay(Duration),
}

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    name: String,
    /// `None` = at a point, or before a call.
    after: bool,
    action: Action,
    /// How many times the point is passed before; `None` = it happens every time.
    passes: Option<u32>,
}

/// Faults by name, for one process. What happens is told on standard error, one line `fault: ACTION at NAME` each.
#[derive(Debug)]
pub struct Script {
    planned: Mutex<Vec<Planned>>,
}

/// Why a script is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError(String);

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is no fault: write NAME=kill, NAME=fail or NAME=delay:MILLISECONDS, with @N for the Nth time",
            self.0
        )
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// Reads `NAME=ACTION[@N],…`: a name of [`crate::POINTS`], or of a call, with `+` for after it; `kill`, `fail` or
    /// `delay:MILLISECONDS`; at the Nth time that the point is reached, from 1, else every time.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let planned = text.split(',').map(|part| planned(part).ok_or_else(|| ScriptError(part.to_owned())));
        Ok(Self { planned: Mutex::new(planned.collect::<Result<_, _>>()?) })
    }

    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, point: &'static str, moment: Moment) -> Option<Action> {
        let mut planned = self.planned();
        let mut found = None;
        planned.retain_mut(|fault| {
            if fault.name != point || fault.after != (moment == Moment::After) || found.is_some() {
                return true;
            }
            match &mut fault.passes {
                Some(passes) if *passes > 0 => *passes -= 1,
                _ => found = Some(fault.action),
            }
            found.is_none() || fault.passes.is_none()
        });
        found
    }

    fn suffer(&self, point: &'static str, moment: Moment) -> Result<(), Injected> {
        match self.next(point, moment) {
            None => Ok(()),
            Some(Action::Kill) => {
                eprintln!("fault: kill at {point}");
                std::process::abort()
            }
            Some(Action::Fail) => {
                eprintln!("fault: fail at {point}");
                Err(Injected { point, moment })
            }
            Some(Action::Delay(delay)) => {
                eprintln!("fault: delay at {point}");
                std::thread::sleep(delay);
                Ok(())
            }
        }
    }
}

fn planned(text: &str) -> Option<Planned> {
    let (name, action) = text.trim().split_once('=')?;
    let (name, after) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
    let (action, passes) = match action.split_once('@') {
        None => (action, None),
        Some((action, nth)) => (action, Some(nth.parse::<u32>().ok()?.checked_sub(1)?)),
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        None if action == "fail" => Action::Fail,
        Some(("delay", millis)) => Action::Delay(Duration::from_millis(millis.parse().ok()?)),
        _ => return None,
    };
    (!name.is_empty()).then(|| Planned { name: name.to_owned(), after, action, passes })
}

impl Faults for Script {
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a> {
        Box::pin(std::future::ready(self.suffer(point, moment)))
    }

    fn decide_blocking(&self, point: &'static str) -> Result<(), Injected> {
        self.suffer(point, Moment::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_at_its_time_and_once() {
        let script = Script::parse("U3=fail@2,publish+=fail,A1=delay:1").expect("a script");
        let at = |point| script.suffer(point, Moment::At);
        assert_eq!(at("U3"), Ok(()));
        assert_eq!(at("U3"), Err(Injected { point: "U3", moment: Moment::At }));
        assert_eq!(at("U3"), Ok(()));
        assert_eq!(at("A1"), Ok(()));
        assert_eq!(script.suffer("publish", Moment::Before), Ok(()));
        for _ in 0..2 {
            assert!(script.suffer("publish", Moment::After).is_err(), "every time");
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for text in ["", "U3", "=kill", "U3=die", "U3=kill@0", "U3=kill@x", "U3=delay:x", "U3=kill,,U4=kill"] {
            assert!(Script::parse(text).is_err(), "{text:?}");
        }
    }
}
