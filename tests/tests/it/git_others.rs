//! Other implementations of git as clients: dulwich (Python), libgit2 (by pygit2) and JGit. Each clones, pushes branches and tags, deletes,
//! hears a refusal and fetches; stock git then finds everything whole. `./check` installs them.

use std::path::Path;
use std::process::Command;

use crate::both;
use crate::deployment::{API_KEY, Deployment};
use crate::git_tools::*;

/// Runs a program, which must succeed; what it printed.
#[track_caller]
fn program(name: &str, arguments: &[&str], home: &Path) -> String {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("LC_ALL", "C.UTF-8");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.output().unwrap_or_else(|error| panic!("{name} is missing ({error}): ./check installs it"));
    let words = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&words));
    String::from_utf8_lossy(&words).into_owned()
}

/// A project with the sample, a clone of it, and a directory.
async fn start(d: &Deployment) -> (uuid::Uuid, Clone, String) {
    let source = Clone::empty(true);
    source.git().run_with(["fast-import", "--quiet"], &treehold_tests::sample::fast_import_stream(21));
    let project = pushed(d, &source).await;
    let at = url(d, project);
    (project, source, at)
}

/// What the client pushed is there, by git and by the HTTP API, and the client's repository is whole.
async fn arrived(d: &Deployment, project: uuid::Uuid, name: &str, source: &Clone) {
    source.run(&["fetch", "--quiet", &url(d, project), "+refs/*:refs/*"]);
    assert_eq!(source.run(&["rev-list", "--count", &format!("main..{name}")]), "1");
    assert_eq!(source.run(&["rev-parse", &format!("by-{name}^{{commit}}")]), source.rev_parse(name));
    assert!(!source.refs().contains_key("refs/heads/passing"));
    same_as(d, project, source).await;
}

both! {
    /// Goal: dulwich works as with any other server.
    async fn dulwich(d) {
        let (project, source, at) = start(&d).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fixtures/clients/dulwich_client.py");
        let to = source.beside("dulwich");
        let told = program("/usr/bin/python3", &[script.to_str().expect("UTF-8"), &at, to.to_str().expect("UTF-8")], &source.beside(""));
        assert!(told.contains("refused: ") && told.contains("only branches"), "{told}");
        arrived(&d, project, "dulwich", &source).await;
        treehold_tests::git::Repo::open(to).fsck_strict();
    }

    /// Goal: libgit2 works as with any other server.
    async fn libgit2(d) {
        let (project, source, at) = start(&d).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fixtures/clients/pygit2_client.py");
        let to = source.beside("libgit2");
        program("/usr/bin/python3", &[script.to_str().expect("UTF-8"), &at, to.to_str().expect("UTF-8")], &source.beside(""));
        arrived(&d, project, "libgit2", &source).await;
        treehold_tests::git::Repo::open(to).fsck_strict();
    }

    /// Goal: JGit works as with any other server.
    async fn jgit(d) {
        let (project, source, _) = start(&d).await;
        let (home, at) = (source.beside(""), d.url(&format!("/git/{project}.git")));
        std::fs::write(home.join(".netrc"), format!("machine 127.0.0.1 login git password {API_KEY}\n")).expect("credentials");
        // Debian's own `jgit` leaves a library out of its class path. Without a console or a display it has only .netrc to ask.
        let jgit = |arguments: &[&str]| {
            let user = format!("-Duser.home={}", home.display());
            let main = ["-Djava.awt.headless=true", &user, "-cp", "/usr/share/java/*", "org.eclipse.jgit.pgm.Main"];
            program("java", &[&main, arguments].concat(), &home)
        };
        let to = source.beside("jgit");
        jgit(&["clone", &at, to.to_str().expect("UTF-8")]);
        let clone = treehold_tests::git::Repo::open(&to);
        clone.fsck_strict();
        clone.commit_file("jgit.txt", "by JGit\n".repeat(50));
        clone.git().run(["tag", "-a", "-m", "a tag", "by-jgit"]);
        let dir = to.join(".git").to_str().expect("UTF-8").to_owned();
        for refs in ["refs/heads/main:refs/heads/jgit", "refs/heads/main:refs/heads/passing", "refs/tags/by-jgit:refs/tags/by-jgit", ":refs/heads/passing"] {
            jgit(&["--git-dir", &dir, "push", "origin", refs]);
        }
        let told = jgit(&["--git-dir", &dir, "push", "origin", "refs/heads/main:refs/nowhere/x"]);
        assert!(told.contains("only branches, tags and notes"), "{told}");
        jgit(&["--git-dir", &dir, "fetch", "origin"]);
        arrived(&d, project, "jgit", &source).await;
        clone.fsck_strict();
    }
}
