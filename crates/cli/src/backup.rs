//! Backup and restore of the embedded set-up: one SQLite file and one directory of files that never change.
//!
//! ```text
//! BACKUP/treehold-backup.json   what it is; written last, so that a backup that has it is whole
//! BACKUP/treehold-<ms>.db       the database at one moment; the file before names it
//! BACKUP/store/objects/         the store: everything that the database names, and what was there beside it
//! BACKUP/tmp  BACKUP/.lock      for the backup at work
//! ```
//! The database is copied first and the files after it: what it names was durable before it was named, and stays for the grace after it
//! was given up. That is looked up at the end all the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use treehold_catalog::{Catalog, LedgerStats, open_catalog};
use treehold_engine::{Ambient, Progress, STORE_ID_KEY, store_id_in};

use crate::ambient::Host;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::open::{self, Opened, Places};
use crate::settings::Settings;

/// The file that says what a backup is.
const ABOUT: &str = "treehold-backup.json";
/// How the names of databases in it begin.
const DATABASE: &str = "treehold-";
/// The form of a backup that this program writes and reads.
const FORMAT: u32 = 1;
/// Files copied between two steps of the progress.
const FILES: usize = 64;
/// Keys looked up at once.
const KEYS: u32 = 1000;
/// What SQLite keeps beside a database file: changes that are not in it yet, where they are, and what it was before a change.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Copies of the database, if files that it names vanish meanwhile.
const TRIES: usize = 3;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    format: u32,
    /// The program that made it.
    version: String,
    schema_version: i64,
    made_at_ms: i64,
    /// The file.
    database: String,
    projects: u64,
    pending: u64,
    objects: u64,
    keys: u64,
}

impl About {
    fn new(made_at_ms: i64, schema_version: i64, stats: LedgerStats) -> Self {
        let LedgerStats { projects, pending, objects, keys, .. } = stats;
        let (version, database) = (env!("CARGO_PKG_VERSION").to_owned(), database_name(made_at_ms));
        Self { format: FORMAT, version, schema_version, made_at_ms, database, projects, pending, objects, keys }
    }

    fn counts(&self) -> [u64; 4] {
        [self.projects, self.pending, self.objects, self.keys]
    }
}

fn database_name(made_at_ms: i64) -> String {
    format!("{DATABASE}{made_at_ms}.db")
}

/// Files that were copied, and those that were there.
#[derive(Debug, Default)]
struct Copied {
    files: u64,
    bytes: u64,
    kept: u64,
}

fn elsewhere(what: &str) -> Failure {
    Failure::failed(format!(
        "{what} is for the embedded set-up, SQLite and a directory. Elsewhere, back up Postgres by its own means (base backups \
         and WAL for any point in time, or pg_dump) and keep versions or a replica of the bucket for as long as that reaches back; \
         after a restore run `treehold admin restore --fence`"
    ))
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |error| Failure::failed(format!("cannot {what}: {error}"))
}

/// Work for the disk, on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::failed("a thread broke").because(error))?
}

/// Copies everything into `dir`, or what changed since the last time.
pub async fn backup(opened: &Opened, dir: &Path, progress: &dyn Progress) -> Result<Value, Failure> {
    let places = opened.places().cloned().ok_or_else(|| elsewhere("`backup`"))?;
    check_target(&places, dir)?;
    home::make_private(dir)?;
    let busy = || Failure::failed(format!("another backup into {} is at work", dir.display()));
    let _lock = home::lock(&dir.join(".lock"))?.ok_or_else(busy)?;
    let store = dir.join("store");
    home::make_private(&store.join("objects"))?;
    let temp = dir.join("tmp");
    home::make_private(&temp)?;
    home::empty(&temp).map_err(failed("clear what an earlier backup left"))?;
    let made_at_ms = Host.now_ms();
    let fresh = dir.join(database_name(made_at_ms));
    let mut copied = Copied::default();
    for _ in 0..TRIES {
        remove_database(&fresh)?;
        progress.step("copying the database", 0, None);
        let done = opened.catalog().copy_to(&fresh).await;
        done.map_err(|error| Failure::failed("cannot copy the database").because(error))?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed("protect the copy"))?;
        copy_files(&places.store, &store, &temp, &mut copied, progress).await?;
        let copy = open_copy(&fresh).await?;
        let looked = look(&*copy, &store).await;
        copy.close().await;
        let (version, stats, named, missing) = looked?;
        if missing.is_empty() {
            let about = About::new(made_at_ms, version, stats);
            finish(dir, &fresh, &about).await?;
            let removed = prune(&places.store, &store, named).await?;
            let mut answer = serde_json::to_value(&about).unwrap_or_default();
            answer["dir"] = json!(dir);
            answer["files_copied"] = json!(copied.files);
            answer["bytes_copied"] = json!(copied.bytes);
            answer["files_kept"] = json!(copied.kept);
            answer["files_removed"] = json!(removed);
            return Ok(answer);
        }
        tracing::warn!(missing = missing.len(), "files went while they were copied; once more");
    }
    Err(Failure::failed("files that the database names are missing from the store: run `treehold admin verify`"))
}

/// A backup goes into a directory of its own.
fn check_target(places: &Places, dir: &Path) -> Result<(), Failure> {
    let database = places.database.parent().unwrap_or(&places.database);
    if dir.starts_with(&places.store) || places.store.starts_with(dir) || database.starts_with(dir) {
        return Err(Failure::usage("the backup must lie outside of the store and not around it"));
    }
    let known = |name: &str| ["store", "tmp", ".lock"].contains(&name) || name.starts_with(DATABASE);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(format!("look into {}", dir.display()))(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed(format!("look into {}", dir.display())))?.file_name();
        if !name.to_str().is_some_and(known) {
            let text =
                format!("{} holds {}, which is no backup: name another directory", dir.display(), name.display());
            return Err(Failure::failed(text));
        }
    }
    Ok(())
}

/// Removes what is left of a copy that was not finished.
fn remove_database(file: &Path) -> Result<(), Failure> {
    let removed = remove(file).and_then(|()| remove_beside(file));
    removed.map_err(failed("remove an old copy"))
}

fn remove_beside(database: &Path) -> io::Result<()> {
    BESIDE.iter().try_for_each(|suffix| remove(&beside(database, suffix)))
}

/// Removes a file, if it is there.
fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file beside a database that holds changes, or what takes them back. SQLite works them into whatever has the database's name.
fn unsettled(database: &Path) -> Option<PathBuf> {
    let files = ["-wal", "-journal"].map(|suffix| beside(database, suffix));
    files.into_iter().find(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0))
}

async fn open_copy(file: &Path) -> Result<std::sync::Arc<dyn Catalog>, Failure> {
    let opened = open_catalog(&format!("sqlite://{}", file.display())).await;
    opened.map_err(|error| Failure::failed(format!("cannot open {}", file.display())).because(error))
}

/// Schema version, counts, named keys, missing files.
type Looked = (i64, LedgerStats, HashSet<String>, Vec<String>);

/// What a database holds, the keys that it names, and the files of theirs that `store` lacks.
async fn look(catalog: &dyn Catalog, store: &Path) -> Result<Looked, Failure> {
    let unreadable = |error| Failure::failed("the copy of the database cannot be read").because(error);
    let (mut named, mut missing, mut after) = (HashSet::new(), Vec::new(), 0);
    loop {
        let page = catalog.stored_keys(after, KEYS).await.map_err(unreadable)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for key in page {
            // A pack is read by its index.
            let index = key.key.strip_suffix(".pack").map(|name| format!("{name}.idx"));
            missing.extend(
                [Some(key.key.clone()), index].into_iter().flatten().filter(|file| !store.join(file).is_file()),
            );
            named.insert(key.key);
        }
    }
    let version = catalog.schema_version().await.map_err(unreadable)?;
    let stats = catalog.stats().await.map_err(unreadable)?;
    Ok((version, stats, named, missing))
}

/// Files below `objects` by their path from the store, with their sizes.
fn files(store: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![PathBuf::from("objects")]);
    while let Some(dir) = open.pop() {
        let entries = match std::fs::read_dir(store.join(&dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(path),
                Ok(metadata) if metadata.is_file() => drop(files.insert(path, metadata.len())),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(files)
}

/// Copies what `to` does not have in the same size: a file of the store never changes. Durable on return.
async fn copy_files(
    from: &Path,
    to: &Path,
    temp: &Path,
    copied: &mut Copied,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let (source, target) = (from.to_owned(), to.to_owned());
    let list = blocking(move || {
        let there = files(&target).map_err(failed("list the copy"))?;
        let all = files(&source).map_err(failed("list the store"))?;
        let total = all.len() as u64;
        // Also those where nothing is new: whoever copied that may have died before its names were durable.
        let dirs: BTreeSet<PathBuf> = all.keys().filter_map(|path| path.parent().map(Path::to_owned)).collect();
        let new: Vec<PathBuf> =
            all.into_iter().filter(|(path, size)| there.get(path) != Some(size)).map(|(path, _)| path).collect();
        Ok((total, new, dirs))
    });
    let (total, new, mut dirs) = list.await?;
    copied.kept = total - new.len() as u64;
    for (round, chunk) in new.chunks(FILES).enumerate() {
        progress.step("copying files", copied.kept + (round * FILES) as u64, Some(total));
        let (source, target, temp, chunk) = (from.to_owned(), to.to_owned(), temp.to_owned(), chunk.to_vec());
        let (files, bytes) = blocking(move || {
            let (mut files, mut bytes) = (0, 0);
            for path in chunk {
                let copied = copy_file(&source.join(&path), &target.join(&path), &temp);
                // What the sweeper took meanwhile is not named by the database.
                if let Some(size) = copied.map_err(failed(format!("copy {}", path.display())))? {
                    (files, bytes) = (files + 1, bytes + size);
                }
            }
            Ok((files, bytes))
        })
        .await?;
        (copied.files, copied.bytes) = (copied.files + files, copied.bytes + bytes);
    }
    dirs.insert("objects".into());
    let target = to.to_owned();
    blocking(move || {
        let sync = |dir: &PathBuf| match home::sync_dir(&target.join(dir)) {
            // What was in it went before it was copied.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        };
        dirs.iter().try_for_each(sync).map_err(failed("make the copy durable"))
    })
    .await
}

/// Whole or not at all; `None`: it is not there any more. `temp` is a directory of the same file system.
fn copy_file(from: &Path, to: &Path, temp: &Path) -> io::Result<Option<u64>> {
    let dir = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !dir.is_dir() {
        std::fs::create_dir_all(dir)?;
        dir.parent().map_or(Ok(()), home::sync_dir)?;
    }
    let mut file = tempfile::NamedTempFile::new_in(temp)?;
    let size = io::copy(&mut source, file.as_file_mut())?;
    file.as_file().set_permissions(source.metadata()?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(to).map_err(|error| error.error)?;
    Ok(Some(size))
}

/// From here on the backup is the new one.
async fn finish(dir: &Path, fresh: &Path, about: &About) -> Result<(), Failure> {
    let (dir, fresh, about) = (dir.to_owned(), fresh.to_owned(), about.clone());
    blocking(move || {
        let text = serde_json::to_vec_pretty(&about).map_err(|error| Failure::failed("no JSON").because(error))?;
        let write = || -> io::Result<()> {
            File::open(&fresh)?.sync_all()?;
            home::sync_dir(&dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir.join("tmp"))?;
            io::Write::write_all(&mut file, &text)?;
            file.as_file().sync_all()?;
            file.persist(dir.join(ABOUT)).map_err(|error| error.error)?;
            home::sync_dir(&dir)?;
            for entry in std::fs::read_dir(&dir)? {
                let name = entry?.file_name();
                let old = name.to_str().is_some_and(|name| name.starts_with(DATABASE) && name != ABOUT);
                if old && Some(&*name) != fresh.file_name() {
                    std::fs::remove_file(dir.join(name))?;
                }
            }
            Ok(())
        };
        write().map_err(failed("finish the backup"))
    })
    .await
}

/// Removes from the copy what neither its database names nor the store has any more: what was deleted is to be gone.
async fn prune(from: &Path, copy: &Path, named: HashSet<String>) -> Result<u64, Failure> {
    let (from, copy) = (from.to_owned(), copy.to_owned());
    blocking(move || {
        let there = files(&from).map_err(failed("list the store"))?;
        let stale = files(&copy).map_err(failed("list the copy"))?;
        let pack = |path: &Path| path.with_extension("pack").to_string_lossy().into_owned();
        let stale = stale.keys().filter(|path| {
            let name = path.to_string_lossy();
            let index = name.ends_with(".idx") && named.contains(&pack(path));
            !(index || there.contains_key(*path) || named.contains(&*name))
        });
        let mut removed = 0;
        for path in stale {
            std::fs::remove_file(copy.join(path)).map_err(failed("remove what was deleted"))?;
            removed += 1;
        }
        Ok(removed)
    })
    .await
}

/// Makes the data directory from a backup. Nothing may be there, but what a restore that was cut off left.
pub async fn restore(settings: &Settings, backup: &Path, progress: &dyn Progress) -> Result<Value, Failure> {
    let places = Places::of(settings).ok_or_else(|| elsewhere("`restore`"))?;
    let about = about(backup)?;
    let home = Home::open(&settings.data_dir)?;
    let _locks = open::own(settings, &home)?.ok_or_else(|| home.busy())?;
    let store = backup.join("store");
    check_empty(&places, &store)?;
    home::make_private(&places.store.join("objects"))?;
    let temp = open::store_temp_dir(&places.store, &home);
    home::make_private(&temp)?;
    let mut copied = Copied::default();
    copy_files(&store, &places.store, &temp, &mut copied, progress).await?;
    progress.step("copying the database", 0, None);
    let fresh = beside(&places.database, ".new");
    remove_database(&fresh)?;
    std::fs::copy(backup.join(&about.database), &fresh).map_err(failed("copy the database"))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed("protect the database"))?;
    let catalog = open_copy(&fresh).await?;
    let epoch = settle(&*catalog, &about, &places.store).await;
    catalog.close().await;
    let (epoch, named) = epoch?;
    if let Some(file) = unsettled(&fresh) {
        return Err(Failure::failed(format!("the database could not be closed: {} is there yet", file.display())));
    }
    if named.is_empty() {
        // What a later backup copied before it was cut off is nobody's. A server would take it for the store of a database that was lost.
        prune(&temp, &places.store, named).await?;
    }
    let dir = places.database.parent().unwrap_or(&settings.data_dir);
    check_settled(&places.database)?;
    let publish = || {
        File::open(&fresh)?.sync_all()?;
        // What is left of another one says nothing, and is gone before this one has the name.
        remove_beside(&places.database)?;
        home::sync_dir(dir)?;
        std::fs::rename(&fresh, &places.database)?;
        home::sync_dir(dir)
    };
    publish().map_err(failed("finish the restore"))?;
    let mut answer = serde_json::to_value(&about).unwrap_or_default();
    answer["data_dir"] = json!(settings.data_dir);
    answer["epoch"] = json!(epoch);
    answer["files_copied"] = json!(copied.files);
    answer["bytes_copied"] = json!(copied.bytes);
    Ok(answer)
}

fn about(backup: &Path) -> Result<About, Failure> {
    let file = backup.join(ABOUT);
    let text = std::fs::read(&file).map_err(|error| {
        Failure::failed(format!("{} is no whole backup: {}: {error}", backup.display(), file.display()))
    })?;
    let about: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::failed(format!("{} does not read", file.display())).because(error))?;
    if about["format"] != json!(FORMAT) {
        return Err(Failure::failed("the backup is of a newer release: restore it with that one"));
    }
    let about: About = serde_json::from_value(about)
        .map_err(|error| Failure::failed(format!("{} does not read", file.display())).because(error))?;
    if about.database != database_name(about.made_at_ms) {
        return Err(Failure::failed(format!("{} names a database that is none of a backup", file.display())));
    }
    Ok(about)
}

/// What was written last to a database that is not there any more is of use to that one, and ruins another one.
fn check_settled(database: &Path) -> Result<(), Failure> {
    match unsettled(database) {
        None => Ok(()),
        Some(file) => Err(Failure::failed(format!(
            "{} has the last changes of a database that is not there any more: move it to where that is, or restore into another \
             --data-dir",
            file.display()
        ))),
    }
}

fn check_empty(places: &Places, store: &Path) -> Result<(), Failure> {
    if std::fs::metadata(&places.database).is_ok_and(|metadata| metadata.len() > 0) {
        let text = format!("{} is there already: restore into another --data-dir", places.database.display());
        return Err(Failure::failed(text));
    }
    check_settled(&places.database)?;
    let wanted = files(store).map_err(failed("list the backup"))?;
    let there = files(&places.store).map_err(failed("list the store"))?;
    match there.iter().find(|(path, size)| wanted.get(*path) != Some(size)) {
        None => Ok(()),
        Some((path, _)) => Err(Failure::failed(format!(
            "{} holds other data ({}): restore into another --data-dir",
            places.store.display(),
            path.display()
        ))),
    }
}

/// Brings the copy to this program's schema, compares it with what the backup says, and fences off what was under way in it. The epoch
/// from now on, and the keys that it names.
async fn settle(catalog: &dyn Catalog, about: &About, store: &Path) -> Result<(i64, HashSet<String>), Failure> {
    let broken = |error| Failure::failed("the backup's database cannot be used").because(error);
    if catalog.schema_version().await.map_err(broken)? > catalog.schema_known() {
        return Err(Failure::failed("the backup's schema is newer than this program: restore it with a newer release"));
    }
    let (version, stats, named, missing) = look(catalog, store).await?;
    if About::new(about.made_at_ms, version, stats).counts() != about.counts() || version != about.schema_version {
        return Err(Failure::failed("the backup's database is not the one that the backup tells of"));
    }
    if let Some(key) = missing.first() {
        let text =
            format!("{} files that the database names are missing from the backup, such as {key}", missing.len());
        return Err(Failure::failed(text));
    }
    catalog.migrate().await.map_err(broken)?;
    // The two belong together, whatever either says: the directory of the backup may have been another's before.
    if let Some(id) = std::fs::read(store.join(STORE_ID_KEY)).ok().and_then(|value| store_id_in(&value)) {
        catalog.set_store_id(id, true).await.map_err(broken)?;
    }
    Ok((catalog.set_back(Host.now_ms()).await.map_err(broken)?, named))
}
