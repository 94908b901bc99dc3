//! The log, and refs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, json_body};
use treehold_tests::git::Repo;

const ZERO: &str = "0000000000000000000000000000000000000000";

/// All pages of a log, put together.
async fn log(d: &Deployment, project: Uuid, query: &str, limit: usize) -> (Vec<Value>, bool) {
    let (mut commits, mut shallow, mut cursor) = (Vec::new(), false, String::new());
    loop {
        let page = d.get(&format!("/projects/{project}/log?limit={limit}{query}{cursor}")).await.ok(200);
        let shown = page["commits"].as_array().expect("commits");
        assert!(shown.len() <= limit);
        commits.extend(shown.iter().cloned());
        shallow |= page["shallow"].as_bool().expect("a flag");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (commits, shallow),
        }
    }
}

fn oids(commits: &[Value]) -> Vec<String> {
    commits.iter().map(|commit| commit["commit"].as_str().expect("an oid").to_owned()).collect()
}

/// A project with all of a remote's `main`.
pub async fn whole_project(d: &Deployment, remote: &str) -> Uuid {
    let project = Uuid::new_v4();
    let body = json!({"remote": {"url": d.git.url(remote)}});
    d.put_json(&format!("/projects/{project}"), body).await.ok(201);
    d.post(&format!("/projects/{project}/sync"), json!({"depth": 0})).await.ok(200);
    project
}

async fn put_ref(d: &Deployment, project: Uuid, name: &str, body: Value) -> Reply {
    d.put_json(&format!("/projects/{project}/refs/{name}"), body).await
}

async fn refs(d: &Deployment, project: Uuid) -> Vec<(String, String)> {
    let list = d.get(&format!("/projects/{project}/refs")).await.ok(200);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list["refs"].as_array().expect("refs").iter().map(|r| (text(&r["name"]), text(&r["oid"]))).collect()
}

/// A commit on `parent`, made by stock git and pushed to the remote, whose clock is wrong.
fn skewed(clone: &Repo, parents: &[&str], time_s: i64) -> String {
    let mut arguments = vec!["commit-tree".to_owned(), "-m".to_owned(), "skewed".to_owned()];
    for parent in parents {
        arguments.extend(["-p".to_owned(), (*parent).to_owned()]);
    }
    arguments.push("HEAD^{tree}".to_owned());
    clone.git().clone().at_time(time_s).run(arguments)
}

both! {
    /// Goal: the log is git's, in git's order, by pages of any size, with everything that git knows of a commit.
    async fn log_is_gits(d) {
        let remote = d.remote("docs", 21);
        let project = whole_project(&d, "docs").await;
        let expected = remote.git().run(["log", "--date-order", "--format=%H", "main"]);
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        assert_eq!(expected, remote.git().run(["log", "--format=%H", "main"]).lines().collect::<Vec<_>>());
        for limit in [1, 7, 1000] {
            let (commits, shallow) = log(&d, project, "", limit).await;
            assert_eq!((oids(&commits), shallow), (expected.clone(), false), "by {limit}");
        }
        let default = d.get(&format!("/projects/{project}/log")).await.ok(200);
        assert_eq!(default["commits"].as_array().map(Vec::len), Some(30));
        let (commits, _) = log(&d, project, "", 1000).await;
        let form = ["%T", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B"].join("%x00");
        for commit in commits.iter().step_by(5) {
            let oid = commit["commit"].as_str().expect("an oid");
            let fields = remote.git().run(["log", "-1", &format!("--format={form}"), oid]);
            let fields: Vec<&str> = fields.split('\0').collect();
            assert_eq!(commit["tree"], fields[0]);
            assert_eq!(commit["parents"], json!(fields[1].split_whitespace().collect::<Vec<_>>()));
            assert_eq!(commit["author"], json!({"name": fields[2], "email": fields[3], "date": fields[4]}));
            assert_eq!(commit["committer"], json!({"name": fields[5], "email": fields[6], "date": fields[7]}));
            assert_eq!(commit["message"].as_str().expect("a message").trim_end(), fields[8].trim_end());
        }
        let middle = &expected[20];
        let (commits, _) = log(&d, project, &format!("&ref={middle}"), 9).await;
        let from_middle = remote.git().run(["log", "--date-order", "--format=%H", middle]);
        assert_eq!(oids(&commits), from_middle.lines().collect::<Vec<_>>());
        d.get(&format!("/projects/{project}/log?ref={}", "1".repeat(40))).await.problem(404, "ref_not_found");
        d.get(&format!("/projects/{project}/log?cursor=nonsense")).await.problem(400, "bad_request");
    }

    /// Goal: where clocks are wrong across merges, pages of one commit show every commit once, children first.
    async fn log_with_skewed_clocks(d) {
        let remote = d.remote("docs", 22);
        let (_dir, clone) = d.clone_remote("docs");
        let base = clone.rev_parse("HEAD");
        // The left side is newer than the merge of both says; the right side's commits come from before the base.
        let shared = skewed(&clone, &[&base], 1_900_000_000);
        let left = skewed(&clone, &[&shared], 1_000_000_000);
        let left = skewed(&clone, &[&left], 1_950_000_000);
        let right = skewed(&clone, &[&shared], 1_960_000_000);
        let right = skewed(&clone, &[&right], 900_000_000);
        let merge = skewed(&clone, &[&left, &right, &shared], 1_800_000_000);
        clone.git().run(["push", "-q", "origin", &format!("{merge}:refs/heads/main")]);
        let project = whole_project(&d, "docs").await;
        let expected = remote.git().run(["log", "--date-order", "--format=%H", "main"]);
        for limit in [1, 2, 3] {
            let (commits, _) = log(&d, project, "", limit).await;
            assert_eq!(oids(&commits), expected.lines().collect::<Vec<_>>(), "by {limit}");
        }
    }

    /// Goal: the log of a shallow project ends at its boundary and says so, also where another project has the rest.
    async fn shallow_log(d) {
        let remote = d.remote("docs", 23);
        let shallow = d.connect("docs").await;
        let (commits, cut) = log(&d, shallow, "", 10).await;
        assert_eq!((oids(&commits), cut), (vec![remote.rev_parse("main")], true));
        let parents = commits[0]["parents"].as_array().expect("parents").len();
        assert_eq!(parents, remote.git().run(["log", "-1", "--format=%P", "main"]).split_whitespace().count());
        let whole = whole_project(&d, "docs").await;
        let (commits, cut) = log(&d, shallow, "", 10).await;
        assert_eq!((commits.len(), cut), (1, true));
        let (commits, cut) = log(&d, whole, "", 10).await;
        assert_eq!((commits.len().to_string(), cut), (remote.git().run(["rev-list", "--count", "main"]), false));
        let parent = remote.rev_parse("main^");
        d.get(&format!("/projects/{shallow}/log?ref={parent}")).await.problem(404, "ref_not_found");
        let (_dir, clone) = d.clone_remote("docs");
        clone.commit_file("after.txt", "after\n");
        clone.git().run(["push", "-q", "origin", "HEAD"]);
        d.post(&format!("/projects/{shallow}/sync"), json!({})).await.ok(200);
        let (commits, cut) = log(&d, shallow, "", 1).await;
        assert_eq!((commits.len(), cut), (2, true));
        let (_dir, export) = d.export(shallow).await;
        assert_eq!(export.git().run(["rev-list", "main"]).lines().collect::<Vec<_>>(), oids(&commits));
    }

    /// Goal: an unborn branch has an empty log, and no refs.
    async fn empty_history(d) {
        let project = d.local_project().await;
        let (commits, cut) = log(&d, project, "", 10).await;
        assert_eq!((commits.len(), cut), (0, false));
        assert_eq!(refs(&d, project).await, vec![]);
        let body = json!({"oid": "1".repeat(40)});
        put_ref(&d, project, "heads/main", body).await.problem(422, "unknown_oid");
    }

    /// Goal: refs are made, moved and deleted by compare-and-swap, forward only unless forced; what a list shows is what an export has.
    async fn refs_move_by_compare_and_swap(d) {
        let remote = d.remote("docs", 24);
        let project = whole_project(&d, "docs").await;
        let (head, older) = (remote.rev_parse("main"), remote.rev_parse("main~3"));
        let made = put_ref(&d, project, "heads/topic", json!({"oid": older, "expected_oid": ZERO})).await.ok(201);
        assert_eq!(made, json!({"name": "refs/heads/topic", "oid": older}));
        put_ref(&d, project, "heads/topic", json!({"oid": head, "expected_oid": ZERO})).await.problem(409, "ref_moved");
        let make = |name: &str, body: &Value| {
            let request = d.request("PUT", &format!("/projects/{project}/refs/heads/{name}"));
            d.send(json_body(request.header("If-None-Match", "*"), body))
        };
        let unmet = make("topic", &json!({"oid": head})).await.problem(412, "precondition_failed");
        assert_eq!(unmet["oid"], older);
        make("other", &json!({"oid": head, "expected_oid": head})).await.problem(400, "bad_header");
        make("other", &json!({"oid": head})).await.ok(201);
        d.delete(&format!("/projects/{project}/refs/heads/other")).await.ok(204);
        put_ref(&d, project, "heads/topic", json!({"oid": head, "expected_oid": head})).await.problem(409, "ref_moved");
        put_ref(&d, project, "heads/topic", json!({"oid": head})).await.ok(200);
        put_ref(&d, project, "heads/topic", json!({"oid": older})).await.problem(409, "not_fast_forward");
        put_ref(&d, project, "heads/topic", json!({"oid": older, "force": true})).await.problem(409, "not_fast_forward");
        let rewind = json!({"oid": older, "force": true, "expected_oid": head});
        put_ref(&d, project, "heads/topic", rewind).await.ok(200);
        put_ref(&d, project, "refs/tags/v9", json!({"oid": older})).await.ok(201);
        let expected = vec![
            ("refs/heads/main".to_owned(), head.clone()),
            ("refs/heads/topic".to_owned(), older.clone()),
            ("refs/tags/v9".to_owned(), older.clone()),
        ];
        assert_eq!(refs(&d, project).await, expected);
        let first = d.get(&format!("/projects/{project}/refs?limit=2")).await.ok(200);
        let cursor = first["next_cursor"].as_str().expect("a cursor");
        let second = d.get(&format!("/projects/{project}/refs?limit=2&cursor={cursor}")).await.ok(200);
        assert_eq!((second["refs"].as_array().map(Vec::len), &second["next_cursor"]), (Some(1), &Value::Null));
        let tags = d.get(&format!("/projects/{project}/refs?prefix=refs/tags/")).await.ok(200);
        assert_eq!(tags["refs"], json!([{"name": "refs/tags/v9", "oid": older}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.refs().into_iter().collect::<Vec<_>>(), expected);

        let url = format!("/projects/{project}/refs/heads/topic");
        d.delete(&format!("{url}?expected_oid={head}")).await.problem(409, "ref_moved");
        let with = |method: &str, name: &str, value: &str| d.request(method, &url).header(name, value);
        let tag = |oid: &str| format!("\"{oid}\"");
        let moved = d.send(json_body(with("PUT", "If-Match", &tag(&head)), &json!({"oid": head}))).await;
        assert_eq!(moved.problem(412, "precondition_failed")["oid"], older);
        for (name, value) in [("If-Match", tag(&head)), ("If-None-Match", "*".to_owned())] {
            let refused = d.send(with("DELETE", name, &value)).await.problem(412, "precondition_failed");
            assert_eq!(refused["oid"], older);
        }
        // What is held but not possible is no failed condition.
        let again = json!({"oid": head, "restore": true});
        d.send(json_body(with("PUT", "If-Match", &tag(&older)), &again)).await.problem(409, "ref_moved");
        d.send(with("DELETE", "If-Match", &tag(&older))).await.ok(204);
        let unmet = d.send(json_body(with("PUT", "If-Match", &tag(&older)), &json!({"oid": older}))).await;
        assert_eq!(unmet.problem(412, "precondition_failed")["oid"], Value::Null);
        d.delete(&url).await.problem(404, "ref_not_found");
        d.delete(&format!("/projects/{project}/refs/heads/main")).await.problem(422, "default_branch");
        assert_eq!(refs(&d, project).await, vec![expected[0].clone(), expected[2].clone()]);
    }

    /// Goal: names that cannot be beside each other, or are none, are refused, and so are commits of other projects and no commits.
    async fn refused_refs(d) {
        let remote = d.remote("docs", 25);
        d.remote("other", 26);
        let project = whole_project(&d, "docs").await;
        let foreign = whole_project(&d, "other").await;
        let head = remote.rev_parse("main");
        put_ref(&d, project, "heads/a/b", json!({"oid": head})).await.ok(201);
        for name in ["heads/a", "heads/a/b/c", "heads/A/b", "heads/a/B", "heads/main/x", "heads/MAIN"] {
            put_ref(&d, project, name, json!({"oid": head})).await.problem(409, "ref_conflict");
        }
        for name in ["heads/a..b", "heads/x.lock", "heads/.x", "heads/a%20b", "heads/-x", "notes/x", "remotes/o/x", "heads/"] {
            put_ref(&d, project, name, json!({"oid": head})).await.problem(422, "bad_ref");
        }
        let (blob, tree) = (remote.ls_tree("main")[0].oid.clone(), remote.rev_parse("main^{tree}"));
        let theirs = d.get(&format!("/projects/{foreign}")).await.ok(200)["head"].as_str().expect("an oid").to_owned();
        let mut answers = BTreeSet::new();
        for oid in [blob, tree, theirs, "1".repeat(40)] {
            let reply = put_ref(&d, project, "heads/stolen", json!({"oid": oid})).await;
            reply.problem(422, "unknown_oid");
            answers.insert(reply.text());
        }
        assert_eq!(answers.len(), 1, "one answer for absent, foreign and wrong: {answers:?}");
        put_ref(&d, project, "heads/x", json!({"oid": "short"})).await.ok(422);
        assert_eq!(refs(&d, project).await.len(), 2);
    }

    /// Goal: what only a deleted or rewound ref reached can no longer be read, named or exported.
    async fn unpublished_is_unreadable(d) {
        let remote = d.remote("docs", 27);
        let project = whole_project(&d, "docs").await;
        let head = remote.rev_parse("main");
        let body = json!({"branch": "main", "message": "Secret", "author": {"name": "A", "email": "a@example.org"},
            "actions": [{"action": "create", "path": "secret/key.txt", "content": "secret\n"}]});
        put_ref(&d, project, "heads/keep", json!({"oid": head})).await.ok(201);
        let mut made = Vec::new();
        for _ in 0..2 {
            let local = d.local_project().await;
            let answer = d.post(&format!("/projects/{local}/commits"), body.clone()).await.ok(200);
            made.push((local, answer));
        }
        for (local, answer) in &made {
            let commit = answer["commit"].as_str().expect("an oid");
            let blob = answer["files"][0]["oid"].as_str().expect("an oid");
            let more = json!({"branch": "main", "message": "More", "author": {"name": "A", "email": "a@example.org"},
                "actions": [{"action": "create", "path": "public.txt", "content": "public\n"},
                            {"action": "delete", "path": "secret/key.txt"}]});
            let next = d.post(&format!("/projects/{local}/commits"), more).await.ok(200);
            let (next, tree) = (next["commit"].as_str().expect("an oid"), answer["tree"].as_str().expect("an oid"));
            put_ref(&d, *local, "tags/old", json!({"oid": commit})).await.ok(201);
            let objects = [("commits", next), ("commits", commit), ("trees", tree), ("blobs", blob)];
            let rewind = json!({"oid": commit, "expected_oid": next, "force": true});
            put_ref(&d, *local, "heads/main", rewind).await.ok(200);
            for (at, (kind, oid)) in objects.into_iter().enumerate() {
                let reply = d.get(&format!("/projects/{local}/git/{kind}/{oid}")).await;
                if at == 0 { reply.problem(404, "not_found") } else { reply.ok(200) };
            }
            d.get(&format!("/files/{local}?ref={next}")).await.problem(404, "ref_not_found");
            put_ref(&d, *local, "heads/again", json!({"oid": next})).await.problem(422, "unknown_oid");
            let (_dir, export) = d.export(*local).await;
            assert_eq!(export.reachable().len(), export.git().run(["cat-file", "--batch-check", "--batch-all-objects"]).lines().count());
        }
        let branch = json!({"branch": "secret", "message": "Secret", "author": {"name": "A", "email": "a@example.org"},
            "push": false, "actions": [{"action": "create", "path": "other/key.txt", "content": "another secret\n"}]});
        put_ref(&d, project, "heads/secret", json!({"oid": head})).await.ok(201);
        let answer = d.post(&format!("/projects/{project}/commits"), branch).await.ok(200);
        let blob = format!("/projects/{project}/git/blobs/{}", answer["files"][0]["oid"].as_str().expect("an oid"));
        d.get(&blob).await.ok(200);
        d.delete(&format!("/projects/{project}/refs/heads/secret")).await.ok(204);
        d.get(&blob).await.problem(404, "not_found");
        assert_eq!(d.get(&format!("/projects/{project}/git/commits/{head}")).await.status, 200);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.reachable().len(), remote.git().run(["rev-list", "--objects", "main"]).lines().count());
    }
}
