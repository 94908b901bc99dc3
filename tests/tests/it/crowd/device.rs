//! One of a user's two devices: it edits, alone with what it saw last, is away at times, replays, commits, pulls and resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Answer, Api};
use super::book::Book;
use super::text::{ANCHORS, anchor, both, insert, marks};
use super::{SHARED, shared};

/// How often something is tried again that somebody else got in the way of.
const TRIES: usize = 60;

/// A file as the device saw it last.
#[derive(Debug, Clone)]
struct Seen {
    oid: String,
    text: String,
}

pub struct Device {
    api: Arc<Api>,
    book: Arc<Book>,
    user: usize,
    id: Uuid,
    name: String,
    /// Which server it talks to now.
    at: usize,
    random: StdRng,
    seen: BTreeMap<String, Seen>,
    /// Files that only this device works on.
    own: Vec<String>,
    count: usize,
    /// Texts of its that met a conflict and were put into local history: each takes a number of the workspace.
    pub kept: usize,
}

impl Device {
    pub fn new(api: Arc<Api>, book: Arc<Book>, user: usize, id: Uuid, device: usize, random: StdRng) -> Self {
        let name = format!("u{user:02}d{device}");
        Self {
            api,
            book,
            user,
            id,
            name,
            at: device,
            random,
            seen: BTreeMap::new(),
            own: Vec::new(),
            count: 0,
            kept: 0,
        }
    }

    /// Does so many things.
    pub async fn work(mut self, steps: usize) -> Self {
        for _ in 0..steps {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..400))).await;
            match self.random.random_range(0..100) {
                0..47 => self.edit().await,
                47..60 => self.edit_as_agent().await,
                60..70 => self.away().await,
                70..78 => self.create().await,
                78..82 => self.rename().await,
                82..85 => self.delete().await,
                85..93 => self.commit().await,
                93..97 => self.pull().await,
                _ => self.search().await,
            }
        }
        self
    }

    /// Commits until nothing is pending.
    pub async fn finish(&mut self) {
        for _ in 0..TRIES {
            let list = self.api.get(self.at, &format!("/pending/{}/{}", self.api.project, self.id)).await.json(200);
            if list["changes"].as_array().is_some_and(Vec::is_empty) {
                return;
            }
            self.commit().await;
        }
        panic!("{} cannot commit everything", self.name);
    }

    fn url(&self, path: &str) -> String {
        format!("/pending/{}/{}/{path}", self.api.project, self.id)
    }

    /// Writes the next edit down.
    fn mark(&mut self) -> String {
        self.count += 1;
        let mark = format!("edit-{}-{:04}", self.name, self.count);
        self.book.sends(self.user, &mark);
        mark
    }

    fn key(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    fn a_shared_file(&mut self) -> String {
        shared(self.random.random_range(0..SHARED))
    }

    /// The file in the user's view.
    async fn read(&mut self, path: &str) -> Seen {
        let url = format!("/files/{}/{path}?user={}", self.api.project, self.id);
        let answer = self.api.get(self.at, &url).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let oid = answer.headers["etag"].to_str().expect("ASCII").trim_matches('"').to_owned();
        let seen = Seen { oid, text: answer.body };
        self.seen.insert(path.to_owned(), seen.clone());
        seen
    }

    /// What it has at hand, perhaps old.
    async fn look(&mut self, path: &str) -> Seen {
        match self.seen.get(path).filter(|_| self.random.random_bool(0.7)) {
            Some(seen) => seen.clone(),
            None => self.read(path).await,
        }
    }

    /// Saves `text` where the view has `before`. `false`: it has something else.
    async fn save(&mut self, path: &str, before: Option<&str>, text: &str, base: Option<&str>) -> bool {
        let url = base.map_or_else(|| self.url(path), |base| format!("{}?base={base}", self.url(path)));
        let request = self.api.request(self.at, "PUT", &url).body(text.to_owned());
        let request = match before {
            Some(oid) => request.header("If-Match", format!("\"{oid}\"")),
            None => request.header("If-None-Match", "*"),
        };
        let answer = self.api.send(request.header("Treehold-Device", &self.name)).await;
        if answer.status == 412 {
            self.book.tells("saves refused as another device was first");
            self.seen.remove(path);
            return false;
        }
        assert!([200, 201].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
        let saved: Value = serde_json::from_str(&answer.body).expect("JSON");
        let oid = saved["oid"].as_str().expect("an oid").to_owned();
        self.seen.insert(path.to_owned(), Seen { oid, text: text.to_owned() });
        true
    }

    /// An autosave.
    async fn edit(&mut self) {
        let (path, mark) = (self.a_shared_file(), self.mark());
        let after = self.random.random_range(0..ANCHORS);
        for _ in 0..TRIES {
            let Seen { oid, text } = self.look(&path).await;
            if self.save(&path, Some(&oid), &insert(&text, &mark, after), None).await {
                self.book.keeps([&mark]);
                self.book.tells("autosaves");
                return self.is_seen_elsewhere(&path, &mark).await;
            }
        }
        panic!("{} cannot save {path}", self.name);
    }

    /// What was answered is seen through the other server at once.
    async fn is_seen_elsewhere(&self, path: &str, mark: &str) {
        let url = format!("/files/{}/{path}?user={}", self.api.project, self.id);
        let answer = self.api.get(1 - self.at, &url).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.lines().any(|line| line == mark), "{mark} was saved and is not seen:\n{}", answer.body);
    }

    /// An edit by exact text, which needs to know no version.
    async fn edit_as_agent(&mut self) {
        let (path, mark) = (self.a_shared_file(), self.mark());
        let line = anchor(self.random.random_range(0..ANCHORS));
        let op = json!({"op": "edit", "path": path, "old_string": line, "new_string": format!("{line}{mark}\n")});
        let url = format!("/pending/{}/{}", self.api.project, self.id);
        let request = self.api.request(self.at, "POST", &url).header("Content-Type", "application/json");
        let request = request.header("Treehold-Actor", "agent:editor").header("Treehold-Session", self.name.clone());
        let answer = self.api.send(request.body(json!({"ops": [op]}).to_string())).await.json(200);
        assert_eq!(answer["results"][0]["status"], "applied", "{answer}");
        self.book.keeps([&mark]);
        self.book.tells("edits of agents");
        self.is_seen_elsewhere(&path, &mark).await;
    }

    /// Edits without a connection, and replays them; at times the answer is lost, and all of it is sent again.
    async fn away(&mut self) {
        let mut drafts: BTreeMap<String, (Seen, String, Vec<String>)> = BTreeMap::new();
        for _ in 0..self.random.random_range(2..6) {
            let path = self.a_shared_file();
            if !drafts.contains_key(&path) {
                let seen = self.look(&path).await;
                drafts.insert(path.clone(), (seen.clone(), seen.text, Vec::new()));
            }
            let (mark, after) = (self.mark(), self.random.random_range(0..ANCHORS));
            let (_, text, made) = drafts.get_mut(&path).expect("a draft");
            *text = insert(text, &mark, after);
            made.push(mark);
        }
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..1500))).await;
        self.at = self.random.random_range(0..2);
        let op = |(path, (seen, text, _)): (&String, &(Seen, String, Vec<String>))| json!({"op": "put", "path": path, "content": text, "base": seen.oid});
        let ops: Vec<Value> = drafts.iter().map(op).collect();
        let body = json!({"atomic": false, "on_conflict": "merge", "ops": ops});
        let (url, key) = (format!("/pending/{}/{}", self.api.project, self.id), self.key());
        let answer = self.api.post(self.at, &url, &key, &body).await.json(200);
        if self.random.random_bool(0.3) {
            assert_eq!(self.api.post(1 - self.at, &url, &key, &body).await.json(200), answer, "sent again");
        }
        for ((path, (_, text, made)), result) in drafts.iter().zip(answer["results"].as_array().expect("results")) {
            let status = result["status"].as_str().expect("a status");
            self.book.tells(&format!("replays {status}"));
            match status {
                "applied" | "merged" | "duplicate" => self.book.keeps(made),
                "conflict" => self.reconcile(path, text, result, made).await,
                _ => panic!("{result}"),
            }
            self.seen.remove(path);
        }
    }

    /// A replayed edit did not merge: both texts are there, and the person makes one of them.
    async fn reconcile(&mut self, path: &str, text: &str, result: &Value, made: &[String]) {
        self.kept += 1;
        let version = result["error"]["conflict"]["version"].as_str().expect("a version");
        let url = format!("/projects/{}/history/{version}?user={}", self.api.project, self.id);
        assert_eq!(self.api.get(self.at, &url).await.body, text, "what was sent is kept");
        for _ in 0..TRIES {
            let Seen { oid, text: theirs } = self.read(path).await;
            if self.save(path, Some(&oid), &both(text, &theirs), None).await {
                return self.book.keeps(made);
            }
        }
        panic!("{} cannot reconcile {path}", self.name);
    }

    async fn create(&mut self) {
        let (path, mark) = (format!("by/{}/{}.txt", self.name, self.count), self.mark());
        let text = insert(&super::text::fresh(), &mark, 0);
        assert!(self.save(&path, None, &text, None).await, "nobody else makes {path}");
        self.book.keeps([&mark]);
        self.own.push(path);
    }

    /// One operation on a file of its own.
    async fn on_own(&mut self, op: Value) {
        let (url, key) = (format!("/pending/{}/{}", self.api.project, self.id), self.key());
        let answer = self.api.post(self.at, &url, &key, &json!({"ops": [op]})).await.json(200);
        assert_eq!(answer["results"][0]["status"], "applied", "{answer}");
    }

    async fn rename(&mut self) {
        let Some(path) = self.own.choose(&mut self.random).cloned() else { return };
        let to = format!("by/{}/moved-{}.txt", self.name, self.count);
        let oid = self.read(&path).await.oid;
        self.on_own(json!({"op": "move", "from": path, "path": to, "mode": "100755", "expected_oid": oid})).await;
        self.book.tells("moves");
        self.own.retain(|own| *own != path);
        self.own.push(to);
    }

    async fn delete(&mut self) {
        let Some(path) = self.own.pop() else { return };
        let seen = self.read(&path).await;
        self.book.withdraws(&marks(&seen.text));
        self.on_own(json!({"op": "delete", "path": path, "expected_oid": seen.oid})).await;
        self.book.tells("deletions");
    }

    async fn commit(&mut self) {
        let url = format!("/projects/{}/commit", self.api.project);
        let body = json!({"user": self.id, "message": format!("By {}", self.name), "trailers": true,
            "author": {"name": self.name, "email": "a@example.org"}});
        for _ in 0..TRIES {
            let (asked, key) = (self.book.asks(), self.key());
            let answer = self.api.post(self.at, &url, &key, &body).await;
            match (answer.status, answer.code().as_str()) {
                (200, _) => return self.committed(asked, &answer.json(200)),
                (422, "nothing_to_commit") => return,
                (409, "conflict") => self.resolve(&answer).await,
                (409, "head_moved") => self.book.tells("commits that others were always faster than"),
                _ => panic!("{} {}", answer.status, answer.body),
            }
        }
        panic!("{} cannot commit", self.name);
    }

    fn committed(&mut self, asked: u64, answer: &Value) {
        self.book.tells("commits");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        assert_eq!(answer["pushed"], true, "{answer}");
        assert_eq!(answer["parents"].as_array().map(Vec::len), Some(1), "{answer}");
        let files = answer["files"].as_array().expect("files").iter();
        let files = files.map(|file| (text(&file["path"]), file["oid"].as_str().map(str::to_owned)));
        self.book.commits(asked, self.user, &text(&answer["commit"]), &text(&answer["parents"][0]), files.collect());
    }

    /// A commit met conflicts: all sides are shown, and the person makes one text of each.
    async fn resolve(&mut self, told: &Answer) {
        let told = told.json(409);
        for conflict in told["conflicts"].as_array().expect("conflicts") {
            self.book.tells("conflicts");
            let path = conflict["path"].as_str().expect("a path");
            let url = format!("/projects/{}/conflicts?user={}&against=remote", self.api.project, self.id);
            let page = self.api.get(self.at, &format!("{url}&path={path}")).await.json(200);
            let Some(file) = page["files"].get(0).filter(|file| file["state"] == "conflict") else { continue };
            let text = |side: &str| file[side]["content"].as_str().expect("a text").to_owned();
            let oid = |side: &str| file[side]["oid"].as_str().expect("an oid").to_owned();
            let (ours, theirs) = (text("ours"), text("theirs"));
            // The other device may be at it too; then there is another conflict, or none.
            self.save(path, Some(&oid("ours")), &both(&ours, &theirs), Some(&oid("theirs"))).await;
        }
    }

    async fn pull(&mut self) {
        let (url, key) = (format!("/projects/{}/sync", self.api.project), self.key());
        let answer = self.api.post(self.at, &url, &key, &json!({})).await;
        // A commit that is on its way is ours and not yet theirs; others may have moved the branch again and again.
        let passing = answer.status == 409 && ["diverged", "head_moved"].contains(&answer.code().as_str());
        assert!(answer.status == 200 || passing, "{} {}", answer.status, answer.body);
        self.book.tells("pulls");
    }

    /// Everything that was answered is found, through either server.
    async fn search(&mut self) {
        let kept = self.book.edits().into_iter().filter(|(_, edit)| edit.user == self.user);
        let kept: Vec<String> =
            kept.filter(|(_, edit)| edit.fate == super::book::Fate::Kept).map(|(mark, _)| mark).collect();
        let url = format!("/projects/{}/search", self.api.project);
        let mine = format!("edit-u{:02}d", self.user);
        let body = json!({"query": mine, "user": self.id, "limit": 1000});
        let found = self.api.post(1 - self.at, &url, "", &body).await.json(200);
        let matches = found["matches"].as_array().expect("matches").iter();
        let found: BTreeSet<&str> = matches.map(|found| found["text"].as_str().expect("a text").trim_end()).collect();
        let edits = self.book.edits();
        for mark in kept {
            let gone = edits[&mark].fate == super::book::Fate::Withdrawn;
            assert!(gone || found.contains(mark.as_str()), "{mark} was saved and is not found");
        }
        self.book.tells("searches");
    }
}
