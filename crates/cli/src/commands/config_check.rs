//! `treehold config-check`

use crate::failure::Failure;
use crate::output;
use crate::settings::{Settings, show};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints every key with its value, secrets hidden, and where it comes from.
pub fn run(args: &Args, settings: &Settings) -> Result<(), Failure> {
    output::print(&if args.json { output::pretty(&show::json(settings)) } else { show::lines(settings).join("\n") })
}
