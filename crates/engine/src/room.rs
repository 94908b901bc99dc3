//! Memory for contents, asked for before it is used.

use crate::Result;

/// Is asked before contents of objects are read into memory. Whoever gives it counts until the answer is sent.
pub trait Room: std::fmt::Debug + Send + Sync {
    /// `bytes` more are about to be read. An error (`Busy`, `TooLarge`) ends the verb before they are.
    fn take(&self, bytes: u64) -> Result<()>;
}

/// Room without end.
impl Room for () {
    fn take(&self, _: u64) -> Result<()> {
        Ok(())
    }
}
