//! Open files: connections, spools, the bucket's files and the database's all count.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Kept for everything but connections.
const OTHERS: u64 = 512;

/// Raises the limit of open files as far as this process may, and says how many connections it leaves room for.
pub fn connections_max() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let mut raised = limit;
        raised.current = limit.maximum.or(Some(1 << 20));
        if limit.current.is_some() && setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    // A small limit is shared in halves.
    let files = limit.current.map_or(usize::MAX as u64, |files| files.saturating_sub(OTHERS).max(files / 2));
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_room_for_some() {
        assert!(super::connections_max() > 0);
    }
}
