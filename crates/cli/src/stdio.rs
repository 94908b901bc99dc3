//! Standard input and output as streams of bytes, for commands that speak a protocol on them.

use std::io;
use std::os::fd::AsFd as _;

use tokio::fs::File;

/// Standard input, past any buffer of the standard library's.
pub fn input() -> io::Result<File> {
    Ok(File::from_std(io::stdin().as_fd().try_clone_to_owned()?.into()))
}

/// Standard output, past any buffer of the standard library's.
pub fn output() -> io::Result<File> {
    Ok(File::from_std(io::stdout().as_fd().try_clone_to_owned()?.into()))
}
