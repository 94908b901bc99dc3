//! Backup and restore of the embedded set-up, beside people who work; and what the other set-up is told.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use rand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::aftermath::{big_remote, bucket_fsck, count, kill, random};
use crate::deployment::{Deployment, Setup};
use crate::git_tools::Clone;
use crate::remote_tools::{commit, commit_body, save};

/// Runs an admin verb; its answer or what it said, and whether it did well.
async fn admin(d: &Deployment, arguments: &[&str]) -> (Value, bool) {
    let done = d.cli(&[&["admin"], arguments, &["--json"]].concat()).await;
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    (serde_json::from_slice(&done.stdout).unwrap_or(Value::String(error)), done.status.success())
}

async fn well(d: &Deployment, arguments: &[&str]) -> Value {
    let (answer, well) = admin(d, arguments).await;
    assert!(well, "{arguments:?}: {answer}");
    answer
}

async fn refused(d: &Deployment, arguments: &[&str], says: &str) {
    let (answer, well) = admin(d, arguments).await;
    assert!(!well && answer.to_string().contains(says), "{arguments:?}: {answer}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Saves until told to stop, and commits now and then; the number of the last save that was answered, by path.
async fn write(d: &Deployment, project: Uuid, user: Uuid, answered: &[Cell<u64>; 4], stop: &Cell<bool>) {
    let mut number = 0;
    while !stop.get() {
        number += 1;
        let file = (number % 4) as usize;
        // Every fourth is too large for the database.
        let content = if file == 3 { format!("{number} ").repeat(30_000) } else { format!("{number} ") };
        save(d, project, user, &format!("{user}/{file}.txt"), &content).await;
        answered[file].set(number);
        if number % 25 == 0 {
            commit(d, project, commit_body(user, &format!("{number}"))).await.ok(200);
        }
    }
}

/// The number that a path has in the user's view.
async fn number(d: &Deployment, project: Uuid, user: Uuid, file: usize) -> u64 {
    let reply = d.get(&format!("/files/{project}/{user}/{file}.txt?user={user}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().split(' ').next().expect("a number").parse().expect("a number")
}

/// Goal: a backup taken beside writers and a repack has every edit that was answered before it began, restores into a store that git
/// and the API find whole, and costs the second time only what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_writers() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let mut random = random("backup beside writers");
    big_remote(&d, "big", 500, &mut random);
    let (synced, project) = (d.connect("big").await, d.local_project().await);
    let users: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    let answered: Vec<[Cell<u64>; 4]> = users.iter().map(|_| Default::default()).collect();
    let (stop, copies) = (Cell::new(false), TempDir::new().expect("a directory"));
    let copy = copies.path().join("copy");
    let writers = users.iter().zip(&answered).map(|(user, answered)| write(&d, project, *user, answered, &stop));
    let work = async {
        while answered.iter().flatten().any(|number| number.get() < 20) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        well(&d, &["repack", "--grace", "0s"]).await;
        let first = well(&d, &["backup", text(&copy)]).await;
        let before: BTreeMap<(usize, usize), u64> = answered
            .iter()
            .enumerate()
            .flat_map(|(user, files)| files.iter().enumerate().map(move |(file, number)| ((user, file), number.get())))
            .collect();
        let (backup, repack) = (["backup", text(&copy)], ["repack", "--grace", "0s"]);
        let (second, _) = futures::join!(well(&d, &backup), well(&d, &repack));
        stop.set(true);
        assert!(first["files_copied"].as_u64() > Some(1), "{first}");
        assert!(second["files_kept"].as_u64() > Some(0), "nothing is copied twice: {second}");
        before
    };
    let (before, _) = futures::join!(work, futures::future::join_all(writers));
    let after: Vec<Vec<u64>> = answered.iter().map(|files| files.iter().map(Cell::get).collect()).collect();
    let list = d.get(&format!("/files/{synced}?limit=10000")).await.ok(200);
    refused(&d, &["restore", text(&copy)], "stop it first").await;
    d.kill();
    refused(&d, &["restore", text(&copy)], "there already").await;
    let target = TempDir::new().expect("a directory");
    let restored = well(&d, &["restore", text(&copy), "--data-dir", text(target.path())]).await;
    assert!(restored["epoch"].as_i64() > Some(1000), "{restored}");
    drop(std::mem::replace(&mut d.data, target));
    d.up().await;
    for (at, user) in users.iter().enumerate() {
        for file in 0..4 {
            let there = number(&d, project, *user, file).await;
            let (least, most) = (before[&(at, file)], after[at][file]);
            assert!((least..=most).contains(&there), "{there} is not from {least} to {most}");
        }
    }
    assert_eq!(d.get(&format!("/files/{synced}?limit=10000")).await.ok(200), list);
    for project in [synced, project] {
        Clone::of_project(&d, project, "2", &["--mirror"]).fsck_strict();
    }
    save(&d, project, users[0], "more.txt", "more").await;
    commit(&d, project, commit_body(users[0], "More")).await.ok(200);
    assert_eq!(count(&d, "SELECT count(*) FROM ops WHERE state = 'open'").await, 0);
    bucket_fsck(&d).await;
}

/// Goal: what is no whole backup is not restored, and nothing is written over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whole_and_only_into_nothing() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    save(&d, project, user, "a.txt", "a").await;
    commit(&d, project, commit_body(user, "A")).await.ok(200);
    let copies = TempDir::new().expect("a directory");
    let (copy, other) = (copies.path().join("copy"), copies.path().join("other"));
    std::fs::create_dir(&other).expect("a directory");
    std::fs::write(other.join("letter.txt"), "Dear").expect("a file");
    refused(&d, &["backup", text(&other)], "letter.txt").await;
    refused(&d, &["backup", text(&d.data.path().join("store/copy"))], "outside").await;
    d.kill();
    let made = well(&d, &["backup", text(&copy)]).await;
    assert_eq!((&made["projects"], &made["pending"]), (&json!(1), &json!(0)));
    let target = TempDir::new().expect("a directory");
    let into = ["--data-dir", text(target.path())];
    refused(&d, &[&["restore", text(&other)], &into[..]].concat(), "no whole backup").await;
    let packs = std::fs::read_dir(copy.join("store/objects/pack")).expect("packs").flatten();
    let pack = packs.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "pack"));
    let (pack, aside) = (pack.expect("a pack"), copies.path().join("aside"));
    let elsewhere = TempDir::new().expect("a directory");
    for (part, into) in [(pack.with_extension("idx"), text(elsewhere.path())), (pack, text(target.path()))] {
        std::fs::rename(&part, &aside).expect("move");
        refused(&d, &["restore", text(&copy), "--data-dir", into], "missing from the backup").await;
        std::fs::rename(&aside, &part).expect("move back");
    }
    // What the refused one left is no hindrance.
    well(&d, &[&["restore", text(&copy)], &into[..]].concat()).await;
    let again = [&["restore", text(&copy)], &into[..]].concat();
    refused(&d, &again, "there already").await;
    drop(std::mem::replace(&mut d.data, target));
    d.up().await;
    assert_eq!(d.get(&format!("/files/{project}/a.txt")).await.text(), "a");
}

/// Goal: what a killed server wrote last does not get into a database that is restored where its own was: its log is refused, not
/// removed, and what says nothing is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_beside_the_log_of_another() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    let copies = TempDir::new().expect("a directory");
    let copy = copies.path().join("copy");
    save(&d, project, user, "round.txt", "0").await;
    well(&d, &["backup", text(&copy)]).await;
    for round in 1..50 {
        save(&d, project, user, "round.txt", &round.to_string()).await;
        save(&d, project, user, &format!("{round}.txt"), &"later ".repeat(1000)).await;
    }
    d.kill();
    let data = d.data.path().to_owned();
    let move_away = |name: &str| std::fs::rename(data.join(name), copies.path().join(name)).expect("moved");
    move_away("treehold.db");
    move_away("store");
    refused(&d, &["restore", text(&copy)], "treehold.db-wal").await;
    assert!(data.join("treehold.db-wal").exists(), "nobody removes what may be wanted");
    move_away("treehold.db-wal");
    well(&d, &["restore", text(&copy)]).await;
    for left in ["treehold.db-wal", "treehold.db-shm", "treehold.db-journal"] {
        assert!(!data.join(left).exists(), "{left}");
    }
    d.up().await;
    assert_eq!(d.get(&format!("/files/{project}/round.txt?user={user}")).await.text(), "0");
    let pending = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
    assert_eq!(pending["changes"].as_array().map(Vec::len), Some(1), "{pending}");
    assert!(d.cli(&["admin", "verify", "--full"]).await.status.success());
}

/// Goal: a backup that dies leaves the last one as good as it was, or is whole itself; the next one goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_dies_leaves_the_last_one() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let mut random = random("backup that dies");
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    let copies = TempDir::new().expect("a directory");
    let copy = copies.path().join("copy");
    save(&d, project, user, "round.txt", "0").await;
    well(&d, &["backup", text(&copy)]).await;
    for round in 1..5 {
        save(&d, project, user, "round.txt", &round.to_string()).await;
        save(&d, project, user, &format!("large-{round}.txt"), &format!("{round} ").repeat(200_000)).await;
        d.kill();
        let mut command = d.command(&["admin", "backup", text(&copy)]).await;
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        tokio::time::sleep(std::time::Duration::from_millis(random.random_range(5..250))).await;
        if child.try_wait().expect("its state").is_none() {
            kill(child.id());
        }
        child.wait().expect("its end");
        let target = TempDir::new().expect("a directory");
        well(&d, &["restore", text(&copy), "--data-dir", text(target.path())]).await;
        let own = std::mem::replace(&mut d.data, target);
        d.up().await;
        let seen: u32 =
            d.get(&format!("/files/{project}/round.txt?user={user}")).await.text().parse().expect("a number");
        assert!(seen <= round, "{seen} in round {round}");
        for large in 1..=seen {
            let reply = d.get(&format!("/files/{project}/large-{large}.txt?user={user}")).await;
            assert!(reply.status == 200 || large == seen, "{large} of {seen}: {}", reply.text());
        }
        d.kill();
        d.data = own;
        d.up().await;
    }
    let last = well(&d, &["backup", text(&copy)]).await;
    assert_eq!(last["pending"], json!(5), "{last}");
    let names = std::fs::read_dir(&copy).expect("the copy").flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().ends_with(".db")).count(), 1, "old databases are gone");
}

/// Goal: a backup that was cut off after it had copied files, over one from before there were any, leaves one that can be used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nothing_with_files_of_a_later_one() {
    let mut d = Deployment::start(Setup::Embedded).await;
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    let copies = TempDir::new().expect("a directory");
    let copy = copies.path().join("copy");
    save(&d, project, user, "small.txt", "kept").await;
    well(&d, &["backup", text(&copy)]).await;
    save(&d, project, user, "large.txt", &"later ".repeat(200_000)).await;
    let packs = d.objects_dir().await.join("pack");
    for pack in std::fs::read_dir(packs).expect("packs").flatten() {
        let to = copy.join("store/objects/pack");
        std::fs::create_dir_all(&to).expect("a directory");
        std::fs::copy(pack.path(), to.join(pack.file_name())).expect("a copy");
    }
    let target = TempDir::new().expect("a directory");
    well(&d, &["restore", text(&copy), "--data-dir", text(target.path())]).await;
    d.kill();
    d.data = target;
    d.up().await;
    assert_eq!(d.get(&format!("/files/{project}/small.txt?user={user}")).await.text(), "kept");
    assert!(d.cli(&["admin", "verify", "--full"]).await.status.success());
}

/// Goal: where there is no file to copy, an operator is told what to do instead; after that was done, what was under way is fenced off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elsewhere() {
    let d = Deployment::start(Setup::Cluster).await;
    let copies = TempDir::new().expect("a directory");
    refused(&d, &["backup", text(&copies.path().join("copy"))], "pg_dump").await;
    refused(&d, &["restore", text(copies.path())], "pg_dump").await;
    let fenced = well(&d, &["restore", "--fence"]).await;
    assert!(fenced["epoch"].as_i64() > Some(1000), "{fenced}");
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    save(&d, project, user, "a.txt", "a").await;
    commit(&d, project, commit_body(user, "A")).await.ok(200);
}
