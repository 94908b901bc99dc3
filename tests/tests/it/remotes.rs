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

    /// Goal: no redirect leads into the network behind the server, in whatever way its address is written, and nothing is sent there.
    async fn redirects_inwards(d) {
        let remote = small_remote(&d, "docs");
        let elsewhere = GitHttp::start(d.remotes.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let port = elsewhere.url("").trim_end_matches("/.git").rsplit(':').next().expect("a port").to_owned();
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        save(&d, project, user, "dir/a.txt", "mine\n").await;
        for base in [
            "http://169.254.169.254".to_owned(),
            "http://2852039166".to_owned(),
            "http://[::ffff:169.254.169.254]".to_owned(),
            "http://[64:ff9b::a9fe:a9fe]".to_owned(),
            format!("http://127.0.0.1:{port}"),
            format!("http://2130706433:{port}"),
            format!("http://[::ffff:127.0.0.1]:{port}"),
            format!("http://localhost:{port}"),
            "file:///etc".to_owned(),
            "gopher://127.0.0.1".to_owned(),
        ] {
            for on in [On::Discovery, On::UploadPack] {
                d.git.fail_next(on, usize::MAX, Fault::Redirect(base.clone()));
            }
            sync(&d, project, json!({})).await.problem(403, "remote_not_allowed");
            d.git.heal();
            d.git.fail_next(On::ReceivePack, 1, Fault::Redirect(base.clone()));
            let refused = commit(&d, project, commit_body(user, &base)).await;
            assert!([403, 422, 502].contains(&refused.status), "{base}: {}", refused.text());
            d.git.heal();
        }
        assert_eq!(elsewhere.requests(), []);
        assert_eq!(pending(&d, project, user).await, ["dir/a.txt"]);
        commit(&d, project, commit_body(user, "Mine")).await.ok(200);
        assert_eq!((remote.file("dir/a.txt"), remote.file("text.txt")), ("mine\n".to_owned(), "theirs\n".to_owned()));
    }

    /// Goal: a URL is a URL in whatever case its scheme is written: it is bound by the list of allowed remotes and by the check of addresses
    /// whenever it is used, as it was when the project was made.
    async fn a_scheme_in_capitals(d) {
        let mut d = d;
        small_remote(&d, "docs");
        let here = d.git.url("").trim_end_matches(".git").to_owned();
        d.stop().await;
        d.set("TREEHOLD_ALLOW_REMOTE", &format!("{here},http://"));
        d.up().await;
        let connected = async |url: String| {
            let project = Uuid::new_v4();
            d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": url}})).await.ok(201);
            project
        };
        let project = connected(d.git.url("docs").replacen("http", "HTTP", 1)).await;
        sync(&d, project, json!({})).await.ok(200);
        for name in ["http://localhost/docs.git", "HTTP://localhost/docs.git", "hTTp://LOCALHOST/docs.git"] {
            let inside = connected(name.to_owned()).await;
            let refused = sync(&d, inside, json!({})).await.problem(403, "remote_not_allowed");
            assert!(refused.to_string().contains("public address"), "{name}: {refused}");
        }
        d.stop().await;
        d.set("TREEHOLD_ALLOW_REMOTE", "https://github.com/");
        d.up().await;
        d.git.reset_requests();
        sync(&d, project, json!({})).await.problem(403, "remote_not_allowed");
        assert_eq!(d.git.requests(), []);
    }

    /// Goal: credentials of a request are for that request; without any, the remote is asked without.
    async fn per_request(d) {
        small_remote(&d, "docs");
        let project = d.connect("docs").await;
        d.git.reset_requests();
        let url = format!("/projects/{project}/sync");
        d.send(d.request("POST", &url)).await.problem(502, "remote_auth");
        let asked = d.git.requests();
        assert!(!asked.is_empty() && asked.iter().all(|request| !request.authorization_ok), "{asked:?}");
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
