//! Measures the real `treehold` binary, as users run it, beside stock git on the same repository in the same run.
//!
//! A wrong outcome (bytes, oids, refs) fails the run; a time never does.

mod generate;
mod machine;
mod measure;
mod plan;
mod report;
mod server;
mod setup;
mod stock;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use treehold_tests::scratch::Scratch;

use crate::measure::Repositories;
use crate::plan::Plan;
use crate::report::Report;
use crate::setup::{Kind, Setup};

/// Measures a `treehold` binary and prints a table. README.md says what each row means.
#[derive(Debug, Parser)]
#[command(name = "treehold-bench", version)]
struct Args {
    /// A small run that ends within a minute, for CI
    #[arg(long)]
    quick: bool,
    /// The binary to measure [default: `treehold` beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Files of the generated repository [default: 5000; with --quick 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    files: Option<u32>,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of the repository and of every choice
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Measure a second time on a private Postgres and an S3 server in this process
    #[arg(long)]
    postgres_s3: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(rustls::crypto::ring::default_provider().install_default().is_ok(), "TLS was set up twice");
    let binary = binary(args.binary.as_deref())?;
    let plan = Plan::new(args.quick, args.files.map(|files| files as usize), args.seed);
    eprintln!("measuring {} with seed {}", binary.display(), plan.seed);
    // It goes away however this process ends.
    let work = Scratch::new("treehold-bench-").context("make a temporary directory")?;
    // Before signals are caught: they end a long generation at once.
    let repositories = Repositories::generate(work.path(), &plan)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    // Dropping the run stops every process that it started.
    tokio::select! {
        done = run(&args, &binary, &plan, work.path(), &repositories) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(args: &Args, binary: &Path, plan: &Plan, work: &Path, repositories: &Repositories) -> anyhow::Result<()> {
    let mut report = Report::new(binary, plan)?;
    let mut kinds = vec![Kind::Embedded];
    kinds.extend(args.postgres_s3.then_some(Kind::PostgresS3));
    for kind in kinds {
        eprintln!("== {}", kind.name());
        let setup = Setup::start(kind, binary, work, &repositories.main).await?;
        report.setups.push(measure::all(&setup, repositories, plan).await?);
    }
    print!("{}", report.table());
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("write the report as JSON")?;
        std::fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("find this program")?.with_file_name("treehold"),
    };
    let path = std::path::absolute(&path)?;
    ensure!(
        path.is_file(),
        "{} is missing: build it (cargo build --release -p treehold) or name one with --binary",
        path.display()
    );
    Ok(path)
}
