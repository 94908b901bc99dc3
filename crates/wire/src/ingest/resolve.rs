//! Naming every delta of a scanned pack, on several threads.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use treehold_object::Kind;

use super::scan::deeper;
use super::table::{Seen, Slot, Table};
use super::walk::{Children, Source, Walk};
use super::{IngestError, IngestOptions, threads};

/// Names every delta of the table.
pub(super) fn resolve(
    file: &File,
    options: &IngestOptions<'_>,
    table: &Table<'_>,
    data_end: u64,
) -> Result<(), IngestError> {
    let children = Children::of_offsets(&table.lock().slots);
    let (next_root, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let naming = Naming { options, table, data_end, stop: &stop, seen: Seen::default() };
        let mut walk = Walk::new(file, &children, naming, options.cache_bytes());
        let result = all(&mut walk, &next_root);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..options.threads).map_while(|_| threads::begin(scope, work)).collect();
        let mut results = vec![work()];
        for helper in helpers {
            results.push(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    // The thread that found the trouble knows more than those that were stopped for it.
    results.sort_by_key(|result| !matches!(result, Err(error) if !matches!(error, IngestError::Cancelled)));
    results.into_iter().collect::<Result<(), _>>()?;
    table.lock().unresolved().map_or(Ok(()), Err)
}

/// Takes whole objects one by one until there are no more.
fn all(walk: &mut Walk<'_, Naming<'_>>, next_root: &AtomicU32) -> Result<(), IngestError> {
    let total = walk.source.table.lock().slots.len() as u32;
    loop {
        let root = next_root.fetch_add(1, Ordering::Relaxed);
        if root >= total {
            return Ok(());
        }
        if let Some((kind, found)) = walk.source.table.root(root) {
            walk.descend(root, kind, None, found)?;
        }
    }
}

struct Naming<'a> {
    options: &'a IngestOptions<'a>,
    table: &'a Table<'a>,
    data_end: u64,
    /// Set once any thread failed.
    stop: &'a AtomicBool,
    seen: Seen,
}

impl Source for Naming<'_> {
    fn span(&self, at: u32) -> (Slot, u64) {
        self.table.lock().span(at, self.data_end)
    }

    fn charge(&self, bytes: u64) -> Result<(), IngestError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(IngestError::Cancelled);
        }
        self.options.cancelled()?;
        self.table.charge(bytes, self.data_end)
    }

    fn made(&mut self, at: u32, base: u32, kind: Kind, content: &Bytes) -> Result<Vec<u32>, IngestError> {
        {
            let mut state = self.table.lock();
            let depth = deeper(state.slots[base as usize].depth, &self.options.limits)?;
            state.slots[at as usize].depth = depth;
        }
        self.table.name(at, kind, content, &mut self.seen)?;
        let mut state = self.table.lock();
        let oid = state.slots[at as usize].oid;
        Ok(state.claim(&oid, at))
    }
}
