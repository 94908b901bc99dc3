//! One file per command.

pub mod admin;
pub mod completions;
pub mod config_check;
pub mod export;
pub mod import;
pub mod project;
pub mod quickstart;
pub mod serve;

use serde_json::Value;

use crate::failure::Failure;
use crate::open;
use crate::operation::Operation;
use crate::output;
use crate::progress::Bar;
use crate::settings::Settings;

/// Runs the operation, then prints its answer: as JSON, or as `human` tells it.
async fn report(
    settings: &Settings,
    operation: Operation,
    json: bool,
    human: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    reported(settings, operation, json, human).await.map(|_| ())
}

/// The same, and gives what was printed.
async fn reported(
    settings: &Settings,
    operation: Operation,
    json: bool,
    human: impl FnOnce(&Value) -> String,
) -> Result<Value, Failure> {
    let bar = Bar::new();
    let answer = open::execute(settings, &operation, &bar).await;
    bar.finish();
    let answer = answer?;
    output::print(&if json { output::pretty(&answer) } else { human(&answer) })?;
    Ok(answer)
}
