//! Packs: a long history stays as small as it came, every old version can be read, and `repack` tidies up beside readers.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::aftermath::{bucket_bytes, bucket_fsck, count, random, until};
use crate::both;
use crate::deployment::Deployment;

const FILES: usize = 40;
const COMMITS: usize = 120;

/// A remote whose files of text change a few lines at a time, packed with deltas.
pub fn long_history(d: &Deployment, name: &str, random: &mut StdRng) -> Repo {
    let repo = Repo::init_bare(d.remotes.path().join(format!("{name}.git")));
    let mut files: Vec<Vec<String>> =
        (0..FILES).map(|_| (0..80).map(|line| format!("line {line} {}\n", random.random::<u64>())).collect()).collect();
    let mut stream = String::new();
    for commit in 0..COMMITS {
        let time_s = 1_700_000_000 + commit;
        stream.push_str(&format!("commit refs/heads/main\ncommitter A <a@example.org> {time_s} +0000\ndata 2\nC\n"));
        for (number, lines) in files.iter_mut().enumerate() {
            if commit > 0 && !random.random_bool(0.1) {
                continue;
            }
            let at = random.random_range(0..lines.len());
            lines[at] = format!("commit {commit} {}\n", random.random::<u64>());
            let content = lines.concat();
            stream.push_str(&format!(
                "M 100644 inline d{}/f{number}.txt\ndata {}\n{content}\n",
                number % 9,
                content.len()
            ));
        }
    }
    repo.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    repo.git().run(["repack", "-adfq", "--depth=50", "--window=50"]);
    repo
}

/// Size of a repository's packs, without their indexes.
fn pack_bytes(repo: &Repo) -> u64 {
    let files = std::fs::read_dir(repo.path().join("objects/pack")).expect("packs").flatten();
    let packs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pack"));
    packs.map(|file| file.metadata().expect("its size").len()).sum()
}

/// Objects of the repository, one in eleven of each kind and age, read through the API as raw bytes.
async fn raw_objects_agree(d: &Deployment, project: Uuid, repo: &Repo) {
    let kinds = [("blob", "blobs"), ("tree", "trees"), ("commit", "commits")];
    let lines = repo.git().run(["cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"]);
    for (at, line) in lines.lines().enumerate() {
        let (oid, kind) = line.split_once(' ').expect("a kind");
        if !at.is_multiple_of(11) {
            continue;
        }
        let route = kinds.iter().find(|(name, _)| *name == kind).expect("a known kind").1;
        let request = d.request("GET", &format!("/projects/{project}/git/{route}/{oid}"));
        let reply = d.send(request.header("Accept", "application/octet-stream")).await;
        assert_eq!(reply.status, 200, "{kind} {oid}: {}", reply.text());
        assert!(reply.body == repo.git().bytes(["cat-file", kind, oid]), "{kind} {oid}");
    }
}

/// Reads all files at some commit in one batch.
async fn files_agree(d: &Deployment, project: Uuid, repo: &Repo, commit: &str) {
    let lines = repo.ls_tree(commit);
    let paths: Vec<String> = lines.iter().map(|line| String::from_utf8(line.path.clone()).expect("UTF-8")).collect();
    let body = json!({"paths": paths, "ref": commit});
    let answer = d.post(&format!("/projects/{project}/read"), body).await.ok(200);
    for (line, file) in lines.iter().zip(answer["files"].as_array().expect("files")) {
        assert_eq!(file["oid"], json!(line.oid), "{file}");
        let content = file["content"].as_str().expect("text");
        assert!(content.as_bytes() == repo.cat_file(&line.oid), "{commit} {}", line.oid);
    }
}

fn reached(repo: &Repo) -> BTreeSet<String> {
    repo.reachable().into_iter().collect()
}

async fn repack(d: &Deployment, options: &[&str]) -> Value {
    let done = d.cli(&[&["admin", "repack", "--json"], options].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

both! {
    /// Goal: a full history is stored as small as it came, and every version of every file can be read, exported and checked.
    async fn full_history(d) {
        let mut random = random("full history");
        let remote = long_history(&d, "long", &mut random);
        let url = remote.path().to_str().expect("UTF-8");
        let done = d.cli(&["import", url, "--project", "long", "--full", "--json"]).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let project: Uuid = report["project"]["id"].as_str().expect("an id").parse().expect("a UUID");
        let deltas = count(&d, "SELECT count(*) FROM objects WHERE base_off IS NOT NULL").await;
        assert!(deltas > 400, "{deltas} objects are deltas");
        let (_bucket_dir, bucket) = bucket_fsck(&d).await;
        let (stored, packed) = (pack_bytes(&bucket), pack_bytes(&remote));
        assert!(stored * 4 <= packed * 5, "{stored} bytes are stored of a pack of {packed}");
        raw_objects_agree(&d, project, &remote).await;
        let commits = remote.git().run(["rev-list", "main"]);
        for commit in commits.lines().step_by(25) {
            files_agree(&d, project, &remote, commit).await;
        }
        let (_dir, export) = d.export(project).await;
        assert_eq!(reached(&export), reached(&remote));
        let exported = pack_bytes(&export);
        assert!(exported * 4 <= packed * 5, "{exported} bytes are exported of a pack of {packed}");
    }

    /// Goal: a second project with nearly the same history takes only what is its own; it is whole when the first one is gone, and
    /// what its new objects rest on is there still.
    async fn half_known_history(d) {
        let mut random = random("half known history");
        let remote = long_history(&d, "one", &mut random);
        let other = remote.bare_clone(d.remotes.path().join("two.git"));
        let mut stream = String::from("commit refs/heads/main\ncommitter A <a@example.org> 1800000000 +0000\ndata 2\nS\n");
        stream.push_str("from refs/heads/main^0\n");
        for number in 0..FILES {
            let path = format!("d{}/f{number}.txt", number % 9);
            let content = String::from_utf8(other.cat_file(&format!("main:{path}"))).expect("UTF-8");
            // Git makes the smaller one a delta against the larger one: here the new against the old.
            let content: Vec<&str> = content.lines().skip(5).collect();
            let content = content.join("\n");
            stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()));
        }
        other.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
        other.git().run(["repack", "-adfq", "--depth=50", "--window=50"]);
        let import = async |repo: &Repo, name: &str| {
            let url = repo.path().to_str().expect("UTF-8").to_owned();
            let done = d.cli(&["import", &url, "--project", name, "--full"]).await;
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        import(&remote, "one").await;
        import(&other, "two").await;
        let bases = count(&d, "SELECT count(*) FROM pack_bases").await;
        assert!(bases > 0, "the second pack rests on objects that the first one has");
        let id = |name: &str| format!("/projects/{name}");
        let shown = d.get(&id("two")).await.ok(200);
        let project: Uuid = shown["id"].as_str().expect("an id").parse().expect("a UUID");
        d.delete(&id("one")).await.ok(204);
        files_agree(&d, project, &other, &other.rev_parse("main")).await;
        raw_objects_agree(&d, project, &other).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(reached(&export), reached(&other));
        // The second pack is mostly dead weight: what only it has moves out of it.
        let report = repack(&d, &["--grace", "0s"]).await;
        assert!(report["rewritten"].as_u64() >= Some(1) && report["damaged"] == 0, "{report}");
        assert_eq!(count(&d, "SELECT count(*) FROM pack_bases").await, 0);
        let (_bucket_dir, bucket) = bucket_fsck(&d).await;
        let (stored, packed) = (pack_bytes(&bucket), pack_bytes(&other));
        assert!(stored * 2 <= packed * 3, "{stored} bytes are stored of a pack of {packed}");
        raw_objects_agree(&d, project, &other).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(reached(&export), reached(&other));
    }

    /// Goal: repack beside readers: none of them ever fails, nothing is lost, small packs become one, emptied keys go.
    async fn repack_beside_readers(d) {
        let project = d.local_project().await;
        let author = json!({"name": "A", "email": "a@example.org"});
        for round in 0..12 {
            let actions: Vec<Value> = (0..20)
                .map(|n| json!({"action": if round == 0 { "create" } else { "update" }, "path": format!("d{}/f{n}.txt", n % 3),
                    "content": format!("round {round} file {n}\n").repeat(40)}))
                .collect();
            let body = json!({"message": format!("Round {round}"), "author": author, "actions": actions});
            d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
        }
        let log = d.get(&format!("/projects/{project}/log?limit=100")).await.ok(200);
        let commits: Vec<String> =
            log["commits"].as_array().expect("commits").iter().map(|c| c["commit"].as_str().expect("an oid").to_owned()).collect();
        assert_eq!(commits.len(), 12);
        let plan = repack(&d, &["--dry-run"]).await;
        assert!(plan["rewritten"].as_u64() >= Some(12) && plan["objects"] == 0, "{plan}");
        let paths: Vec<String> = (0..20).map(|n| format!("d{}/f{n}.txt", n % 3)).collect();
        let read = async |commit: &str| {
            let body = json!({"paths": paths, "ref": commit});
            let answer = d.post(&format!("/projects/{project}/read"), body).await.ok(200);
            for file in answer["files"].as_array().expect("files") {
                assert!(file["error"].is_null(), "{file}");
            }
            answer["files"].clone()
        };
        let mut before = Vec::new();
        for commit in &commits {
            before.push(read(commit).await);
        }
        let reading = async {
            for (at, commit) in commits.iter().enumerate().cycle().take(60) {
                assert_eq!(read(commit).await, before[at]);
            }
        };
        let repacking = async {
            let report = repack(&d, &["--grace", "0s"]).await;
            assert!(report["packs"] == 1 && report["damaged"] == 0, "{report}");
            assert_eq!(report["rewritten"], report["deleted"], "{report}");
        };
        tokio::join!(reading, repacking);
        let again = repack(&d, &["--grace", "0s"]).await;
        assert!(again["rewritten"] == 0 && again["keys"] == 1, "{again}");
        for (at, commit) in commits.iter().enumerate() {
            assert_eq!(read(commit).await, before[at]);
        }
        until("the bucket holds one pack", async || bucket_bytes(&d).await < 200_000).await;
        bucket_fsck(&d).await;
        d.export(project).await;
    }
}
