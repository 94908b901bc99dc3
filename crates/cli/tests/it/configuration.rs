//! Flags, environment, file, defaults.

use serde_json::Value;

use crate::program::{Bench, Ran};

/// Value and origin of a key.
fn option(answer: &Value, key: &str) -> (String, String) {
    let option = answer["options"].as_array().unwrap().iter().find(|option| option["key"] == key).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    (text(&option["value"]), text(&option["origin"]))
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let bench = Bench::new();
    let file = bench.path("treehold.toml");
    std::fs::write(
        &file,
        "listen = '127.0.0.1:1'\nauthor = 'F <f@x>'\nlimit_file_bytes = 11\nremote_token_file = 'token'\n",
    )
    .unwrap();
    std::fs::write(bench.path("token"), "t0ken\n").unwrap();
    let file = file.to_str().unwrap();
    let args = ["--config", file, "config-check", "--json", "--listen", "127.0.0.1:3"];
    let output =
        bench.command(&args).env("TREEHOLD_LISTEN", "127.0.0.1:2").env("TREEHOLD_LIMIT_FILE_BYTES", "12").output();
    let ran = Ran::of(output.unwrap());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    let from_file = format!("file {file}");
    for (key, value, origin) in [
        ("listen", "127.0.0.1:3", "flag --listen"),
        ("limit_file_bytes", "12", "environment TREEHOLD_LIMIT_FILE_BYTES"),
        ("author", "F <f@x>", &from_file),
        ("remote_token_file", bench.path("token").to_str().unwrap(), &from_file),
        ("allow_remote", "https://github.com/", "default"),
        ("api_key", "null", "default"),
        ("data_dir", bench.data().to_str().unwrap(), "environment TREEHOLD_DATA_DIR"),
    ] {
        assert_eq!(option(&answer, key), (value.to_owned(), origin.to_owned()), "{key}");
    }
    assert!(!bench.data().exists(), "looking at the configuration makes nothing");
}

#[test]
fn the_data_directory_has_a_default() {
    let bench = Bench::new();
    let home = bench.path("");
    let output = crate::program::bare(&["config-check", "--json"]).env("HOME", &home).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (value, origin) = option(&answer, "data_dir");
    assert!(value.starts_with(home.to_str().unwrap()) && value.ends_with("/treehold"), "{value}");
    assert_eq!(origin, "default");
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let bench = Bench::new();
    let file = bench.path("treehold.toml");
    std::fs::write(&file, "lisen = '127.0.0.1:1'\n").unwrap();
    for command in ["serve", "config-check"] {
        let message = bench.fail(2, &["--config", file.to_str().unwrap(), command]);
        assert!(message.contains("unknown key `lisen`; did you mean `listen`?"), "{message}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let bench = Bench::new();
    for json in [&["config-check", "--verbose"][..], &["config-check", "--json"]] {
        let mut command = bench.command(json);
        command
            .env("TREEHOLD_API_KEY", "k3y-one,k3y-two")
            .env("TREEHOLD_REMOTE_TOKEN", "t0ken")
            .env("TREEHOLD_DATABASE_URL", "postgres://app:pa55word@localhost/x")
            .env("TREEHOLD_LOG", "trace");
        let ran = Ran::of(command.output().unwrap());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let shown = format!("{}{}", ran.stdout, ran.stderr);
        assert!(shown.contains("hidden, 2 values") && shown.contains("app:***@localhost"), "{shown}");
        assert!(!["k3y", "t0ken", "pa55word"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    let help = Ran::of(bench.command(&["--help"]).env("TREEHOLD_API_KEY", "k3y-one").output().unwrap());
    assert!(!help.stdout.contains("k3y-one"));
}

#[test]
fn the_example_file_is_accepted() {
    let bench = Bench::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/treehold.example.toml");
    let ran = bench.run(&["--config", example, "config-check"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    // What is printed is itself a configuration file, as long as it holds no secret.
    let printed = bench.path("printed.toml");
    std::fs::write(&printed, &ran.stdout).unwrap();
    let again = bench.run(&["--config", printed.to_str().unwrap(), "config-check", "--json"]);
    assert_eq!(again.status, 0, "{}", again.stderr);
}
