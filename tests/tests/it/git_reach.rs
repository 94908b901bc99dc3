//! What comes with a push or from a remote and no ref leads to is nobody's: it is not served, and its collection takes nothing from
//! under anybody.

use serde_json::json;
use treehold_object::Kind;
use treehold_tests::git::{Git, Repo};
use treehold_tests::git_http::{Fault, Lie, On};
use uuid::Uuid;

use crate::aftermath::oids;
use crate::both;
use crate::collection::gc_twice;
use crate::deployment::{Deployment, json_body};
use crate::git_raw::*;
use crate::git_tools::*;
use crate::isolation::{fetch_answer, nobodys};

/// The project says of the oids what it says of one that nobody has.
async fn foreign(d: &Deployment, project: Uuid, oids: &[&str]) {
    let ask = async |oid: &str| {
        let mut told = Vec::new();
        for (version, body) in
            [("2", fetch_v2(&[oid], &[], &["done"])), ("0", fetch_v0(&[oid], &[], "side-band-64k ofs-delta"))]
        {
            told.push(said(&upload_pack(d, project, version, body).await, &[oid]));
        }
        told
    };
    let nobody = ask(&nobodys()).await;
    assert!(nobody[0].2.contains("not our ref"), "{}", nobody[0].2);
    for oid in oids {
        assert_eq!(ask(oid).await, nobody, "{oid}");
        for kind in ["blobs", "trees", "commits"] {
            d.get(&format!("/projects/{project}/git/{kind}/{oid}")).await.problem(404, "not_found");
        }
    }
}

/// A clone, a bundle and an export have exactly what `expected` reaches; so they do after two collections.
async fn exactly(d: &Deployment, project: Uuid, expected: &std::collections::BTreeSet<String>) {
    for round in ["before", "after"] {
        for version in VERSIONS {
            let mirror = Clone::of_project(d, project, version, &["--mirror"]);
            mirror.fsck_strict();
            assert_eq!(&stored(&mirror), expected, "a clone {round} collection, v{version}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = d.get(&format!("/projects/{project}/bundle")).await;
        assert_eq!(bundle.status, 200, "{}", bundle.text());
        std::fs::write(dir.path().join("all.bundle"), &bundle.body).expect("write");
        Git::at(dir.path()).run(["clone", "--quiet", "--mirror", "all.bundle", "bundle.git"]);
        assert_eq!(&stored(&Repo::open(dir.path().join("bundle.git"))), expected, "a bundle {round} collection");
        let (_dir, export) = d.export(project).await;
        assert_eq!(&stored(&export), expected, "an export {round} collection");
        if round == "before" {
            gc_twice(d).await;
            assert_eq!(&oids(d).await, expected, "the rest is gone");
        }
    }
}

/// Oids of what these refs of a repository reach.
fn reached_by(repo: &Repo, refs: &[&str]) -> std::collections::BTreeSet<String> {
    let listing = repo.git().run([&["rev-list", "--objects", "--no-object-names"], refs].concat());
    listing.lines().map(str::to_owned).collect()
}

/// A clone with two commits on `main` and one on `side`, which is not pushed.
fn source() -> Clone {
    let clone = Clone::empty(false);
    clone.commit_file("text", "one\n");
    clone.commit_file("text", "two\n");
    clone.run(&["checkout", "--quiet", "-b", "side"]);
    clone.commit_files(&[("text", Some(b"refused\n")), ("dir/secret", Some(b"hunter2\n"))], "Refused");
    clone.run(&["checkout", "--quiet", "main"]);
    clone
}

both! {
    /// Goal: of a mirror of another forge the branches are taken and its refs of pull requests refused, and then nothing of these is here.
    async fn a_mirror_with_refused_refs(d) {
        let clone = source();
        let side = clone.rev_parse("side");
        clone.run(&["update-ref", "refs/pull/1/head", "side"]);
        clone.run(&["update-ref", "refs/pull/2/head", "main~1"]);
        clone.run(&["branch", "-D", "side"]);
        let project = d.local_project().await;
        let words = clone.refused(&["push", "--mirror", &url(&d, project)], "only branches, tags and notes");
        assert!(words.contains("[new branch]"), "{words}");
        foreign(&d, project, &[&side, &clone.rev_parse(&format!("{side}^{{tree}}")), &clone.rev_parse(&format!("{side}:dir/secret"))]).await;
        exactly(&d, project, &reached_by(&clone, &["main"])).await;
    }

    /// Goal: the same where policy refuses one of two, whatever else the push does, and where the pack is kept as it came.
    async fn one_of_two(d) {
        for files in [3, 400] {
            let clone = source();
            let project = d.local_project().await;
            let at = url(&d, project);
            clone.run(&["push", "--quiet", &at, "main", "main:gone", "main~1:refs/heads/moved"]);
            d.send(json_body(d.request("PATCH", &format!("/projects/{project}")), &json!({"receive": {"deny_non_fast_forwards": true}}))).await.ok(200);
            clone.run(&["checkout", "--quiet", "-b", "fine"]);
            for number in 0..files {
                std::fs::write(clone.path().join(format!("fine-{number}")), format!("{number}\n")).expect("a file");
            }
            clone.run(&["add", "."]);
            clone.run(&["commit", "--quiet", "-m", "fine"]);
            clone.run(&["checkout", "--quiet", "--orphan", "evil"]);
            clone.run(&["rm", "-rf", "--quiet", "."]);
            let evil = clone.commit_files(&[("dir/evil", Some(b"evil\n"))], "Evil");
            clone.refused(&["push", &at, "fine", ":gone", "+evil:main"], "non-fast-forward");
            foreign(&d, project, &[&evil, &clone.rev_parse("evil:dir"), &clone.rev_parse("evil:dir/evil")]).await;
            exactly(&d, project, &reached_by(&clone, &["fine", "main"])).await;
            // What was refused comes again with its objects, and not without.
            let reply = receive_pack(&d, project, [push_head(&[(ZERO, &evil, "refs/heads/evil")]), pack(&[])].concat()).await;
            assert!(reply.text().contains("ng refs/heads/evil missing necessary objects"), "{}", reply.text());
            clone.run(&["push", "--quiet", &at, "evil"]);
            assert_eq!(stored(&Clone::of_project(&d, project, "2", &["--mirror"])), reached_by(&clone, &["fine", "main", "evil"]));
            d.delete(&format!("/projects/{project}")).await.ok(204);
            gc_twice(&d).await;
        }
    }

    /// Goal: what a pack holds beside what its refs need is not taken in, be it referred to within the pack or not.
    async fn spare_objects(d) {
        let project = d.local_project().await;
        let blob = oid(Kind::Blob, b"named\n");
        let (tip, commit, tree) = commit_of(blob, None);
        let (spare_tip, spare_commit, spare_tree) = commit_of(oid(Kind::Blob, b"spare\n"), Some(&tip));
        let entries = [Entry::Whole(Kind::Blob, b"alone\n"), Entry::Whole(Kind::Commit, &spare_commit), Entry::Whole(Kind::Tree, &spare_tree),
            Entry::Whole(Kind::Blob, b"spare\n"), Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &tree), Entry::Whole(Kind::Blob, b"named\n")];
        let reply = receive_pack(&d, project, [push_head(&[(ZERO, &tip, "refs/heads/main")]), pack(&entries)].concat()).await;
        assert!(reply.text().contains("ok refs/heads/main"), "{}", reply.text());
        let spare = [oid(Kind::Blob, b"alone\n"), oid(Kind::Blob, b"spare\n"), oid(Kind::Tree, &spare_tree)].map(|oid| oid.to_string());
        foreign(&d, project, &[&spare_tip, &spare[0], &spare[1], &spare[2]]).await;
        // Nor does a push rest on it.
        let (_, next, tree) = commit_of(oid(Kind::Blob, b"spare\n"), Some(&tip));
        let next_tip = oid(Kind::Commit, &next).to_string();
        let thin = pack(&[Entry::Whole(Kind::Commit, &next), Entry::Whole(Kind::Tree, &tree)]);
        let reply = receive_pack(&d, project, [push_head(&[(&tip, &next_tip, "refs/heads/main")]), thin].concat()).await;
        assert!(reply.text().contains("ng refs/heads/main missing necessary objects"), "{}", reply.text());
        let expected = [tip, oid(Kind::Tree, &commit_of(blob, None).2).to_string(), blob.to_string()];
        exactly(&d, project, &expected.into_iter().collect()).await;
    }

    /// Goal: a remote that sends more than was asked for harms nobody: what nothing leads to leaves reach before it is collected.
    async fn a_remote_that_sends_too_much(d) {
        d.remote("more", 8);
        let (tip, commit, tree) = commit_of(oid(Kind::Blob, b"asked\n"), None);
        let (_, spare, spare_tree) = commit_of(oid(Kind::Blob, b"not asked\n"), None);
        let entries = [Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &tree), Entry::Whole(Kind::Blob, b"asked\n"),
            Entry::Whole(Kind::Commit, &spare), Entry::Whole(Kind::Tree, &spare_tree), Entry::Whole(Kind::Blob, b"not asked\n")];
        let project = Uuid::new_v4();
        d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": d.git.url("more")}})).await.ok(201);
        let refs = [pkt(format!("{tip} refs/heads/main\n").as_bytes()), FLUSH.to_vec()].concat();
        d.git.fail_next(On::UploadPack, 1, Fault::Lie(Lie::Body(refs)));
        d.git.fail_next(On::UploadPack, 1, Fault::Lie(Lie::Body(fetch_answer(&pack(&entries)))));
        d.post(&format!("/projects/{project}/sync"), json!({"depth": 0})).await.ok(200);
        d.git.heal();
        // The first collection takes it out of reach, the second one and the third give it up.
        gc_twice(&d).await;
        let expected = [tip, oid(Kind::Tree, &tree).to_string(), oid(Kind::Blob, b"asked\n").to_string()].into_iter().collect();
        exactly(&d, project, &expected).await;
    }
}
