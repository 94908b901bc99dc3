//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{admin, completions, doctor, export, import, man, mcp, project, quickstart, serve, token};
use crate::settings::keys::Options;

/// A git-native store: projects are git repositories without a clone, edits are kept before they are committed, and a
/// commit leaves for its remote as one push.
#[derive(Debug, Parser)]
#[command(name = "treehold", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed or found damage, 2 wrong usage. Start with `treehold quickstart`."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the HTTP API
    Serve(serve::Args),
    /// Show the main job end to end on the embedded default, with real timings
    Quickstart(quickstart::Args),
    /// Create, list, show, change or delete projects
    #[command(subcommand)]
    Project(project::Command),
    /// Make, list or revoke tokens, which let git clients, devices and agents into one project
    #[command(subcommand)]
    Token(token::Command),
    /// Fetch a repository (a URL or a local path) into a project
    Import(import::Args),
    /// Write a project out as a bare repository or a git bundle
    Export(export::Args),
    /// Serve a project's files to an AI agent (Model Context Protocol) on stdin and stdout
    Mcp(mcp::Args),
    /// Look after the database and the store
    #[command(subcommand)]
    Admin(admin::Command),
    /// Look at configuration, data directory, database, store and server, and say what to do about what is wrong
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page, or write one for each command
    Man(man::Args),
    /// Show the configuration that is in force, and where each value comes from
    ConfigCheck(crate::commands::config_check::Args),
}
