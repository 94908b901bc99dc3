//! A database and a bucket are each other's: whoever is given another's does nothing to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::aftermath::{count, execute};
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

async fn refused(d: &Deployment, arguments: &[&str]) {
    let done = d.cli(arguments).await;
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && words.contains("treehold admin rebuild"), "{arguments:?}: {words}");
}

async fn well(d: &Deployment, arguments: &[&str]) {
    let done = d.cli(arguments).await;
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

const TIED: &str = "SELECT count(*) FROM gc_state WHERE store_id IS NOT NULL";
const COLLECT: [&str; 6] = ["admin", "gc", "--apply", "--force", "--grace", "0s"];

both! {
    /// Goal: a server and a collector of one database, given the bucket of another, stop before anything is deleted; also where the database
    /// is of before there were ids. Method: the whole list of the bucket, before and after.
    async fn of_another_database(d) {
        let mut d = d;
        let mut stranger = Deployment::start(d.setup).await;
        work(&d, "ours.txt").await;
        work(&stranger, "theirs.txt").await;
        d.kill();
        stranger.kill();
        let before = names(&d.objects_dir().await);
        move_to(&mut stranger, &d);
        for _ in 0..2 {
            refused(&stranger, &["serve", "--listen", "127.0.0.1:0"]).await;
            refused(&stranger, &COLLECT).await;
            assert_eq!(names(&d.objects_dir().await), before);
            execute(&stranger, &["UPDATE gc_state SET store_id = NULL"]).await;
        }
        d.up().await;
        well(&d, &COLLECT).await;
    }

    /// Goal: of two new databases on one bucket the second is refused, also where nothing is stored yet.
    async fn of_another_new_database(d) {
        let mut d = d;
        let mut stranger = Deployment::start(d.setup).await;
        d.kill();
        stranger.kill();
        execute(&stranger, &["UPDATE gc_state SET store_id = NULL"]).await;
        move_to(&mut stranger, &d);
        refused(&stranger, &["serve", "--listen", "127.0.0.1:0"]).await;
        d.up().await;
    }

    /// Goal: a store of before there were ids gets one when its server starts, and a rebuild takes the bucket's.
    async fn of_before(d) {
        let mut d = d;
        work(&d, "ours.txt").await;
        let file = d.objects_dir().await.join("info/treehold-store-id");
        assert!(file.exists() && count(&d, TIED).await == 1, "a new one has it at once");
        d.kill();
        execute(&d, &["UPDATE gc_state SET store_id = NULL"]).await;
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
}
