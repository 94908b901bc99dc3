//! What several projects have in common lies in the bucket once, soon after it came, and stays while one of them has it.

use serde_json::json;
use uuid::Uuid;

use crate::aftermath::{big_remote, bucket_bytes, bucket_fsck, count, random, until};
use crate::both;
use crate::deployment::Deployment;
use crate::git_tools::{Clone, url};

/// Waits until the bucket is within 10 % of a size.
async fn settled(d: &Deployment, before: u64) {
    until("the bucket is as large as before", async || bucket_bytes(d).await * 10 <= before * 11).await;
    let kept = "SELECT count(*) FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id AND k.state = 'present'
        WHERE k.key_id IS NULL";
    assert_eq!(count(d, kept).await, 0, "a row whose key is gone");
}

/// Every file of the project, by path and oid; each is read.
async fn files(d: &Deployment, project: Uuid) -> Vec<serde_json::Value> {
    let list = d.get(&format!("/files/{project}?limit=10000")).await.ok(200);
    let files = list["files"].as_array().expect("files").clone();
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().expect("a path")).collect();
    let read = d.post(&format!("/projects/{project}/read"), json!({"paths": paths})).await.ok(200);
    for (read, listed) in read["files"].as_array().expect("files").iter().zip(&files) {
        assert_eq!(read["oid"], listed["oid"], "{read}");
        assert!(read["error"].is_null(), "{read}");
    }
    files
}

both! {
    /// Goal: a second project with the same repository costs next to nothing, and is whole when the first one is deleted.
    async fn second_project(d) {
        let mut random = random("second project");
        let remote = big_remote(&d, "big", 1500, &mut random);
        let first = d.connect("big").await;
        let before = bucket_bytes(&d).await;
        assert!(before > 500_000, "{before}");
        let second = d.connect("big").await;
        settled(&d, before).await;
        let third = d.cli(&["import", remote.path().to_str().expect("UTF-8"), "--project", "third"]).await;
        assert!(third.status.success(), "{}", String::from_utf8_lossy(&third.stderr));
        settled(&d, before).await;
        let content = files(&d, first).await;
        assert_eq!(files(&d, second).await, content);
        d.delete(&format!("/projects/{first}")).await.ok(204);
        settled(&d, before).await;
        assert_eq!(d.get(&format!("/projects/{first}")).await.status, 404);
        assert_eq!(files(&d, second).await, content);
        let (_dir, export) = d.export(second).await;
        assert_eq!(export.ls_tree("main"), remote.ls_tree("main"));
        bucket_fsck(&d).await;
    }

    /// Goal: the same for content that comes by commits, small and large, and by autosaves too large for the database.
    async fn same_commits(d) {
        let projects = [d.local_project().await, d.local_project().await];
        let content = |n: usize| format!("file {n} {}\n", "content ".repeat(n * 400));
        let large: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        let mut before = 0;
        for (round, project) in projects.into_iter().enumerate() {
            let user = Uuid::new_v4();
            d.put(&format!("/pending/{project}/{user}/large.txt"), large.clone()).await.ok(201);
            for count in [3, 200] {
                let actions: Vec<_> = (0..count)
                    .map(|n| json!({"action": "create", "path": format!("{count}/{n}.txt"), "content": content(n % 50)}))
                    .collect();
                let author = json!({"name": "A", "email": "a@example.org", "date": "@1700000000 +0000"});
                let body = json!({"message": "Same", "author": author, "actions": actions});
                d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
            }
            match round {
                0 => before = bucket_bytes(&d).await,
                _ => settled(&d, before).await,
            }
        }
        assert_eq!(files(&d, projects[0]).await, files(&d, projects[1]).await);
        d.delete(&format!("/projects/{}", projects[0])).await.ok(204);
        assert_eq!(files(&d, projects[1]).await.len(), 203);
        d.export(projects[1]).await;
        bucket_fsck(&d).await;
    }

    /// Goal: projects that bring the same at the same time share it too, and nobody loses anything.
    async fn at_the_same_time(d) {
        let mut random = random("at the same time");
        let remote = big_remote(&d, "big", 800, &mut random);
        let projects = futures::future::join_all((0..4).map(|_| d.connect("big"))).await;
        let packed = std::fs::read_dir(remote.path().join("objects/pack")).expect("packs");
        let packed: u64 = packed.map(|file| file.expect("a file").metadata().expect("its size").len()).sum();
        until("four projects take the room of one", async || bucket_bytes(&d).await < packed * 3 / 2).await;
        for project in projects {
            let (_dir, export) = d.export(project).await;
            assert_eq!(export.ls_tree("main"), remote.ls_tree("main"));
        }
        bucket_fsck(&d).await;
    }

    /// Goal: what is stored together is one pack, whether or not other projects have stored it before: the calls to the bucket tell
    /// nobody what is known.
    async fn one_pack_each(d) {
        let keys = "SELECT count(*) FROM s3_keys";
        let large: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        for (round, project) in [d.local_project().await, d.local_project().await].into_iter().enumerate() {
            let user = Uuid::new_v4();
            let before = count(&d, keys).await;
            d.put(&format!("/pending/{project}/{user}/large.txt"), large.clone()).await.ok(201);
            assert_eq!(count(&d, keys).await, before + 1, "a large file");
            for files in [1, 3, 40] {
                let before = count(&d, keys).await;
                let actions: Vec<_> = (0..files)
                    .map(|n| json!({"action": "create", "path": format!("{files}/{n}.txt"), "content": format!("{n}\n")}))
                    .collect();
                // The contents are known in the second round, the commits are not.
                let author = json!({"name": "A", "email": "a@example.org"});
                let body = json!({"message": format!("Round {round}"), "author": author, "actions": actions});
                d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
                assert_eq!(count(&d, keys).await, before + 1, "a commit of {files} files");
            }
            let before = count(&d, keys).await;
            let author = json!({"name": "A", "email": "a@example.org"});
            let body = json!({"message": format!("Large {round}"), "author": author, "user": user});
            d.post(&format!("/projects/{project}/commit"), body).await.ok(200);
            assert_eq!(count(&d, keys).await, before + 1, "a commit of what is in the bucket already");
        }
        assert_eq!(count(&d, "SELECT count(*) FROM s3_keys WHERE s3_key NOT LIKE 'objects/pack/%'").await, 0);
        bucket_fsck(&d).await;
    }

    /// Goal: the same for pushes of git clients, small ones and ones that are kept as they came.
    async fn as_many_keys_for_pushes(d) {
        let keys = "SELECT count(*) FROM s3_keys";
        for files in [3, 400] {
            let clone = Clone::empty(false);
            for n in 0..files {
                std::fs::write(clone.path().join(format!("pushed-{files}-{n}")), format!("{files} {n}\n")).expect("a file");
            }
            clone.run(&["add", "."]);
            clone.run(&["commit", "--quiet", "-m", "Files"]);
            let mut written = Vec::new();
            for _ in 0..2 {
                let (project, before) = (d.local_project().await, count(&d, keys).await);
                clone.run(&["push", "--quiet", &url(&d, project), "main"]);
                written.push(count(&d, keys).await - before);
            }
            assert!(written[0] > 0 && written[0] == written[1], "{files} files: {written:?}");
        }
        bucket_fsck(&d).await;
    }
}
