//! What goes wrong on the way, and what the client makes of it.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use treehold_client::{
    At, Error, EventView, Expected, FeedItem, FeedOptions, ForkSpec, PutOptions, ReadItem, ReadOptions, RefRequest,
    Remote, TransportError, Treehold, WriteOptions, blob_oid,
};
use uuid::Uuid;

use super::relay::{Instead, Judge, Wire};
use super::{ann, client, options, project, through};
use crate::both;
use crate::deployment::{API_KEY, Deployment};

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {what}");
}

/// The paths of the events that come, until there are so many of them.
async fn paths(feed: &mut treehold_client::Items<FeedItem>, many: usize) -> Vec<String> {
    let mut paths = Vec::new();
    while paths.len() < many {
        let item = tokio::time::timeout(Duration::from_secs(60), feed.next()).await.expect("an item in time");
        if let FeedItem::Event(event) = item.expect("no end").expect("an item")
            && let EventView::Pending { path, .. } = event.told
        {
            paths.push(path.path);
        }
    }
    paths
}

both! {
    /// Goal: an answer that is cut goes on where it was. Method: cut lists, batch reads and searches at many places.
    async fn cut_in_the_middle(d) {
        let wire = Wire::to(&d.url(""));
        let treehold = through(&wire.url());
        let names: Vec<String> = (0..600).map(|number| format!("d/{number:04}-{}", "x".repeat(40))).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "content\n")).collect();
        let project = project(&treehold, &files).await;
        for bytes in [1, 300, 20_000, 60_000] {
            wire.cut_after(bytes);
            let cuts = wire.cuts();
            let listed = project.files().list(&At::default(), None).await.expect("a list").all().await.expect("all");
            assert_eq!(listed.iter().map(|file| file.path.to_string()).collect::<Vec<_>>(), names, "cut after {bytes}");
            assert!(wire.cuts() > cuts, "nothing was cut after {bytes}");
            wire.cut_after(bytes);
            let read = project.files().read_many(names.iter().map(String::as_str), &At::default()).await.expect("a batch").all().await.expect("all");
            let whole = |item: &ReadItem| matches!(item, ReadItem::File(file) if file.content.content == "content\n");
            assert!(read.len() == names.len() && read.iter().all(whole), "cut after {bytes}");
        }
        // One JSON answer is asked for again; the bytes of a file are not, since some were given already.
        wire.cut_after(500);
        assert_eq!(project.files().page(&At::default(), None, None, None).await.expect("a page").files.len(), 600);
        let big = "0123456789".repeat(100_000);
        project.files().write("big", big.clone(), &WriteOptions::default()).await.expect("a commit");
        wire.cut_after(200_000);
        let broken = project.files().read("big", &ReadOptions::default()).await.expect("a head").bytes().await;
        assert!(matches!(broken, Err(Error::Transport(TransportError::Broken(_)))), "{broken:?}");
        assert_eq!(project.files().read("big", &ReadOptions::default()).await.expect("a file").text().await.expect("text"), big);
    }

    /// Goal: a list that changes while it is cut is never put together of two. Method: a commit between the pieces.
    async fn a_changed_list_fails(d) {
        let wire = Wire::to(&d.url(""));
        let treehold = through(&wire.url());
        let names: Vec<String> = (0..1_200).map(|number| format!("{:02}/{number:05}-{}", number / 50, "x".repeat(200))).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let project = project(&treehold, &files).await;
        wire.cut_after(150_000);
        let mut listed = project.files().list(&At::default(), None).await.expect("a list");
        listed.items.next().await.expect("an item").expect("a file");
        d.put(&format!("/files/{}/zzz", project.name()), "x").await.ok(200);
        let rest = listed.items.try_collect::<Vec<_>>().await;
        assert!(matches!(rest, Err(Error::SnapshotChanged)), "{:?}", rest.map(|rest| rest.len()));
    }

    /// Goal: a save whose answer was lost is no conflict with itself, and happens once. Method: the server does it, and says something
    /// else, or the wire is cut before its answer.
    async fn a_lost_answer(d) {
        let (treehold, judge) = client(&d).await;
        let project = project(&treehold, &[("a.txt", "one\n")]).await;
        let user = Uuid::new_v4();
        let work = project.workspace(user);
        let seen = PutOptions { expected: Some(Expected::Oid(blob_oid(b"one\n"))), ..PutOptions::default() };
        judge.asked();
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        let saved = work.put("a.txt", "two\n", &seen).await.expect("saved");
        assert_eq!((saved.oid, saved.revision), (Some(blob_oid(b"two\n")), 1));
        assert_eq!(judge.asked().len(), 3, "done, refused as done, and told");
        let gone = PutOptions { expected: Some(Expected::Oid(blob_oid(b"two\n"))), ..PutOptions::default() };
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        assert_eq!(work.delete("a.txt", &gone).await.expect("deleted").revision, 2);
        // Somebody else's is one.
        let other = project.workspace(user);
        other.put("a.txt", "other\n", &PutOptions::default()).await.expect("saved");
        judge.next([Instead::refusal(503, None)]);
        assert_eq!(work.put("a.txt", "mine\n", &gone).await.expect_err("it moved").status(), Some(412));
        judge.asked();
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        let commit = treehold_client::CommitRequest { message: "Once".into(), author: ann(), ..Default::default() };
        let made = work.commit(&commit, &Remote::default()).await.expect("a commit");
        let asked = judge.asked();
        assert!(asked.len() == 2 && asked[0].key.is_some() && asked[0].key == asked[1].key, "{asked:?}");
        assert_eq!(project.show().await.expect("a view").head, Some(made.commit));
        assert_eq!(project.log(&Default::default()).all().await.expect("a log").len(), 2);
        // A project that is gone because of the attempt before.
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        project.delete().await.expect("gone");
    }

    /// Goal: a discard whose answer was lost takes nothing that another device saved meanwhile. Method: what came is counted.
    async fn a_lost_discard(d) {
        let (treehold, judge) = client(&d).await;
        let project = project(&treehold, &[("a.txt", "one\n")]).await;
        let work = project.workspace(Uuid::new_v4());
        work.put("a.txt", "two\n", &PutOptions::default()).await.expect("saved");
        judge.asked();
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        assert_eq!(work.discard("a.txt", None).await.expect_err("not known").status(), Some(503));
        judge.next([Instead { done: true, ..Instead::refusal(503, None) }]);
        assert_eq!(work.discard_all().await.expect_err("not known").status(), Some(503));
        assert_eq!(judge.asked().len(), 2);
        // What the caller saw may be asked for again.
        work.put("a.txt", "three\n", &PutOptions::default()).await.expect("saved");
        let seen = Expected::Oid(blob_oid(b"three\n"));
        judge.asked();
        judge.next([Instead::refusal(503, None)]);
        assert_eq!(work.discard("a.txt", Some(&seen)).await.expect("dropped").dropped, 1);
        assert_eq!(judge.asked().len(), 2);
        work.put("a.txt", "four\n", &PutOptions::default()).await.expect("saved");
        assert_eq!(work.discard("a.txt", Some(&seen)).await.expect_err("another one").status(), Some(412));
        assert_eq!(work.get("a.txt").await.expect("pending").text().await.expect("text"), "four\n");
    }

    /// Goal: the feed comes back from where it was. Method: cut the wire, let things happen meanwhile, mend it; streams and polls.
    async fn a_feed_across_a_cut(d) {
        let wire = Wire::to(&d.url(""));
        let project = project(&through(&d.url("")), &[("a", "a")]).await;
        let user = Uuid::new_v4();
        let work = project.workspace(user);
        let away = Treehold::new(options(&wire.url()).retries(1)).expect("a client").project(project.name());
        for poll in [false, true] {
            let mut feed = away.feed(FeedOptions { poll, ..FeedOptions::default() });
            assert!(matches!(feed.next().await, Some(Ok(FeedItem::Start { .. }))));
            work.put("one", format!("{poll}"), &PutOptions::default()).await.expect("saved");
            assert_eq!(paths(&mut feed, 1).await, ["one"]);
            wire.cut();
            for path in ["two", "three"] {
                work.put(path, format!("{poll}"), &PutOptions::default()).await.expect("saved");
            }
            let cut = tokio::time::timeout(Duration::from_secs(60), feed.next()).await.expect("an item in time");
            assert!(matches!(cut, Some(Ok(FeedItem::Away(Error::Transport(_))))), "{cut:?}");
            wire.mend();
            work.put("four", format!("{poll}"), &PutOptions::default()).await.expect("saved");
            assert_eq!(paths(&mut feed, 3).await, ["two", "three", "four"]);
        }
        // It ends with what does not pass.
        let mut feed = away.feed(FeedOptions::default());
        assert!(matches!(feed.next().await, Some(Ok(FeedItem::Start { .. }))));
        project.delete().await.expect("gone");
        let told = feed.filter(|item| std::future::ready(item.is_err())).next().await;
        assert_eq!(told.expect("an end").expect_err("gone").code(), Some("project_not_found"));
    }

    /// Goal: what is dropped ends. Method: connections are counted while streams and calls are dropped in the middle.
    async fn dropped(d) {
        let wire = Wire::to(&d.url(""));
        let treehold = through(&wire.url());
        let big = "0123456789".repeat(1_000_000);
        let project = project(&treehold, &[("big", &big)]).await;
        let mut file = project.files().read("big", &ReadOptions::default()).await.expect("a head");
        file.chunk().await.expect("a piece");
        let mut feed = project.feed(FeedOptions::default());
        feed.next().await.expect("an item").expect("a start");
        let waiting = tokio::spawn(async move { feed.next().await.map(|item| item.is_ok()) });
        until("the feed is open", || wire.open() >= 2).await;
        drop(file);
        waiting.abort();
        drop((treehold, project));
        until("all connections are gone", || wire.open() == 0).await;
    }
}

/// Goal: only what is safe is repeated, as late as the server asks. Method: refusals instead of answers; what came is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated() {
    let d = Deployment::start(crate::deployment::Setup::Embedded).await;
    let judge = Judge::before(&d.url(""));
    let treehold = Treehold::new(options(&judge.url()).pause_at_most(Duration::from_secs(20))).expect("a client");
    let project = project(&treehold, &[("a", "a")]).await;
    judge.asked();
    judge.next([Instead::refusal(503, Some(1))]);
    project.show().await.expect("a view");
    let asked = judge.asked();
    assert!(
        asked.len() == 2 && asked.iter().all(|asked| asked.method == "GET" && asked.what.starts_with("/projects/"))
    );
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1), "it came back too early");
    // Not safe: once, whatever is said; but 429 says that nothing was done.
    judge.next([Instead::refusal(503, Some(0))]);
    assert_eq!(project.fork(&ForkSpec::default()).await.expect_err("refused").code(), Some("busy"));
    assert_eq!(judge.asked().len(), 1);
    judge.next([Instead::refusal(429, Some(0))]);
    project.fork(&ForkSpec::default()).await.expect("a fork");
    assert_eq!(judge.asked().len(), 2);
    let head = project.show().await.expect("a view").head.expect("a head");
    let exact = RefRequest { oid: head, expected_oid: Some("0".repeat(40)), ..RefRequest::default() };
    judge.asked();
    judge.next([Instead::refusal(503, Some(0))]);
    project.write_ref("heads/x", &exact).await.expect_err("refused");
    assert_eq!(judge.asked().len(), 1);
    // Bounded, and the last refusal is what is told.
    judge.next((0..5).map(|_| Instead::refusal(503, Some(0))));
    let error = project.show().await.expect_err("refused for good");
    assert_eq!((error.status(), error.retry_after()), (Some(503), Some(Duration::ZERO)));
    assert_eq!(judge.asked().len(), 5);
    // A proxy's 502 is repeated, the server's own is about a remote.
    judge.next([Instead { status: 502, headers: Vec::new(), body: "<html>", done: false }]);
    project.show().await.expect("a view");
    judge.next([Instead { status: 502, ..Instead::refusal(502, None) }]);
    project.show().await.expect_err("for its caller to judge");
    // What is no answer of ours is told as such.
    judge.next([Instead { status: 200, headers: Vec::new(), body: "<html>secret</html>", done: false }]);
    let error = project.show().await.expect_err("no JSON");
    assert!(matches!(error, Error::BadAnswer { status: 200, .. }) && !error.to_string().contains("secret"), "{error}");
}

/// Goal: a key goes nowhere but where it was meant to go. Method: redirects within the server, and away from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirected() {
    let d = Deployment::start(crate::deployment::Setup::Embedded).await;
    let (judge, elsewhere) = (Judge::before(&d.url("")), Judge::before(&d.url("")));
    let project = project(&through(&judge.url()), &[("a", "a")]).await;
    let to =
        |status, location: String| Instead { status, headers: vec![("location", location)], body: "", done: false };
    let own = format!("/projects/{}", project.name());
    judge.next([to(308, own.clone())]);
    assert_eq!(project.show().await.expect("a view").id.to_string(), project.name());
    for status in [301, 302, 303, 307, 308] {
        judge.next([to(status, format!("{}{own}", elsewhere.url()))]);
        let error = project.show().await.expect_err("away");
        assert!(error.status() == Some(status) && error.to_string().contains(&elsewhere.url()), "{error}");
    }
    assert_eq!(elsewhere.asked().len(), 0, "somebody else was asked");
    judge.next((0..9).map(|_| to(307, own.clone())));
    project.show().await.expect_err("in circles");
}

/// Goal: nobody there, nobody who answers, and a key that is none are told apart, and no secret is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unanswered() {
    let d = Deployment::start(crate::deployment::Setup::Embedded).await;
    let nobody = Treehold::new(options("http://127.0.0.1:1").retries(1)).expect("a client");
    let error = nobody.ready().await.expect_err("nobody");
    assert!(matches!(error, Error::Transport(TransportError::Unreachable(_))) && error.passes(), "{error:?}");
    assert!(!format!("{error:?} {nobody:?}").contains(API_KEY));
    // It takes connections and says nothing.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", mute.local_addr().expect("an address"));
    let silent = Treehold::new(options(&url).retries(0).silence(Duration::from_millis(100))).expect("a client");
    let error = silent.ready().await.expect_err("silence");
    assert!(matches!(error, Error::Transport(TransportError::Silent(_))), "{error:?}");
    let wrong = Treehold::new(treehold_client::Options::new(d.url("")).key("wr0ng-canary").expect("a key").no_proxy())
        .expect("a client");
    let error = wrong.project("p").show().await.expect_err("refused");
    assert_eq!((error.status(), error.code()), (Some(401), Some("unauthorized")));
    assert!(error.problem().expect("a problem").request_id.is_some());
    assert!(!format!("{error} {error:?} {wrong:?}").contains("canary"));
}
