//! The table of options. One row makes the flag, the environment variable, the key of the file and the line of
//! `config-check`, so that the four cannot disagree.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path; in the file relative to the file's directory.
    Path,
    /// Several texts: separated by commas, or an array in the file.
    List,
    /// A whole number.
    Number,
    /// A number that need not be whole.
    Ratio,
}

/// One option.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file; with dashes it is the flag, in capitals after `TREEHOLD_` the environment variable.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Never shown.
    pub secret: bool,
    /// Placeholder in the help.
    pub value: &'static str,
    /// Help.
    pub help: &'static str,
}

impl Key {
    /// The flag, without the two dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("TREEHOLD_{}", self.name.to_ascii_uppercase())
    }
}

const fn key(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Key {
    Key { name, kind, secret: false, value, help }
}

const fn secret(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Key {
    Key { name, kind, secret: true, value, help }
}

/// Every option, in the order of the example file.
pub static KEYS: [Key; 59] = [
    key("data_dir", Kind::Path, "DIR", "Where the embedded store, the database and spools live"),
    key("database_url", Kind::Text, "URL", "postgres://… or sqlite://FILE [default: SQLite in the data directory]"),
    key("store_url", Kind::Text, "URL", "s3://BUCKET/PREFIX?… or file://DIR [default: `store` in the data directory]"),
    key("listen", Kind::Text, "ADDR", "Address that `serve` listens on; port 0 = any [default: 127.0.0.1:3001]"),
    key(
        "server",
        Kind::Text,
        "URL",
        "Work on the server at this URL, instead of on this machine; needs `token` or `api_key`",
    ),
    secret("token", Kind::Text, "TOKEN", "What to show that server; else the first of `api_key`"),
    secret("api_key", Kind::List, "KEY,…", "Keys that callers send as X-Internal-API-Key; several for rotation"),
    secret("scoped_key", Kind::List, "SCOPES=KEY,…", "Keys for a part of it, such as `files:read+pending=KEY`"),
    key("allow_remote", Kind::List, "PREFIX,…", "URL prefixes that projects may use [default: https://github.com/]"),
    secret("remote_token", Kind::Text, "TOKEN", "Credentials for remotes where a request brings none"),
    key("remote_token_file", Kind::Path, "FILE", "The same, read from a file"),
    key(
        "github_app_id",
        Kind::Text,
        "ID",
        "GitHub App (its id or client id) whose tokens are used for remotes on GitHub",
    ),
    key("github_app_key_file", Kind::Path, "FILE", "The App's private key, PEM"),
    key("github_api_url", Kind::Text, "URL", "GitHub's REST API; https://HOST/api/v3 for an Enterprise server"),
    secret("github_webhook_secret", Kind::Text, "SECRET", "What GitHub signs webhooks with; without it none are taken"),
    key(
        "signing_key_file",
        Kind::Path,
        "FILE",
        "Ed25519 key of OpenSSH, without passphrase, that signs the commits made here",
    ),
    key("signing_committer", Kind::Text, "NAME <EMAIL>", "Committer of signed commits [default: their author]"),
    key(
        "author",
        Kind::Text,
        "NAME <EMAIL>",
        "Author of commits that name none [default: Treehold <treehold@localhost>]",
    ),
    key("cache_memory", Kind::Number, "N", "Memory for objects, bytes; 0 = none [default: 1/16 of what may be used]"),
    key(
        "cache_disk",
        Kind::Number,
        "N",
        "Local disk for objects of an S3 store, bytes; 0 = none [default: 1/10 of what is free, at most 10 GiB]",
    ),
    key(
        "cache_dir",
        Kind::Path,
        "DIR",
        "Where it is; may be lost at any time [default: `cache` in the data directory]",
    ),
    key("log", Kind::Text, "FILTER", "What is logged to stderr, such as `info` or `treehold_engine=debug`"),
    key("otlp_endpoint", Kind::Text, "URL", "OpenTelemetry collector (OTLP over HTTP) that `serve` sends traces to"),
    key("trace_sample", Kind::Ratio, "RATIO", "Part of the traces begun here that is recorded, 0 to 1 [default: 1]"),
    key("max_in_flight", Kind::Number, "N", "Reads and autosaves at work at once [default: 64 a core]"),
    key("max_batch_reads", Kind::Number, "N", "Batch reads and diffs at work at once [default: 4 a core, at least 8]"),
    key("max_commits", Kind::Number, "N", "Commits, syncs and pushes at work at once [default: 8 a core, at least 16]"),
    key(
        "max_clones",
        Kind::Number,
        "N",
        "Packs on their way to git clients at once [default: 64 a core, at least 128]",
    ),
    key(
        "max_exports",
        Kind::Number,
        "N",
        "Archives, bundles and very large reads at once [default: 2 a core, at least 4]",
    ),
    key("max_watchers", Kind::Number, "N", "Readers of change feeds at once [default: 4096]"),
    key(
        "max_memory_bytes",
        Kind::Number,
        "N",
        "Memory for bodies and answers [default: 256 MiB a core, at least 1 GiB]",
    ),
    key("project_share", Kind::Number, "PERCENT", "What one project alone may take of each of these [default: 50]"),
    key("rate_limits", Kind::Text, "on|off", "Whether requests a minute are limited [default: off]"),
    key("rate_reads", Kind::Number, "N", "Reads a minute of one user in one project; 0 = any number [default: 100]"),
    key("rate_writes", Kind::Number, "N", "Writes a minute of one user in one project; 0 = any number [default: 20]"),
    key("rate_syncs", Kind::Number, "N", "Syncs a minute of one project; 0 = any number [default: 10]"),
    key("max_connections", Kind::Number, "N", "HTTP connections at once; more wait [default: 8192]"),
    key("database_connections", Kind::Number, "N", "Connections to Postgres [default: 4 a core, from 16 to 64]"),
    key("manifest_interval", Kind::Number, "SECONDS", "How often `serve` writes a manifest; 0 = never [default: 3600]"),
    key("history_all", Kind::Number, "SECONDS", "How long every replaced version of a pending file stays"),
    key("history_hourly", Kind::Number, "SECONDS", "How long the newest one of each hour stays"),
    key("history_daily", Kind::Number, "SECONDS", "How long the newest one of each day stays; older ones go"),
    key("tree_cache_bytes", Kind::Number, "N", "Memory for decoded trees, bytes"),
    key("feed_retention", Kind::Number, "SECONDS", "How long events of change feeds are kept [default: 604800]"),
    key("feed_events", Kind::Number, "N", "Most events kept of one project [default: 100000]"),
    key("gc_interval", Kind::Number, "N", "Seconds between two collections by `serve`; 0 = none [default: 86400]"),
    key("limit_file_bytes", Kind::Number, "N", "Largest file, bytes"),
    key("limit_json_bytes", Kind::Number, "N", "Largest request in JSON that carries files, bytes"),
    key("limit_batch_paths", Kind::Number, "N", "Most paths of one batch"),
    key("limit_batch_bytes", Kind::Number, "N", "Content of one answer of a batch read, bytes"),
    key("limit_commit_changes", Kind::Number, "N", "Most changes of one commit"),
    key("limit_refs", Kind::Number, "N", "Most refs of a project"),
    key("limit_message_bytes", Kind::Number, "N", "Longest commit message, bytes"),
    key("limit_inline_bytes", Kind::Number, "N", "Pending content up to this size is kept in the database, bytes"),
    key("limit_pack_bytes", Kind::Number, "N", "Largest received pack, bytes"),
    key("limit_pack_objects", Kind::Number, "N", "Most objects of a received pack"),
    key("limit_inflated_bytes", Kind::Number, "N", "All objects of a received pack, inflated, bytes"),
    key("limit_archive_bytes", Kind::Number, "N", "Largest archive, and all content in it, bytes"),
    key(
        "project_quota_bytes",
        Kind::Number,
        "N",
        "What a project may hold that has no quota of its own; 0 = any number [default: 0]",
    ),
];

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Flags and variables of all keys, made once: clap keeps them for the life of the process.
static FLAGS: LazyLock<Vec<Arg>> = LazyLock::new(|| KEYS.iter().map(argument).collect());

fn argument(key: &'static Key) -> Arg {
    let limit = ["limit_", "max_", "rate_"].iter().any(|prefix| key.name.starts_with(prefix))
        || key.name.starts_with("project_");
    Arg::new(key.name)
        .long(key.flag())
        .env(key.variable())
        .value_name(key.value)
        .help(key.help)
        .help_heading(if limit { "Limits" } else { "Options of every command" })
        .hide_short_help(limit)
        .hide_env_values(true)
        .global(true)
        .action(ArgAction::Set)
}

/// What flags and environment gave: the texts, and where each comes from.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Key, text, and whether a flag (else the environment) gave it.
    pub given: Vec<(&'static Key, String, bool)>,
    /// The file of `--config`.
    pub config: Option<std::path::PathBuf>,
    /// Whether errors are shown with their causes.
    pub verbose: bool,
}

impl clap::Args for Options {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .env("TREEHOLD_CONFIG")
            .hide_env_values(true)
            .value_name("FILE")
            .help("Read options from this TOML file; flags and environment win over it")
            .help_heading("Options of every command")
            .value_parser(clap::value_parser!(std::path::PathBuf))
            .global(true);
        let verbose = Arg::new("verbose")
            .long("verbose")
            .short('v')
            .help("Show the causes of an error, and log more")
            .help_heading("Options of every command")
            .action(ArgAction::SetTrue)
            .global(true);
        command.args([config, verbose]).args(FLAGS.iter())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        use clap::parser::ValueSource;
        let mut options = Options {
            config: matches
                .get_one::<std::path::PathBuf>("config")
                .filter(|path| !path.as_os_str().is_empty())
                .cloned(),
            verbose: matches.get_flag("verbose"),
            given: Vec::new(),
        };
        for key in &KEYS {
            let Some(text) = matches.get_one::<String>(key.name) else { continue };
            let flag = matches.value_source(key.name) == Some(ValueSource::CommandLine);
            // `TREEHOLD_API_KEY=` in a compose file means "not set", not "the empty key".
            if flag || !text.is_empty() {
                options.given.push((key, text.clone(), flag));
            }
        }
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
