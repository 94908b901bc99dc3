//! Stock git clones and fetches, in every version of the protocol; what it gets is compared with what it gets from stock git, oid by
//! oid.

use serde_json::json;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::git_tools::*;
use crate::remote_tools::{author, head, small_remote};

/// A repository with everything that git can hold: the sample, tags of every kind of object, a pointer of git-lfs, notes.
fn source(seed: u64) -> Clone {
    let source = Clone::empty(true);
    source.git().run_with(["fast-import", "--quiet"], &treehold_tests::sample::fast_import_stream(seed));
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "ab".repeat(32));
    let import = format!(
        "commit refs/heads/lfs\ncommitter C <c@example.org> 1700080000 +0000\ndata 4\nlfs\nfrom refs/heads/main^0\n\
         M 100644 inline big.psd\ndata {}\n{pointer}\n",
        pointer.len()
    );
    source.git().run_with(["fast-import", "--quiet"], import.as_bytes());
    let tags = [("v1-again", "v1.0"), ("a-tree", "main:docs"), ("a-blob", "main:empty"), ("early", "main~20")];
    for (name, target) in tags {
        source.run(&["tag", "-a", "-m", name, name, target]);
    }
    source.run(&["tag", "-a", "-m", "thrice", "v1-thrice", "v1-again"]);
    source.run(&["tag", "light-blob", "main:empty"]);
    source.run(&["notes", "add", "-m", "a note", "main"]);
    source
}

/// What stock git serves, for comparison.
fn origin(source: &Repo) -> String {
    for name in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"] {
        source.git().run(["config", name, "true"]);
    }
    format!("file://{}", source.path().display())
}

/// Does the same in a clone of ours and in one of stock git's, and compares what there is afterwards.
struct Twins {
    ours: Clone,
    stock: Clone,
}

impl Twins {
    fn clone(d: &Deployment, project: Uuid, origin: &str, version: &'static str, options: &[&str]) -> Twins {
        let ours = Clone::of_project(d, project, version, options);
        let stock = Clone::of(origin, version, options);
        let twins = Twins { ours, stock };
        twins.compare(&format!("clone {options:?} v{version}"));
        twins
    }

    fn run(&self, arguments: &[&str]) {
        self.ours.run(arguments);
        self.stock.run(arguments);
        self.compare(&format!("{arguments:?} v{}", self.ours.run(&["config", "protocol.version"])));
    }

    #[track_caller]
    fn compare(&self, what: &str) {
        assert_eq!(self.ours.refs(), self.stock.refs(), "{what}");
        assert_eq!(boundary(&self.ours), boundary(&self.stock), "{what}");
        let (ours, stock) = (left_out(&self.ours), left_out(&self.stock));
        let only: Vec<_> = ours.symmetric_difference(&stock).take(20).collect();
        assert!(only.is_empty(), "{what}: left out by one alone: {only:?}");
        if ours.is_empty() {
            assert_eq!(reached(&self.ours), reached(&self.stock), "{what}");
        }
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ours.fsck_strict();
        }
    }
}

both! {
    /// Goal: whole clones have every ref and every object, verbatim, whichever way they are asked for; what is listed is what is there.
    async fn whole(d) {
        let source = source(11);
        let project = pushed(&d, &source).await;
        same_as(&d, project, &source).await;
        let origin = origin(&source);
        for version in VERSIONS {
            for options in [&["--mirror"][..], &["--bare"], &["--no-checkout"], &["--single-branch", "--branch", "lfs", "--no-checkout"],
                &["--branch", "v1.0", "--no-checkout"], &["--no-tags", "--no-checkout"]] {
                Twins::clone(&d, project, &origin, version, options);
            }
            let clone = Clone::of_project(&d, project, version, &["--mirror"]);
            let of_stock = Clone::of(&origin, version, &["--mirror"]);
            assert_eq!(stored(&clone), stored(&source));
            for arguments in [&["ls-remote"][..], &["ls-remote", "--symref"], &["ls-remote", "--heads"], &["ls-remote", "--tags", "--refs"],
                &["ls-remote", "--symref", "origin", "HEAD"], &["ls-remote", "origin", "refs/tags/v1*", "lfs"],
                &["ls-remote", "--exit-code", "origin", "main"]] {
                assert_eq!(clone.run(arguments), of_stock.run(arguments), "{arguments:?} v{version}");
            }
            let checkout = Clone::of_project(&d, project, version, &["--branch", "lfs"]);
            assert_eq!(checkout.run(&["status", "--porcelain"]), "");
            let (before, objects) = (checkout.refs(), stored(&checkout));
            checkout.run(&["fetch"]);
            assert_eq!((checkout.refs(), stored(&checkout)), (before, objects), "nothing new");
        }
    }

    /// Goal: who wants one branch is not sent what only others have, where that is much: a branch of one large commit, a large blob that is
    /// tagged, alone and in a tree.
    async fn one_branch_of_many(d) {
        let source = Clone::empty(false);
        for number in 0..40 {
            source.commit_file("text", format!("{number}\n"));
        }
        source.run(&["branch", "near", "main~2"]);
        let noise = || { let mut noise = vec![0; 3 << 20]; rand::fill(&mut noise[..]); noise };
        source.run(&["checkout", "--quiet", "--orphan", "large"]);
        source.run(&["rm", "-rf", "--quiet", "."]);
        source.commit_file("large", noise());
        let mut large = vec![source.rev_parse("large:large")];
        source.run(&["checkout", "--quiet", "main"]);
        for name in ["blob", "tree"] {
            let blob = source.git().run_with(["hash-object", "-w", "--stdin"], &noise());
            let target = match name {
                "tree" => source.git().run_with(["mktree"], format!("100644 blob {blob}\tlarge\n").as_bytes()),
                _ => blob.clone(),
            };
            source.run(&["tag", name, &target]);
            source.run(&["tag", "-a", "-m", "annotated", &format!("{name}-annotated"), &target]);
            large.push(blob);
        }
        let stored_of = |project: Uuid, version, options: &[&str]| {
            let clone = Clone::of_project(&d, project, version, &[&["--bare"], options].concat());
            clone.fsck_strict();
            let stored = stored(&clone);
            assert!(stored.is_superset(&reached(&clone)));
            large.iter().map(|oid| stored.contains(oid)).collect::<Vec<_>>()
        };
        let project = d.local_project().await;
        source.run(&["push", "--quiet", &url(&d, project), "--all"]);
        for version in VERSIONS {
            assert_eq!(stored_of(project, version, &["--single-branch", "--branch=main"]), [false, false, false]);
            assert_eq!(stored_of(project, version, &[]), [true, false, false]);
        }
        source.run(&["push", "--quiet", &url(&d, project), "--tags"]);
        for version in VERSIONS {
            assert_eq!(stored_of(project, version, &["--single-branch", "--branch=main", "--no-tags"]), [false, false, false]);
            assert_eq!(stored_of(project, version, &["--single-branch", "--branch=large", "--no-tags"]), [true, false, false]);
            assert_eq!(stored_of(project, version, &["--no-tags"]), [true, false, false]);
            assert_eq!(stored_of(project, version, &[]), [true, true, true]);
        }
    }

    /// Goal: what is new comes by fetch and pull, as little as that is; what is gone is pruned; any reachable oid can be fetched.
    async fn following(d) {
        let source = source(12);
        let project = pushed(&d, &source).await;
        let clones: Vec<Clone> = VERSIONS.into_iter().map(|version| Clone::of_project(&d, project, version, &[])).collect();
        let actions = json!([{"action": "create", "path": "from/the/api.txt", "content": "by HTTP\n"},
            {"action": "update", "path": "empty", "content": "no longer\n"}]);
        let made = d.post(&format!("/projects/{project}/commits"), json!({"message": "By HTTP", "author": author(), "actions": actions}))
            .await.ok(200)["commit"].clone();
        for clone in &clones {
            clone.run(&["pull", "--quiet", "--ff-only"]);
            assert_eq!(json!(clone.rev_parse("HEAD")), made);
            assert_eq!(clone.cat_file("HEAD:from/the/api.txt"), b"by HTTP\n");
            clone.fsck_strict();
        }
        // Others push a branch, a tag on it, and delete and move others.
        let writer = Clone::of_project(&d, project, "2", &[]);
        writer.commit_file("tagged", "tagged\n");
        writer.run(&["tag", "-a", "-m", "new", "v2"]);
        writer.commit_file("more", "more\n");
        writer.run(&["push", "--quiet", "origin", "HEAD:main", "v2", "main~5:refs/heads/aside", ":lfs", "+v1.0^{commit}:refs/tags/light"]);
        for clone in &clones {
            let before = stored(clone);
            clone.run(&["fetch", "--quiet", "--prune"]);
            assert_eq!(clone.rev_parse("refs/tags/v2"), writer.rev_parse("v2"), "tags come with what they point at");
            assert_eq!(clone.rev_parse("origin/aside"), writer.rev_parse("main~5"));
            assert!(!clone.refs().contains_key("refs/remotes/origin/lfs"));
            let gained: Vec<_> = stored(clone).difference(&before).cloned().collect();
            assert!((7..=8).contains(&gained.len()), "two commits, two trees, two blobs, the tag: {gained:?}");
            clone.fsck_strict();
        }
        for (version, clone) in VERSIONS.into_iter().zip(&clones) {
            let bare = Clone::empty(true);
            let inside = [writer.rev_parse("main~3"), writer.rev_parse("main~1^{tree}"), writer.rev_parse("main:tagged"), writer.rev_parse("v2")];
            for oid in &inside {
                bare.git().clone().config("protocol.version", version).run(["fetch", "--quiet", &url(&d, project), oid]);
                assert_eq!(bare.rev_parse("FETCH_HEAD"), *oid);
                bare.run(&["cat-file", "-e", oid]);
            }
            clone.refused(&["fetch", &url(&d, project), &"ab".repeat(20)], "not our ref");
        }
    }

    /// Goal: shallow clones and every way to deepen them end where stock git ends them.
    async fn shallow(d) {
        let source = source(13);
        let project = pushed(&d, &source).await;
        let origin = origin(&source);
        let since = format!("--shallow-since={}", source.run(&["log", "-1", "--format=%ct", "main~9"]));
        for (at, options) in [&["--depth=1"][..], &["--depth=3", "--no-single-branch"], &[&since], &[&since, "--no-single-branch"],
                &["--shallow-exclude=early", "--no-single-branch"], &["--depth=2", "--branch=v1.0"], &["--depth=1000"], &["--depth=1", "--mirror"]].into_iter().enumerate() {
            let version = VERSIONS[at % 3];
            let bare: &[&str] = if options.contains(&"--mirror") { &[] } else { &["--no-checkout"] };
            let twins = Twins::clone(&d, project, &origin, version, &[options, bare].concat());
            if options.contains(&"--depth=1000") {
                continue;
            }
            let steps = ["--deepen=2", "--depth=4", "--depth=2", "--shallow-exclude=early", &since];
            // All of them in a row once, then some of them.
            for (step, how) in steps.into_iter().enumerate() {
                if at == 0 || (step + at) % 3 == 0 {
                    twins.run(&["fetch", "--quiet", how]);
                }
            }
            twins.run(&["fetch", "--quiet", "--unshallow"]);
            assert_eq!(boundary(&twins.ours), std::collections::BTreeSet::new());
        }
        let words = Clone::empty(true).refused(&["fetch", "--shallow-exclude=nothing", &url(&d, project), "main"], "nothing");
        assert!(words.contains("not a ref"), "{words}");
        Clone::empty(true).refused(&["fetch", "--shallow-since=2100-01-01", &url(&d, project), "main"], "no commits selected");
    }

    /// Goal: of a project whose own history is cut off, too, what one branch leads to can be left out of another one.
    async fn one_branch_without_another(d) {
        small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let start = head(&d, project).await;
        let new = json!({"oid": start, "expected_oid": "0".repeat(40)});
        d.put_json(&format!("/projects/{project}/refs/heads/side"), new).await.ok(201);
        for branch in ["main", "side"] {
            let actions = json!([{"action": "create", "path": format!("{branch}.txt"), "content": "x"}]);
            let body = json!({"message": branch, "author": author(), "branch": branch, "push": false, "actions": actions});
            d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
        }
        for version in VERSIONS {
            let clone = Clone::empty(true);
            let git = clone.git().clone().config("protocol.version", version);
            git.run(["fetch", "--quiet", "--shallow-exclude=side", &url(&d, project), "main"]);
            assert_eq!(git.run(["log", "--format=%s", "FETCH_HEAD"]), "main", "v{version}");
        }
    }

    /// Goal: who has one branch of a project whose history is cut off gets of another one what is new, also from a server that has looked at
    /// neither. Method: so long a branch that git does not tell of the commit that both branches stand on.
    async fn one_branch_after_another(deployment) {
        let mut d = deployment;
        small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let start = head(&d, project).await;
        let new = json!({"oid": start, "expected_oid": "0".repeat(40)});
        d.put_json(&format!("/projects/{project}/refs/heads/side"), new).await.ok(201);
        for n in 0..40 {
            create(&d, project, "main", n).await;
        }
        for (n, version) in VERSIONS.into_iter().enumerate() {
            let clone = Clone::of_project(&d, project, version, &["--bare", "--single-branch", "--branch=main"]);
            create(&d, project, "side", n).await;
            d.kill();
            d.up().await;
            let packed = || {
                let counts = clone.run(&["count-objects", "-v"]);
                let packed = counts.lines().find_map(|line| line.strip_prefix("in-pack: ")).expect("a count");
                packed.parse::<usize>().expect("a number")
            };
            let before = packed();
            clone.run(&["-c", "fetch.unpackLimit=1", "fetch", "--quiet", &url(&d, project), "side"]);
            // A commit, its tree and its file, at most three times, and what git adds as they are deltas of it: not a branch of 40 commits.
            let brought = packed() - before;
            assert!((3..=15).contains(&brought), "v{version}: {brought}");
        }
    }

    /// Goal: partial clones lack exactly what the filter leaves out, and get it when they need it.
    async fn partial(d) {
        let source = source(14);
        // Git counts depths from a tree that is asked for by name in a way of its own.
        source.run(&["tag", "-d", "a-tree"]);
        let project = pushed(&d, &source).await;
        let origin = origin(&source);
        for (at, filter) in ["blob:none", "blob:limit=1k", "blob:limit=0", "tree:0", "tree:1", "tree:3", "combine:blob:none+tree:2",
            "combine:tree:3+blob:limit=100", "object:type=commit", "object:type=tree", "object:type=blob", "object:type=tag"].into_iter().enumerate() {
            let version = VERSIONS[at % 3];
            let twins = Twins::clone(&d, project, &origin, version, &["--mirror", &format!("--filter={filter}")]);
            assert!(!left_out(&twins.ours).is_empty(), "{filter} left nothing out");
            if at >= 8 {
                Twins::clone(&d, project, &origin, version, &["--bare", "--depth=3", &format!("--filter={filter}")]);
                continue;
            }
            let clone = Clone::of_project(&d, project, version, &[&format!("--filter={filter}"), "--depth=2"]);
            assert_eq!(clone.run(&["status", "--porcelain"]), "", "{filter}: the work tree was fetched");
            clone.fsck_strict();
            let clone = Clone::of_project(&d, project, version, &[&format!("--filter={filter}"), "--no-checkout"]);
            // Fetches them as it meets them.
            let log = clone.run(&["log", "--stat", "--format=%H", "-3", "main"]);
            assert_eq!(log, source.run(&["log", "--stat", "--format=%H", "-3", "main"]), "{filter}");
            clone.run(&["fetch", "--quiet", "--refetch", "--no-filter"]);
            assert_eq!(reached(&clone), reached(&Clone::of(&origin, version, &["--no-checkout"])), "{filter}");
        }
        Clone::empty(true).refused(&["fetch", "--filter=sparse:oid=main", &url(&d, project), "main"], "sparse:oid");
    }

    /// Goal: a clone that left things out follows a branch that others move.
    async fn partial_and_moving(d) {
        let source = source(15);
        let project = pushed(&d, &source).await;
        let writer = Clone::of_project(&d, project, "2", &[]);
        for filter in ["blob:none", "tree:0", "blob:limit=200"] {
            let clone = Clone::of_project(&d, project, "2", &[&format!("--filter={filter}")]);
            for step in 0..3 {
                writer.commit_files(&[("big", Some("x".repeat(300 + step).as_bytes())), ("dir/small", Some(format!("{filter}{step}").as_bytes()))], "Move");
                writer.run(&["push", "--quiet"]);
                clone.run(&["pull", "--quiet"]);
                assert_eq!(clone.run(&["status", "--porcelain"]), "");
                assert_eq!(clone.rev_parse("HEAD"), writer.rev_parse("HEAD"));
                clone.commit_file(&format!("by-{}", filter.replace(':', "-")), step.to_string());
                clone.run(&["push", "--quiet"]);
                writer.run(&["pull", "--quiet"]);
            }
            clone.fsck_strict();
        }
        writer.fsck_strict();
    }

    /// Goal: an empty project is cloned with its unborn branch, and takes the first push.
    async fn empty(d) {
        for version in VERSIONS {
            let project = d.local_project().await;
            let clone = Clone::of_project(&d, project, version, &[]);
            assert_eq!(clone.refs().len(), 0);
            assert_eq!(clone.run(&["symbolic-ref", "HEAD"]), "refs/heads/main");
            let commit = clone.commit_file("first", "first\n");
            clone.run(&["push", "--quiet", "origin", "HEAD"]);
            assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], json!(commit));
            same_as(&d, project, &Clone::of_project(&d, project, version, &["--mirror"])).await;
        }
        let named = Uuid::new_v4();
        d.put_json(&format!("/projects/{named}"), json!({"default_branch": "trunk"})).await.ok(201);
        assert_eq!(Clone::of_project(&d, named, "2", &[]).run(&["symbolic-ref", "HEAD"]), "refs/heads/trunk");
    }

    /// Goal: a project whose history was cut off is cloned as a correct shallow repository, and follows when the rest comes.
    async fn a_shallow_project(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        // (Not with a filter alone: then git fetches the missing parents from within itself, for ever, from stock git as from us.)
        for version in VERSIONS {
            for options in [&["--mirror"][..], &["--depth=1"], &["--depth=5"]] {
                let clone = Clone::of_project(&d, project, version, options);
                assert_eq!(clone.rev_parse("HEAD"), remote.head());
                assert_eq!(boundary(&clone).len(), 1, "{options:?} v{version}");
                assert_eq!(clone.run(&["rev-list", "--count", "HEAD"]), "1");
                clone.fsck_strict();
            }
        }
        let clones: Vec<Clone> = VERSIONS.into_iter().map(|version| Clone::of_project(&d, project, version, &[])).collect();
        for (at, clone) in clones.iter().enumerate() {
            clone.commit_file(&format!("new-{at}"), "new\n");
            clone.run(&["pull", "--quiet", "--rebase"]);
            clone.run(&["push", "--quiet"]);
            clone.fsck_strict();
        }
        // The project keeps its boundary, whatever clients ask for.
        for clone in &clones {
            clone.run(&["fetch", "--quiet", "--unshallow"]);
            assert_eq!(boundary(clone).len(), 1);
            assert_eq!(clone.run(&["rev-list", "--count", "origin/main"]), "4");
            clone.fsck_strict();
        }
    }

    /// Goal: the same comes out of a store that was repacked, of many small pushes, in every version.
    async fn repacked(d) {
        let source = Clone::empty(true);
        let mut stream = String::new();
        for number in 1..=1500 {
            stream.push_str(&format!("commit refs/heads/main\nmark :{number}\ncommitter C <c@example.org> {} +0000\ndata 2\nx\n", 1_700_000_000 + number));
            if number > 1 {
                stream.push_str(&format!("from :{}\n", number - 1));
            }
            for file in 0..3 {
                let text = format!("{}\n", number * 31 + file).repeat(20);
                stream.push_str(&format!("M 100644 inline d{}/e{}/f{file}\ndata {}\n{text}\n", number % 7, number % 5, text.len()));
            }
        }
        source.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
        let project = d.local_project().await;
        for back in [1400, 1000, 990, 400, 10, 3, 0] {
            source.run(&["push", "--quiet", &url(&d, project), &format!("main~{back}:refs/heads/main")]);
        }
        let half = Clone::of_project(&d, project, "2", &["--depth=700"]);
        for _ in 0..2 {
            let packed = d.cli(&["admin", "repack"]).await;
            assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
            for version in VERSIONS {
                let clone = Clone::of_project(&d, project, version, &["--mirror"]);
                assert_eq!(stored(&clone), stored(&source));
                clone.fsck_strict();
            }
        }
        half.run(&["fetch", "--quiet", "--unshallow"]);
        assert_eq!(reached(&half), reached(&source));
    }
}

/// A commit of a new file.
async fn create(d: &Deployment, project: Uuid, branch: &str, n: usize) {
    let actions = json!([{"action": "create", "path": format!("{branch}{n}"), "content": branch}]);
    let body = json!({"message": branch, "author": author(), "branch": branch, "push": false, "actions": actions});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
}
