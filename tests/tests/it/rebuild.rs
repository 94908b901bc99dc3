//! Law 1: what the database loses, the bucket has. Tables are wiped, databases dropped, packs damaged; then everything answers as before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use treehold_tests::postgres::Postgres;
use uuid::Uuid;

use crate::aftermath::{bucket_fsck, count, execute, kill, random, until};
use crate::both;
use crate::deployment::{Deployment, Setup};
use crate::git_tools::{Clone, url_with};
use crate::packs::long_history;
use crate::remote_tools::{commit, commit_body, save};

/// What a rebuild makes again. Emptied by `DELETE`: what a table refers to stays.
const LEDGER: [&str; 9] = [
    "DELETE FROM objects",
    "DELETE FROM pack_bases",
    "DELETE FROM s3_keys",
    "DELETE FROM commits",
    "DELETE FROM commit_parents",
    "DELETE FROM trees",
    "DELETE FROM reach",
    "DELETE FROM ops",
    "DELETE FROM gc_state",
];

/// The whole database is gone; an empty one takes its place.
async fn lose_database(d: &mut Deployment) {
    d.kill();
    if d.setup == Setup::Cluster {
        d.database_url = Some(Postgres::shared().await.schema_url().await);
        return;
    }
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(d.data.path().join(format!("treehold.db{suffix}"))));
    }
}

/// Runs an admin verb; its answer, and whether it said that all is well.
async fn admin(d: &Deployment, arguments: &[&str]) -> (Value, bool) {
    let done = d.cli(&[&["admin"], arguments, &["--json"]].concat()).await;
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    let answer = serde_json::from_slice(&done.stdout).unwrap_or(Value::String(error));
    (answer, done.status.success())
}

/// Runs an admin verb that must do well.
async fn well(d: &Deployment, arguments: &[&str]) -> Value {
    let (answer, well) = admin(d, arguments).await;
    assert!(well, "{arguments:?}: {answer}");
    answer
}

/// A rebuild that ends at a fault. Nobody serves from what it left.
async fn cut_off(d: &mut Deployment, fault: &str, arguments: &[&str]) {
    d.set("TREEHOLD_FAULTS", fault);
    let (said, done) = admin(d, arguments).await;
    d.set("TREEHOLD_FAULTS", "");
    assert!(!done, "{fault} never happened: {said}");
    let served = d.cli(&["serve", "--listen", "127.0.0.1:0"]).await;
    let words = String::from_utf8_lossy(&served.stderr);
    assert!(!served.status.success() && words.contains("admin rebuild"), "{fault}: {words}");
    if d.setup == Setup::Cluster {
        // The lease of the dead one would last for minutes, where others may be at work.
        execute(d, &["UPDATE jobs SET until = 0"]).await;
    }
}

async fn committed(d: &Deployment, project: Uuid, user: Uuid, message: &str) {
    commit(d, project, commit_body(user, message)).await.ok(200);
}

/// What there is to lose.
struct World {
    /// A full history with deltas, the same once more, a shallow project of a remote, and one without remote.
    projects: [Uuid; 4],
    users: [Uuid; 2],
    /// The commit that was imported.
    imported: String,
    /// A token's secret for the last project.
    secret: String,
}

impl World {
    async fn make(d: &Deployment, random: &mut StdRng) -> World {
        let remote = long_history(d, "long", random);
        let (from, head) = (remote.path().to_str().expect("UTF-8").to_owned(), remote.rev_parse("main"));
        let mut imported = Vec::new();
        for name in ["long", "again"] {
            let done = d.cli(&["import", &from, "--project", name, "--full", "--json"]).await;
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
            imported.push(report["project"]["id"].as_str().expect("an id").parse().expect("a UUID"));
        }
        d.remote("docs", 7);
        let (shallow, local) = (d.connect("docs").await, d.local_project().await);
        let world_users = [Uuid::new_v4(), Uuid::new_v4()];
        let done = d.cli(&["token", "create", &local.to_string(), "--write", "--json"]).await;
        let token: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let secret = token["secret"].as_str().expect("a secret").to_owned();
        let world =
            World { projects: [imported[0], imported[1], shallow, local], users: world_users, imported: head, secret };
        world.work(d, "first").await;
        world
    }

    /// Commits, pushes and pending work everywhere.
    async fn work(&self, d: &Deployment, mark: &str) {
        let [long, _, shallow, local] = self.projects;
        let [ann, bob] = self.users;
        for project in [long, shallow] {
            save(d, project, ann, &format!("new/{mark}.txt"), &format!("{mark} in {project}\n")).await;
            committed(d, project, ann, mark).await;
        }
        let clone = Clone::empty(false);
        let url = url_with(d, local, &self.secret);
        let known = clone.tell(&["fetch", "--quiet", &url, "main"]).0;
        if known {
            clone.run(&["reset", "--quiet", "--hard", "FETCH_HEAD"]);
        }
        clone.commit_file(&format!("git/{mark}.txt"), format!("{mark}\n"));
        clone.run(&["tag", "-a", "-m", mark, &format!("v-{mark}")]);
        clone.run(&["push", "--quiet", &url, "HEAD:refs/heads/main", &format!("refs/tags/v-{mark}")]);
        for project in [long, local] {
            save(d, project, ann, &format!("pending/{mark}.txt"), &format!("{mark} of ann\n")).await;
            save(d, project, bob, &format!("pending/{mark}.txt"), &format!("{mark} of bob\n")).await;
            save(d, project, bob, &format!("large/{mark}.txt"), &format!("{mark} ").repeat(60_000)).await;
        }
        let gone = d.request("PUT", &format!("/pending/{local}/{bob}/git/{mark}.txt?action=deleted"));
        d.send(gone).await.ok(201);
    }

    /// Everything that the API says, by path.
    async fn answers(&self, d: &Deployment) -> BTreeMap<String, Value> {
        let mut answers = BTreeMap::new();
        let mut ask = async |path: String| {
            let reply = d.get(&path).await;
            let mut body = serde_json::from_slice(&reply.body).unwrap_or_else(|_| json!(reply.text()));
            // Local history is not in the bucket, and counts.
            if let Some(view) = body.as_object_mut() {
                view.remove("usage");
            }
            answers.insert(path, json!([reply.status, body]));
        };
        for project in self.projects {
            ask(format!("/projects/{project}")).await;
            ask(format!("/projects/{project}/refs")).await;
            ask(format!("/projects/{project}/log?limit=1000")).await;
            ask(format!("/files/{project}?limit=10000")).await;
            for user in self.users {
                ask(format!("/files/{project}?limit=10000&user={user}")).await;
                ask(format!("/pending/{project}/{user}")).await;
                ask(format!("/projects/{project}/status?user={user}")).await;
                ask(format!("/projects/{project}/diff?user={user}")).await;
                for mark in ["first", "second"] {
                    ask(format!("/files/{project}/pending/{mark}.txt?user={user}")).await;
                    ask(format!("/files/{project}/large/{mark}.txt?user={user}")).await;
                }
            }
        }
        answers
    }

    /// Stock git gets everything, whole; what one project has is still no other's.
    async fn clones(&self, d: &Deployment) {
        for project in self.projects {
            let clone = Clone::of_project(d, project, "2", &["--mirror"]);
            clone.fsck_strict();
        }
        let clone = Clone::of_project(d, self.projects[1], "2", &["--mirror"]);
        assert_eq!(clone.rev_parse("main"), self.imported);
        let head = d.get(&format!("/projects/{}", self.projects[3])).await.ok(200)["head"].clone();
        let other = format!("/projects/{}/git/commits/{}", self.projects[1], head.as_str().expect("a head"));
        assert_eq!(d.get(&other).await.status, 404, "the reach of another project");
    }
}

#[track_caller]
fn same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) {
    for (path, answer) in before {
        assert_eq!(after.get(path), Some(answer), "{path}");
    }
}

/// Rows and numbers are as the protocol wants them.
async fn sane(d: &Deployment) {
    let one = "SELECT count(*) FROM gc_state WHERE epoch >= 1000 AND horizon >= 1000 AND horizon <= epoch";
    assert_eq!(count(d, one).await, 1, "the epoch leapt");
    let lost = "SELECT count(*) FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id AND k.state = 'present'
        WHERE k.key_id IS NULL";
    assert_eq!(count(d, lost).await, 0, "an object whose key is not in use");
    let base = "SELECT count(*) FROM objects o WHERE o.base_off IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM objects b WHERE b.key_id = o.key_id AND b.off = o.base_off)
        AND NOT EXISTS (SELECT 1 FROM pack_bases b WHERE b.key_id = o.key_id AND b.off = o.base_off)";
    assert_eq!(count(d, base).await, 0, "a delta that rests on nothing");
}

async fn packs(d: &Deployment) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(d.objects_dir().await.join("pack")).expect("packs").flatten();
    let mut packs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "pack")).collect();
    packs.sort_by_key(|path| std::cmp::Reverse(path.metadata().expect("its size").len()));
    packs
}

both! {
    /// Goal: the ledger, the graph and reach are lost, refs and pending work are not: all of it comes back, and work goes on.
    async fn ledger_lost(deployment) {
        let mut d = deployment;
        let mut random = random("ledger lost");
        let world = World::make(&d, &mut random).await;
        let before = world.answers(&d).await;
        let generations = "SELECT CAST(sum(generation) AS BIGINT) FROM commits";
        let generation = count(&d, generations).await;
        d.kill();
        execute(&d, &LEDGER).await;
        if d.setup == Setup::Embedded {
            execute(&d, &["DELETE FROM object_numbers"]).await;
        }
        let report = well(&d, &["rebuild"]).await;
        assert_eq!((&report["damage"], &report["manifest"]), (&json!(0), &Value::Null), "{report}");
        assert!(report["objects"].as_u64() > Some(1000), "{report}");
        sane(&d).await;
        assert!(count(&d, generations).await >= generation, "generations");
        assert!(count(&d, "SELECT count(*) FROM objects WHERE base_off IS NOT NULL").await > 400, "deltas");
        let (refused, again) = admin(&d, &["rebuild"]).await;
        assert!(!again && refused.to_string().contains("--force"), "{refused}");
        d.up().await;
        same(&before, &world.answers(&d).await);
        world.clones(&d).await;
        world.work(&d, "second").await;
        let before = world.answers(&d).await;
        let (refused, beside) = admin(&d, &["rebuild", "--force"]).await;
        if d.setup == Setup::Embedded {
            assert!(!beside && refused.to_string().contains("stop it"), "{refused}");
        }
        d.kill();
        let forced = well(&d, &["rebuild", "--force"]).await;
        assert_eq!(forced["damage"], json!(0), "{forced}");
        d.up().await;
        same(&before, &world.answers(&d).await);
        world.clones(&d).await;
        sane(&d).await;
        bucket_fsck(&d).await;
    }

    /// Goal: the bucket alone is enough. Everything up to the last manifest comes back: refs, pending work, tokens. What did not change
    /// costs a manifest nothing; one that somebody pushed is not taken for ours.
    async fn database_lost(deployment) {
        let mut d = deployment;
        let mut random = random("database lost");
        let world = World::make(&d, &mut random).await;
        let first = well(&d, &["manifest"]).await;
        assert_eq!(first["projects"], json!(4), "{first}");
        let second = well(&d, &["manifest"]).await;
        assert_eq!(second["objects"], json!(1), "only the commit is new: {second}");
        assert_eq!(second["commits"], json!([second["commit"], first["commit"]]));
        save(&d, world.projects[3], world.users[0], "pending/more.txt", "more\n").await;
        let third = well(&d, &["manifest"]).await;
        assert!(third["objects"].as_u64() <= Some(12), "one change: {third}");
        assert_eq!(third["commits"], json!([third["commit"], second["commit"]]));
        let stored = count(&d, "SELECT count(*) FROM jobs WHERE name = 'manifest' AND report LIKE '%\"commits\":[%'").await;
        assert_eq!(stored, 1, "the collector finds its roots");
        let before = world.answers(&d).await;
        let clone = Clone::of_project(&d, world.projects[3], "2", &[]);
        clone.run(&["commit", "--quiet", "--allow-empty", "-m", "Treehold manifest 1\n\ntime_ms 99999999999999"]);
        clone.run(&["push", "--quiet", "origin", "HEAD:refs/heads/forged"]);
        let (_dir, bucket) = bucket_fsck(&d).await;
        let commit = third["commit"].as_str().expect("a commit");
        assert_eq!(bucket.git().run(["log", "-1", "--format=%s", commit]), "Treehold manifest 1");
        assert!(bucket.git().run(["ls-tree", "-r", "--name-only", commit]).contains("project.json"));
        lose_database(&mut d).await;
        // A server that knows nothing of the store would take it for garbage.
        let served = d.cli(&["serve", "--listen", "127.0.0.1:0"]).await;
        assert!(!served.status.success() && String::from_utf8_lossy(&served.stderr).contains("admin rebuild"));
        let report = well(&d, &["rebuild"]).await;
        assert_eq!(report["manifest"], json!(commit), "{report}");
        assert_eq!((&report["damage"], &report["projects_restored"]), (&json!(0), &json!(4)), "{report}");
        d.up().await;
        let kept = "SELECT count(*) FROM jobs WHERE name = 'manifest' AND report LIKE '%\"commits\":[\"%'";
        assert_eq!(count(&d, kept).await, 1, "the collector finds it");
        same(&before, &world.answers(&d).await);
        world.clones(&d).await;
        sane(&d).await;
        // The forged one came after the manifest, and with its branch it is gone.
        let refs = d.get(&format!("/projects/{}/refs", world.projects[3])).await.text();
        assert!(!refs.contains("forged"), "{refs}");
        // The token works, and pending work can be committed.
        world.work(&d, "second").await;
        committed(&d, world.projects[3], world.users[1], "All of bob's").await;
        world.clones(&d).await;
        // An older one can be named.
        lose_database(&mut d).await;
        let named = well(&d, &["rebuild", "--manifest", first["commit"].as_str().expect("a commit")]).await;
        assert_eq!(named["manifest"], first["commit"]);
        assert_eq!(named["projects_restored"], json!(4), "{named}");
        bucket_fsck(&d).await;
    }

    /// Goal: a rebuild of a lost database that ends among the projects, or where it decides on them, is finished by the next one, which is
    /// not told where they come from: all of them come back. The collector takes nothing of the manifest that they came from, although
    /// no other one is written.
    async fn cut_off_among_projects(deployment) {
        let mut d = deployment;
        d.set("TREEHOLD_MANIFEST_INTERVAL", "0");
        let mut random = random("cut off among projects");
        let world = World::make(&d, &mut random).await;
        let commit = well(&d, &["manifest"]).await["commit"].clone();
        let before = world.answers(&d).await;
        let cuts = [
            ("begin a rebuild+=kill", "auto"),
            ("renew a job=kill", "auto"),
            ("take a job=kill@2", "auto"),
            ("give a job back=kill", "auto"),
            ("restore a project=kill@2", "auto"),
            ("restore a project=fail@2", "auto"),
            ("restore a project+=kill@3", "latest"),
        ];
        for (fault, manifest) in cuts {
            println!("{fault}, {manifest}");
            lose_database(&mut d).await;
            cut_off(&mut d, fault, &["rebuild", "--manifest", manifest]).await;
            let done = well(&d, &["rebuild"]).await;
            assert_eq!((&done["resumed"], &done["manifest"]), (&json!(true), &commit), "{fault}: {done}");
            assert_eq!(done["damage"], json!(0), "{fault}: {done}");
            d.up().await;
            same(&before, &world.answers(&d).await);
            sane(&d).await;
            for _ in 0..2 {
                well(&d, &["gc", "--apply", "--grace", "0s", "--force"]).await;
            }
        }
        world.clones(&d).await;
        // Whoever is told goes elsewhere.
        lose_database(&mut d).await;
        cut_off(&mut d, "restore a project=kill@2", &["rebuild"]).await;
        let told = well(&d, &["rebuild", "--manifest", "none"]).await;
        assert_eq!((&told["manifest"], &told["projects"]), (&Value::Null, &json!(1)), "{told}");
        bucket_fsck(&d).await;
    }

    /// Goal: whatever step a rebuild dies at, the next one comes to the same: of a database that was lost, and of a ledger.
    async fn cut_off_at_each_step(deployment) {
        let mut d = deployment;
        let mut random = random("cut off at each step");
        let world = World::make(&d, &mut random).await;
        let commit = well(&d, &["manifest"]).await["commit"].clone();
        let before = world.answers(&d).await;
        d.kill();
        let keys = packs(&d).await;
        for fault in ["B1=kill", "B2=kill", "B2=kill@3", "B3=kill", "B3=kill@4", "B4=kill", "B4=kill@3"] {
            lose_database(&mut d).await;
            cut_off(&mut d, fault, &["rebuild"]).await;
            let done = well(&d, &["rebuild"]).await;
            assert_eq!((&done["manifest"], &done["damage"]), (&commit, &json!(0)), "{fault}: {done}");
            d.up().await;
            same(&before, &world.answers(&d).await);
            sane(&d).await;
        }
        for fault in ["B1=kill", "B2=kill@2", "B4=kill@2"] {
            d.kill();
            execute(&d, &LEDGER).await;
            cut_off(&mut d, fault, &["rebuild"]).await;
            let done = well(&d, &["rebuild"]).await;
            assert_eq!((&done["manifest"], &done["damage"]), (&Value::Null, &json!(0)), "{fault}: {done}");
            d.up().await;
            same(&before, &world.answers(&d).await);
            sane(&d).await;
        }
        world.clones(&d).await;
        let left = packs(&d).await;
        assert!(keys.iter().all(|key| left.contains(key)), "no pack that has anything is gone");
        bucket_fsck(&d).await;
    }

    /// Goal: a manifest whose writer dies does not hide the one before it, nor itself if it is whole.
    async fn manifest_cut_off(deployment) {
        let mut d = deployment;
        let mut random = random("manifest cut off");
        let world = World::make(&d, &mut random).await;
        well(&d, &["manifest"]).await;
        let before = world.answers(&d).await;
        for fault in ["W2=kill", "W3=kill", "W4=kill", "finish a job=kill", "finish a job+=kill"] {
            d.kill();
            d.set("TREEHOLD_FAULTS", fault);
            let (said, written) = admin(&d, &["manifest"]).await;
            d.set("TREEHOLD_FAULTS", "");
            assert!(!written, "{fault} never happened: {said}");
            lose_database(&mut d).await;
            let done = well(&d, &["rebuild"]).await;
            assert_eq!((&done["projects_restored"], &done["damage"]), (&json!(4), &json!(0)), "{fault}: {done}");
            d.up().await;
            same(&before, &world.answers(&d).await);
            sane(&d).await;
        }
        bucket_fsck(&d).await;
    }

    /// Goal: packs that are rewritten take no manifest away: it is found by the name of its pack, long after others were emptied.
    async fn manifest_repacked(deployment) {
        let mut d = deployment;
        d.set("TREEHOLD_MANIFEST_INTERVAL", "0");
        let mut random = random("manifest repacked");
        let world = World::make(&d, &mut random).await;
        let commit = well(&d, &["manifest"]).await["commit"].clone();
        let before = world.answers(&d).await;
        for _ in 0..2 {
            well(&d, &["repack", "--grace", "0s"]).await;
        }
        lose_database(&mut d).await;
        let report = well(&d, &["rebuild"]).await;
        assert_eq!((&report["manifest"], &report["projects_restored"]), (&commit, &json!(4)), "{report}");
        d.up().await;
        same(&before, &world.answers(&d).await);
    }

    /// Goal: no older manifest takes the place of the newest in silence. One whose index is damaged is read all the same; one whose commit is
    /// damaged is an error that names it and the one before it, which then can be taken. One that is nowhere is refused before it is kept.
    async fn manifest_damaged(deployment) {
        let mut d = deployment;
        let mut random = random("manifest damaged");
        let world = World::make(&d, &mut random).await;
        let first = well(&d, &["manifest"]).await["commit"].clone();
        let first = first.as_str().expect("a commit");
        save(&d, world.projects[3], world.users[0], "pending/more.txt", "more\n").await;
        let second = well(&d, &["manifest"]).await["commit"].clone();
        let before = world.answers(&d).await;
        lose_database(&mut d).await;
        let typo = "1234567890123456789012345678901234567890";
        let (refused, done) = admin(&d, &["rebuild", "--manifest", typo]).await;
        assert!(!done && refused.to_string().contains("holds no object"), "{refused}");
        let mut manifests = packs(&d).await;
        manifests.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pack-manifest-")));
        manifests.sort();
        let newest = manifests.pop().expect("a manifest");
        let idx = newest.with_extension("idx");
        let bytes = std::fs::read(&idx).expect("an index");
        std::fs::remove_file(&idx).expect("an index");
        std::fs::write(&idx, &bytes[..bytes.len() / 2]).expect("half an index");
        let (report, _) = admin(&d, &["rebuild"]).await;
        assert_eq!((&report["manifest"], &report["projects_restored"]), (&second, &json!(4)), "{report}");
        d.up().await;
        same(&before, &world.answers(&d).await);
        lose_database(&mut d).await;
        // Every entry of it, and what the index says of it.
        let length = newest.metadata().expect("a pack").len();
        std::fs::remove_file(&newest).expect("a pack");
        std::fs::write(&newest, vec![0; usize::try_from(length).expect("small")]).expect("zeros");
        for arguments in [&["rebuild"][..], &["rebuild", "--manifest", "latest"][..]] {
            let (refused, done) = admin(&d, arguments).await;
            let words = refused.to_string();
            let name = newest.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(!done && words.contains("newest manifest") && words.contains(&name) && words.contains(first), "{words}");
        }
        let (report, _) = admin(&d, &["rebuild", "--manifest", first]).await;
        assert_eq!((&report["manifest"], &report["projects_restored"]), (&json!(first), &json!(4)), "{report}");
    }

    /// Goal: damage is told by name and left out; all that is whole comes back. Nothing is deleted, a lost index is made again.
    async fn damaged_bucket(deployment) {
        let mut d = deployment;
        let mut random = random("damaged bucket");
        let remote = long_history(&d, "long", &mut random);
        let from = remote.path().to_str().expect("UTF-8").to_owned();
        let done = d.cli(&["import", &from, "--project", "long", "--full"]).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let other = d.local_project().await;
        let user = Uuid::new_v4();
        save(&d, other, user, "a.txt", "whole\n").await;
        committed(&d, other, user, "Whole").await;
        let head = d.get(&format!("/projects/{other}")).await.ok(200)["head"].clone();
        let objects = count(&d, "SELECT count(*) FROM objects").await;
        d.kill();
        let packs = packs(&d).await;
        let (large, small) = (&packs[0], packs.last().expect("packs"));
        std::fs::remove_file(small.with_extension("idx")).expect("an index");
        let mut bytes = std::fs::read(large).expect("a pack");
        let at = random.random_range(bytes.len() / 2..bytes.len() - 30);
        bytes[at] ^= 0xff;
        std::fs::remove_file(large).expect("a pack");
        std::fs::write(large, &bytes).expect("a pack");
        execute(&d, &LEDGER).await;
        let (report, well) = admin(&d, &["rebuild"]).await;
        assert!(!well, "damage is a failure: {report}");
        let findings = report["findings"].as_array().expect("findings");
        let of = |kind: &str| findings.iter().filter(|finding| finding["finding"] == json!(kind)).count();
        assert_eq!((of("damaged_pack"), of("missing_index")), (1, 1), "{report}");
        assert!(of("corrupt_object") >= 1 && of("missing_object") >= 1, "{report}");
        assert!(small.with_extension("idx").exists(), "the index is there again");
        assert_eq!(self::packs(&d).await.len(), packs.len(), "no pack is gone");
        let left = count(&d, "SELECT count(*) FROM objects").await;
        assert!(left < objects && left * 3 > objects, "{left} of {objects}");
        sane(&d).await;
        d.up().await;
        assert_eq!(d.get(&format!("/projects/{other}")).await.ok(200)["head"], head);
        assert_eq!(d.get(&format!("/files/{other}/a.txt")).await.text(), "whole\n");
        Clone::of_project(&d, other, "2", &[]).fsck_strict();
    }

    /// Goal: a rebuild that dies is finished by the next one, and nothing is lost on the way, whoever looks after the bucket meanwhile.
    async fn interrupted(deployment) {
        let mut d = deployment;
        let mut random = random("interrupted rebuild");
        let world = World::make(&d, &mut random).await;
        let before = world.answers(&d).await;
        let keys = packs(&d).await.len();
        d.kill();
        execute(&d, &LEDGER).await;
        for _ in 0..3 {
            let mut command = d.command(&["admin", "rebuild", "--json"]).await;
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().expect("the binary runs");
            tokio::time::sleep(std::time::Duration::from_millis(random.random_range(50..1500))).await;
            if child.try_wait().expect("its state").is_none() {
                kill(child.id());
                println!("cut off");
            }
            let ended = child.wait().expect("its end");
            let begun = "SELECT count(*) FROM jobs WHERE name = 'rebuild' AND progress IS NOT NULL";
            if !ended.success() && count(&d, begun).await == 1 {
                let served = d.cli(&["serve", "--listen", "127.0.0.1:0"]).await;
                assert!(!served.status.success() && String::from_utf8_lossy(&served.stderr).contains("cut off"));
            }
            if d.setup == Setup::Cluster {
                // The lease of the dead one would last for minutes, where others may be at work.
                execute(&d, &["UPDATE jobs SET until = 0"]).await;
            }
        }
        let (report, done) = admin(&d, &["rebuild"]).await;
        assert!(done || report.to_string().contains("--force"), "{report}");
        assert_eq!(packs(&d).await.len(), keys, "no pack is gone");
        d.up().await;
        same(&before, &world.answers(&d).await);
        world.clones(&d).await;
        sane(&d).await;
        let doomed = "SELECT count(*) FROM s3_keys WHERE state = 'doomed' AND kept = 0";
        until("nothing waits to be deleted", async || count(&d, doomed).await == 0).await;
        bucket_fsck(&d).await;
    }
}
