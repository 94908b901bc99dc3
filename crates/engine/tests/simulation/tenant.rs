//! What is known of one project: by its people, its git client, and whoever looks at its branches.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;
use treehold_engine::api::{CommittedFile, OpResult, OpStatus};
use treehold_engine::{Engine, EngineError};
use treehold_object::{Kind, ObjectId};
use treehold_tests::git::Repo;

use crate::check;
use crate::gate::Gate;
use crate::life::Deed;
use crate::people::{self, CLIENT_REF, Client, Content, Done, Edit, Person};

const MAIN: &str = "refs/heads/main";

/// Whether a project is there.
#[derive(Debug)]
pub enum Stage {
    /// A fork that was asked for.
    Asked {
        answered: bool,
        /// Where its source's git client's branch was at the beginning of this round, and may have gone in it.
        client: Vec<Option<ObjectId>>,
        /// Where its source's branch was at the beginning of this round.
        main: Option<ObjectId>,
    },
    Alive,
    /// Its deletion was asked for in this round.
    Leaving {
        answered: bool,
    },
    Gone,
}

/// One round: who goes with which engine, and what is to come more often.
pub struct Turn<'a> {
    pub random: &'a mut StdRng,
    pub wanted: &'a [&'static str],
    pub engines: &'a [Engine],
    pub next: usize,
    pub round: u32,
    /// Whether some commits are not pushed where there is a remote.
    pub stays: bool,
}

impl Turn<'_> {
    /// They go round.
    pub fn engine(&mut self) -> Engine {
        self.next += 1;
        self.engines[self.next % self.engines.len()].clone()
    }

    /// Once in `of` rounds, and in half of them where a fault of the deed is wanted.
    pub fn often(&mut self, deed: &'static str, of: u32) -> bool {
        let times = if self.wanted.contains(&deed) { of.div_ceil(2) } else { 1 };
        self.random.random_ratio(times, of)
    }
}

/// Something that one project has and no other one may see.
#[derive(Debug, Clone, Copy)]
pub struct Secret {
    /// When it was asked for: whatever was forked later may have it.
    pub round: u32,
    pub kind: Kind,
    pub oid: ObjectId,
}

#[derive(Debug)]
pub struct Tenant {
    /// Its id.
    pub project: String,
    pub remote: bool,
    pub stage: Stage,
    /// What it was forked from.
    pub parent: Option<usize>,
    /// The round in which it came.
    pub born: u32,
    pub people: Vec<Person>,
    pub client: Client,
    pub secrets: Vec<Secret>,
    /// Where its branch is.
    pub main: Option<ObjectId>,
    /// Wherever its branch was seen: it never goes back.
    tips: BTreeSet<ObjectId>,
    /// Blobs of saves that were answered.
    saved: BTreeSet<String>,
    /// When each commit was first asked for, by key.
    asked: BTreeMap<String, u32>,
}

impl Tenant {
    pub fn new(nth: usize, people: usize, project: String, random: &mut StdRng) -> Tenant {
        let of = if nth == 0 { String::new() } else { format!("{nth}.") };
        let mut id = || uuid::Builder::from_random_bytes(random.random()).into_uuid();
        Tenant {
            project,
            remote: false,
            stage: Stage::Alive,
            parent: None,
            born: 0,
            people: (0..people).map(|_| Person::of(id(), &of)).collect(),
            client: Client::default(),
            secrets: Vec::new(),
            main: None,
            tips: BTreeSet::new(),
            saved: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    pub fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Alive | Stage::Leaving { .. })
    }

    /// What its people and its git client do at the same time.
    pub fn deeds(&mut self, turn: &mut Turn<'_>) -> Vec<(&'static str, Deed<Done>)> {
        let mut deeds: Vec<(&'static str, Deed<Done>)> = Vec::new();
        for (who, person) in self.people.iter_mut().enumerate() {
            if person.open.is_none() && !person.waits && turn.often("discard", 12) {
                deeds.push(("discard", person.discard(who, turn.engine(), self.project.clone(), turn.random)));
                continue;
            }
            // One edit at a time: what becomes of several is then known by what is there afterwards.
            if turn.often("restore", 12) {
                deeds.push(("restore", person.restore(who, turn.engine(), self.project.clone(), turn.random)));
            } else if turn.often("batch", 8) {
                deeds.push(("batch", person.batch(who, turn.engine(), self.project.clone(), turn.random)));
            } else if turn.random.random_ratio(1, 2) {
                deeds.push(("autosave", person.save(who, turn.engine(), self.project.clone(), turn.random)));
            }
            if turn.random.random_ratio(if person.open.is_some() { 2 } else { 1 }, 3) {
                // Beside their own commit that waits for a merge, what was edited since would be another commit that stays here, and may
                // not merge with the first: that is for its user to settle, and nobody does here.
                let stays = turn.stays && !person.waits && turn.random.random_ratio(1, 3);
                let push = self.remote && !stays;
                let deed = person.commit(who, turn.engine(), self.project.clone(), push);
                let (key, pushes) = person.open.as_ref().expect("it was asked for just now");
                self.asked.entry(key.clone()).or_insert(turn.round);
                deeds.push((if *pushes { "push" } else { "commit" }, deed));
            }
        }
        if turn.often("git push", 4) {
            let (deed, new) = self.client.push(turn.engine(), self.project.clone(), turn.random);
            self.client.unsure.push(new);
            deeds.push(("git push", deed));
        }
        if self.remote && turn.often("sync", 3) {
            deeds.push(("sync", people::sync(turn.engine(), self.project.clone())));
        }
        if self.remote && turn.often("push of all", 8) {
            deeds.push(("push of all", people::push(turn.engine(), self.project.clone())));
        }
        if turn.often("refs", 4) {
            deeds.push(("refs", people::refs(turn.engine(), self.project.clone(), turn.random)));
        }
        deeds
    }

    /// Takes an answer for what it says. An error that says nothing is handed back.
    pub fn take(&mut self, done: Done, round: u32) -> Option<EngineError> {
        match done {
            Done::Saved(who, path, content, Ok(answer)) => {
                if let Some(oid) = answer.oid.filter(|_| people::is_own(&content)) {
                    self.secrets.push(Secret { round, kind: Kind::Blob, oid: oid.0 });
                }
                self.saved.extend(answer.oid.map(|oid| oid.to_string()));
                let file = self.people[who].files.entry(path).or_default();
                (file.known, file.unsure) = (content, Vec::new());
            }
            Done::Written(who, edits, Ok(answer)) => {
                let done = |result: &OpResult| matches!(result.status, OpStatus::Applied | OpStatus::Duplicate);
                assert!(answer.results.iter().all(done), "{answer:?}");
                self.written(who, edits, round);
            }
            Done::Restored(who, path, Ok(answer)) => self.people[who].restored(&path, answer.as_ref()),
            Done::Dropped(who, path, Ok(())) => {
                for (one, answered) in &mut self.people[who].dropped {
                    *answered |= path.as_ref().is_none_or(|path| path == one);
                }
            }
            Done::Committed(who, key, Ok(answer)) => {
                let round = self.asked.get(&key).copied().unwrap_or(round);
                self.secrets.push(Secret { round, kind: Kind::Commit, oid: answer.commit.0 });
                let person = &mut self.people[who];
                person.open = None;
                person.commits.insert(key, answer);
            }
            Done::Committed(who, key, Err(EngineError::Unprocessable { code: "nothing_to_commit", .. })) => {
                self.people[who].open = None;
                self.people[who].nothing.push(key);
            }
            Done::Saved(.., Err(error))
            | Done::Committed(.., Err(error))
            | Done::Written(.., Err(error))
            | Done::Restored(.., Err(error))
            | Done::Dropped(.., Err(error))
            | Done::Verified(Err(error))
            | Done::Pushed(_, Err(error))
            | Done::Stolen(Err(error))
            | Done::Forked(Err(error))
            | Done::Deleted(Err(error))
            | Done::Other(_, Err(error)) => return Some(error),
            Done::Pushed(new, Ok(report)) => {
                if people::moved(&report) {
                    (self.client.known, self.client.unsure) = (new, Vec::new());
                }
            }
            Done::Stolen(Ok(report)) => {
                assert!(!people::moved(&report), "another project's blob was taken: {report:?}")
            }
            Done::Forked(Ok(())) => match &mut self.stage {
                Stage::Asked { answered, .. } => *answered = true,
                stage => panic!("a fork was made that is {stage:?}"),
            },
            Done::Deleted(Ok(())) => self.stage = Stage::Leaving { answered: true },
            Done::Verified(Ok(_)) | Done::Other(_, Ok(())) => {}
        }
        None
    }

    /// A batch was answered.
    fn written(&mut self, who: usize, edits: Vec<(String, Content)>, round: u32) {
        // What was moved may be in a fork that was made before.
        let moved = edits.iter().any(|(_, content)| content.is_none());
        for (path, content) in edits {
            let oid = people::named_text(&content);
            if let Some(oid) = oid.filter(|_| people::is_own(&content) && !moved) {
                self.secrets.push(Secret { round, kind: Kind::Blob, oid });
            }
            self.saved.extend(oid.map(|oid| oid.to_string()));
            let file = self.people[who].files.entry(path).or_default();
            (file.known, file.unsure) = (content, Vec::new());
        }
    }

    /// Whether it is there says what became of a fork or a deletion; what was answered must be so.
    pub async fn come_or_go(&mut self, engine: &Engine, round: u32) {
        if matches!(self.stage, Stage::Alive | Stage::Gone) {
            return;
        }
        let there = match engine.show_project(&self.project).await {
            Ok(_) => true,
            Err(EngineError::NotFound { .. }) => false,
            Err(error) => panic!("{} cannot be shown: {error}", self.project),
        };
        self.stage = match (std::mem::replace(&mut self.stage, Stage::Gone), there) {
            (Stage::Asked { client, main, .. }, true) => {
                // It began with what its source had at some time of this round.
                let mut client = client.into_iter();
                self.client.known = client.next().flatten();
                self.client.unsure = client.collect();
                self.tips.extend(main);
                self.born = round;
                Stage::Alive
            }
            (Stage::Asked { answered, client, main }, false) => {
                assert!(!answered, "a fork that was answered is not there");
                Stage::Asked { answered, client, main }
            }
            (Stage::Leaving { answered }, true) => {
                assert!(!answered, "a project whose deletion was answered is there");
                Stage::Alive
            }
            (Stage::Leaving { .. }, false) => Stage::Gone,
            (stage @ (Stage::Alive | Stage::Gone), _) => stage,
        };
    }

    /// Everybody sees what was answered, or what was sent since.
    pub async fn look(&mut self, engine: &Engine, gate: &Gate) {
        let tip = tip(engine, &self.project, CLIENT_REF).await;
        let Client { known, unsure, .. } = &mut self.client;
        assert!(tip == *known || unsure.contains(&tip), "{CLIENT_REF} is {tip:?}, not {known:?} or {unsure:?}");
        (*known, *unsure) = (tip, Vec::new());
        self.main = self::tip(engine, &self.project, MAIN).await;
        self.tips.extend(self.main);
        for person in &mut self.people {
            person.look(engine, &self.project, gate).await;
        }
    }

    /// Whoever asks again under an old key hears what they heard before.
    pub async fn says_it_again(&mut self, engine: &Engine) {
        for (who, person) in self.people.iter_mut().enumerate() {
            for (key, answer) in person.commits.clone() {
                person.open = Some((key, answer.pushed));
                match person.commit(who, engine.clone(), self.project.clone(), false).await {
                    Done::Committed(_, key, Ok(again)) => assert_eq!(again, answer, "{key} has two answers"),
                    other => panic!("{other:?}"),
                }
                person.open = None;
            }
        }
    }

    /// Saves that were answered are in its pending work, that work's history, or what its refs reach: in no other project's.
    pub fn has_its_saves(&self, kept: &BTreeSet<String>) {
        let lost: Vec<_> = self.saved.difference(kept).collect();
        assert!(lost.is_empty(), "saves that were answered are nowhere in {}: {lost:?}", self.project);
    }

    /// Its branch holds each of its commits once, wherever it was seen, and of others' only what was there before it was forked.
    pub fn commits_are_there_once(&self, copy: &Repo, parent: Option<&Tenant>, trace: &str) {
        let main = check::copied(&self.project, MAIN);
        if !copy.refs().contains_key(&main) {
            assert!(self.tips.is_empty() && self.people.iter().all(|person| person.commits.is_empty()));
            return;
        }
        let log = copy.git().run(["log", "--format=%H %s", main.as_str()]);
        let lines: Vec<(&str, &str)> = log.lines().filter_map(|line| line.split_once(' ')).collect();
        let oids: BTreeSet<&str> = lines.iter().map(|(oid, _)| *oid).collect();
        for tip in &self.tips {
            assert!(oids.contains(tip.to_string().as_str()), "{main} was at {tip} and went elsewhere\n{trace}");
        }
        self.edits_are_there_once(copy, &main, trace);
        let mut answered = 0;
        for (key, answer) in self.people.iter().flat_map(|person| &person.commits) {
            assert_eq!(with_subject(&lines, key), [answer.commit.to_string()], "{key}\n{trace}");
            answered += 1;
        }
        let made = lines.iter().filter(|(_, subject)| subject.starts_with("commit "));
        let (own, others): (Vec<_>, Vec<_>) = made.partition(|(_, subject)| self.asked.contains_key(*subject));
        assert_eq!(own.len(), answered, "a commit that nobody was told of:\n{log}\n{trace}");
        for (oid, subject) in others {
            let before = parent.and_then(|parent| Some((parent, *parent.asked.get(subject)?)));
            let Some((parent, asked)) = before else { panic!("a stranger's commit: {oid} {subject}\n{trace}") };
            assert!(asked <= self.born, "{subject} was made after the fork\n{trace}");
            assert_eq!(with_subject(&lines, subject), [oid], "{subject} was forked twice\n{trace}");
            let answer = parent.people.iter().find_map(|person| person.commits.get(subject));
            assert!(answer.is_none_or(|answer| answer.commit.to_string() == oid), "{subject} is another\n{trace}");
        }
    }
}

impl Tenant {
    /// A commit that was answered has what the answer says: files of its user, each as that user sent it; and nothing that was sent is in
    /// more commits than it was sent times. What was merged is the same, by somebody who sent nothing.
    fn edits_are_there_once(&self, copy: &Repo, main: &str, trace: &str) {
        let mut made = BTreeMap::new();
        for commit in check::commits(copy, main) {
            let mut people = self.people.iter().enumerate();
            let whose = people.find_map(|(who, person)| Some((who, person, person.commits.get(&commit.subject)?)));
            // Others push to the remote, and a fork begins with what its source had.
            let Some((who, person, answer)) = whose.filter(|(.., answer)| answer.commit.to_string() == commit.oid)
            else {
                continue;
            };
            let told = |file: &CommittedFile| (file.path.0.to_string(), file.oid.map(|oid| oid.to_string()));
            let told: Vec<Edit> = answer.files.iter().map(told).collect();
            assert_eq!(commit.changes, told, "{} is not what was answered\n{trace}", commit.subject);
            for edit in commit.changes {
                let (subject, own) = (&commit.subject, format!("by/{}{who}/", person.of));
                assert!(edit.0.starts_with(&own), "{subject} has {edit:?}, which is not its user's\n{trace}");
                let times: &mut u32 = made.entry(edit.clone()).or_default();
                *times += 1;
                let sent = person.sent.get(&edit).copied().unwrap_or_default();
                assert!(*times <= sent, "{edit:?} was sent {sent} times, and {subject} has it once more\n{trace}");
            }
        }
    }
}

fn with_subject<'a>(lines: &[(&'a str, &str)], wanted: &str) -> Vec<&'a str> {
    lines.iter().filter(|(_, subject)| *subject == wanted).map(|(oid, _)| *oid).collect()
}

/// Where a ref is.
async fn tip(engine: &Engine, project: &str, name: &str) -> Option<ObjectId> {
    let refs = engine.refs(project, Some(name), None, None).await.expect("refs");
    refs.refs.into_iter().find(|found| found.name == name).map(|found| found.oid.0)
}
