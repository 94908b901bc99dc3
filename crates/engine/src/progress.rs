//! Progress of long work, for bars and event streams.

/// Is told how far long work has come.
pub trait Progress: Send + Sync {
    /// `what` is a stage such as `receiving` (bytes), `resolving`, `storing` (objects); `total` where it is known.
    fn step(&self, what: &str, done: u64, total: Option<u64>);
}

impl Progress for () {
    fn step(&self, _: &str, _: u64, _: Option<u64>) {}
}
