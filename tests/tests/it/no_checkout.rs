//! Nothing of a repository becomes a file, a link or a program of the server's machine: there is no checkout, and what repositories tell git
//! to do is not done.
//!
//! Method: a server under `strace`, with a repository that tries. Each call that starts a program or makes a symbolic link counts, and each
//! that makes, or opens for writing, what is not below the data directory; also where it fails.

use std::path::{Component, Path, PathBuf};

use serde_json::json;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::deployment::{Deployment, Setup};
use crate::git_tools::{Clone, pushed, url};
use crate::paths::import;
use crate::power_cuts::{Call, calls, finished, quoted, traced};
use crate::remote_tools::{TEXT, author, commit, commit_body, save, sync};

/// `?`: not every processor has them.
const CALLS: &str = "execve,?execveat,?open,?creat,openat,?openat2,?mkdir,mkdirat,?link,linkat,?symlink,symlinkat,?rename,renameat,\
    renameat2,?mknod,mknodat";

/// What an opened file can be changed by.
const WRITING: [&str; 5] = ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC", "O_TMPFILE"];

/// Whether a call is one that the server has no need of, wherever its data are.
fn escapes(call: &Call, data: &[PathBuf]) -> bool {
    let paths = quoted(&call.arguments);
    let is_inside = |path: &str| {
        let path = Path::new(path);
        data.iter().any(|data| path.starts_with(data)) && !path.components().any(|part| part == Component::ParentDir)
    };
    let are_inside = |count: usize| paths.len() >= count && paths.iter().take(count).all(|path| is_inside(path));
    match call.name.as_str() {
        "open" | "openat" | "openat2" => {
            // What was opened in the end: a link may lead elsewhere.
            let opened = call.result.split_once('<').and_then(|(_, path)| path.split_once('>'));
            let is_writing = WRITING.iter().any(|flag| call.arguments.contains(flag));
            is_writing && !(are_inside(1) && opened.is_none_or(|(path, _)| is_inside(path)))
        }
        "creat" | "mkdir" | "mkdirat" => !are_inside(1),
        "link" | "linkat" | "rename" | "renameat" | "renameat2" => !are_inside(2),
        // A program, a symbolic link, a device.
        _ => true,
    }
}

/// A repository whose files are to be written over each other and elsewhere, and whose configuration is to be run.
async fn hostile(d: &Deployment, outside: &Path) -> Uuid {
    let outside = outside.display();
    let attributes = "* filter=evil diff=evil merge=evil ident eol=crlf\n*.sh export-subst\n";
    let modules = format!(
        "[submodule \"sub\"]\n\tpath = sub\n\turl = ext::sh -c touch% {outside}/cloned\n\tupdate = !touch {outside}/updated\n"
    );
    let config = format!("[core]\n\tfsmonitor = touch {outside}/monitored\n\thooksPath = hooks\n");
    let script = format!("#!/bin/sh\ntouch {outside}/run\n");
    let (link, sub) = (outside.to_string(), "1234567890".repeat(4));
    let files: [(&[u8], &str, &str); 9] = [
        (b".gitattributes", "100644", attributes),
        (b".gitmodules", "100644", &modules),
        (b"config", "100644", &config),
        (b"hooks/post-checkout", "100755", &script),
        // Where case does not count, the second one is written behind the first.
        (b"out", "120000", &link),
        (b"Out/evil.sh", "100755", &script),
        (b"back\\slash", "100644", "text"),
        (b"sub", "160000", &sub),
        (b"text.txt", "100644", TEXT),
    ];
    import(d, "hostile", &files).await
}

/// All that could tempt a server to lay files out, or to let git do it.
async fn work(d: &Deployment, outside: &Path) {
    let (project, user) = (hostile(d, outside).await, Uuid::new_v4());
    assert_eq!(d.get(&format!("/files/{project}/out")).await.text(), outside.display().to_string());
    assert_eq!(d.get(&format!("/files/{project}/Out/evil.sh")).await.status, 200);
    for route in ["archive.tar.gz", "archive.zip"] {
        assert_eq!(d.get(&format!("/projects/{project}/{route}?ref=main")).await.status, 200, "{route}");
    }
    d.post(&format!("/projects/{project}/search"), json!({"query": "touch"})).await.ok(200);
    save(d, project, user, "Out/evil.sh", "edited\n").await;
    commit(d, project, commit_body(user, "Edit and push")).await.ok(200);
    // Both sides change a file for which there is a merge driver.
    let ours = json!([{"action": "update", "path": "text.txt", "content": format!("ours\n{TEXT}")}]);
    let body = json!({"message": "Ours", "author": author(), "actions": ours, "push": false});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    let theirs = format!("{TEXT}theirs\n");
    let stream = format!(
        "commit refs/heads/main\ncommitter C <c@example.org> 1800000000 +0000\ndata 1\nm\nfrom refs/heads/main^0\n\
         M 100644 inline text.txt\ndata {}\n{theirs}\n",
        theirs.len()
    );
    Repo::open(d.remotes.path().join("hostile.git")).git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    sync(d, project, json!({"on_conflict": "merge"})).await.ok(200);
    let merged = d.get(&format!("/files/{project}/text.txt")).await.text();
    assert_eq!(merged, format!("ours\n{TEXT}theirs\n"));
    // Clients of git: out and in.
    let mirror = Clone::of_project(d, project, "2", &["--mirror"]);
    assert_eq!(mirror.cat_file("main:text.txt"), merged.as_bytes());
    let clone = Clone::empty(false);
    clone.commit_file("dir/file", "content\n");
    let other = pushed(d, &clone).await;
    clone.commit_file(".gitattributes", "* filter=evil merge=evil\n");
    clone.run(&["push", "--quiet", &url(d, other), "HEAD:refs/heads/main"]);
    assert_eq!(d.get(&format!("/files/{other}/dir/file")).await.text(), "content\n");
    assert_eq!(d.get(&format!("/projects/{other}/bundle")).await.status, 200);
}

/// Goal: what comes in stays in the store, whatever it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_laid_out_or_run() {
    let [directory, outside] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let trace = directory.path().join("trace");
    let program = traced(directory.path(), &trace, CALLS);
    let mut d = Deployment::start_version(Setup::Embedded, program).await;
    let server = d.server_pid();
    work(&d, outside.path()).await;
    d.stop().await;
    let calls = calls(&finished(&trace, server));
    let data = [d.data.path().to_owned(), d.data.path().canonicalize().expect("a path")];
    let (first, rest) = calls.split_first().expect("a trace");
    assert_eq!(first.name, "execve", "the server itself");
    let escaped: Vec<&Call> = rest.iter().filter(|call| escapes(call, &data)).collect();
    assert!(escaped.is_empty(), "{escaped:#?}");
    let made = rest.iter().filter(|call| call.succeeded() && call.arguments.contains("O_CREAT")).count();
    assert!(made > 10, "only {made} files are in the trace");
    assert_eq!(std::fs::read_dir(outside.path()).expect("a directory").count(), 0);
}

/// Goal: the judge judges.
#[test]
fn what_escapes_is_noticed() {
    let data = [PathBuf::from("/p/data")];
    let judged = |line: &str| calls(line).iter().map(|call| escapes(call, &data)).collect::<Vec<_>>();
    for line in [
        r#"1 openat(AT_FDCWD</p>, "/p/data/spool/a", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 9</p/data/spool/a>"#,
        r#"1 openat(AT_FDCWD</p>, "/etc/ssl/cert.pem", O_RDONLY|O_CLOEXEC) = 9</etc/ssl/cert.pem>"#,
        r#"1 openat(AT_FDCWD</p>, "/p/data/spool/a", O_RDWR|O_CREAT|O_EXCL, 0600) = -1 EEXIST (File exists)"#,
        r#"1 mkdir("/p/data/store/objects", 0777) = -1 EEXIST (File exists)"#,
        r#"1 renameat2(AT_FDCWD</p>, "/p/data/tmp/put-1", AT_FDCWD</p>, "/p/data/store/a", RENAME_NOREPLACE) = 0"#,
    ] {
        assert_eq!(judged(line), [false], "{line}");
    }
    for line in [
        r#"1 openat(AT_FDCWD</p>, "/tmp/a", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 9</tmp/a>"#,
        r#"1 openat(AT_FDCWD</p>, "/p/data/a", O_WRONLY|O_CLOEXEC) = 9</etc/passwd>"#,
        r#"1 openat(AT_FDCWD</p>, "/p/data/../a", O_WRONLY|O_CREAT, 0600) = -1 EACCES (Permission denied)"#,
        r#"1 openat(AT_FDCWD</p>, "a", O_WRONLY|O_CREAT, 0600) = 9</p/a>"#,
        r#"1 openat(AT_FDCWD</p>, "/tmp", O_RDWR|O_EXCL|O_TMPFILE|O_CLOEXEC, 0600) = 9</tmp/#12 (deleted)>"#,
        r#"1 mkdir("/p/database", 0777) = 0"#,
        r#"1 linkat(AT_FDCWD</p>, "/p/data/a", AT_FDCWD</p>, "/p/a", 0) = 0"#,
        r#"1 symlink("/etc", "/p/data/a") = 0"#,
        r#"1 execve("/usr/bin/git", ["git", "upload-pack"], 0x7ffc /* 5 vars */) = -1 ENOENT (No such file or directory)"#,
    ] {
        assert_eq!(judged(line), [true], "{line}");
    }
}
