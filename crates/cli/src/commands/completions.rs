//! `treehold completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose completion script to print
    shell: Shell,
}

/// Prints the script, for the shell to read: `source <(treehold completions bash)`.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "treehold", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
