//! What a command is told: flags, environment, one TOML file, defaults, in that order of precedence.

pub mod file;
mod github;
pub mod keys;
mod load;
pub mod show;
mod signing;
mod traces;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use treehold_engine::api::Scopes;
use treehold_engine::{CommitSigner, EngineConfig, FeedRetention, HistoryKeep, Limits, Secret};
use treehold_github::GitHubConfig;

use crate::failure::Failure;
use crate::traces::Collector;
use keys::Options;
pub use load::Load;

/// Between two collections, where nobody says otherwise, seconds.
const GC_INTERVAL_S: u64 = 24 * 3600;
/// How often a manifest is written where nobody says otherwise, seconds.
const MANIFEST_INTERVAL_S: u64 = 3600;

/// Where a value comes from. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in.
    Default,
    /// The file of `--config`.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// This flag.
    Flag(String),
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// The effective configuration.
#[derive(Clone)]
pub struct Settings {
    /// Absolute.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`.
    pub database_url: String,
    /// `file://…` or `s3://…`.
    pub store_url: String,
    /// Host and port.
    pub listen: String,
    /// The server elsewhere that commands work on.
    pub server: Option<String>,
    /// What is shown to it.
    pub token: Option<Secret>,
    /// Any of them opens the API.
    pub api_keys: Vec<Secret>,
    /// Each opens a part of it.
    pub scoped_keys: Vec<(Secret, Scopes)>,
    /// URL prefixes.
    pub allow_remote: Vec<String>,
    /// Credentials for remotes.
    pub remote_token: Option<Secret>,
    /// GitHub.
    pub github: GitHubConfig,
    /// What signs commits.
    pub signer: Option<Arc<CommitSigner>>,
    /// Name and e-mail address.
    pub author: (String, String),
    /// Memory for objects, if given, bytes.
    pub cache_memory: Option<u64>,
    /// Local disk for objects, if given, bytes.
    pub cache_disk: Option<u64>,
    /// Where it is, if given. Absolute.
    pub cache_dir: Option<PathBuf>,
    /// Log filter, if one was given.
    pub log: Option<String>,
    /// Who has traces, if anybody.
    pub traces: Option<Collector>,
    /// Memory for decoded trees, bytes.
    pub tree_cache_bytes: u64,
    /// Between two collections; zero: none.
    pub gc_interval: Duration,
    /// How often a manifest is written, seconds; 0 = never.
    pub manifest_interval_s: u64,
    /// How long events are kept.
    pub feed: FeedRetention,
    /// Limits.
    pub limits: Limits,
    /// How much is done at once.
    pub load: Load,
    /// For `config-check`: every key with a value, as text, and its origin.
    pub given: BTreeMap<&'static str, (String, Origin)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(show::lines(self)).finish()
    }
}

impl Settings {
    /// Resolves what was given against the file and the defaults.
    pub fn resolve(options: &Options) -> Result<Self, Failure> {
        let mut given = BTreeMap::new();
        if let Some(path) = &options.config {
            for (key, text) in file::read(path)? {
                given.insert(key.name, (text, Origin::File(path.clone())));
            }
        }
        for (key, text, flag) in &options.given {
            let origin = if *flag { Origin::Flag(key.flag()) } else { Origin::Environment(key.variable()) };
            given.insert(key.name, (text.clone(), origin));
        }
        traces::standard(&mut given, |name| std::env::var(name).ok());
        Self::from_given(given)
    }

    /// Fills in defaults and checks every value.
    pub fn from_given(mut given: BTreeMap<&'static str, (String, Origin)>) -> Result<Self, Failure> {
        let remote_token = remote_token(&mut given)?;
        let mut values = Values { given };
        let data_dir = data_dir(&mut values)?;
        let Some(dir) = data_dir.to_str() else {
            return Err(Failure::usage("the data directory's name must be UTF-8"));
        };
        let database_url = values.text("database_url", || format!("sqlite://{dir}/treehold.db"));
        check_scheme("database_url", &database_url, &["sqlite", "postgres", "postgresql"])?;
        if database_url.strip_prefix("sqlite://").is_some_and(|path| !path.starts_with('/')) {
            return Err(values.wrong("database_url", "must name the file from the root: `sqlite:///path/of/file`"));
        }
        let store_url = values.text("store_url", || format!("file://{}", escape(&format!("{dir}/store"))));
        check_scheme("store_url", &store_url, &["file", "s3"])?;
        let server = server(&values)?;
        let token = values.given.get("token").map(|(text, _)| Secret::new(text.trim().to_owned()));
        let listen = values.text("listen", || "127.0.0.1:3001".into());
        let allow_remote = values.list("allow_remote", &["https://github.com/"]);
        for prefix in &allow_remote {
            check_scheme("allow_remote", prefix, &["https", "http"])?;
        }
        let github = github::github(&mut values)?;
        let signer = signing::signer(&values)?;
        let author = author(&values.text("author", || "Treehold <treehold@localhost>".into()))?;
        let tree_cache_bytes = values.number("tree_cache_bytes", EngineConfig::TREE_CACHE_BYTES, 1 << 40)?;
        let gc_interval = Duration::from_secs(values.number_or_zero("gc_interval", GC_INTERVAL_S, 1 << 32)?);
        let manifest_interval_s = values.number_or_zero("manifest_interval", MANIFEST_INTERVAL_S, 1 << 31)?;
        let feed = feed(&mut values)?;
        let limits = limits(&mut values)?;
        let load = load::load(&mut values)?;
        let api_keys: Vec<Secret> = values.list("api_key", &[]).into_iter().map(Secret::new).collect();
        let scoped_keys = scoped_keys(&mut values, &api_keys)?;
        let cache_memory = values.optional_number("cache_memory", 1 << 44)?;
        let cache_disk = values.optional_number("cache_disk", 1 << 44)?;
        let cache_dir = cache_dir(&mut values)?;
        let traces = traces::collector(&mut values)?;
        let log = values.given.get("log").map(|(text, _)| text.clone());
        Ok(Self {
            data_dir,
            database_url,
            store_url,
            listen,
            server,
            token,
            api_keys,
            scoped_keys,
            allow_remote,
            remote_token,
            github,
            signer,
            author,
            cache_memory,
            cache_disk,
            cache_dir,
            log,
            traces,
            tree_cache_bytes,
            gc_interval,
            manifest_interval_s,
            feed,
            limits,
            load,
            given: values.given,
        })
    }

    /// The embedded database's file.
    pub fn database_file(&self) -> Option<&Path> {
        self.database_url.strip_prefix("sqlite://").map(Path::new)
    }

    /// Whether one process at a time owns the database: then commands go through a running server.
    pub fn embedded(&self) -> bool {
        self.database_file().is_some()
    }
}

/// Where commands work if not here. An empty one is none, as in the environment.
fn server(values: &Values) -> Result<Option<String>, Failure> {
    let given = values.given.get("server").map(|(text, _)| text.trim()).filter(|text| !text.is_empty());
    if let Some(url) = given {
        check_scheme("server", url, &["https", "http"])?;
    }
    Ok(given.map(str::to_owned))
}

/// Scopes joined by `+`, then `=`, then the key. No key is shown in what is wrong with it.
fn scoped_keys(values: &mut Values, whole: &[Secret]) -> Result<Vec<(Secret, Scopes)>, Failure> {
    let mut keys = Vec::new();
    for item in values.list("scoped_key", &[]) {
        let parts = item.split_once('=').filter(|(_, key)| !key.is_empty());
        let parts = parts.and_then(|(scopes, key)| Some((scopes.replace('+', ",").parse().ok()?, key)));
        let Some((scopes, key)) = parts else {
            let why = "must be SCOPES=KEY with scopes joined by `+`: files:read, files:write, pending, git:read, git:write, admin";
            return Err(values.wrong("scoped_key", why));
        };
        if whole.iter().any(|known| known.expose() == key) {
            return Err(values.wrong("scoped_key", "has a key that `api_key` has, too, which opens everything"));
        }
        keys.push((Secret::new(key.to_owned()), scopes));
    }
    Ok(keys)
}

/// Values by name; what was not given becomes its default, so that `config-check` shows it.
struct Values {
    given: BTreeMap<&'static str, (String, Origin)>,
}

impl Values {
    fn text(&mut self, name: &'static str, default: impl FnOnce() -> String) -> String {
        self.given.entry(name).or_insert_with(|| (default(), Origin::Default)).0.clone()
    }

    fn list(&mut self, name: &'static str, default: &[&str]) -> Vec<String> {
        let text = match default {
            [] => self.given.get(name).map(|(text, _)| text.clone()).unwrap_or_default(),
            _ => self.text(name, || default.join(",")),
        };
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn number(&mut self, name: &'static str, default: u64, max: u64) -> Result<u64, Failure> {
        let text = self.text(name, || default.to_string());
        match text.trim().parse::<u64>() {
            Ok(number) if (1..=max).contains(&number) => Ok(number),
            _ => Err(self.wrong(name, &format!("must be a whole number from 1 to {max}, not `{text}`"))),
        }
    }

    /// A number that may be 0, which switches off what it is for.
    fn number_or_zero(&mut self, name: &'static str, default: u64, max: u64) -> Result<u64, Failure> {
        let _shown = self.text(name, || default.to_string());
        Ok(self.optional_number(name, max)?.unwrap_or(default))
    }

    /// A number that may be 0, and has no default that holds everywhere.
    fn optional_number(&self, name: &'static str, max: u64) -> Result<Option<u64>, Failure> {
        let Some((text, _)) = self.given.get(name) else { return Ok(None) };
        match text.trim().parse::<u64>() {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => Err(self.wrong(name, &format!("must be a whole number from 0 to {max}, not `{text}`"))),
        }
    }

    /// Whether somebody chose the value.
    fn is_given(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    fn wrong(&self, name: &str, why: &str) -> Failure {
        let origin = self.given.get(name).map(|(_, origin)| format!(" ({origin})")).unwrap_or_default();
        Failure::usage(format!("`{name}`{origin} {why}"))
    }
}

fn cache_dir(values: &mut Values) -> Result<Option<PathBuf>, Failure> {
    let Some((text, _)) = values.given.get("cache_dir").cloned() else { return Ok(None) };
    if text.is_empty() {
        return Err(values.wrong("cache_dir", "must not be empty"));
    }
    let dir = std::path::absolute(&text).map_err(|error| values.wrong("cache_dir", &error.to_string()))?;
    Ok(Some(dir))
}

fn data_dir(values: &mut Values) -> Result<PathBuf, Failure> {
    if !values.given.contains_key("data_dir") {
        let dir = dirs::data_dir().ok_or_else(|| {
            Failure::usage("this account has no data directory: say with --data-dir where Treehold may keep its data")
        })?;
        let text = dir.join("treehold").to_string_lossy().into_owned();
        values.given.insert("data_dir", (text, Origin::Default));
    }
    let text = values.text("data_dir", String::new);
    if text.is_empty() {
        return Err(values.wrong("data_dir", "must not be empty"));
    }
    let dir = std::path::absolute(&text).map_err(|error| values.wrong("data_dir", &error.to_string()))?;
    if let Some(entry) = values.given.get_mut("data_dir") {
        entry.0 = dir.display().to_string();
    }
    Ok(dir)
}

/// Reads the token from its file if a file was named. Both together are refused, unless one outranks the other.
fn remote_token(given: &mut BTreeMap<&'static str, (String, Origin)>) -> Result<Option<Secret>, Failure> {
    if let (Some((_, token)), Some((_, file))) = (given.get("remote_token"), given.get("remote_token_file")) {
        match token.rank().cmp(&file.rank()) {
            std::cmp::Ordering::Greater => given.remove("remote_token_file"),
            std::cmp::Ordering::Less => given.remove("remote_token"),
            std::cmp::Ordering::Equal => {
                return Err(Failure::usage("give `remote_token` or `remote_token_file`, not both"));
            }
        };
    }
    if let Some((token, _)) = given.get("remote_token") {
        return Ok(Some(Secret::new(token.clone())));
    }
    let Some((path, origin)) = given.get("remote_token_file") else { return Ok(None) };
    let token = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("`remote_token_file` ({origin}): cannot read {path}: {error}")))?;
    match token.trim() {
        "" => Err(Failure::usage(format!("`remote_token_file` ({origin}): {path} is empty"))),
        token => Ok(Some(Secret::new(token.to_owned()))),
    }
}

fn check_scheme(name: &str, text: &str, schemes: &[&str]) -> Result<(), Failure> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some(scheme) if schemes.contains(&scheme) => Ok(()),
        // The text itself may hold a password: it is not repeated.
        _ => {
            let all: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            Err(Failure::usage(format!("`{name}` must be a URL that begins with {}", all.join(" or "))))
        }
    }
}

fn author(text: &str) -> Result<(String, String), Failure> {
    let parts = text.trim().strip_suffix('>').and_then(|rest| rest.rsplit_once('<'));
    let wrong = || Failure::usage("`author` must look like `Name <name@example.org>`");
    let (name, email) = parts.ok_or_else(wrong)?;
    let (name, email) = (name.trim(), email.trim());
    let clean = |text: &str| !text.is_empty() && !text.contains(['<', '>']) && !text.chars().any(char::is_control);
    if clean(name) && clean(email) { Ok((name.into(), email.into())) } else { Err(wrong()) }
}

fn feed(values: &mut Values) -> Result<FeedRetention, Failure> {
    let default = FeedRetention::default();
    let age_s = values.number("feed_retention", default.age.as_secs(), 1 << 32)?;
    let events = values.number("feed_events", default.events, 1 << 40)?;
    Ok(FeedRetention { age: Duration::from_secs(age_s), events })
}

fn limits(values: &mut Values) -> Result<Limits, Failure> {
    let default = Limits::default();
    let project_bytes =
        Some(values.number_or_zero("project_quota_bytes", 0, i64::MAX as u64)?).filter(|bytes| *bytes > 0);
    let mut number = |name, default, max| values.number(name, default, max);
    let mut seconds = |name, default: Duration| number(name, default.as_secs(), 1 << 31).map(Duration::from_secs);
    let history = HistoryKeep {
        all: seconds("history_all", default.history.all)?,
        hourly: seconds("history_hourly", default.history.hourly)?,
        daily: seconds("history_daily", default.history.daily)?,
    };
    Ok(Limits {
        history,
        project_bytes,
        file_bytes: number("limit_file_bytes", default.file_bytes, 2 << 30)?,
        batch_paths: number("limit_batch_paths", default.batch_paths as u64, 1_000_000)? as usize,
        commit_changes: number("limit_commit_changes", default.commit_changes as u64, 10_000_000)? as usize,
        refs: number("limit_refs", default.refs as u64, 500_000)? as usize,
        message_bytes: number("limit_message_bytes", default.message_bytes as u64, 64 << 20)? as usize,
        batch_bytes: number("limit_batch_bytes", default.batch_bytes, 1 << 30)?,
        inline_bytes: number("limit_inline_bytes", default.inline_bytes, 16 << 20)?,
        pack_bytes: number("limit_pack_bytes", default.pack_bytes, 1 << 40)?,
        pack_objects: number("limit_pack_objects", default.pack_objects, u64::from(u32::MAX))?,
        inflated_bytes: number("limit_inflated_bytes", default.inflated_bytes, 1 << 44)?,
        archive_bytes: number("limit_archive_bytes", default.archive_bytes, 1 << 44)?,
    })
}

/// Escapes what a URL's path cannot hold.
fn escape(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'%' | b'?' | b'#' | b' ' | 0..=31 | 127 => text.push_str(&format!("%{byte:02X}")),
            _ if byte.is_ascii() => text.push(byte as char),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
