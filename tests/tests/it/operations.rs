//! What a server does by itself, and what it says of what it stands on.

use uuid::Uuid;

use crate::aftermath::{count, until};
use crate::both;
use crate::rebuild::execute;
use crate::remote_tools::save;

both! {
    /// Goal: manifests are written without being asked for, one after the other, and the collector's roots are the last two.
    async fn manifests_are_written(deployment) {
        let mut d = deployment;
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        save(&d, project, user, "a.txt", "a").await;
        d.kill();
        d.set("TREEHOLD_MANIFEST_INTERVAL", "1");
        d.up().await;
        // Each names the one before it.
        let two = "SELECT count(*) FROM jobs WHERE name = 'manifest' AND report LIKE '%\"commits\":[\"%\",\"%\"]%'";
        until("two manifests", async || count(&d, two).await == 1).await;
        d.kill();
        // As JSON the collector finds both, and the ledger has them.
        let held = "SELECT count(*) FROM objects o, jobs j WHERE j.name = 'manifest' AND o.type = 1";
        assert!(count(&d, held).await >= 2, "the commits are in the ledger");
        d.set("TREEHOLD_MANIFEST_INTERVAL", "0");
        d.up().await;
        assert_eq!(count(&d, "SELECT count(*) FROM ops WHERE state = 'open' AND kind <> 'manifest'").await, 0);
    }

    /// Goal: a server that is older than its database says so, and works.
    async fn newer_schema_is_told(deployment) {
        let mut d = deployment;
        d.kill();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            SELECT 9999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
        assert!(!d.log().contains("newer than this program"));
        execute(&d, &[newer]).await;
        d.up().await;
        until("it is told", async || d.log().contains("newer than this program")).await;
        assert_eq!(d.get("/readyz").await.status, 200);
    }
}
