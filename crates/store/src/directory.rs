//! Values in a directory: one file per key, written whole or not at all.
//!
//! A value is written to a file in `temp_dir`, synced, moved to its place without replacing anything, and then the
//! directory that names it is synced, and every directory above that was not known to be durable.
//! A failed fsync ends the process: the kernel may have dropped the pages and reports the loss only once, so that no
//! later answer could be trusted ("fsyncgate"). What was not answered is found again or repeated at the next start.

use std::collections::HashSet;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use treehold_fault::blocking_point;

use crate::bucket::{Bucket, ListPage, Payload, Put};
use crate::error::StoreError;
use crate::{key, payload};

const NAME: &str = "directory";
/// What files under way are called; left-overs of a killed process are removed at the next start.
const TEMP_PREFIX: &str = "put-";
/// Stored objects are nobody else's business and never change.
const MODE: u32 = 0o400;

/// A bucket in a directory of the local file system.
#[derive(Debug, Clone)]
pub struct DirectoryBucket {
    disk: Arc<Disk>,
}

#[derive(Debug)]
struct Disk {
    root: PathBuf,
    temp_dir: PathBuf,
    /// Directories whose own names are known to be durable, since this process synced their parents.
    durable: Mutex<HashSet<PathBuf>>,
}

impl DirectoryBucket {
    /// Opens or makes the bucket in `root`. `temp_dir` is outside of it and on the same file system; it holds files
    /// under way and is cleaned of those that a killed process left.
    ///
    /// Blocks. Refused: paths that cannot be made or written, or that are on two file systems.
    pub fn open(root: &Path, temp_dir: &Path) -> Result<Self, StoreError> {
        let disk = Disk { root: root.into(), temp_dir: temp_dir.into(), durable: Mutex::default() };
        disk.prepare().map_err(|source| StoreError::Refused { action: "open", store: NAME, source: source.into() })?;
        Ok(Self { disk: Arc::new(disk) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Disk) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = Arc::clone(&self.disk);
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(done) => done.map_err(|err| failure(action, err)),
            Err(err) => match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(err) => Err(StoreError::Unavailable { action, store: NAME, source: err.into() }),
            },
        }
    }
}

/// What may pass, and what will not: a full disk can be cleared, a read-only one stays so.
fn failure(action: &'static str, err: std::io::Error) -> StoreError {
    let source = Box::new(err);
    match source.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidFilename
        | ErrorKind::NotFound
        | ErrorKind::Unsupported => StoreError::Refused { action, store: NAME, source },
        _ => StoreError::Unavailable { action, store: NAME, source },
    }
}

/// A fault point.
fn step(name: &'static str) -> std::io::Result<()> {
    blocking_point(name).map_err(std::io::Error::other)
}

/// Syncs, or ends the process.
fn sync(file: &File, path: &Path) {
    if let Err(err) = file.sync_all() {
        tracing::error!(path = %path.display(), %err, "fsync failed: what was written may be lost, so the process ends");
        std::process::abort();
    }
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    sync(&File::open(path)?, path);
    Ok(())
}

/// `Ok(None)` where nothing is there.
fn absent<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(err),
    }
}

impl Disk {
    fn prepare(&self) -> std::io::Result<()> {
        for path in [&self.root, &self.temp_dir] {
            make_durable(&std::path::absolute(path)?)?;
        }
        let (root, temp_dir) = (std::fs::canonicalize(&self.root)?, std::fs::canonicalize(&self.temp_dir)?);
        if temp_dir.starts_with(&root) {
            return Err(std::io::Error::other("the directory for files under way is inside of the store"));
        }
        if std::fs::metadata(&root)?.dev() != std::fs::metadata(&temp_dir)?.dev() {
            return Err(std::io::Error::other("the directory for files under way is on another file system"));
        }
        // Left-overs. Should they belong to a process that still runs, its `put` fails and can be repeated.
        for entry in std::fs::read_dir(&temp_dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
                absent(std::fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The directory of `key`, made and durable.
    ///
    /// A directory that exists may still be lost in a crash, since whoever made it has perhaps not synced its parent
    /// yet; so every process syncs the parent of each directory once.
    fn durable_parent(&self, key: &str) -> std::io::Result<PathBuf> {
        let mut path = self.root.clone();
        let (parents, _) = key.rsplit_once('/').unwrap_or(("", key));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let child = path.join(part);
            let known = self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&child);
            if !known {
                match std::fs::create_dir(&child) {
                    Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                sync_directory(&path)?;
                self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(child.clone());
            }
            path = child;
        }
        Ok(path)
    }

    /// `None`: the key holds other bytes.
    fn put(&self, key: &str, payload: &Payload) -> std::io::Result<Option<Put>> {
        let (parent, place) = (self.durable_parent(key)?, self.path(key));
        let put = if let Some(there) = absent(File::open(&place))? {
            self.compare(there, payload)?
        } else {
            match self.place(payload, &place) {
                Ok(()) => Some(Put::Created),
                Err(err) if err.kind() == ErrorKind::AlreadyExists => self.compare(File::open(&place)?, payload)?,
                Err(err) if err.kind() == ErrorKind::NotFound => {
                    // Somebody tidied up an empty directory or a file under way: start over when asked again.
                    self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(std::io::Error::other(err));
                }
                Err(err) => return Err(err),
            }
        };
        step("D4")?;
        // Also where the file was there before: its writer may not have come this far.
        sync_directory(&parent)?;
        Ok(put)
    }

    fn compare(&self, mut there: File, payload: &Payload) -> std::io::Result<Option<Put>> {
        let same =
            there.metadata()?.len() == payload.size()? && payload::same_bytes(&mut there, &mut *payload.open()?)?;
        Ok(same.then_some(Put::AlreadyThere))
    }

    /// Makes `place` name the payload, synced; fails with `AlreadyExists` rather than replace anything.
    fn place(&self, payload: &Payload, place: &Path) -> std::io::Result<()> {
        if let Payload::File(path) = payload
            && self.link(path, place)?
        {
            return Ok(());
        }
        step("D1")?;
        let mut temp = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .rand_bytes(16)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(&self.temp_dir)?;
        match payload {
            Payload::Bytes(bytes) => temp.write_all(bytes)?,
            Payload::File(path) => std::io::copy(&mut File::open(path)?, &mut temp).map(|_| ())?,
        }
        step("D2")?;
        sync(temp.as_file(), temp.path());
        step("D3")?;
        temp.persist_noclobber(place).map(|_| ()).map_err(|err| err.error)
    }

    /// Makes `place` name the file itself. `false`: it has to be copied, being somebody else's, on another file system
    /// or on one that knows no links.
    fn link(&self, path: &Path, place: &Path) -> std::io::Result<bool> {
        let file = File::open(path)?;
        if file.set_permissions(Permissions::from_mode(MODE)).is_err() {
            return Ok(false);
        }
        step("D2")?;
        sync(&file, path);
        step("D3")?;
        match std::fs::hard_link(path, place) {
            Err(err) if !matches!(err.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(false),
            linked => linked.map(|()| true),
        }
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> std::io::Result<Option<Bytes>> {
        let Some(mut file) = absent(File::open(self.path(key)))? else { return Ok(None) };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let range = range.unwrap_or(0..u64::MAX);
        let (start, end) = (range.start.min(metadata.len()), range.end.min(metadata.len()));
        let length = end.saturating_sub(start);
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(std::io::Error::other)?);
        if length > 0 {
            file.seek(SeekFrom::Start(start))?;
            file.take(length).read_to_end(&mut bytes)?;
        }
        Ok(Some(bytes.into()))
    }

    fn head(&self, key: &str) -> std::io::Result<Option<u64>> {
        let metadata = absent(std::fs::metadata(self.path(key)))?;
        Ok(metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len()))
    }

    fn delete(&self, key: &str) -> std::io::Result<()> {
        let place = self.path(key);
        if absent(std::fs::remove_file(&place))?.is_some()
            && let Some(parent) = place.parent()
        {
            absent(sync_directory(parent))?;
        }
        Ok(())
    }

    /// Collects keys under `directory` (a key with `/` at its end, or nothing for the root) in byte order, until
    /// there are `limit`. Names that are no keys (of an operator, or of git) are passed over.
    fn walk(&self, directory: &str, listing: &mut Listing<'_>) -> std::io::Result<()> {
        let Some(entries) = absent(std::fs::read_dir(self.root.join(directory)))? else { return Ok(()) };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (Some(name), Some(file_type)) = (entry.file_name().into_string().ok(), absent(entry.file_type())?)
            else {
                continue;
            };
            // With the slash that follows it in keys a directory sorts where its keys do.
            let slash = if file_type.is_dir() { "/" } else { "" };
            let name = format!("{directory}{name}{slash}");
            if (file_type.is_dir() || file_type.is_file()) && listing.wants(&name) {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            if listing.full() {
                break;
            }
            if name.ends_with('/') {
                self.walk(&name, listing)?;
            } else if let (true, Some(size)) = (key::is_key(&name), self.head(&name)?) {
                listing.entries.push((name, size));
            }
        }
        Ok(())
    }
}

/// Makes a directory and those above it, each durable; one that exists as far as its parent lets us.
fn make_durable(path: &Path) -> std::io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match std::fs::create_dir(path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            // Whoever made it may have died before it was durable. A parent that is not ours may be closed to us, and
            // a failure to sync it says nothing about what we wrote.
            _ = File::open(parent).and_then(|parent| parent.sync_all());
            return Ok(());
        }
        Err(err) if err.kind() == ErrorKind::NotFound => {
            make_durable(parent)?;
            std::fs::create_dir(path)?;
        }
        made => made?,
    }
    sync_directory(parent)
}

/// A listing under way.
struct Listing<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    entries: Vec<(String, u64)>,
}

impl Listing<'_> {
    /// One more than asked for, which tells whether there is a next page.
    fn full(&self) -> bool {
        self.entries.len() > self.limit
    }

    /// Whether `name` (a key, or a directory with its slash) can be or hold a key of this listing.
    fn wants(&self, name: &str) -> bool {
        let directory = name.ends_with('/');
        let in_prefix = name.starts_with(self.prefix) || (directory && self.prefix.starts_with(name));
        in_prefix && self.after.is_none_or(|after| name > after || (directory && after.starts_with(name)))
    }
}

#[async_trait]
impl Bucket for DirectoryBucket {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        key::check(NAME, "put", key)?;
        let owned = key.to_owned();
        let put = self.blocking("put", move |disk| disk.put(&owned, &payload)).await?;
        put.ok_or_else(|| StoreError::Occupied { key: key.to_owned() })
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        key::check(NAME, "get", key)?;
        let key = key.to_owned();
        self.blocking("get", move |disk| disk.get(&key, range)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        key::check(NAME, "head", key)?;
        let key = key.to_owned();
        self.blocking("head", move |disk| disk.head(&key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let (prefix, after, limit) = (prefix.to_owned(), after.map(str::to_owned), limit.max(1));
        self.blocking("list", move |disk| {
            let mut listing = Listing { prefix: &prefix, after: after.as_deref(), limit, entries: Vec::new() };
            disk.walk("", &mut listing)?;
            let more = listing.full();
            let mut entries = listing.entries;
            entries.truncate(limit);
            let next = entries.last().filter(|_| more).map(|(key, _)| key.clone());
            Ok(ListPage { entries, next })
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check(NAME, "delete", key)?;
        let key = key.to_owned();
        self.blocking("delete", move |disk| disk.delete(&key)).await
    }
}
