//! Reading a spool file while it is still being written: the scan follows what arrives.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::IngestError;

/// How much of a spool file has arrived, told by whoever writes it to whoever reads it meanwhile.
///
/// The writer says [`Arrival::grown`] after the bytes are in the file, and in the end [`Arrival::finish`] or [`Arrival::cut`]:
/// a reader waits until one of them is said.
#[derive(Debug, Default)]
pub struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    len: u64,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Whole,
    Cut,
}

impl Arrival {
    /// A file that is whole already, of `len` bytes.
    pub fn whole(len: u64) -> Self {
        Self { state: Mutex::new(State { len, end: End::Whole }), changed: Condvar::new() }
    }

    /// The file's first `len` bytes can be read.
    pub fn grown(&self, len: u64) {
        self.lock().len = len;
        self.changed.notify_all();
    }

    /// All of it has arrived.
    pub fn finish(&self) {
        self.end(End::Whole);
    }

    /// The rest will not come: whoever reads ends with [`IngestError::Cancelled`]. Says nothing after [`Arrival::finish`].
    pub fn cut(&self) {
        self.end(End::Cut);
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end == End::Open {
            state.end = end;
        }
        self.changed.notify_all();
    }

    /// Waits for the first `len` bytes. Answers how many there are, fewer only if there are no more.
    pub(super) fn wait(&self, len: u64) -> Result<u64, IngestError> {
        let mut state = self.lock();
        loop {
            match state.end {
                End::Cut => return Err(IngestError::Cancelled),
                End::Open if state.len < len => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                _ => return Ok(state.len),
            }
        }
    }

    /// What this lock guards is whole after each statement, also if a thread panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
