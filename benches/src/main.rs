//! Measures the real `treehold` binary, as users run it, beside what they would use instead, on the same data in the same run.
//!
//! A wrong outcome (bytes, oids, refs) fails the run; a time never does.

mod generate;
mod machine;
mod measure;
mod peers;
mod plan;
mod proxy;
mod report;
mod server;
mod setup;
mod subjects;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use treehold_tests::scratch::Scratch;

use crate::generate::Text;
use crate::plan::{Plan, Scenario};
use crate::report::Report;
use crate::setup::{Kind, Setup};
use crate::subjects::{Extras, Subject};

/// Measures a `treehold` binary and prints a table. README.md says what each row means.
#[derive(Debug, Parser)]
#[command(name = "treehold-bench", version)]
struct Args {
    /// A small run of everything, in both set-ups, that ends within 3 minutes, for CI
    #[arg(long)]
    quick: bool,
    /// The binary to measure [default: `treehold` beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Measure on this repository, on the branch that its HEAD names; several times: on each
    #[arg(long, value_name = "PATH|URL")]
    repository: Vec<String>,
    /// Measure on a repository of N files that is made out of real text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    monorepo: Option<u32>,
    /// Where that text is: a directory or a bare repository [default: cargo's sources, or this checkout]
    #[arg(long, value_name = "PATH")]
    text: Option<PathBuf>,
    /// Without both: files of a repository that is made out of invented text [default: 5000; with --quick 300]
    #[arg(long, value_name = "N", conflicts_with_all = ["repository", "monorepo"],
          value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    files: Option<u32>,
    /// Commits after the first in made repositories [default: 20; with --quick 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    history: Option<u32>,
    /// Files of the large repository in which commits are compared with those in a small one [default: 500000; with --quick 600]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=2_000_000))]
    scale: Option<u32>,
    /// Forks in one store [default: 100; with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    forks: Option<u32>,
    /// Blobs of garbage that fill up the ledger that is collected [default: 1000000; with --quick 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    ledger: Option<u64>,
    /// Measure only these
    #[arg(long, value_name = "SCENARIO", value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Seed of the repositories and of every choice
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Measure a second time on a private Postgres and an S3 server in this process, behind the proxy
    #[arg(long)]
    postgres_s3: bool,
    /// What the proxy lets every S3 call wait, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    s3_latency_ms: u64,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    fn plan(&self) -> Plan {
        let plan = Plan::new(self.quick, self.seed);
        let or = |given: Option<u32>, default: usize| given.map_or(default, |given| given as usize);
        let [few, many] = plan.scale;
        let many = or(self.scale, many);
        let [forks, forked] = plan.forks;
        Plan {
            only: self.only.clone(),
            s3_latency: Duration::from_millis(self.s3_latency_ms),
            files: or(self.files, plan.files),
            history: or(self.history, plan.history),
            scale: [few.min(many), many],
            forks: [or(self.forks, forks), forked],
            ledger: self.ledger.unwrap_or(plan.ledger),
            ..plan
        }
    }

    fn text(&self) -> anyhow::Result<Text> {
        match (&self.text, self.monorepo) {
            (Some(path), _) => Text::at(path),
            (None, Some(_)) => Text::found(),
            (None, None) => Ok(Text::invented()),
        }
    }

    fn subjects(&self, plan: &Plan, text: &Text, work: &Path) -> anyhow::Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for (number, source) in self.repository.iter().enumerate() {
            subjects.push(Subject::given(source, &work.join(format!("given-{number}.git")))?);
        }
        if let Some(files) = self.monorepo {
            subjects.push(Subject::made("monorepo", files as usize, plan, text, &work.join("monorepo.git"))?);
        }
        if subjects.is_empty() {
            subjects.push(Subject::made("made", plan.files, plan, text, &work.join("made.git"))?);
        }
        Ok(subjects)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(rustls::crypto::ring::default_provider().install_default().is_ok(), "TLS was set up twice");
    let binary = binary(args.binary.as_deref())?;
    let plan = args.plan();
    eprintln!("measuring {} with seed {}", binary.display(), plan.seed);
    // It goes away however this process ends.
    let work = Scratch::new("treehold-bench-").context("make a temporary directory")?;
    // Before signals are caught: they end a long generation at once.
    let text = args.text()?;
    let subjects = args.subjects(&plan, &text, work.path())?;
    let extras = Extras::make(&plan, &text, work.path())?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut report = Report::new(&binary, &plan, &text.about)?;
    // Dropping the run stops every process that it started.
    tokio::select! {
        done = run(&args, &plan, work.path(), &text, &subjects, &extras, &mut report) => done?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
    write(&args, &report)
}

async fn run(
    args: &Args,
    plan: &Plan,
    work: &Path,
    text: &Text,
    subjects: &[Subject],
    extras: &Extras,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut kinds = vec![Kind::Embedded];
    kinds.extend((args.postgres_s3 || args.quick).then_some(Kind::PostgresS3));
    for (number, subject) in subjects.iter().enumerate() {
        for &kind in &kinds {
            eprintln!("== {}, {}", kind.name(), subject.name);
            let setup = Setup::start(kind, &report.binary, work, &subject.repo, plan.s3_latency).await?;
            let extras = (number == 0).then_some(extras);
            report.sheets.push(measure::all(&setup, subject, extras, plan, text).await?);
        }
    }
    Ok(())
}

fn write(args: &Args, report: &Report) -> anyhow::Result<()> {
    print!("{}", report.table());
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("write the report as JSON")?;
        std::fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &args.html {
        std::fs::write(file, report.html()?).with_context(|| format!("write {}", file.display()))?;
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
