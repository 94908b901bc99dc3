//! Commits that GitHub makes itself (`sign: "github"`).

use serde_json::{Value, json};
use treehold_tests::github::{PERSONAL_TOKEN, Trouble};
use uuid::Uuid;

use crate::both;
use crate::github::{Setting, set_up};
use crate::remote_tools::*;

/// A commit of everything that the user has pending, by GitHub.
async fn hosted(s: &Setting, project: Uuid, user: Uuid, more: Value) -> crate::deployment::Reply {
    let body = with(with(commit_body(user, "Say it\n\nWhy."), json!({"sign": "github"})), more);
    s.post(&format!("/projects/{project}/commit"), body).await
}

both! {
    /// Goal: the commit is made by GitHub on top of what it has, fetched, and our branch goes there; what it holds is pending no more.
    /// What moved meanwhile is merged, and what does not merge is refused.
    async fn made_by_github(d) {
        let s = set_up(d, true).await;
        let (project, user) = (s.project(&s.github.url("o/docs")).await, Uuid::new_v4());
        s.sync(project).await.ok(200);
        let put = s.d.request("PUT", &format!("/pending/{project}/{user}/dir/new.txt")).body("new\n");
        s.d.send(put.header("Treehold-Actor", "agent:editor")).await.ok(201);
        save(&s.d, project, user, "text.txt", &TEXT.replace("10\n", "ten\n")).await;
        s.d.put(&format!("/pending/{project}/{user}/dir/b.txt?action=deleted"), "").await;
        let theirs = s.remote.moves(&[("text.txt", Some(TEXT.replace("1\n2", "one\n2").as_bytes()))]);
        s.d.git.reset_requests();
        let made = hosted(&s, project, user, json!({"trailers": true})).await.ok(200);
        let oid = made["commit"].as_str().expect("a commit");
        assert_eq!((s.remote.head().as_str(), head(&s.d, project).await.as_str()), (oid, oid));
        assert_eq!((&made["parents"], &made["pushed"]), (&json!([theirs]), &json!(true)));
        assert_eq!(s.remote.file("text.txt"), TEXT.replace("1\n2", "one\n2").replace("10\n", "ten\n"));
        assert_eq!(s.remote.file("dir/new.txt"), "new\n");
        assert!(!s.remote.bare.ls_tree("main").iter().any(|line| format!("{line:?}").contains("dir/b.txt")));
        let words = s.remote.bare.git().run(["show", "-s", "--format=%B%an", "main"]);
        assert_eq!(words, "Say it\n\nWhy.\n\nCo-authored-by: Ann Author <ann@example.org>\nTreehold-Actor: agent:editorGitHub");
        assert!(pushes(&s.d).is_empty(), "nothing is pushed by git");
        assert_eq!(pending(&s.d, project, user).await, [""; 0]);
        let (_dir, export) = s.d.export(project).await;
        assert_eq!(export.rev_parse("main"), oid);
        // Both sides of the same line.
        save(&s.d, project, user, "dir/a.txt", "mine\n").await;
        let theirs = s.remote.moves(&[("dir/a.txt", Some(b"theirs\n"))]);
        hosted(&s, project, user, json!({})).await.problem(409, "conflict");
        assert_eq!((s.remote.head(), pending(&s.d, project, user).await), (theirs, vec!["dir/a.txt".to_owned()]));
        s.nothing_leaked().await;
    }

    /// Goal: where the answer is lost, the commit is found at the remote: it is made once, and answered alike for its key.
    async fn a_lost_answer(d) {
        let s = set_up(d, true).await;
        let (project, user) = (s.project(&s.github.url("o/docs")).await, Uuid::new_v4());
        s.sync(project).await.ok(200);
        let before = s.remote.count();
        save(&s.d, project, user, "dir/a.txt", "once\n").await;
        s.github.lose_next_answer();
        let body = with(commit_body(user, "Once"), json!({"sign": "github"}));
        let request = || {
            let request = s.d.request("POST", &format!("/projects/{project}/commit")).header("Idempotency-Key", "k");
            s.d.send(crate::deployment::json_body(request, &body))
        };
        let made = request().await.ok(200);
        assert_eq!((made["commit"].as_str(), s.remote.count()), (Some(s.remote.head().as_str()), before + 1));
        assert_eq!(request().await.ok(200), made);
        assert_eq!((s.remote.count(), pending(&s.d, project, user).await), (before + 1, Vec::new()));
        // The remote cannot be looked at either: the next request finds it.
        save(&s.d, project, user, "dir/a.txt", "twice\n").await;
        s.github.lose_next_answer();
        s.d.git.stop();
        assert_eq!(hosted(&s, project, user, json!({})).await.status, 502);
        assert_eq!(pending(&s.d, project, user).await, ["dir/a.txt"]);
        s.d.git.restart();
        let made = hosted(&s, project, user, json!({})).await.ok(200);
        assert_eq!((made["commit"].as_str(), s.remote.count()), (Some(s.remote.head().as_str()), before + 2));
        assert_eq!((s.remote.file("dir/a.txt").as_str(), pending(&s.d, project, user).await), ("twice\n", Vec::new()));
        // And where others have committed on top by then.
        save(&s.d, project, user, "dir/a.txt", "three times\n").await;
        s.github.lose_next_answer();
        s.d.git.stop();
        assert_eq!(hosted(&s, project, user, json!({})).await.status, 502);
        let ours = s.remote.head();
        s.d.git.restart();
        s.remote.moves(&[("dir/a.txt", Some(b"four times\n"))]);
        let made = hosted(&s, project, user, json!({})).await.ok(200);
        assert_eq!((made["commit"].as_str(), s.remote.count()), (Some(ours.as_str()), before + 4));
        assert_eq!((s.remote.file("dir/a.txt").as_str(), pending(&s.d, project, user).await), ("four times\n", Vec::new()));
    }

    /// Goal: an answer that does not say whether the commit was made is no refusal: the commit is looked for, taken if it is there, and made
    /// once. What GitHub says that it has not done was not done.
    async fn an_answer_that_says_nothing(d) {
        let s = set_up(d, true).await;
        let (project, user) = (s.project(&s.github.url("o/docs")).await, Uuid::new_v4());
        s.sync(project).await.ok(200);
        for (trouble, asked) in
            [(Trouble::MadeAndTimedOut, 1), (Trouble::NotMadeAndTimedOut, 2), (Trouble::MadeBehindGateway, 1), (Trouble::Limited(0), 2)]
        {
            let before = s.remote.count();
            let text = format!("{trouble:?}\n");
            save(&s.d, project, user, "dir/a.txt", &text).await;
            s.github.trouble_next(&[trouble]);
            s.github.take_asked();
            let made = hosted(&s, project, user, json!({})).await.ok(200);
            assert_eq!(made["commit"].as_str(), Some(s.remote.head().as_str()), "{trouble:?}");
            assert_eq!((s.remote.count(), s.remote.file("dir/a.txt")), (before + 1, text), "{trouble:?}");
            let took = s.github.take_asked().iter().filter(|asked| asked.what == "/graphql").count();
            assert_eq!((took, pending(&s.d, project, user).await), (asked, Vec::new()), "{trouble:?}");
        }
        let before = s.remote.head();
        save(&s.d, project, user, "dir/a.txt", "later\n").await;
        s.github.trouble_next(&[Trouble::Limited(1_200)]);
        let told = hosted(&s, project, user, json!({})).await;
        told.problem(429, "remote_rate_limited");
        let seconds: u64 = told.header("retry-after").parse().expect("seconds");
        assert!((1_190..=1_200).contains(&seconds), "{seconds}");
        // GitHub is left alone by that token; another has limits of its own.
        let body = with(commit_body(user, "Say it\n\nWhy."), json!({"sign": "github"}));
        let path = format!("/projects/{project}/commit");
        let again = || s.post_as(PERSONAL_TOKEN, &path, body.clone());
        s.github.trouble_next(&[Trouble::Forbidden]);
        let told = again().await.problem(422, "push_rejected");
        assert!(told.to_string().contains("through a pull request"), "{told}");
        assert_eq!((s.remote.head(), pending(&s.d, project, user).await), (before, vec!["dir/a.txt".to_owned()]));
        // Nothing of the attempts is in the way.
        again().await.ok(200);
        assert_eq!((s.remote.file("dir/a.txt").as_str(), pending(&s.d, project, user).await), ("later\n", Vec::new()));
    }

    /// Goal: a commit that the branch does not have any more when it is fetched is not taken: it is made again on top of what is there.
    async fn a_branch_that_is_set_back(d) {
        let s = set_up(d, true).await;
        let (project, user) = (s.project(&s.github.url("o/docs")).await, Uuid::new_v4());
        s.sync(project).await.ok(200);
        let before = s.remote.count();
        save(&s.d, project, user, "dir/a.txt", "mine\n").await;
        s.github.undo_next_commit();
        s.github.take_asked();
        let made = hosted(&s, project, user, json!({})).await.ok(200);
        assert_eq!((made["commit"].as_str(), s.remote.count()), (Some(s.remote.head().as_str()), before + 1));
        let asked = s.github.take_asked();
        assert_eq!(asked.iter().filter(|asked| asked.what == "/graphql").count(), 2, "{asked:?}");
        assert_eq!((s.remote.file("dir/a.txt").as_str(), pending(&s.d, project, user).await), ("mine\n", Vec::new()));
    }

    /// Goal: what GitHub cannot make is refused before it is asked, and nothing is lost.
    async fn what_cannot_be(d) {
        let s = set_up(d, true).await;
        let (project, user) = (s.project(&s.github.url("o/docs")).await, Uuid::new_v4());
        save(&s.d, project, user, "x.txt", "x\n").await;
        hosted(&s, project, user, json!({})).await.problem(409, "not_pushed");
        s.d.delete(&format!("/pending/{project}/{user}")).await;
        s.sync(project).await.ok(200);
        s.github.take_asked();
        hosted(&s, project, user, json!({})).await.problem(422, "nothing_to_commit");
        s.d.put(&format!("/pending/{project}/{user}/run.sh?mode=100755"), "#!/bin/sh\nexit\n").await;
        hosted(&s, project, user, json!({})).await.problem(422, "bad_mode");
        for more in [json!({"push": false}), json!({"dry_run": true}), json!({"on_conflict": "branch"})] {
            hosted(&s, project, user, more).await.problem(422, "bad_sign");
        }
        hosted(&s, project, user, json!({"sign": "me"})).await.problem(422, "bad_shape");
        hosted(&s, project, user, json!({"expected_head_sha": "1".repeat(40)})).await.problem(409, "head_moved");
        let local = s.d.local_project().await;
        hosted(&s, local, user, json!({})).await.problem(422, "no_remote");
        assert!(s.github.take_asked().iter().all(|asked| asked.what != "/graphql"));
        // Commits that only we have come first.
        s.d.put(&format!("/files/{project}/one.txt"), "one\n").await.ok(200);
        hosted(&s, project, user, json!({})).await.problem(409, "not_pushed");
        assert_eq!(pending(&s.d, project, user).await, ["run.sh"]);
    }
}
