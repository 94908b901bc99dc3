//! Archives of a snapshot: tar.gz and zip, as `git archive` lays them out, without a leading directory.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;
use treehold_object::{BString, ObjectId, runs};

use crate::api::{ArchiveFormat, At, FileEntry, ListOptions, Source};
use crate::spool::SpoolFile;
use crate::tree::{GITLINK, SYMLINK};
use crate::{Engine, EngineError, Result};

/// Files of one archive. A few trees that hold each other many times have any number of paths.
const FILES_MAX: u64 = 2_000_000;
/// Files listed and read at once; bounds what is held in memory together with [`CHUNK_BYTES`].
const CHUNK: usize = 1000;
const CHUNK_BYTES: u64 = 32 << 20;

/// Where it goes.
type Out = std::io::BufWriter<SpoolFile>;

/// An archive being written.
enum Writer {
    Tar(Box<tar::Builder<GzEncoder<Out>>>),
    Zip(Box<zip::ZipWriter<Out>>),
}

impl Engine {
    /// Writes the files of a snapshot into a spool file; also the commit it was made from.
    pub async fn archive(
        &self,
        project: &str,
        at: &At,
        format: ArchiveFormat,
    ) -> Result<(NamedTempFile, Option<ObjectId>)> {
        let found = self.find_project(project).await?;
        let (spool, out, verdict) = self.spool_file("the archive", self.config.limits.archive_bytes)?;
        let written = self.write_archive(&found, project, at, Writer::new(out, format)).await;
        Ok((spool, verdict.on(written)?))
    }

    async fn write_archive(
        &self,
        found: &treehold_catalog::Project,
        project: &str,
        at: &At,
        writer: Writer,
    ) -> Result<Option<ObjectId>> {
        let mut writer = Some(writer);
        // One list from the beginning to the end: what is committed meanwhile is in all of the archive or in none of it.
        let options = ListOptions { streamed: true, ..ListOptions::default() };
        let mut listing = self.open_list(project, at, &options).await?;
        let commit = listing.commit().map(|commit| commit.0);
        let time = self.archive_time(commit).await?;
        let mut room = self.config.limits.archive_bytes;
        let mut more = true;
        while more {
            let mut files = Vec::with_capacity(CHUNK);
            more = listing.show_some(CHUNK, &mut |file| files.push(FileEntry::from(file))).await?;
            room = self.room_after(room, &files)?;
            for chunk in runs(&files, CHUNK_BYTES, |file| file.size) {
                let contents = self.archive_contents(found, chunk).await?;
                let chunk = chunk.to_vec();
                let mut open = writer.take().ok_or_else(lost)?;
                let written = tokio::task::spawn_blocking(move || {
                    for (file, content) in chunk.iter().zip(contents) {
                        open.add(&file.path.0, file.mode.0, time, &content)?;
                    }
                    Ok::<Writer, std::io::Error>(open)
                });
                writer = Some(written.await.map_err(EngineError::internal)?.map_err(spool_failed)?);
            }
        }
        let open = writer.take().ok_or_else(lost)?;
        tokio::task::spawn_blocking(move || open.finish())
            .await
            .map_err(EngineError::internal)?
            .map_err(spool_failed)?;
        Ok(commit)
    }

    /// The time of what is archived, if it has not too many files.
    async fn archive_time(&self, commit: Option<ObjectId>) -> Result<i64> {
        let Some(commit) = commit else { return Ok(0) };
        let row = self.commit_row(commit).await?;
        match self.count_changes(None, Some(row.tree)).await? > FILES_MAX {
            true => Err(EngineError::TooLarge { what: "the archive", limit: FILES_MAX, unit: "files" }),
            false => Ok(row.time),
        }
    }

    /// How many bytes of content may come after these files.
    fn room_after(&self, room: u64, files: &[FileEntry]) -> Result<u64> {
        let limit = self.config.limits.archive_bytes;
        let room = room.checked_sub(files.iter().map(|file| file.size).sum());
        room.ok_or(EngineError::TooLarge { what: "the archive", limit, unit: "bytes of content" })
    }

    async fn archive_contents(&self, project: &treehold_catalog::Project, files: &[FileEntry]) -> Result<Vec<Bytes>> {
        let of = |source: Source| -> Vec<ObjectId> {
            files.iter().filter(|file| file.source == source && file.mode.0 != GITLINK).map(|file| file.oid.0).collect()
        };
        let mut committed = self.contents(&of(Source::Committed)).await?.into_iter();
        let mut pending = self.pending_bytes(project, &of(Source::Pending)).await?.into_iter();
        files
            .iter()
            .map(|file| {
                let content = match (file.mode.0, file.source) {
                    (GITLINK, _) => return Ok(Bytes::new()),
                    (_, Source::Committed) => committed.next(),
                    (_, Source::Pending) => pending.next(),
                };
                content.flatten().ok_or_else(|| EngineError::internal(format!("{} is not stored", file.oid)))
            })
            .collect()
    }
}

fn lost() -> EngineError {
    EngineError::internal("the archive's writer was lost")
}

pub(crate) fn spool_failed(source: std::io::Error) -> EngineError {
    EngineError::Unavailable { what: "the spool disk", source: Box::new(source) }
}

impl Writer {
    fn new(out: Out, format: ArchiveFormat) -> Self {
        match format {
            ArchiveFormat::TarGz => {
                Self::Tar(Box::new(tar::Builder::new(GzEncoder::new(out, flate2::Compression::new(6)))))
            }
            ArchiveFormat::Zip => Self::Zip(Box::new(zip::ZipWriter::new(out))),
        }
    }

    fn add(&mut self, path: &BString, mode: u32, time: i64, content: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tar(tar) => add_tar(tar, path, mode, time, content),
            Self::Zip(zip) => add_zip(zip, path, mode, time, content).map_err(std::io::Error::other),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Tar(tar) => tar.into_inner()?.finish()?.flush(),
            Self::Zip(zip) => zip.finish().map_err(std::io::Error::other)?.flush(),
        }
    }
}

fn os_path(path: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}

fn add_tar<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &BString,
    mode: u32,
    time: i64,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(time.max(0).unsigned_abs());
    header.set_mode(if mode & 0o100 != 0 || mode == GITLINK { 0o755 } else { 0o644 });
    match mode {
        GITLINK => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            let mut dir = path.clone();
            dir.push(b'/');
            tar.append_data(&mut header, os_path(&dir), std::io::empty())
        }
        SYMLINK => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, os_path(path), os_path(content))
        }
        _ => {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, os_path(path), content)
        }
    }
}

fn add_zip<W: Write + std::io::Seek>(
    zip: &mut zip::ZipWriter<W>,
    path: &BString,
    mode: u32,
    time: i64,
    content: &[u8],
) -> zip::result::ZipResult<()> {
    let name = String::from_utf8_lossy(path).into_owned();
    let modified = jiff::Timestamp::from_second(time).ok().and_then(|at| {
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        let part = |n: i8| u8::try_from(n).ok();
        zip::DateTime::from_date_and_time(
            u16::try_from(at.year()).ok()?,
            part(at.month())?,
            part(at.day())?,
            part(at.hour())?,
            part(at.minute())?,
            part(at.second())?,
        )
        .ok()
    });
    let options = zip::write::SimpleFileOptions::default()
        .unix_permissions(if mode & 0o100 != 0 || mode == GITLINK { 0o755 } else { 0o644 })
        .last_modified_time(modified.unwrap_or_default())
        .large_file(content.len() as u64 > u64::from(u32::MAX) / 2);
    match mode {
        GITLINK => zip.add_directory(name, options),
        SYMLINK => zip.add_symlink(name, String::from_utf8_lossy(content), options),
        _ => {
            zip.start_file(name, options)?;
            Ok(zip.write_all(content)?)
        }
    }
}
