//! Every kept input through its target, in an ordinary build.

use std::path::Path;

use treehold_fuzz::{TARGETS, target};

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for directory in std::fs::read_dir(&corpus).unwrap() {
        let name = directory.unwrap().file_name().into_string().unwrap();
        assert!(target(&name).is_some(), "corpus/{name} belongs to no target");
    }
    for target in TARGETS {
        let mut count = 0;
        for file in std::fs::read_dir(corpus.join(target.name)).unwrap() {
            let path = file.unwrap().path();
            // Shown only if it fails.
            println!("{}", path.display());
            (target.run)(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "corpus/{} is empty", target.name);
    }
}

#[test]
fn targets_are_sorted_and_named_once() {
    assert!(TARGETS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn an_empty_input_is_an_input() {
    TARGETS.iter().for_each(|target| (target.run)(b""));
}
