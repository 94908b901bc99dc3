//! Temporary directories that go away with the test process, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for its standard input to close, which happens when the test process ends or drops its [`Scratch`],
/// then stops the server whose pid file was named (if any) and removes the directory.
const WATCHER: &str = r#"
read -r _
if [ -n "$2" ] && [ -r "$2" ]; then
    pid=$(head -n 1 "$2")
    kill -QUIT "$pid"
    tries=0
    while kill -0 "$pid" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
rm -rf -- "$1"
"#;

/// A temporary directory, removed when it is dropped or when the process ends.
///
/// `tempfile::TempDir` relies on `Drop`, which neither a `static` nor a killed process runs. Here a small shell
/// holds the read end of a pipe of ours and cleans up as soon as the pipe closes.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    watcher: Child,
}

impl Scratch {
    /// A fresh directory of mode 0700 whose name starts with `prefix`.
    pub fn new(prefix: &str) -> io::Result<Scratch> {
        Scratch::with_server(prefix, None)
    }

    /// The same, and when it ends the process whose pid is the first line of `pid_file` (a path inside the
    /// directory) is sent SIGQUIT first.
    pub fn with_server(prefix: &str, pid_file: Option<&str>) -> io::Result<Scratch> {
        let path = tempfile::Builder::new().prefix(prefix).tempdir()?.keep();
        let pid_file = pid_file.map(|name| path.join(name)).unwrap_or_default();
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .args([&path, &pid_file])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: an interrupt from the terminal must reach the tests, not the one who cleans up after them.
            .process_group(0)
            .spawn()?;
        Ok(Scratch { path, watcher })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
