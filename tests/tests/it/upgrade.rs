//! A new version of the server comes beside an old one, on one database and one bucket, then the old one goes: who works meanwhile loses
//! nothing. `TREEHOLD_OLD_BINARY` names the old version. Without it both are the version under test, and what is held is the procedure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment, REMOTE_TOKEN, Setup, binary};
use crate::feed::Stream;
use crate::remote_tools::*;
use crate::two_servers::Second;

/// People who edit all the time.
const USERS: usize = 4;
/// What each of them saves while one thing is so.
const SAVES: usize = 3;

/// Who works, and what was answered to them. Old answers are not held against the new document.
struct Work {
    client: reqwest::Client,
    project: Uuid,
    users: Vec<Uuid>,
    saved: BTreeMap<(Uuid, String), String>,
}

impl Work {
    async fn ask(&self, base: &str, method: &str, path: &str, body: String) -> Value {
        let request = self.client.request(method.parse().expect("a method"), format!("{base}{path}"));
        let request = request.header("X-Internal-API-Key", API_KEY).header("X-Remote-Token", REMOTE_TOKEN);
        let request = request.header("Content-Type", "application/json").body(body);
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let body = response.text().await.expect("a body");
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or(Value::String(body))
    }

    /// Everybody saves some files at the same time, in turn through the servers.
    async fn save(&mut self, phase: &str, bases: &[&str]) {
        let saves = (0..SAVES).flat_map(|nth| (0..USERS).map(move |who| (nth, who)));
        let saves: Vec<_> = saves
            .map(|(nth, who)| {
                let (user, path) = (self.users[who], format!("{who}/{phase}-{nth}.txt"));
                (bases[(nth + who) % bases.len()], user, path, format!("{phase} {nth} {who}\n"))
            })
            .collect();
        let project = self.project;
        let work = &*self;
        let sent = saves.iter().map(|(base, user, path, text)| async move {
            work.ask(base, "PUT", &format!("/pending/{project}/{user}/{path}"), text.clone()).await
        });
        futures::future::join_all(sent).await;
        self.saved.extend(saves.into_iter().map(|(_, user, path, text)| ((user, path), text)));
    }

    async fn commit(&self, base: &str, user: Uuid, message: &str) -> Value {
        let body = commit_body(user, message).to_string();
        self.ask(base, "POST", &format!("/projects/{}/commit", self.project), body).await
    }

    /// Everything that was answered is in its user's view.
    async fn all_is_there(&self, base: &str) {
        for user in &self.users {
            let own: Vec<_> = self.saved.iter().filter(|((of, _), _)| of == user).collect();
            let paths: Vec<&str> = own.iter().map(|((_, path), _)| path.as_str()).collect();
            let body = json!({"paths": paths, "user": user}).to_string();
            let read = self.ask(base, "POST", &format!("/projects/{}/read", self.project), body).await;
            for (file, (_, text)) in read["files"].as_array().expect("files").iter().zip(own) {
                assert_eq!(file["content"], text.as_str(), "{file}");
            }
        }
    }
}

/// Goal: no edit, commit or event is lost, and no request is refused, from before the new version came until after the old one went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling() {
    let old = std::env::var_os("TREEHOLD_OLD_BINARY").map_or_else(|| binary().to_owned(), PathBuf::from);
    let mut d = Deployment::start_version(Setup::Cluster, old).await;
    let (remote, project) = (small_remote(&d, "docs"), Uuid::new_v4());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let users = (0..USERS).map(|_| Uuid::new_v4()).collect();
    let mut work = Work { client, project, users, saved: BTreeMap::new() };
    let first = d.url("");
    let body = json!({"remote": {"url": d.git.url("docs")}}).to_string();
    work.ask(&first, "PUT", &format!("/projects/{project}"), body).await;
    work.ask(&first, "POST", &format!("/projects/{project}/sync"), "{}".to_owned()).await;
    let mut stream = Stream::open(&format!("{first}/projects/{project}/changes?since=start"), None).await;

    work.save("old", &[&first]).await;
    work.commit(&first, work.users[0], "By the old version").await;
    // What an old server began is there when the new schema comes.
    let new = Second::start_version(&d, binary()).await;
    let second = new.base().to_owned();
    for phase in ["both", "both again"] {
        work.save(phase, &[&first, &second]).await;
        work.all_is_there(&first).await;
        work.all_is_there(&second).await;
    }
    work.commit(&first, work.users[1], "By the old version on the new schema").await;
    work.commit(&second, work.users[2], "By the new version beside the old one").await;
    let keys = |work: &Work| work.saved.keys().cloned().collect::<BTreeSet<_>>();
    let mut told = events(&mut stream, keys(&work)).await;

    // The old one is told to go; what it was asked before is answered.
    let cursor = stream.last_id.clone();
    drop(stream);
    let bases = [second.as_str()];
    let ((), ()) = futures::future::join(work.save("going", &bases), d.stop()).await;
    work.save("new", &[&second]).await;
    let mut stream = Stream::open(&format!("{second}/projects/{project}/changes"), Some(&cursor)).await;
    let open = keys(&work).into_iter().filter(|key| !told.contains(key)).collect();
    told.extend(events(&mut stream, open).await);
    work.all_is_there(&second).await;

    assert_eq!(told.len(), work.saved.len(), "the feed told each once: {told:?}");
    for user in &work.users {
        work.commit(&second, *user, "The rest").await;
    }
    assert_eq!(remote.count(), 3 + 3 + USERS);
    for ((_, path), text) in &work.saved {
        assert_eq!(&remote.file(path), text);
    }
    remote.bare.fsck_strict();
}

/// The saves that the stream tells of, until it has told all that are `open`.
async fn events(stream: &mut Stream, mut open: BTreeSet<(Uuid, String)>) -> Vec<(Uuid, String)> {
    let mut told = Vec::new();
    while !open.is_empty() {
        let sent = stream.next().await.expect("an event");
        let data = &sent.data;
        if sent.name == "pending" && data["action"] != "committed" {
            let user = data["user"].as_str().and_then(|user| user.parse().ok()).expect("a user");
            let key = (user, data["path"].as_str().expect("a path").to_owned());
            open.remove(&key);
            told.push(key);
        }
    }
    told
}
