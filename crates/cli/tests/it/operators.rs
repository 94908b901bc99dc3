//! Projects, import, export and admin: beside a running server and without one.

use serde_json::Value;

use crate::program::{Bench, Server, git};

/// The same steps with and without a server: one code runs them.
fn both(test: impl Fn(&Bench, Option<&Server>)) {
    let alone = Bench::new();
    test(&alone, None);
    let beside = Bench::new();
    let server = beside.serve();
    test(&beside, Some(&server));
}

fn names(answer: &Value) -> Vec<&str> {
    answer["projects"].as_array().unwrap().iter().map(|project| project["name"].as_str().unwrap()).collect()
}

#[test]
fn projects_are_made_listed_shown_and_deleted() {
    both(|bench, server| {
        let made = bench.json(&["project", "create", "docs", "--json"]);
        assert_eq!((made["created"].as_bool(), made["head"].is_null()), (Some(true), true));
        let id = made["id"].as_str().unwrap();
        let again = bench.json(&["project", "create", "docs", "--id", id, "--json"]);
        assert_eq!((again["created"].as_bool(), again["id"].as_str()), (Some(false), Some(id)));
        bench.json(&["project", "create", "more", "--default-branch", "trunk", "--json"]);
        let list = bench.json(&["project", "list", "--json"]);
        assert_eq!(names(&list), ["docs", "more"]);
        let first = bench.json(&["project", "list", "--limit", "1", "--json"]);
        assert_eq!(names(&first), ["docs"]);
        let rest = bench.json(&["project", "list", "--cursor", first["next_cursor"].as_str().unwrap(), "--json"]);
        assert_eq!(names(&rest), ["more"]);
        assert_eq!(bench.json(&["project", "show", "more", "--json"])["default_branch"], "trunk");
        let shown = bench.run(&["project", "show", id]);
        assert!(shown.stdout.contains("docs") && shown.stdout.contains(id), "{}", shown.stdout);
        if let Some(server) = server {
            let key = std::fs::read_to_string(bench.data().join("api-key")).unwrap();
            let (status, body) = server.request("GET", "/projects/docs", Some(key.trim()), "");
            assert!(status == 200 && body.contains(id), "{body}");
        }
        assert!(bench.fail(1, &["project", "create", "docs"]).contains("name"));
        assert!(bench.fail(1, &["project", "show", "nothing"]).contains("no such project"));
        assert!(bench.fail(1, &["project", "create", "x", "--remote", "https://example.org/o/x"]).contains("allowed"));
        assert_eq!(bench.json(&["project", "delete", "docs", "--json"])["id"], id);
        assert_eq!(names(&bench.json(&["project", "list", "--json"])), ["more"]);
        assert!(bench.fail(1, &["project", "delete", "docs"]).contains("no such project"));
    });
}

#[test]
fn a_project_says_what_pushes_it_refuses() {
    both(|bench, _| {
        let refused = |answer: &Value| {
            let receive = &answer["receive"];
            (receive["deny_non_fast_forwards"].as_bool().unwrap(), receive["deny_deletes"].as_bool().unwrap())
        };
        let made = bench.json(&["project", "create", "docs", "--deny-deletes", "--json"]);
        assert_eq!(refused(&made), (false, true));
        let id = made["id"].as_str().unwrap();
        let set = bench.json(&["project", "set", "docs", "--deny-non-fast-forwards", "true", "--json"]);
        assert_eq!(refused(&set), (true, true), "what is not named stays");
        assert!(bench.run(&["project", "show", "docs"]).stdout.contains("non-fast-forwards, deletes"));
        let both = ["project", "set", id, "--deny-non-fast-forwards", "false", "--deny-deletes", "false", "--json"];
        assert_eq!(refused(&bench.json(&both)), (false, false));
        assert_eq!(refused(&bench.json(&["project", "show", "docs", "--json"])), (false, false));
        let message = bench.fail(1, &["project", "create", "docs", "--id", id, "--deny-deletes"]);
        assert!(message.contains("policy"), "{message}");
        assert!(bench.fail(1, &["project", "set", "x", "--deny-deletes", "true"]).contains("no such project"));
    });
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    both(|bench, _| {
        for project in ["docs", "more"] {
            bench.json(&["project", "create", project, "--json"]);
        }
        assert!(bench.run(&["token", "list"]).stdout.contains("token create"));
        let made = bench.json(&["token", "create", "docs", "--write", "--name", "ci", "--expires", "90d", "--json"]);
        let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        assert_eq!(
            (&made["scopes"], made["project"]["name"].as_str()),
            (&serde_json::json!(["git:read", "git:write"]), Some("docs"))
        );
        assert!(made["expires_at"].as_str() > made["created_at"].as_str());
        assert!(secret.len() == 47 && secret.starts_with("thd_"), "{secret}");
        let shown = bench.run(&["token", "create", "more"]).stdout;
        assert!(shown.contains("thd_") && shown.contains("not shown again") && shown.contains("read"), "{shown}");

        let listed = bench.json(&["token", "list", "--json"]);
        assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
        let listed = bench.json(&["token", "list", "docs", "--json"]);
        let mut kept = made.clone();
        kept.as_object_mut().unwrap().remove("secret");
        assert_eq!(listed["tokens"], serde_json::json!([kept]), "all but the secret");
        let text = bench.run(&["token", "list"]).stdout;
        assert!(text.contains(id) && text.contains("ci") && text.contains("more") && !text.contains("thd_"), "{text}");
        assert!(!holds(&bench.data(), secret.as_bytes()), "the secret is kept nowhere");

        assert_eq!(bench.json(&["token", "revoke", id, "--json"])["revoked"], true);
        assert!(bench.fail(1, &["token", "revoke", id]).contains("no such token"));
        assert_eq!(bench.json(&["token", "list", "docs", "--json"])["tokens"], serde_json::json!([]));
        assert!(bench.fail(1, &["token", "create", "x"]).contains("no such project"));
        assert!(bench.fail(1, &["token", "create", "docs", "--expires", "0s"]).contains("1 second"));

        let user = "11111111-2222-4333-8444-555555555555";
        let made =
            bench.json(&["token", "create", "docs", "--scopes", "pending,files:write", "--user", user, "--json"]);
        assert_eq!(made["scopes"], serde_json::json!(["files:read", "files:write", "pending"]));
        assert_eq!(made["user"], user);
        let text = bench.run(&["token", "list"]).stdout;
        assert!(text.contains("files:read,files:write,pending") && text.contains(user), "{text}");
        for wrong in
            [&["--scopes", "files"][..], &["--scopes", ""], &["--scopes", "pending", "--write"], &["--user", "ann"]]
        {
            bench.fail(2, &[&["token", "create", "docs"], wrong].concat());
        }
    });
}

/// Whether a file below the directory has these bytes in it.
fn holds(dir: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), bytes);
        }
        kind.is_file()
            && std::fs::read(entry.path()).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn a_repository_comes_in_and_goes_out_again() {
    both(|bench, _| {
        let source = bench.repository("docs.git");
        let head = git(&source, &["rev-parse", "main"]);
        // A relative path counts from where the command is, not from where the server is.
        let report = bench.json(&["import", "docs.git", "--full", "--json"]);
        assert_eq!(report["project"]["name"], "docs");
        assert_eq!(report["head"].as_str(), Some(head.trim()));
        assert_eq!((report["files"].as_u64(), report["shallow"].as_bool()), (Some(2), Some(false)));
        let export = bench.json(&["export", "docs", "out.git", "--bundle", "out.bundle", "--json"]);
        let out = bench.path("out.git");
        assert_eq!(export["dir"].as_str(), out.to_str());
        assert_eq!(git(&out, &["rev-parse", "refs/heads/main"]), head);
        git(&out, &["fsck", "--strict", "--full"]);
        assert_eq!(git(&out, &["log", "--format=%s", "main"]), "docs/guide.md\nREADME.md\n");
        git(&bench.path(""), &["clone", "--quiet", "--branch", "main", "out.bundle", "from-bundle"]);
        assert_eq!(git(&bench.path("from-bundle"), &["rev-parse", "HEAD"]), head);

        let message = bench.fail(1, &["export", "docs", "out.git"]);
        assert!(message.contains("is not empty"), "{message}");
        let message = bench.fail(1, &["export", "docs", "--bundle", "out.bundle"]);
        assert!(message.contains("exists already"), "{message}");
        assert!(bench.fail(1, &["export", "nothing", "new.git"]).contains("no such project"));
        let ran = bench.run(&["import", "docs.git", "--full"]);
        assert!(ran.status == 0 && ran.stdout.contains(head.trim()), "{}{}", ran.stdout, ran.stderr);
    });
}

/// Goal: an export that finds damage names it and leaves nothing behind, whether the directory was there or not.
#[test]
fn a_failed_export_leaves_nothing_and_names_the_damage() {
    both(|bench, _| {
        bench.repository("docs.git");
        bench.json(&["import", "docs.git", "--full", "--json"]);
        let packs = std::fs::read_dir(bench.data().join("store/objects/pack")).unwrap();
        let packs: Vec<_> =
            packs.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some("pack".as_ref())).collect();
        assert!(!packs.is_empty());
        std::fs::create_dir(bench.path("empty.git")).unwrap();
        let refused = |what: &str| {
            for to in ["new/out.git", "empty.git"] {
                let message = bench.fail(1, &["export", "docs", to]);
                assert!(message.contains(&format!("the stored {what}")), "{message}");
                assert!(message.contains("is damaged; restore it from a backup of the bucket"), "{message}");
            }
            assert!(!bench.path("new").exists());
            assert_eq!(std::fs::read_dir(bench.path("empty.git")).unwrap().count(), 0);
        };
        for pack in &packs {
            let mut bytes = std::fs::read(pack).unwrap();
            bytes[14..].iter_mut().for_each(|byte| *byte ^= 0x55);
            std::fs::remove_file(pack).unwrap();
            std::fs::write(pack, bytes).unwrap();
        }
        refused("");
        packs.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
        refused("pack objects/pack/");
    });
}

#[test]
fn history_is_cut_off_unless_asked_for() {
    both(|bench, _| {
        bench.repository("docs.git");
        let report = bench.json(&["import", "docs.git", "--project", "short", "--json"]);
        assert_eq!((report["project"]["name"].as_str(), report["shallow"].as_bool()), (Some("short"), Some(true)));
        bench.json(&["export", "short", "short.git", "--json"]);
        let out = bench.path("short.git");
        git(&out, &["fsck", "--strict"]);
        assert_eq!(git(&out, &["log", "--format=%s", "main"]), "docs/guide.md\n");
        let message = bench.fail(1, &["export", "short", "with-bundle.git", "--bundle", "short.bundle"]);
        assert!(message.contains("history is cut off"), "{message}");
        assert!(!bench.path("with-bundle.git").exists() && !bench.path("short.bundle").exists());
        let message = bench.fail(1, &["import", "docs.git", "--project", "other", "--branch", "nowhere"]);
        assert!(message.contains("nowhere"), "{message}");
    });
}

/// Goal: what only looks makes no store where the data directory is misspelled.
#[test]
fn a_dry_run_needs_a_store() {
    let bench = Bench::new();
    let message = bench.fail(1, &["admin", "repack", "--dry-run"]);
    assert!(message.contains("there is no store here") && message.contains("--data-dir"), "{message}");
    assert!(!bench.data().exists());
    both(|bench, _| {
        bench.json(&["project", "create", "docs", "--json"]);
        assert!(bench.json(&["admin", "repack", "--dry-run", "--json"]).is_object());
    });
}

#[test]
fn admin_migrates_and_counts() {
    both(|bench, server| {
        let first = bench.json(&["admin", "migrate", "--json"]);
        assert_eq!(first["applied"].as_array().unwrap().is_empty(), server.is_some(), "{first}");
        let again = bench.json(&["admin", "migrate", "--json"]);
        assert_eq!((again["applied"].as_array().map(Vec::len), &again["current"]), (Some(0), &first["current"]));
        assert!(bench.run(&["admin", "migrate"]).stdout.contains("up to date"));
        bench.json(&["project", "create", "docs", "--json"]);
        assert!(bench.json(&["admin", "stats", "--json"]).is_object());
        assert_eq!(bench.run(&["admin", "stats"]).status, 0);
    });
}

#[test]
fn commands_wait_for_each_other() {
    let bench = Bench::new();
    let started: Vec<_> = (0..4)
        .map(|n| {
            let mut command = bench.command(&["project", "create", &format!("p{n}"), "--json"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(bench.json(&["project", "list", "--json"])["projects"].as_array().unwrap().len(), 4);
}

/// Who cannot reach the database is told what looks closer.
#[test]
fn a_database_that_is_away() {
    let bench = Bench::new();
    for command in [&["project", "list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let message = bench.fail(1, &[&["--database-url", "postgres://127.0.0.1:1/x"], command].concat());
        assert!(message.contains("`database_url`") && message.contains("`treehold doctor`"), "{message}");
    }
}
