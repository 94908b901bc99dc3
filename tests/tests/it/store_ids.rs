//! A database and a bucket are each other's: whoever is given another's does nothing to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::aftermath::{count, execute, until};
use crate::both;
use crate::deployment::{Deployment, Setup};
use crate::remote_tools::{commit, commit_body, save};

async fn work(d: &Deployment, path: &str) {
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    save(d, project, user, path, &format!("only in {path}\n").repeat(20_000)).await;
    commit(d, project, commit_body(user, path)).await.ok(200);
}

fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let names = entries.flat_map(|path| match path.is_dir() {
        true => names(&path),
        false => BTreeSet::from([path]),
    });
    names.collect()
}

/// Gives a deployment the bucket of another one.
fn move_to(stranger: &mut Deployment, d: &Deployment) {
    match d.setup {
        Setup::Embedded => {
            let store = format!("file://{}", d.data.path().join("store").display());
            stranger.set("TREEHOLD_STORE_URL", &store);
        }
        Setup::Cluster => stranger.prefix.clone_from(&d.prefix),
    }
}

/// Another deployment beside it: both have work, and neither of them runs.
async fn beside(d: &mut Deployment) -> Deployment {
    let mut stranger = Deployment::start(d.setup).await;
    work(d, "ours.txt").await;
    work(&stranger, "theirs.txt").await;
    d.kill();
    stranger.kill();
    stranger
}

/// Makes its database one of before there were ids.
async fn untie(d: &Deployment) {
    execute(d, &["UPDATE gc_state SET store_id = NULL"]).await;
}

/// Where the bucket keeps its id.
async fn id_file(d: &Deployment) -> PathBuf {
    d.objects_dir().await.join("info/treehold-store-id")
}

async fn refused(d: &Deployment, arguments: &[&str]) {
    let done = d.cli(arguments).await;
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && words.contains("treehold admin rebuild"), "{arguments:?}: {words}");
}

async fn well(d: &Deployment, arguments: &[&str]) {
    let done = d.cli(arguments).await;
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn doctor(d: &Deployment) -> String {
    String::from_utf8_lossy(&d.cli(&["doctor"]).await.stdout).into_owned()
}

const TIED: &str = "SELECT count(*) FROM gc_state WHERE store_id IS NOT NULL";
const BEGUN: &str = "SELECT count(*) FROM jobs WHERE name = 'rebuild' AND progress IS NOT NULL";
const COLLECT: [&str; 6] = ["admin", "gc", "--apply", "--force", "--grace", "0s"];

both! {
    /// Goal: a server and a collector of one database, given the bucket of another, stop before anything is deleted; also where the database
    /// is of before there were ids. Method: the whole list of the bucket, before and after.
    async fn of_another_database(d) {
        let mut d = d;
        let mut stranger = beside(&mut d).await;
        let before = names(&d.objects_dir().await);
        move_to(&mut stranger, &d);
        assert!(doctor(&stranger).await.contains("FAIL  store id"), "{}", doctor(&stranger).await);
        for _ in 0..2 {
            refused(&stranger, &["serve", "--listen", "127.0.0.1:0"]).await;
            refused(&stranger, &COLLECT).await;
            assert_eq!(names(&d.objects_dir().await), before);
            untie(&stranger).await;
        }
        assert!(doctor(&d).await.contains("ok    store id"), "{}", doctor(&d).await);
        d.up().await;
        well(&d, &COLLECT).await;
    }

    /// Goal: of two new databases on one bucket the second is refused, also where nothing is stored yet.
    async fn of_another_new_database(d) {
        let mut d = d;
        let mut stranger = Deployment::start(d.setup).await;
        d.kill();
        stranger.kill();
        untie(&stranger).await;
        move_to(&mut stranger, &d);
        refused(&stranger, &["serve", "--listen", "127.0.0.1:0"]).await;
        d.up().await;
    }

    /// Goal: a store of before there were ids gets one when its server starts, and a rebuild takes the bucket's.
    async fn of_before(d) {
        let mut d = d;
        work(&d, "ours.txt").await;
        let file = id_file(&d).await;
        assert!(file.exists() && count(&d, TIED).await == 1, "a new one has it at once");
        d.kill();
        untie(&d).await;
        std::fs::remove_file(&file).expect("the id");
        d.up().await;
        assert!(file.exists() && count(&d, TIED).await == 1);
        well(&d, &COLLECT).await;
        d.kill();
        // Any other id.
        execute(&d, &["UPDATE gc_state SET store_id = (SELECT id FROM projects LIMIT 1)"]).await;
        refused(&d, &["serve", "--listen", "127.0.0.1:0"]).await;
        refused(&d, &["admin", "gc"]).await;
        well(&d, &["admin", "rebuild", "--force"]).await;
        d.up().await;
        well(&d, &COLLECT).await;
    }

    /// Goal: commands that work in their own process write nothing to the bucket of another database. Method: the whole list of the bucket,
    /// before and after.
    async fn of_another_database_for_commands(d) {
        let mut d = d;
        let mut stranger = beside(&mut d).await;
        let source = stranger.remote("docs", 7);
        let before = names(&d.objects_dir().await);
        move_to(&mut stranger, &d);
        let source = source.path().to_str().expect("UTF-8");
        let commands: [&[&str]; 4] = [
            &["import", source, "--project", "imported"],
            &["admin", "manifest"],
            &["admin", "repack"],
            &["admin", "verify", "--repair"],
        ];
        for _ in 0..2 {
            for arguments in commands {
                refused(&stranger, arguments).await;
                assert_eq!(names(&d.objects_dir().await), before, "{arguments:?}");
            }
            untie(&stranger).await;
        }
    }

    /// Goal: a fence ties no database to the bucket of another one, and changes nothing there; a database of before there were ids is tied to
    /// its own.
    async fn of_another_database_for_a_fence(d) {
        let mut d = d;
        let mut stranger = beside(&mut d).await;
        move_to(&mut stranger, &d);
        let epoch = "SELECT epoch FROM gc_state";
        let before = count(&stranger, epoch).await;
        for tied in [1, 0] {
            refused(&stranger, &["admin", "restore", "--fence"]).await;
            assert_eq!((count(&stranger, epoch).await, count(&stranger, TIED).await), (before, tied));
            untie(&stranger).await;
        }
        untie(&d).await;
        well(&d, &["admin", "restore", "--fence"]).await;
        assert_eq!(count(&d, TIED).await, 1);
        d.up().await;
    }

    /// Goal: a rebuild that is given the bucket of another database gives nothing up, and one that was cut off does not go on with it, until it
    /// is forced.
    async fn of_another_database_for_a_rebuild(d) {
        let mut d = d;
        let mut stranger = beside(&mut d).await;
        stranger.set("TREEHOLD_FAULTS", "B2=kill");
        assert!(!stranger.cli(&["admin", "rebuild", "--force"]).await.status.success());
        stranger.set("TREEHOLD_FAULTS", "");
        if d.setup == Setup::Cluster {
            // The lease of the dead one would last for minutes.
            execute(&stranger, &["UPDATE jobs SET until = 0"]).await;
        }
        move_to(&mut stranger, &d);
        refused(&stranger, &["admin", "rebuild"]).await;
        execute(&stranger, &["UPDATE jobs SET progress = NULL"]).await;
        refused(&stranger, &["admin", "rebuild"]).await;
        assert_eq!(count(&stranger, BEGUN).await, 0, "nothing was begun");
        assert_eq!(count(&stranger, "SELECT count(*) FROM objects").await, 0, "nothing was taken over");
        // What its refs name is not in this bucket, and that is told.
        assert_eq!(stranger.cli(&["admin", "rebuild", "--force"]).await.status.code(), Some(1));
        assert!(count(&stranger, "SELECT count(*) FROM objects").await > 0);
    }

    /// Goal: where the bucket's id is damaged a rebuild gives nothing up, and the message says how to go on.
    async fn of_a_damaged_id(d) {
        let mut d = d;
        work(&d, "ours.txt").await;
        d.kill();
        let file = id_file(&d).await;
        let objects = count(&d, "SELECT count(*) FROM objects").await;
        std::fs::remove_file(&file).expect("the id");
        std::fs::write(&file, "no id\n").expect("another value");
        let done = d.cli(&["admin", "rebuild", "--force"]).await;
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(1) && words.contains("deleted, it is written again"), "{words}");
        assert_eq!((count(&d, BEGUN).await, count(&d, "SELECT count(*) FROM objects").await), (0, objects));
        std::fs::remove_file(&file).expect("the id");
        d.up().await;
        assert!(file.exists(), "it is there again");
    }
}

/// Goal: a server that could not ask its bucket when it started writes nothing to it once it turns out to be another's, and says that it is not
/// ready. Method: the bucket is away at the start, and has another id when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_another_database_behind_an_outage() {
    let mut d = Deployment::start_alone().await;
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    d.kill();
    let own = d.prefix.clone();
    d.prefix = Uuid::new_v4().simple().to_string();
    let objects = d.objects_dir().await;
    std::fs::create_dir_all(objects.join("info")).expect("a directory");
    let id = Uuid::new_v4();
    std::fs::write(objects.join("info/treehold-store-id"), format!("{id}\n{id}\n")).expect("an id");
    let before = names(&objects);
    d.own().s3.stop();
    d.up().await;
    d.own().s3.restart();
    until("the bucket is asked", async || d.get("/readyz").await.status == 503 && d.log().contains("foreign_store"))
        .await;
    let large = "large ".repeat(60_000);
    d.put(&format!("/pending/{project}/{user}/large.txt"), large.clone()).await.problem(503, "unavailable");
    assert_eq!(names(&objects), before, "nothing was written");
    d.kill();
    d.prefix = own;
    d.up().await;
    assert_eq!(d.get("/readyz").await.status, 200);
    d.put(&format!("/pending/{project}/{user}/large.txt"), large).await.ok(201);
}
