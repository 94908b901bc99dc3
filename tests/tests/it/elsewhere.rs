//! The command line on a server elsewhere: the answers are those of the same command where the server runs.

use std::process::{Command, Output};

use serde_json::{Value, json};
use treehold_tests::git::{Git, Repo};
use treehold_tests::git_http::{Fault, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, REMOTE_TOKEN, binary};
use crate::remote_tools::small_remote;

/// A machine that has nothing but the program: no server, no store, no data directory but an empty one.
struct Machine {
    home: tempfile::TempDir,
    server: String,
    credential: Option<(&'static str, String)>,
}

impl Machine {
    fn of(d: &Deployment) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home, server: d.url("/"), credential: Some(("TREEHOLD_API_KEY", format!("{API_KEY},second"))) }
    }

    fn with(d: &Deployment, variable: &'static str, secret: &str) -> Self {
        Self { credential: Some((variable, secret.to_owned())), ..Self::of(d) }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--server", &self.server]).env_clear().current_dir(self.home.path());
        command.env("HOME", self.home.path()).env("TREEHOLD_LOG", "trace").env("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
        command.envs(self.credential.iter().map(|(variable, secret)| (variable, secret)));
        let output = tokio::process::Command::from(command).output().await.expect("the binary runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for secret in
            [Some(REMOTE_TOKEN), self.credential.as_ref().map(|(_, secret)| secret.as_str())].into_iter().flatten()
        {
            assert!(
                !said.contains(secret.split(',').next().expect("a secret")),
                "{arguments:?} shows a secret: {said}"
            );
        }
        assert!(!self.home.path().join(".local").exists(), "{arguments:?} made a data directory");
        output
    }

    /// What `--json` prints.
    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The sentence with which it ends.
    async fn refused(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        let sentence = said.lines().find_map(|line| line.strip_prefix("error: "));
        sentence.unwrap_or_else(|| panic!("{arguments:?} says no sentence: {said}")).to_owned()
    }
}

/// The same command where the server runs.
async fn there(d: &Deployment, arguments: &[&str]) -> Value {
    let output = d.cli(&[arguments, &["--json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

both! {
    /// Goal: projects, from afar as from near. Method: each command in both ways, the answers compared.
    async fn projects(d) {
        let machine = Machine::of(&d);
        let id = Uuid::new_v4().to_string();
        let url = d.git.url("docs");
        let create = ["project", "create", "docs", "--id", &id, "--default-branch", "trunk", "--remote", &url, "--deny-deletes"];
        let made = machine.json(&create).await;
        assert_eq!((&made["created"], &made["receive"]["deny_deletes"]), (&json!(true), &json!(true)));
        assert_eq!(there(&d, &create).await, machine.json(&create).await, "both find it");
        machine.json(&["project", "create"]).await;
        assert_eq!(machine.json(&["project", "show", "docs"]).await, there(&d, &["project", "show", "docs"]).await);
        let set = ["project", "set", "docs", "--deny-deletes", "false"];
        assert_eq!(machine.json(&set).await["receive"]["deny_deletes"], json!(false));
        assert_eq!(machine.json(&["project", "list"]).await, there(&d, &["project", "list"]).await);
        let first = machine.json(&["project", "list", "--limit", "1"]).await;
        let cursor = first["next_cursor"].as_str().expect("a cursor").to_owned();
        assert_eq!(machine.json(&["project", "list", "--cursor", &cursor]).await["projects"].as_array().expect("projects").len(), 1);
        let shown = machine.run(&["project", "show", "docs"]).await;
        assert!(String::from_utf8_lossy(&shown.stdout).contains("default branch  trunk"));
        let gone = machine.json(&["project", "delete", "docs", "--yes"]).await;
        assert_eq!(gone, json!({"deleted": true, "id": id, "name": "docs"}));
        assert!(machine.refused(1, &["project", "show", "docs"]).await.contains("project"));
        // A remote that the server may not use is refused there, whoever asks.
        machine.refused(1, &["project", "create", "--remote", "https://elsewhere.example.org/x"]).await;
    }

    /// Goal: a repository goes in by the server's own pull, and comes out as a bundle. Method: stock git compares.
    async fn import_and_export(d) {
        let machine = Machine::of(&d);
        let remote = small_remote(&d, "docs");
        let url = d.git.url("docs");
        let report = machine.json(&["import", &url, "--full"]).await;
        assert_eq!((&report["head"], &report["branch"], &report["shallow"]), (&json!(remote.head()), &json!("main"), &json!(false)));
        assert_eq!((&report["files"], &report["project"]["name"]), (&json!(5), &json!("docs")));
        // The same again, from near and from afar: near, the credentials are the server's own.
        let mut d = d;
        d.set("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN);
        d.stop().await;
        d.up().await;
        let machine = Machine::of(&d);
        remote.moves(&[("new.txt", Some(b"new\n"))]);
        let again = machine.json(&["import", &url, "--full"]).await;
        let mut near = there(&d, &["import", &url, "--full"]).await;
        assert_eq!((&near["bytes"], &again["files"]), (&json!(0), &json!(6)), "{near}");
        for counted in ["objects", "bytes"] {
            near[counted] = again[counted].clone();
        }
        assert_eq!(near, again);
        let shallow = machine.json(&["import", &url, "--project", "shallow", "--branch", "main"]).await;
        assert_eq!(shallow["shallow"], json!(true), "{shallow}");
        assert!(machine.refused(1, &["import", &url, "--project", "shallow", "--full"]).await.contains("cut off"));
        assert!(machine.refused(1, &["import", &d.git.url("other"), "--project", "docs"]).await.contains("another remote"));
        assert!(machine.refused(1, &["import", &url, "--project", "none", "--branch", "none"]).await.contains("none"));
        machine.refused(1, &["project", "show", "none"]).await;
        // Where it is not certain that nothing came, the project stays, and the same command goes on with it.
        d.git.fail_next(On::Any, usize::MAX, Fault::Status(500));
        let half = ["import", &url, "--project", "half", "--branch", "main", "--full"];
        let said = machine.refused(1, &half).await;
        assert!(said.contains("`treehold project delete half --yes`"), "{said}");
        assert_eq!(machine.json(&["project", "show", "half"]).await["head"], json!(null));
        d.git.heal();
        assert_eq!(machine.json(&half).await["head"], json!(remote.head()));
        let here = d.remotes.path().join("docs.git");
        assert!(machine.refused(2, &["import", here.to_str().expect("UTF-8")]).await.contains("a URL that it can reach"));

        let told = machine.json(&["export", "docs", "--bundle", "docs.bundle"]).await;
        let bundle = machine.home.path().join("docs.bundle");
        assert_eq!(told["bundle"]["bytes"], json!(bundle.metadata().expect("a bundle").len()));
        Git::at(machine.home.path()).run(["clone", "--quiet", "--bare", "docs.bundle", "clone.git"]);
        let clone = Repo::open(machine.home.path().join("clone.git"));
        clone.fsck_strict();
        assert_eq!(clone.rev_parse("refs/heads/main"), remote.head());
        assert!(machine.refused(1, &["export", "docs", "--bundle", "docs.bundle"]).await.contains("exists already"));
        machine.refused(1, &["export", "none", "--bundle", "none.bundle"]).await;
        assert!(!machine.home.path().join("none.bundle").exists());
        // A directory is git's; the command that is named works as it is.
        let said = machine.refused(2, &["export", "docs", "mirror.git"]).await;
        let words: Vec<&str> = said.split_whitespace().skip_while(|word| *word != "git").collect();
        let at = words.iter().position(|word| *word == "clone").expect("git clone");
        let url = words[at + 2].replace("git@", &format!("git:{API_KEY}@"));
        Git::at(machine.home.path()).run(["clone", "--quiet", words[at + 1], &url, "mirror.git"]);
        assert_eq!(Repo::open(machine.home.path().join("mirror.git")).rev_parse("refs/heads/main"), remote.head());
    }

    /// Goal: a token opens its project and no more; what cannot work from afar says so, and what is wrong is named.
    async fn what_is_refused(d) {
        let machine = Machine::of(&d);
        let project = d.local_project().await.to_string();
        let token = there(&d, &["token", "create", &project, "--scopes", "files:read"]).await;
        let scoped = Machine::with(&d, "TREEHOLD_TOKEN", token["secret"].as_str().expect("a secret"));
        assert_eq!(scoped.json(&["project", "show", &project]).await["id"], json!(project));
        assert!(scoped.refused(1, &["project", "list"]).await.contains("key"));
        let well = scoped.json(&["doctor"]).await;
        assert_eq!(well["checks"][1]["found"], "it opens a part of what is there", "{well}");
        let well = machine.json(&["doctor"]).await;
        assert_eq!((&well["healthy"], well["checks"].as_array().expect("checks").len()), (&json!(true), 2), "{well}");
        let user = Uuid::new_v4().to_string();
        for (arguments, words) in [
            (&["serve"][..], "works on this machine"),
            (&["quickstart"], "works on this machine"),
            (&["admin", "stats"], "where the server runs"),
            (&["admin", "gc", "--apply"], "where the server runs"),
            (&["token", "list"], "no route of the API makes tokens"),
            (&["project", "forget-history", &project], "where the server runs"),
            (&["mcp", "--project", "p", "--user", &user], "/mcp"),
        ] {
            let said = machine.refused(2, arguments).await;
            assert!(said.contains(words) && said.contains("--server"), "{arguments:?}: {said}");
        }
        let show = ["project", "show", project.as_str()];
        assert!(Machine { credential: None, ..Machine::of(&d) }.refused(2, &show).await.contains("--token or --api-key"));
        assert!(Machine::with(&d, "TREEHOLD_API_KEY", "wr0ng-key").refused(1, &show).await.contains("check --api-key"));
        let mixed_up = Machine::with(&d, "TREEHOLD_TOKEN", API_KEY);
        assert!(mixed_up.refused(1, &show).await.contains("give it as --api-key"));
        let advice = |checks: Value| checks["checks"][1]["advice"].as_str().unwrap_or_default().to_owned();
        let examined = mixed_up.run(&["doctor", "--json"]).await;
        assert!(advice(serde_json::from_slice(&examined.stdout).expect("JSON")).contains("give it as --api-key"));
        let mixed_up = Machine::with(&d, "TREEHOLD_API_KEY", "thd_n0-such-token");
        assert!(mixed_up.refused(1, &show).await.contains("give it as --token"));
        assert!(Machine { server: "http://127.0.0.1:1".into(), ..Machine::of(&d) }.refused(1, &show).await.contains("cannot be reached (http://127.0.0.1:1)"));
        assert!(Machine { server: d.url("/nowhere"), ..Machine::of(&d) }.refused(1, &show).await.contains("no such route"));
        for wrong in ["127.0.0.1:3001", "ftp://h", "https://u:p4ss@h"] {
            let said = Machine { server: wrong.into(), ..Machine::of(&d) }.refused(2, &show).await;
            assert!(!said.contains("p4ss"), "{said}");
        }
        let sick = Machine { server: "http://127.0.0.1:1".into(), ..Machine::of(&d) };
        assert!(sick.refused(1, &["doctor"]).await.contains("failed"));
        // What is no business of a server works as ever.
        assert!(machine.run(&["config-check"]).await.status.success());
    }
}
