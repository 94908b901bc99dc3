//! Stock git, started as a program, without the user's own configuration.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::failure::Failure;

/// Runs git in `dir` and gives what it prints.
pub async fn git<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Result<String, Failure> {
    git_with(dir, args, "").await
}

/// The same, with this on its standard input.
pub async fn git_with<S: AsRef<OsStr>>(dir: &Path, args: &[S], input: &str) -> Result<String, Failure> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::failed("the quickstart needs stock git: install `git` and repeat"),
        _ => Failure::failed(format!("cannot run git: {error}")),
    };
    let mut child = command(dir).args(args).spawn().map_err(missing)?;
    let feed = child.stdin.take();
    let feeding = async move {
        // A git that ends early is told about by its exit status, not here.
        if let Some(mut stdin) = feed {
            let _closed = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feeding);
    let output = output.map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let verb = args.first().map(|arg| arg.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(format!("stock `git {verb}` failed: {words}")))
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .args(["-c", "init.defaultBranch=main", "-c", "user.name=Lin Park", "-c", "user.email=lin@example.org"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}
