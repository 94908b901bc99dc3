//! The change feed: what is told, to whom, and that nothing is skipped or told twice.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, blob_oid};
use crate::remote_tools::*;

/// How long a reader waits until it gives up: much longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event of a stream.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// A reader of a stream, as a browser is one.
pub struct Stream {
    response: reqwest::Response,
    text: String,
    /// The cursor that it would come back with.
    pub last_id: String,
}

impl Stream {
    /// Opens a stream; `url` is the whole of it.
    pub async fn open(url: &str, last_id: Option<&str>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = client.get(url).header("X-Internal-API-Key", API_KEY).header("Accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), last_id: last_id.unwrap_or_default().to_owned() }
    }

    /// The next event with data; `None` at the end of the stream, or where it breaks.
    pub async fn next(&mut self) -> Option<Sent> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let sent = parse(block);
                self.text = rest.to_owned();
                if !sent.id.is_empty() {
                    self.last_id.clone_from(&sent.id);
                }
                if !sent.name.is_empty() {
                    return Some(sent);
                }
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters in these tests"));
        }
    }

    /// Waits for the first sign of life, and so for a cursor to come back with.
    async fn ready(&mut self) {
        tokio::time::timeout(PATIENCE, async {
            while self.last_id.is_empty() {
                let chunk = self.response.chunk().await.expect("a stream").expect("a piece");
                self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
                if let Some((block, _)) = self.text.split_once("\n\n") {
                    self.last_id = parse(block).id;
                }
            }
        })
        .await
        .expect("a sign of life");
    }
}

fn parse(block: &str) -> Sent {
    let mut sent = Sent::default();
    for line in block.lines() {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", id) => sent.id = id.to_owned(),
            ("event", name) => sent.name = name.to_owned(),
            ("data", data) => sent.data = serde_json::from_str(data).expect("JSON"),
            _ => {}
        }
    }
    sent
}

fn changes(project: Uuid) -> String {
    format!("/projects/{project}/changes")
}

/// A page after a cursor.
async fn page(d: &Deployment, project: Uuid, since: &str, more: &str) -> Value {
    d.get(&format!("{}?since={since}{more}", changes(project))).await.ok(200)
}

/// The cursor of now.
async fn now(d: &Deployment, project: Uuid) -> String {
    let page = d.get(&changes(project)).await.ok(200);
    assert_eq!((&page["events"], &page["more"]), (&json!([]), &json!(false)));
    text(&page["next_cursor"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Members of each event, in short.
fn picked(page: &Value, members: &[&str]) -> Vec<Value> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| members.iter().map(|name| event[name].clone()).collect()).collect()
}

/// Saves as a device does.
async fn save_as(d: &Deployment, project: Uuid, user: Uuid, path: &str, content: &str, device: &str) -> Value {
    let request = d.request("PUT", &format!("/pending/{project}/{user}/{path}")).body(content.to_owned());
    let request = request.header("Treehold-Device", device).header("Treehold-Actor", "agent:a");
    let reply = d.send(request.header("Treehold-Session", "s-1")).await;
    assert!([200, 201].contains(&reply.status), "{}", reply.text());
    reply.ok(reply.status)
}

both! {
    /// Goal: where an edit comes from is kept with it and shown; a malformed origin is refused before anything is written.
    async fn origins(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        save_as(&d, project, user, "a.txt", "1\n", "Ann\u{e9}'s laptop").await;
        save(&d, project, user, "b.txt", "1\n").await;
        let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
        let shown = |n: usize| json!([list["changes"][n]["device"], list["changes"][n]["actor"], list["changes"][n]["session"]]);
        assert_eq!(shown(0), json!(["Ann\u{e9}'s laptop", "agent:a", "s-1"]));
        assert!(list["changes"][1].get("device").is_none(), "only where it was said");
        let path = format!("/pending/{project}/{user}/c.txt");
        for (name, value) in [("Treehold-Device", ""), ("Treehold-Actor", "robot"), ("Treehold-Session", &"s".repeat(201))] {
            let reply = d.send(d.request("PUT", &path).body("x").header(name, value)).await;
            assert_eq!(reply.problem(400, "bad_header")["header"], name);
            d.send(d.request("DELETE", &path).header(name, value)).await.problem(400, "bad_header");
        }
        d.get(&path).await.problem(404, "nothing_pending");
    }

    /// Goal: an edit on device A reaches B's stream with user, device, revision and what it is; so does its end.
    async fn another_device(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let mut b = Stream::open(&d.url(&changes(project)), None).await;
        b.ready().await;
        let saved = save_as(&d, project, user, "dir/a.txt", "1\n", "laptop").await;
        let sent = b.next().await.expect("an event");
        assert_eq!((sent.name.as_str(), &sent.data["cursor"]), ("pending", &json!(sent.id)));
        let mut data = sent.data;
        let at = data["at"].take();
        assert!(text(&at).ends_with('Z'));
        assert_eq!(data, json!({"cursor": sent.id, "at": null, "kind": "pending", "user": user, "branch": "main", "path": "dir/a.txt",
            "action": "created", "mode": "100644", "oid": saved["oid"], "base_oid": null, "revision": 1,
            "device": "laptop", "actor": "agent:a", "session": "s-1"}));
        // Nothing new: nothing is told.
        save_as(&d, project, user, "dir/a.txt", "1\n", "phone").await;
        d.delete(&format!("/pending/{project}/{user}/dir/a.txt")).await.ok(200);
        let sent = b.next().await.expect("an event").data;
        assert_eq!(json!([sent["action"], sent["oid"], sent["revision"], sent.get("device")]), json!(["dropped", null, 2, null]));
        save(&d, project, user, "x", "1").await;
        save(&d, project, user, "y", "1").await;
        let all = d.request("DELETE", &format!("/pending/{project}/{user}")).header("Treehold-Device", "phone");
        d.send(all).await.ok(200);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let sent = b.next().await.expect("an event").data;
            seen.push(json!([sent["path"], sent["action"], sent["revision"], sent["device"]]));
        }
        assert_eq!(seen[2..], [json!(["x", "dropped", 5, "phone"]), json!(["y", "dropped", 6, "phone"])]);
    }

    /// Goal: one cursor for polls, long polls and streams. Without one the answer is where the feed is now; `start` is its beginning; a long
    /// poll is answered when something happens, and with nothing when its time is over.
    async fn polls(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let start = now(&d, project).await;
        assert_eq!(page(&d, project, &start, "&wait=0").await["next_cursor"], json!(start));
        let waiting = {
            let (url, start) = (d.url(&changes(project)), start.clone());
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let request = client.get(format!("{url}?since={start}&wait=30")).header("X-Internal-API-Key", API_KEY);
            tokio::spawn(async move { request.send().await.expect("an answer").text().await.expect("a body") })
        };
        save(&d, project, user, "a", "1").await;
        let polled: Value = serde_json::from_str(&waiting.await.expect("a task")).expect("JSON");
        assert_eq!(picked(&polled, &["path", "revision"]), [json!(["a", 1])]);
        for n in 2..6 {
            save(&d, project, user, "a", &n.to_string()).await;
        }
        let all = page(&d, project, "start", "").await;
        assert_eq!(all["events"][0], polled["events"][0]);
        assert_eq!((&all["more"], all["events"].as_array().map(Vec::len)), (&json!(false), Some(5)));
        assert_eq!(all["next_cursor"], json!(now(&d, project).await));
        // In pages, each from the cursor of the one before, or of any event.
        let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
        loop {
            let page = page(&d, project, &cursor, "&limit=2").await;
            seen.extend(page["events"].as_array().expect("events").clone());
            cursor = text(&page["next_cursor"]).to_owned();
            if page["more"] == json!(false) {
                break;
            }
        }
        assert_eq!(json!(seen), all["events"]);
        let after = page(&d, project, text(&all["events"][2]["cursor"]), "&limit=999999&wait=-1").await;
        assert_eq!(picked(&after, &["revision"]), [json!([4]), json!([5])]);
        assert_eq!(page(&d, project, &cursor, "&wait=1").await["events"], json!([]));
    }

    /// Goal: bad cursors, and those of other projects, are refused, by a stream before it begins, too.
    async fn bad_cursors(d) {
        let (project, other) = (d.local_project().await, d.local_project().await);
        let foreign = now(&d, other).await;
        for bad in ["x", "1", "AA", &foreign, &foreign[1..]] {
            let url = format!("{}?since={bad}", changes(project));
            d.get(&url).await.problem(400, "bad_cursor");
            let reply = d.send(d.request("GET", &url).header("Accept", "text/event-stream")).await;
            reply.problem(400, "bad_cursor");
            let stream = d.request("GET", &changes(project)).header("Accept", "text/event-stream");
            d.send(stream.header("Last-Event-ID", bad)).await.problem(400, "bad_cursor");
        }
        for bad in ["wait=x", "limit=", "user=7", "since=start&since=start"] {
            assert_eq!(d.get(&format!("{}?{bad}", changes(project))).await.status, 400, "{bad}");
        }
        d.get(&changes(Uuid::new_v4())).await.problem(404, "project_not_found");
    }

    /// Goal: of pending work a reader can have only one user's; the cursor goes on all the same.
    async fn one_user(d) {
        let (project, ann, bob) = (d.local_project().await, Uuid::new_v4(), Uuid::new_v4());
        let mut stream = Stream::open(&d.url(&format!("{}?user={ann}&since=start", changes(project))), None).await;
        stream.ready().await;
        save(&d, project, bob, "b", "1").await;
        save(&d, project, ann, "a", "1").await;
        save(&d, project, bob, "b", "2").await;
        let head = d.put(&format!("/files/{project}/f"), "f").await.ok(200);
        let last = now(&d, project).await;
        let mine = page(&d, project, "start", &format!("&user={ann}")).await;
        assert_eq!(picked(&mine, &["kind", "path", "to"]), [json!(["pending", "a", null]), json!(["ref", null, head["commit"]])]);
        save(&d, project, bob, "b", "3").await;
        let one = page(&d, project, "start", &format!("&user={ann}&limit=1")).await;
        assert_eq!((one["events"].as_array().map(Vec::len), &one["more"]), (Some(1), &json!(true)));
        let rest = page(&d, project, &last, &format!("&user={ann}")).await;
        assert_eq!((&rest["events"], &rest["next_cursor"]), (&json!([]), &json!(now(&d, project).await)));
        let (first, second) = (stream.next().await.expect("an event"), stream.next().await.expect("an event"));
        assert_eq!((&first.data["path"], &second.data["kind"]), (&json!("a"), &json!("ref")));
    }

    /// Goal: commits, received pushes, syncs, ref changes and pushes to the remote are told, with what goes with them.
    async fn everything_else(d) {
        let remote = small_remote(&d, "docs");
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        let head = remote.head();
        let first = page(&d, project, "start", "").await;
        assert_eq!(picked(&first, &["kind", "from", "to", "name", "branch", "reason"]), [
            json!(["ref", null, head, "refs/heads/main", null, "sync"]), json!(["sync", null, head, null, "main", null])]);
        save(&d, project, user, "text.txt", "new\n").await;
        save(&d, project, user, "later.txt", "1\n").await;
        let start = now(&d, project).await;
        let body = with(commit_body(user, "One"), json!({"paths": ["text.txt"]}));
        let made = commit(&d, project, body).await.ok(200);
        let told = page(&d, project, &start, "").await;
        assert_eq!(picked(&told, &["kind", "to", "path", "oid", "action", "commit", "outcome", "user"]), [
            json!(["ref", made["commit"], null, null, null, null, null, null]),
            json!(["pending", null, "text.txt", blob_oid(b"new\n"), "committed", null, null, user]),
            json!(["push", null, null, null, null, made["commit"], "pushed", user])]);
        assert_eq!(told["events"][0]["reason"], json!("commit"));
        // The remote refuses.
        remote.refuse("No.");
        let start = now(&d, project).await;
        commit(&d, project, commit_body(user, "Two")).await.problem(422, "push_rejected");
        let told = page(&d, project, &start, "").await;
        assert_eq!(picked(&told, &["kind", "outcome", "branch", "user"]), [json!(["push", "rejected", "main", user])]);
        remote.allow();
        // Others move the branch.
        let theirs = remote.moves(&[("theirs.txt", Some(b"t\n"))]);
        let start = now(&d, project).await;
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let side = format!("/projects/{project}/refs/heads/side");
        d.put_json(&side, json!({"oid": theirs})).await.ok(201);
        d.delete(&side).await;
        let told = page(&d, project, &start, "").await;
        assert_eq!(picked(&told, &["kind", "to", "reason"]), [
            json!(["ref", theirs, "sync"]), json!(["sync", theirs, null]), json!(["ref", theirs, "api"]), json!(["ref", null, "api"])]);
        // A git client pushes to us.
        let start = now(&d, project).await;
        let (dir, clone) = d.export(project).await;
        let to = d.url(&format!("/git/{project}.git")).replace("http://", &format!("http://x:{API_KEY}@"));
        clone.git().run(["push", "--quiet", &to, "main:refs/heads/pushed"]);
        let told = page(&d, project, &start, "").await;
        let expected = json!(["ref", "refs/heads/pushed", null, theirs, "push"]);
        assert_eq!(picked(&told, &["kind", "name", "from", "to", "reason"]), [expected]);
        drop(dir);
    }

    /// Goal: a stream is resumed by its last id, across kill -9 and restart of the server, with nothing lost or told twice. Method: saves
    /// go on all the while; what a stream has told, in all, is compared with what a poll from the start tells.
    async fn resumed(d) {
        let (mut d, user) = (d, Uuid::new_v4());
        let project = d.local_project().await;
        let start = now(&d, project).await;
        let (mut cursor, mut seen) = (start.clone(), Vec::new());
        for round in 0..3 {
            let mut stream = Stream::open(&d.url(&changes(project)), Some(&cursor)).await;
            for n in 0..6 {
                save(&d, project, user, &format!("{}.txt", n % 3), &format!("{round} {n}")).await;
            }
            // Not all of it is read before the server dies.
            for _ in 0..4 {
                seen.push(stream.next().await.expect("an event").data);
            }
            cursor.clone_from(&stream.last_id);
            d.kill();
            d.up().await;
        }
        let mut stream = Stream::open(&d.url(&changes(project)), Some(&cursor)).await;
        while seen.len() < 18 {
            seen.push(stream.next().await.expect("an event").data);
        }
        assert_eq!(json!(seen), page(&d, project, &start, "").await["events"]);
        let revisions: Vec<i64> = seen.iter().filter_map(|event| event["revision"].as_i64()).collect();
        assert_eq!(revisions, (1..=18).collect::<Vec<_>>());
    }

    /// Goal: of many writers nothing is skipped or told twice, to polls and to streams, however they take turns. Method: every reader must
    /// have each workspace's revisions once and in order.
    async fn many_writers(d) {
        let project = d.local_project().await;
        let start = now(&d, project).await;
        let users: Vec<Uuid> = (0..6).map(|_| Uuid::new_v4()).collect();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(Stream::open(&d.url(&changes(project)), Some(&start)).await);
        }
        let (d, users) = (&d, &users);
        let writing = users.iter().map(|user| async move {
            for n in 0..15 {
                save(d, project, *user, &format!("{}.txt", n % 4), &format!("{n}")).await;
            }
        });
        let count = users.len() * 15;
        let reading = streams.into_iter().map(|mut stream| async move {
            let mut seen = Vec::new();
            while seen.len() < count {
                seen.push(stream.next().await.expect("an event").data);
            }
            seen
        });
        let polling = async {
            let (mut cursor, mut seen) = (start.clone(), Vec::new());
            while seen.len() < count {
                let page = page(d, project, &cursor, "&wait=30&limit=7").await;
                cursor = text(&page["next_cursor"]).to_owned();
                seen.extend(page["events"].as_array().expect("events").clone());
            }
            seen
        };
        let (_, streamed, polled) =
            futures::join!(futures::future::join_all(writing), futures::future::join_all(reading), polling);
        for user in users {
            let of_user = polled.iter().filter(|event| event["user"] == json!(user));
            let revisions: Vec<i64> = of_user.filter_map(|event| event["revision"].as_i64()).collect();
            assert_eq!(revisions, (1..=15).collect::<Vec<_>>());
        }
        for seen in streamed {
            assert_eq!(seen, polled);
        }
    }

    /// Goal: a cursor whose events are gone is told so, by a poll and by a stream.
    async fn expired(d) {
        let (mut d, user) = (d, Uuid::new_v4());
        let project = d.local_project().await;
        let old = now(&d, project).await;
        for n in 0..8 {
            save(&d, project, user, "a", &n.to_string()).await;
        }
        d.set("TREEHOLD_FEED_EVENTS", "3");
        d.kill();
        d.up().await;
        let url = format!("{}?since={old}", changes(project));
        // Housekeeping begins with the server, not before it.
        let mut reply = d.get(&url).await;
        for _ in 0..600 {
            if reply.status != 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            reply = d.get(&url).await;
        }
        reply.problem(410, "cursor_expired");
        let stream = d.request("GET", &url).header("Accept", "text/event-stream");
        d.send(stream).await.problem(410, "cursor_expired");
        let kept = page(&d, project, "start", "").await;
        assert_eq!(picked(&kept, &["revision"]), [json!([6]), json!([7]), json!([8])]);
    }

    /// Goal: a project that is deleted ends its streams and long polls.
    async fn deleted(d) {
        let project = d.local_project().await;
        let start = now(&d, project).await;
        let mut stream = Stream::open(&d.url(&changes(project)), None).await;
        stream.ready().await;
        let waiting = {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let url = format!("{}?since={start}&wait=30", d.url(&changes(project)));
            let request = client.get(url).header("X-Internal-API-Key", API_KEY);
            tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() })
        };
        d.delete(&format!("/projects/{project}")).await;
        let sent = stream.next().await.expect("an event");
        assert_eq!((sent.name.as_str(), &sent.data["code"]), ("gone", &json!("project_not_found")));
        assert!(stream.next().await.is_none(), "the stream ends");
        assert_eq!(waiting.await.expect("a task"), 404);
        // One of the same id is another one.
        d.put_json(&format!("/projects/{project}"), json!({})).await.ok(201);
        d.get(&format!("{}?since={start}", changes(project))).await.problem(410, "cursor_expired");
    }
}

/// Goal: streams do not keep a server from ending in order, and their number is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_the_server() {
    let mut d = Deployment::start(crate::deployment::Setup::Embedded).await;
    d.kill();
    d.set("TREEHOLD_MAX_WATCHERS", "2");
    d.set("TREEHOLD_PROJECT_SHARE", "100");
    d.up().await;
    let project = d.local_project().await;
    let mut one = Stream::open(&d.url(&changes(project)), None).await;
    let _two = Stream::open(&d.url(&changes(project)), None).await;
    one.ready().await;
    let refused = d.get(&changes(project)).await;
    assert!([429, 503].contains(&refused.status), "{}", refused.text());
    assert!(!refused.header("retry-after").is_empty());
    d.get(&format!("/projects/{project}")).await.ok(200);
    d.stop().await;
    assert!(one.next().await.is_none(), "the stream has ended");
    assert!(!d.log().contains("gave up waiting"), "nothing had to be cut off");
}

/// Goal: two servers on one database and bucket: what is saved through one reaches the streams of the other, in the same order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers() {
    let d = Deployment::start(crate::deployment::Setup::Cluster).await;
    let second = crate::two_servers::Second::start(&d).await;
    let (project, user) = (d.local_project().await, Uuid::new_v4());
    let start = now(&d, project).await;
    let bases = [d.url(""), second.base().to_owned()];
    let mut streams = Vec::new();
    for base in &bases {
        streams.push(Stream::open(&format!("{base}{}", changes(project)), Some(&start)).await);
    }
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for n in 0..10 {
        let url = format!("{}/pending/{project}/{user}/{n}", bases[n % 2]);
        let request = client.put(url).header("X-Internal-API-Key", API_KEY).body("x");
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), 201);
    }
    let mut seen = [Vec::new(), Vec::new()];
    for (stream, seen) in streams.iter_mut().zip(&mut seen) {
        while seen.len() < 10 {
            seen.push(stream.next().await.expect("an event").data);
        }
    }
    assert_eq!(seen[0], seen[1]);
    let cursors: HashSet<&str> = seen[0].iter().map(|event| text(&event["cursor"])).collect();
    assert_eq!(cursors.len(), 10);
    // A cursor of one server is one of the other, and a deletion through one ends the streams of the other.
    let url = format!("{}{}?since={}", bases[1], changes(project), text(&seen[0][4]["cursor"]));
    let rest = client.get(url).header("X-Internal-API-Key", API_KEY).send().await.expect("an answer");
    let rest: Value = serde_json::from_str(&rest.text().await.expect("a body")).expect("JSON");
    assert_eq!(rest["events"].as_array().expect("events")[..], seen[1][5..]);
    d.delete(&format!("/projects/{project}")).await;
    for mut stream in streams {
        assert_eq!(stream.next().await.expect("an event").name, "gone");
    }
}
