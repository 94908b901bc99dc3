//! `treehold-model [collection|push] [--size small|full] [--only TEXT] [--mutant NAME|all] [--threads N] [--list]`: looks through the
//! instances of a model and prints what it finds, or the nearest harm that a mutant does. Ends with 1 where an invariant is violated, or
//! a mutant does no harm.

use std::fmt::Debug;
use std::process::ExitCode;

use treehold_model::check::{Report, explore, hunt};
use treehold_model::{collection, push};

const USAGE: &str = "usage: treehold-model [collection|push] [--size small|full] [--only TEXT] [--mutant NAME|all] [--threads N] [--list]";

/// What is asked for.
struct Asked {
    collection: bool,
    push: bool,
    full: bool,
    /// What an instance's name must hold.
    only: String,
    mutant: Option<String>,
    threads: usize,
    list: bool,
}

fn main() -> ExitCode {
    let Some(asked) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut good = true;
    if asked.collection {
        good &= run_collection(&asked);
    }
    if asked.push {
        good &= run_push(&asked);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Asked> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let only = String::new();
    let mut asked = Asked { collection: false, push: false, full: false, only, mutant: None, threads, list: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "collection" => asked.collection = true,
            "push" => asked.push = true,
            "--list" => asked.list = true,
            "--only" => asked.only = words.next()?,
            "--mutant" => asked.mutant = Some(words.next()?),
            "--threads" => asked.threads = words.next()?.parse().ok()?,
            "--size" => match words.next()?.as_str() {
                "small" => asked.full = false,
                "full" => asked.full = true,
                _ => return None,
            },
            _ => return None,
        }
    }
    if !asked.collection && !asked.push {
        (asked.collection, asked.push) = (true, true);
    }
    Some(asked)
}

fn run_collection(asked: &Asked) -> bool {
    let instances = if asked.full { collection::sizes::full() } else { collection::sizes::small() };
    let mutants = collection::mutants::Mutant::ALL;
    let hunted = |mutant: collection::mutants::Mutant| hunt(&mutant.instance(), collection::harm());
    run("collection", asked, instances, &mutants, hunted, explore)
}

fn run_push(asked: &Asked) -> bool {
    let instances = if asked.full { push::sizes::full() } else { push::sizes::small() };
    let mutants = push::mutants::Mutant::ALL;
    let hunted = |mutant: push::mutants::Mutant| hunt(&mutant.instance(), push::harm());
    run("push", asked, instances, &mutants, hunted, explore)
}

/// Lists, hunts mutants or explores instances. `true`: everything is as it should be.
fn run<M: Debug, U: Debug + Copy>(
    name: &str,
    asked: &Asked,
    instances: Vec<(&'static str, M)>,
    mutants: &[U],
    hunted: impl Fn(U) -> Report,
    explored: impl Fn(M, usize) -> Report,
) -> bool {
    let mut good = true;
    if asked.list {
        for (instance, model) in &instances {
            println!("{name}: {instance}: {model:?}");
        }
        for mutant in mutants {
            println!("{name}: mutant {mutant:?}");
        }
        return true;
    }
    if let Some(wanted) = &asked.mutant {
        let chosen = mutants.iter().copied().filter(|mutant| wanted == "all" || format!("{mutant:?}") == *wanted);
        for mutant in chosen {
            let report = hunted(mutant);
            println!("{name} without {mutant:?}: {report}");
            good &= !report.violations.is_empty();
        }
        return good;
    }
    for (instance, model) in instances.into_iter().filter(|(instance, _)| instance.contains(&asked.only)) {
        let report = explored(model, asked.threads);
        println!("{name}, {instance}: {report}");
        good &= report.violations.is_empty() && report.unreached.is_empty();
    }
    good
}
