//! The file system below the disk tier: the few calls that can fail on their own, so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Files of the cache directory.
pub(super) trait Medium: std::fmt::Debug + Send + Sync {
    /// A new, empty file for its owner only; an error if the name is taken.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Fills `into` from the bytes at `at`; `UnexpectedEof` if the file ends before.
    fn read(&self, file: &File, into: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `at`. After an error any part of them may have been written.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct FileSystem;

impl Medium for FileSystem {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    fn read(&self, file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(into, at)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}
