//! Cases of git's own test suite (the t55xx and t57xx families), told anew with stock git against the server. Each names the file from
//! which it is taken. Where git's answer is not obvious, stock git serves the same to a twin.

use std::collections::BTreeSet;

use serde_json::json;
use treehold_object::Kind;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::git_raw::*;
use crate::git_tools::*;
use crate::remote_tools::small_remote;

/// A project of ten commits on `main`, its first push, and a clone of it.
async fn ten(d: &Deployment, version: &'static str) -> (Uuid, Clone) {
    let project = d.local_project().await;
    let clone = Clone::of_project(d, project, version, &[]);
    for number in 1..=10 {
        clone.commit_files(
            &[("file", Some(format!("{number}\n").as_bytes())), (&format!("dir/{number}"), Some(b"x\n"))],
            &number.to_string(),
        );
    }
    clone.run(&["push", "--quiet", "-u", "origin", "main"]);
    (project, clone)
}

/// Subjects of what a ref reaches.
fn subjects(repo: &Clone, of: &str) -> Vec<String> {
    repo.run(&["log", "--format=%s", of]).lines().map(str::to_owned).collect()
}

/// What stock `git upload-pack` answers to one request of v2.
fn stock_answer(repo: &Repo, request: &[u8]) -> (bool, Vec<u8>) {
    let git = repo.git().clone().env("GIT_PROTOCOL", "version=2").config("transfer.advertiseObjectInfo", "true");
    let output = git.output_of(["upload-pack", "--stateless-rpc", "."], request);
    (output.status.success(), output.stdout)
}

fn command(name: &str, arguments: &[&str]) -> Vec<u8> {
    let lines = arguments.iter().flat_map(|line| pkt(format!("{line}\n").as_bytes()));
    let head = [pkt(format!("command={name}\n").as_bytes()), pkt(b"object-format=sha1\n"), DELIM.to_vec()].concat();
    [head, lines.collect(), FLUSH.to_vec()].concat()
}

both! {
    /// t5500-fetch-pack: a shallow clone is deepened step by step, in no step gets what it has, and tags beyond its end do no harm.
    async fn t5500_fetch_pack(d) {
        for version in VERSIONS {
            let (project, source) = ten(&d, version).await;
            source.run(&["tag", "-a", "-m", "old", "old", "main~8"]);
            source.run(&["tag", "-a", "-m", "new", "new", "main"]);
            source.run(&["push", "--quiet", "origin", "--tags", "main~3:refs/heads/three"]);
            let shallow = Clone::of_project(&d, project, version, &["--depth=2"]);
            assert_eq!(subjects(&shallow, "HEAD"), ["10", "9"]);
            shallow.run(&["fetch", "--quiet", "--depth=2"]);
            assert_eq!(subjects(&shallow, "HEAD"), ["10", "9"], "the same depth again changes nothing");
            shallow.run(&["fetch", "--quiet", "--tags"]);
            assert_eq!(shallow.run(&["cat-file", "-t", "old"]), "tag");
            shallow.fsck_strict();
            // A branch that the shallow clone does not follow comes with its own depth.
            shallow.run(&["fetch", "--quiet", "--depth=1", "origin", "three:refs/remotes/origin/three"]);
            assert_eq!(subjects(&shallow, "origin/three"), ["7"]);
            shallow.run(&["fetch", "--quiet", "--deepen=1", "origin", "main"]);
            shallow.fsck_strict();
            shallow.run(&["fetch", "--quiet", "--shallow-since=@0 +0000", "origin", "main"]);
            assert_eq!(subjects(&shallow, "origin/main").len(), 10);
            shallow.fsck_strict();
            assert_eq!(boundary(&shallow), BTreeSet::new());
            shallow.refused(&["fetch", "--unshallow"], "complete repository");
            // Many refs on standard input, some of them twice.
            let bare = Clone::empty(true);
            let list = "refs/heads/main:refs/heads/a\nrefs/heads/three:refs/heads/b\nrefs/heads/main:refs/heads/a\nrefs/tags/new:refs/tags/new\n";
            bare.client().config("protocol.version", version).run_with(["fetch", "--quiet", "--no-tags", "--stdin", &url(&d, project)], list.as_bytes());
            assert_eq!(bare.refs().keys().collect::<Vec<_>>(), ["refs/heads/a", "refs/heads/b", "refs/tags/new"]);
            // From a clone whose tip the server never had.
            let local = Clone::of_project(&d, project, version, &["--depth=1"]);
            local.commit_file("mine", "mine\n");
            source.commit_file("theirs", "theirs\n");
            source.run(&["push", "--quiet"]);
            local.run(&["fetch", "--quiet"]);
            assert_eq!(subjects(&local, "origin/main").len(), 2);
            local.fsck_strict();
        }
    }

    /// t5510-fetch: pruning, also where a branch makes room for a directory of branches and back; all refs or none; named tips.
    async fn t5510_fetch(d) {
        for version in VERSIONS {
            let (project, source) = ten(&d, version).await;
            source.run(&["push", "--quiet", "origin", "main:dir", "main~1:refs/heads/gone", "main:refs/tags/gone"]);
            let clone = Clone::of_project(&d, project, version, &[]);
            source.run(&["push", "--quiet", "origin", ":dir", ":refs/heads/gone", ":refs/tags/gone", "main~2:refs/heads/dir/file"]);
            clone.refused(&["fetch", "--quiet"], "refs/remotes/origin/dir");
            clone.run(&["fetch", "--quiet", "--prune"]);
            assert!(clone.refs().contains_key("refs/remotes/origin/dir/file"));
            assert!(!clone.refs().contains_key("refs/remotes/origin/gone"));
            assert!(clone.refs().contains_key("refs/tags/gone"), "tags stay");
            clone.run(&["fetch", "--quiet", "--prune", "--prune-tags"]);
            assert!(!clone.refs().contains_key("refs/tags/gone"));
            // Pruning goes by the refspec on the command line.
            clone.run(&["update-ref", "refs/remotes/origin/extra", "main"]);
            clone.run(&["fetch", "--quiet", "--prune", "origin", "refs/heads/dir/*:refs/remotes/origin/dir/*"]);
            assert!(clone.refs().contains_key("refs/remotes/origin/extra"));
            // Of an atomic fetch that has to refuse one ref no other moves.
            source.commit_file("more", "more\n");
            source.run(&["push", "--quiet", "origin", "main", "+main~5:refs/heads/dir/file"]);
            let before = clone.refs();
            let both = ["refs/heads/main:refs/remotes/origin/main", "refs/heads/dir/file:refs/remotes/origin/dir/file"];
            clone.refused(&[&["fetch", "--atomic", "origin"][..], &both].concat(), "non-fast-forward");
            assert_eq!(clone.refs(), before);
            clone.run(&["fetch", "--quiet", "--atomic"]);
            assert_eq!(clone.rev_parse("origin/main"), source.rev_parse("main"));
            // Nothing is stored for a dry run's refs; negotiation from one tip alone works.
            source.commit_file("again", "again\n");
            source.run(&["push", "--quiet"]);
            let before = clone.refs();
            clone.run(&["fetch", "--quiet", "--dry-run"]);
            assert_eq!(clone.refs(), before);
            clone.run(&["fetch", "--quiet", "--negotiation-tip=main~4", "origin"]);
            assert_eq!(clone.rev_parse("origin/main"), source.rev_parse("main"));
            clone.fsck_strict();
        }
    }

    /// t5516-fetch-push: refspecs of every kind, leases that do not hold, what is pruned, what a dry run does, and what is told.
    async fn t5516_push_rules(d) {
        let (project, clone) = ten(&d, "2").await;
        let refs = async || api_refs(&d, project).await.into_keys().collect::<Vec<_>>();
        clone.run(&["push", "--quiet", "origin", "main~1:refs/heads/one", "main~2:refs/heads/two", "HEAD"]);
        assert_eq!(refs().await, ["refs/heads/main", "refs/heads/one", "refs/heads/two"]);
        // A lease on what the ref is not any more.
        let other = Clone::of_project(&d, project, "2", &[]);
        other.run(&["push", "--quiet", "--force", "origin", "main~3:one"]);
        clone.refused(&["push", "--force-with-lease=one:main~1", "origin", "main~4:one"], "stale info");
        clone.refused(&["push", "--force-with-lease=new:main", "origin", "main:new"], "stale info");
        clone.run(&["push", "--quiet", "--force-with-lease=new:", "origin", "main:new"]);
        clone.run(&["push", "--quiet", "--force-with-lease=one:main~3", "origin", "main~4:one"]);
        // Matching branches, and all that match a pattern; a dry run moves nothing.
        clone.run(&["branch", "one", "main~4"]);
        clone.run(&["checkout", "--quiet", "one"]);
        clone.commit_file("one", "one\n");
        let before = api_refs(&d, project).await;
        clone.run(&["push", "--quiet", "--dry-run", "origin", ":"]);
        assert_eq!(api_refs(&d, project).await, before);
        clone.run(&["push", "--quiet", "origin", ":"]);
        assert_eq!(api_refs(&d, project).await["refs/heads/one"], clone.rev_parse("one"));
        clone.run(&["push", "--quiet", "--no-thin", "origin", "refs/heads/*:refs/heads/copy/*"]);
        assert_eq!(refs().await.iter().filter(|name| name.starts_with("refs/heads/copy/")).count(), 2);
        // What has no local branch goes, within the pattern.
        clone.run(&["branch", "-D", "main"]);
        clone.run(&["push", "--quiet", "--prune", "origin", "refs/heads/*:refs/heads/copy/*"]);
        assert_eq!(refs().await, ["refs/heads/copy/one", "refs/heads/main", "refs/heads/new", "refs/heads/one", "refs/heads/two"]);
        clone.run(&["push", "--quiet", "--delete", "origin", "copy/one", "new"]);
        let (done, told) = clone.tell(&["push", "--delete", "origin", "never-there"]);
        assert!(!done && told.contains("remote ref does not exist"), "{told}");
        // What scripts read.
        let told = clone.client().output(["push", "--porcelain", "origin", "+main~0:two", "one:refs/heads/three", "one:refs/pull/1/head"]);
        assert!(!told.status.success(), "main is no name here");
        let told = clone.client().output(["push", "--porcelain", "origin", "+one:two", "one:refs/heads/three", "one:refs/pull/1/head"]);
        let lines = String::from_utf8(told.stdout).expect("text");
        let line = |from: &str| lines.lines().find(|line| line.contains(from)).unwrap_or_else(|| panic!("{lines}")).to_owned();
        assert!(line(":refs/heads/three").starts_with("*\t") && line(":refs/heads/two").starts_with('+'), "{lines}");
        assert!(line(":refs/pull/1/head").starts_with("!\t") && lines.contains("[remote rejected]"), "{lines}");
    }

    /// t5537-fetch-shallow: clones of a project whose own history is cut off, and what they take over of its end.
    async fn t5537_fetch_shallow(d) {
        small_remote(&d, "cut");
        let project = d.connect("cut").await;
        for (commits, version) in (1..).zip(VERSIONS) {
            let clone = Clone::of_project(&d, project, version, &[]);
            assert_eq!((boundary(&clone).len(), clone.run(&["rev-list", "--count", "HEAD"])), (1, commits.to_string()));
            clone.fsck_strict();
            // Who has a history of its own takes the cut one only if it says that it wants to.
            let own = Clone::empty(false);
            own.commit_file("own", "own\n");
            let client = own.client().config("protocol.version", version);
            client.run(["fetch", "--quiet", "--update-shallow", &url(&d, project), "main:refs/heads/theirs"]);
            assert_eq!(boundary(&own), boundary(&clone));
            own.fsck_strict();
            let plain = Clone::empty(false);
            plain.commit_file("own", "own\n");
            _ = plain.client().config("protocol.version", version).output(["fetch", "--quiet", &url(&d, project), "main:refs/heads/theirs"]);
            assert_eq!(boundary(&plain), BTreeSet::new(), "nothing of it was taken over");
            plain.fsck_strict();
            // What is pushed on top of the cut history comes to all of them.
            clone.commit_file(&format!("v{version}"), "on top\n");
            clone.run(&["push", "--quiet"]);
            client.run(["fetch", "--quiet", &url(&d, project), "main:refs/heads/theirs"]);
            assert_eq!(own.rev_parse("theirs"), clone.rev_parse("main"));
            own.fsck_strict();
        }
    }

    /// t5538-push-shallow: a shallow clone pushes what it made, and cannot have its end taken for the whole.
    async fn t5538_push_shallow(d) {
        let (project, source) = ten(&d, "2").await;
        let shallow = Clone::of_project(&d, project, "2", &["--depth=2"]);
        shallow.commit_file("new", "new\n");
        shallow.run(&["push", "--quiet"]);
        source.run(&["pull", "--quiet", "--ff-only"]);
        assert_eq!(source.rev_parse("main"), shallow.rev_parse("main"));
        source.fsck_strict();
        // From a shallow branch of its own, with a merge across the end.
        shallow.run(&["checkout", "--quiet", "-b", "side", "main~2"]);
        shallow.commit_file("side", "side\n");
        shallow.run(&["merge", "--quiet", "--no-ff", "-m", "merge", "main"]);
        shallow.run(&["push", "--quiet", "origin", "side"]);
        let mirror = Clone::of_project(&d, project, "0", &["--mirror"]);
        assert_eq!(subjects(&mirror, "side").len(), 13);
        same_as(&d, project, &mirror).await;
        // To a project that lacks what lies beyond.
        let empty = d.local_project().await;
        shallow.refused(&["push", &url(&d, empty), "side"], "side");
        assert_eq!(api_refs(&d, empty).await.len(), 0);
        let tip = shallow.rev_parse("side");
        assert!(upload_pack(&d, empty, "2", fetch_v2(&[&tip], &[], &["done"])).await.text().contains("not our ref"));
        shallow.run(&["fetch", "--quiet", "--unshallow"]);
        shallow.run(&["push", "--quiet", &url(&d, empty), "side:main"]);
        assert_eq!(api_refs(&d, empty).await["refs/heads/main"], tip);
    }

    /// t5543-atomic-push: all of it goes or nothing, whoever refuses, and each ref is told why.
    async fn t5543_atomic_push(d) {
        let (project, clone) = ten(&d, "2").await;
        clone.run(&["push", "--quiet", "origin", "main:one", "main:two", "main:gone"]);
        let other = Clone::of_project(&d, project, "2", &["--branch", "two"]);
        other.commit_file("other", "other\n");
        other.run(&["push", "--quiet"]);
        clone.commit_file("mine", "mine\n");
        let before = api_refs(&d, project).await;
        // Refused by git itself, which knows what is there; by the server, which knows better; by name.
        clone.refused(&["push", "--atomic", "origin", "main", "main:one", "main:two"], "atomic push failed");
        let told = clone.refused(&["push", "--atomic", "origin", "main", "main:one", "main:refs/pull/1/head", ":gone"], "only branches");
        assert_eq!(told.matches("[remote rejected]").count(), 4, "{told}");
        assert_eq!(told.matches("atomic push failed").count(), 3, "{told}");
        assert_eq!(api_refs(&d, project).await, before);
        // Nothing of a refused one is here; deletions, creations and forced moves go together.
        let tip = clone.rev_parse("main");
        assert!(upload_pack(&d, project, "2", fetch_v2(&[&tip], &[], &["done"])).await.text().contains("not our ref"));
        clone.run(&["push", "--quiet", "--atomic", "origin", "main", "+main:two", "main:new", ":gone"]);
        let refs = api_refs(&d, project).await;
        assert!(refs["refs/heads/two"] == tip && refs["refs/heads/new"] == tip && !refs.contains_key("refs/heads/gone"));
        same_as(&d, project, &Clone::of_project(&d, project, "1", &["--mirror"])).await;
    }

    /// t5545-push-options: options are taken, from the command line and the configuration, with an atomic push and a deletion.
    async fn t5545_push_options(d) {
        let (project, clone) = ten(&d, "2").await;
        clone.run(&["push", "--quiet", "-o", "asdf", "--push-option=more structured text", "origin", "main:one"]);
        clone.run(&["config", "--add", "push.pushOption", "default=1"]);
        clone.run(&["config", "--add", "push.pushOption", "default=2"]);
        clone.run(&["push", "--quiet", "origin", "main~1:refs/heads/two"]);
        clone.run(&["push", "--quiet", "--atomic", "-o", "", "origin", "main:two", ":one"]);
        clone.run(&["push", "--quiet", "-o", &"long ".repeat(100), "origin", ":two"]);
        assert_eq!(api_refs(&d, project).await.len(), 1);
    }

    /// t5616-partial-clone: later fetches keep the filter, what is missing comes when it is needed, and what was left out is pushed back.
    async fn t5616_partial_clone(d) {
        for version in VERSIONS {
            let (project, source) = ten(&d, version).await;
            let partial = Clone::of_project(&d, project, version, &["--filter=blob:none", "--no-checkout"]);
            assert_eq!(left_out(&partial).len(), 11);
            source.commit_files(&[("dir/after", Some(b"after\n"))], "After");
            source.run(&["push", "--quiet"]);
            partial.run(&["fetch", "--quiet"]);
            assert_eq!(left_out(&partial).len(), 12, "a fetch keeps the filter");
            partial.run(&["fetch", "--quiet", "--no-filter", "--refetch"]);
            assert_eq!(left_out(&partial).len(), 0);
            // Where git asks without a filter, a delta may rest on what was left out; git gets that then.
            let partial = Clone::of_project(&d, project, version, &["--filter=blob:none", "--no-checkout"]);
            let text: String = (0..2_000).map(|line| format!("line {line}\n")).collect();
            source.commit_file("large", &text);
            source.run(&["push", "--quiet"]);
            partial.run(&["fetch", "--quiet"]);
            source.commit_file("large", text.replace("line 77\n", "line seventy-seven\n"));
            source.run(&["push", "--quiet"]);
            partial.run(&["fetch", "--quiet", "--no-filter"]);
            let blob = source.rev_parse("main:large");
            assert!(stored(&partial).contains(&blob));
            partial.fsck_strict();
            // The work tree, a diff and a blame bring what they need; what is made goes back.
            partial.run(&["checkout", "--quiet", "-B", "main", "origin/main"]);
            assert!(partial.run(&["blame", "-s", "file"]).ends_with("10"));
            partial.commit_file("dir/5", "changed\n");
            partial.run(&["push", "--quiet", "origin", "main"]);
            source.run(&["pull", "--quiet", "--ff-only"]);
            assert_eq!(source.rev_parse("main"), partial.rev_parse("main"));
            source.fsck_strict();
            // Trees by hand.
            let trees = Clone::of_project(&d, project, version, &["--filter=tree:0", "--bare"]);
            let tree = source.rev_parse("main^{tree}");
            assert!(left_out(&trees).contains(&tree));
            trees.run(&["cat-file", "-p", &tree]);
            trees.fsck_strict();
        }
    }

    /// t5701-git-serve: requests of v2 made by hand are answered as stock git answers them, byte for byte where it answers at all.
    async fn t5701_git_serve(d) {
        let (project, source) = ten(&d, "2").await;
        source.run(&["tag", "-a", "-m", "x", "heavy"]);
        source.run(&["push", "--quiet", "origin", "heavy", "main:refs/heads/dev", "main:refs/heads/release/one"]);
        let stock = Clone::of_project(&d, project, "2", &["--mirror"]);
        for arguments in [&[][..], &["peel"], &["symrefs"], &["peel", "symrefs"], &["ref-prefix refs/heads/main"], &["ref-prefix refs/heads/", "ref-prefix refs/tags/heavy"],
            &["ref-prefix HEAD", "symrefs"], &["ref-prefix nothing"], &["peel", "ref-prefix refs/tags/"], &["unborn", "symrefs"]] {
            let request = command("ls-refs", arguments);
            let reply = upload_pack(&d, project, "2", request.clone()).await;
            let (done, expected) = stock_answer(&stock, &request);
            assert!(done, "{arguments:?}");
            assert_eq!(String::from_utf8_lossy(&reply.body), String::from_utf8_lossy(&expected), "{arguments:?}");
        }
        let unknown = "ab".repeat(20);
        let oids: Vec<String> = ["main", "main^{tree}", "main:file", "heavy", "main~5:dir"].iter().map(|name| source.rev_parse(name)).collect();
        let named: Vec<String> = oids.iter().chain([&unknown]).map(|oid| format!("oid {oid}")).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        for arguments in [[&["size"][..], &named].concat(), vec!["size"]] {
            let request = command("object-info", &arguments);
            let reply = upload_pack(&d, project, "2", request.clone()).await;
            let expected = String::from_utf8_lossy(&stock_answer(&stock, &request).1).into_owned();
            assert_eq!(reply.text(), expected, "{arguments:?}");
            let size = source.run(&["cat-file", "-s", "main^{tree}"]);
            assert!(arguments.len() == 1 || expected.contains(&format!("{} {size}", oids[1])), "{expected}");
        }
        // What stock git refuses is refused.
        for request in [pkt(b"command=foo\n"), command("foo", &[]), [pkt(b"agent=test\n"), FLUSH.to_vec()].concat(),
            [pkt(b"command=ls-refs\n"), pkt(b"command=fetch\n"), FLUSH.to_vec()].concat(), [pkt(b"command=ls-refs\n"), pkt(b"object-format=md5\n"), FLUSH.to_vec()].concat(),
            [pkt(b"command=ls-refs\n"), pkt(b"no-such-capability\n"), FLUSH.to_vec()].concat(), command("ls-refs", &["no-such-arg"]), command("fetch", &["this is not a command"]),
            command("object-info", &["oid nonsense"])] {
            let reply = upload_pack(&d, project, "2", request.clone()).await;
            assert!(reply.text().contains("ERR "), "{}: {}", String::from_utf8_lossy(&request), reply.text());
            let (done, answer) = stock_answer(&stock, &request);
            assert!(!done || answer.windows(4).any(|word| word == b"ERR "), "{}", String::from_utf8_lossy(&request));
        }
    }

    /// t5702-protocol-v2: only refs that are asked for are listed, options are taken, and what is common is told without a pack.
    async fn t5702_protocol_v2(d) {
        let (project, source) = ten(&d, "2").await;
        source.run(&["push", "--quiet", "origin", "main:dev", "main~1:refs/tags/v1"]);
        let clone = Clone::of_project(&d, project, "2", &[]);
        assert_eq!(clone.run(&["ls-remote", "-o", "hello", "--server-option=world", "origin", "main"]).lines().count(), 1);
        clone.run(&["fetch", "--quiet", "-o", "hello", "origin"]);
        // Of many refs only those of the refspec cross the wire.
        let trace = clone.beside("trace");
        let traced = clone.client().env("GIT_TRACE_PACKET", &trace);
        traced.run(["fetch", "--quiet", "--no-tags", "origin", "refs/heads/dev:refs/remotes/origin/dev"]);
        let packets = std::fs::read_to_string(&trace).expect("a trace");
        assert!(packets.contains("< ") && packets.contains("refs/heads/dev") && !packets.contains(" refs/heads/main"), "{packets}");
        // Negotiation alone.
        let client = Clone::of_project(&d, project, "2", &[]);
        client.commit_file("unknown", "unknown\n");
        let common = client.run(&["fetch", "--quiet", "--negotiate-only", "--negotiation-tip=main", "--negotiation-tip=main~3", "origin"]);
        let common: BTreeSet<String> = common.lines().map(str::to_owned).collect();
        assert!(common.contains(&source.rev_parse("main")) && !common.contains(&client.rev_parse("main")), "{common:?}");
        // A fetch of what is there already, and of an oid beside a name.
        let tip = source.rev_parse("main");
        client.run(&["fetch", "--quiet", "origin", &tip, "main"]);
        let bare = Clone::empty(true);
        bare.run(&["fetch", "--quiet", &url(&d, project), &format!("{tip}:refs/heads/by-oid"), "refs/tags/v1:refs/tags/v1"]);
        assert_eq!(bare.refs().into_values().collect::<Vec<_>>(), [tip, source.rev_parse("main~1")]);
    }

    /// t5704-protocol-violations: packets where none may be end a request, and it is said why.
    async fn t5704_protocol_violations(d) {
        let (project, source) = ten(&d, "2").await;
        let tip = source.rev_parse("main");
        let stock = Clone::of_project(&d, project, "2", &["--mirror"]);
        let ls_refs = [pkt(b"command=ls-refs\n"), DELIM.to_vec()].concat();
        let fetch = [pkt(b"command=fetch\n"), DELIM.to_vec()].concat();
        for request in [[&ls_refs, DELIM, FLUSH].concat(), [&ls_refs, &pkt(b"peel\n"), DELIM, FLUSH].concat(), [&fetch, DELIM, FLUSH].concat(),
            [&fetch, &pkt(format!("want {tip}\n").as_bytes())[..], DELIM, &pkt(b"done\n"), FLUSH].concat(), [&ls_refs[..], b"0003"].concat(), [&ls_refs[..], b"zzzz"].concat()] {
            let (done, answer) = stock_answer(&stock, &request);
            assert!(!done || answer.windows(4).any(|word| word == b"ERR "), "{}", String::from_utf8_lossy(&request));
            let reply = upload_pack(&d, project, "2", request.clone()).await;
            assert!(reply.text().contains("ERR "), "{}: {}", String::from_utf8_lossy(&request), reply.text());
        }
    }

    /// t5541-http-push-smart, t5551-http-fetch-smart: bodies in chunks and compressed, a thousand tags, and nothing to do.
    async fn t5551_http_smart(d) {
        let (project, source) = ten(&d, "2").await;
        let tip = source.rev_parse("main");
        let list: String = (0..1_000).map(|number| format!("create refs/tags/tag-{number:05}-of-very-many-tags {tip}\n")).collect();
        source.git().run_with(["update-ref", "--stdin"], list.as_bytes());
        // 64 KiB are not enough for so many commands: they come in chunks.
        source.client().config("http.postBuffer", "65536").run(["push", "--quiet", "origin", "--tags"]);
        assert_eq!(api_refs(&d, project).await.len(), 1_001);
        for version in VERSIONS {
            let clone = Clone::of_project(&d, project, version, &["--no-tags"]);
            clone.client().config("http.postBuffer", "65536").run(["fetch", "--quiet", "--tags"]);
            assert_eq!(clone.refs().keys().filter(|name| name.starts_with("refs/tags/")).count(), 1_000);
            let (done, told) = clone.tell(&["push", "origin", "main"]);
            assert!(done && told.contains("up-to-date"), "{told}");
        }
        let mut large = vec![0; 300_000];
        rand::fill(&mut large[..]);
        source.commit_file("large", &large);
        source.client().config("http.postBuffer", "65536").run(["push", "--quiet"]);
        assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], json!(source.rev_parse("main")));
        // Mirrors, to something empty and again.
        let (empty, mirror) = (d.local_project().await, Clone::of_project(&d, project, "2", &["--mirror"]));
        for gone in ["refs/tags/tag-00000-of-very-many-tags", "refs/tags/tag-00001-of-very-many-tags"] {
            mirror.run(&["push", "--quiet", "--mirror", &url(&d, empty)]);
            assert_eq!(api_refs(&d, empty).await, mirror.refs());
            mirror.run(&["update-ref", "-d", gone]);
        }
    }

    /// t5530-upload-pack-error: what is missing or of the wrong kind is refused in the protocol's own words.
    async fn t5530_upload_pack_errors(d) {
        let (project, source) = ten(&d, "2").await;
        let tip = source.rev_parse("main");
        for (version, body) in [("2", fetch_v2(&["00".repeat(20).as_str()], &[], &["done"])), ("0", fetch_v0(&["00".repeat(20).as_str()], &[], "ofs-delta"))] {
            assert!(upload_pack(&d, project, version, body).await.text().contains("not our ref"));
        }
        for line in ["deepen -1", "deepen x", "deepen-since x", "deepen 1 2"] {
            assert!(upload_pack(&d, project, "2", fetch_v2(&[&tip], &[], &[line, "done"])).await.text().contains("ERR "), "{line}");
        }
        assert!(upload_pack(&d, project, "2", fetch_v2(&[&tip], &[], &["deepen-not refs/heads/none", "done"])).await.text().contains("ERR "));
        // A boundary that is no commit is nobody's: what comes is whole.
        let blob = source.rev_parse("main:file");
        let reply = upload_pack(&d, project, "2", fetch_v2(&[&tip], &[], &[&format!("shallow {blob}"), "no-progress", "done"])).await;
        assert_eq!(bases_of(&pack_of(&reply.body)).0 as usize, reached(&source).len());
        let wanted = oid(Kind::Blob, b"1\n").to_string();
        pack_of(&upload_pack(&d, project, "2", fetch_v2(&[&wanted], &[], &["no-progress", "done"])).await.body);
    }
}
