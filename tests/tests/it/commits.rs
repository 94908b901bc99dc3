//! Commits of pending work: what they are made of, what is refused before anything happens, conflicts, repetition and company.

use std::time::Duration;

use serde_json::{Value, json};
use treehold_tests::git_http::{Fault, On};
use uuid::Uuid;

use crate::aftermath::until;
use crate::both;
use crate::deployment::{Deployment, blob_oid, json_body};
use crate::remote_tools::*;
use crate::verifications::percent;

/// Everything that a commit could change: our refs, the remote's, pending work.
async fn state(d: &Deployment, project: Uuid, user: Uuid, remote: &Remote) -> (String, Value, String, Vec<String>) {
    let refs = d.get(&format!("/projects/{project}/refs")).await.ok(200);
    (head(d, project).await, refs, remote.head(), pending(d, project, user).await)
}

fn lines(of: &Value) -> Vec<(&str, &str)> {
    let files = of["files"].as_array().expect("files");
    files.iter().map(|f| (f["path"].as_str().unwrap_or("?"), f["action"].as_str().unwrap_or("?"))).collect()
}

both! {
    /// Goal: push is true with a remote, false without, and impossible when asked for without one.
    async fn push_defaults(d) {
        let user = Uuid::new_v4();
        let local = d.local_project().await;
        save(&d, local, user, "a.txt", "a\n").await;
        let asked = with(commit_body(user, "m"), json!({"push": true}));
        commit(&d, local, asked).await.problem(422, "no_remote");
        let answer = commit(&d, local, commit_body(user, "m")).await.ok(200);
        assert_eq!((&answer["pushed"], &answer["parents"], &answer["branch"]), (&json!(false), &json!([]), &json!("main")));
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        save(&d, project, user, "a.txt", "a\n").await;
        let before = remote.head();
        let answer = commit(&d, project, commit_body(user, "m")).await.ok(200);
        assert_eq!((&answer["pushed"], &answer["parents"]), (&json!(true), &json!([before])));
        assert_eq!(json!(remote.head()), answer["commit"]);
        assert_eq!(answer["tree"], json!(remote.bare.rev_parse("main^{tree}")));
    }

    /// Goal: the message gets exactly one LF, author is committer, and dates are taken in both forms, else now in +0000.
    async fn who_and_when(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let cases = [
            ("plain", "plain\n", Some("@1700000000 +0200"), "1700000000 +0200"),
            ("ends\n", "ends\n", Some("2023-11-14T22:13:20Z"), "1700000000 +0000"),
            ("two\n\nparts\n\n\n", "two\n\nparts\n", Some("2023-11-15T03:43:20+05:30"), "1700000000 +0530"),
            ("ümlaut", "ümlaut\n", None, ""),
        ];
        for (n, (message, kept, date, shown)) in cases.into_iter().enumerate() {
            save(&d, project, user, "a.txt", &format!("{n}\n")).await;
            let mut body = commit_body(user, message);
            if let Some(date) = date {
                body["author"]["date"] = json!(date);
            }
            let answer = commit(&d, project, body).await.ok(200);
            let (_dir, export) = d.export(project).await;
            assert_eq!(json!(export.rev_parse("main")), answer["commit"]);
            let raw = String::from_utf8(export.cat_file("main")).expect("UTF-8");
            assert!(raw.ends_with(&format!("\n\n{kept}")), "{raw:?}");
            let line = |name: &str| {
                let prefix = format!("{name} Ann Author <ann@example.org> ");
                raw.lines().find_map(|line| line.strip_prefix(&prefix)).expect(name).to_owned()
            };
            assert_eq!(line("author"), line("committer"));
            match date {
                Some(_) => assert_eq!(line("author"), shown),
                None => assert!(line("author").ends_with(" +0000")),
            }
        }
    }

    /// Goal: what is wrong with the request itself is said before the remote or credentials are used, and changes nothing.
    async fn refused_first(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let (user, idle) = (Uuid::new_v4(), Uuid::new_v4());
        save(&d, project, user, "text.txt", "mine\n").await;
        let before = state(&d, project, user, &remote).await;
        d.git.reset_requests();
        let bad = |key: &str, value: &str| {
            let mut body = commit_body(user, "m");
            body["author"][key] = json!(value);
            body
        };
        let bodies = [
            (commit_body(idle, "m"), 422, "nothing_to_commit"),
            (bad("name", "A\nB"), 422, "bad_author"),
            (bad("email", "a>b"), 422, "bad_author"),
            (bad("date", "yesterday"), 422, "bad_author"),
            (with(commit_body(user, "m"), json!({"message": ""})), 422, "bad_message"),
            (with(commit_body(user, "m"), json!({"message": "a\u{0}b"})), 422, "bad_message"),
            (with(commit_body(user, "m"), json!({"paths": ["../x"]})), 422, "bad_path"),
            (with(commit_body(user, "m"), json!({"paths": ["not/pending"]})), 422, "nothing_to_commit"),
            (with(commit_body(user, "m"), json!({"branch": "a..b"})), 422, "bad_ref"),
            (with(commit_body(user, "m"), json!({"expected_head_sha": "1".repeat(40)})), 409, "head_moved"),
        ];
        for (body, status, code) in bodies {
            let request = json_body(d.request("POST", &format!("/projects/{project}/commit")), &body);
            d.send(request).await.problem(status, code);
        }
        actions(&d, project, json!([{"action": "create", "path": ".git/config", "content": "x"}])).await.problem(422, "bad_path");
        actions(&d, project, json!([{"action": "create", "path": "CON", "content": "x"}])).await.problem(422, "bad_path");
        actions(&d, project, json!([{"action": "create", "path": "text.txt/x", "content": "x"}])).await.problem(422, "path_conflict");
        assert_eq!(d.git.requests(), []);
        assert_eq!(state(&d, project, user, &remote).await, before);
        let body = with(commit_body(user, "m"), json!({"expected_head_sha": before.0}));
        commit(&d, project, body).await.ok(200);
    }

    /// Goal: a dry run gives the same answer in form and changes nothing anywhere; paths commit only themselves.
    async fn dry_run_and_paths(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        save(&d, project, user, "text.txt", "mine\n").await;
        save(&d, project, user, "dir/deep/new.txt", "new\n").await;
        let deleted = d.send(d.request("PUT", &format!("/pending/{project}/{user}/dir/a.txt?action=deleted"))).await;
        assert!([200, 201].contains(&deleted.status), "{}", deleted.text());
        let before = state(&d, project, user, &remote).await;
        let objects = number(&d, "SELECT count(*) FROM objects").await;
        d.git.reset_requests();
        let dry = with(commit_body(user, "Dry"), json!({"dry_run": true}));
        let answer = commit(&d, project, dry).await.ok(200);
        assert_eq!(answer["pushed"], json!(false));
        assert_eq!(lines(&answer), [("dir/a.txt", "deleted"), ("dir/deep/new.txt", "created"), ("text.txt", "modified")]);
        // Two blobs, three trees, one commit.
        assert_eq!(answer["objects"], json!(6));
        assert_eq!(d.git.requests(), []);
        assert_eq!(state(&d, project, user, &remote).await, before);
        assert_eq!(number(&d, "SELECT count(*) FROM objects").await, objects);
        assert_eq!(number(&d, "SELECT count(*) FROM attempts").await, 0);
        let some = with(commit_body(user, "Some"), json!({"paths": ["text.txt"]}));
        let answer = commit(&d, project, some).await.ok(200);
        assert_eq!(answer["files"], json!([{"path": "text.txt", "action": "modified", "oid": blob_oid(b"mine\n")}]));
        assert_eq!(answer["objects"], json!(3));
        assert_eq!(pending(&d, project, user).await, ["dir/a.txt", "dir/deep/new.txt"]);
        commit(&d, project, commit_body(user, "Rest")).await.ok(200);
        assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
        assert_eq!(remote.bare.git().run(["diff", "--name-only", "main~1", "main"]), "dir/a.txt\ndir/deep/new.txt");
        remote.bare.fsck_strict();
    }

    /// Goal: a remote that moved elsewhere in the text is merged with, onto one parent, and the final commit is pushed once.
    async fn merge_onto_moved(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let from = head(&d, project).await;
        save(&d, project, user, "text.txt", &TEXT.replace("1\n2", "one\n2")).await;
        let theirs = remote.moves(&[("text.txt", Some(TEXT.replace("10", "ten").as_bytes())), ("dir/b.txt", None)]);
        let body = with(commit_body(user, "Merged"), json!({"expected_head_sha": from}));
        let answer = commit(&d, project, body).await.ok(200);
        assert_eq!(answer["parents"], json!([theirs]));
        assert_eq!(json!(remote.head()), answer["commit"]);
        assert_eq!(remote.file("text.txt"), TEXT.replace("1\n2", "one\n2").replace("10", "ten"));
        assert_eq!(remote.bare.git().run(["diff", "--name-only", "main~1", "main"]), "text.txt");
        assert_eq!(json!(head(&d, project).await), answer["commit"]);
        assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
        let landed = pushes(&d);
        assert_eq!(landed.len(), 2, "one that was stale, one that landed: {landed:?}");
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.ls_tree("main").len(), remote.bare.ls_tree("main").len());
    }

    /// Goal: a conflict names the three versions and changes nothing; other work of others still lands on what the remote has.
    async fn conflict(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
        save(&d, project, user, "text.txt", "mine\n").await;
        remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        let before = state(&d, project, user, &remote).await;
        let listed = json!([{"path": "text.txt", "base": blob_oid(TEXT.as_bytes()), "ours": blob_oid(b"mine\n"),
            "theirs": blob_oid(b"theirs\n")}]);
        for _ in 0..2 {
            let problem = commit(&d, project, commit_body(user, "Mine")).await.problem(409, "conflict");
            assert_eq!(problem["conflicts"], listed);
            assert_eq!(state(&d, project, user, &remote).await, before);
        }
        let fail = with(commit_body(user, "Mine"), json!({"on_conflict": "fail"}));
        assert_eq!(commit(&d, project, fail).await.status, 409);
        assert_eq!(state(&d, project, user, &remote).await, before);
        assert_eq!(d.post(&format!("/projects/{project}/push"), json!({})).await.ok(200)["pushed"], json!(false));
        save(&d, project, other, "dir/a.txt", "other\n").await;
        let answer = commit(&d, project, commit_body(other, "Other")).await.ok(200);
        assert_eq!(answer["parents"], json!([before.2]));
        assert_eq!(remote.file("text.txt"), "theirs\n");
        let row = status(&d, project, user).await["changes"][0].clone();
        assert_eq!(row["state"], json!("conflict"));
        // Naming the head's blob as the base resolves it.
        let url = format!("/pending/{project}/{user}/text.txt?base={}", blob_oid(b"theirs\n"));
        d.put(&url, "both\n").await.ok(200);
        assert_eq!(status(&d, project, user).await["changes"][0]["state"], json!("clean"));
        commit(&d, project, commit_body(user, "Both")).await.ok(200);
        assert_eq!(remote.file("text.txt"), "both\n");
        remote.bare.fsck_strict();
    }

    /// Goal: `fail` refuses a remote that moved, `branch` puts the work on a branch of its own, named by user and commit.
    async fn fail_and_branch(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let from = head(&d, project).await;
        save(&d, project, user, "text.txt", "mine\n").await;
        let theirs = remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        let fail = with(commit_body(user, "Mine"), json!({"on_conflict": "fail"}));
        commit(&d, project, fail).await.problem(409, "head_moved");
        assert_eq!(remote.head(), theirs);
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        let branch = with(commit_body(user, "Mine"), json!({"on_conflict": "branch"}));
        let answer = commit_key(&d, project, &branch, "branch").await.ok(200);
        let oid = answer["commit"].as_str().expect("an oid");
        let name = format!("treehold/{}/{}", &user.simple().to_string()[..8], &oid[..8]);
        assert_eq!((&answer["branch"], &answer["parents"]), (&json!(name), &json!([from])));
        assert_eq!(remote.bare.rev_parse(&format!("refs/heads/{name}")), oid);
        assert_eq!(remote.head(), theirs);
        assert_eq!(head(&d, project).await, from);
        assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
        assert_eq!(commit_key(&d, project, &branch, "branch").await.ok(200), answer);
        remote.bare.fsck_strict();
    }

    /// Goal: `branch` works without a remote, too: the work goes onto a branch of its own, ours stays.
    async fn branch_without_push(d) {
        let project = d.local_project().await;
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        save(&d, project, first, "text.txt", "base\n").await;
        commit(&d, project, commit_body(first, "Base")).await.ok(200);
        save(&d, project, first, "text.txt", "one\n").await;
        save(&d, project, second, "text.txt", "two\n").await;
        let one = commit(&d, project, commit_body(first, "One")).await.ok(200);
        commit(&d, project, commit_body(second, "Two")).await.problem(409, "conflict");
        let branch = with(commit_body(second, "Two"), json!({"on_conflict": "branch"}));
        let answer = commit(&d, project, branch).await.ok(200);
        let oid = answer["commit"].as_str().expect("an oid");
        let name = format!("treehold/{}/{}", &second.simple().to_string()[..8], &oid[..8]);
        assert_eq!((&answer["branch"], &answer["pushed"]), (&json!(name), &json!(false)));
        assert_eq!(json!(head(&d, project).await), one["commit"]);
        assert_eq!(d.get(&format!("/files/{project}/text.txt?ref={}", percent(&name))).await.text(), "two\n");
        assert_eq!(pending(&d, project, second).await, Vec::<String>::new());
    }

    /// Goal: a key gives its first answer again, also after the branch moved on, and is refused with another body.
    async fn idempotency(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        save(&d, project, user, "text.txt", "mine\n").await;
        let body = commit_body(user, "Once");
        // A dry run leaves nothing behind, its key neither.
        let dry = with(body.clone(), json!({"dry_run": true}));
        let told = commit_key(&d, project, &dry, "once").await.ok(200);
        assert_eq!(commit_key(&d, project, &dry, "once").await.ok(200)["tree"], told["tree"]);
        let answer = commit_key(&d, project, &body, "once").await.ok(200);
        save(&d, project, user, "text.txt", "more\n").await;
        commit(&d, project, commit_body(user, "Twice")).await.ok(200);
        remote.moves(&[("dir/a.txt", Some(b"theirs\n"))]);
        save(&d, project, user, "text.txt", "still more\n").await;
        d.git.reset_requests();
        assert_eq!(commit_key(&d, project, &body, "once").await.ok(200), answer);
        commit_key(&d, project, &commit_body(user, "Other"), "once").await.problem(422, "idempotency_key_reused");
        let bad = with(commit_body(user, "m"), json!({"author": {"name": "", "email": ""}}));
        commit_key(&d, project, &bad, "once").await.problem(422, "idempotency_key_reused");
        assert_eq!(d.git.requests(), []);
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        // Another project has keys of its own.
        let local = d.local_project().await;
        save(&d, local, user, "a.txt", "a\n").await;
        commit_key(&d, local, &commit_body(user, "Other"), "once").await.ok(200);
        // Sent many times at once, it is one commit and one answer.
        let body = commit_body(user, "At once");
        let all = (0..6).map(|_| commit_key(&d, project, &body, "at-once"));
        let answers = futures::future::join_all(all).await;
        let first = answers[0].ok(200);
        assert!(answers.iter().all(|answer| answer.ok(200) == first));
        assert_eq!(remote.count(), 7);
    }

    /// Goal: what is typed while the commit runs stays pending, and its base is what was committed.
    async fn typing_meanwhile(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        save(&d, project, user, "text.txt", "first\n").await;
        save(&d, project, user, "dir/a.txt", "settled\n").await;
        d.git.reset_requests();
        d.git.fail_next(On::ReceivePack, 1, Fault::Delay(Duration::from_millis(1500)));
        let typing = async {
            until("its push begins", async || !pushes(&d).is_empty()).await;
            save(&d, project, user, "text.txt", "second\n").await;
            save(&d, project, user, "new.txt", "new\n").await;
        };
        let (answer, ()) = tokio::join!(commit(&d, project, commit_body(user, "First")), typing);
        let answer = answer.ok(200);
        assert_eq!(remote.file("text.txt"), "first\n");
        assert_eq!(pending(&d, project, user).await, ["new.txt", "text.txt"]);
        let rows = status(&d, project, user).await;
        let row = rows["changes"].as_array().expect("rows").iter().find(|row| row["path"] == "text.txt").expect("a row");
        assert_eq!((&row["base_oid"], &row["state"]), (&json!(blob_oid(b"first\n")), &json!("clean")));
        let second = commit(&d, project, commit_body(user, "Second")).await.ok(200);
        assert_eq!(second["parents"], json!([answer["commit"]]));
        assert_eq!(remote.file("text.txt"), "second\n");
        assert_eq!(remote.file("new.txt"), "new\n");
    }

    /// Goal: users who commit at once to one branch all land, one after the other.
    async fn at_once(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let users: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
        for (n, user) in users.iter().enumerate() {
            save(&d, project, *user, &format!("of/{n}.txt"), "mine\n").await;
        }
        let all = users.iter().map(|user| commit(&d, project, commit_body(*user, "Mine")));
        for reply in futures::future::join_all(all).await {
            reply.ok(200);
        }
        assert_eq!(remote.count(), 3 + users.len());
        assert_eq!(remote.bare.git().run(["rev-list", "--merges", "main"]), "");
        let urls: Vec<String> = (0..10).map(|n| format!("/files/{project}/put/{n}.txt")).collect();
        let puts = urls.iter().map(|url| d.put(url, url.clone()));
        for reply in futures::future::join_all(puts).await {
            reply.ok(200);
        }
        assert_eq!(status(&d, project, users[0]).await["ahead"], json!(10));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["rev-list", "--count", "main"]).parse(), Ok(1 + users.len() + 10));
        assert_eq!(export.ls_tree("main").iter().filter(|line| line.path.starts_with(b"put/")).count(), 10);
    }

    /// Goal: the first commit of an unborn branch is a root commit, here and in an empty remote.
    async fn unborn(d) {
        let bare = empty_remote(&d, "empty");
        let project = d.connect("empty").await;
        assert_eq!(head(&d, project).await, "");
        let user = Uuid::new_v4();
        save(&d, project, user, "README.md", "# New\n").await;
        let answer = commit(&d, project, commit_body(user, "Root")).await.ok(200);
        assert_eq!((&answer["parents"], &answer["pushed"]), (&json!([]), &json!(true)));
        assert_eq!(json!(bare.rev_parse("main")), answer["commit"]);
        bare.fsck_strict();
        // A project that never synced merges onto what the remote has.
        let remote = small_remote(&d, "docs");
        let project = Uuid::new_v4();
        let body = json!({"remote": {"url": d.git.url("docs")}});
        d.put_json(&format!("/projects/{project}"), body).await.ok(201);
        save(&d, project, user, "README.md", "# New\n").await;
        let theirs = remote.head();
        let answer = commit(&d, project, commit_body(user, "On top")).await.ok(200);
        assert_eq!(answer["parents"], json!([theirs]));
        assert_eq!(remote.file("text.txt"), TEXT);
        assert_eq!(json!(remote.head()), answer["commit"]);
        let (_dir, export) = d.export(project).await;
        assert_eq!(json!(export.rev_parse("main")), answer["commit"]);
    }

    /// Goal: on request a commit says who and what made its edits, in trailers that stock git reads; else it says nothing of it.
    async fn trailers(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let save = async |path: &str, actor: &str, session: &str| {
            let put = d.request("PUT", &format!("/pending/{project}/{user}/{path}")).body(path.to_owned());
            let put = put.header("Treehold-Actor", actor).header("Treehold-Session", session);
            d.send(put.header("Treehold-Device", "laptop")).await.ok(201);
        };
        save("a.txt", "agent:ada", "run 7").await;
        save("b.txt", "person", "run 7").await;
        let commit = async |message: &str, paths: Value, trailers: bool| {
            let author = json!({"name": "A", "email": "a@example.org"});
            let body = json!({"user": user, "message": message, "author": author, "paths": paths, "trailers": trailers});
            d.post(&format!("/projects/{project}/commit"), body).await.ok(200)["commit"].as_str().unwrap().to_owned()
        };
        let told = commit("Subject\n\nBody\n\nFixes: 1", json!(null), true).await;
        save("c.txt", "agent:ada", "run 8").await;
        let untold = commit("Quiet", json!(["c.txt"]), false).await;
        let (_dir, export) = d.export(project).await;
        let read = |oid: &str| export.git().run(["log", "-1", "--format=%(trailers:only)", oid]);
        assert_eq!(
            read(&told),
            "Fixes: 1\nTreehold-Actor: agent:ada\nTreehold-Session: run 7\nTreehold-Device: laptop\nTreehold-Actor: person\n"
        );
        assert_eq!(read(&untold), "");
    }
}
