//! Who works with the engine, and what they know: only what was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rand::Rng;
use rand::rngs::StdRng;
use treehold_engine::api::{
    At, Author, BatchAnswer, CommitAnswer, CommitRequest, Condition, ForkSpec, Oid, OnConflict, OnDiverged, OpResult,
    Origin, PendingAnswer, PendingBody, PutPending, RefRequest, SyncRequest,
};
use treehold_engine::{Engine, EngineError, GcOptions, PushedPack, RepackOptions, VerifyOptions, VerifyReport};
use treehold_fault::{Faults, Moment};
use treehold_object::{CommitSpec, Kind, ObjectId, Signature, TreeEntry, encode_tree, hash};
use treehold_wire::push::{PackOptions, PushObject, PushPack};
use treehold_wire::serve::{PushCapabilities, ReceiveHead, RefCommand, Report};
use uuid::Uuid;

use crate::gate::Gate;
use crate::life::Deed;
use crate::world::{Clock, GRACE};

/// What a file is to its user. `None` = there is none.
pub type Content = Option<Vec<u8>>;

/// A path, and the id of what is to be there; `None` = nothing.
pub type Edit = (String, Option<String>);

/// What came out of a deed.
#[derive(Debug)]
pub enum Done {
    Saved(usize, String, Content, Result<PendingAnswer, EngineError>),
    Committed(usize, String, Result<CommitAnswer, EngineError>),
    Pushed(Option<ObjectId>, Result<Report, EngineError>),
    /// Several files at once.
    Written(usize, Vec<(String, Content)>, Result<BatchAnswer, EngineError>),
    /// What was pending at a path, or all of it, was taken back.
    Dropped(usize, Option<String>, Result<(), EngineError>),
    /// A version of a file was restored: what is there then; `None` = there is none to restore.
    Restored(usize, String, Result<Option<OpResult>, EngineError>),
    /// A push of what belongs to another project.
    Stolen(Result<Report, EngineError>),
    Forked(Result<(), EngineError>),
    Deleted(Result<(), EngineError>),
    Verified(Result<VerifyReport, EngineError>),
    Other(&'static str, Result<(), EngineError>),
}

impl Done {
    /// One line for the trace.
    pub fn told(&self) -> String {
        match self {
            Done::Saved(_, path, content, Ok(answer)) => {
                format!(
                    "=> saved {path} {:?}: {:?} on {:?}, revision {}",
                    text(content),
                    answer.action,
                    answer.base_oid,
                    answer.revision
                )
            }
            Done::Saved(_, path, content, Err(error)) => format!("=> not saved {path} {:?}: {error}", text(content)),
            Done::Committed(_, key, Ok(answer)) => {
                let files: Vec<_> =
                    answer.files.iter().map(|file| format!("{} {:?}", file.path.0, file.action)).collect();
                format!("=> {key}: {} on {:?}, {files:?}", answer.commit, answer.parents)
            }
            Done::Committed(_, key, Err(error)) => format!("=> {key}: {error}"),
            Done::Written(_, edits, answer) => {
                let edits: Vec<_> = edits.iter().map(|(path, content)| (path, text(content))).collect();
                format!("=> written {edits:?}: {answer:?}")
            }
            Done::Dropped(_, path, answer) => format!("=> dropped {path:?}: {answer:?}"),
            Done::Restored(_, path, answer) => format!("=> restored {path}: {answer:?}"),
            Done::Verified(answer) => format!("=> verified: {answer:?}"),
            Done::Pushed(new, answer) => format!("=> pushed {new:?}: {answer:?}"),
            Done::Stolen(answer) => format!("=> stolen: {answer:?}"),
            Done::Forked(answer) => format!("=> forked: {answer:?}"),
            Done::Deleted(answer) => format!("=> deleted: {answer:?}"),
            Done::Other(name, answer) => format!("=> {name}: {answer:?}"),
        }
    }
}

/// The beginning of a content, to tell it by.
pub fn text(content: &Content) -> Option<String> {
    content.as_ref().map(|content| String::from_utf8_lossy(content).lines().next().unwrap_or_default().to_owned())
}

/// What sets a content apart from those of all other projects.
const OWN: &str = " of ";

/// Whether no other project can have the content of its own accord.
pub fn is_own(content: &Content) -> bool {
    text(content).is_some_and(|text| text.contains(OWN))
}

/// Whether a push did what it was to do.
pub fn moved(report: &Report) -> bool {
    report.unpack.is_ok() && report.refs.iter().all(|status| status.result.is_ok())
}

/// A content's id.
pub fn named_text(content: &Content) -> Option<ObjectId> {
    content.as_ref().map(|content| named(Kind::Blob, content))
}

/// Files of each user.
pub const FILES: u32 = 3;

/// A file of one user, which nobody else touches.
#[derive(Debug, Default)]
pub struct File {
    /// What was answered last.
    pub known: Content,
    /// What was sent since, and not answered with success: it may or may not be there.
    pub unsure: Vec<Content>,
}

#[derive(Debug)]
pub struct Person {
    pub id: Uuid,
    /// Tells the people of this project from those of others.
    pub of: String,
    pub files: BTreeMap<String, File>,
    /// Commits that were answered, by key.
    pub commits: BTreeMap<String, CommitAnswer>,
    /// Keys whose request was answered that there is nothing to commit.
    pub nothing: Vec<String>,
    /// A commit that was not answered yet.
    pub open: Option<(String, bool)>,
    /// Whether a commit of theirs is not settled: it may be that it landed at the remote, and that our branch has not got it.
    pub waits: bool,
    /// How often each edit was sent.
    pub sent: BTreeMap<Edit, u32>,
    /// Every content that was sent, by path.
    pub texts: BTreeMap<String, Vec<Content>>,
    /// What was sent in this round to be done as a whole or not at all.
    pub together: Vec<(String, Content)>,
    /// Paths whose pending work was to be taken back in this round, and whether that was answered.
    pub dropped: BTreeMap<String, bool>,
    saves: u32,
    keys: u32,
}

impl Person {
    pub fn new(id: Uuid) -> Person {
        Person::of(id, "")
    }

    pub fn of(id: Uuid, of: &str) -> Person {
        Person {
            id,
            of: of.to_owned(),
            files: BTreeMap::new(),
            commits: BTreeMap::new(),
            nothing: Vec::new(),
            open: None,
            waits: false,
            sent: BTreeMap::new(),
            texts: BTreeMap::new(),
            together: Vec::new(),
            dropped: BTreeMap::new(),
            saves: 0,
            keys: 0,
        }
    }

    /// Saves or deletes a file.
    pub fn save(&mut self, who: usize, engine: Engine, project: String, random: &mut StdRng) -> Deed<Done> {
        let path = self.path(who, random.random_range(0..FILES));
        let known = self.files.get(&path).is_some_and(|file| file.known.is_some() && file.unsure.is_empty());
        let gone = known && random.random_ratio(1, 10);
        let content = (!gone).then(|| self.fresh(who, random));
        let put = edit(content.clone());
        let id = self.id;
        self.sends(&path, content.clone());
        Box::pin(async move {
            let saved = engine.put_pending(&project, id, path.as_bytes(), put).await;
            Done::Saved(who, path, content, saved)
        })
    }

    pub fn path(&self, who: usize, file: u32) -> String {
        format!("by/{}{who}/{file}", self.of)
    }

    /// A text that they have not sent yet: mostly what somebody in another project sends, too; short, or too long to be kept inline.
    pub fn fresh(&mut self, who: usize, random: &mut StdRng) -> Vec<u8> {
        self.saves += 1;
        let line = match random.random_ratio(1, 3) {
            true => format!("{who} {}{OWN}{}\n", self.saves, self.of),
            false => format!("{who} {}\n", self.saves),
        };
        let times = if random.random_ratio(2, 5) { 40 } else { 1 };
        line.repeat(times).into_bytes()
    }

    /// From here on a file may have this content.
    pub fn sends(&mut self, path: &str, content: Content) {
        let oid = named_text(&content).map(|oid| oid.to_string());
        *self.sent.entry((path.to_owned(), oid)).or_default() += 1;
        self.texts.entry(path.to_owned()).or_default().push(content.clone());
        self.files.entry(path.to_owned()).or_default().unsure.push(content);
    }

    /// Commits, again under the same key if the last commit was not answered.
    pub fn commit(&mut self, who: usize, engine: Engine, project: String, push: bool) -> Deed<Done> {
        let (keys, of) = (&mut self.keys, &self.of);
        let (key, push) = self.open.get_or_insert_with(|| {
            *keys += 1;
            (format!("commit {keys} of {of}{who}"), push)
        });
        let (key, push) = (key.clone(), *push);
        let request = request(self.id, &key, push);
        Box::pin(async move {
            let committed = engine.commit(&project, &request, None, Some(&key)).await;
            Done::Committed(who, key, committed)
        })
    }
}

/// A commit of all that a user has pending.
pub fn request(user: Uuid, message: &str, push: bool) -> CommitRequest {
    CommitRequest {
        user,
        message: message.to_owned(),
        author: Author { name: "A".to_owned(), email: "a@example.org".to_owned(), date: None },
        branch: None,
        paths: None,
        expected_head_sha: None,
        on_conflict: OnConflict::Merge,
        push: Some(push),
        dry_run: false,
        trailers: false,
        sign: None,
    }
}

/// An edit that is saved whatever is there. `None` deletes.
pub fn edit(content: Option<impl Into<Bytes>>) -> PutPending {
    let body = content.map_or(PendingBody::Deleted, |content| PendingBody::Content(content.into()));
    let (condition, origin) = (Condition::default(), Origin::default());
    PutPending { branch: None, mode: None, base: None, condition, body, origin }
}

/// Saves or deletes a file while nothing goes wrong.
pub async fn save(engine: &Engine, project: &str, user: Uuid, path: &str, text: Option<&'static str>) {
    engine.put_pending(project, user, path.as_bytes(), edit(text)).await.expect("a save");
}

/// A git client that pushes to a branch of its own.
#[derive(Debug, Default)]
pub struct Client {
    /// Where the branch was when it was last told.
    pub known: Option<ObjectId>,
    /// Where it may be besides.
    pub unsure: Vec<Option<ObjectId>>,
    pushes: u32,
}

pub const CLIENT_REF: &str = "refs/heads/by-git";

impl Client {
    /// Pushes a commit, rewrites the branch, or deletes it. The second value is where the branch then is.
    pub fn push(&mut self, engine: Engine, project: String, random: &mut StdRng) -> (Deed<Done>, Option<ObjectId>) {
        self.pushes += 1;
        let dice = random.random_range(0..10);
        let old = self.known;
        let cut = dice == 1;
        if dice == 0 && old.is_some() {
            let head = head(CLIENT_REF, old, None);
            let deed =
                Box::pin(async move { Done::Pushed(None, engine.receive_pack(&project, &head, None, &()).await) });
            return (deed, None);
        }
        // Without the old tip as its parent, the move is no fast-forward.
        let parent = old.filter(|_| dice != 2);
        let (new, pack) = self.pack(parent);
        let head = head(CLIENT_REF, old, Some(new));
        let deed = Box::pin(async move {
            let pushed = match spooled(&engine, &pack, cut).await {
                Ok(pack) => engine.receive_pack(&project, &head, Some(pack), &()).await,
                Err(error) => Err(error),
            };
            Done::Pushed(Some(new), pushed)
        });
        (deed, Some(new))
    }

    /// A commit with a file of its own, and the pack of all that is new.
    fn pack(&self, parent: Option<ObjectId>) -> (ObjectId, Vec<u8>) {
        let blob = format!("pushed {}\n", self.pushes).into_bytes();
        let oid = named(Kind::Blob, &blob);
        packed(oid, Some(blob), parent, self.pushes)
    }
}

fn head(name: &str, old: Option<ObjectId>, new: Option<ObjectId>) -> ReceiveHead {
    let command = RefCommand { old, new, name: name.into() };
    let capabilities = PushCapabilities { ofs_delta: true, ..PushCapabilities::default() };
    ReceiveHead { commands: vec![command], capabilities, ..ReceiveHead::default() }
}

fn named(kind: Kind, content: &[u8]) -> ObjectId {
    hash(kind, content).expect("no collision")
}

/// A commit with one file, and the pack of it, its tree and, if it is given, the file's content.
fn packed(file: ObjectId, blob: Option<Vec<u8>>, parent: Option<ObjectId>, number: u32) -> (ObjectId, Vec<u8>) {
    let entry = TreeEntry { mode: 0o100644, name: b"file".as_slice().into(), oid: file };
    let tree = encode_tree([entry]).expect("a tree");
    let tree_oid = named(Kind::Tree, &tree);
    let who = Signature::new("G", "g@example.org", 1_700_000_000 + i64::from(number), 0).expect("a name");
    let message = format!("pushed {number}").into();
    let parents = parent.into_iter().collect();
    let commit = CommitSpec { tree: tree_oid, parents, author: who.clone(), committer: who, message };
    let commit = commit.encode().expect("a commit");
    let oid = named(Kind::Commit, &commit);
    let mut objects: Vec<(ObjectId, Kind, &[u8])> =
        vec![(oid, Kind::Commit, &commit[..]), (tree_oid, Kind::Tree, &tree[..])];
    objects.extend(blob.as_deref().map(|blob| (file, Kind::Blob, blob)));
    let count = u32::try_from(objects.len()).expect("a few");
    let mut pack = PushPack::new(Vec::new(), count, PackOptions::default()).expect("a pack");
    for (oid, kind, content) in objects {
        pack.add(&PushObject { oid, kind, content, base: None }).expect("an object");
    }
    (oid, pack.finish().expect("a pack").0)
}

/// Where what was stolen would be.
pub const STOLEN_REF: &str = "refs/heads/stolen";

/// Pushes a commit whose file is a blob that is not sent, and that this project does not have.
pub fn steal(engine: Engine, project: String, blob: ObjectId) -> Deed<Done> {
    let (new, pack) = packed(blob, None, None, 0);
    let head = head(STOLEN_REF, None, Some(new));
    Box::pin(async move {
        Done::Stolen(match spooled(&engine, &pack, false).await {
            Ok(pack) => engine.receive_pack(&project, &head, Some(pack), &()).await,
            Err(error) => Err(error),
        })
    })
}

/// Forks a project under an id that the caller chose.
pub fn fork(engine: Engine, source: String, id: &str) -> Deed<Done> {
    let spec = ForkSpec { id: Some(id.parse().expect("an id")), ..ForkSpec::default() };
    Box::pin(async move { Done::Forked(engine.fork_project(&source, &spec).await.map(|_| ())) })
}

/// Deletes a project.
pub fn delete(engine: Engine, project: String) -> Deed<Done> {
    Box::pin(async move { Done::Deleted(engine.delete_project(&project).await) })
}

/// A pack as the server hands it over: in a spool file, or only half of it.
async fn spooled(engine: &Engine, pack: &[u8], cut: bool) -> Result<PushedPack, EngineError> {
    let (spool, arrival, mut writer) = engine.push_spool()?;
    let part = if cut { &pack[..pack.len() / 2] } else { pack };
    let len = writer.write(part).await.expect("a spool file");
    let end = match cut {
        true => {
            drop(writer);
            Err(EngineError::BadRequest("the connection is cut".to_owned()))
        }
        false => {
            writer.finish();
            Ok(len)
        }
    };
    Ok(PushedPack { spool, arrival, rest: futures::stream::iter([end]).boxed(), room: Arc::new(()) })
}

fn other(name: &'static str, work: impl Future<Output = Result<(), EngineError>> + Send + 'static) -> Deed<Done> {
    Box::pin(async move { Done::Other(name, work.await) })
}

/// Pulls.
pub fn sync(engine: Engine, project: String) -> Deed<Done> {
    let request = SyncRequest { on_conflict: Some(OnDiverged::Merge), ..SyncRequest::default() };
    other("sync", async move { engine.sync(&project, &request, None, &()).await.map(|_| ()) })
}

/// Pushes what was only committed here.
pub fn push(engine: Engine, project: String) -> Deed<Done> {
    other("push", async move { engine.push(&project, None, None).await.map(|_| ()) })
}

/// Sweeps, settles, reaps.
pub fn housekeep(engine: Engine) -> Deed<Done> {
    other("housekeep", async move { engine.housekeep().await })
}

/// Time passes while others are at work, after so many turns: whoever was slow has been silent for that long.
pub fn time(gate: Arc<Gate>, clock: Arc<Clock>, turns: u32, time: Duration) -> Deed<Done> {
    other("time", async move {
        for _ in 0..turns {
            // It cannot fail; it comes late, or the process dies first.
            _ = gate.decide("time", Moment::At).await;
        }
        clock.pass(time);
        Ok(())
    })
}

/// Packs what there is anew.
pub fn repack(engine: Engine) -> Deed<Done> {
    let options = RepackOptions { dry_run: false, grace: GRACE };
    other("repack", async move { engine.repack(options, &()).await.map(|_| ()) })
}

/// Compares all there is, or goes on with that, and repairs what it can.
pub fn verify(engine: Engine, random: &mut StdRng) -> Deed<Done> {
    let (full, restart) = (random.random_ratio(1, 2), random.random_ratio(1, 2));
    let options = VerifyOptions { full, restart, repair: true, ..VerifyOptions::default() };
    Box::pin(async move { Done::Verified(engine.verify(&options, &()).await) })
}

/// Collects whatever nothing names at the moment, without a grace; of one project, what it gave up.
pub fn gc(engine: Engine, project: Option<String>) -> Deed<Done> {
    let (grace, now) = (Some(Duration::ZERO), project.is_some());
    let options = GcOptions { apply: true, grace, project, now, force: true };
    other("gc", async move { engine.gc(&options, &()).await.map(|_| ()) })
}

/// Moves a side branch to the head, makes it or deletes it.
pub fn refs(engine: Engine, project: String, random: &mut StdRng) -> Deed<Done> {
    let name = format!("refs/heads/side-{}", random.random_range(0..2));
    let delete = random.random_ratio(1, 3);
    other("refs", async move {
        if delete {
            return engine.delete_ref(&project, &name, None).await;
        }
        let head = engine.refs(&project, Some("refs/heads/main"), None, None).await?;
        let Some(head) = head.refs.first() else { return Ok(()) };
        let request = RefRequest {
            oid: Oid(head.oid.0),
            expected_oid: None,
            force: false,
            restore: false,
            ephemeral: None,
            expires_in: None,
        };
        engine.put_ref(&project, &name, &request).await.map(|_| ())
    })
}

/// What a user sees at a path.
pub async fn view(engine: &Engine, project: &str, user: Uuid, path: &str) -> Content {
    content_at(engine, project, Some(user), path).await
}

/// What the branch has at a path.
pub async fn at_head(engine: &Engine, project: &str, path: &str) -> Content {
    content_at(engine, project, None, path).await
}

async fn content_at(engine: &Engine, project: &str, user: Option<Uuid>, path: &str) -> Content {
    let at = At { reference: None, user };
    match engine.find_file(project, path.as_bytes(), &at).await {
        Ok(meta) => Some(engine.file_content(&meta).await.expect("its content").to_vec()),
        Err(EngineError::NotFound { .. }) => None,
        Err(error) => panic!("{path} cannot be read: {error}"),
    }
}
