//! Tokens over the whole API: what they open, and that nothing else is told.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, blob_oid, json_body};
use crate::remote_tools::save;

/// A token, by its secret.
pub struct Token<'a> {
    d: &'a Deployment,
    pub id: String,
    pub secret: String,
}

impl<'a> Token<'a> {
    pub async fn new(d: &'a Deployment, project: Uuid, scopes: &str, user: Option<Uuid>) -> Token<'a> {
        let (project, user) = (project.to_string(), user.map(|user| user.to_string()));
        let mut arguments = vec!["token", "create", &project, "--json", "--scopes", scopes];
        arguments.extend(user.iter().flat_map(|user| ["--user", user.as_str()]));
        let made = d.cli(&arguments).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        let text = |name: &str| made[name].as_str().expect("text").to_owned();
        Token { d, id: text("id"), secret: text("secret") }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .request(method.parse().expect("a method"), self.d.url(path))
            .header("Authorization", format!("Bearer {}", self.secret))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.d.send(self.request("GET", path)).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        self.d.send(json_body(self.request(method, path), &body)).await
    }

    async fn put(&self, path: &str, body: &str) -> Reply {
        self.d.send(self.request("PUT", path).body(body.to_owned())).await
    }
}

fn author() -> Value {
    json!({"name": "A", "email": "a@example.org"})
}

/// A project with `a.txt`, and both users' pending work: `PATH` of theirs holds their own UUID.
async fn worked_on(d: &Deployment, users: [Uuid; 2]) -> Uuid {
    let project = d.local_project().await;
    d.put(&format!("/files/{project}/a.txt"), "a\n").await.ok(200);
    for user in users {
        d.put(&format!("/pending/{project}/{user}/a.txt"), format!("a\n{user}\n")).await.ok(201);
    }
    project
}

/// What an answer says, but for what every answer has of its own.
fn said(reply: &Reply) -> (u16, String, Vec<(String, String)>) {
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    headers.sort();
    (reply.status, reply.text(), headers)
}

both! {
    /// Goal: with a token of the right scopes the whole job can be done.
    async fn a_token_does_its_job(d) {
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let project = worked_on(&d, [ann, bob]).await;
        let token = Token::new(&d, project, "files:write,pending", Some(ann)).await;
        let p = format!("/projects/{project}");
        let listed = token.get(&format!("/files/{project}?user={ann}")).await.ok(200);
        assert_eq!(listed["files"][0]["source"], "pending");
        token.put(&format!("/pending/{project}/{ann}/b.txt"), "b\n").await.ok(201);
        let read = token.send("POST", &format!("{p}/read"), json!({"paths": ["b.txt"], "user": ann})).await.ok(200);
        assert_eq!(read["files"][0]["content"], "b\n");
        token.send("POST", &format!("{p}/search"), json!({"query": "b", "user": ann})).await.ok(200);
        let made = token.send("POST", &format!("{p}/checkpoints"), json!({"user": ann, "name": "one"})).await.ok(201);
        token.get(&format!("{p}/checkpoints/{}?user={ann}", made["id"].as_str().expect("an id"))).await.ok(200);
        let body = json!({"user": ann, "message": "Go", "author": author()});
        let done = token.send("POST", &format!("{p}/commit"), body).await.ok(200);
        assert_eq!(token.get(&p).await.ok(200)["head"], done["commit"]);
        // In the header of keys, too, but not beside one; and by the project's name.
        let beside = d.send(d.request("GET", &p).header("X-Internal-API-Key", &token.secret)).await;
        beside.problem(401, "unauthorized");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let as_key = client.get(d.url(&p)).header("X-Internal-API-Key", &token.secret);
        d.send(as_key).await.ok(200);
        let named = Uuid::new_v4();
        d.put_json(&format!("/projects/{named}"), json!({"name": format!("n-{named}")})).await.ok(201);
        let token = Token::new(&d, named, "files:read,admin", None).await;
        assert_eq!(token.get(&format!("/projects/n-{named}")).await.ok(200)["id"], named.to_string());
        token.get(&format!("/projects/N-{named}")).await.problem(404, "project_not_found");
        token.send("PATCH", &format!("/projects/n-{named}"), json!({"receive": {"deny_deletes": true}})).await.ok(200);
        d.send(token.request("DELETE", &format!("/projects/{named}"))).await.ok(204);
    }

    /// Goal: another project, real or not, is the same nothing; and what is about all projects is for keys.
    async fn other_projects_do_not_exist(d) {
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let (own, other) = (worked_on(&d, [ann, bob]).await, Uuid::new_v4());
        let name = format!("other-{other}");
        d.put_json(&format!("/projects/{other}"), json!({"name": name})).await.ok(201);
        d.put(&format!("/files/{other}/a.txt"), "theirs\n").await.ok(200);
        let token = Token::new(&d, own, "files:write,pending,git:write,admin", None).await;
        let routes = |project: &str| {
            [
                ("GET", format!("/projects/{project}")),
                ("PATCH", format!("/projects/{project}")),
                ("DELETE", format!("/projects/{project}")),
                ("GET", format!("/files/{project}")),
                ("GET", format!("/files/{project}/a.txt")),
                ("PUT", format!("/files/{project}/a.txt")),
                ("PUT", format!("/pending/{project}/{ann}/a.txt")),
                ("GET", format!("/projects/{project}/changes?since=start")),
                ("GET", format!("/projects/{project}/archive.zip")),
                ("POST", format!("/projects/{project}/read")),
                ("POST", format!("/projects/{project}/commit")),
                ("PUT", format!("/projects/{project}/refs/heads/x")),
            ]
        };
        let nobody = Uuid::new_v4();
        for (real, made_up) in [(other.to_string(), nobody.to_string()), (name.clone(), format!("other-{nobody}"))] {
            for ((method, there), (_, nowhere)) in routes(&real).into_iter().zip(routes(&made_up)) {
                let replies = [token.send(method, &there, json!({})).await, token.send(method, &nowhere, json!({})).await];
                replies[0].problem(404, "project_not_found");
                assert_eq!(said(&replies[0]), said(&replies[1]), "{method} {there}");
            }
        }
        d.get(&format!("/files/{other}/a.txt")).await.ok(200);
        for (method, path) in [
            ("GET", "/projects".to_owned()),
            ("POST", "/projects".to_owned()),
            ("PUT", format!("/projects/{own}")),
            ("PUT", format!("/projects/{other}")),
            ("POST", format!("/projects/{own}/fork")),
            ("GET", "/metrics".to_owned()),
        ] {
            token.send(method, &path, json!({})).await.problem(403, "key_required");
        }
        token.get("/nowhere").await.problem(404, "route_not_found");
    }

    /// Goal: a token that is one user's shows and changes nothing of another's, by no route and in no answer.
    async fn other_users_work_is_closed(d) {
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let project = worked_on(&d, [ann, bob]).await;
        let secret = "only bob knows\n";
        d.put(&format!("/pending/{project}/{bob}/secret.txt"), secret).await.ok(201);
        let p = format!("/projects/{project}");
        let made = d.post(&format!("{p}/checkpoints"), json!({"user": bob, "name": "his"})).await.ok(201);
        let checkpoint = made["id"].as_str().expect("an id").to_owned();
        let token = Token::new(&d, project, "files:write,pending,git:write,admin", Some(ann)).await;
        let refused = [
            ("GET", format!("/files/{project}?user={bob}"), json!({})),
            ("GET", format!("/files/{project}/secret.txt?user={bob}"), json!({})),
            ("GET", format!("/pending/{project}/{bob}"), json!({})),
            ("GET", format!("/pending/{project}/{bob}/secret.txt"), json!({})),
            ("PUT", format!("/pending/{project}/{bob}/a.txt"), json!({})),
            ("POST", format!("/pending/{project}/{bob}"), json!({"ops": []})),
            ("DELETE", format!("/pending/{project}/{bob}"), json!({})),
            ("DELETE", format!("/pending/{project}/{bob}/secret.txt"), json!({})),
            ("GET", format!("{p}/status?user={bob}"), json!({})),
            ("GET", format!("{p}/conflicts?user={bob}"), json!({})),
            ("GET", format!("{p}/diff?user={bob}"), json!({})),
            ("GET", format!("{p}/changes?since=start&user={bob}"), json!({})),
            ("GET", format!("{p}/changes?since=start"), json!({})),
            ("GET", format!("{p}/history?user={bob}"), json!({})),
            ("GET", format!("{p}/checkpoints?user={bob}"), json!({})),
            ("GET", format!("{p}/checkpoints/{checkpoint}?user={bob}"), json!({})),
            ("POST", format!("{p}/checkpoints/{checkpoint}/restore?user={bob}"), json!({})),
            ("DELETE", format!("{p}/checkpoints/{checkpoint}?user={bob}"), json!({})),
            ("GET", format!("{p}/archive.zip?user={bob}"), json!({})),
            ("GET", format!("{p}/bundle?user={bob}"), json!({})),
            ("GET", format!("{p}/blame/a.txt?user={bob}"), json!({})),
            ("POST", format!("{p}/read"), json!({"paths": ["secret.txt"], "user": bob})),
            ("POST", format!("{p}/search"), json!({"query": "knows", "user": bob})),
            ("POST", format!("{p}/commit"), json!({"user": bob, "message": "m", "author": author()})),
            ("POST", format!("{p}/checkpoints"), json!({"user": bob, "name": "mine"})),
            ("POST", format!("{p}/resolve"), json!({"user": bob, "files": [{"path": "a.txt", "take": "theirs"}]})),
        ];
        for (method, path, body) in refused {
            token.send(method, &path, body).await.problem(403, "forbidden");
        }
        // Two users in one query are none.
        token.get(&format!("/files/{project}?user={ann}&user={bob}")).await.problem(400, "bad_parameter");
        // Nor is his work in answers to what is allowed.
        let oid = blob_oid(secret.as_bytes());
        d.get(&format!("{p}/git/blobs/{oid}")).await.ok(200);
        token.get(&format!("{p}/git/blobs/{oid}")).await.problem(404, "not_found");
        let committed = blob_oid(b"a\n");
        token.get(&format!("{p}/git/blobs/{committed}")).await.ok(200);
        for path in [
            format!("{p}/status?user={ann}"),
            format!("{p}/conflicts?user={ann}"),
            format!("{p}/changes?since=start&user={ann}"),
            format!("/pending/{project}/{ann}"),
        ] {
            let answer = token.get(&path).await;
            answer.ok(200);
            assert!(!answer.text().contains(&bob.to_string()) && !answer.text().contains(&oid), "{}", answer.text());
        }
        let warned = d.get(&format!("{p}/status?user={ann}")).await.text();
        assert!(warned.contains(&bob.to_string()), "a key is warned of others: {warned}");
        let kept = d.get(&format!("/pending/{project}/{bob}")).await.ok(200);
        assert_eq!(kept["changes"].as_array().map(Vec::len), Some(2), "nothing of his changed");
    }

    /// Goal: a token is all that an agent needs, and opens to it what it opens elsewhere, and no more.
    async fn agents(d) {
        let (project, own, other) = (d.local_project().await, Uuid::new_v4(), Uuid::new_v4());
        save(&d, project, other, "a.txt", "theirs\n").await;
        let call = async |token: &Token<'_>, user: Option<Uuid>, tool: &str, arguments: Value| {
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
            let request = json_body(token.request("POST", "/mcp"), &message).header("Accept", "application/json, text/event-stream");
            d.send(user.into_iter().fold(request, |request, user| request.header("Treehold-User", user.to_string()))).await
        };
        let token = Token::new(&d, project, "files:write,pending", Some(own)).await;
        let saved = call(&token, None, "write_file", json!({"path": "a.txt", "content": "mine\n"})).await.ok(200);
        assert_eq!(saved["result"]["structuredContent"]["status"], "applied", "{saved}");
        let status = call(&token, None, "status", json!({})).await.ok(200);
        let change = &status["result"]["structuredContent"]["changes"][0];
        assert_eq!(change["path"], "a.txt", "{status}");
        assert!(change.get("others").is_none(), "others are not told of: {status}");
        assert_eq!(d.get(&format!("/pending/{project}/{own}/a.txt")).await.text(), "mine\n");
        call(&token, Some(other), "status", json!({})).await.problem(403, "forbidden");
        let everybodys = Token::new(&d, project, "files:read,pending", None).await;
        let status = call(&everybodys, Some(own), "status", json!({})).await.ok(200);
        assert_eq!(status["result"]["structuredContent"]["changes"][0]["others"], 1, "{status}");
        let refused = call(&everybodys, Some(own), "write_file", json!({"path": "b.txt", "content": "b"})).await.ok(200);
        assert!(refused.get("error").is_some(), "it may only read: {refused}");
        call(&Token::new(&d, project, "git:write", Some(own)).await, None, "status", json!({})).await.problem(403, "scope_missing");
        d.get(&format!("/pending/{project}/{own}/b.txt")).await.problem(404, "nothing_pending");
    }

    /// Goal: revoked and expired tokens end within a moment, on a server that has just used them, too.
    async fn tokens_end(d) {
        let project = d.local_project().await;
        let token = Token::new(&d, project, "files:read", None).await;
        token.get(&format!("/projects/{project}")).await.ok(200);
        assert!(d.cli(&["token", "revoke", &token.id]).await.status.success());
        // It may be remembered for a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        let refused = token.get(&format!("/projects/{project}")).await;
        refused.problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"treehold\"");
        let again = Token::new(&d, project, "files:read", None).await;
        again.get(&format!("/projects/{project}")).await.ok(200);
        d.delete(&format!("/projects/{project}")).await.ok(204);
        d.put_json(&format!("/projects/{project}"), json!({})).await.ok(201);
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        again.get(&format!("/projects/{project}")).await.problem(401, "unauthorized");
        assert!(![&token, &again].into_iter().any(|token| d.log().contains(&token.secret)), "a secret is in the log");
    }

    /// Goal: a key of some scopes opens all projects for them, and nothing else, to the API and to git.
    async fn keys_with_scopes(d) {
        let mut d = d;
        let [reader, puller, admin] = ["reader", "puller", "admin"].map(|name| format!("{name}-{}", Uuid::new_v4().simple()));
        d.set("TREEHOLD_SCOPED_KEY", &format!("files:read={reader},git:read+pending={puller},admin={admin}"));
        d.stop().await;
        d.up().await;
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let (one, two) = (worked_on(&d, [ann, bob]).await, worked_on(&d, [ann, bob]).await);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let get = async |key: &str, path: &str| {
            d.send(client.get(d.url(path)).header("X-Internal-API-Key", key)).await
        };
        for project in [one, two] {
            assert_eq!(get(&reader, &format!("/files/{project}/a.txt")).await.text(), "a\n");
            get(&puller, &format!("/pending/{project}/{ann}")).await.ok(200);
            get(&admin, &format!("/projects/{project}")).await.ok(200);
        }
        get(&admin, "/projects").await.ok(200);
        get(&admin, "/metrics").await.ok(200);
        for (key, path, scope) in [
            (&reader, "/projects".to_owned(), "admin"),
            (&reader, format!("/files/{one}/a.txt?user={ann}"), "pending"),
            (&reader, format!("/pending/{one}/{ann}"), "pending"),
            (&puller, format!("/files/{one}"), "files:read"),
            (&admin, format!("/files/{one}"), "files:read"),
        ] {
            assert_eq!(get(key, &path).await.problem(403, "scope_missing")["scope"], scope, "{path}");
        }
        let told = |key: &str, arguments: &[&str]| {
            let at = d.url(&format!("/git/{one}.git")).replacen("://", &format!("://git:{key}@"), 1);
            let dir = tempfile::tempdir().expect("a directory");
            let git = treehold_tests::git::Git::at(dir.path());
            let out = git.output(arguments.iter().map(|argument| argument.replace("URL", &at)));
            (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        assert!(told(&puller, &["ls-remote", "URL"]).0);
        let (done, words) = told(&reader, &["ls-remote", "URL"]);
        assert!(!done && words.contains("git:read"), "{words}");
        let log = d.log();
        assert!(![reader, puller, admin].iter().any(|key| log.contains(key.as_str())), "a key is in the log");
    }
}
