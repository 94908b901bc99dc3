//! All that the client can do, where nothing goes wrong.

use futures::{StreamExt as _, TryStreamExt as _};
use treehold_client::{
    ActionsRequest, Against, At, CommitAction, CommitRequest, Content, DiffOptions, EventView, Expected, FeedItem,
    FeedOptions, ForkSpec, LineRange, LogOptions, Origin, PendingAction, PendingBatch, PendingOp, ProjectChange,
    ProjectSpec, PromoteRequest, PutOptions, ReadItem, ReadOptions, ReadPath, ReadRequest, ReceiveSpec, RefRequest,
    Remote, RemoteSpec, ResolveFile, SearchItem, SearchMode, SearchRequest, Secret, SyncRequest, Take, WriteOptions,
    blob_oid,
};
use uuid::Uuid;

use super::{ann, client, project};
use crate::both;
use crate::deployment::REMOTE_TOKEN;
use crate::remote_tools::small_remote;

/// With the remote's credentials.
fn remote() -> Remote {
    Remote { token: Some(Secret::new(REMOTE_TOKEN).expect("a token")), idempotency_key: None }
}

fn user_at(user: Uuid) -> At {
    At { user: Some(user), ..At::default() }
}

both! {
    /// Goal: projects, their forks, and files as they were committed. Method: make, list, read, write, compare.
    async fn projects_and_files(d) {
        let (treehold, _judge) = client(&d).await;
        treehold.ready().await.expect("ready");
        let id = Uuid::new_v4();
        let spec = ProjectSpec { name: Some(format!("p-{id}")), ..ProjectSpec::default() };
        assert!(treehold.create_or_find_project(Some(id), &spec).await.expect("made").1);
        assert!(!treehold.create_or_find_project(Some(id), &spec).await.expect("found").1);
        let one = treehold.project(format!("p-{id}"));
        let receive = Some(ReceiveSpec { deny_deletes: Some(true), ..ReceiveSpec::default() });
        let change = ProjectChange { receive, ..ProjectChange::default() };
        assert!(one.change(&change).await.expect("changed").receive.deny_deletes);
        let odd = "a b%20c#&+\u{e9}.txt";
        let actions = vec![CommitAction::create(odd, "odd\n"), CommitAction::create("bin", vec![0xff, 0, 1]), CommitAction::create("big", "0123456789".repeat(50_000))];
        let begun = one.commit(&ActionsRequest { message: "Begin".into(), author: ann(), actions, ..Default::default() }, &Remote::default()).await.expect("a commit");
        let listed = one.files().list(&At::default(), None).await.expect("a list");
        assert_eq!(listed.snapshot.commit.as_ref(), Some(&begun.commit));
        let paths: Vec<String> = listed.all().await.expect("all").into_iter().map(|file| file.path.path).collect();
        assert_eq!(paths, [odd, "big", "bin"]);
        let page = one.files().page(&At::default(), Some("b"), Some(1), None).await.expect("a page");
        assert_eq!((page.files[0].path.to_string().as_str(), page.next_cursor.is_some()), ("big", true));
        let read = one.files().read(odd, &ReadOptions::default()).await.expect("a file");
        assert_eq!((read.head.mode.as_str(), read.head.oid.clone()), ("100644", blob_oid(b"odd\n")));
        assert_eq!(read.text().await.expect("text"), "odd\n");
        assert!(one.files().read_if_changed(odd, &blob_oid(b"odd\n"), &ReadOptions::default()).await.expect("304").is_none());
        let range = ReadOptions { range: Some((3, Some(6))), ..ReadOptions::default() };
        let part = one.files().read("big", &range).await.expect("a part");
        assert!(part.head.partial);
        assert_eq!(part.bytes().await.expect("bytes"), b"345");
        let streamed = one.files().read("big", &ReadOptions::default()).await.expect("a file").stream();
        assert_eq!(streamed.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await.expect("pieces"), 500_000);
        // A budget cuts files into pieces, which come put together.
        let lines = ReadPath::Lines(LineRange { path: odd.into(), start_line: Some(1), end_line: Some(1) });
        let request = ReadRequest { paths: vec!["big".into(), "none".into(), "bin".into(), lines], max_bytes: Some(190_000), ..ReadRequest::default() };
        let items = one.files().read_batch(request).await.expect("a batch").all().await.expect("all");
        let [ReadItem::File(big), ReadItem::Failed { error, .. }, ReadItem::File(bin), ReadItem::File(line)] = &items[..] else { panic!("{items:?}") };
        assert_eq!((big.content.content.len(), big.truncated, error.code.as_str()), (500_000, false, "file_not_found"));
        assert_eq!((bin.content.bytes(), line.total_lines), (Some(vec![0xff, 0, 1]), Some(1)));
        let written = WriteOptions { expected: Some(Expected::Nothing), author: Some(("B".into(), "b@example.org".into())), ..WriteOptions::default() };
        one.files().write("new", "new\n", &written).await.expect("a commit");
        let refused = one.files().write("new", "other\n", &written).await.expect_err("it is there");
        assert_eq!((refused.status(), refused.problem().expect("a problem").fields["oid"].as_str()), (Some(412), Some(blob_oid(b"new\n").as_str())));
        one.files().delete("new", &WriteOptions::default()).await.expect("a commit");
        let fork = one.fork(&ForkSpec::default()).await.expect("a fork");
        assert_eq!(fork.head, one.show().await.expect("a view").head);
        let all = treehold.projects(Some(1)).stream().try_collect::<Vec<_>>().await.expect("all");
        assert!([id, fork.id].iter().all(|id| all.iter().any(|view| view.id == *id)), "{all:?}");
        one.delete().await.expect("gone");
        assert_eq!(one.delete().await.expect_err("it is gone").code(), Some("project_not_found"));
        // Names that would be another route.
        for name in ["", ".", ".."] {
            assert!(treehold.project(name).show().await.is_err_and(|error| error.status().is_none()), "{name:?}");
        }
    }

    /// Goal: a user's work, from the first save to the commit. Method: save, look, batch, go back, commit; a feed beside it.
    async fn pending_work(d) {
        let (treehold, _judge) = client(&d).await;
        let project = project(&treehold, &[("a.txt", "one\n"), ("b.txt", "b\n")]).await;
        let user = Uuid::new_v4();
        let origin = Origin { device: Some("caf\u{e9}".into()), actor: Some("agent:r".into()), session: None };
        let work = project.workspace(user).branch("main").origin(origin);
        let mut feed = project.feed(FeedOptions::default());
        assert!(matches!(feed.next().await.expect("an item").expect("a start"), FeedItem::Start { expired: None, .. }));
        let seen = PutOptions { expected: Some(Expected::Oid(blob_oid(b"one\n"))), ..PutOptions::default() };
        let pieces = || futures::stream::iter(["two", "\n"].map(|piece| Ok(bytes::Bytes::from(piece)))).boxed();
        let saved = work.put("a.txt", Content::stream(4, pieces), &seen).await.expect("saved");
        assert_eq!((saved.action, saved.oid, saved.base_oid), (PendingAction::Modified, Some(blob_oid(b"two\n")), Some(blob_oid(b"one\n"))));
        assert_eq!(work.put("a.txt", "three\n", &seen).await.expect_err("it moved").status(), Some(412));
        let FeedItem::Event(event) = feed.next().await.expect("an item").expect("an event") else { panic!("no event") };
        let EventView::Pending { user: who, path, origin, .. } = event.told else { panic!("{event:?}") };
        assert_eq!((who, path.path.as_str(), origin.device.as_deref()), (user, "a.txt", Some("caf\u{e9}")));
        drop(feed);
        assert_eq!(work.get("a.txt").await.expect("pending").text().await.expect("text"), "two\n");
        let view = ReadOptions { at: user_at(user), ..ReadOptions::default() };
        assert_eq!(project.files().read("a.txt", &view).await.expect("the view").text().await.expect("text"), "two\n");
        assert_eq!(work.delete("b.txt", &PutOptions::default()).await.expect("deleted").action, PendingAction::Deleted);
        let kept = work.create_checkpoint("before", "to be sure").await.expect("a checkpoint");
        let ops = vec![PendingOp::put("c.txt", "c\n"), PendingOp::edit("a.txt", "two", "2"), PendingOp::rename("c.txt", "d.txt"), PendingOp::chmod("d.txt", "100755")];
        let batch = PendingBatch::new(ops);
        let done = work.batch(&batch, Some("key-1")).await.expect("a batch");
        assert_eq!(work.batch(&batch, Some("key-1")).await.expect("the same"), done);
        let changes = work.list(Some(1)).all().await.expect("all");
        assert_eq!(changes.iter().map(|change| change.path.path.as_str()).collect::<Vec<_>>(), ["a.txt", "b.txt", "d.txt"]);
        let status = work.status().await.expect("a status");
        assert_eq!((status.branch.as_str(), status.changes.len()), ("main", 3));
        let text = project.diff_text(&DiffOptions { user: Some(user), ..DiffOptions::default() }).await.expect("a diff");
        assert!(String::from_utf8(text).expect("UTF-8").contains("+2\n"));
        let diff = project.diff(&DiffOptions { user: Some(user), limit: Some(1), ..DiffOptions::default() }).all().await.expect("a diff");
        assert_eq!(diff.len(), 3);
        let versions = work.history(Some("a.txt"), Some(1)).all().await.expect("versions");
        assert_eq!(versions.len(), 2, "{versions:?}");
        assert_eq!(work.version(&versions[1].id).await.expect("a version").text().await.expect("text"), "two\n");
        assert_eq!(work.version_diff(&versions[1].id, Some("head")).await.expect("a diff").files.len(), 1);
        work.restore_version(&versions[1].id, None).await.expect("restored");
        assert_eq!(work.checkpoints(None).all().await.expect("checkpoints"), std::slice::from_ref(&kept));
        assert_eq!(work.checkpoint(kept.id).await.expect("a checkpoint").files.len(), 2);
        assert_eq!(work.checkpoint_diff(kept.id).await.expect("a diff").files.len(), 1, "d.txt came later");
        assert!(work.restore_checkpoint(kept.id).await.expect("restored").before.is_some());
        work.delete_checkpoint(kept.id).await.expect("forgotten");
        assert_eq!(work.discard("b.txt", Some(&Expected::Nothing)).await.expect("dropped").dropped, 1);
        let made = work.commit(&CommitRequest { message: "Two".into(), author: ann(), ..Default::default() }, &Remote::default()).await.expect("a commit");
        assert_eq!((made.files.len(), made.pushed), (1, false));
        assert_eq!(work.commit(&CommitRequest { message: "x".into(), author: ann(), ..Default::default() }, &Remote::default()).await.expect_err("nothing").code(), Some("nothing_to_commit"));
        work.put("x", "x", &PutOptions::default()).await.expect("saved");
        assert_eq!(work.discard_all().await.expect("dropped").dropped, 1);
    }

    /// Goal: what a repository has. Method: history, search, blame, refs and their past, archives.
    async fn history(d) {
        let (treehold, _judge) = client(&d).await;
        let project = project(&treehold, &[("a.txt", "one\nneedle\n"), ("dir/b.txt", "needle needle\n")]).await;
        let second = project.files().write("a.txt", "one\nneedle\nthree\n", &WriteOptions::default()).await.expect("a commit");
        let log = project.log(&LogOptions { limit: Some(1), ..LogOptions::default() }).stream().try_collect::<Vec<_>>().await.expect("a log");
        assert_eq!((log.len(), &log[0].commit), (2, &second.commit));
        let of_dir = LogOptions { path: Some("dir".into()), ..LogOptions::default() };
        assert_eq!(project.log(&of_dir).all().await.expect("a log").len(), 1);
        let blame = project.blame("a.txt", &At::default(), Some((2, 3))).await.expect("a blame");
        assert_eq!((blame.total_lines, blame.ranges.len()), (3, 2));
        let between = DiffOptions { from: Some(log[1].commit.clone()), to: Some("main".into()), ..DiffOptions::default() };
        assert_eq!(project.changed_paths(&between).all().await.expect("paths")[0].path, "a.txt");
        let request = SearchRequest { query: "needle".into(), limit: Some(1), ..SearchRequest::default() };
        let found = project.search(request).await.expect("a search").all().await.expect("all");
        assert!(matches!(&found[..], [SearchItem::Found(_), SearchItem::End(end)] if end.next_cursor.is_some()), "{found:?}");
        let counted = SearchRequest { query: "needle".into(), mode: SearchMode::Count, ..SearchRequest::default() };
        let found = project.search(counted).await.expect("a search").all().await.expect("all");
        let counts: Vec<_> = found.iter().filter_map(|item| match item { SearchItem::Found(found) => found.count, SearchItem::End(_) => None }).collect();
        assert_eq!(counts, [1, 1]);
        let idea = RefRequest { oid: log[1].commit.clone(), ephemeral: Some(true), ..RefRequest::default() };
        assert!(project.write_ref("heads/idea/one", &idea).await.expect("a ref").expires_at.is_some());
        let moved = PromoteRequest { branch: "idea/one".into(), into: None, expected_oid: None };
        assert_eq!(project.promote(&moved).await.expect("kept").name, "refs/heads/idea/one");
        assert_eq!(project.refs(Some("refs/heads/"), Some(1)).all().await.expect("refs").len(), 2);
        assert_eq!(project.delete_ref("heads/idea/one", Some(&second.commit)).await.expect_err("another").status(), Some(409));
        project.delete_ref("heads/idea/one", Some(&log[1].commit)).await.expect("deleted");
        assert!(project.reflog(Some("heads/idea/one"), Some(1)).all().await.expect("a reflog").len() >= 2);
        let zip = project.zip(&At::default()).await.expect("an archive");
        assert_eq!(zip.head.commit.as_ref(), Some(&second.commit));
        assert!(zip.bytes().await.expect("bytes").starts_with(b"PK"));
        assert!(project.tar_gz(&At::default()).await.expect("an archive").bytes().await.expect("bytes").starts_with(&[0x1f, 0x8b]));
        assert!(project.bundle(None).await.expect("a bundle").bytes().await.expect("bytes").starts_with(b"# v"));
    }

    /// Goal: the remote. Method: pull with progress, a conflict with both sides and its resolution, a commit that is pushed.
    async fn remotes(d) {
        let (treehold, _judge) = client(&d).await;
        let there = small_remote(&d, "docs");
        let spec = ProjectSpec { remote: Some(RemoteSpec { url: d.git.url("docs") }), ..ProjectSpec::default() };
        let project = treehold.project(treehold.create_project(None, &spec).await.expect("a project").id);
        let steps = std::sync::Mutex::new(Vec::new());
        let told = |at: treehold_client::SyncProgress| steps.lock().expect("steps").push(at.step);
        let synced = project.sync_with(&SyncRequest::default(), &remote(), told).await.expect("a pull");
        assert_eq!(synced.to, Some(there.head()));
        assert!(!steps.lock().expect("steps").is_empty(), "no progress");
        assert_eq!(project.remote(&remote()).await.expect("a remote").url, d.git.url("docs"));
        let user = Uuid::new_v4();
        let work = project.workspace(user);
        work.put("dir/a.txt", "mine\n", &PutOptions::default()).await.expect("saved");
        there.moves(&[("dir/a.txt", Some(b"theirs\n"))]);
        let dry = SyncRequest { dry_run: true, ..SyncRequest::default() };
        assert_eq!(project.sync(&dry, &remote()).await.expect("a look").pending[0].path, "dir/a.txt");
        assert_eq!(work.conflicts(Against::Remote, None, None).all().await.expect("conflicts").len(), 1);
        project.sync(&SyncRequest::default(), &remote()).await.expect("a pull");
        let conflict = work.commit(&CommitRequest { message: "x".into(), author: ann(), ..Default::default() }, &remote()).await.expect_err("a conflict");
        assert_eq!((conflict.code(), conflict.problem().expect("a problem").fields["conflicts"].as_array().map(Vec::len)), (Some("conflict"), Some(1)));
        let files = work.conflicts(Against::Head, Some("dir/a.txt"), None).all().await.expect("conflicts");
        let theirs = files[0].theirs.as_ref().and_then(|side| side.content.as_ref()).and_then(treehold_client::JsonContent::bytes);
        assert_eq!(theirs.as_deref(), Some(&b"theirs\n"[..]));
        let both = ResolveFile { path: "dir/a.txt".into(), take: Take::Text, content: Some("both\n".into()), ..ResolveFile::default() };
        work.resolve(&[both]).await.expect("resolved");
        let unpushed = CommitRequest { message: "Both".into(), author: ann(), push: Some(false), ..Default::default() };
        let made = work.commit(&unpushed, &remote()).await.expect("a commit");
        assert!(!made.pushed);
        assert!(project.push(None, &remote()).await.expect("a push").pushed);
        assert_eq!((there.head(), there.file("dir/a.txt").as_str()), (made.commit, "both\n"));
    }
}
