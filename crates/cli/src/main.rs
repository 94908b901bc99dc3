//! Treehold's one program: the server, and what an operator does on the command line.

mod ambient;
mod backup;
mod cache;
mod cli;
mod commands;
mod control;
mod doctor;
mod elsewhere;
mod failure;
mod faults;
mod files;
mod home;
mod lines;
mod open;
mod operation;
mod output;
mod progress;
mod quickstart;
mod serving;
mod settings;
mod stdio;
mod traces;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use cli::{Cli, Command};
use failure::Failure;
use lines::Lines;
use settings::Settings;
use traces::Exporter;

/// Threads that may block, made as they are needed. A pack on its way to a git client holds one until it is taken: there must be more of
/// them than places for those.
const BLOCKING_THREADS: usize = 16_384;

fn main() -> ExitCode {
    // Wrong usage ends here, with a sentence and status 2.
    let cli = Cli::parse();
    let verbose = cli.options.verbose;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(verbose),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    if let Command::Completions(args) = &cli.command {
        return commands::completions::run(args);
    }
    if let Command::Man(args) = &cli.command {
        return commands::man::run(args);
    }
    faults::arm()?;
    let settings = Settings::resolve(&cli.options)?;
    if let Command::ConfigCheck(args) = &cli.command {
        start_log(&settings, &cli, None)?;
        return commands::config_check::run(args, &settings);
    }
    elsewhere::check(&settings, &cli.command)?;
    // One TLS implementation in the whole program. An error here means that one is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.max_blocking_threads(BLOCKING_THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start worker threads: {error}")))?;
    // Commands end sooner than a collector answers: what they do beside a server is traced there.
    let collector = settings.traces.as_ref().filter(|_| matches!(cli.command, Command::Serve(_)));
    let exporter = collector.map(|collector| Exporter::new(collector, runtime.handle().clone())).transpose()?;
    start_log(&settings, &cli, exporter.as_ref())?;
    let outcome = runtime.block_on(async {
        if let Command::Serve(args) = cli.command {
            let served = commands::serve::run(&args, &settings).await;
            if let Some(exporter) = exporter {
                exporter.end().await;
            }
            return served;
        }
        tokio::select! {
            outcome = command(cli.command, &settings) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
        }
    });
    // What still runs in the background (a cut-off connection, a blocking read) must not hold up the exit, nor find its runtime gone: it
    // ends with the process.
    std::mem::forget(runtime);
    outcome
}

async fn command(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Quickstart(args) => commands::quickstart::run(args, settings).await,
        Command::Project(command) => commands::project::run(command, settings).await,
        Command::Token(command) => commands::token::run(command, settings).await,
        Command::Import(args) => commands::import::run(args, settings).await,
        Command::Export(args) => commands::export::run(args, settings).await,
        Command::Mcp(args) => commands::mcp::run(args, settings).await,
        Command::Admin(command) => commands::admin::run(command, settings).await,
        Command::Doctor(args) => commands::doctor::run(&args, settings).await,
        // Handled before.
        Command::Serve(_) | Command::Completions(_) | Command::Man(_) | Command::ConfigCheck(_) => Ok(()),
    }
}

/// Logs to stderr: what `log` says, else info for `serve` and warnings for the other commands. What the library of the Model Context
/// Protocol takes for an error (a client that went away, a tool that is not there) is none of ours.
/// Where traces are exported, their spans are listened to beside the log.
fn start_log(settings: &Settings, cli: &Cli, exporter: Option<&Exporter>) -> Result<(), Failure> {
    let default = match (&cli.command, cli.options.verbose) {
        (_, true) => "info,rmcp=off,treehold=debug,treehold_engine=debug,treehold_server=debug",
        (Command::Serve(_), false) => "info,rmcp=off",
        _ => "warn,rmcp=off",
    };
    let text = settings.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(text).map_err(|error| Failure::usage(format!("`log` is not a log filter: {error}")))?;
    let ansi = std::io::stderr().is_terminal();
    let to = move || Lines::new(std::io::stderr(), ansi);
    match exporter {
        // The filter is the whole program's: what is not logged costs nothing.
        None => tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(ansi).init(),
        Some(exporter) => {
            let log = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(ansi).with_filter(filter);
            tracing_subscriber::registry().with(log).with(exporter.layer()).init();
        }
    }
    Ok(())
}
