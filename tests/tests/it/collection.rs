//! Garbage: what nothing names goes, nothing else does, and nobody who works meanwhile notices.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::aftermath::{big_remote, bucket_fsck, count, execute, oids, random, until};
use crate::both;
use crate::deployment::{Deployment, blob_oid, json_body};
use crate::git_tools::{Clone, api_refs};

async fn gc(d: &Deployment, options: &[&str]) -> Value {
    let done = d.cli(&[&["admin", "gc", "--json"], options].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// Two cycles without a grace.
pub async fn gc_twice(d: &Deployment) -> [Value; 2] {
    let options = ["--apply", "--grace", "0s", "--force"];
    [gc(d, &options).await, gc(d, &options).await]
}

async fn import(d: &Deployment, repo: &Repo, name: &str, options: &[&str]) -> Uuid {
    let url = repo.path().to_str().expect("UTF-8");
    let done = d.cli(&[&["import", url, "--project", name, "--json"], options].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    report["project"]["id"].as_str().expect("an id").parse().expect("a UUID")
}

/// A remote with a history of small changes.
fn history(d: &Deployment, name: &str, commits: usize, random: &mut StdRng) -> Repo {
    let repo = Repo::init_bare(d.remotes.path().join(format!("{name}.git")));
    let mut stream = String::new();
    let mut lines: Vec<String> = (0..60).map(|line| format!("line {line} {}\n", random.random::<u64>())).collect();
    for commit in 0..commits {
        let time_s = 1_700_000_000 + commit;
        stream.push_str(&format!("commit refs/heads/main\ncommitter A <a@example.org> {time_s} +0000\ndata 2\nC\n"));
        let at = random.random_range(0..lines.len());
        lines[at] = format!("commit {commit} {}\n", random.random::<u64>());
        let content = lines.concat();
        for path in [format!("d{}/f.txt", commit % 5), "all.txt".to_owned()] {
            stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()));
        }
    }
    repo.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    repo.git().run(["repack", "-adfq"]);
    repo
}

/// A commit of one file through the API.
async fn commit(d: &Deployment, project: Uuid, path: &str, content: &str) -> String {
    let body = json!({"message": path, "push": false, "author": {"name": "A", "email": "a@example.org"},
        "actions": [{"action": "create", "path": path, "content": content}]});
    let answer = d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    answer["commit"].as_str().expect("an oid").to_owned()
}

/// What stock git finds in exports of the projects.
async fn exported(d: &Deployment, projects: &[Uuid]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for project in projects {
        let (_dir, repo) = d.export(*project).await;
        all.extend(repo.reachable());
    }
    all
}

both! {
    /// Goal: after two cycles the ledger has exactly what refs, pending work and the reflog name, also where projects share objects, histories
    /// are cut off, and packs hold deltas on what goes.
    async fn finds_everything_and_nothing_else(d) {
        let mut random = random("collection");
        let (one, two) = (history(&d, "one", 60, &mut random), history(&d, "two", 40, &mut random));
        let shared = one.bare_clone(d.remotes.path().join("shared.git"));
        shared.git().run(["update-ref", "refs/heads/main", "main~30"]);
        let gone = import(&d, &one, "gone", &["--full"]).await;
        let part = import(&d, &shared, "part", &["--full"]).await;
        let cut = import(&d, &one, "cut", &["--depth", "3"]).await;
        let other = import(&d, &two, "other", &["--full"]).await;
        // A branch that comes and goes: the reflog keeps it.
        let clone = Clone::of_project(&d, other, "2", &[]);
        clone.git().run(["config", "user.email", "a@example.org"]);
        clone.git().run(["config", "user.name", "A"]);
        clone.commit_file("side.txt", "only on the side\n");
        clone.run(&["push", "--quiet", "origin", "HEAD:refs/heads/side"]);
        let side = api_refs(&d, other).await["refs/heads/side"].clone();
        clone.run(&["push", "--quiet", "origin", ":refs/heads/side"]);
        let user = Uuid::new_v4();
        let large = "large and pending ".repeat(10_000);
        d.put(&format!("/pending/{part}/{user}/large.txt"), large.clone()).await.ok(201);
        d.put(&format!("/pending/{gone}/{user}/lost.txt"), format!("{large}!")).await.ok(201);
        commit(&d, gone, "mine.txt", "of nobody else\n").await;
        commit(&d, part, "ours.txt", "stays\n").await;
        assert_eq!(gc_twice(&d).await[1]["collected"], 0, "nothing is garbage yet");
        let before = oids(&d).await;
        d.delete(&format!("/projects/{gone}")).await.ok(204);

        let plan = gc(&d, &[]).await;
        assert!(plan["dry_run"] == true && plan["condemned"].as_u64() > Some(50) && plan["collected"] == 0, "{plan}");
        assert_eq!(oids(&d).await, before, "a dry run changes nothing");
        let first = gc(&d, &["--apply", "--force"]).await;
        assert_eq!(first["condemned"], plan["condemned"]);
        assert_eq!(oids(&d).await, before, "a grace of a day");
        assert_eq!(gc(&d, &[]).await["waiting"], first["condemned"]);
        let [second, third] = gc_twice(&d).await;
        assert_eq!(second["collected"], first["condemned"]);
        assert_eq!((&third["condemned"], &third["collected"], &third["orphans"]), (&json!(0), &json!(0), &json!(0)));

        let projects = [part, cut, other];
        let mut expected = exported(&d, &projects).await;
        expected.extend([side.clone(), blob_oid(large.as_bytes()), blob_oid(b"only on the side\n"), clone.rev_parse("HEAD^{tree}")]);
        assert_eq!(oids(&d).await, expected);
        assert_eq!(count(&d, "SELECT count(*) FROM commits c WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.oid = c.oid)").await, 0);
        assert_eq!(d.get(&format!("/pending/{part}/{user}/large.txt")).await.text(), large);
        bucket_fsck(&d).await;

        // What was taken back goes at once where that is asked for, bytes and all.
        let now = gc(&d, &["--project", "other", "--now", "--grace", "0s", "--apply"]).await;
        assert!(now["collected"] == 3 && now["spared"] == 0, "{now}");
        assert_eq!(oids(&d).await, exported(&d, &projects).await.into_iter().chain([blob_oid(large.as_bytes())]).collect());
        let (_bucket, bucket) = bucket_fsck(&d).await;
        for oid in [&side, &blob_oid(b"only on the side\n")] {
            assert!(!bucket.git().output(["cat-file", "-e", oid]).status.success(), "{oid} is in the bucket still");
        }
        exported(&d, &projects).await;
    }

    /// Goal: what is collected can be stored again, by an import of the very same repository.
    async fn what_went_can_come_back(d) {
        let mut random = random("come back");
        let repo = history(&d, "again", 30, &mut random);
        for round in 0..3 {
            let project = import(&d, &repo, &format!("again-{round}"), &["--full"]).await;
            let (_dir, export) = d.export(project).await;
            assert_eq!(export.reachable(), repo.reachable());
            let log = d.get(&format!("/projects/{project}/log?limit=100")).await.ok(200);
            assert_eq!(log["commits"].as_array().map(Vec::len), Some(30), "its commits have rows");
            d.delete(&format!("/projects/{project}")).await.ok(204);
            if round == 1 {
                // Condemned and taken back.
                gc(&d, &["--apply", "--force"]).await;
            } else {
                gc_twice(&d).await;
                assert_eq!(oids(&d).await.len(), 0);
            }
        }
    }

    /// Goal: a collector without a grace, again and again, beside people who save, commit, push, delete and import what others have just
    /// deleted: no request fails, and everything acknowledged is there.
    async fn beside_writers(d) {
        let mut random = random("beside writers");
        let repo = history(&d, "shared", 25, &mut random);
        let over = std::sync::atomic::AtomicBool::new(false);
        let keeper = import(&d, &repo, "keeper", &["--full"]).await;
        let work = async {
            let users = (0..3_usize).map(|number| {
                let (d, repo) = (&d, &repo);
                async move {
                    let user = Uuid::new_v4();
                    for round in 0..6 {
                        let own = import(d, repo, &format!("own-{number}-{round}"), &["--full"]).await;
                        let content = format!("user {number}, round {round}\n").repeat(8_000);
                        d.put(&format!("/pending/{own}/{user}/notes/a.txt"), content.clone()).await.ok(201);
                        // The same bytes in each round and for everybody: collected by then, or not.
                        commit(d, own, "same.txt", "the same for all\n").await;
                        let body = json!({"user": user, "message": "Keep", "push": false, "author": {"name": "A", "email": "a@example.org"}});
                        let request = json_body(d.request("POST", &format!("/projects/{own}/commit")), &body);
                        d.send(request).await.ok(200);
                        let read = d.get(&format!("/files/{own}/notes/a.txt")).await;
                        assert!(read.status == 200 && read.text() == content, "{}", read.status);
                        let clone = Clone::of_project(d, own, "2", &[]);
                        assert_eq!(clone.reachable().len(), repo.reachable().len() + 7, "{number} {round}");
                        d.delete(&format!("/projects/{own}")).await.ok(204);
                    }
                }
            });
            futures::future::join_all(users).await;
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        let collecting = async {
            let mut collected = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let report = gc(&d, &["--apply", "--grace", "0s", "--force"]).await;
                assert_eq!(report["spared"], 0, "{report}");
                collected += report["collected"].as_u64().expect("a number");
            }
            collected
        };
        let ((), collected) = tokio::join!(work, collecting);
        println!("{collected} objects were collected meanwhile");
        gc_twice(&d).await;
        assert_eq!(oids(&d).await, exported(&d, &[keeper]).await);
        bucket_fsck(&d).await;
    }

    /// Goal: what only the remote's branch had, and has no more since others set it back there, is not reached any more; it is collected, and
    /// the project is whole without it.
    async fn a_remote_that_is_set_back(d) {
        let origin = d.remote("docs", 5);
        let project = d.connect("docs").await;
        let sync = async || d.post(&format!("/projects/{project}/sync"), json!({})).await;
        sync().await.ok(200);
        let base = origin.rev_parse("main");
        let (_dir, work) = d.clone_remote("docs");
        let elsewhere = async |path: &str| {
            work.git().run(["reset", "--quiet", "--hard", &base]);
            work.git().run(["commit", "--quiet", "--amend", "--allow-empty", "-m", path]);
            let commit = work.commit_file(path, format!("only in {path}\n"));
            work.git().run(["push", "--quiet", "--force", "origin", "HEAD:refs/heads/main"]);
            sync().await.problem(409, "diverged");
            commit
        };
        let lost = elsewhere("one.txt").await;
        let kept = elsewhere("two.txt").await;
        gc_twice(&d).await;
        let there = oids(&d).await;
        assert!(there.contains(&kept) && !there.contains(&lost));
        // The branch is gone at the remote, then back where ours is.
        origin.git().run(["update-ref", "-d", "refs/heads/main"]);
        sync().await;
        origin.git().run(["update-ref", "refs/heads/main", &base]);
        sync().await.ok(200);
        gc_twice(&d).await;
        assert_eq!(oids(&d).await, exported(&d, &[project]).await);
        let verified = d.cli(&["admin", "verify", "--json"]).await;
        let report: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        assert_eq!((&report["errors"], &report["warnings"]), (&json!(0), &json!(0)), "{report}");
    }

    /// Goal: names in the bucket that nobody knows are burnt and go; what is not ours stays, and so does a name that comes back.
    async fn orphans(d) {
        let project = d.local_project().await;
        commit(&d, project, "a.txt", "a\n").await;
        let objects = d.objects_dir().await;
        let loose = objects.join("12/3456789012345678901234567890123456789a");
        std::fs::create_dir_all(loose.parent().expect("a directory")).expect("a directory");
        let pack = objects.join("pack/pack-0123456789012345678901234567890123456789.pack");
        let foreign = objects.join("pack/README");
        for path in [&loose, &pack, &pack.with_extension("idx"), &foreign] {
            std::fs::write(path, "nobody's").expect("a file");
        }
        let plan = gc(&d, &[]).await;
        assert!(plan["orphans"] == 2 && plan["foreign"].as_u64() >= Some(1), "{plan}");
        let first = gc(&d, &["--apply"]).await;
        assert!(first["orphans"] == 2 && first["foreign"] == plan["foreign"], "{first}");
        assert!(loose.exists() && pack.exists(), "they have their grace, too");
        gc(&d, &["--apply", "--grace", "0s"]).await;
        assert!(!loose.exists() && !pack.exists() && !pack.with_extension("idx").exists());
        assert!(foreign.exists());
        std::fs::create_dir_all(loose.parent().expect("a directory")).expect("a directory");
        std::fs::write(&loose, "a write that came late").expect("a file");
        assert_eq!(gc(&d, &["--apply"]).await["orphans"], 1);
        assert!(!loose.exists(), "its name was given up for good");
        assert_eq!(d.get(&format!("/files/{project}/a.txt")).await.text(), "a\n");
    }

    /// Goal: what was committed and taken back stays as long as somebody's history names it, and the report says so; then it goes.
    async fn what_keeps_it_is_told(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let first = commit(&d, project, "a.txt", "a\n").await;
        let secret = "secret ".repeat(40_000);
        d.put(&format!("/pending/{project}/{user}/secret.txt"), secret.clone()).await.ok(201);
        let author = json!({"name": "A", "email": "a@example.org"});
        let body = json!({"user": user, "message": "Oh", "push": false, "author": author});
        let second = d.post(&format!("/projects/{project}/commit"), body).await.ok(200)["commit"].clone();
        let back = json!({"oid": first, "expected_oid": second, "force": true});
        d.put_json(&format!("/projects/{project}/refs/heads/main"), back).await.ok(200);
        let id = project.to_string();
        let kept = gc(&d, &["--project", &id, "--now"]).await["kept"].clone();
        let expected = json!({"objects": 1, "pending": 0, "history": 1, "checkpoints": 0, "projects": 0, "others": 0});
        assert_eq!(kept, expected);
        let told = d.cli(&["admin", "gc", "--project", &id, "--now"]).await;
        let words = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(words.contains("project forget-history") && !words.contains("admin manifest"), "{words}");
        let forgotten = d.cli(&["project", "forget-history", &id, "--yes"]).await;
        assert!(forgotten.status.success(), "{}", String::from_utf8_lossy(&forgotten.stderr));
        let done = gc(&d, &["--project", &id, "--now", "--grace", "0s", "--apply"]).await;
        assert!(done["kept"]["objects"] == 0 && done["collected"] == 3, "{done}");
        assert!(!oids(&d).await.contains(&blob_oid(secret.as_bytes())));
        assert!(gc(&d, &[]).await.get("kept").is_none(), "it is of one project");
    }

    /// Goal: a collection that would take a large part of everything, or that finds something missing, changes nothing and says why.
    async fn refusals(d) {
        let mut random = random("refusals");
        let repo = big_remote(&d, "big", 1_200, &mut random);
        let project = import(&d, &repo, "big", &[]).await;
        let kept = d.local_project().await;
        commit(&d, kept, "a.txt", "a\n").await;
        d.delete(&format!("/projects/{project}")).await.ok(204);
        let refused = async |options: &[&str], says: &str| {
            let done = d.cli(&[&["admin", "gc"], options].concat()).await;
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.code() == Some(1) && words.contains(says), "{:?}: {words}", done.status);
        };
        let condemned = "SELECT count(*) FROM objects WHERE state = 'C'";
        refused(&["--apply"], "--force").await;
        assert_eq!(count(&d, condemned).await, 0);
        let plan = gc(&d, &[]).await;
        assert!(plan["condemned"].as_u64() > Some(1_200), "{plan}");
        // The tree of a ref.
        execute(&d, &["UPDATE objects SET oid = sha256 WHERE type = 2 AND oid IN (SELECT tree FROM commits c JOIN refs r ON r.oid = c.oid)"]).await;
        for options in [&["--apply", "--force"][..], &[]] {
            refused(options, "damaged").await;
        }
        assert_eq!(count(&d, condemned).await, 0);
        let usage = d.cli(&["admin", "gc", "--now", "--apply"]).await;
        assert_eq!(usage.status.code(), Some(2), "{}", String::from_utf8_lossy(&usage.stderr));
        refused(&["--project", "nobody"], "no such project").await;
    }

    /// Goal: a server collects by itself.
    async fn by_itself(d) {
        let mut d = d;
        let project = d.local_project().await;
        commit(&d, project, "a.txt", "a\n").await;
        d.delete(&format!("/projects/{project}")).await.ok(204);
        d.kill();
        d.set("TREEHOLD_GC_INTERVAL", "1");
        d.up().await;
        until("the garbage is condemned", async || {
            count(&d, "SELECT count(*) FROM objects WHERE state = 'C'").await == 3
        }).await;
        until("the job is done", async || {
            count(&d, "SELECT count(*) FROM jobs WHERE name = 'gc' AND finished_at > 0").await == 1
        }).await;
        assert_eq!(count(&d, "SELECT count(*) FROM objects WHERE state = 'L'").await, 0);
    }
}
