//! `treehold doctor`

use serde_json::json;

use crate::doctor::{self, Finding, Level};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was looked at and what was found; what failed makes the exit status 1.
pub async fn run(args: &Args, settings: &Settings) -> Result<(), Failure> {
    let findings = doctor::examine(settings).await;
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    let text = match args.json {
        true => output::pretty(&json!({"healthy": failed == 0, "checks": findings})),
        false => findings.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    output::print(&text)?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed("one check failed: see above for what to do")),
        _ => Err(Failure::failed(format!("{failed} checks failed: see above for what to do"))),
    }
}

fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Ok => "ok  ",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let advice = finding.advice.as_ref().map(|advice| format!("\n      {}", output::clean(advice)));
    format!("{level}  {:<14}  {}{}", finding.check, output::clean(&finding.found), advice.unwrap_or_default())
}
