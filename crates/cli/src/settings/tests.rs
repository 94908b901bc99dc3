//! Precedence, checks and masking.

use treehold_server::RateLimits;

use super::*;

fn settings(given: &[(&'static str, &str, Origin)]) -> Result<Settings, Failure> {
    let given = given.iter().map(|(name, text, origin)| (*name, ((*text).to_owned(), origin.clone()))).collect();
    Settings::from_given(given)
}

fn file() -> Origin {
    Origin::File("treehold.toml".into())
}

fn flag() -> Origin {
    Origin::Flag("x".into())
}

fn refusal(name: &'static str, text: &str) -> String {
    let failure = settings(&[(name, text, flag())]).unwrap_err();
    assert_eq!(failure.status, 2);
    failure.message
}

const EXAMPLE: &str = include_str!("../../treehold.example.toml");

#[test]
fn the_example_file_equals_the_defaults() {
    let given = file::parse(EXAMPLE, std::path::Path::new("/")).unwrap();
    assert!(given.len() >= 10, "the example shows its keys uncommented where they have a fixed default");
    let given = given.into_iter().map(|(key, text)| (key.name, (text, file()))).collect();
    let example = Settings::from_given(given).unwrap();
    let default = Settings::from_given(BTreeMap::new()).unwrap();
    let texts = |settings: &Settings| -> Vec<(&str, String)> {
        settings.given.iter().map(|(name, (text, _))| (*name, text.clone())).collect()
    };
    assert_eq!(texts(&example), texts(&default));
}

#[test]
fn the_example_file_names_every_key_and_parses_with_all_of_them() {
    let all: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split(" = ").next().is_some_and(|name| keys::find(name).is_some()) => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let given = file::parse(&all, std::path::Path::new("/")).unwrap();
    for key in &keys::KEYS {
        assert!(given.iter().any(|(k, _)| k.name == key.name), "{} is missing from the example file", key.name);
    }
}

#[test]
fn the_store_is_a_url_and_the_database_a_path() {
    let settings = settings(&[("data_dir", "/a b/50%?#é", flag())]).unwrap();
    assert_eq!(settings.store_url, "file:///a%20b/50%25%3F%23%C3%A9/store");
    assert_eq!(settings.database_url, "sqlite:///a b/50%?#é/treehold.db");
    assert_eq!(
        url::Url::parse(&settings.store_url).unwrap().to_file_path().unwrap(),
        PathBuf::from("/a b/50%?#é/store")
    );
    assert!(settings.embedded());
}

#[test]
fn values_are_checked_by_name() {
    assert!(refusal("limit_file_bytes", "0").contains("`limit_file_bytes` (flag --x) must be a whole number from 1"));
    assert!(refusal("limit_batch_paths", "many").contains("not `many`"));
    assert!(
        refusal("max_memory_bytes", "1000000").contains("`max_memory_bytes` (flag --x) must leave at least 67108864")
    );
    assert!(refusal("project_share", "101").contains("from 1 to 100"));
    assert!(refusal("max_in_flight", "0").contains("`max_in_flight`"));
    assert!(refusal("cache_disk", "-1").contains("must be a whole number from 0 to"));
    assert!(refusal("cache_memory", "1 GB").contains("not `1 GB`"));
    assert!(refusal("cache_dir", "").contains("`cache_dir`"));
    assert!(refusal("author", "nobody").contains("Name <name@example.org>"));
    assert!(refusal("author", "A <b\nc>").contains("`author`"));
    assert!(refusal("database_url", "mysql://u:hunter2@h/x").contains("`database_url` must be a URL"));
    assert!(!refusal("database_url", "mysql://u:hunter2@h/x").contains("hunter2"));
    assert!(refusal("store_url", "/var/lib").contains("file:// or s3://"));
    assert!(refusal("allow_remote", "github.com/").contains("`allow_remote`"));
    assert!(refusal("data_dir", "").contains("`data_dir`"));
    assert!(refusal("remote_token_file", "/nonexistent/token").contains("cannot read /nonexistent/token"));
}

#[test]
fn load_is_what_was_given_and_shown_where_it_was_not() {
    let settings =
        settings(&[("max_in_flight", "7", flag()), ("project_share", "100", file()), ("max_exports", "1", flag())])
            .unwrap();
    assert_eq!(settings.load.json_bytes, 256 << 20);
    let admission = &settings.load.admission;
    assert_eq!((admission.light.places, admission.bulk.places, admission.project_share), (7, 1, 100));
    assert_eq!(settings.given["max_commits"], (admission.commit.places.to_string(), Origin::Default));
    assert!((16..=64).contains(&settings.load.database_connections));
}

#[test]
fn keys_may_have_scopes() {
    let given = [("scoped_key", "files:read+pending=a=b:c, admin=d", flag()), ("api_key", "e", flag())];
    let keys = settings(&given).unwrap().scoped_keys;
    let keys: Vec<_> = keys.iter().map(|(key, scopes)| (key.expose(), scopes.to_string())).collect();
    assert_eq!(keys, [("a=b:c", "files:read,pending".to_owned()), ("d", "admin".to_owned())]);
    for wrong in ["hunter2", "files:read=", "=hunter2", "files=hunter2", "files:read+=hunter2"] {
        let refusal = refusal("scoped_key", wrong);
        assert!(refusal.contains("must be SCOPES=KEY") && !refusal.contains("hunter2"), "{refusal}");
    }
    let twice = settings(&[("scoped_key", "admin=e", flag()), ("api_key", "e", flag())]).unwrap_err().message;
    assert!(twice.contains("`api_key` has, too"), "{twice}");
}

#[test]
fn rates_count_where_they_are_on() {
    let rates = |given: &[(&'static str, &str, Origin)]| settings(given).unwrap().load.rates;
    assert_eq!(rates(&[("rate_writes", "7", flag())]), RateLimits::OFF);
    assert_eq!(rates(&[("rate_limits", "on", file())]), RateLimits::ON);
    let some = rates(&[("rate_limits", "on", file()), ("rate_writes", "0", flag()), ("rate_syncs", "3", flag())]);
    assert_eq!(some, RateLimits { writes: 0, syncs: 3, ..RateLimits::ON });
    assert!(refusal("rate_limits", "yes").contains("must be `on` or `off`"));
    assert!(refusal("rate_reads", "-1").contains("must be a whole number from 0"));
}

#[test]
fn what_serve_does_by_itself_can_be_switched_off() {
    let settings = settings(&[("gc_interval", "0", flag()), ("manifest_interval", "0", file())]).unwrap();
    assert_eq!((settings.gc_interval, settings.manifest_interval_s), (Duration::ZERO, 0));
    let shown = show::lines(&settings);
    for (name, origin) in [("gc_interval", "flag --x"), ("manifest_interval", "file treehold.toml")] {
        let line = shown.iter().find(|line| line.starts_with(&format!("{name} = 0 "))).unwrap();
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
    assert!(refusal("gc_interval", "-1").contains("must be a whole number from 0"));
}

#[test]
fn what_leaves_too_little_memory_is_named() {
    let refusal = |given: &[(&'static str, &str, Origin)]| settings(given).unwrap_err().message;
    let share = refusal(&[("project_share", "1", flag())]);
    assert!(share.starts_with("`project_share` (") && share.contains("`max_memory_bytes` is "), "{share}");
    for given in [
        &[("max_memory_bytes", "1000000", flag())][..],
        &[("max_memory_bytes", "100000000", file()), ("project_share", "2", file())],
    ] {
        assert!(refusal(given).starts_with("`max_memory_bytes` ("), "{given:?}");
    }
}

#[test]
fn a_token_or_its_file_but_the_stronger_origin_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "from-file\n").unwrap();
    let path = path.to_str().unwrap();
    let token = |given: &[(&'static str, &str, Origin)]| {
        settings(given).map(|settings| settings.remote_token.map(|secret| secret.expose().to_owned()))
    };
    assert_eq!(token(&[("remote_token_file", path, file())]).unwrap().as_deref(), Some("from-file"));
    let both = |token: Origin, path_origin: Origin| {
        [("remote_token", "direct", token), ("remote_token_file", path, path_origin)]
    };
    assert_eq!(token(&both(flag(), file())).unwrap().as_deref(), Some("direct"));
    assert_eq!(token(&both(file(), flag())).unwrap().as_deref(), Some("from-file"));
    assert!(token(&both(file(), file())).unwrap_err().message.contains("not both"));
}

#[test]
fn nothing_secret_is_shown() {
    let settings = settings(&[
        ("api_key", "k3y-one, k3y-two", flag()),
        ("remote_token", "t0ken", flag()),
        ("database_url", "postgres://app:pa55@db/treehold?sslkey=h1dden&application_name=x", flag()),
    ])
    .unwrap();
    assert_eq!(settings.api_keys.len(), 2);
    let shown = format!("{}\n{}\n{settings:?}", show::lines(&settings).join("\n"), show::json(&settings));
    for secret in ["k3y", "t0ken", "pa55", "h1dden"] {
        assert!(!shown.contains(secret), "{secret} is shown in {shown}");
    }
    assert!(shown.contains("(hidden, 2 values)") && shown.contains("application_name=x"), "{shown}");
}
