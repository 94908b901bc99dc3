//! `admin verify`: clean beside everything that goes on, finds what is damaged, repairs what has another copy, goes on after a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::Notify;
use treehold_engine::{Code, Level, Progress, VerifyOptions, VerifyReport};
use uuid::Uuid;

use crate::aftermath::{bucket_fsck, random, until};
use crate::both;
use crate::damages::{Damaged, Kind, Lab};
use crate::deployment::Deployment;

/// Files that stay small, so that a round takes little.
const FILES: usize = 30;
const COMMITS: usize = 70;

/// A remote with a long history in deltas: its pack is kept as it comes.
fn history(d: &Deployment, random: &mut StdRng) -> String {
    let repo = treehold_tests::git::Repo::init_bare(d.remotes.path().join("long.git"));
    let mut files: Vec<Vec<String>> =
        (0..FILES).map(|_| (0..40).map(|line| format!("line {line} {}\n", random.random::<u64>())).collect()).collect();
    let mut stream = String::new();
    for commit in 0..COMMITS {
        let time_s = 1_700_000_000 + commit;
        stream.push_str(&format!("commit refs/heads/main\ncommitter A <a@example.org> {time_s} +0000\ndata 2\nC\n"));
        for (number, lines) in files.iter_mut().enumerate() {
            if commit > 0 && number != commit % FILES {
                continue;
            }
            lines[commit % 40] = format!("commit {commit} {}\n", random.random::<u64>());
            let content = lines.concat();
            stream.push_str(&format!(
                "M 100644 inline d{}/f{number}.txt\ndata {}\n{content}\n",
                number % 5,
                content.len()
            ));
        }
    }
    stream.push_str("tag v1\nfrom refs/heads/main\ntagger A <a@example.org> 1700000000 +0000\ndata 2\nT\n");
    repo.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    repo.git().run(["repack", "-adfq", "--depth=20", "--window=20"]);
    repo.path().to_str().expect("UTF-8").to_owned()
}

/// A store with a bit of everything: a kept pack with deltas, a second project that shares it, commits, a deleted branch, pending work
/// in the database and in the bucket. The imported project.
pub async fn furnish(d: &Deployment, random: &mut StdRng) -> Uuid {
    let url = history(d, random);
    let mut projects = Vec::new();
    for name in ["one", "two"] {
        let done = d.cli(&["import", &url, "--project", name, "--full", "--json"]).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        projects.push(report["project"]["id"].as_str().expect("an id").parse::<Uuid>().expect("a UUID"));
    }
    let shallow = d.cli(&["import", &url, "--project", "shallow"]).await;
    assert!(shallow.status.success(), "{}", String::from_utf8_lossy(&shallow.stderr));
    for round in 0..3 {
        commit(d, projects[1], round).await;
    }
    // A branch that was deleted, and whose commit only the reflog has.
    let head = d.get(&format!("/projects/{}", projects[1])).await.ok(200)["head"].clone();
    let side = format!("/projects/{}/refs/heads/side", projects[1]);
    d.put_json(&side, json!({"oid": head})).await.ok(201);
    let author = json!({"name": "A", "email": "a@example.org"});
    let actions = json!([{"action": "create", "path": "side.txt", "content": "side\n"}]);
    let body = json!({"message": "Side", "branch": "side", "author": author, "actions": actions, "push": false});
    d.post(&format!("/projects/{}/commits", projects[1]), body).await.ok(200);
    d.delete(&side).await.ok(204);
    autosave(d, projects[0], random.random()).await;
    projects[0]
}

pub async fn commit(d: &Deployment, project: Uuid, number: usize) {
    let actions: Vec<Value> = (0..3)
        .map(|file| json!({"action": "create", "path": format!("new/{number}/{file}.txt"), "content": format!("{number} {file}\n")}))
        .collect();
    let author = json!({"name": "A", "email": "a@example.org"});
    let body = json!({"message": format!("Commit {number}"), "author": author, "actions": actions, "push": false});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
}

/// A small edit twice over, so that there is history, a large one and a deletion.
async fn autosave(d: &Deployment, project: Uuid, number: u32) {
    let user = Uuid::new_v4();
    let large: String = (0..30_000).map(|line| format!("{number} line {line}\n")).collect();
    for (path, content) in
        [("d0/f0.txt", "first\n".to_owned()), ("d0/f0.txt", format!("{number}\n")), ("large.txt", large)]
    {
        let reply = d.put(&format!("/pending/{project}/{user}/{path}"), content).await;
        assert!(reply.status < 300, "{}", reply.text());
    }
    d.put(&format!("/pending/{project}/{user}/d1/f1.txt?action=deleted"), "").await.ok(201);
}

fn full() -> VerifyOptions {
    VerifyOptions { full: true, ..VerifyOptions::default() }
}

fn words(report: &VerifyReport) -> String {
    let errors = report.findings.iter().filter(|finding| finding.level == Level::Error);
    let others = report.findings.iter().filter(|finding| finding.level != Level::Error);
    let lines = errors.chain(others).take(20);
    lines.map(|finding| format!("\n  {} {}: {}", finding.code.name(), finding.subject, finding.detail)).collect()
}

async fn verified(lab: &Lab, options: &VerifyOptions) -> VerifyReport {
    lab.engine().verify(options, &()).await.expect("a verification")
}

async fn clean(lab: &Lab, when: &str) {
    let report = verified(lab, &full()).await;
    assert_eq!((report.errors, report.warnings, report.infos), (0, 0, 0), "{when}:{}", words(&report));
    assert!(report.checked.objects > 300 && report.checked.commits > 70 && report.bytes_read > 10_000, "{report:?}");
}

async fn stop(mut d: Deployment) -> (Deployment, Lab) {
    d.kill();
    let lab = Lab::open(&d).await;
    lab.engine().sweep().await.expect("a sweep");
    (d, lab)
}

/// How many damages are tried: two of each kind, or as `TREEHOLD_VERIFY_ROUNDS` says.
fn rounds(otherwise: usize) -> usize {
    std::env::var("TREEHOLD_VERIFY_ROUNDS").map_or(otherwise, |rounds| rounds.parse().expect("a number"))
}

both! {
    /// Goal: a store in which everything was done that can be done has no findings, also while commits, autosaves and repack go on.
    async fn beside_writers(d) {
        let mut random = random("beside writers");
        let project = furnish(&d, &mut random).await;
        let over = AtomicBool::new(false);
        let other = d.local_project().await;
        let writing = async {
            for number in 0.. {
                commit(&d, other, number).await;
                autosave(&d, project, random.random()).await;
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        let verifying = async {
            for options in [&["--full"][..], &[], &["--project", "one", "--full"]] {
                let repack = d.cli(&["admin", "repack", "--grace", "0s"]);
                let arguments = [&["admin", "verify", "--json"], options].concat();
                let (done, repacked) = tokio::join!(d.cli(&arguments), repack);
                assert!(repacked.status.success(), "{}", String::from_utf8_lossy(&repacked.stderr));
                let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
                assert!(done.status.success() && report["warnings"] == 0 && report["infos"] == 0, "{report:#}");
                assert!(report["checked"]["commits"].as_u64() >= Some(70), "{report:#}");
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(writing, verifying);
    }

    /// Goal: the command says what is damaged and what to do, by its words and its exit status; nobody is served wrong bytes; a repair
    /// from a copy that the ledger does not use makes the store whole, and stock git agrees.
    async fn by_the_command(d) {
        let mut random = random("by the command");
        let project = furnish(&d, &mut random).await;
        let project = &project.to_string();
        let lab = Lab::open(&d).await;
        lab.keep_copies().await;
        let head = d.get(&format!("/files/{project}/d2/f2.txt")).await;
        head.ok(200);
        let oid = head.header("etag").trim_matches('"').to_owned();
        lab.spoil(&oid).await;
        // A server that has nothing at hand.
        let mut d = d;
        d.set("TREEHOLD_CACHE_MEMORY", "0");
        d.set("TREEHOLD_CACHE_DISK", "0");
        d.kill();
        d.up().await;
        let reply = d.get(&format!("/files/{project}/d2/f2.txt")).await;
        assert!(reply.status >= 500, "{} {}", reply.status, reply.text());

        let outside = d.cli(&["admin", "verify", "--max-rate", "1G"]).await;
        assert_eq!(outside.status.code(), Some(0), "bytes are looked at with --full: {}", String::from_utf8_lossy(&outside.stdout));
        let found = d.cli(&["admin", "fsck", "--full"]).await;
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        assert_eq!(found.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("object_corrupt {oid}")) && text.contains("`--repair`"), "{text}");
        let repaired = d.cli(&["admin", "verify", "--full", "--repair", "--json"]).await;
        assert_eq!(repaired.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&repaired.stdout).expect("JSON");
        assert_eq!(report["checked"]["projects"], 3);
        for finding in report["findings"].as_array().expect("findings") {
            assert!(finding["level"] != "error" || finding["repaired"] == true, "{finding:#}");
        }
        let again = d.cli(&["admin", "verify", "--full", "--json"]).await;
        assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stdout));
        let reply = d.get(&format!("/files/{project}/d2/f2.txt")).await;
        assert!(reply.status == 200 && reply.body == head.body);
        d.export(project.parse().expect("a UUID")).await;
        for wrong in [&["--max-rate", "fast"][..], &["--fully"]] {
            assert_eq!(d.cli(&[&["admin", "verify"], wrong].concat()).await.status.code(), Some(2));
        }
        assert_eq!(d.cli(&["admin", "verify", "--project", "nobody"]).await.status.code(), Some(1));
    }

    /// Goal: whatever kind of damage is done wherever, it is found by its name, and nothing wrong is ever read.
    async fn finds_every_damage(d) {
        let mut random = random("finds every damage");
        let project = furnish(&d, &mut random).await;
        let (_d, lab) = stop(d).await;
        clean(&lab, "before").await;
        let (mut served, mut asked) = (0, 0);
        for round in 0..rounds(58) {
            let kind = Kind::ALL[round % Kind::ALL.len()];
            let Damaged { codes, subject, undo } = lab.damage(kind, project, &mut random).await;
            let report = verified(&lab, &full()).await;
            let right = |code: &Code| report.findings.iter().any(|finding| {
                finding.code == *code && !finding.repaired && subject.as_ref().is_none_or(|subject| finding.subject == *subject)
            });
            assert!(codes.iter().any(right), "round {round}: {kind:?} {subject:?}, found:{}", words(&report));
            let errors = codes.iter().any(|code| code.level() == Level::Error);
            assert_eq!(report.errors > 0, errors, "round {round}: {kind:?}:{}", words(&report));
            let [read, all] = lab.serves_nothing_wrong(project).await;
            (served, asked) = (served + read, asked + all);
            lab.undo(undo).await;
            if round % 40 == 39 {
                clean(&lab, &format!("after round {round}")).await;
            }
        }
        clean(&lab, "after").await;
        assert!(served > asked / 10, "of {asked} objects {served} were served at all");
    }

    /// Goal: what has another good copy is repaired, by adding; a second verification has nothing to say.
    async fn repairs_from_other_copies(d) {
        let mut random = random("repairs from other copies");
        let project = furnish(&d, &mut random).await;
        let (mut d, lab) = stop(d).await;
        lab.keep_copies().await;
        for round in 0..rounds(15) {
            let kind = Kind::REPAIRABLE[round % Kind::REPAIRABLE.len()];
            let before = lab.names().await;
            let Damaged { codes, .. } = lab.damage(kind, project, &mut random).await;
            let damaged = lab.names().await;
            let report = verified(&lab, &VerifyOptions { repair: true, ..full() }).await;
            let open: Vec<_> = report.findings.iter().filter(|f| !f.repaired && f.level == Level::Error).collect();
            assert!(open.is_empty(), "round {round}: {kind:?}: {open:?}");
            // What is seen from outside comes first, and all of that key is moved: a flipped byte by the checksum, an entry behind the
            // end by the size.
            let outside = match kind {
                Kind::FlippedByte => Some(Code::PackCorrupt),
                Kind::WrongOffset | Kind::WrongLength => Some(Code::KeyTruncated),
                _ => None,
            };
            let meant = |code| codes.contains(&code) || outside == Some(code);
            let told = report.findings.iter().any(|finding| meant(finding.code) && finding.repaired);
            assert!(told, "round {round}: {kind:?}:{}", words(&report));
            let after = lab.names().await;
            assert!(damaged.iter().all(|name| after.contains(name)), "round {round}: {kind:?} deleted something");
            assert!(after.len() >= before.len() - 1);
            let report = verified(&lab, &full()).await;
            assert_eq!(report.errors, 0, "round {round}: {kind:?}, after its repair:{}", words(&report));
        }
        let [read, all] = lab.serves_nothing_wrong(project).await;
        assert!(read == all && all > 0, "{read} of {all} are served after their repair");
        d.up().await;
        d.export(project).await;
    }

    /// Goal: what pending work started from comes back. Method: the blob was never here, and the remote has it.
    async fn repairs_what_edits_started_from(d) {
        let mut random = random("repairs what edits started from");
        furnish(&d, &mut random).await;
        let remote = treehold_tests::git::Repo::open(d.remotes.path().join("long.git"));
        let base = remote.hash_object_literally("blob", b"where edits began\n");
        let (_d, lab) = stop(d).await;
        lab.rebase(&base).await;
        let found = verified(&lab, &full()).await;
        assert!(found.codes["pending_base_missing"] > 0 && found.repaired == 0, "{}", words(&found));
        let repaired = verified(&lab, &VerifyOptions { repair: true, ..full() }).await;
        let all = repaired.findings.iter().all(|finding| finding.repaired);
        assert!(repaired.codes["pending_base_missing"] > 0 && all, "{}", words(&repaired));
        clean(&lab, "after the repair").await;
    }

    /// Goal: what a repair reads counts, so that a rate binds it. Method: all packs are lost, and everything is elsewhere; the same run once more,
    /// which has nothing to repair, reads less by what was looked for.
    async fn repairs_count_what_they_read(d) {
        let mut random = random("repairs count what they read");
        furnish(&d, &mut random).await;
        let (d, lab) = stop(d).await;
        let files = std::fs::read_dir(d.objects_dir().await.join("pack")).expect("packs").flatten();
        let packs: Vec<_> =
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "pack")).collect();
        let lost: u64 = packs.iter().map(|pack| pack.metadata().expect("its size").len()).sum();
        lab.keep_copies().await;
        packs.iter().for_each(|pack| std::fs::remove_file(pack).expect("remove"));
        let repairing = VerifyOptions { repair: true, ..full() };
        let repaired = verified(&lab, &repairing).await;
        let mut errors = repaired.findings.iter().filter(|finding| finding.level == Level::Error);
        assert!(repaired.codes["key_missing"] > 0 && errors.all(|finding| finding.repaired), "{}", words(&repaired));
        let again = verified(&lab, &repairing).await;
        assert_eq!(again.errors, 0, "{}", words(&again));
        let (first, second) = (repaired.bytes_read, again.bytes_read);
        assert!(first >= second + lost / 2, "{first} bytes, {second} without the search, {lost} were lost");
    }

    /// Goal: a run that was stopped goes on where it was, unless something else is asked for or it is told to begin anew; two at once
    /// are refused.
    async fn goes_on_after_a_stop(d) {
        let mut random = random("goes on after a stop");
        furnish(&d, &mut random).await;
        let (_d, lab) = stop(d).await;
        let whole = verified(&lab, &full()).await;
        let stopped = async || {
            let at_packs = Arc::new(Notify::new());
            let slow = VerifyOptions { rate: Some(1), ..full() };
            let (engine, step) = (lab.engine(), Signal(Arc::clone(&at_packs)));
            let task = tokio::spawn(async move { engine.verify(&slow, &step).await });
            at_packs.notified().await;
            let refused = lab.engine().verify(&full(), &()).await.expect_err("two at once");
            assert_eq!(refused.code(), "verify_running");
            task.abort();
            until("the job is given back", async || lab.job().await.holder.is_none()).await;
            let progress = lab.job().await.progress.expect("how far it came");
            assert!(progress.contains(r#""stage":"packs""#), "{progress}");
        };
        stopped().await;
        let report = verified(&lab, &full()).await;
        assert!(report.resumed && report.checked == whole.checked && report.errors == 0, "{report:?}\n{whole:?}");
        assert!(!verified(&lab, &full()).await.resumed, "it was done to the end");
        stopped().await;
        assert!(!verified(&lab, &VerifyOptions::default()).await.resumed, "something else");
        stopped().await;
        assert!(!verified(&lab, &VerifyOptions { restart: true, ..full() }).await.resumed, "told to begin anew");
        let said = lab.job().await.finished.expect("the last report").1;
        assert!(said.contains(r#""errors":0"#), "{said}");
    }
}

/// Tells when the first pack has been looked at.
struct Signal(Arc<Notify>);

impl Progress for Signal {
    fn step(&self, what: &str, _: u64, _: Option<u64>) {
        if what == "checking packs" {
            self.0.notify_one();
        }
    }
}

/// Goal: what the lab calls healthy is healthy for stock git, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_furnished_store_is_one() {
    let d = Deployment::start(crate::deployment::Setup::Embedded).await;
    furnish(&d, &mut random("the furnished store")).await;
    bucket_fsck(&d).await;
}
