//! `treehold man`

use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory to write a page for each command to, as treehold.1, treehold-serve.1 and so on; without it the program's own page is
    /// printed
    dir: Option<PathBuf>,
}

/// Manual pages from the same descriptions as `--help`: `treehold man | man -l -`, or `treehold man /usr/local/share/man/man1`.
pub fn run(args: &Args) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| Failure::failed(format!("cannot write the manual page: {error}")))?;
        return output::print(&String::from_utf8_lossy(&page));
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|error| Failure::failed(format!("cannot write manual pages to {}: {error}", dir.display())))
}
