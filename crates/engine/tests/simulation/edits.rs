//! Edits of several files at once, edits that are taken back or restored, and what must be seen of all edits.

use rand::Rng;
use rand::rngs::StdRng;
use treehold_engine::api::{Condition, OnMismatch, OpResult, OpStatus, Origin, PendingBatch, PendingOp, PendingVerb};
use treehold_engine::{Engine, EngineError};
use uuid::Uuid;

use crate::gate::Gate;
use crate::life::Deed;
use crate::people::{self, Content, Done, FILES, Person};

fn op(verb: PendingVerb, path: &str) -> PendingOp {
    PendingOp {
        op: verb,
        path: path.to_owned(),
        from: None,
        content: None,
        encoding: None,
        mode: None,
        old_string: None,
        new_string: None,
        replace_all: false,
        diff: None,
        expected_oid: None,
        base: None,
    }
}

fn put(path: &str, content: &Content) -> PendingOp {
    let text = content.as_ref().map(|content| String::from_utf8(content.clone()).expect("text"));
    PendingOp { content: text, ..op(PendingVerb::Put, path) }
}

async fn restored(
    engine: &Engine,
    project: &str,
    user: Uuid,
    path: &str,
    nth: usize,
) -> Result<Option<OpResult>, EngineError> {
    let versions = engine.versions(project, user, None, Some(path), None, None).await?.versions;
    match versions.get(nth) {
        Some(version) => {
            let (condition, origin) = (Condition::default(), Origin::default());
            engine.restore_version(project, user, &version.id, condition, origin).await.map(Some)
        }
        None => Ok(None),
    }
}

impl Person {
    /// Writes two files at once, all or nothing or each by itself; or moves one to where none is.
    pub fn batch(&mut self, who: usize, engine: Engine, project: String, random: &mut StdRng) -> Deed<Done> {
        let first = random.random_range(0..FILES);
        let second = (first + random.random_range(1..FILES)) % FILES;
        let (from, to) = (self.path(who, first), self.path(who, second));
        let moved = match (self.is_sure_of(&from), self.is_sure_of(&to)) {
            (Some(Some(content)), Some(None)) if random.random_ratio(1, 2) => Some(content),
            _ => None,
        };
        let atomic = moved.is_some() || random.random_ratio(2, 3);
        let (ops, edits) = match moved {
            Some(content) => {
                let ops = vec![PendingOp { from: Some(from.clone()), ..op(PendingVerb::Move, &to) }];
                (ops, vec![(from, None), (to, Some(content))])
            }
            None => {
                let edits = vec![(from, Some(self.fresh(who, random))), (to, Some(self.fresh(who, random)))];
                (edits.iter().map(|(path, content)| put(path, content)).collect(), edits)
            }
        };
        for (path, content) in &edits {
            self.sends(path, content.clone());
        }
        if atomic {
            self.together = edits.clone();
        }
        let batch = PendingBatch { ops, atomic, base_revision: None, on_conflict: OnMismatch::Fail };
        let id = self.id;
        Box::pin(async move {
            let written = engine.write_batch(&project, id, None, batch, Origin::default(), None).await;
            Done::Written(who, edits, written)
        })
    }

    /// Restores one of the last versions of a file: it is as it was then, or will be.
    pub fn restore(&mut self, who: usize, engine: Engine, project: String, random: &mut StdRng) -> Deed<Done> {
        let path = self.path(who, random.random_range(0..FILES));
        let (nth, id) = (random.random_range(0..4), self.id);
        for ((of, _), times) in &mut self.sent {
            *times += u32::from(*of == path);
        }
        let texts = self.texts.get(&path).cloned().unwrap_or_default();
        self.files.entry(path.clone()).or_default().unsure.extend(texts);
        Box::pin(async move {
            let restored = restored(&engine, &project, id, &path, nth).await;
            Done::Restored(who, path, restored)
        })
    }

    /// A restoration was answered.
    pub fn restored(&mut self, path: &str, answer: Option<&OpResult>) {
        let file = self.files.entry(path.to_owned()).or_default();
        file.unsure.clear();
        let Some(answer) = answer else { return };
        assert!(matches!(answer.status, OpStatus::Applied | OpStatus::Duplicate), "{answer:?}");
        let texts = self.texts.get(path).into_iter().flatten();
        let found = texts.rev().find(|text| people::named_text(text) == answer.oid.map(|oid| oid.0));
        file.known = found.expect("something that was sent").clone();
    }

    /// Takes back what is pending of one file, or of all. No commit of theirs may be under way: it would bring back what it took.
    pub fn discard(&mut self, who: usize, engine: Engine, project: String, random: &mut StdRng) -> Deed<Done> {
        let one = random.random_ratio(1, 3).then(|| self.path(who, random.random_range(0..FILES)));
        match &one {
            Some(path) => _ = self.dropped.insert(path.clone(), false),
            None => self.dropped.extend(self.files.keys().map(|path| (path.clone(), false))),
        }
        let id = self.id;
        Box::pin(async move {
            let dropped = match &one {
                Some(path) => {
                    let path = path.as_bytes();
                    engine.drop_pending(&project, id, None, path, &Condition::default(), Origin::default()).await
                }
                None => engine.drop_all_pending(&project, id, None, Origin::default()).await,
            };
            Done::Dropped(who, one, dropped.map(|_| ()))
        })
    }

    /// Sees what was answered, or what was sent since; what was taken back is as the branch has it; and what was sent to be done as a
    /// whole is there as a whole or not at all.
    pub async fn look(&mut self, engine: &Engine, project: &str, gate: &Gate) {
        let status = engine.status(project, Some(self.id), None).await.expect("a status");
        self.waits = !status.attempts.is_empty();
        for (path, file) in &mut self.files {
            let seen = people::view(engine, project, self.id, path).await;
            let head = match self.dropped.get(path) {
                Some(_) => Some(people::at_head(engine, project, path).await),
                None => None,
            };
            let taken_back = self.dropped.get(path).is_some_and(|answered| *answered);
            assert!(
                !taken_back || head.as_ref() == Some(&seen),
                "{path} was taken back, and is there\n{}",
                gate.trace()
            );
            let may_be: Vec<&Content> = file.unsure.iter().chain([&file.known]).chain(&head).collect();
            let told = || may_be.iter().map(|content| people::text(content)).collect::<Vec<_>>();
            let shown = || people::text(&seen);
            assert!(may_be.contains(&&seen), "{path} is {:?}, not {:?}\n{}", shown(), told(), gate.trace());
            (file.known, file.unsure) = (seen, Vec::new());
        }
        let done = self.together.iter().filter(|(path, content)| self.files[path].known == *content).count();
        let all = self.together.len();
        assert!(done == 0 || done == all, "half of {:?} was written\n{}", self.together, gate.trace());
        self.together.clear();
        self.dropped.clear();
    }

    /// What is at a path, if that is certain.
    fn is_sure_of(&self, path: &str) -> Option<Content> {
        match self.files.get(path) {
            None => Some(None),
            Some(file) => file.unsure.is_empty().then(|| file.known.clone()),
        }
    }
}
