//! How large the object cache is on this machine, and where it lies.

use std::path::{Component, Path, PathBuf};

use treehold_engine::Space;
use treehold_store::{CacheOptions, DiskOptions};

use crate::failure::Failure;
use crate::home::Home;
use crate::settings::Settings;

/// By default memory for objects is this part of what the process may use, within these bounds, bytes.
const MEMORY_PART: u64 = 16;
const MEMORY_MIN: u64 = 32 << 20;
const MEMORY_MAX: u64 = 4 << 30;
/// By default the disk tier takes this part of the free space, and at most so many bytes.
const DISK_PART: u64 = 10;
const DISK_MAX: u64 = 10 << 30;

/// What the settings say, and what this machine has where they say nothing.
///
/// Only a server (`serving`) gets the tier on disk: another command ends before it pays, and would keep the directory from a server.
/// `store`: the directory of a directory store, beside which another copy on disk gains nothing unless it is asked for.
pub fn options(settings: &Settings, home: &Home, store: Option<&Path>, serving: bool) -> Result<CacheOptions, Failure> {
    let dir = settings.cache_dir.clone().unwrap_or_else(|| home.cache_dir());
    let dir_is_in = |other: &Path| real(&dir).starts_with(real(other));
    if store.is_some_and(dir_is_in) || dir_is_in(&home.store_dir()) {
        return Err(Failure::usage(
            "`cache_dir` must not lie in the store: that directory holds git objects and nothing else",
        ));
    }
    if dir_is_in(&home.spool_dir()) || dir_is_in(&home.temp_dir()) {
        return Err(Failure::usage(
            "`cache_dir` must not lie in `spool` or `tmp` of the data directory: they are emptied",
        ));
    }
    let memory_bytes = settings.cache_memory.unwrap_or_else(|| memory_default(usable_memory()));
    let bytes = match settings.cache_disk {
        Some(bytes) => bytes,
        None if store.is_some() => 0,
        None => disk_default(free_space(&dir)),
    };
    let disk = (serving && bytes > 0).then_some(DiskOptions { dir, bytes });
    if serving {
        let disk = disk.as_ref().map_or(0, |disk| disk.bytes);
        tracing::info!(memory_bytes, disk_bytes = disk, "objects are cached");
    }
    Ok(CacheOptions { memory_bytes, disk })
}

/// Where a path leads, through links, as far as it is there yet.
fn real(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = real.pop(),
            Component::CurDir => {}
            part => real.push(part),
        }
        if let Ok(found) = real.canonicalize() {
            real = found;
        }
    }
    real
}

fn memory_default(usable: Option<u64>) -> u64 {
    usable.map_or(MEMORY_MIN, |usable| (usable / MEMORY_PART).clamp(MEMORY_MIN, MEMORY_MAX))
}

fn disk_default(free: Option<u64>) -> u64 {
    free.map_or(0, |free| (free / DISK_PART).min(DISK_MAX))
}

/// Free space where the directory is or will be, bytes.
fn free_space(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    Space::at(there).ok().map(|space| space.free)
}

/// Memory that this process may use: the machine's, or less if its control group says so, bytes.
fn usable_memory() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| read(&path)?.trim().parse::<u64>().ok());
    machine.into_iter().chain(limits).min()
}

/// The machine's memory by `/proc/meminfo`, bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where limits may stand, for what `/proc/self/cgroup` says, both versions: the group's own and those of all above it (cgroups(7)).
/// A file that says `max`, or is not there, is no limit.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            named if named.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|above| Path::new(root).join(above).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    #[test]
    fn the_smallest_limit_counts() {
        assert_eq!(total("MemTotal:       24683624 kB\nMemFree: 1 kB\n"), Some(24_683_624 * 1024));
        assert_eq!(total("nothing"), None);
        let paths = |groups: &str| -> Vec<String> {
            limit_files(groups).into_iter().map(|path| path.display().to_string()).collect()
        };
        let v2 = ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"];
        assert_eq!(paths("0::/a/b\n"), v2);
        assert_eq!(paths("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        let v1 = ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(paths("5:cpu,cpuacct:/x\n4:memory:/a\n"), v1);
        assert!(usable_memory().unwrap() > MEMORY_MIN);
    }

    #[test]
    fn no_cache_lies_where_other_files_are_kept_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(&dir.path().join("data")).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(home.spool_dir(), dir.path().join("link")).unwrap();
        let with = |cache: PathBuf, store: Option<&Path>| {
            let given = [("data_dir", home.dir()), ("cache_dir", &cache)];
            let given = given.map(|(name, path)| (name, (path.display().to_string(), Origin::Flag(name.to_owned()))));
            options(&Settings::from_given(given.into()).unwrap(), &home, store, true).map_err(|error| error.message)
        };
        let data = home.dir().to_owned();
        for (refused, store) in [
            (data.join("store"), None),
            (data.join("store/cache"), None),
            (data.join("x/../store/objects/cache"), None),
            (elsewhere.join("cache"), Some(elsewhere.as_path())),
            (data.join("spool"), None),
            (data.join("tmp/a/b"), None),
            (dir.path().join("link/cache"), None),
        ] {
            let message = with(refused.clone(), store).unwrap_err();
            assert!(message.contains("`cache_dir` must not lie in"), "{}: {message}", refused.display());
        }
        for taken in [data.join("cache"), data.join("storehouse"), elsewhere.join("cache")] {
            assert!(with(taken, None).is_ok());
        }
    }

    #[test]
    fn defaults_fit_small_and_large_machines() {
        let gib = 1 << 30;
        assert_eq!(memory_default(None), MEMORY_MIN);
        assert_eq!(memory_default(Some(gib / 4)), MEMORY_MIN);
        assert_eq!(memory_default(Some(8 * gib)), gib / 2);
        assert_eq!(memory_default(Some(512 * gib)), MEMORY_MAX);
        assert_eq!(disk_default(None), 0);
        assert_eq!(disk_default(Some(20 * gib)), 2 * gib);
        assert_eq!(disk_default(Some(2000 * gib)), DISK_MAX);
        assert!(free_space(Path::new("/nowhere/at/all")).unwrap() > 0);
    }
}
