//! Secrets of every kind, in a deployment that uses all of them and has them refused: none is in anything that it logs (at TRACE), writes, tells
//! or stores, in whatever form.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use sqlx::AssertSqlSafe;
use treehold_tests::github::APP_KEY_PEM;
use treehold_tests::s3::S3Server;
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, REMOTE_TOKEN, json_body};
use crate::git_tools::{Clone, url_with};
use crate::github::{Setting, WEBHOOK_SECRET, set_up};
use crate::remote_tools::*;
use crate::signing::make_key;

/// Of a request, and refused. Characters that URLs and headers write in other ways are in it.
const WRONG_REMOTE_TOKEN: &str = "ghs_wrong+canary/8a7b==";
const WRONG_KEY: &str = "wrong-key-canary-0123456789abcdef";
const WRONG_PASSWORD: &str = "wrong-password-canary-77";
const DATABASE_PASSWORD: &str = "database-canary-5e0d";
/// Of a database that is not there.
const OTHER_DATABASE_PASSWORD: &str = "other-database-canary-11";

/// Secrets by kind, each in the forms in which it may be written.
#[derive(Default)]
struct Secrets(Vec<(&'static str, Vec<String>)>);

impl Secrets {
    fn add(&mut self, kind: &'static str, secret: &str) {
        let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let escaped = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let mut forms = vec![secret.to_owned(), hex, escaped];
        for text in [secret.to_owned(), format!("x-access-token:{secret}"), format!("git:{secret}")] {
            forms.push(BASE64.encode(text).trim_end_matches('=').to_owned());
        }
        self.0.push((kind, forms));
    }

    /// Lines of a private key that hold nothing of the public one.
    fn add_key(&mut self, kind: &'static str, pem: &str, skip: usize) {
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).skip(skip).take(2).collect();
        assert_eq!(lines.len(), 2, "{kind}");
        lines.iter().for_each(|line| self.0.push((kind, vec![(*line).to_owned()])));
    }

    /// The text is not repeated: it would be in the log of the tests.
    #[track_caller]
    fn absent(&self, place: &str, text: &str) {
        for (kind, forms) in &self.0 {
            let found = forms.iter().position(|form| text.contains(form));
            assert!(found.is_none(), "{kind} is in {place}, in form {found:?}");
        }
    }

    /// In none of the files below `dir`; how many there are.
    fn absent_below(&self, dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let looked_at = entries.map(|path| match path.is_dir() {
            true => self.absent_below(&path),
            false => {
                // A socket cannot be read.
                let bytes = std::fs::read(&path).unwrap_or_default();
                self.absent(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
                1
            }
        });
        looked_at.sum()
    }
}

/// Every row of every table.
async fn rows(database_url: &str) -> String {
    let pool = sqlx::PgPool::connect(database_url).await.expect("the database");
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&pool).await.expect("tables");
    assert!(tables.iter().any(|table| table == "attempts"), "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let sql = format!("SELECT one::text FROM \"{table}\" AS one");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.expect("rows");
        all.extend(rows);
    }
    all
}

/// Everything that a command says and logs.
async fn said(s: &Setting, arguments: &[&str], variable: Option<(&str, &str)>) -> String {
    let mut command = s.d.command(arguments).await;
    command.env("TREEHOLD_LOG", "trace").envs(variable);
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.expect("the binary runs");
    let words = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&words).into_owned()
}

/// The whole job with these secrets, and refusals of others; what was answered.
async fn use_all(s: &Setting, plain: Uuid, scoped: &str, token: &str) -> Vec<String> {
    let (user, hosted) = (Uuid::new_v4(), s.project(&s.github.url("o/docs")).await);
    let mut told = Vec::new();
    for project in [plain, hosted] {
        s.sync(project).await.ok(200);
        save(&s.d, project, user, "dir/a.txt", "mine\n").await;
        let asked = json_body(s.d.request("POST", &format!("/projects/{project}/commit")), &commit_body(user, "Mine"));
        let refused = s.d.send(asked.header("X-Remote-Token", WRONG_REMOTE_TOKEN)).await;
        refused.problem(502, "remote_auth");
        told.push(refused.text());
        s.post(&format!("/projects/{project}/commit"), commit_body(user, "Mine")).await.ok(200);
        told.push(s.d.get(&format!("/projects/{project}/status?user={user}")).await.text());
        told.push(s.d.get(&format!("/projects/{project}")).await.text());
    }
    s.d.get(&format!("/projects/{hosted}/remote?branch=main")).await.ok(200);
    s.pushed("canary-1", &s.github.url("o/docs"), "refs/heads/main", &"1".repeat(40)).await.ok(202);
    told.push(s.webhook("push", "canary-2", "{}", Some("sha256=00")).await.text());
    told.push(s.d.get("/metrics").await.text());

    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let files = s.d.url(&format!("/files/{plain}"));
    let refs = s.d.url(&format!("/git/{plain}.git/info/refs?service=git-upload-pack"));
    for (request, status) in [
        (client.get(&files).header("X-Internal-API-Key", scoped), 200),
        (client.get(s.d.url("/projects")).header("X-Internal-API-Key", scoped), 403),
        (client.get(&files).bearer_auth(token), 200),
        (client.get(s.d.url("/projects")).bearer_auth(token), 403),
        (client.get(&files).header("X-Internal-API-Key", WRONG_KEY), 401),
        (client.get(&files).bearer_auth(WRONG_KEY), 401),
        (client.get(&refs).basic_auth("git", Some(WRONG_PASSWORD)), 401),
        (client.get(&refs).basic_auth("git", Some(token)), 200),
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status);
        told.push(format!("{:?} {}", answer.headers().clone(), answer.text().await.expect("a text")));
    }
    let clone = Clone::of(&url_with(&s.d, plain, token), "2", &[]);
    clone.commit_file("git.txt", "git\n");
    clone.run(&["push", "--quiet", "origin", "HEAD:refs/heads/by-git"]);
    told
}

both! {
    /// Goal: no secret of any kind is in the log at TRACE, in a file, a row, an object, an answer or an error.
    async fn nothing_leaks(d) {
        let mut s = set_up(d, true).await;
        let keys = tempfile::tempdir().expect("a directory");
        let key = make_key(keys.path(), "ed25519", "");
        let scoped = format!("scoped-key-canary-{}", Uuid::new_v4().simple());
        small_remote(&s.d, "plain");
        let allowed = format!("{}/,{}", s.github.origin(), s.d.git.url("").trim_end_matches(".git"));
        s.d.set("TREEHOLD_ALLOW_REMOTE", &allowed);
        s.d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
        s.d.set("TREEHOLD_SCOPED_KEY", &format!("files:read={scoped}"));
        s.d.set("TREEHOLD_SIGNING_KEY_FILE", key.to_str().expect("UTF-8"));
        // The database trusts its socket, and passes over the password.
        s.d.database_url = s.d.database_url.take().map(|url| format!("{url}&password={DATABASE_PASSWORD}"));
        s.d.kill();
        s.d.up().await;
        let plain = s.project(&s.d.git.url("plain")).await;
        let made = said(&s, &["token", "create", &plain.to_string(), "--scopes", "files:read,git:write"], None).await;
        let token = made.lines().find_map(|line| line.strip_prefix("secret")).expect("a secret").trim().to_owned();

        let told = use_all(&s, plain, &scoped, &token).await;
        let elsewhere = format!("postgres://app:{OTHER_DATABASE_PASSWORD}@127.0.0.1:1/treehold");
        let commands = [
            said(&s, &["config-check"], None).await,
            said(&s, &["doctor"], None).await,
            said(&s, &["doctor"], Some(("TREEHOLD_DATABASE_URL", elsewhere.as_str()))).await,
            said(&s, &["token", "list", &plain.to_string()], None).await,
        ];
        let (_dir, export) = s.d.export(plain).await;
        let objects = export.git().output(["cat-file", "--batch", "--batch-all-objects"]);
        assert!(objects.status.success());
        s.d.stop().await;

        let mut secrets = Secrets::default();
        secrets.add("the key", API_KEY);
        secrets.add("the scoped key", &scoped);
        secrets.add("a token's secret", &token);
        secrets.add("the configured remote token", REMOTE_TOKEN);
        secrets.add("a request's remote token", WRONG_REMOTE_TOKEN);
        secrets.add("a wrong key", WRONG_KEY);
        secrets.add("a wrong password", WRONG_PASSWORD);
        secrets.add("the webhook secret", WEBHOOK_SECRET);
        secrets.add("the database's password", DATABASE_PASSWORD);
        secrets.add("another database's password", OTHER_DATABASE_PASSWORD);
        secrets.add("the secret of the bucket", S3Server::shared().await.secret_key());
        s.github.tokens().iter().for_each(|token| secrets.add("a token of the App", token));
        secrets.add_key("the App's key", APP_KEY_PEM, 2);
        secrets.add_key("the signing key", &std::fs::read_to_string(&key).expect("the key"), 2);

        told.iter().for_each(|text| secrets.absent("an answer", text));
        commands.iter().for_each(|text| secrets.absent("what a command says", text));
        secrets.absent("an object", &String::from_utf8_lossy(&objects.stdout));
        assert!(s.d.log().contains("TRACE"), "the log has everything");
        assert!(secrets.absent_below(s.d.data.path()) > 0);
        secrets.absent_below(s.d.objects_dir().await.parent().expect("a directory"));
        if let Some(url) = &s.d.database_url {
            secrets.absent("a row", &rows(url).await);
        }
    }
}
