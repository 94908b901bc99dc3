//! Threads beside the calling one, as many as the system gives: a server that has used up its threads is slower, and goes on.
//!
//! [`Scope::spawn`] panics where there is no thread to be had, which ends a process that aborts on a panic.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Begins a thread; `None` where the system gives none: then the work is the caller's.
pub(super) fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    #[cfg(test)]
    if refused::next() {
        return None;
    }
    Builder::new().spawn_scoped(scope, work).ok()
}

/// Does both, `beside` on another thread if there is one, else after `here`.
pub(super) fn both<T>(mut beside: impl FnMut() + Send, here: impl FnOnce() -> T) -> T {
    let (begun, value) = std::thread::scope(|scope| {
        let begun = begin(scope, &mut beside).is_some();
        (begun, here())
    });
    if !begun {
        beside();
    }
    value
}

/// Plays a system without threads, for those that the calling thread asks for.
#[cfg(test)]
mod refused {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static REFUSED: Cell<usize> = const { Cell::new(0) };
    }

    /// Whether the next one is refused.
    pub(super) fn next() -> bool {
        let Some(left) = LEFT.get() else { return false };
        LEFT.set(Some(left.saturating_sub(1)));
        if left == 0 {
            REFUSED.set(REFUSED.get() + 1);
        }
        left == 0
    }

    /// Runs `work` while only so many threads can be had; how many were refused.
    pub(super) fn beyond<T>(given: usize, work: impl FnOnce() -> T) -> (T, usize) {
        LEFT.set(Some(given));
        REFUSED.set(0);
        let done = work();
        LEFT.set(None);
        (done, REFUSED.get())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use treehold_object::pack::{EntryHeader, EntryKind, PackWriter};
    use treehold_object::zlib::Deflater;
    use treehold_object::{Kind, ObjectId, second_opinion};

    use super::super::{IngestOptions, Quarantine, ingest};
    use super::*;

    /// A pack of so many blobs of 8 bytes and as many deltas, each of which copies a blob and adds a byte; ids of all, sorted.
    fn pack(count: u32) -> (File, Vec<ObjectId>) {
        let mut writer = PackWriter::new(Vec::new(), 2 * count, 1).unwrap();
        let mut oids = Vec::new();
        for at in 0..count {
            let mut content = [[0; 4], at.to_be_bytes()].concat();
            let base = second_opinion(Kind::Blob, &content);
            writer.add(base, Kind::Blob, &content).unwrap();
            // From 8 bytes to 9: copy 8 from the start, insert one.
            let delta = [8, 9, 0x90, 8, 1, b'x'];
            content.push(b'x');
            let oid = second_opinion(Kind::Blob, &content);
            let mut zlib = Vec::new();
            Deflater::new(1).deflate(&[&delta], &mut zlib);
            let header = EntryHeader { kind: EntryKind::RefDelta { base }, size: delta.len() as u64 };
            writer.add_entry(oid, header, &zlib).unwrap();
            oids.extend([base, oid]);
        }
        let (bytes, _) = writer.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        oids.sort_unstable();
        (file, oids)
    }

    /// Goal: a pack is taken with however few threads there are, and means the same.
    #[test]
    fn a_pack_is_taken_where_the_system_gives_no_threads() {
        // Enough for the thread that sorts at the end.
        let (file, oids) = pack(3_000);
        let options = IngestOptions { threads: 3, ..IngestOptions::default() };
        let take = || ingest(file.try_clone().unwrap(), &options).unwrap();
        for given in [0, 1, 2, 3, 4] {
            let (taken, refused): (Quarantine, usize) = refused::beyond(given, take);
            assert!(refused > 0, "with {given} threads all could be had");
            assert_eq!(taken.oids(Kind::Blob).collect::<Vec<_>>(), oids, "with {given} threads");
            assert!(taken.external().is_empty());
        }
        // Two that name, two that resolve, one that sorts.
        assert_eq!(refused::beyond(5, take).1, 0);
    }

    #[test]
    fn both_are_done_by_one_thread_if_there_is_no_other() {
        for given in [0, 1] {
            let mut beside = false;
            let (here, _) = refused::beyond(given, || both(|| beside = true, || 7));
            assert_eq!((beside, here), (true, 7));
        }
    }
}
