//! What answers: a running server, the database, the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use treehold_catalog::{Catalog, PostgresOptions};
use treehold_engine::{Ambient as _, STORE_ID_KEY, store_id_in};
use treehold_store::{Bucket, Payload, StoreError, StoreUrl, Versioning};
use uuid::Uuid;

use super::{Finding, local};
use crate::ambient::Host;
use crate::control::client;
use crate::home::Home;
use crate::open;
use crate::settings::Settings;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer of `/readyz` that is read, bytes.
const ANSWER_BYTES: usize = 64 << 10;
/// Clocks that differ by more are worth a warning, milliseconds.
const CLOCK_OFFSET_MS: i64 = 5_000;

/// What is known of a running server.
pub(super) struct Served {
    pub(super) finding: Finding,
    /// A server of this data directory is at work, which alone may open the embedded database.
    pub(super) at_work: bool,
}

/// Asks `/readyz` where a server with these settings listens.
pub(super) async fn server(settings: &Settings) -> Served {
    let check = "server";
    let listen = &settings.listen;
    let at_work = settings.embedded() && listening(settings).await;
    let finding = match timeout(PATIENCE, ready(listen)).await {
        Ok(Ok((200, _))) => Finding::ok(check, format!("one answers at {listen}, and is ready")),
        Ok(Ok((status @ (503 | 504), body))) => Finding::fail(
            check,
            format!("one answers at {listen}, and is not ready ({status}): {}", detail(&body)),
            "look at its log, and at what is found below",
        ),
        Ok(Ok((status, _))) => Finding::warn(
            check,
            format!("what answers at {listen} answers /readyz with {status}"),
            "another program may listen there: choose another address with --listen",
        ),
        Ok(Err(_)) if at_work => {
            Finding::ok(check, format!("one is at work on this data directory, at another address than {listen}"))
        }
        Ok(Err(_)) => Finding::ok(check, format!("none answers at {listen}")),
        Err(_) => Finding::fail(
            check,
            format!("what listens at {listen} does not answer"),
            "look at its log; restart it if it hangs",
        ),
    };
    Served { finding, at_work }
}

/// Whether a server's control socket is there and taken.
async fn listening(settings: &Settings) -> bool {
    if !settings.data_dir.is_dir() {
        return false;
    }
    match Home::open(&settings.data_dir) {
        Ok(home) => matches!(client::connect(&home).await, Ok(Some(_))),
        Err(_) => false,
    }
}

async fn ready(listen: &str) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(listen).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/readyz").header("host", listen).body(Full::<Bytes>::default())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

/// The sentence of a problem.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    problem
        .and_then(|problem| Some(problem["detail"].as_str()?.to_owned()))
        .unwrap_or_else(|| "no reason is given".to_owned())
}

/// Reachable, of which schema, with which clock.
pub(super) async fn database(settings: &Settings, at_work: bool) -> Vec<Finding> {
    let check = "database";
    if at_work {
        return vec![Finding::ok(check, "the server at work has it, and speaks for it")];
    }
    let absent = settings.database_file().filter(|file| !file.exists());
    if let Some(file) = absent {
        return vec![absent_database(settings, file)];
    }
    // Held as long as it is looked at.
    let _locks = match Home::open(&settings.data_dir).and_then(|home| open::own(settings, &home)) {
        Ok(Some(locks)) => locks,
        Ok(None) => {
            return vec![Finding::warn(check, "another command has it", "wait until that has ended, and look again")];
        }
        Err(failure) => {
            return vec![Finding::fail(check, failure.message, "run as the user that owns the data directory")];
        }
    };
    let options = PostgresOptions { connections_max: 2, ..PostgresOptions::default() };
    let opened = timeout(PATIENCE, treehold_catalog::open_catalog_with(&settings.database_url, options)).await;
    let unreachable = |why: String| {
        Finding::fail(
            check,
            format!("it cannot be opened: {why}"),
            "check --database-url, and that the database runs and lets this host in",
        )
    };
    let catalog = match opened {
        Ok(Ok(catalog)) => catalog,
        Ok(Err(error)) => return vec![unreachable(error.to_string())],
        Err(_) => return vec![unreachable("it does not answer".to_owned())],
    };
    let known = catalog.schema_known();
    let schema = match timeout(PATIENCE, catalog.schema_version()).await {
        Err(_) => return vec![unreachable("it does not answer".to_owned())],
        Ok(Err(error)) => return vec![unreachable(error.to_string())],
        Ok(Ok(0)) => Finding::warn(
            check,
            "it answers, and has no schema yet",
            "`serve` makes it, or `treehold admin migrate` before",
        ),
        Ok(Ok(version)) if version < known => Finding::warn(
            check,
            format!("it answers; its schema is {version}, this program's {known}"),
            "`serve` brings it up to date",
        ),
        Ok(Ok(version)) if version > known => Finding::warn(
            check,
            format!("it answers; its schema is {version}, newer than this program's {known}"),
            "bring all servers to one release",
        ),
        Ok(Ok(version)) => Finding::ok(check, format!("it answers; its schema is {version}, as it should be")),
    };
    let clock = match timeout(PATIENCE, catalog.clock_ms()).await {
        // Its clock is this one.
        Ok(Ok(None)) => None,
        Ok(Ok(Some(theirs))) => Some(clock(Host.now_ms().saturating_sub(theirs))),
        _ => Some(Finding::warn("clock", "the database's cannot be read", "look again")),
    };
    let (durable, tied) = (durable(&*catalog).await, tied(settings, &*catalog).await);
    [Some(schema), clock, durable, tied].into_iter().flatten().collect()
}

/// Whether the database keeps what it has answered. `None`: it does, or it does not answer, which is told elsewhere.
async fn durable(catalog: &dyn Catalog) -> Option<Finding> {
    let off = timeout(PATIENCE, catalog.unsafe_settings()).await.ok()?.ok()?;
    let off = Some(off.join(" and ")).filter(|off| !off.is_empty())?;
    Some(Finding::warn(
        "durability",
        format!("the database server has {off} turned off: a power cut takes what was answered, or damages it"),
        "turn it on (full_page_writes may be off where the file system never writes half a page)",
    ))
}

/// Whether database and store are each other's. `None`: one of them does not say so yet, or does not answer, which is told elsewhere.
async fn tied(settings: &Settings, catalog: &dyn Catalog) -> Option<Finding> {
    let check = "store id";
    let ours = timeout(PATIENCE, catalog.store_id()).await.ok()?.ok()??;
    let value = match settings.store_url.parse::<StoreUrl>().ok()? {
        StoreUrl::Directory(root) => std::fs::read(root.join(STORE_ID_KEY)).ok()?,
        StoreUrl::S3(options) => {
            let bucket = treehold_store::S3Bucket::connect(options).await;
            timeout(PATIENCE, bucket.get(STORE_ID_KEY, None)).await.ok()?.ok()??.to_vec()
        }
        StoreUrl::Memory => return None,
    };
    Some(match store_id_in(&value) {
        Some(theirs) if theirs == ours => Finding::ok(check, "database and store are each other's"),
        Some(theirs) => Finding::fail(
            check,
            format!("the database is of the store {ours}, the store says {theirs}"),
            "check --store-url and --database-url; if both are right, see `foreign_store` in docs/operations.md",
        ),
        None => Finding::fail(
            check,
            format!("{STORE_ID_KEY} in the store is damaged"),
            "delete it: the next start writes it again if the store is the database's",
        ),
    })
}

/// A start makes the file, and its directory only if that is the data directory.
fn absent_database(settings: &Settings, file: &Path) -> Finding {
    let check = "database";
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir != settings.data_dir && !dir.is_dir() {
        let found = format!("{} is not there, and no start makes its directory", file.display());
        return Finding::fail(check, found, "make the directory, or name another with --database-url");
    }
    local::absent(check, file, "--data-dir and --database-url")
}

fn clock(ahead_ms: i64) -> Finding {
    let check = "clock";
    match ahead_ms.abs() > CLOCK_OFFSET_MS {
        true => {
            Finding::warn(check, format!("this one is {ahead_ms} ms ahead of the database's"), "keep both with NTP")
        }
        false => Finding::ok(check, format!("this one and the database's agree within {CLOCK_OFFSET_MS} ms")),
    }
}

/// What is written there is there, can be found, and goes.
pub(super) async fn store(settings: &Settings) -> Vec<Finding> {
    let check = "store";
    match settings.store_url.parse() {
        Ok(StoreUrl::Directory(root)) => vec![directory(root)],
        Ok(StoreUrl::S3(options)) => {
            let bucket = treehold_store::S3Bucket::connect(options).await;
            match timeout(PATIENCE, try_out(&bucket)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => {
                    return vec![Finding::fail(
                        check,
                        why,
                        "check --store-url, the credentials and what they allow: put, get, list, delete",
                    )];
                }
                Err(_) => {
                    return vec![Finding::fail(
                        check,
                        "the bucket does not answer",
                        "check --store-url and the network",
                    )];
                }
            }
            let tried = Finding::ok(check, "a key can be written, read, listed and deleted");
            vec![tried, conditions(&bucket).await, versions(&bucket).await]
        }
        Ok(StoreUrl::Memory) => {
            vec![Finding::warn(check, "it is memory", "everything is lost with the process: for tests alone")]
        }
        Err(error) => vec![Finding::fail(check, error.to_string(), "correct --store-url")],
    }
}

fn directory(root: PathBuf) -> Finding {
    let check = "store";
    let objects = root.join("objects");
    if !objects.is_dir() {
        return local::absent(check, &objects, "--store-url");
    }
    match local::writable(&objects) {
        Ok(()) => Finding::ok(check, format!("{} can be written", objects.display())),
        Err(error) => Finding::fail(
            check,
            format!("nothing can be written to {}: {error}", objects.display()),
            "run as the user that owns it",
        ),
    }
}

/// A key of its own, where git has no objects.
async fn try_out(bucket: &dyn Bucket) -> Result<(), String> {
    let key = format!("objects/info/treehold-doctor-{}", Uuid::new_v4().simple());
    let value = Bytes::from_static(b"treehold");
    let could_not =
        |what: &'static str| move |error: StoreError| format!("a key could not be {what}: {}", cause(&error));
    bucket.put(&key, Payload::Bytes(value.clone())).await.map_err(could_not("written"))?;
    let tried = async {
        let read = bucket.get(&key, None).await.map_err(could_not("read"))?;
        if read.as_ref() != Some(&value) {
            return Err("a key was written, and other bytes were read".to_owned());
        }
        let listed = bucket.list(&key, None, 10).await.map_err(could_not("listed"))?;
        if !listed.entries.iter().any(|(name, _)| *name == key) {
            return Err("a key was written, and the list does not have it".to_owned());
        }
        Ok(())
    };
    let tried = tried.await;
    let deleted = bucket.delete(&key).await.map_err(could_not("deleted"));
    tried.and(deleted)?;
    match bucket.head(&key).await.map_err(could_not("looked for"))? {
        None => Ok(()),
        Some(_) => Err("a key was deleted, and is still there".to_owned()),
    }
}

/// An error and what caused it.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

async fn conditions(bucket: &dyn Bucket) -> Finding {
    let check = "first write";
    match timeout(PATIENCE, treehold_store::keeps_first_value(bucket)).await {
        Ok(Ok(true)) => Finding::ok(check, "the bucket keeps the first value of a key"),
        Ok(Ok(false)) => Finding::warn(
            check,
            "the bucket ignores conditional writes",
            "give nobody else write access to it: one guard is missing",
        ),
        _ => Finding::warn(
            check,
            "whether the bucket keeps the first value of a key could not be found out",
            "look again",
        ),
    }
}

async fn versions(bucket: &treehold_store::S3Bucket) -> Finding {
    let check = "versioning";
    let advice = "turn it on, or back the bucket up in another way: keys are written once, but operators make mistakes";
    match timeout(PATIENCE, bucket.versioning()).await {
        Ok(Ok(Versioning::Enabled)) => Finding::ok(check, "the bucket keeps versions of its keys"),
        Ok(Ok(Versioning::Suspended)) => Finding::warn(check, "the bucket has stopped keeping versions", advice),
        Ok(Ok(Versioning::Off)) => Finding::warn(check, "the bucket keeps no versions", advice),
        _ => Finding::warn(check, "whether the bucket keeps versions cannot be asked here", advice),
    }
}
