//! What the tests of commits, pushes and syncs share: a small remote, the requests, and a look at what the database holds.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;
use treehold_tests::git::Repo;
use treehold_tests::git_http::Logged;
use uuid::Uuid;

use crate::deployment::{Deployment, REMOTE_TOKEN, Reply, Setup, json_body};

/// Ten lines, so that changes at both ends merge.
pub const TEXT: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

/// A bare remote and a clone of it with a work tree, in which others work.
pub struct Remote {
    pub bare: Repo,
    pub others: Repo,
    _dir: TempDir,
}

impl Remote {
    /// Others commit files and push them.
    pub fn moves(&self, files: &[(&str, Option<&[u8]>)]) -> String {
        self.others.git().run(["fetch", "--quiet", "origin"]);
        self.others.git().run(["reset", "--quiet", "--hard", "origin/main"]);
        let commit = self.others.commit_files(files, "Others work");
        self.others.git().run(["push", "--quiet", "origin", "HEAD:main"]);
        commit
    }

    pub fn head(&self) -> String {
        self.bare.rev_parse("refs/heads/main")
    }

    /// Commits on main.
    pub fn count(&self) -> usize {
        self.bare.git().run(["rev-list", "--count", "main"]).parse().expect("a number")
    }

    /// Content of a file at the remote.
    pub fn file(&self, path: &str) -> String {
        String::from_utf8(self.bare.cat_file(&format!("main:{path}"))).expect("UTF-8")
    }

    /// The hook says `words` and refuses every push.
    pub fn refuse(&self, words: &str) {
        let hook = self.bare.path().join("hooks/pre-receive");
        std::fs::create_dir_all(hook.parent().expect("hooks")).expect("mkdir");
        std::fs::write(&hook, format!("#!/bin/sh\necho '{words}' >&2\nexit 1\n")).expect("write");
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    pub fn allow(&self) {
        std::fs::remove_file(self.bare.path().join("hooks/pre-receive")).expect("remove the hook");
    }
}

/// A remote with a text, an executable, a symlink and a directory, three commits deep.
pub fn small_remote(d: &Deployment, name: &str) -> Remote {
    let work = Repo::init(d.remotes.path().join(format!("{name}-work")));
    work.commit_file("text.txt", TEXT);
    work.commit_files(&[("dir/a.txt", Some(b"a\n")), ("dir/b.txt", Some(b"b\n"))], "Second");
    let at = |path: &str| work.path().join(path);
    std::fs::write(at("run.sh"), "#!/bin/sh\n").expect("write");
    std::fs::set_permissions(at("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::symlink("text.txt", at("link")).expect("symlink");
    work.git().run(["add", "-A"]);
    work.commit_files(&[], "Third");
    let bare = work.bare_clone(d.remotes.path().join(format!("{name}.git")));
    let (dir, others) = d.clone_remote(name);
    Remote { bare, others, _dir: dir }
}

/// An empty remote.
pub fn empty_remote(d: &Deployment, name: &str) -> Repo {
    Repo::init_bare(d.remotes.path().join(format!("{name}.git")))
}

pub fn author() -> Value {
    json!({"name": "Ann Author", "email": "ann@example.org"})
}

pub fn commit_body(user: Uuid, message: &str) -> Value {
    json!({"user": user, "message": message, "author": author()})
}

/// The body with further members.
pub fn with(mut body: Value, more: Value) -> Value {
    let (Some(body_map), Value::Object(more)) = (body.as_object_mut(), more) else { panic!("objects") };
    body_map.extend(more);
    body
}

/// Saves pending work.
pub async fn save(d: &Deployment, project: Uuid, user: Uuid, path: &str, content: &str) -> Value {
    let reply = d.put(&format!("/pending/{project}/{user}/{path}"), content.to_owned()).await;
    assert!([200, 201].contains(&reply.status), "{}", reply.text());
    reply.ok(reply.status)
}

pub async fn commit(d: &Deployment, project: Uuid, body: Value) -> Reply {
    d.post(&format!("/projects/{project}/commit"), body).await
}

/// A commit with a key and a token of choice.
pub async fn commit_as(d: &Deployment, project: Uuid, body: &Value, key: &str, token: &str) -> Reply {
    let request = json_body(d.request("POST", &format!("/projects/{project}/commit")), body);
    d.send(request.header("X-Remote-Token", token).header("Idempotency-Key", key)).await
}

pub async fn commit_key(d: &Deployment, project: Uuid, body: &Value, key: &str) -> Reply {
    commit_as(d, project, body, key, REMOTE_TOKEN).await
}

pub async fn actions(d: &Deployment, project: Uuid, actions: Value) -> Reply {
    let body = json!({"message": "Act", "author": author(), "actions": actions});
    d.post(&format!("/projects/{project}/commits"), body).await
}

pub async fn sync(d: &Deployment, project: Uuid, body: Value) -> Reply {
    d.post(&format!("/projects/{project}/sync"), body).await
}

pub async fn status(d: &Deployment, project: Uuid, user: Uuid) -> Value {
    d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200)
}

/// Paths of the user's pending work.
pub async fn pending(d: &Deployment, project: Uuid, user: Uuid) -> Vec<String> {
    let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
    let changes = list["changes"].as_array().expect("changes");
    changes.iter().map(|change| change["path"].as_str().expect("a path").to_owned()).collect()
}

/// The project's head.
pub async fn head(d: &Deployment, project: Uuid) -> String {
    let shown = d.get(&format!("/projects/{project}")).await.ok(200);
    shown["head"].as_str().unwrap_or_default().to_owned()
}

/// Requests that push.
pub fn pushes(d: &Deployment) -> Vec<Logged> {
    let requests = d.git.requests().into_iter();
    requests.filter(|r| r.method == "POST" && r.path.ends_with("/git-receive-pack")).collect()
}

/// One number from the database that the server works on.
pub async fn number(d: &Deployment, sql: &'static str) -> i64 {
    match d.setup {
        Setup::Embedded => {
            let url = format!("sqlite://{}", d.data.path().join("treehold.db").display());
            let pool = sqlx::SqlitePool::connect(&url).await.expect("the database");
            sqlx::query_scalar(sql).fetch_one(&pool).await.expect(sql)
        }
        Setup::Cluster => {
            let pool =
                sqlx::PgPool::connect(d.database_url.as_deref().expect("a database")).await.expect("the database");
            sqlx::query_scalar(sql).fetch_one(&pool).await.expect(sql)
        }
    }
}
