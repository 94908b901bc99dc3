//! What other projects have does not exist: every field that takes an oid answers for theirs as for one that nobody has.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use treehold_tests::git_http::{Fault, Lie, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, REMOTE_TOKEN, Reply, blob_oid, json_body};

const SECRET: &str = "the secret that only project A has\n";
/// Long enough that git makes a delta against it.
pub fn long_secret() -> String {
    (0..400).map(|line| format!("secret line {line}\n")).collect()
}

/// Project A and what only it has.
pub struct Foreign {
    pub project: Uuid,
    pub commit: String,
    pub tree: String,
    pub blobs: [String; 3],
}

pub async fn foreign(d: &Deployment) -> Foreign {
    let project = d.local_project().await;
    let actions = json!([{"action": "create", "path": "secret.txt", "content": SECRET},
        {"action": "create", "path": "long.txt", "content": long_secret()}]);
    let author = json!({"name": "A", "email": "a@example.org", "date": "@1700000000 +0000"});
    let body = json!({"message": "Secret plan", "author": author, "actions": actions});
    let made = d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    let pending = "pending secret\n";
    d.put(&format!("/pending/{project}/{}/p.txt", Uuid::new_v4()), pending).await.ok(201);
    let oid = |name: &str| made[name].as_str().expect("an oid").to_owned();
    let blobs = [SECRET, &long_secret(), pending].map(|content| blob_oid(content.as_bytes()));
    Foreign { project, commit: oid("commit"), tree: oid("tree"), blobs }
}

/// An oid that nobody has.
pub fn nobodys() -> String {
    format!("{}{}", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..8])
}

/// Everything that an answer says, with the oid asked for blotted out.
fn said(reply: &Reply, oid: &str) -> (u16, Vec<(String, String)>, String) {
    let told = ["date", "x-request-id"];
    let mut headers: Vec<(String, String)> = reply
        .headers
        .iter()
        .filter(|(name, _)| !told.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).replace(oid, "OID")))
        .collect();
    headers.sort();
    (reply.status, headers, reply.text().replace(oid, "OID"))
}

/// The requests with an oid in each field that takes one, on a project with `main`, `own.txt` and a user's workspace.
fn questions(d: &Deployment, project: Uuid, user: Uuid, oid: &str) -> Vec<reqwest::RequestBuilder> {
    let get = |path: String| d.request("GET", &path);
    let post = |path: String, body: Value| json_body(d.request("POST", &path), &body);
    let put = |path: String, body: Value| json_body(d.request("PUT", &path), &body);
    let p = format!("/projects/{project}");
    let author = json!({"name": "B", "email": "b@example.org"});
    let action = json!([{"action": "update", "path": "own.txt", "content": "x", "expected_oid": oid}]);
    vec![
        get(format!("{p}/git/blobs/{oid}")),
        get(format!("{p}/git/trees/{oid}")),
        get(format!("{p}/git/commits/{oid}")),
        get(format!("{p}/git/blobs/{oid}")).header("Accept", "application/octet-stream"),
        put(format!("{p}/refs/heads/stolen"), json!({"oid": oid})),
        put(format!("{p}/refs/tags/stolen"), json!({"oid": oid})),
        put(format!("{p}/refs/heads/main"), json!({"oid": oid, "force": true})),
        get(format!("/files/{project}?ref={oid}")),
        get(format!("/files/{project}/secret.txt?ref={oid}")),
        get(format!("/files/{project}/own.txt")).header("If-None-Match", format!("\"{oid}\"")),
        get(format!("{p}/log?ref={oid}")),
        get(format!("{p}/diff?from={oid}&to=main")),
        get(format!("{p}/diff?from=main&to={oid}")),
        get(format!("{p}/archive.tar.gz?ref={oid}")),
        post(format!("{p}/read"), json!({"paths": ["secret.txt"], "ref": oid})),
        post(format!("{p}/search"), json!({"query": "secret", "ref": oid})),
        post(format!("{p}/commits"), json!({"message": "m", "author": author, "actions": action})),
        post(format!("{p}/commit"), json!({"user": user, "message": "m", "author": author, "expected_head_sha": oid})),
        d.request("PUT", &format!("/files/{project}/own.txt")).header("If-Match", format!("\"{oid}\"")).body("x"),
        d.request("PUT", &format!("/pending/{project}/{user}/own.txt"))
            .header("If-Match", format!("\"{oid}\""))
            .body("x"),
        // A base that nobody may merge with: what is stored, how it stands, and what a commit makes of it.
        // It would merge, were the base the long secret.
        d.request("PUT", &format!("/pending/{project}/{user}/own.txt?base={oid}"))
            .body(format!("mine\n{}", long_secret())),
        get(format!("{p}/status?user={user}")),
        get(format!("{p}/diff?user={user}")),
        post(format!("{p}/commit"), json!({"user": user, "message": "m", "author": author, "dry_run": true})),
        d.request("DELETE", &format!("/pending/{project}/{user}")),
    ]
}

/// A project of one file, equal to every other one made so.
pub async fn own_project(d: &Deployment) -> Uuid {
    let project = d.local_project().await;
    let author = json!({"name": "B", "email": "b@example.org", "date": "@1700000000 +0000"});
    let actions = json!([{"action": "create", "path": "own.txt", "content": long_secret() + "and mine\n"}]);
    let body = json!({"message": "Own", "author": author, "actions": actions});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    project
}

/// The text with every oid blotted out that stands between these two.
fn blank_oids(text: &str, before: char, after: char) -> String {
    let is_oid = |word: &str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = text.split_inclusive([before, after]);
    words.map(|word| if is_oid(word.trim_end_matches([before, after])) { "OID " } else { word }).collect()
}

/// A cursor of ours with every oid in it replaced.
fn forged(cursor: &str, oids: &[&str]) -> String {
    let mut text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).expect("base64")).expect("UTF-8");
    for oid in oids {
        text = text.replace(oid, &nobodys());
    }
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn pkt(data: &[u8]) -> Vec<u8> {
    [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
}

/// The answer to a fetch: this pack.
pub fn fetch_answer(pack: &[u8]) -> Vec<u8> {
    let mut answer = pkt(b"packfile\n");
    for chunk in pack.chunks(60_000) {
        answer.extend(pkt(&[b"\x01", chunk].concat()));
    }
    answer.extend(b"0000");
    answer
}

/// What a remote sends that knows an oid and wants to be given what it names: the commit it shows, and its pack.
pub fn thefts(scratch: &Repo, victim: [&str; 3], stolen_long: &str) -> Vec<(&'static str, String, Vec<u8>)> {
    let [commit, tree, blob] = victim;
    let who = "A <a@example.org> 1700000000 +0000";
    let raw = |oid: &str| -> Vec<u8> {
        (0..40).step_by(2).map(|at| u8::from_str_radix(&oid[at..at + 2], 16).expect("hex")).collect()
    };
    let tree_of = |mode: &str, name: &str, oid: &str| {
        scratch.hash_object_literally("tree", &[format!("{mode} {name}\0").as_bytes(), &raw(oid)].concat())
    };
    let commit_of = |tree: &str, parent: &str| {
        scratch.hash_object_literally(
            "commit",
            format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\nMine\n").as_bytes(),
        )
    };
    let pack = |oids: &[&str]| {
        let list = oids.join("\n") + "\n";
        scratch
            .git()
            .bytes_with(["pack-objects", "-q", "--stdout"], if oids.is_empty() { b"" } else { list.as_bytes() })
    };
    let own = scratch.hash_object_literally("blob", b"own\n");
    let (with_blob, with_tree, plain) =
        (tree_of("100644", "stolen", blob), tree_of("40000", "stolen", tree), tree_of("100644", "own", &own));
    let (by_blob, by_tree) = (commit_of(&with_blob, ""), commit_of(&with_tree, ""));
    let (by_root, by_parent) = (commit_of(tree, ""), commit_of(&plain, &format!("parent {commit}\n")));
    let mut thefts = vec![
        ("the commit itself", commit.to_owned(), pack(&[])),
        ("a tree that names the blob", by_blob.clone(), pack(&[&by_blob, &with_blob])),
        ("a tree that names the tree", by_tree.clone(), pack(&[&by_tree, &with_tree])),
        ("a commit of the tree", by_root.clone(), pack(&[&by_root])),
        ("a child of the commit", by_parent.clone(), pack(&[&by_parent, &plain, &own])),
    ];
    // A delta against the long secret, which is not sent.
    let base = scratch.hash_object_literally("blob", stolen_long.as_bytes());
    let made = scratch.hash_object_literally("blob", format!("{stolen_long}and more\n").as_bytes());
    let (base_tree, made_tree) = (tree_of("100644", "long", &base), tree_of("100644", "long", &made));
    let (base_commit, made_commit) = (commit_of(&base_tree, ""), commit_of(&made_tree, ""));
    let revs = format!("{made_commit}\n^{base_commit}\n");
    let thin =
        scratch.git().bytes_with(["pack-objects", "-q", "--revs", "--thin", "--shallow", "--stdout"], revs.as_bytes());
    let alone = Repo::init_bare(scratch.path().join("alone"));
    assert!(!alone.git().output_of(["index-pack", "--stdin"], &thin).status.success(), "the pack is not thin");
    thefts.push(("a delta", made_commit, thin));
    thefts
}

both! {
    /// Goal: a foreign oid in any field answers, byte for byte, as one that nobody has.
    async fn by_oid(d) {
        let a = foreign(&d).await;
        let victims = a.blobs.iter().chain([&a.commit, &a.tree]);
        for victim in victims {
            let mut answers = Vec::new();
            for oid in [victim.clone(), nobodys()] {
                let (project, user) = (own_project(&d).await, Uuid::new_v4());
                let mut said_all = Vec::new();
                for question in questions(&d, project, user, &oid) {
                    let reply = d.send(question).await;
                    assert!(reply.status < 500, "{}", reply.text());
                    let (status, headers, body) = said(&reply, &oid);
                    let (project, user) = (project.to_string(), user.to_string());
                    said_all.push((status, headers, body.replace(&project, "PROJECT").replace(&user, "USER")));
                }
                answers.push(said_all);
            }
            let [foreign, random] = [&answers[0], &answers[1]];
            for (at, (foreign, random)) in foreign.iter().zip(random).enumerate() {
                // What a request made anew has its own time.
                let timeless = |text: &str| text.split("\"updated_at\":").map(|part| part.split_once("Z\"").map_or(part, |(_, rest)| rest).to_owned()).collect::<Vec<_>>();
                assert_eq!((foreign.0, &foreign.1, timeless(&foreign.2)), (random.0, &random.1, timeless(&random.2)), "question {at}");
            }
        }
    }

    /// Goal: a cursor of project A tells project B nothing.
    async fn by_cursor(d) {
        let a = foreign(&d).await;
        let more = json!({"message": "More", "author": {"name": "A", "email": "a@example.org"},
            "actions": [{"action": "create", "path": "more.txt", "content": "more"}]});
        let second = d.post(&format!("/projects/{}/commits", a.project), more).await.ok(200)["commit"].clone();
        let second = second.as_str().expect("an oid");
        let b = own_project(&d).await;
        let oids = [a.commit.as_str(), a.tree.as_str(), second, &a.blobs[0], &a.blobs[1]];
        let pages = [
            (format!("/files/{}?limit=1", a.project), format!("/files/{b}?limit=5")),
            (format!("/projects/{}/log?limit=1", a.project), format!("/projects/{b}/log?limit=5")),
        ];
        for (of_a, of_b) in pages {
            let page = d.get(&of_a).await.ok(200);
            let cursor = page["next_cursor"].as_str().expect("a cursor");
            let stolen = d.get(&format!("{of_b}&cursor={cursor}")).await;
            let random = d.get(&format!("{of_b}&cursor={}", forged(cursor, &oids))).await;
            assert_eq!(said(&stolen, ""), said(&random, ""));
            assert!(!stolen.text().contains("Secret") && !stolen.text().contains("secret.txt"), "{}", stolen.text());
        }
        let read = |project: Uuid, cursor: Option<&str>| {
            let mut body = json!({"paths": ["long.txt", "secret.txt"], "max_bytes": 10});
            if let Some(cursor) = cursor {
                body["cursor"] = json!(cursor);
            }
            json_body(d.request("POST", &format!("/projects/{project}/read")), &body)
        };
        let page = d.send(read(a.project, None)).await.ok(200);
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        let stolen = d.send(read(b, Some(cursor))).await;
        let forged = forged(cursor, &oids);
        let random = d.send(read(b, Some(&forged))).await;
        let named = |cursor: &str| {
            let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).expect("base64")).expect("UTF-8");
            let cursor: Value = serde_json::from_str(&text).expect("JSON");
            cursor["commit"].as_str().expect("a commit").to_owned()
        };
        assert_eq!(said(&stolen, &named(cursor)), said(&random, &named(&forged)));
        assert!(!stolen.text().contains("secret line"), "{}", stolen.text());
    }

    /// Goal: what a remote sends may refer only to what came with it: knowing an oid does not bring its content.
    async fn by_sync(d) {
        let a = foreign(&d).await;
        let dir = tempfile::tempdir().expect("a directory");
        let scratch = Repo::init_bare(dir.path().join("scratch"));
        d.remote("evil", 8);
        let unknown = nobodys();
        let other_long: String = (0..400).map(|line| format!("no secret line {line}\n")).collect();
        let foreign = thefts(&scratch, [&a.commit, &a.tree, &a.blobs[0]], &long_secret());
        let random = thefts(&scratch, [&unknown, &unknown, &unknown], &other_long);
        for ((what, tip, pack), (_, random_tip, random_pack)) in foreign.into_iter().zip(random) {
            let mut answers = Vec::new();
            for (tip, pack) in [(tip, pack), (random_tip, random_pack)] {
                let project = Uuid::new_v4();
                d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": d.git.url("evil")}})).await.ok(201);
                let refs = [pkt(format!("{tip} refs/heads/main\n").as_bytes()), b"0000".to_vec()].concat();
                d.git.heal();
                d.git.fail_next(On::UploadPack, 1, Fault::Lie(Lie::Body(refs)));
                d.git.fail_next(On::UploadPack, 1, Fault::Lie(Lie::Body(fetch_answer(&pack))));
                let reply = d.post(&format!("/projects/{project}/sync"), json!({"depth": 0})).await;
                reply.problem(502, "remote_invalid");
                assert_eq!(d.get(&format!("/projects/{project}/refs")).await.ok(200)["refs"], json!([]), "{what}");
                assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], Value::Null, "{what}");
                for oid in a.blobs.iter().chain([&a.tree, &a.commit, &tip]) {
                    for kind in ["blobs", "trees", "commits"] {
                        d.get(&format!("/projects/{project}/git/{kind}/{oid}")).await.problem(404, "not_found");
                    }
                }
                let (status, headers, body) = said(&reply, &tip);
                answers.push((status, headers, blank_oids(&body, ' ', '.')));
            }
            assert_eq!(answers[0], answers[1], "{what}");
        }
        d.git.heal();
    }

    /// Goal: a shallow history ends where it was cut, also where another project has what lies beyond.
    async fn by_shallow_history(d) {
        let a = foreign(&d).await;
        let mut answers = Vec::new();
        for (name, parent) in [("foreign", a.commit.clone()), ("random", nobodys())] {
            let bare = Repo::init_bare(d.remotes.path().join(format!("{name}.git")));
            let root = |content: &str| {
                let blob = bare.hash_object_literally("blob", content.as_bytes());
                let tree = bare.git().run_with(["mktree"], format!("100644 blob {blob}\tsecret.txt\n").as_bytes());
                let raw = format!("tree {tree}\nparent {parent}\nauthor A <a@b> 1700000100 +0000\ncommitter A <a@b> 1700000100 +0000\n\n{content}");
                bare.hash_object_literally("commit", raw.as_bytes())
            };
            let tips = ["one\n", "two\n"].map(root);
            std::fs::write(bare.path().join("shallow"), tips.join("\n") + "\n").expect("a shallow file");
            bare.git().run(["update-ref", "refs/heads/main", &tips[0]]);
            let project = d.connect(name).await;
            let mut told = vec![d.get(&format!("/projects/{project}/log")).await];
            assert_eq!(told[0].ok(200)["commits"].as_array().map(Vec::len), Some(1));
            // An edit of a text that only a commit beyond the cut has at this path.
            let pending = format!("/pending/{project}/{}", Uuid::from_u128(1));
            d.put(&format!("{pending}/secret.txt"), SECRET).await.ok(201);
            d.put(&format!("{pending}/secret.txt?base={}", a.blobs[0]), "mine\n").await.ok(200);
            let author = json!({"name": "B", "email": "b@example.org"});
            let body = json!({"user": Uuid::from_u128(1), "message": "m", "author": author, "on_conflict": "branch", "dry_run": true});
            told.push(d.post(&format!("/projects/{project}/commit"), body).await);
            told[1].problem(409, "conflict");
            d.delete(&pending).await.ok(200);
            let user = Uuid::new_v4();
            d.put(&format!("/files/{project}/own.txt"), "own\n").await;
            bare.git().run(["update-ref", "refs/heads/main", &tips[1]]);
            for on_conflict in ["fail", "merge"] {
                let body = json!({"on_conflict": on_conflict});
                let sync = json_body(d.request("POST", &format!("/projects/{project}/sync")), &body);
                told.push(d.send(sync.header("X-Remote-Token", REMOTE_TOKEN)).await);
            }
            told.push(d.get(&format!("/projects/{project}/status?user={user}")).await);
            told.push(d.get(&format!("/projects/{project}/log")).await);
            for oid in [&parent, &a.tree, &a.blobs[0]] {
                for kind in ["blobs", "trees", "commits"] {
                    told.push(d.get(&format!("/projects/{project}/git/{kind}/{oid}")).await);
                }
            }
            let timeless = |text: String| text.split("\"date\"").map(|part| part.split_once(',').map_or("", |(_, rest)| rest).to_owned()).collect::<Vec<_>>();
            answers.push(told.iter().map(|reply| (reply.status, timeless(blank_oids(&reply.text(), '"', '"')))).collect::<Vec<_>>());
        }
        assert_eq!(answers[0], answers[1]);
    }
}
