//! Two users with two devices each: autosave, the other device's view, a conflict of the two; then commits and one push.

use serde_json::{Value, json};

use super::git::git;
use super::{PROJECT, Tour, call, check};
use crate::failure::Failure;
use crate::output::{clean, text};

/// Opaque to the store: users live in the caller's own database.
pub const ADA: &str = "a0000000-0000-4000-8000-00000000000a";
const GRACE: &str = "b0000000-0000-4000-8000-00000000000b";

/// Changed by Ada.
const GUIDE: &str = "docs/guide/getting-started.md";
/// Made by Grace.
const NOTES: &str = "docs/operations/on-call.md";
/// Changed by Grace.
const CONCEPTS: &str = "docs/guide/concepts.md";

fn file(path: &str, user: &str) -> String {
    format!("/files/{PROJECT}/{path}?user={user}")
}

fn pending(path: &str, user: &str) -> String {
    format!("/pending/{PROJECT}/{user}/{path}")
}

/// As the lines show it: whose, without the id.
fn short(route: &str) -> String {
    route.replace(ADA, "ADA").replace(GRACE, "GRACE")
}

impl Tour {
    /// Every edit is durable when it is answered, and on the user's other device at once.
    pub(super) async fn edit(&mut self) -> Result<(), Failure> {
        self.stage.chapter("Edit: two users, two devices each; nothing is committed yet")?;
        let (before, _) = self.open_file("Ada's laptop opens a file", GUIDE, ADA).await?;
        let first = format!("{before}\n## Written on the laptop\n");
        let saved = self.autosave("Ada's laptop saves an edit", GUIDE, ADA, None, &first).await?;
        self.stage.note(&format!(
            "{}, revision {}, blob {}",
            text(&saved, "action"),
            text(&saved, "revision"),
            text(&saved, "oid")
        ))?;
        let (seen, oid) = self.open_file("Ada's tablet opens the file", GUIDE, ADA).await?;
        check(seen == first, "the tablet does not see the laptop's edit")?;
        self.stage.note("the tablet sees the laptop's edit")?;
        let second = format!("{first}\n## Written on the tablet\n");
        self.autosave("the tablet saves on top of it (If-Match)", GUIDE, ADA, Some(&oid), &second).await?;
        self.stale_save(&oid, &first).await?;
        let (latest, oid) = self.open_file("so the laptop reads again", GUIDE, ADA).await?;
        let third = format!("{latest}\n## And on the laptop again\n");
        self.autosave("and saves on top of that", GUIDE, ADA, Some(&oid), &third).await?;

        self.autosave("Grace's desktop makes a new file", NOTES, GRACE, None, "# On call\n\nWho is called when.\n")
            .await?;
        let (seen, oid) = self.open_file("Grace's phone opens it", NOTES, GRACE).await?;
        let more = format!("{seen}\nFirst Grace, then Lin.\n");
        self.autosave("Grace's phone adds to it", NOTES, GRACE, Some(&oid), &more).await?;
        let (before, oid) = self.open_file("Grace's phone opens another file", CONCEPTS, GRACE).await?;
        let edited = format!("{before}\nSee also: the glossary.\n");
        self.autosave("and changes it", CONCEPTS, GRACE, Some(&oid), &edited).await?;
        self.not_shared().await
    }

    /// The file and its oid in the user's view.
    async fn open_file(&mut self, what: &str, path: &str, user: &str) -> Result<(String, String), Failure> {
        let route = file(path, user);
        let shown = short(&format!("GET {route}"));
        let read = async { self.api.get(&route).await?.ok() };
        let answer = self.stage.step(what, &shown, read).await?;
        let oid = answer.etag().ok_or_else(|| Failure::failed("the file came without an ETag"))?;
        Ok((String::from_utf8_lossy(&answer.body).into_owned(), oid))
    }

    async fn autosave(
        &mut self,
        what: &str,
        path: &str,
        user: &str,
        seen: Option<&str>,
        content: &str,
    ) -> Result<Value, Failure> {
        let route = pending(path, user);
        let shown = short(&format!("PUT {route}"));
        self.stage.step(what, &shown, call(self.api.put(&route, seen, content))).await
    }

    /// The laptop, which has not seen the tablet's edit, is told so instead of overwriting it.
    async fn stale_save(&mut self, seen: &str, content: &str) -> Result<(), Failure> {
        let route = pending(GUIDE, ADA);
        let shown = short(&format!("PUT {route}"));
        let save = async { self.api.put(&route, Some(seen), &format!("{content}\nStale.\n")).await?.expect(412) };
        let refused = self.stage.step("the laptop saves what is out of date by now", &shown, save).await?.json()?;
        self.stage.note(&format!("412 {}: the newer blob is {}", text(&refused, "code"), text(&refused, "oid")))
    }

    /// Pending work is its user's alone.
    async fn not_shared(&mut self) -> Result<(), Failure> {
        let route = file(NOTES, ADA);
        let shown = short(&format!("GET {route}"));
        let read = async { self.api.get(&route).await?.expect(404) };
        self.stage.step("Ada does not see Grace's new file", &shown, read).await.map(drop)
    }

    /// Two commits leave as one push; the number of pushes that the remote saw is returned.
    pub(super) async fn commit_and_push(&mut self) -> Result<usize, Failure> {
        self.stage.chapter("Commit: two users' work, then one push of precomputed objects")?;
        for (name, email, user, message) in [
            ("Ada Quill", "ada@example.org", ADA, "Say how to get started"),
            ("Grace Moor", "grace@example.org", GRACE, "Say who is on call"),
        ] {
            let route = format!("/projects/{PROJECT}/commit");
            let author = json!({"name": name, "email": email});
            let body = json!({"user": user, "message": message, "author": author, "push": false});
            let what = format!("{name} commits");
            let answer = self.stage.step(&what, &format!("POST {route}"), call(self.api.post(&route, &body))).await?;
            let files = answer["files"].as_array().map_or(0, Vec::len);
            self.stage.note(&format!(
                "commit {}: {files} file(s), {} objects",
                text(&answer, "commit"),
                text(&answer, "objects")
            ))?;
        }
        let route = format!("/projects/{PROJECT}/push");
        let body = json!({});
        let push = call(self.api.post(&route, &body));
        let pushed = self.stage.step("both leave in one push", &format!("POST {route}"), push).await?;
        let remote = self.remote();
        let log = git(&remote, &["log", "-3", "--format=%h %an: %s", "main"]);
        let log = self.stage.step("stock git shows them in the remote", "git log -3 main", log).await?;
        self.stage.note(&clean_lines(&log))?;
        let tip = git(&remote, &["rev-parse", "main"]).await?;
        check(pushed["to"].as_str() == Some(tip.trim()), "the remote does not have the commit that was pushed")?;
        let pushes = std::fs::read_to_string(remote.join("pushes.log")).unwrap_or_default().lines().count();
        check(pushes == 1, &format!("the remote saw {pushes} pushes instead of one"))?;
        self.stage.note("pushes that the remote's hook counted: 1")?;
        Ok(pushes)
    }
}

/// Control characters escaped, line ends kept.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}
