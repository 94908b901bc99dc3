//! What other projects have, and what this one no longer has, does not exist for git clients: not by want, have, ref, edge or delta base.
//! Refusals are the same, byte for byte, as for an oid that nobody has. What git's own checks refuse is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use treehold_object::Kind;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::git_raw::*;
use crate::git_tools::*;
use crate::isolation::{foreign, long_secret, nobodys, thefts};

/// A project of some history with a file that changes a little, and a clone of it. Equal to every other one made so.
async fn own(d: &Deployment) -> (Uuid, Clone) {
    let project = d.local_project().await;
    let clone = Clone::empty(false);
    for version in 0..4 {
        clone.commit_file("own.txt", format!("{}and mine {version}\n", long_secret()));
    }
    clone.run(&["push", "--quiet", &url(d, project), "main"]);
    (project, clone)
}

/// The refusal of a want, in v2 and before.
async fn wanted(
    d: &Deployment,
    project: Uuid,
    oid: &str,
) -> Vec<(u16, std::collections::BTreeMap<String, String>, String)> {
    let id = project.to_string();
    let mut told = Vec::new();
    for (version, body) in [
        ("2", fetch_v2(&[oid], &[], &["done"])),
        ("2", fetch_v2(&[oid], &[], &["done", "filter blob:none", "deepen 1"])),
        ("2", fetch_v2(&[oid], &[oid], &[])),
        ("0", fetch_v0(&[oid], &[], "side-band-64k ofs-delta")),
        ("1", fetch_v0(&[oid], &[oid], "multi_ack_detailed side-band-64k no-done")),
    ] {
        let reply = upload_pack(d, project, version, body).await;
        assert!(reply.text().contains("ERR upload-pack: not our ref"), "v{version}: {}", reply.text());
        told.push(said(&reply, &[oid, &id]));
    }
    let sizes = [
        pkt(b"command=object-info"),
        DELIM.to_vec(),
        pkt(b"size"),
        pkt(format!("oid {oid}").as_bytes()),
        FLUSH.to_vec(),
    ]
    .concat();
    told.push(said(&upload_pack(d, project, "2", sizes).await, &[oid, &id]));
    told
}

both! {
    /// Goal: wanting what another project has, of any kind, is answered as wanting what nobody has.
    async fn wants(d) {
        let a = foreign(&d).await;
        let (project, _clone) = own(&d).await;
        let random = wanted(&d, project, &nobodys()).await;
        for oid in a.blobs.iter().chain([&a.commit, &a.tree]) {
            assert_eq!(wanted(&d, project, oid).await, random);
        }
    }

    /// Goal: claiming to have what another project has proves nothing: acknowledgments, boundary and pack are as for an oid that nobody has.
    async fn haves(d) {
        let a = foreign(&d).await;
        let (project, clone) = own(&d).await;
        let (tip, parent) = (clone.rev_parse("main"), clone.rev_parse("main~1"));
        let ask = async |oid: &str| {
            let mut told = Vec::new();
            for (version, body) in [
                ("2", fetch_v2(&[&tip], &[oid], &["thin-pack", "ofs-delta", "no-progress", "done"])),
                ("2", fetch_v2(&[&tip], &[oid, &parent], &["thin-pack", "ofs-delta", "no-progress"])),
                ("2", fetch_v2(&[&tip], &[oid], &["thin-pack", "no-progress", "wait-for-done"])),
                ("2", fetch_v2(&[&tip], &[], &[&format!("shallow {oid}"), "deepen 2", "no-progress", "done"])),
                ("2", fetch_v2(&[&tip], &[oid], &[&format!("shallow {oid}"), "thin-pack", "no-progress", "done"])),
                ("2", fetch_v2(&[&tip], &[], &[&format!("shallow {oid}"), "deepen 2147483647", "no-progress", "done"])),
                ("2", fetch_v2(&[&tip], &[], &[&format!("shallow {oid}"), "deepen 9", "deepen-relative", "no-progress", "done"])),
                ("2", fetch_v2(&[&tip], &[], &[&format!("shallow {oid}"), "deepen-since 1", "no-progress", "done"])),
                ("0", fetch_v0(&[&tip], &[oid, &parent], "multi_ack_detailed side-band-64k thin-pack no-progress")),
                ("0", fetch_v0(&[&tip], &[oid], "side-band-64k thin-pack ofs-delta no-progress")),
            ] {
                let reply = upload_pack(&d, project, version, body).await;
                assert_eq!(reply.status, 200);
                told.push((said(&reply, &[oid]), reply.body));
            }
            told
        };
        let random = ask(&nobodys()).await;
        for oid in a.blobs.iter().chain([&a.commit, &a.tree]) {
            for ((foreign, bytes), (nobody, expected)) in ask(oid).await.iter().zip(&random) {
                assert_eq!(foreign, nobody);
                assert!(bytes == expected || bytes.len() == expected.len());
            }
        }
    }

    /// Goal: a delta goes out only against what the client proved to have by a commit of this project, or gets in the same pack.
    async fn delta_bases(d) {
        let _ = foreign(&d).await;
        let (project, clone) = own(&d).await;
        let tip = clone.rev_parse("main");
        let mut against = 0;
        for back in 1..4 {
            let have = clone.rev_parse(&format!("main~{back}"));
            let listing = clone.run(&["rev-list", "--objects", "--no-object-names", &have]);
            let had: BTreeSet<&str> = listing.lines().collect();
            let sent = clone.run(&["rev-list", "--objects", "--no-object-names", &tip, &format!("^{have}")]);
            for words in [&["thin-pack", "ofs-delta", "done"][..], &["thin-pack", "done"], &["ofs-delta", "done"], &["done"],
                &["thin-pack", "filter blob:none", "done"], &["thin-pack", "ofs-delta", "deepen 1", "done"]] {
                let reply = upload_pack(&d, project, "2", fetch_v2(&[&tip], &[&have, &nobodys()], words)).await;
                let (_, bases) = bases_of(&pack_of(&reply.body));
                let thin = words.contains(&"thin-pack");
                for base in &bases {
                    let (base, sent) = (base.to_string(), sent.as_str());
                    let inside = sent.contains(&base);
                    assert!(inside || (thin && had.contains(base.as_str())), "{words:?}: a delta against {base}");
                }
                against += bases.len();
            }
        }
        assert!(against > 0, "some packs are thin");
        for filter in ["blob:none", "tree:0"] {
            let reply = upload_pack(&d, project, "2", fetch_v2(&[&tip], &[], &["thin-pack", &format!("filter {filter}"), "done"])).await;
            assert!(bases_of(&pack_of(&reply.body)).1.is_empty());
        }
    }

    /// Goal: pushing a ref, an edge or a delta to what another project has is refused as for what nobody has, and gives nothing away.
    async fn pushes(d) {
        let a = foreign(&d).await;
        let dir = tempfile::tempdir().expect("a directory");
        let scratch = Repo::init_bare(dir.path().join("scratch"));
        let unknown = nobodys();
        let other_long: String = (0..400).map(|line| format!("no secret line {line}\n")).collect();
        let stolen = thefts(&scratch, [&a.commit, &a.tree, &a.blobs[0]], &long_secret());
        let random = thefts(&scratch, [&unknown, &unknown, &unknown], &other_long);
        for ((what, tip, pack), (_, random_tip, random_pack)) in stolen.into_iter().zip(random) {
            let mut answers = Vec::new();
            for (tip, pack) in [(tip, pack), (random_tip, random_pack)] {
                let project = d.local_project().await;
                for name in ["refs/heads/stolen", "refs/tags/stolen"] {
                    let reply = receive_pack(&d, project, [push_head(&[(ZERO, &tip, name)]), pack.clone()].concat()).await;
                    assert!(reply.text().contains(&format!("ng {name}")), "{what}: {}", reply.text());
                    // A delta whose base is missing is a broken pack, and says which base.
                    let (status, headers, text) = said(&reply, &[&tip]);
                    let words = text.split([' ', '\n']).map(|word| if word.len() == 40 { "OID" } else { word });
                    answers.push((status, headers, words.collect::<Vec<_>>().join(" ")));
                }
                assert_eq!(api_refs(&d, project).await.len(), 0, "{what}");
                for oid in a.blobs.iter().chain([&a.tree, &a.commit, &tip]) {
                    wanted(&d, project, oid).await;
                }
            }
            assert_eq!(answers[..2], answers[2..], "{what}");
        }
    }

    /// Goal: tags that point at what another project has, and targets of a wrong kind.
    async fn tags(d) {
        let a = foreign(&d).await;
        let mut answers = Vec::new();
        for (commit, blob) in [(a.commit.clone(), a.blobs[0].clone()), (nobodys(), nobodys())] {
            let (project, clone) = own(&d).await;
            let own_blob = clone.rev_parse("main:own.txt");
            for (target, kind) in [(&commit, "commit"), (&blob, "blob"), (&commit, "blob"), (&own_blob, "commit"), (&own_blob, "tree")] {
                let tag = format!("object {target}\ntype {kind}\ntag stolen\ntagger A <a@example.org> 1700000000 +0000\n\nx\n");
                let oid = oid(Kind::Tag, tag.as_bytes()).to_string();
                let body = [push_head(&[(ZERO, &oid, "refs/tags/stolen")]), pack(&[Entry::Whole(Kind::Tag, tag.as_bytes())])].concat();
                let reply = receive_pack(&d, project, body).await;
                assert!(reply.text().contains("ng refs/tags/stolen missing necessary objects"), "{kind}: {}", reply.text());
                answers.push(said(&reply, &[&oid]));
            }
        }
        let half = answers.len() / 2;
        assert_eq!(answers[..half], answers[half..]);
    }

    /// Goal: what a deleted or forced branch had is gone for clients at once, in every version; what others still reach is not.
    async fn after_it_was_taken_back(d) {
        let (project, clone) = own(&d).await;
        let at = url(&d, project);
        clone.run(&["checkout", "--quiet", "-b", "side", "main~2"]);
        let secret = clone.commit_files(&[("password", Some(b"hunter2\n")), ("kept", Some(b"kept\n"))], "Oops");
        clone.run(&["push", "--quiet", &at, "side", "side:forced", "side:refs/tags/oops"]);
        let blob = clone.rev_parse("side:password");
        let kept = clone.rev_parse("main~2");
        clone.run(&["push", "--quiet", &at, ":side"]);
        assert_eq!(upload_pack(&d, project, "2", fetch_v2(&[&blob], &[], &["done"])).await.status, 200);
        Clone::empty(true).run(&["fetch", "--quiet", &at, &blob]);
        clone.run(&["push", "--quiet", &at, ":refs/tags/oops", "+main~1:forced"]);
        let random = wanted(&d, project, &nobodys()).await;
        for oid in [&secret, &blob, &clone.rev_parse("side^{tree}")] {
            assert_eq!(wanted(&d, project, oid).await, random);
            d.get(&format!("/projects/{project}/git/blobs/{oid}")).await.problem(404, "not_found");
        }
        Clone::empty(true).run(&["fetch", "--quiet", &at, &kept]);
        // As a base it does not count either, nor can a ref be set to it again without its objects.
        let reply = receive_pack(&d, project, [push_head(&[(ZERO, &secret, "refs/heads/back")]), pack(&[])].concat()).await;
        assert!(reply.text().contains("ng refs/heads/back missing necessary objects"), "{}", reply.text());
        assert!(!stored(&Clone::of_project(&d, project, "2", &["--mirror"])).contains(&blob));
        clone.run(&["push", "--quiet", &at, "side"]);
        Clone::empty(true).run(&["fetch", "--quiet", &at, &blob]);
    }

    /// Goal: whatever stock git's `receive.fsckObjects` refuses is refused here; the branch stays as it was.
    async fn bad_objects(d) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fixtures/hostile.sh");
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Command::new(script).arg(dir.path()).output().expect("the script runs").status.success());
        let mut sources: Vec<(String, Repo)> = Vec::new();
        for class in ["refused", "carried"] {
            for entry in std::fs::read_dir(dir.path().join(class)).expect("a directory") {
                let path = entry.expect("an entry").path();
                sources.push((format!("{class}/{}", path.file_name().expect("a name").display()), Repo::open(path)));
            }
        }
        sources.extend(crate::git_spoiled::repositories(dir.path()));
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for (name, source) in &sources {
            let judge = Repo::init_bare(dir.path().join("judge").join(name));
            let (tip, pack) = everything(source);
            let lenient = "--strict=badTimezone=ignore,missingSpaceBeforeDate=ignore,zeroPaddedFilemode=ignore";
            let by_git = judge.git().output_of(["index-pack", "--stdin", lenient], &pack);
            let project = d.local_project().await;
            let reply = receive_pack(&d, project, [push_head(&[(ZERO, &tip, "refs/heads/main")]), pack].concat()).await;
            let (by_git, words, refs) = (by_git.status.success(), reply.text(), api_refs(&d, project).await.len());
            assert!(by_git || refs == 0, "{name}: git refuses it, we took it");
            if refs == 1 {
                assert!(words.contains("ok refs/heads/main"), "{name}: {words}");
                assert_eq!(reached(&Clone::of_project(&d, project, "2", &["--mirror"])), reached(source), "{name}");
                taken.push(name.as_str());
            } else {
                assert!(words.contains("ng refs/heads/main") && !words.contains("unpack ok"), "{name}: {words}");
                refused.push((name.as_str(), by_git));
            }
        }
        // What only we refuse: git warns of it.
        let stricter: Vec<&str> = refused.iter().filter(|(_, by_git)| *by_git).map(|(name, _)| *name).collect();
        println!("taken {taken:?}, refused by us alone {stricter:?}");
        assert!(taken.len() >= 6 && refused.len() >= 25, "{taken:?} {refused:?}");
        assert!(taken.contains(&"carried/not-utf-8.git") && taken.contains(&"carried/submodule.git"), "{taken:?}");
    }

    /// Goal: names of refs and people cannot add lines to what others read.
    async fn injected_lines(d) {
        let (project, clone) = own(&d).await;
        let tip = clone.rev_parse("main");
        for name in ["refs/heads/a\nb", "refs/heads/a\rb", "refs/heads/a b", "refs/heads/a\x7fb", "refs/heads/a\x1b[2J", "refs/heads/a\0b"] {
            let body = [push_head(&[(ZERO, &tip, name)]), pack(&[])].concat();
            let reply = receive_pack(&d, project, body).await;
            assert!(!reply.body.contains(&0x1b) && !reply.body.contains(&b'\r'), "{}", reply.text());
        }
        let refs = api_refs(&d, project).await;
        assert!(refs.len() <= 2 && refs.keys().all(|name| name == "refs/heads/main" || name == "refs/heads/a"), "{refs:?}");
        let options = [b"one\ntwo".as_slice(), b"nul\0", b"\x1b[31mred"];
        for option in options {
            let head = pkt(format!("{ZERO} {tip} refs/heads/with-option\0report-status push-options").as_bytes());
            let body = [head, FLUSH.to_vec(), pkt(option), FLUSH.to_vec(), pack(&[])].concat();
            receive_pack(&d, project, body).await;
        }
        assert!(!d.log().contains("\x1b[31m"), "the log is not written by clients");
        for header in ["version=2\u{7f}", "version=2:x=\u{1b}"] {
            let raw = crate::probe::raw_head(&d, "GET", &format!("/git/{project}.git/info/refs?service=git-upload-pack"),
                &format!("Git-Protocol: {header}\r\nAuthorization: Basic {}\r\n", basic()), b"").await;
            assert!([200, 400].contains(&raw.status), "{}", raw.text());
        }
        let list = json!(d.get(&format!("/projects/{project}/log")).await.ok(200)["commits"].as_array().map(Vec::len));
        assert_eq!(list, json!(4));
    }
}

/// What `main` names, and a pack of everything that is stored.
fn everything(source: &Repo) -> (String, Vec<u8>) {
    let listing = source.git().run(["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]);
    let object = |line: &str| {
        let (kind, oid) = line.split_once(' ').expect("type and oid");
        (Kind::from_bytes(kind.as_bytes()).expect("a type"), source.git().bytes(["cat-file", kind, oid]))
    };
    let objects: Vec<(Kind, Vec<u8>)> = listing.lines().map(object).collect();
    let entries: Vec<Entry<'_>> = objects.iter().map(|(kind, content)| Entry::Whole(*kind, content)).collect();
    let tip = std::fs::read_to_string(source.path().join("refs/heads/main")).expect("a loose ref");
    (tip.trim().to_owned(), pack(&entries))
}

/// The key as Basic credentials.
fn basic() -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(format!("git:{}", crate::deployment::API_KEY))
}
