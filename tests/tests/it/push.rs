//! How pushes end, and what stays of them: the state machine of a commit seen from outside, with a remote that fails in every way.

use std::time::Duration;

use serde_json::{Value, json};
use treehold_tests::git_http::{Fault, On};
use treehold_tests::s3::S3Server;
use uuid::Uuid;

use crate::aftermath::{execute, until};
use crate::both;
use crate::deployment::{Deployment, REMOTE_TOKEN, json_body};
use crate::remote_tools::*;

/// A synced project with one pending change of the text's first line.
async fn edited(d: &Deployment) -> (Remote, Uuid, Uuid) {
    let remote = small_remote(d, "docs");
    let project = d.connect("docs").await;
    let user = Uuid::new_v4();
    save(d, project, user, "text.txt", &TEXT.replace("1\n2", "one\n2")).await;
    d.git.reset_requests();
    (remote, project, user)
}

/// The commit is at the remote, once, and here; nothing is pending any more.
async fn landed_once(d: &Deployment, remote: &Remote, project: Uuid, user: Uuid, commit: &Value, count: usize) {
    assert_eq!(json!(remote.head()), *commit);
    assert_eq!(remote.count(), count);
    remote.bare.fsck_strict();
    assert_eq!(json!(head(d, project).await), *commit);
    assert_eq!(pending(d, project, user).await, Vec::<String>::new());
    let status = status(d, project, user).await;
    assert_eq!((&status["ahead"], &status["behind"]), (&json!(0), &json!(0)));
    assert_eq!(status["attempts"], json!([]));
}

both! {
    /// Goal: a normal commit is one POST to receive-pack with credentials, and no other request.
    async fn one_request(d) {
        let (remote, project, user) = edited(&d).await;
        let answer = commit(&d, project, commit_body(user, "One")).await.ok(200);
        let requests = d.git.requests();
        assert_eq!(pushes(&d).len(), 1, "{requests:?}");
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert!(requests[0].authorization_ok);
        assert_eq!(answer["objects"], json!(3));
        landed_once(&d, &remote, project, user, &answer["commit"], 4).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), remote.head());
    }

    /// Goal: several paths may have one large content, which is kept in the bucket while it is pending: it goes once.
    async fn one_content_at_two_paths(d) {
        let (remote, project, user) = edited(&d).await;
        let large = "0123456789abcdef".repeat(20_000);
        for path in ["one.bin", "dir/two.bin"] {
            save(&d, project, user, path, &large).await;
        }
        let answer = commit_key(&d, project, &commit_body(user, "Twice"), "twice").await.ok(200);
        assert_eq!((&answer["pushed"], &answer["objects"]), (&json!(true), &json!(5)), "two blobs, two trees, a commit");
        assert!(remote.file("one.bin") == large && remote.file("dir/two.bin") == large);
        landed_once(&d, &remote, project, user, &answer["commit"], 4).await;
    }

    /// Goal: a push carries what changed and not the files: deltas against what the remote has. Where the remote turns out to lack
    /// that, the same push goes again, whole.
    async fn deltas(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let lines = |changed: usize| -> String {
            let line = |n: u32| if n as usize == changed { "changed\n".into() } else { format!("{:08x}\n", n.wrapping_mul(2_654_435_761)) };
            (0..6_000).map(line).collect()
        };
        let push = async |version: usize, requests: usize| {
            save(&d, project, user, "numbers.txt", &lines(version)).await;
            d.git.reset_requests();
            let answer = commit(&d, project, commit_body(user, &format!("Version {version}"))).await.ok(200);
            assert_eq!(json!(remote.head()), answer["commit"]);
            assert!(remote.file("numbers.txt") == lines(version));
            let sent: Vec<u64> = d.git.requests().iter().map(|request| request.bytes_in).collect();
            assert_eq!(sent.len(), requests, "{sent:?}");
            sent
        };
        let new = push(100, 1).await;
        assert!(new[0] > 20_000, "a new file goes whole: {new:?}");
        let changed = push(200, 1).await;
        assert!(changed[0] < 2_000, "two lines of 6,000: {changed:?}");
        remote.bare.fsck_strict();
        // A damaged remote: the blob that the next delta would be against is gone.
        let blob = remote.bare.rev_parse("main:numbers.txt");
        std::fs::remove_file(remote.bare.path().join("objects").join(&blob[..2]).join(&blob[2..])).expect("a loose blob");
        let again = push(300, 2).await;
        assert!(again[0] < 2_000 && again[1] > 20_000, "{again:?}");
        assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
        let status = status(&d, project, user).await;
        assert_eq!((&status["ahead"], &status["attempts"]), (&json!(0), &json!([])));
    }

    /// Goal: a hook's refusal is final for its request, in the remote's words; pending work stays and a new request can commit it.
    async fn refused_by_a_hook(d) {
        let (remote, project, user) = edited(&d).await;
        let before = remote.head();
        remote.refuse("no commits on Fridays");
        let body = commit_body(user, "Refused");
        let refused = commit_key(&d, project, &body, "hook-1").await.problem(422, "push_rejected");
        let words = refused["message"].as_str().expect("the remote's words");
        assert!(words.contains("no commits on Fridays"), "{words}");
        assert_eq!(remote.head(), before);
        assert_eq!(head(&d, project).await, before);
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        remote.allow();
        d.git.reset_requests();
        let again = commit_key(&d, project, &body, "hook-1").await.problem(422, "push_rejected");
        assert_eq!(again, refused);
        assert_eq!(d.git.requests(), []);
        let answer = commit_key(&d, project, &body, "hook-2").await.ok(200);
        landed_once(&d, &remote, project, user, &answer["commit"], 4).await;
    }

    /// Goal: wrong credentials keep everything; the same request with right ones makes the very commit that was announced.
    async fn wrong_credentials(d) {
        let (remote, project, user) = edited(&d).await;
        let body = commit_body(user, "Later");
        let refused = commit_as(&d, project, &body, "auth", "wrong-token").await.problem(502, "remote_auth");
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        assert_eq!(remote.count(), 3);
        let waiting = status(&d, project, user).await;
        assert_eq!(waiting["attempts"][0]["commit"], refused["commit"]);
        assert_eq!(waiting["attempts"][0]["state"], json!("paused"));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let answer = commit_key(&d, project, &body, "auth").await.ok(200);
        assert_eq!(answer["commit"], refused["commit"]);
        assert_eq!(answer["pushed"], json!(true));
        landed_once(&d, &remote, project, user, &answer["commit"], 4).await;
        assert!(!d.log().contains("wrong-token"));
    }

    /// Goal: a request whose attempt was only prepared makes the same commit when it comes again.
    async fn prepared_only(d) {
        let (remote, project, user) = edited(&d).await;
        let body = commit_body(user, "Prepared");
        let refused = commit_as(&d, project, &body, "prepared", "wrong-token").await.problem(502, "remote_auth");
        execute(&d, &["UPDATE attempts SET state = 'PREPARED'"]).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let answer = commit_key(&d, project, &body, "prepared").await.ok(200);
        assert_eq!(answer["commit"], refused["commit"]);
        landed_once(&d, &remote, project, user, &answer["commit"], 4).await;
    }

    /// Goal: an answer that was lost after the remote had acted is settled by a look; there is one commit, and one answer.
    async fn lost_answer(d) {
        let (remote, project, user) = edited(&d).await;
        let faults = [
            Fault::ExecuteThenCut, Fault::ExecuteThenStatus(502), Fault::ExecuteThenStatus(504), Fault::CutResponse(0),
            Fault::CutResponse(9), Fault::DropRequest, Fault::Status(500), Fault::Status(503),
        ];
        for (n, fault) in faults.into_iter().enumerate() {
            save(&d, project, user, "text.txt", &format!("edit {n}\n")).await;
            d.git.fail_next(On::ReceivePack, 1, fault.clone());
            let body = commit_body(user, &format!("Commit {n}"));
            let key = format!("lost-{n}");
            let first = commit_key(&d, project, &body, &key).await;
            let answer = match first.status {
                200 => first.ok(200),
                504 => {
                    let unknown = first.problem(504, "push_unknown");
                    assert_eq!(unknown["state"], json!("unknown"));
                    assert!(unknown["attempt"].is_string());
                    assert_eq!(pending(&d, project, user).await, ["text.txt"]);
                    let answer = commit_key(&d, project, &body, &key).await.ok(200);
                    assert_eq!(answer["commit"], unknown["commit"]);
                    answer
                }
                429 => commit_key(&d, project, &body, &key).await.ok(200),
                _ => panic!("{fault:?}: {}", first.text()),
            };
            assert_eq!(commit_key(&d, project, &body, &key).await.ok(200), answer, "{fault:?}");
            landed_once(&d, &remote, project, user, &answer["commit"], 4 + n).await;
        }
    }

    /// Goal: where the remote cannot even be asked, the outcome is unknown, and the same request settles it later.
    async fn unknown_until_asked(d) {
        let (remote, project, user) = edited(&d).await;
        d.git.fail_next(On::ReceivePack, 1, Fault::ExecuteThenCut);
        d.git.fail_next(On::Discovery, 100, Fault::Status(500));
        d.git.fail_next(On::UploadPack, 100, Fault::Status(500));
        let body = commit_body(user, "Unknown");
        let unknown = commit_key(&d, project, &body, "unknown").await.problem(504, "push_unknown");
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        assert_ne!(json!(head(&d, project).await), unknown["commit"]);
        let shown = status(&d, project, user).await;
        assert_eq!(shown["attempts"][0]["attempt"], unknown["attempt"]);
        // Meanwhile the user goes on; what was committed is the older edit.
        save(&d, project, user, "text.txt", "newer\n").await;
        d.git.heal();
        let answer = commit_key(&d, project, &body, "unknown").await.ok(200);
        assert_eq!(answer["commit"], unknown["commit"]);
        assert_eq!(json!(remote.head()), unknown["commit"]);
        assert_eq!(remote.count(), 4);
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        let row = status(&d, project, user).await["changes"][0].clone();
        assert_eq!((&row["state"], &row["base_oid"]), (&json!("clean"), &answer["files"][0]["oid"]));
    }

    /// Goal: one user's push that nobody can settle does not hold up another user of the branch; both commits land, each once.
    async fn stuck_attempt(d) {
        let (remote, project, stuck) = edited(&d).await;
        d.git.fail_next(On::ReceivePack, 1, Fault::DropRequest);
        d.git.fail_next(On::Discovery, 100, Fault::Status(500));
        d.git.fail_next(On::UploadPack, 100, Fault::Status(500));
        let stuck_body = commit_body(stuck, "Stuck");
        commit_key(&d, project, &stuck_body, "stuck").await.problem(504, "push_unknown");
        d.git.heal();
        // Every further push of the stuck attempt fails, too.
        d.git.fail_next(On::ReceivePack, 3, Fault::DropRequest);
        let other = Uuid::new_v4();
        save(&d, project, other, "dir/a.txt", "other\n").await;
        let answer = commit(&d, project, commit_body(other, "Other")).await.ok(200);
        assert_eq!(json!(remote.head()), answer["commit"]);
        assert_eq!(pending(&d, project, other).await, Vec::<String>::new());
        assert_eq!(pending(&d, project, stuck).await, ["text.txt"]);
        let answer = commit_key(&d, project, &stuck_body, "stuck").await.ok(200);
        landed_once(&d, &remote, project, stuck, &answer["commit"], 5).await;
        assert_eq!(remote.file("dir/a.txt"), "other\n");
    }

    /// Goal: what the remote says to one user's waiting attempt is not told to another, and is no final answer of theirs.
    async fn refusal_of_another(d) {
        let (remote, project, first) = edited(&d).await;
        d.git.fail_next(On::ReceivePack, 1, Fault::DropRequest);
        d.git.fail_next(On::Discovery, 100, Fault::Status(500));
        d.git.fail_next(On::UploadPack, 100, Fault::Status(500));
        let first_body = commit_body(first, "First");
        commit_key(&d, project, &first_body, "first").await.problem(504, "push_unknown");
        d.git.heal();
        let hook = remote.bare.path().join("hooks/update");
        remote.refuse("");
        std::fs::rename(remote.bare.path().join("hooks/pre-receive"), &hook).expect("rename");
        let script = "#!/bin/sh\ngit log -1 --format=%s $3 | grep -q First && { echo 'not this one' >&2; exit 1; }\nexit 0\n";
        std::fs::write(&hook, script).expect("write");
        let other = Uuid::new_v4();
        save(&d, project, other, "dir/a.txt", "other\n").await;
        let answer = commit_key(&d, project, &commit_body(other, "Second"), "second").await.ok(200);
        assert_eq!(json!(remote.head()), answer["commit"]);
        let refused = commit_key(&d, project, &first_body, "first").await.problem(422, "push_rejected");
        assert!(refused["message"].as_str().expect("words").contains("not this one"), "{refused}");
        assert_eq!(pending(&d, project, first).await, ["text.txt"]);
    }

    /// Goal: a server killed while its push hangs finishes the very same commit when the request comes again.
    async fn killed_while_pushing(d) {
        let mut d = d;
        let (remote, project, user) = edited(&d).await;
        let body = commit_body(user, "Killed");
        for (n, fault) in [Fault::Hang, Fault::Delay(Duration::from_secs(2))].into_iter().enumerate() {
            let key = format!("killed-{n}");
            save(&d, project, user, "text.txt", &format!("edit {n}\n")).await;
            d.git.reset_requests();
            d.git.fail_next(On::ReceivePack, 1, fault);
            let request = json_body(d.request("POST", &format!("/projects/{project}/commit")), &body);
            let request = request.header("X-Remote-Token", REMOTE_TOKEN).header("Idempotency-Key", &key);
            let going = tokio::spawn(request.send());
            until("its push begins", async || !pushes(&d).is_empty()).await;
            let commit = status(&d, project, user).await["attempts"][0]["commit"].clone();
            d.kill();
            assert!(going.await.expect("a task").is_err());
            d.up().await;
            assert_eq!(pending(&d, project, user).await, ["text.txt"]);
            if d.setup == Setup::Cluster {
                // Another process may be alive and pushing; its silence is waited for. Here it is known to be dead.
                execute(&d, &["UPDATE attempts SET updated_at = updated_at - 3600000"]).await;
            }
            let answer = commit_key(&d, project, &body, &key).await.ok(200);
            assert_eq!(answer["commit"], commit);
            tokio::time::sleep(Duration::from_millis(2500 * n as u64)).await;
            landed_once(&d, &remote, project, user, &commit, 4 + n).await;
        }
    }

    /// Goal: POST /push sends what was committed here, once, and says so; then there is nothing to push.
    async fn push_later(d) {
        let (remote, project, user) = edited(&d).await;
        let body = with(commit_body(user, "Local"), json!({"push": false}));
        let first = commit(&d, project, body).await.ok(200);
        assert_eq!(first["pushed"], json!(false));
        d.put(&format!("/files/{project}/dir/new.txt"), "new\n").await.ok(200);
        assert_eq!(d.git.requests(), []);
        let shown = status(&d, project, user).await;
        assert_eq!((&shown["ahead"], &shown["behind"]), (&json!(2), &json!(0)));
        let url = format!("/projects/{project}/push");
        let pushed = d.post(&url, json!({})).await.ok(200);
        assert_eq!((&pushed["pushed"], &pushed["commits"]), (&json!(true), &json!(2)));
        assert_eq!(pushes(&d).len(), 1);
        assert_eq!(remote.head(), head(&d, project).await);
        assert_eq!(remote.count(), 5);
        remote.bare.fsck_strict();
        assert_eq!(status(&d, project, user).await["ahead"], json!(0));
        d.git.reset_requests();
        assert_eq!(d.post(&url, json!({})).await.ok(200)["pushed"], json!(false));
        assert_eq!(pushes(&d).len(), 0);
        // Refused credentials leave it ahead.
        d.put(&format!("/files/{project}/dir/new.txt"), "newer\n").await.ok(200);
        let request = json_body(d.request("POST", &url), &json!({}));
        d.send(request.header("X-Remote-Token", "wrong")).await.problem(502, "remote_auth");
        assert_eq!(status(&d, project, user).await["ahead"], json!(1));
        d.post(&url, json!({})).await.ok(200);
        assert_eq!(remote.head(), head(&d, project).await);
        // A remote that moved is told as such, and nothing changes.
        let theirs = remote.moves(&[("dir/b.txt", Some(b"theirs\n"))]);
        d.put(&format!("/files/{project}/dir/new.txt"), "third\n").await.ok(200);
        d.post(&url, json!({})).await.problem(409, "diverged");
        assert_eq!(remote.head(), theirs);
    }

    /// Goal: credentials stay out of database and bucket.
    async fn token_stays_out(d) {
        let (_remote, project, user) = edited(&d).await;
        commit_as(&d, project, &commit_body(user, "A"), "k", "wrong-canary-8a7b").await.problem(502, "remote_auth");
        commit_key(&d, project, &commit_body(user, "A"), "k").await.ok(200);
        let mut grep = std::process::Command::new("grep");
        grep.args(["-rlaE", "wrong-canary-8a7b|remote-token-canary"]).arg(d.data.path());
        if d.setup == Setup::Cluster {
            grep.arg(S3Server::shared().await.directory().join("treehold").join(&d.prefix));
        }
        let found = grep.output().expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        for table in ["requests", "attempts", "projects"] {
            let sql: &'static str = match table {
                "requests" => "SELECT count(*) FROM requests WHERE answer LIKE '%canary%' OR key LIKE '%canary%'",
                "attempts" => "SELECT count(*) FROM attempts WHERE last_error LIKE '%canary%'",
                _ => "SELECT count(*) FROM projects WHERE remote_url LIKE '%canary%'",
            };
            assert_eq!(number(&d, sql).await, 0);
        }
    }
}
