//! Archives, bundles and exported repositories, opened with stock tools.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment};
use crate::git_tools::{Clone, pushed, reached, stored};
use crate::history::whole_project;
use crate::verifications::{percent, text};

const UNZIP: &str = "
import os, stat, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    for i in z.infolist():
        mode = i.external_attr >> 16
        to = os.path.join(sys.argv[2], i.filename)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if stat.S_ISLNK(mode):
            os.symlink(z.read(i), to.encode())
        elif i.is_dir():
            os.makedirs(to, exist_ok=True)
        else:
            with open(to, 'wb') as f:
                f.write(z.read(i))
            os.chmod(to, stat.S_IMODE(mode))
";

fn succeed(command: &mut Command) {
    let output = command.output().expect("the tool runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What lies below `dir`: path, mode as git has it, and content; directories only where they are empty.
fn unpacked(dir: &Path) -> Vec<(String, &'static str, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        let mut entries = 0;
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = path.symlink_metadata().expect("metadata");
            entries += 1;
            let name = path.strip_prefix(dir).expect("below").to_str().expect("UTF-8").to_owned();
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).expect("a link");
                found.push((name, "120000", target.into_os_string().into_encoded_bytes()));
            } else {
                let mode = if meta.permissions().mode() & 0o100 != 0 { "100755" } else { "100644" };
                found.push((name, mode, std::fs::read(&path).expect("content")));
            }
        }
        if entries == 0 && next != dir {
            let name = next.strip_prefix(dir).expect("below").to_str().expect("UTF-8").to_owned();
            found.push((name, "160000", Vec::new()));
        }
    }
    found.sort();
    found
}

/// What stock git has at `revision`, in the same shape.
fn expected(repo: &Repo, revision: &str) -> Vec<(String, &'static str, Vec<u8>)> {
    let lines = repo.ls_tree(revision).into_iter().map(|line| match line.mode.as_str() {
        "160000" => (text(&line.path), "160000", Vec::new()),
        "120000" => (text(&line.path), "120000", repo.cat_file(&line.oid)),
        "100755" => (text(&line.path), "100755", repo.cat_file(&line.oid)),
        _ => (text(&line.path), "100644", repo.cat_file(&line.oid)),
    });
    let mut all: Vec<_> = lines.collect();
    all.sort();
    all
}

/// Downloads an archive and unpacks it with `tar` or Python.
async fn archive(d: &Deployment, project: Uuid, format: &str, query: &str) -> Vec<(String, &'static str, Vec<u8>)> {
    let reply = d.get(&format!("/projects/{project}/archive.{format}{query}")).await;
    reply.ok(200);
    assert!(reply.header("content-disposition").ends_with(&format!(".{format}\"")));
    let kind = if format == "zip" { "application/zip" } else { "application/gzip" };
    assert_eq!(reply.header("content-type"), kind);
    let dir = tempfile::tempdir().expect("a directory");
    let (file, to) = (dir.path().join("archive"), dir.path().join("to"));
    std::fs::write(&file, &reply.body).expect("write");
    std::fs::create_dir(&to).expect("mkdir");
    match format {
        "zip" => succeed(Command::new("python3").args(["-c", UNZIP]).args([&file, &to])),
        _ => succeed(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&to)),
    }
    unpacked(&to)
}

/// Exports with more arguments; the repository, checked.
async fn export_with(d: &Deployment, project: Uuid, dir: &Path, more: &[&str]) -> (serde_json::Value, Repo) {
    let (project, to) = (project.to_string(), dir.to_str().expect("utf-8"));
    let out = d.cli(&[&["export", &project, to, "--json"], more].concat()).await;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let repo = Repo::open(dir);
    repo.fsck_strict();
    (serde_json::from_slice(&out.stdout).expect("JSON"), repo)
}

/// Pending work that changes, adds, links and deletes; the same made by stock git in a clone.
async fn some_pending(d: &Deployment, project: Uuid, user: Uuid, clone: &Repo) -> String {
    let files: Vec<_> = clone.ls_tree("HEAD").into_iter().filter(|l| l.mode == "100755").collect();
    let url = |path: &str| format!("/pending/{project}/{user}/{}", percent(path));
    let (changed, gone) = (text(&files[0].path), text(&files[1].path));
    d.put(&url(&changed), "#!/bin/sh\necho changed\n").await.ok(201);
    d.put(&format!("{}?action=deleted", url(&gone)), "").await.ok(201);
    d.put(&url("neu/größe 日本.txt"), "new\n").await.ok(201);
    d.put(&format!("{}?mode=120000", url("neu/link")), "größe 日本.txt").await.ok(201);
    std::fs::write(clone.path().join(&changed), "#!/bin/sh\necho changed\n").expect("write");
    std::fs::remove_file(clone.path().join(&gone)).expect("remove");
    std::fs::create_dir_all(clone.path().join("neu")).expect("mkdir");
    std::fs::write(clone.path().join("neu/größe 日本.txt"), "new\n").expect("write");
    std::os::unix::fs::symlink("größe 日本.txt", clone.path().join("neu/link")).expect("link");
    clone.git().run(["add", "-A"]);
    clone.git().run(["write-tree"])
}

both! {
    /// Goal: archives unpack with stock tools to what git has: bytes, executables, links, submodules, Unicode names.
    async fn archives(d) {
        let remote = d.remote("docs", 41);
        let project = d.connect("docs").await;
        for format in ["tar.gz", "zip"] {
            assert_eq!(archive(&d, project, format, "").await, expected(&remote, "main"), "{format}");
        }
        let user = Uuid::new_v4();
        let (_dir, clone) = d.clone_remote("docs");
        let tree = some_pending(&d, project, user, &clone).await;
        for format in ["tar.gz", "zip"] {
            let query = format!("?user={user}");
            assert_eq!(archive(&d, project, format, &query).await, expected(&clone, &tree), "{format}");
            assert_eq!(archive(&d, project, format, "?ref=main").await, expected(&remote, "main"), "{format}");
        }
        let whole = whole_project(&d, "docs").await;
        let older = remote.rev_parse("main~9");
        assert_eq!(archive(&d, whole, "tar.gz", &format!("?ref={older}")).await, expected(&remote, &older));
        d.get(&format!("/projects/{project}/archive.zip?ref=nowhere")).await.problem(404, "ref_not_found");
        let empty = d.local_project().await;
        assert_eq!(archive(&d, empty, "tar.gz", "").await, vec![]);
        assert_eq!(archive(&d, empty, "zip", "").await, vec![]);
    }

    /// Goal: an archive ends where it would be larger than one may be, though what it is made of is small; what fits is whole.
    async fn archives_have_an_end(d) {
        let mut d = d;
        d.stop().await;
        d.set("TREEHOLD_LIMIT_ARCHIVE_BYTES", &(1 << 20).to_string());
        d.up().await;
        let clone = Clone::empty(false);
        let mut noise = vec![0; 100 << 10];
        rand::fill(&mut noise[..]);
        let named = |names: std::ops::Range<usize>| names.map(|n| format!("noise-{n}")).collect::<Vec<_>>();
        let files = |names: &[String]| {
            let files: Vec<_> = names.iter().map(|name| (name.as_str(), Some(noise.as_slice()))).collect();
            clone.commit_files(&files, "One content")
        };
        let few = files(&named(0..5));
        files(&named(5..100));
        let project = pushed(&d, &clone).await;
        for format in ["tar.gz", "zip"] {
            let refused = d.get(&format!("/projects/{project}/archive.{format}")).await.problem(413, "too_large");
            assert_eq!((&refused["limit"], &refused["unit"]), (&json!(1 << 20), &json!("bytes of content")), "{refused}");
            assert_eq!(archive(&d, project, format, &format!("?ref={few}")).await, expected(&clone, &few), "{format}");
        }
        // Where names are what takes the room, by what is written.
        let (clone, many) = (Clone::empty(false), 8_000);
        for n in 0..many {
            std::fs::write(clone.path().join(format!("{}-{n}", "name".repeat(15))), "").expect("write");
        }
        clone.git().run(["add", "-A"]);
        clone.git().run(["commit", "-q", "-m", "No content"]);
        let project = pushed(&d, &clone).await;
        let refused = d.get(&format!("/projects/{project}/archive.zip")).await.problem(413, "too_large");
        assert_eq!((&refused["what"], &refused["unit"]), (&json!("the archive"), &json!("bytes")), "{refused}");
        assert_eq!(archive(&d, project, "tar.gz", "").await.len(), many);
    }

    /// Goal: an archive is one snapshot, however many reads it takes: a pending file that moves from its beginning to its end and back
    /// is in it once.
    async fn archives_of_moving_work(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let put = |n: usize| json!({"action": "create", "path": format!("m/{n:05}"), "content": "x\n"});
        let actions: Vec<_> = (0..3_000).map(put).collect();
        let author = json!({"name": "A", "email": "a@example.org"});
        let body = json!({"message": "m", "author": author, "actions": actions});
        d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
        d.put(&format!("/pending/{project}/{user}/a"), "moves\n").await.ok(201);
        let moving = async {
            for round in 0..60 {
                let (from, to) = if round % 2 == 0 { ("a", "z") } else { ("z", "a") };
                let moves = json!({"atomic": true, "ops": [{"op": "move", "from": from, "path": to}]});
                d.post(&format!("/pending/{project}/{user}"), moves).await.ok(200);
            }
        };
        let archiving = async {
            for _ in 0..6 {
                let files = archive(&d, project, "tar.gz", &format!("?user={user}")).await;
                let moving = files.iter().filter(|(path, ..)| path == "a" || path == "z").count();
                assert_eq!((files.len(), moving), (3_001, 1));
            }
        };
        tokio::join!(moving, archiving);
    }

    /// Goal: a tar holds names and link targets longer than its old fields, and the commit's time, as `git archive` writes them.
    async fn archives_of_odd_names(d) {
        let remote = d.remote("docs", 42);
        let (_dir, clone) = d.clone_remote("docs");
        let long = format!("{}/{}", "long".repeat(30), "name".repeat(40));
        clone.commit_files(&[(long.as_str(), Some(b"long\n")), ("back\\slash", Some(b"x"))], "Long");
        std::os::unix::fs::symlink("t/".repeat(100), clone.path().join("long-link")).expect("link");
        clone.git().run(["add", "-A"]);
        clone.git().run(["commit", "-q", "-m", "Link"]);
        clone.git().run(["push", "-q", "origin", "HEAD"]);
        let project = d.connect("docs").await;
        assert_eq!(archive(&d, project, "tar.gz", "").await, expected(&remote, "main"));
        assert_eq!(archive(&d, project, "zip", "").await, expected(&remote, "main"));
    }

    /// Goal: a bundle is cloned by stock git, with every ref and object.
    async fn bundles(d) {
        let remote = d.remote("docs", 43);
        let project = whole_project(&d, "docs").await;
        let older = remote.rev_parse("main~5");
        d.put_json(&format!("/projects/{project}/refs/tags/older"), json!({"oid": older})).await.ok(201);
        d.put_json(&format!("/projects/{project}/refs/heads/side"), json!({"oid": older})).await.ok(201);
        let reply = d.get(&format!("/projects/{project}/bundle")).await;
        reply.ok(200);
        assert_eq!(reply.header("content-type"), "application/x-git-bundle");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("docs.bundle");
        std::fs::write(&file, &reply.body).expect("write");
        let git = Git::at(dir.path());
        git.run(["clone", "-q", "--mirror", "docs.bundle", "clone.git"]);
        let clone = Repo::open(dir.path().join("clone.git"));
        clone.fsck_strict();
        let refs: Vec<(String, String)> = clone.refs().into_iter().collect();
        let head = remote.rev_parse("main");
        let named = [("refs/heads/main", &head), ("refs/heads/side", &older), ("refs/tags/older", &older)];
        assert_eq!(refs, named.map(|(name, oid)| (name.to_owned(), oid.clone())));
        let sorted = |mut oids: Vec<String>| { oids.sort(); oids };
        let objects = remote.git().run(["rev-list", "--objects", "--no-object-names", "main"]);
        assert_eq!(sorted(clone.reachable()), sorted(objects.lines().map(str::to_owned).collect()));
        git.run(["clone", "-q", "docs.bundle", "work"]);
        assert_eq!(Repo::open(dir.path().join("work")).git().run(["symbolic-ref", "HEAD"]), "refs/heads/main");
        clone.git().run(["bundle", "verify", "-q", file.to_str().expect("utf-8")]);

        let user = Uuid::new_v4();
        let (_work_dir, work) = d.clone_remote("docs");
        let tree = some_pending(&d, project, user, &work).await;
        let reply = d.get(&format!("/projects/{project}/bundle?user={user}")).await;
        reply.ok(200);
        std::fs::write(&file, &reply.body).expect("write");
        git.run(["clone", "-q", "--mirror", "docs.bundle", "pending.git"]);
        let pending = Repo::open(dir.path().join("pending.git"));
        pending.fsck_strict();
        assert_eq!(pending.rev_parse(&format!("refs/pending/{user}^{{tree}}")), tree);
        assert_eq!(pending.rev_parse(&format!("refs/pending/{user}^")), head);
    }

    /// Goal: who has a key fetches uncommitted work by its name, as a commit on the head; nobody else, and never unasked.
    async fn pending_work_is_fetched_by_name(d) {
        d.remote("docs", 46);
        let project = whole_project(&d, "docs").await;
        let user = Uuid::new_v4();
        let (_work_dir, work) = d.clone_remote("docs");
        let tree = some_pending(&d, project, user, &work).await;
        let url = |password: &str| {
            let url = d.url(&format!("/git/{project}.git"));
            url.replacen("http://", &format!("http://git:{password}@"), 1)
        };
        let dir = tempfile::tempdir().expect("a directory");
        let git = Git::at(dir.path());
        git.run(["clone", "-q", "--bare", &url(API_KEY), "clone.git"]);
        let clone = Repo::open(dir.path().join("clone.git"));
        let name = format!("refs/pending/{user}");
        assert!(clone.refs().keys().all(|name| !name.starts_with("refs/pending/")));
        clone.git().run(["fetch", "-q", "origin", &format!("{name}:{name}")]);
        clone.fsck_strict();
        assert_eq!(clone.rev_parse(&format!("{name}^{{tree}}")), tree);
        assert_eq!(clone.rev_parse(&format!("{name}^")), clone.rev_parse("main"));
        // Also whole, from nothing, and by its id.
        git.run(["init", "-q", "--bare", "new.git"]);
        let new = Repo::open(dir.path().join("new.git"));
        new.git().run(["fetch", "-q", &url(API_KEY), &format!("{name}:{name}")]);
        new.fsck_strict();
        let commit = clone.rev_parse(&name);
        assert_eq!(new.rev_parse(&name), commit);
        git.run(["init", "-q", "--bare", "third.git"]);
        let third = Repo::open(dir.path().join("third.git"));
        third.git().run(["fetch", "-q", &url(API_KEY), &commit]);
        let made = d.cli(&["token", "create", &project.to_string(), "--json"]).await;
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("json");
        let token = url(made["secret"].as_str().expect("a secret"));
        git.run(["init", "-q", "--bare", "fourth.git"]);
        let fourth = Repo::open(dir.path().join("fourth.git"));
        for wanted in [name.as_str(), commit.as_str()] {
            assert!(!fourth.git().output(["fetch", "-q", &token, wanted]).status.success(), "{wanted}");
        }
        fourth.git().run(["fetch", "-q", &token, "main"]);
        let nobody = format!("refs/pending/{}", Uuid::new_v4());
        assert!(!new.git().output(["fetch", "-q", &url(API_KEY), &nobody]).status.success());
    }

    /// Goal: a bundle of one ref has that one and what it reaches; a name that is none is told.
    async fn a_bundle_of_one_ref(d) {
        let source = d.remote("docs", 23);
        source.git().run(["branch", "-f", "early", "main~1"]);
        source.git().run(["tag", "-f", "-a", "-m", "One", "v1", "early"]);
        let project = pushed(&d, &source).await;
        let dir = tempfile::tempdir().expect("a directory");
        for (name, full) in [("early", "refs/heads/early"), ("v1", "refs/tags/v1"), ("refs/heads/early", "refs/heads/early")] {
            let reply = d.get(&format!("/projects/{project}/bundle?ref={name}")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let file = dir.path().join("one.bundle");
            std::fs::write(&file, &reply.body).expect("a bundle");
            let git = Git::at(dir.path());
            assert_eq!(git.run(["ls-remote", "one.bundle"]).lines().count(), 1, "{name}");
            let clone = format!("{}.git", Uuid::new_v4());
            git.run(["clone", "-q", "--mirror", "one.bundle", &clone]);
            let clone = Repo::open(dir.path().join(clone));
            assert_eq!(clone.rev_parse(full), source.rev_parse(full));
            assert_eq!(reached(&clone), stored(&clone), "{name} brings nothing else");
        }
        let bundle = format!("/projects/{project}/bundle");
        d.get(&format!("{bundle}?ref=none")).await.problem(404, "ref_not_found");
        d.get(&format!("{bundle}?ref={}", source.rev_parse("early"))).await.problem(422, "not_a_ref");
        d.get(&format!("{bundle}?ref={}", "1".repeat(40))).await.problem(404, "ref_not_found");
    }

    /// Goal: a bundle of one branch brings the user's pending work on that branch, and what is no branch has none.
    async fn a_bundle_of_one_branch_and_its_pending_work(d) {
        let source = d.remote("docs", 23);
        source.git().run(["branch", "-f", "early", "main~1"]);
        source.git().run(["tag", "-f", "-a", "-m", "One", "v1", "early"]);
        let project = pushed(&d, &source).await;
        let (user, early) = (Uuid::new_v4(), source.rev_parse("early"));
        d.put(&format!("/pending/{project}/{user}/mine.txt?branch=early"), "early\n").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/mine.txt"), "main\n").await.ok(201);
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = format!("/projects/{project}/bundle?user={user}");
        for (query, branch) in [("&ref=early", "early"), ("&ref=refs/heads/early", "early"), ("&ref=main", "main"), ("", "main")] {
            let reply = d.get(&format!("{bundle}{query}")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            std::fs::write(dir.path().join("mine.bundle"), &reply.body).expect("a bundle");
            let clone = format!("{}.git", Uuid::new_v4());
            Git::at(dir.path()).run(["clone", "-q", "--mirror", "mine.bundle", &clone]);
            let clone = Repo::open(dir.path().join(clone));
            clone.fsck_strict();
            assert_eq!(clone.refs().contains_key("refs/tags/v1"), query.is_empty());
            let pending = format!("refs/pending/{user}");
            assert_eq!(clone.rev_parse(&format!("{pending}~1")), source.rev_parse(branch));
            assert_eq!(clone.cat_file(&format!("{pending}:mine.txt")), format!("{branch}\n").into_bytes());
            assert_eq!(reached(&clone), stored(&clone), "{query} brings nothing else");
        }
        for other in ["v1", "refs/tags/v1", &early] {
            d.get(&format!("{bundle}&ref={other}")).await.problem(422, "not_a_branch");
        }
        d.get(&format!("{bundle}&ref=none")).await.problem(404, "ref_not_found");
    }

    /// Goal: what has no whole history, or none, is not bundled.
    async fn refused_bundles(d) {
        d.remote("docs", 44);
        let shallow = d.connect("docs").await;
        d.get(&format!("/projects/{shallow}/bundle")).await.problem(422, "shallow_history");
        let empty = d.local_project().await;
        d.get(&format!("/projects/{empty}/bundle")).await.problem(422, "empty_project");
        d.get(&format!("/projects/{}/bundle", Uuid::new_v4())).await.problem(404, "project_not_found");
        let (_dir, export) = d.export(empty).await;
        assert_eq!((export.refs().len(), export.git().run(["symbolic-ref", "HEAD"])), (0, "refs/heads/main".to_owned()));
    }

    /// Goal: an export is a bare repository that git takes, shallow where the project is, with pending work as a commit if asked.
    async fn exported_repositories(d) {
        let remote = d.remote("docs", 45);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let dir = tempfile::tempdir().expect("a directory");
        let (report, plain) = export_with(&d, project, &dir.path().join("plain"), &["--user", &user.to_string()]).await;
        assert_eq!((report["shallow"].clone(), report["refs"].clone()), (json!(true), json!(1)));
        assert_eq!(plain.git().run(["rev-parse", "--is-shallow-repository"]), "true");
        assert_eq!(plain.refs().into_iter().collect::<Vec<_>>(), [("refs/heads/main".to_owned(), remote.rev_parse("main"))]);
        assert_eq!(report["objects"], json!(plain.reachable().len()));

        let (_clone_dir, clone) = d.clone_remote("docs");
        let tree = some_pending(&d, project, user, &clone).await;
        let name = format!("refs/pending/{user}");
        let before = d.get(&format!("/pending/{project}/{user}")).await.text();
        let (_, export) = export_with(&d, project, &dir.path().join("pending"), &["--user", &user.to_string()]).await;
        assert_eq!(export.rev_parse(&format!("{name}^{{tree}}")), tree);
        assert_eq!(export.rev_parse(&format!("{name}^")), remote.rev_parse("main"));
        assert_eq!(export.rev_parse("main"), remote.rev_parse("main"));
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.text(), before);
        let (_, without) = export_with(&d, project, &dir.path().join("without"), &[]).await;
        assert_eq!(without.refs().len(), 1);

        let full = dir.path().join("full");
        std::fs::create_dir(&full).expect("mkdir");
        std::fs::write(full.join("precious"), "mine").expect("write");
        let out = d.cli(&["export", &project.to_string(), full.to_str().expect("utf-8")]).await;
        assert_eq!(out.status.code(), Some(1));
        assert_eq!(std::fs::read_dir(&full).expect("a directory").count(), 1);
        assert_eq!(std::fs::read_to_string(full.join("precious")).expect("read"), "mine");
    }

    /// Goal: `--bundle` writes the same bundle beside the directory; that of a shallow project is refused before anything is written.
    async fn exported_bundles(d) {
        d.remote("docs", 46);
        let project = whole_project(&d, "docs").await;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("docs.bundle");
        let more = ["--bundle", file.to_str().expect("utf-8")];
        let (_, export) = export_with(&d, project, &dir.path().join("repo"), &more).await;
        Git::at(dir.path()).run(["clone", "-q", "--mirror", "docs.bundle", "clone.git"]);
        let clone = Repo::open(dir.path().join("clone.git"));
        clone.fsck_strict();
        assert_eq!(clone.refs(), export.refs());
        let sorted = |mut oids: Vec<String>| { oids.sort(); oids };
        assert_eq!(sorted(clone.reachable()), sorted(export.reachable()));
        let shallow = d.connect("docs").await;
        let (to, file) = (dir.path().join("cut"), dir.path().join("cut.bundle"));
        let arguments = ["export", &shallow.to_string(), to.to_str().expect("utf-8"), "--bundle", file.to_str().expect("utf-8")];
        let out = d.cli(&arguments).await;
        assert_eq!(out.status.code(), Some(1));
        assert!(!file.exists() && !to.exists());
    }
}
