//! Stock git pushes, in every version of the protocol: what is there afterwards, by git and by the HTTP API, and what git tells its user.

use std::process::Command;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use treehold_object::Kind;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, json_body};
use crate::git_raw::{Entry, ZERO, commit_of, oid, pack, push_head};
use crate::git_tools::*;
use crate::remote_tools::{TEXT, actions, author, commit, commit_body, pending, save, small_remote, status};

/// A clone of a new project with a text in two commits.
async fn start(d: &Deployment, version: &'static str) -> (Uuid, Clone) {
    let project = d.local_project().await;
    let clone = Clone::of_project(d, project, version, &[]);
    clone.commit_files(&[("text.txt", Some(TEXT.as_bytes())), ("dir/a.txt", Some(b"a\n"))], "First");
    clone.commit_file("dir/b.txt", "b\n");
    clone.run(&["push", "--quiet", "-u", "origin", "main"]);
    (project, clone)
}

/// The project has the clone's branches and tags, as files, log and refs show them.
async fn arrived(d: &Deployment, project: Uuid, clone: &Clone) {
    let bare = Clone::empty(true);
    bare.run(&[
        "fetch",
        "--quiet",
        &clone.path().display().to_string(),
        "refs/heads/*:refs/heads/*",
        "refs/tags/*:refs/tags/*",
    ]);
    same_as(d, project, &bare).await;
}

async fn policy(d: &Deployment, project: Uuid, receive: Value) {
    let request = json_body(d.request("PATCH", &format!("/projects/{project}")), &json!({"receive": receive}));
    d.send(request).await.ok(200);
}

/// States of the user's pending work, by path.
async fn states(d: &Deployment, project: Uuid, user: Uuid) -> Vec<(String, String)> {
    let status = status(d, project, user).await;
    let text = |change: &Value, name: &str| change[name].as_str().expect("text").to_owned();
    status["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| (text(change, "path"), text(change, "state")))
        .collect()
}

/// A push whose last byte waits.
struct SlowPush {
    stream: TcpStream,
    last: u8,
}

impl SlowPush {
    async fn begin(d: &Deployment, project: Uuid, head: &[u8], pack: &[u8]) -> SlowPush {
        let key = base64::prelude::BASE64_STANDARD.encode(format!("git:{API_KEY}"));
        let mut bytes = format!(
            "POST /git/{project}.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {key}\r\n\
             Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {}\r\n\r\n",
            head.len() + pack.len()
        )
        .into_bytes();
        bytes.extend([head, pack].concat());
        let last = bytes.pop().expect("a byte");
        let mut stream = TcpStream::connect(d.url("").replace("http://", "")).await.expect("a connection");
        stream.write_all(&bytes).await.expect("send");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        SlowPush { stream, last }
    }

    async fn finish(mut self) -> String {
        self.stream.write_all(&[self.last]).await.expect("send");
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

both! {
    /// Goal: refs are created, moved, deleted and forced, one at a time and many at once, with everything that they need.
    async fn every_kind(d) {
        for version in VERSIONS {
            let (project, clone) = start(&d, version).await;
            arrived(&d, project, &clone).await;
            clone.commit_file("text.txt", TEXT.replace('5', "five"));
            clone.run(&["push", "--quiet"]);
            clone.run(&["branch", "topic", "HEAD~1"]);
            clone.run(&["tag", "light"]);
            clone.run(&["tag", "-a", "-m", "x", "heavy"]);
            clone.run(&["tag", "-a", "-m", "x", "of-a-tag", "heavy"]);
            clone.run(&["tag", "blob", "HEAD:text.txt"]);
            clone.run(&["push", "--quiet", "--follow-tags", "origin", "topic", "light", "heavy", "of-a-tag", "blob"]);
            arrived(&d, project, &clone).await;
            clone.run(&["branch", "-D", "topic"]);
            clone.run(&["tag", "-d", "light"]);
            clone.run(&["push", "--quiet", "origin", ":topic", ":light"]);
            arrived(&d, project, &clone).await;
            clone.run(&["reset", "--quiet", "--hard", "HEAD~1"]);
            clone.commit_file("text.txt", "another way\n");
            clone.refused(&["push", "origin", "main"], "[rejected]");
            clone.run(&["push", "--quiet", "--force-with-lease", "origin", "main"]);
            arrived(&d, project, &clone).await;
            // A root of its own, without anything in common.
            clone.run(&["checkout", "--quiet", "--orphan", "alone"]);
            clone.commit_file("alone", "alone\n");
            clone.run(&["push", "--quiet", "origin", "alone"]);
            clone.run(&["tag", "-f", "heavy", "alone"]);
            clone.run(&["push", "--quiet", "--force", "origin", "heavy"]);
            arrived(&d, project, &clone).await;
            let (done, words) = clone.tell(&["push", "origin", "alone"]);
            assert!(done && words.contains("Everything up-to-date"), "{words}");
        }
    }

    /// Goal: a long chain of tags shuts nobody out of the project.
    async fn tags_of_tags(d) {
        let (project, clone) = start(&d, "2").await;
        let mut stream = format!("tag t0\nmark :1\nfrom {}\ntagger T <t@example.org> 1700000000 +0000\ndata 1\nx\n", clone.rev_parse("HEAD"));
        for number in 1..200 {
            stream.push_str(&format!("tag t{number}\nmark :{}\nfrom :{number}\ntagger T <t@example.org> 1700000000 +0000\ndata 1\nx\n", number + 1));
        }
        clone.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
        let (taken, words) = clone.tell(&["push", "--quiet", "origin", "t50", "t199"]);
        for version in VERSIONS {
            let other = Clone::of_project(&d, project, version, &["--mirror"]);
            assert_eq!(other.refs(), api_refs(&d, project).await, "{taken} {words}");
            other.fsck_strict();
            other.run(&["fetch", "--quiet"]);
        }
        clone.commit_file("after", "after\n");
        clone.run(&["push", "--quiet"]);
        assert!(taken, "{words}");
    }

    /// Goal: hundreds of refs go in one push; an atomic one goes as a whole or not at all; options are taken.
    async fn many_at_once(d) {
        let (project, clone) = start(&d, "2").await;
        let head = clone.rev_parse("HEAD");
        let list: String = (0..700).map(|n| format!("create refs/heads/many/{n} {head}\ncreate refs/tags/t{n} {head}\n")).collect();
        clone.git().run_with(["update-ref", "--stdin"], list.as_bytes());
        clone.run(&["push", "--quiet", "--all", "-o", "ci.skip", "--push-option=key=value with spaces"]);
        clone.run(&["push", "--quiet", "--tags", "--atomic"]);
        arrived(&d, project, &clone).await;
        let gone: Vec<String> = (0..600).map(|n| format!(":many/{n}")).collect();
        clone.run(&["commit", "--quiet", "--allow-empty", "-m", "more"]);
        let all: Vec<&str> = gone.iter().map(String::as_str).collect();
        clone.run(&[&["push", "--quiet", "--atomic", "origin", "main"], &all[..]].concat());
        let list: String = (0..600).map(|n| format!("delete refs/heads/many/{n}\n")).collect();
        clone.git().run_with(["update-ref", "--stdin"], list.as_bytes());
        arrived(&d, project, &clone).await;
        let other = Clone::of_project(&d, project, "2", &[]);
        other.commit_file("other", "other\n");
        other.run(&["push", "--quiet"]);
        clone.commit_file("mine", "mine\n");
        let before = api_refs(&d, project).await;
        let words = clone.refused(&["push", "--atomic", "origin", "+main:refs/heads/new", "main"], "main");
        assert!(words.contains("atomic push failed") || words.contains("atomic transaction"), "{words}");
        assert_eq!(api_refs(&d, project).await, before);
        policy(&d, project, json!({"deny_non_fast_forwards": true})).await;
        let words = clone.refused(&["push", "--atomic", "origin", "+main:refs/heads/new", "+main"], "non-fast-forward");
        assert!(words.contains("atomic push failed"), "{words}");
        assert_eq!(api_refs(&d, project).await, before);
        clone.refused(&["push", "origin", "+main:refs/heads/new", "+main"], "non-fast-forward");
        assert_eq!(api_refs(&d, project).await.get("refs/heads/new"), Some(&clone.rev_parse("main")), "the other one went");
    }

    /// Goal: a push leaves pending work as it is and tells its states; what users commit by HTTP comes to git, merged with the push.
    async fn beside_pending_work(d) {
        for version in VERSIONS {
            let (project, clone) = start(&d, version).await;
            let user = Uuid::new_v4();
            save(&d, project, user, "text.txt", &TEXT.replace("1\n2", "one\n2")).await;
            save(&d, project, user, "dir/a.txt", "mine\n").await;
            save(&d, project, user, "dir/new.txt", "new\n").await;
            clone.commit_files(&[("text.txt", Some(TEXT.replace("9\n", "nine\n").as_bytes())), ("dir/a.txt", Some(b"theirs\n"))], "Others");
            clone.run(&["push", "--quiet"]);
            arrived(&d, project, &clone).await;
            let told = |path: &str, state: &str| (path.to_owned(), state.to_owned());
            assert_eq!(states(&d, project, user).await, [told("dir/a.txt", "conflict"), told("dir/new.txt", "clean"), told("text.txt", "outdated")]);
            let seen = d.get(&format!("/files/{project}/dir/a.txt?user={user}")).await;
            assert_eq!(seen.text(), "mine\n");
            commit(&d, project, commit_body(user, "All")).await.problem(409, "conflict");
            let mut body = commit_body(user, "Mine");
            body["paths"] = json!(["text.txt", "dir/new.txt"]);
            let made = commit(&d, project, body).await.ok(200)["commit"].clone();
            assert_eq!(pending(&d, project, user).await, ["dir/a.txt"]);
            clone.run(&["pull", "--quiet", "--ff-only"]);
            assert_eq!(json!(clone.rev_parse("HEAD")), made);
            assert_eq!(String::from_utf8(clone.cat_file("HEAD:text.txt")).expect("text"), TEXT.replace("1\n2", "one\n2").replace("9\n", "nine\n"));
            // The user's file goes away, and the branch is forced back.
            clone.commit_files(&[("dir/a.txt", None)], "Gone");
            clone.run(&["push", "--quiet"]);
            assert_eq!(states(&d, project, user).await, [told("dir/a.txt", "conflict")]);
            clone.run(&["push", "--quiet", "--force", "origin", "HEAD~3:main"]);
            assert_eq!(states(&d, project, user).await, [told("dir/a.txt", "clean")]);
            clone.run(&["reset", "--quiet", "--hard", "HEAD~3"]);
            arrived(&d, project, &clone).await;
            let whole = commit(&d, project, commit_body(user, "Still mine")).await.ok(200)["commit"].clone();
            clone.run(&["pull", "--quiet", "--ff-only"]);
            assert_eq!(json!(clone.rev_parse("HEAD")), whole);
        }
    }

    /// Goal: pending work is no ref: no clone gets it.
    async fn pending_work_stays_here(d) {
        let (project, clone) = start(&d, "2").await;
        save(&d, project, Uuid::new_v4(), "draft.txt", "not for clones\n").await;
        let blob = crate::deployment::blob_oid(b"not for clones\n");
        let other = Clone::of_project(&d, project, "2", &["--mirror"]);
        assert!(!stored(&other).contains(&blob));
        assert_eq!(stored(&other), reached(&clone));
        for version in VERSIONS {
            let bare = Clone::empty(true);
            bare.refused(&["-c", &format!("protocol.version={version}"), "fetch", &url(&d, project), &blob], "not our ref");
        }
    }

    /// Goal: the project's policy holds for git clients, whoever they are, and says so.
    async fn policies(d) {
        let (project, clone) = start(&d, "2").await;
        clone.run(&["push", "--quiet", "origin", "main:side", "main:refs/tags/t"]);
        clone.refused(&["push", "origin", ":main"], "the default branch cannot be deleted");
        policy(&d, project, json!({"deny_non_fast_forwards": true, "deny_deletes": true})).await;
        let before = api_refs(&d, project).await;
        clone.refused(&["push", "origin", ":side"], "deletion prohibited");
        clone.refused(&["push", "origin", ":refs/tags/t"], "deletion prohibited");
        clone.refused(&["push", "origin", "+main~1:main"], "non-fast-forward");
        assert_eq!(api_refs(&d, project).await, before);
        clone.commit_file("forward", "forward\n");
        clone.run(&["push", "--quiet"]);
        policy(&d, project, json!({"deny_non_fast_forwards": false, "deny_deletes": false})).await;
        clone.run(&["push", "--quiet", "origin", ":side", ":refs/tags/t", "+main~2:main"]);
        assert_eq!(api_refs(&d, project).await.len(), 1);
    }

    /// Goal: names that git refuses, or that cannot be beside others, are refused one by one; the others of the push go.
    async fn names(d) {
        let (project, clone) = start(&d, "2").await;
        clone.run(&["push", "--quiet", "origin", "main:dir/one", "main:Case"]);
        for (name, says) in [("refs/heads/dir", "dir/one"), ("refs/heads/dir/one/two", "dir/one"), ("refs/heads/case", "Case"),
            ("refs/pull/1/head", "only branches, tags and notes"), ("refs/heads/-dash", "dash"), ("refs/heads/HEAD", "HEAD"),
            ("refs/internal/x", "only branches"), ("refs/pending/x", "only branches")] {
            let words = clone.refused(&["push", "origin", &format!("main:{name}"), &format!("main:fine-{}", name.replace('/', "-"))], says);
            assert!(words.contains("[remote rejected]"), "{words}");
            assert!(!api_refs(&d, project).await.contains_key(name));
        }
        assert_eq!(api_refs(&d, project).await.len(), 3 + 8);
        clone.refused(&["push", "origin", "main:refs/heads/new/x", "main:refs/heads/new"], "new/x");
        // What goes makes room for what comes.
        clone.run(&["push", "--quiet", "origin", ":dir/one", "main:dir"]);
        let words = clone.refused(&["push", "origin", ":main", "main:refs/heads/main/x"], "the default branch cannot be deleted");
        assert!(words.contains("cannot be beside refs/heads/main"), "{words}");
        clone.refused(&["push", "origin", "main:tree", "main^{tree}:refs/heads/tree"], "");
        assert!(!api_refs(&d, project).await.contains_key("refs/heads/tree"));
        clone.run(&["push", "--quiet", "origin", "main^{tree}:refs/tags/tree", "main:refs/heads/üñí-✓"]);
        same_as(&d, project, &Clone::of_project(&d, project, "0", &["--mirror"])).await;
    }

    /// Goal: of pushers who race, each command has one winner, and nobody's objects are lost.
    async fn races(d) {
        let (project, clone) = start(&d, "2").await;
        clone.run(&["push", "--quiet", "origin", "main:force"]);
        let clones: Vec<Clone> = (0..6).map(|_| Clone::of_project(&d, project, "2", &[])).collect();
        for round in 0..3 {
            let mut children = Vec::new();
            for (at, racer) in clones.iter().enumerate() {
                racer.run(&["fetch", "--quiet"]);
                racer.run(&["reset", "--quiet", "--hard", "origin/main"]);
                racer.commit_file("race", format!("{round} {at}\n"));
            }
            for (at, racer) in clones.iter().enumerate() {
                // Forced moves shrink what the project reaches, while others add to it.
                let own = format!("main:own-{round}-{at}");
                let mut targets = vec!["push", "origin", "main", &own];
                if at % 3 == 0 {
                    targets.push("+main:force");
                }
                let mut command: Command = racer.client().command(targets);
                children.push(command.stderr(std::process::Stdio::piped()).spawn().expect("git"));
            }
            let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().expect("git ends")).collect();
            let winners = outputs.iter().filter(|output| output.status.success()).count();
            let words: String = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
            assert!(winners <= 1, "{words}");
            let refs = api_refs(&d, project).await;
            let tips: Vec<String> = clones.iter().map(|racer| racer.rev_parse("main")).collect();
            assert!(tips.contains(&refs["refs/heads/main"]), "somebody won: {words}");
            for (at, tip) in tips.iter().enumerate() {
                assert_eq!(refs.get(&format!("refs/heads/own-{round}-{at}")), Some(tip), "{words}");
            }
            let mirror = Clone::of_project(&d, project, "2", &["--mirror"]);
            mirror.fsck_strict();
            assert_eq!(mirror.refs(), refs);
            for tip in &tips {
                Clone::empty(true).run(&["fetch", "--quiet", &url(&d, project), tip]);
            }
        }
    }

    /// Goal: a push that takes refs away counts with what others pushed while it was under way, and the other way round: what refs
    /// reach is there for every clone.
    async fn slow_pushes(d) {
        let (project, clone) = start(&d, "2").await;
        let (first, second) = (clone.rev_parse("main~1"), clone.rev_parse("main"));
        let at = url(&d, project);
        clone.run(&["push", "--quiet", &at, "main:refs/heads/old", "main~1:refs/heads/main", "--force"]);
        // A deletion whose pack is on its way while others push what it cannot know of.
        let other = Clone::of_project(&d, project, "2", &[]);
        let kept = other.commit_file("kept", "kept\n");
        let commands = push_head(&[(&second, ZERO, "refs/heads/old"), (ZERO, &first, "refs/heads/new")]);
        let slow = SlowPush::begin(&d, project, &commands, &pack(&[])).await;
        other.run(&["push", "--quiet", "origin", "HEAD:refs/heads/kept"]);
        let told = slow.finish().await;
        assert!(told.contains("ok refs/heads/new"), "{told}");
        Clone::empty(true).run(&["fetch", "--quiet", &at, &kept]);
        let mirror = Clone::of_project(&d, project, "2", &["--mirror"]);
        assert!(mirror.refs().values().any(|oid| *oid == kept));
        mirror.fsck_strict();
        // A push that rests on what is taken away before it is through.
        clone.run(&["push", "--quiet", &at, "main:refs/heads/base"]);
        let text = b"on top\n";
        let (tip, commit, tree) = commit_of(oid(Kind::Blob, text), Some(&second));
        let objects = pack(&[Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &tree), Entry::Whole(Kind::Blob, text)]);
        let slow = SlowPush::begin(&d, project, &push_head(&[(ZERO, &tip, "refs/heads/top")]), &objects).await;
        clone.run(&["push", "--quiet", &at, ":refs/heads/base"]);
        let told = slow.finish().await;
        assert!(told.contains("refs/heads/top missing necessary objects"), "{told}");
        Clone::of_project(&d, project, "2", &["--mirror"]).fsck_strict();
    }

    /// Goal: who may do what, and what git says to those who may not.
    async fn credentials(d) {
        let (project, clone) = start(&d, "2").await;
        let other = d.local_project().await;
        let token = async |project: Uuid, more: &[&str]| {
            let id = project.to_string();
            let made = d.cli(&[&["token", "create", &id, "--json"], more].concat()).await;
            let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
            (made["id"].as_str().expect("an id").to_owned(), made["secret"].as_str().expect("a secret").to_owned())
        };
        let (write_id, write) = token(project, &["--write"]).await;
        let (_, read) = token(project, &[]).await;
        let (_, foreign) = token(other, &["--write"]).await;
        let (_, short) = token(project, &["--write", "--expires", "1s"]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        let try_all = |password: &str| {
            let at = url_with(&d, project, password);
            clone.run(&["commit", "--quiet", "--allow-empty", "-m", "next"]);
            [clone.tell(&["ls-remote", &at]), clone.tell(&["push", &at, "main"])]
        };
        let [fetched, pushed] = try_all(&write);
        assert!(fetched.0 && pushed.0, "{fetched:?} {pushed:?}");
        let [fetched, pushed] = try_all(&read);
        assert!(fetched.0 && !pushed.0, "{fetched:?} {pushed:?}");
        assert!(pushed.1.contains("this token is for reading") && pushed.1.contains("--write"), "{}", pushed.1);
        for password in [&foreign, &short, "wrong-password"] {
            for (done, words) in try_all(password) {
                assert!(!done, "{words}");
                let helpful = if *password == foreign { "not found" } else { "Authentication failed" };
                assert!(words.contains(helpful) && !words.contains(password), "{words}");
            }
        }
        let revoked = d.cli(&["token", "revoke", &write_id]).await;
        assert!(revoked.status.success());
        for (done, words) in try_all(&write) {
            assert!(!done && words.contains("Authentication failed"), "{words}");
        }
        let (done, words) = clone.tell(&["ls-remote", &url(&d, "no-such-project")]);
        assert!(!done && words.contains("not found"), "{words}");
        let anonymous = d.url(&format!("/git/{project}.git"));
        let (done, words) = clone.tell(&["ls-remote", &anonymous]);
        assert!(!done && words.contains("could not read Username"), "{words}");
    }

    /// Goal: pushes from shallow and partial clones, and thin ones, bring what is new; a push that lacks something is refused.
    async fn from_incomplete_clones(d) {
        let (project, clone) = start(&d, "2").await;
        let lines: String = (0..5_000).map(|line| format!("{line} {}\n", line * 7919 % 1000)).collect();
        clone.commit_file("large.txt", &lines);
        clone.run(&["push", "--quiet"]);
        for (at, options) in [&["--depth=1"][..], &["--filter=blob:none"], &["--filter=tree:0"], &["--depth=2", "--filter=blob:none"]].into_iter().enumerate() {
            let cut = Clone::of_project(&d, project, VERSIONS[at % 3], options);
            cut.commit_file("large.txt", lines.replacen("77 ", &format!("{at} changed "), 1));
            let (done, words) = cut.tell(&["push", "--progress"]);
            assert!(done, "{words}");
            clone.run(&["pull", "--quiet", "--ff-only"]);
            assert_eq!(clone.rev_parse("HEAD"), cut.rev_parse("HEAD"));
            arrived(&d, project, &clone).await;
        }
        // A shallow clone of another repository: its history is not here.
        let elsewhere = Clone::empty(false);
        elsewhere.commit_file("a", "a\n");
        elsewhere.commit_file("b", "b\n");
        let cut = Clone::of(&format!("file://{}", elsewhere.path().display()), "2", &["--depth=1"]);
        cut.refused(&["push", &url(&d, project), "HEAD:refs/heads/cut"], "[remote rejected]");
        assert!(!api_refs(&d, project).await.contains_key("refs/heads/cut"));
    }

    /// Goal: after a push to a project with a remote, both sides are told apart, and what was pushed goes on to the remote.
    async fn with_a_remote(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let clone = Clone::of_project(&d, project, "2", &[]);
        clone.commit_file("pushed", "pushed\n");
        clone.run(&["push", "--quiet"]);
        let told = status(&d, project, Uuid::new_v4()).await;
        assert_eq!((&told["ahead"], &told["behind"], &told["head"]), (&json!(1), &json!(0), &json!(clone.rev_parse("HEAD"))));
        d.post(&format!("/projects/{project}/push"), json!({})).await.ok(200);
        assert_eq!(remote.head(), clone.rev_parse("HEAD"));
        remote.bare.fsck_strict();
        actions(&d, project, json!([{"action": "create", "path": "x", "content": "x"}])).await.ok(200);
        clone.run(&["pull", "--quiet", "--ff-only"]);
        assert_eq!(clone.cat_file("HEAD:x"), b"x");
        let _ = author();
        let export: Repo = Repo::open(clone.path());
        export.fsck_strict();
    }
}
