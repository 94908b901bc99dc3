//! Which remotes are allowed, and where credentials may go.

use serde_json::json;
use treehold_tests::git_http::{Fault, GitHttp, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{REMOTE_TOKEN, REMOTE_USER};
use crate::remote_tools::*;

both! {
    /// Goal: an import that gives a project the remote that it lacked says so; one that finds it, or makes the project, does not.
    async fn an_import_says_what_it_binds(d) {
        let remote = d.remote("docs", 5);
        let source = remote.path().to_str().expect("UTF-8").to_owned();
        d.put_json(&format!("/projects/{}", Uuid::new_v4()), json!({"name": "mine"})).await.ok(201);
        for (name, set) in [("mine", true), ("mine", false), ("made", false)] {
            let done = d.cli(&["import", &source, "--project", name, "--json"]).await;
            let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
            assert_eq!((&told["remote_set"], &told["project"]["remote"]["url"]), (&json!(set), &json!(source)), "{name}");
        }
        d.put_json(&format!("/projects/{}", Uuid::new_v4()), json!({"name": "other"})).await.ok(201);
        let done = d.cli(&["import", &source, "--project", "other"]).await;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.lines().any(|line| line.starts_with("remote ") && line.contains("from now on: the project had none")), "{said}");
    }

    /// Goal: a remote outside of the allowed prefix is refused when the project is created, without a request to anybody.
    async fn refused_at_creation(d) {
        let port = d.git.url("x").split(':').nth(2).and_then(|rest| rest.split('/').next().map(str::to_owned)).expect("a port");
        let other = port.parse::<u16>().expect("a port").wrapping_add(1);
        let urls = [
            format!("http://localhost:{port}/docs.git"),
            format!("https://127.0.0.1:{port}/docs.git"),
            format!("http://127.0.0.1:{other}/docs.git"),
            format!("http://127.0.0.1:{port}@example.org/docs.git"),
            format!("http://user@127.0.0.1:{port}/docs.git"),
            format!("http://user:hunter2@127.0.0.1:{port}/docs.git"),
            format!("http://2130706433:{port}/docs.git"),
            format!("http://[::ffff:127.0.0.1]:{port}/docs.git"),
            "https://github.com/o/docs".to_owned(),
            "http://169.254.169.254/latest".to_owned(),
            "file:///etc".to_owned(),
            "/etc".to_owned(),
            "ext::sh -c id".to_owned(),
            "git://127.0.0.1/docs.git".to_owned(),
            "ssh://git@127.0.0.1/docs.git".to_owned(),
            String::new(),
        ];
        for url in urls {
            let project = Uuid::new_v4();
            let reply = d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": url}})).await;
            // Written another way, an allowed address is the allowed address.
            let same = url.contains("2130706433") && reply.status == 201;
            assert!(same || reply.status == 403, "{url}: {}", reply.text());
            assert!(!reply.text().contains("hunter2"), "{}", reply.text());
            if !same {
                reply.problem(403, "remote_not_allowed");
                d.get(&format!("/projects/{project}")).await.problem(404, "project_not_found");
            }
        }
        assert_eq!(d.git.requests(), []);
    }

    /// Goal: a redirect to another host is not followed by reads or pushes, and no credentials arrive there.
    async fn redirects(d) {
        let remote = small_remote(&d, "docs");
        let elsewhere = GitHttp::start(d.remotes.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let base = elsewhere.url("").trim_end_matches("/.git").to_owned();
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        for on in [On::Discovery, On::UploadPack] {
            d.git.fail_next(on, usize::MAX, Fault::Redirect(base.clone()));
        }
        let refused = sync(&d, project, json!({})).await;
        assert!([403, 502].contains(&refused.status), "{}", refused.text());
        d.git.heal();
        save(&d, project, user, "dir/a.txt", "mine\n").await;
        d.git.fail_next(On::ReceivePack, 1, Fault::Redirect(base));
        let refused = commit(&d, project, commit_body(user, "Mine")).await;
        assert!([403, 422, 502].contains(&refused.status), "{}", refused.text());
        assert_eq!(pending(&d, project, user).await, ["dir/a.txt"]);
        assert_eq!(elsewhere.requests(), []);
        commit(&d, project, commit_body(user, "Mine")).await.ok(200);
        assert_eq!(remote.file("dir/a.txt"), "mine\n");
    }

    /// Goal: credentials of a request are for that request; without any, the remote is asked without.
    async fn per_request(d) {
        small_remote(&d, "docs");
        let project = d.connect("docs").await;
        d.git.reset_requests();
        let url = format!("/projects/{project}/sync");
        d.send(d.request("POST", &url)).await.problem(502, "remote_auth");
        assert!(d.git.requests().iter().all(|request| !request.authorization_ok));
        sync(&d, project, json!({})).await.ok(200);
        d.send(d.request("POST", &url)).await.problem(502, "remote_auth");
        let bad = d.request("POST", &url).header("X-Remote-Token", "a\tb");
        let status = d.send(bad).await.status;
        assert!([400, 502].contains(&status), "{status}");
    }

    /// Goal: a project without remote has nothing to sync with or to push to.
    async fn no_remote(d) {
        let project = d.local_project().await;
        sync(&d, project, json!({})).await.problem(422, "no_remote");
        d.post(&format!("/projects/{project}/push"), json!({})).await.problem(422, "no_remote");
    }
}
