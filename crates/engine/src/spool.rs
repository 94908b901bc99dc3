//! Files in the spool directory that archives and bundles are made in: so long at most, and only while there is space for others. The
//! database of an embedded server may be on the same disk.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tempfile::NamedTempFile;

use crate::archive::spool_failed;
use crate::{Engine, EngineError, Result};

/// What is left free, bytes, or [`FREE_PART`] of the disk where that is less.
const FREE_BYTES: u64 = 1 << 30;
const FREE_PART: u64 = 20;
/// Written between two looks at the free space, bytes.
const LOOK_EVERY: u64 = 16 << 20;

/// How large a file system is, and how much of it this process may still fill, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub size: u64,
    /// What is free.
    pub free: u64,
}

impl Space {
    /// That of the file system which `path` is on.
    pub fn at(path: &Path) -> io::Result<Self> {
        let volume = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Self { size: bytes(volume.f_blocks), free: bytes(volume.f_bavail) })
    }

    /// Whether no more of it is to be taken for what can wait.
    fn is_scarce(self) -> bool {
        self.free < FREE_BYTES.min(self.size / FREE_PART)
    }
}

/// Why a file was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    TooLong,
    NoSpace,
}

/// Who writes a spool file.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: File,
    /// Where the next byte goes.
    at: u64,
    bytes_max: u64,
    /// Written since the last look at the space.
    unseen: u64,
    space: Look,
    stopped: Arc<OnceLock<Stopped>>,
}

/// Where the file is, to look at the space there.
#[derive(Debug)]
enum Look {
    At(PathBuf),
    #[cfg(test)]
    Seen(Space),
}

impl Look {
    /// What cannot be found out stops nothing.
    fn is_scarce(&self) -> bool {
        match self {
            Self::At(dir) => Space::at(dir).is_ok_and(Space::is_scarce),
            #[cfg(test)]
            Self::Seen(space) => space.is_scarce(),
        }
    }
}

impl SpoolFile {
    fn new(file: File, bytes_max: u64, space: Look) -> Self {
        Self { file, at: 0, bytes_max, unseen: LOOK_EVERY, space, stopped: Arc::default() }
    }

    fn stop(&self, why: Stopped) -> io::Error {
        _ = self.stopped.set(why);
        io::Error::other("the spool file was given up")
    }
}

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The error was told. Writers of formats write their ends when they are dropped, and complain on stderr where they cannot.
        if self.stopped.get().is_some() {
            return Ok(bytes.len());
        }
        if self.at.saturating_add(bytes.len() as u64) > self.bytes_max {
            return Err(self.stop(Stopped::TooLong));
        }
        if self.unseen >= LOOK_EVERY {
            self.unseen = 0;
            if self.space.is_scarce() {
                return Err(self.stop(Stopped::NoSpace));
            }
        }
        let written = self.file.write(bytes)?;
        self.at += written as u64;
        self.unseen += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for SpoolFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Says of what was written to a spool file whether it is whole.
#[derive(Debug)]
pub(crate) struct Verdict {
    what: &'static str,
    bytes_max: u64,
    stopped: Arc<OnceLock<Stopped>>,
}

impl Verdict {
    /// How the writing ended: by the file, if that was given up.
    pub fn on<T>(&self, written: Result<T>) -> Result<T> {
        match self.stopped.get() {
            None => written,
            Some(Stopped::TooLong) => {
                Err(EngineError::TooLarge { what: self.what, limit: self.bytes_max, unit: "bytes" })
            }
            Some(Stopped::NoSpace) => Err(spool_failed(io::ErrorKind::StorageFull.into())),
        }
    }
}

impl Engine {
    /// A file in the spool directory that goes away with its handle, who writes it, and who says how that ended. `what` it is may
    /// have so many bytes.
    pub(crate) fn spool_file(
        &self,
        what: &'static str,
        bytes_max: u64,
    ) -> Result<(NamedTempFile, BufWriter<SpoolFile>, Verdict)> {
        let dir = &self.config.spool_dir;
        let file = NamedTempFile::new_in(dir).map_err(spool_failed)?;
        let out = SpoolFile::new(file.reopen().map_err(spool_failed)?, bytes_max, Look::At(dir.clone()));
        let verdict = Verdict { what, bytes_max, stopped: Arc::clone(&out.stopped) };
        Ok((file, BufWriter::new(out), verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Space = Space { size: 1 << 40, free: 1 << 39 };

    fn file(bytes_max: u64, space: Space) -> (SpoolFile, Verdict) {
        let out = SpoolFile::new(tempfile::tempfile().unwrap(), bytes_max, Look::Seen(space));
        let verdict = Verdict { what: "the archive", bytes_max, stopped: Arc::clone(&out.stopped) };
        (out, verdict)
    }

    fn len(out: &SpoolFile) -> u64 {
        out.file.metadata().unwrap().len()
    }

    #[test]
    fn a_file_ends_where_it_would_be_too_long() {
        let (mut out, verdict) = file(10, WIDE);
        out.write_all(b"0123456789").unwrap();
        // Back to what was to be filled in, as zip does.
        out.seek(SeekFrom::Start(2)).unwrap();
        out.write_all(b"ab").unwrap();
        out.seek(SeekFrom::End(0)).unwrap();
        assert!(verdict.on(Ok(())).is_ok());
        assert!(out.write_all(b"x").is_err());
        let refused = verdict.on(Ok(())).unwrap_err();
        assert!(
            matches!(refused, EngineError::TooLarge { what: "the archive", limit: 10, unit: "bytes" }),
            "{refused}"
        );
        out.write_all(b"its end").unwrap();
        assert_eq!(len(&out), 10, "nothing is written once it was given up");
    }

    #[test]
    fn space_is_left_to_others() {
        let scarce = Space { size: 1 << 40, free: FREE_BYTES - 1 };
        let (mut out, verdict) = file(u64::MAX, scarce);
        assert!(out.write_all(b"x").is_err());
        let refused = verdict.on(Err::<(), _>(EngineError::Busy)).unwrap_err();
        assert!(matches!(refused, EngineError::Unavailable { what: "the spool disk", .. }), "{refused}");
        assert_eq!(len(&out), 0);

        let (mut out, verdict) = file(u64::MAX, WIDE);
        out.write_all(b"x").unwrap();
        out.space = Look::Seen(scarce);
        let part = vec![0; 1 << 20];
        let written = (0..LOOK_EVERY >> 20).take_while(|_| out.write_all(&part).is_ok()).count() as u64;
        assert_eq!(written, LOOK_EVERY >> 20, "it is looked at now and then");
        assert!(out.write_all(b"x").is_err() && verdict.on(Ok(())).is_err());
    }

    #[test]
    fn on_a_small_disk_a_part_of_it_is_enough() {
        let small = Space { size: 2 << 30, free: (2 << 30) / FREE_PART };
        assert!(!small.is_scarce());
        assert!(Space { free: small.free - 1, ..small }.is_scarce());
        assert!(!Space { size: 1 << 40, free: FREE_BYTES }.is_scarce());
        assert!(Space::at(&std::env::temp_dir()).unwrap().size > 0);
    }
}
