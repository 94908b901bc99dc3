//! A repository on this machine, for operators: stock git serves it, one process for each request.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_stream::Stream;
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;
use treehold_wire::printable;

use super::transport::{Activity, Answer, Body, Deadlines, OpenBody, Service, TEXT_LEN_MAX, TransportError};

/// Runs `git upload-pack` or `git receive-pack` on the repository at `path`. Dropping the answer kills git.
pub(super) async fn post(
    path: &Path,
    service: Service,
    body: &Body,
    deadlines: Deadlines,
) -> Result<Answer, TransportError> {
    run(command(path, service, "--stateless-rpc"), body, deadlines).await
}

/// Asks git what it can do with the repository at `path`.
pub(super) async fn advertisement(
    path: &Path,
    service: Service,
    deadlines: Deadlines,
) -> Result<Answer, TransportError> {
    run(command(path, service, "--advertise-refs"), &Body::default(), deadlines).await
}

async fn run(mut command: Command, body: &Body, deadlines: Deadlines) -> Result<Answer, TransportError> {
    let body = body.open().await?;
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            TransportError::Connect("local repositories need git, which is not installed".into())
        }
        _ => TransportError::Connect(format!("could not run git: {error}")),
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(TransportError::Connect("could not talk to git".into()));
    };
    let activity = Activity::new();
    let running = Running {
        child,
        stdout: ReaderStream::with_capacity(stdout, 64 << 10),
        feeder: AbortOnDropHandle::new(tokio::spawn(feed(body, stdin, activity.clone()))),
        words: AbortOnDropHandle::new(tokio::spawn(first_words(stderr))),
    };
    Ok(Answer { stream: answer(running).boxed(), activity, deadlines })
}

/// git with an environment of its own: no configuration but the repository's, no credentials, nothing of ours.
fn command(path: &Path, service: Service, mode: &str) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|value| ("PATH", value)))
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        // For the reflog of the repository that is pushed to.
        .env("GIT_COMMITTER_NAME", "Treehold")
        .env("GIT_COMMITTER_EMAIL", "treehold@localhost");
    if service == Service::UploadPack {
        command.env("GIT_PROTOCOL", "version=2");
    }
    command
        .arg(service.name().trim_start_matches("git-"))
        .arg(mode)
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

struct Running {
    child: Child,
    stdout: ReaderStream<ChildStdout>,
    feeder: AbortOnDropHandle<Result<(), std::io::Error>>,
    words: AbortOnDropHandle<Vec<u8>>,
}

/// Hands the request over. That git closed its end early is no error here: its exit status tells.
async fn feed(mut body: OpenBody, mut stdin: ChildStdin, activity: Arc<Activity>) -> Result<(), std::io::Error> {
    let mut portion = vec![0; 64 << 10];
    loop {
        let len = body.reader.read(&mut portion).await?;
        if len == 0 {
            break;
        }
        activity.sent();
        if stdin.write_all(&portion[..len]).await.is_err() {
            return Ok(());
        }
    }
    let _ = stdin.shutdown().await;
    Ok(())
}

/// The beginning of what git says on its standard error; the rest is read and dropped, so that git never waits.
async fn first_words(mut stderr: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut words, mut portion) = (Vec::new(), [0; 1024]);
    while let Ok(len @ 1..) = stderr.read(&mut portion).await {
        let room = (TEXT_LEN_MAX + 1).saturating_sub(words.len());
        words.extend_from_slice(&portion[..len.min(room)]);
    }
    words
}

/// Standard output, then an error if git failed.
fn answer(running: Running) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.stdout.next().await {
            Some(Ok(bytes)) => Some((Ok(bytes), Some(running))),
            Some(Err(error)) => Some((Err(TransportError::Broken(format!("git's answer broke off: {error}"))), None)),
            None => finish(running).await.map(|error| (Err(error), None)),
        }
    })
}

/// Why git failed, if it did.
async fn finish(mut running: Running) -> Option<TransportError> {
    // Git may end without reading all of the request; nothing is owed to it then.
    if running.feeder.is_finished()
        && let Ok(Err(error)) = (&mut running.feeder).await
    {
        return Some(TransportError::Spool(error));
    }
    running.feeder.abort();
    let status = match running.child.wait().await {
        Ok(status) if status.success() => return None,
        Ok(status) => status,
        Err(error) => return Some(TransportError::Broken(format!("git did not end: {error}"))),
    };
    // A hook's child may keep its end open.
    let words = tokio::time::timeout(Duration::from_secs(1), running.words).await;
    let words = words.ok().and_then(Result::ok).unwrap_or_default();
    Some(TransportError::Broken(format!("git failed ({status}): {}", printable(words.trim_ascii(), TEXT_LEN_MAX))))
}
