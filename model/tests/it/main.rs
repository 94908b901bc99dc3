//! Both models hold, and each of their rules is needed.

mod names;

use treehold_model::check::{explore, hunt};
use treehold_model::{collection, push};

const THREADS: usize = 2;

/// Goal: no order of steps breaks an invariant, and what must be possible is.
/// Method: every state of each small instance.
#[test]
fn collection_holds() {
    for (name, instance) in collection::sizes::small() {
        let report = explore(instance, THREADS);
        println!("{name}: {report}");
        assert!(report.violations.is_empty() && report.unreached.is_empty(), "{name}: {report}");
    }
}

#[test]
fn push_holds() {
    for (name, instance) in push::sizes::small() {
        let report = explore(instance, THREADS);
        println!("{name}: {report}");
        assert!(report.violations.is_empty() && report.unreached.is_empty(), "{name}: {report}");
    }
}

/// Goal: the checker sees the harm that each rule is there against.
/// Method: leave the rule out, and nothing else.
#[test]
fn collection_needs_each_rule() {
    for mutant in collection::mutants::Mutant::ALL {
        let instance = mutant.instance();
        let report = hunt(&instance, collection::harm());
        println!("without {mutant:?}: {report}");
        assert!(!report.violations.is_empty(), "{mutant:?} does no harm");
        let whole = explore(collection::Collection { mutant: None, ..instance }, THREADS);
        assert!(whole.violations.is_empty(), "the harm of {mutant:?} is not its own: {whole}");
    }
}

/// Goal: what the mutants' doc comments call implied is, so that the list of needed rules is right.
#[test]
fn collection_has_rules_that_others_imply() {
    for mutant in collection::mutants::Mutant::HARMLESS {
        let small = collection::sizes::small().into_iter();
        for (name, instance) in small.filter(|(_, instance)| instance.repacks == [0, 0] && !instance.attempts) {
            let report = explore(collection::Collection { mutant: Some(mutant), ..instance }, THREADS);
            println!("without {mutant:?}, {name}: {report}");
            let harm = report.violations.iter().find(|violation| collection::harm().contains(&violation.property));
            assert!(harm.is_none(), "without {mutant:?}, {name}: {report}");
        }
    }
}

#[test]
fn push_needs_each_rule() {
    for mutant in push::mutants::Mutant::ALL {
        let instance = mutant.instance();
        let report = hunt(&instance, push::harm());
        println!("without {mutant:?}: {report}");
        assert!(!report.violations.is_empty(), "{mutant:?} does no harm");
        let whole = explore(push::Push { mutant: None, ..instance }, THREADS);
        assert!(whole.violations.is_empty(), "the harm of {mutant:?} is not its own: {whole}");
    }
}
