//! What a power cut takes: nothing that was answered, and nothing is there by half.
//!
//! Method: a server under `strace`. What the kernel was not told to sync is taken for lost. So, call by call: a name in the store never stands
//! for bytes that were not synced, and when an answer's first byte is sent, its transaction and all names in the store are.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::deployment::{Deployment, Reply, Setup, binary};

/// `?`: not every processor has them.
const CALLS: &str = "openat,?mkdir,mkdirat,?link,linkat,?rename,renameat,renameat2,fsync,fdatasync,write,pwrite64,writev,pwritev,\
    copy_file_range,sendfile,splice,sendto,sendmsg";

/// What a call did.
#[derive(Debug)]
enum Event {
    /// To a file's content.
    Written(String),
    /// This name is in its directory.
    Named(String),
    /// A file has another name, or one more.
    Moved(String, String),
    /// A file or directory, by a call that began at this line.
    Synced(String, usize),
    /// A success, as it begins to be sent.
    Answered,
}

/// What a call that succeeded did, and the line at which that counts.
fn event(name: &str, arguments: &str, began: usize, ended: usize) -> Option<(usize, Event)> {
    let open = |at: &str| arguments.split(',').nth(if at == "first" { 0 } else { 2 }).and_then(within_angles);
    let text = |number: usize| quoted(arguments).into_iter().nth(number);
    // Where the kernel does not say whose sockets are, they have a number.
    let is_socket =
        arguments.split(',').next().is_some_and(|first| first.contains("<TCP") || first.contains("<socket:["));
    let event = match name {
        "write" | "writev" | "sendto" | "sendmsg" if is_socket => {
            return arguments.contains("\"HTTP/1.1 2").then_some((began, Event::Answered));
        }
        "write" | "pwrite64" | "writev" | "pwritev" | "sendfile" => Event::Written(open("first")?),
        "copy_file_range" | "splice" => Event::Written(open("third")?),
        "fsync" | "fdatasync" => Event::Synced(open("first")?, began),
        "openat" if arguments.contains("O_CREAT") => Event::Named(text(0)?),
        "mkdir" | "mkdirat" => Event::Named(text(0)?),
        "rename" | "renameat" | "renameat2" | "link" | "linkat" => Event::Moved(text(0)?, text(1)?),
        _ => return None,
    };
    Some((ended, event))
}

/// The path behind a descriptor, `7</a/b>`.
fn within_angles(descriptor: &str) -> Option<String> {
    let (_, path) = descriptor.split_once('<')?;
    Some(path.split_once('>')?.0.to_owned())
}

/// The texts in double quotes. Paths here have nothing to escape.
pub fn quoted(arguments: &str) -> Vec<String> {
    arguments.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A system call, and the lines of the trace in which it began and ended.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub arguments: String,
    pub result: String,
    began: usize,
    ended: usize,
}

impl Call {
    pub fn succeeded(&self) -> bool {
        !self.result.starts_with(['-', '?'])
    }
}

/// The calls of a trace, in the order in which they ended. One that others ran beside stands in two lines.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, told) in trace.lines().enumerate() {
        let Some((process, told)) = told.split_once(' ') else { continue };
        let told = told.trim_start();
        if let Some(head) = told.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, (line, head));
            continue;
        }
        let (began, call) = match told.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, tail)) => {
                let Some((began, head)) = unfinished.remove(process) else { continue };
                (began, format!("{head}{tail}"))
            }
            None => (line, told.to_owned()),
        };
        let Some((name, rest)) = call.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { continue };
        let [name, arguments, result] = [name, arguments, result].map(str::to_owned);
        calls.push(Call { name, arguments, result, began, ended: line });
    }
    calls
}

/// The events in the order in which they count.
fn events(trace: &str) -> Vec<(usize, Event)> {
    let calls = calls(trace).into_iter().filter(Call::succeeded);
    let mut events: Vec<_> =
        calls.filter_map(|call| event(&call.name, &call.arguments, call.began, call.ended)).collect();
    events.sort_by_key(|(line, _)| *line);
    events
}

/// What a power cut would take at one point of the trace.
struct Disk {
    data: PathBuf,
    /// Content that was not synced, with the line of the last write.
    unsynced: HashMap<String, usize>,
    /// Names that were not synced, with the line at which they came.
    unnamed: HashMap<String, usize>,
    known: HashSet<String>,
    /// Since the last answer: the log was written and synced; names that came into the store.
    since: Since,
    /// Whether the name of the data directory was synced.
    is_rooted: bool,
}

/// Since the last answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Since {
    is_log_written: bool,
    is_log_synced: bool,
    stored: usize,
}

impl Disk {
    fn is_stored(&self, path: &str) -> bool {
        Path::new(path).starts_with(self.data.join("store"))
    }

    fn log(&self) -> String {
        self.data.join("treehold.db-wal").display().to_string()
    }

    /// Whether an answer rests on the name: the store's, and the database's.
    fn matters(&self, path: &str) -> bool {
        self.is_stored(path) || path == self.log() || Path::new(path) == self.data.join("treehold.db")
    }

    /// Takes an event. After an answer: what came since the one before.
    fn take(&mut self, line: usize, event: Event) -> Option<Since> {
        match event {
            Event::Written(path) => {
                self.since.is_log_written |= path == self.log();
                self.unsynced.insert(path, line);
            }
            Event::Named(path) => {
                if self.known.insert(path.clone()) {
                    self.unnamed.insert(path, line);
                }
            }
            Event::Moved(from, to) => {
                let content = self.unsynced.remove(&from);
                if self.is_stored(&to) {
                    assert_eq!(content, None, "{to} stands for bytes that a power cut takes");
                    self.since.stored += 1;
                }
                self.unsynced.extend(content.map(|line| (to.clone(), line)));
                self.unnamed.insert(to, line);
            }
            Event::Synced(path, began) => {
                let is_whole = self.unsynced.get(&path).is_some_and(|line| *line < began);
                self.since.is_log_synced |= self.since.is_log_written && path == self.log() && is_whole;
                self.is_rooted |= self.data.parent() == Some(Path::new(&path));
                // What came while it ran is not in it for sure.
                self.unsynced.retain(|file, line| *file != path || *line > began);
                self.unnamed.retain(|name, line| Path::new(name).parent() != Some(Path::new(&path)) || *line > began);
            }
            Event::Answered => {
                let names: Vec<&String> = self.unnamed.keys().filter(|name| self.matters(name)).collect();
                let contents: Vec<&String> = self.unsynced.keys().filter(|file| self.is_stored(file)).collect();
                assert!(
                    names.is_empty() && contents.is_empty(),
                    "answered at {line}, not synced: {names:?} {contents:?}"
                );
                assert!(self.is_rooted, "answered at {line}, and a power cut takes {}", self.data.display());
                return Some(std::mem::take(&mut self.since));
            }
        }
        None
    }
}

/// A program that runs the server under `strace`, as the process that was started. The trace of these calls goes to `trace`.
pub fn traced(directory: &Path, trace: &Path, calls: &str) -> PathBuf {
    let program = directory.join("treehold");
    // -D: the server keeps the id of the process that the harness started.
    let (trace, binary) = (trace.display(), binary().display());
    let options = format!("-D -f -q -yy -s 64 -e signal=none -e trace={calls}");
    let script = format!("#!/bin/sh\nexec strace {options} -o '{trace}' -- '{binary}' \"$@\"\n");
    // Not written from here: a process that another test starts meanwhile would hold it open, and what is open for writing cannot be run.
    let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
    let written = Command::new("sh").args(write).arg(&program).arg(script).status().expect("a shell");
    assert!(written.success());
    program
}

/// The trace, once the tracer has seen the server's end.
pub fn finished(trace: &Path, server: u32) -> String {
    let started = Instant::now();
    loop {
        let text =
            String::from_utf8_lossy(&std::fs::read(trace).expect("a trace; `strace` must be installed")).into_owned();
        if text.lines().any(|line| line.starts_with(&format!("{server} ")) && line.contains("+++ exited")) {
            return text;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the trace does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Saves, checkpoints, commits and refs, each with whether something goes to the store for it.
async fn work(d: &Deployment) -> Vec<(&'static str, bool)> {
    let made = |reply: Reply| assert!(reply.status < 300, "{}", reply.text());
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    let mut done = vec![("a project", false)];
    let pending = format!("/pending/{project}/{user}");
    // More than stays in the database, and nothing that a second round would have.
    let large: Vec<u8> = std::iter::repeat_with(|| *Uuid::new_v4().as_bytes()).take(40_000).flatten().collect();
    for (round, large) in large.chunks(large.len() / 2).enumerate() {
        made(d.put(&format!("{pending}/small"), format!("small {round}")).await);
        made(d.put(&format!("{pending}/large"), large.to_vec()).await);
        let checkpoint = json!({"user": user, "name": format!("round {round}")});
        made(d.post(&format!("/projects/{project}/checkpoints"), checkpoint).await);
        let commit = json!({"user": user, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
        let commit = d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        made(d.put(&format!("/files/{project}/file{round}"), format!("file {round}")).await);
        let branch = format!("/projects/{project}/refs/heads/branch{round}");
        made(d.put_json(&branch, json!({"oid": commit["commit"]})).await);
        made(d.put(&format!("{pending}/small"), format!("again {round}")).await);
        made(d.delete(&format!("{pending}/small")).await);
        done.extend([("a small save", false), ("a large save", true), ("a checkpoint", false), ("a commit", true)]);
        done.extend([("a file", true), ("a ref", false), ("another save", false), ("an undo", false)]);
    }
    done
}

/// Goal: what was answered outlives a power cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_synced() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let mut d = Deployment::start_version(Setup::Embedded, traced(directory.path(), &trace, CALLS)).await;
    let server = d.server_pid();
    let done = work(&d).await;
    d.stop().await;
    let trace = finished(&trace, server);
    let mut disk = Disk {
        data: d.data.path().canonicalize().expect("a path"),
        unsynced: HashMap::new(),
        unnamed: HashMap::new(),
        known: HashSet::new(),
        since: Since::default(),
        is_rooted: false,
    };
    let mut answers = Vec::new();
    for (line, event) in events(&trace) {
        answers.extend(disk.take(line, event));
    }
    assert_eq!(answers.len(), done.len(), "each answer is in the trace: {answers:?}");
    for ((what, is_stored), since) in done.into_iter().zip(&answers) {
        assert!(since.is_log_synced, "{what} was answered before its transaction was synced: {since:?}");
        assert!(since.stored > 0 || !is_stored, "{what} put nothing into the store: {since:?}");
    }
}

/// Files of a copy in directories that this run did not sync.
fn unsynced_of(objects: PathBuf, synced: &HashSet<String>) -> Vec<PathBuf> {
    let (mut open, mut unsynced) = (vec![objects], Vec::new());
    while let Some(dir) = open.pop() {
        let entries = std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|entry| entry.is_dir());
        open.extend(dirs);
        if !synced.contains(&dir.display().to_string()) {
            unsynced.extend(files);
        }
    }
    unsynced
}

/// Goal: a backup that goes on from one that died is whole by itself: what that one copied, and did not make durable, is. Method: what it did is
/// there, and this run has nothing to copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_syncs_what_one_before_it_copied() {
    let mut d = Deployment::start(Setup::Embedded).await;
    work(&d).await;
    d.stop().await;
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().canonicalize().expect("a path").join("copy");
    let target = copy.to_str().expect("UTF-8");
    assert!(d.cli(&["admin", "backup", target]).await.status.success());
    std::fs::remove_file(copy.join("treehold-backup.json")).expect("its last step");
    let trace = directory.path().join("trace");
    let mut command = d.command_of(&traced(directory.path(), &trace, CALLS), &["admin", "backup", target]).await;
    let mut running = command.stdout(Stdio::null()).spawn().expect("the binary runs");
    assert!(running.wait().expect("its end").success());
    let trace = finished(&trace, running.id());
    let synced = |(_, event): (usize, Event)| match event {
        Event::Synced(path, _) => Some(path),
        _ => None,
    };
    let synced: HashSet<String> = events(&trace).into_iter().filter_map(synced).collect();
    assert_eq!(unsynced_of(copy.join("store/objects"), &synced), Vec::<PathBuf>::new(), "a power cut takes them");
}

fn judged(lines: &[&str]) -> bool {
    let data = PathBuf::from("/p/data");
    let (unsynced, unnamed, known) = (HashMap::new(), HashMap::new(), HashSet::new());
    let since = Since::default();
    let mut disk = Disk { data, unsynced, unnamed, known, since, is_rooted: true };
    let events = events(&lines.join("\n"));
    std::panic::catch_unwind(move || events.into_iter().for_each(|(line, event)| _ = disk.take(line, event))).is_ok()
}

/// Goal: the judge judges. Method: the order that must be, and each step of it left out or moved.
#[test]
fn a_step_that_is_missing_is_noticed() {
    let right = [
        r#"1 mkdir("/p/data/store/objects", 0777) = 0"#,
        "1 fsync(9</p/data/store>) = 0",
        r#"2 write(7</p/data/tmp/put-1>, "PACK", 4 <unfinished ...>"#,
        r#"1 write(4<anon_inode:[eventfd]>, "\1\0", 8) = 8"#,
        "2 <... write resumed>) = 4",
        "2 fsync(7</p/data/tmp/put-1>) = 0",
        r#"2 renameat2(AT_FDCWD</p>, "/p/data/tmp/put-1", AT_FDCWD</p>, "/p/data/store/objects/a", RENAME_NOREPLACE) = 0"#,
        "2 fsync(9</p/data/store/objects>) = 0",
        r#"1 writev(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="HTTP/1.1 201 Created\r\n", iov_len=9}], 1) = 9"#,
    ];
    assert!(judged(&right));
    for sync in [1, 5, 7] {
        let without: Vec<&str> = [&right[..sync], &right[sync + 1..]].concat();
        assert!(!judged(&without), "without {}", right[sync]);
    }
    // Begun before the name came, or failed.
    let early = ["2 fsync(9</p/data/store/objects> <unfinished ...>", right[6], "2 <... fsync resumed>) = 0", right[8]];
    assert!(!judged(&early));
    assert!(!judged(&[right[6], "2 fsync(9</p/data/store/objects>) = -1 EIO (Input/output error)", right[8]]));
    assert!(judged(&[right[6], right[7], right[8]]));
}
