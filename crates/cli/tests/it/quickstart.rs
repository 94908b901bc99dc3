//! The whole tour, as a newcomer would take it.

use crate::program::{Bench, git};

#[test]
fn the_tour_goes_through_and_leaves_nothing() {
    let bench = Bench::new();
    let temporary = bench.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let output = bench.command(&["quickstart"]).env("TMPDIR", &temporary).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    for words in
        ["POST /projects/orchard/read", "412 precondition_failed", "hook counted: 1", "git fsck --strict", " ms"]
    {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "the temporary directory is gone");
    assert!(!bench.data().exists(), "TREEHOLD_DATA_DIR of the environment is not touched");
}

#[test]
fn the_tour_in_a_directory_of_ones_own_is_kept() {
    let bench = Bench::new();
    let data = bench.path("kept");
    let args = ["quickstart", "--json", "--data-dir", data.to_str().unwrap()];
    let answer = bench.json(&args);
    assert!(answer["files"].as_u64().unwrap() >= 400 && answer["pushes"] == 1);
    assert!(answer["steps"].as_array().unwrap().iter().all(|step| step["ms"].as_f64().is_some()));
    let head = answer["head"].as_str().unwrap();
    assert_eq!(git(&data.join("quickstart/remote.git"), &["rev-parse", "main"]).trim(), head);
    let shown = bench.json(&["project", "show", "orchard", "--json", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(shown["head"].as_str(), Some(head));
    assert!(bench.fail(2, &args).contains("is not empty"));
}
