//! The Model Context Protocol, driven by the official TypeScript SDK over both transports. The cases are in `tests/mcp`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use treehold_tests::git_http::{Fault, GitHttp, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, REMOTE_TOKEN, Setup};
use crate::isolation;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp")
}

/// The SDK, in the versions of the lock file. `npm ci` once for all tests: they run at the same time.
async fn install() {
    static INSTALLED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let install = || async {
        let marker = dir().join("node_modules/@modelcontextprotocol/sdk/package.json");
        if marker.exists() {
            return;
        }
        let mut npm = tokio::process::Command::new("npm");
        let npm = npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(dir());
        let ended =
            npm.output().await.expect("npm is missing: install nodejs (20 or newer) and npm to test the MCP server");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "npm could not install the MCP SDK that the tests are driven with: {said}");
    };
    INSTALLED.get_or_init(install).await;
}

/// A commit with a name that no edit may add, but that git carries.
const STRANGE: &str = "commit refs/heads/main
committer S Trange <s@example.org> 1700099999 +0000
data 8
Strange
from refs/heads/main^0
M 100644 inline \"strange/it \\\"is\\\"\\n==> other.txt (1 bytes, oid 0)\"
data 9
strange!

";

/// A door through which a case makes the next push to the remote slow.
async fn slow_door(listener: &TcpListener, git: &GitHttp) -> std::io::Error {
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        let mut head = [0; 1024];
        let _read = stream.read(&mut head).await;
        git.fail_next(On::ReceivePack, 1, Fault::Delay(Duration::from_millis(2500)));
        let _sent = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    }
}

/// The configuration of the cases: a project with a remote of its own for each transport.
async fn configuration(d: &Deployment, targets: &[(&str, Value)]) -> Value {
    let foreign = isolation::foreign(d).await;
    let mut told = Vec::new();
    for (transport, only) in targets {
        let name = format!("{transport}-{}", Uuid::new_v4().simple());
        let remote = d.remote(&name, 41);
        remote.git().run_with(["fast-import", "--quiet"], STRANGE.as_bytes());
        let project = d.connect(&name).await;
        told.push(json!({"transport": transport, "project": project, "remote": remote.path(), "only": only}));
    }
    let command = d.command(&[]).await;
    let text = |value: &std::ffi::OsStr| value.to_str().expect("UTF-8").to_owned();
    let mut env = serde_json::Map::new();
    for (name, value) in command.get_envs() {
        env.extend(value.map(|value| (text(name), Value::from(text(value)))));
    }
    // Without a server beside it, the command sends by itself.
    env.insert("TREEHOLD_REMOTE_TOKEN".to_owned(), REMOTE_TOKEN.into());
    env.insert("TREEHOLD_LOG".to_owned(), "error".into());
    json!({
        "base": d.url(""), "key": API_KEY, "token": REMOTE_TOKEN,
        "command": text(command.get_program()), "env": env, "targets": told,
        "other": {"project": foreign.project, "path": "secret.txt", "content": "the secret that only project A has",
            "commit": foreign.commit, "blob": foreign.blobs[0]},
    })
}

/// Runs the cases; all must pass.
async fn drive(d: &Deployment, mut configuration: Value) {
    install().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    configuration["slow"] = format!("http://{}/", listener.local_addr().expect("an address")).into();
    let file = d.data.path().join("mcp-cases.json");
    std::fs::write(&file, configuration.to_string()).expect("a file");
    let mut node = tokio::process::Command::new("node");
    let node = node.arg(dir().join("run.mjs")).arg(&file).kill_on_drop(true);
    let ended = tokio::select! {
        ended = tokio::time::timeout(Duration::from_secs(240), node.output()) => ended.expect("the cases come to an end"),
        broken = slow_door(&listener, &d.git) => panic!("{broken}"),
    };
    let ended = ended.expect("node is missing: install nodejs (20 or newer) to test the MCP server");
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    println!("{said}");
    assert!(
        ended.status.success(),
        "{said}\n{}",
        d.log().lines().filter(|line| line.contains("ERROR")).collect::<String>()
    );
}

both! {
    /// Goal: a client that hangs up without a word is no failure, beside a server and without one. Method: as often as a race needs.
    async fn hangs_up_at_once(d) {
        let mut d = d;
        let (project, user) = (d.local_project().await.to_string(), Uuid::new_v4().to_string());
        for beside in [true, false] {
            if !beside {
                d.stop().await;
            }
            for _ in 0..if beside { 12 } else { 1 } {
                let mut command = d.command(&["mcp", "--project", &project, "--user", &user]).await;
                command.stdin(std::process::Stdio::null());
                let out = tokio::process::Command::from(command).output().await.expect("the binary runs");
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert_eq!((out.status.code(), said.as_str(), out.stdout.len()), (Some(0), "", 0), "beside a server: {beside}");
            }
        }
    }

    /// Goal: what is no message is 400 with an error of JSON-RPC, whatever is wrong with it; another type of content is 415.
    async fn no_message(d) {
        let project = d.local_project().await;
        let send = |kind: &'static str, body: &'static str| {
            let request = d.request("POST", "/mcp").header("Treehold-Project", project.to_string());
            let request = request.header("Treehold-User", Uuid::new_v4().to_string());
            request.header("Accept", "application/json, text/event-stream").header("Content-Type", kind).body(body)
        };
        for (body, code) in [("{", -32700), ("", -32700), ("{\"jsonrpc\":\"2.0\",", -32700), ("[]", -32600), ("{\"jsonrpc\":\"2.0\"}", -32600)] {
            let reply = d.send(send("application/json", body)).await;
            assert_eq!((reply.status, reply.header("content-type")), (400, "application/json"), "{body}");
            let told: Value = serde_json::from_slice(&reply.body).expect("JSON");
            assert_eq!((&told["error"]["code"], &told["jsonrpc"], &told["id"]), (&json!(code), &json!("2.0"), &Value::Null), "{body}");
        }
        d.send(send("text/plain", "{")).await.problem(415, "unsupported_media_type");
        let ping = send("application/json", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}");
        assert_eq!(d.send(ping).await.status, 200);
    }

    /// Goal: an agent that knows the protocol and nothing of us reads, edits and commits over both transports, sees all of what it asked
    /// for and nothing of what is not its own, and each answer is bounded and of the shape that was announced.
    async fn with_the_official_sdk(d) {
        let mut d = d;
        // Messages are large, and the library would log each of them several times.
        d.set("TREEHOLD_LOG", "trace,rmcp=debug");
        // On stdio the credentials are the server's own.
        d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
        d.stop().await;
        d.up().await;
        let configuration = configuration(&d, &[("http", Value::Null), ("stdio", Value::Null)]).await;
        drive(&d, configuration).await;
    }
}

/// Goal: without a server the command opens database and store by itself, and others meanwhile go through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server() {
    let mut d = Deployment::start(Setup::Embedded).await;
    d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
    let only = json!([
        "a client learns what there is",
        "a conflict shows both sides and changes nothing until it is settled",
        "two clients at once lose no edit of each other",
        "a commit is pushed, and is what git makes of it"
    ]);
    let configuration = configuration(&d, &[("stdio", only)]).await;
    d.stop().await;
    let project = configuration["targets"][0]["project"].as_str().expect("a project").to_owned();
    drive(&d, configuration).await;
    // All of it is there for whoever comes next.
    d.up().await;
    let log = d.get(&format!("/projects/{project}/log?limit=5")).await.ok(200);
    assert!(log["commits"].as_array().expect("commits").iter().any(|commit| commit["message"] == "Named\n"), "{log}");
}

both! {
    /// Goal: a command that cannot begin says so in a sentence, before the protocol.
    async fn a_command_that_cannot_begin_says_why(d) {
        let user = Uuid::new_v4().to_string();
        for (arguments, status, sentence) in [
            (vec!["mcp", "--project", "nobody", "--user", &user], 1, "There is no such project"),
            (vec!["mcp", "--project", "nobody", "--user", "ann"], 2, "invalid value 'ann' for '--user"),
            (vec!["mcp", "--user", &user], 2, "--project"),
            (vec!["mcp", "--project", "a", "--user", &user, "--commit-author", "Ann"], 2, "must look like"),
        ] {
            let out = d.cli(&arguments).await;
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.code(), Some(status), "{arguments:?}: {said}");
            assert!(said.contains(sentence), "{arguments:?}: {said}");
            assert!(out.stdout.is_empty(), "stdout belongs to the protocol");
        }
        let project = d.local_project().await.to_string();
        let mut command = tokio::process::Command::from(d.command(&["mcp", "--project", &project, "--user", &user]).await);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the command");
        child.stdin.take().expect("stdin").write_all(b"this is no message\n").await.expect("a pipe");
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let said = ended.expect("it ends with its client").expect("its end").stdout;
        for line in String::from_utf8(said).expect("UTF-8").lines() {
            assert_eq!(serde_json::from_str::<Value>(line).expect("JSON")["jsonrpc"], "2.0", "{line}");
        }
    }
}
