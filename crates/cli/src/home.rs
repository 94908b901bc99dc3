//! The data directory: what lies where, who may use it, and its lock.
//!
//! ```text
//! DATA/store/objects/   the embedded bucket: a git object database, nothing else
//! DATA/treehold.db      the embedded database
//! DATA/cache            objects of a store elsewhere, for speed; may be removed at any time
//! DATA/spool  DATA/tmp  packs on their way, files being written; emptied when the directory is opened
//! DATA/lock             flock of the one process that uses the embedded database
//! DATA/control.sock     how commands reach that process (mode 0600)
//! DATA/api-key          made at first start on loopback (mode 0600)
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use treehold_engine::Secret;

use crate::failure::Failure;

/// The file with the key that a first start on loopback makes.
pub const API_KEY: &str = "api-key";

/// An opened data directory.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// Held for as long as this process uses the embedded database.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Home {
    /// Makes what is missing, for the owner only.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let home = Self { dir: dir.to_owned() };
        for dir in [&home.dir, &home.spool_dir(), &home.temp_dir()] {
            make_private(dir)?;
        }
        Ok(home)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory that was there before may be open to others; its owner may want it so.
    pub fn warn_if_open(&self) {
        let mode = std::fs::metadata(&self.dir).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            tracing::warn!("others can look into {0}: `chmod 700 {0}` keeps them out", self.dir.display());
        }
    }

    /// The embedded store.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Packs on their way.
    pub fn spool_dir(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// Files being written.
    pub fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Objects at hand.
    pub fn cache_dir(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// How commands reach the running server.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Takes the lock, or says that another process has it (`None`).
    pub fn try_lock(&self) -> Result<Option<Lock>, Failure> {
        lock(&self.dir.join("lock"))
    }

    /// Why the lock cannot be had.
    pub fn busy(&self) -> Failure {
        let pid = std::fs::read_to_string(self.dir.join("lock")).unwrap_or_default();
        let who = match pid.trim().parse::<u32>() {
            Ok(pid) => format!("another treehold process (pid {pid})"),
            Err(_) => "another treehold process".to_owned(),
        };
        Failure::failed(format!(
            "{who} is using {}: stop it first, or give this one its own --data-dir",
            self.dir.display()
        ))
    }

    /// Prepares the embedded database's file and removes what a killed process left behind. Only under the lock.
    pub fn prepare(&self, _lock: &Lock, database: Option<&Path>) -> Result<(), Failure> {
        for dir in [self.spool_dir(), self.temp_dir()] {
            empty(&dir).map_err(|error| Failure::failed(format!("cannot clear {}: {error}", dir.display())))?;
        }
        let Some(database) = database else { return Ok(()) };
        // SQLite gives a new file, and its -wal and -shm, whatever the umask leaves; an empty file is a valid database.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(database);
        let made = made.and_then(|_| database.parent().map_or(Ok(()), sync_dir));
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Failure::failed(format!("cannot make the database {}: {error}", database.display())))
            }
            _ => Ok(()),
        }
    }

    /// The key that was made at first start; made now if there is none.
    pub fn api_key(&self) -> Result<Secret, Failure> {
        let path = self.dir.join(API_KEY);
        let failed =
            |error: io::Error| Failure::failed(format!("cannot keep an API key in {}: {error}", path.display()));
        if let Some(key) = read_key(&path)? {
            return Ok(key);
        }
        let bytes: [u8; 32] = rand::random();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Whole or not at all; if another server was first, its key counts.
        let mut file = tempfile::NamedTempFile::new_in(self.temp_dir()).map_err(failed)?;
        writeln!(file, "{text}").and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => {
                sync_dir(&self.dir).map_err(failed)?;
                tracing::info!("an API key was made: {}", path.display());
            }
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error.error)),
        }
        read_key(&path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }
}

/// Takes the lock of this file, made if it is missing, or says that another process has it (`None`).
pub fn lock(path: &Path) -> Result<Option<Lock>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot lock {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    }
    // For the message of whoever comes second; the lock is the flock, not this number.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(Some(Lock { _file: file }))
}

fn read_key(path: &Path) -> Result<Option<Secret>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot read the API key {}: {error}", path.display()));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(Failure::failed(format!(
            "others can read the API key {0}: run `chmod 600 {0}`, or remove the file and a new key will be made",
            path.display()
        )));
    }
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).map_err(failed)?;
    match text.trim() {
        "" => Err(Failure::failed(format!("{} is empty: remove it and a new key will be made", path.display()))),
        key => Ok(Some(Secret::new(key.to_owned()))),
    }
}

/// Makes the directory, and those above it, for the owner only and durably. One that exists is left as it is; its name
/// is made durable as far as the directory above lets us.
pub fn make_private(dir: &Path) -> Result<(), Failure> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    if missing.is_empty()
        && let Some(parent) = dir.parent()
    {
        // Whoever made it may have died before that was durable. The directory above may be closed to us.
        _ = sync_dir(parent);
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| missing.iter().filter_map(|dir| dir.parent()).try_for_each(sync_dir))
        .map_err(|error| Failure::failed(format!("cannot make the directory {}: {error}", dir.display())))
}

/// Makes the renames in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes everything in a directory.
pub fn empty(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(&dir.path().join("a/b")).unwrap();
        (dir, home)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_for_the_owner_only() {
        let (_dir, home) = home();
        let lock = home.try_lock().unwrap().unwrap();
        let database = home.dir().join("treehold.db");
        home.prepare(&lock, Some(&database)).unwrap();
        home.api_key().unwrap();
        for dir in [home.dir(), &home.spool_dir(), &home.temp_dir()] {
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
        }
        for file in ["lock", "treehold.db", "api-key"] {
            assert_eq!(mode(&home.dir().join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn one_at_a_time_and_leftovers_go() {
        let (_dir, home) = home();
        std::fs::create_dir(home.spool_dir().join("x")).unwrap();
        std::fs::write(home.spool_dir().join("x/pack"), "left").unwrap();
        std::fs::write(home.temp_dir().join("y"), "left").unwrap();
        let lock = home.try_lock().unwrap().unwrap();
        assert!(home.try_lock().unwrap().is_none());
        assert!(home.busy().message.contains(&format!("(pid {})", std::process::id())), "{}", home.busy().message);
        home.prepare(&lock, None).unwrap();
        assert_eq!(std::fs::read_dir(home.spool_dir()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(home.temp_dir()).unwrap().count(), 0);
        drop(lock);
        assert!(home.try_lock().unwrap().is_some());
    }

    #[test]
    fn the_key_is_made_once_and_kept() {
        let (_dir, home) = home();
        let first = home.api_key().unwrap();
        assert!(first.expose().len() == 64 && first.expose().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(first.expose(), home.api_key().unwrap().expose());
        let path = home.dir().join("api-key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(home.api_key().unwrap_err().message.contains("chmod 600"));
    }
}
