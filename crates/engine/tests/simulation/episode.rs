//! One episode: people work while everything goes wrong; then it is quiet, and what was answered must be there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use treehold_engine::api::ProjectSpec;
use treehold_engine::{Engine, EngineError};
use treehold_object::ObjectId;
use treehold_tests::git::Repo;

use crate::check::{self, Past};
use crate::gate::Gate;
use crate::life::{Deed, Life};
use crate::people::{self, CLIENT_REF, Client, Content, Done, Person};
use crate::world::{Plan, World};

/// Rounds of work; more while a fault is wanted that did not come yet.
const STEPS: usize = 12;
const STEPS_MAX: usize = 30;
const PEOPLE: usize = 3;
/// How often in the end what was not answered is asked again.
const PATIENCE: usize = 4;

pub struct Episode {
    world: World,
    random: StdRng,
    gate: Arc<Gate>,
    project: String,
    people: Vec<Person>,
    client: Client,
    /// Blobs of saves that were answered.
    saved: BTreeSet<String>,
    past: Past,
    outside: u32,
    pub deaths: u32,
}

/// What lives and dies with a process.
struct Alive {
    engines: Vec<Engine>,
    life: Life,
}

impl Episode {
    pub fn new(plan: Plan, gate: &Arc<Gate>) -> Episode {
        let mut random = StdRng::seed_from_u64(plan.seed ^ 2);
        let people = (0..PEOPLE).map(|_| Person::new(uuid::Builder::from_random_bytes(random.random()).into_uuid()));
        Episode {
            people: people.collect(),
            world: World::new(plan, gate),
            random,
            gate: Arc::clone(gate),
            project: String::new(),
            client: Client::default(),
            saved: BTreeSet::new(),
            past: Past::default(),
            outside: 0,
            deaths: 0,
        }
    }

    pub fn run(&mut self) {
        let mut alive = self.born();
        self.project = alive.life.calm(self.connected(&alive.engines[0]));
        for step in 0..STEPS_MAX {
            if step >= STEPS && self.gate.wanted().is_empty() {
                break;
            }
            let deeds = self.choose(&alive.engines);
            let done = alive.life.storm(deeds);
            let died = self.gate.is_dead();
            for done in done.into_iter().flatten() {
                self.take(done);
            }
            if died {
                self.deaths += 1;
                drop(alive);
                alive = self.born();
            }
            self.in_between(&alive);
        }
        self.settle(&alive);
    }

    fn born(&self) -> Alive {
        let life = Life::new(&self.gate);
        let engines = life.calm(self.world.engines());
        Alive { engines, life }
    }

    async fn connected(&self, engine: &Engine) -> String {
        if !self.world.plan.remote {
            return engine.create_project(None, &ProjectSpec::default()).await.expect("a project").0.id.to_string();
        }
        for number in 1000..1003 {
            self.world.outsider(number);
        }
        let source = self.world.origin.path().to_str().expect("UTF-8");
        engine.import(source, Some("p"), Some("main"), 0, &()).await.expect("an import").project.id.to_string()
    }

    /// What happens at the same time.
    fn choose(&mut self, engines: &[Engine]) -> Vec<(&'static str, Deed<Done>)> {
        let mut deeds: Vec<(&'static str, Deed<Done>)> = Vec::new();
        let wanted = self.gate.wanted();
        let random = &mut self.random;
        let remote = self.world.plan.remote;
        // A commit that stays here beside another engine's push on its way to the same branch: see `crossing.rs`.
        let always = engines.len() > 1;
        let project = || self.project.clone();
        let mut engine = engines.iter().cycle().skip(random.random_range(0..engines.len())).cloned();
        let mut engine = || engine.next().expect("an engine");
        for (who, person) in self.people.iter_mut().enumerate() {
            if random.random_ratio(1, 2) {
                deeds.push(("autosave", person.save(who, engine(), project(), random)));
            }
            if random.random_ratio(if person.open.is_some() { 2 } else { 1 }, 3) {
                let push = remote && (always || random.random_ratio(5, 6));
                let deed = person.commit(who, engine(), project(), push);
                let pushes = person.open.as_ref().is_some_and(|(_, push)| *push);
                deeds.push((if pushes { "push" } else { "commit" }, deed));
            }
        }
        let mut often = |deed: &'static str, of: u32| {
            random.random_ratio(if wanted.contains(&deed) { of.div_ceil(2) } else { 1 }, of)
        };
        if often("git push", 4) {
            let (deed, new) = self.client.push(engine(), self.project.clone(), &mut self.random);
            self.client.unsure.push(new);
            deeds.push(("git push", deed));
        }
        let random = &mut self.random;
        let mut often = |deed: &'static str, of: u32| {
            random.random_ratio(if wanted.contains(&deed) { of.div_ceil(2) } else { 1 }, of)
        };
        if remote && often("sync", 3) {
            deeds.push(("sync", people::sync(engine(), self.project.clone())));
        }
        if remote && often("push of all", 8) {
            deeds.push(("push of all", people::push(engine(), self.project.clone())));
        }
        if often("housekeep", 4) {
            deeds.push(("housekeep", people::housekeep(engine())));
        }
        if often("repack", 6) {
            deeds.push(("repack", people::repack(engine())));
        }
        if often("gc", 4) {
            deeds.push(("gc", people::gc(engine())));
        }
        if often("refs", 4) {
            deeds.push(("refs", people::refs(engine(), self.project.clone(), &mut self.random)));
        }
        deeds
    }

    /// Takes an answer for what it says.
    fn take(&mut self, done: Done) {
        self.gate.note(&done.told());
        match done {
            Done::Saved(who, path, content, Ok(answer)) => {
                self.saved.extend(answer.oid.map(|oid| oid.to_string()));
                let file = self.people[who].files.entry(path).or_default();
                (file.known, file.unsure) = (content, Vec::new());
            }
            Done::Committed(who, key, Ok(answer)) => {
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
            | Done::Pushed(_, Err(error))
            | Done::Other(_, Err(error)) => {
                self.excused(&error);
            }
            Done::Pushed(new, Ok(report)) => {
                let moved = report.unpack.is_ok() && report.refs.iter().all(|status| status.result.is_ok());
                if moved {
                    (self.client.known, self.client.unsure) = (new, Vec::new());
                }
            }
            Done::Other(_, Ok(())) => {}
        }
    }

    /// What may be answered while things go wrong: never that something is wrong with what we keep.
    fn excused(&self, error: &EngineError) {
        let damage = matches!(error, EngineError::Internal(_) | EngineError::Damaged { .. });
        let spoiled = self.world.plan.spoiled;
        assert!(!damage || spoiled, "{error}: {error:?}\n{}", self.gate.trace());
    }

    /// Between two rounds: what was late arrives, time passes, and everybody looks at what is there.
    fn in_between(&mut self, alive: &Alive) {
        if self.random.random_ratio(1, 3) {
            alive.life.calm(self.world.bucket.arrive());
            alive.life.calm(self.world.remote.arrive());
        }
        let needed = self.gate.wanted().contains(&"sync");
        if self.world.plan.remote && (needed || self.random.random_ratio(1, 4)) {
            self.outside += 1;
            self.world.outsider(self.outside);
        }
        let longest = if self.random.random_ratio(1, 6) { 7_200_000 } else { 20_000 };
        self.world.clock.pass(Duration::from_millis(self.random.random_range(0..longest)));
        alive.life.calm(self.look(&alive.engines[0]));
    }

    /// Everybody sees what was answered, or what was sent since.
    async fn look(&mut self, engine: &Engine) {
        self.past.moved_on(&self.world).await;
        let refs = engine.refs(&self.project, Some(CLIENT_REF), None, None).await.expect("refs");
        let tip: Option<ObjectId> = refs.refs.first().map(|found| found.oid.0);
        let Client { known, unsure, .. } = &mut self.client;
        assert!(tip == *known || unsure.contains(&tip), "{CLIENT_REF} is {tip:?}, not {known:?} or {unsure:?}");
        (*known, *unsure) = (tip, Vec::new());
        // A commit that landed at the remote while our branch had commits of its own is seen after the next merge.
        let status = engine.status(&self.project, Some(self.people[0].id), None).await.expect("a status");
        if status.behind > 0 {
            return;
        }
        for person in &mut self.people {
            for (path, file) in &mut person.files {
                let seen = people::view(engine, &self.project, person.id, path).await;
                let sent: Vec<&Content> = file.unsure.iter().chain([&file.known]).collect();
                let text = |content: &Content| {
                    content.as_ref().map(|c| String::from_utf8_lossy(&c[..c.len().min(8)]).into_owned())
                };
                let trace = self.gate.trace();
                assert!(
                    sent.contains(&&seen),
                    "{path} is {:?}, not {:?}\n{trace}",
                    text(&seen),
                    sent.iter().map(|c| text(c)).collect::<Vec<_>>()
                );
                (file.known, file.unsure) = (seen, Vec::new());
            }
        }
    }

    /// Nothing goes wrong any more: everything is answered, and nothing is left half done.
    fn settle(&mut self, alive: &Alive) {
        let clock = Arc::clone(&self.world.clock);
        alive.life.calm(self.world.bucket.arrive());
        alive.life.calm(self.world.remote.arrive());
        // Any engine ends what another one began.
        for engine in alive.engines.iter().cycle().take(PATIENCE) {
            clock.pass(Duration::from_secs(7200));
            alive.life.calm(async {
                engine.housekeep().await.expect("a round of housekeeping");
                if self.world.plan.remote {
                    let done = people::sync(engine.clone(), self.project.clone()).await;
                    assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}\n{}", self.gate.trace());
                }
                for who in 0..self.people.len() {
                    if self.people[who].open.is_some() {
                        let done = self.people[who].commit(who, engine.clone(), self.project.clone(), false).await;
                        self.take(done);
                    }
                }
            });
        }
        let open = self.people.iter().find(|person| person.open.is_some());
        assert!(open.is_none(), "{}\nnever answered: {:?}", self.gate.trace(), open.map(|person| &person.open));
        alive.life.calm(self.all_is_well(&alive.engines[0]));
    }

    async fn all_is_well(&mut self, engine: &Engine) {
        self.look(engine).await;
        if self.world.plan.remote {
            let done = people::push(engine.clone(), self.project.clone()).await;
            assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}\n{}", self.gate.trace());
        }
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
        engine.housekeep().await.expect("a round of housekeeping");
        let copy = check::settled(&self.world).await;
        self.commits_are_there_once(&copy);
        let kept = check::kept(&self.world).await;
        let lost: Vec<_> = self.saved.difference(&kept).collect();
        assert!(lost.is_empty(), "saves that were answered are nowhere: {lost:?}");
    }

    fn commits_are_there_once(&self, copy: &Repo) {
        if !copy.refs().contains_key("refs/heads/main") {
            assert!(self.people.iter().all(|person| person.commits.is_empty()));
            return;
        }
        let log = copy.git().run(["log", "--format=%H %s", "main"]);
        let lines: Vec<(&str, &str)> = log.lines().filter_map(|line| line.split_once(' ')).collect();
        let mut answered = 0;
        for (key, answer) in self.people.iter().flat_map(|person| &person.commits) {
            let with_key: Vec<&str> = lines.iter().filter(|(_, subject)| subject == key).map(|(oid, _)| *oid).collect();
            assert_eq!(with_key, [answer.commit.to_string()], "{key}\n{}", self.gate.trace());
            answered += 1;
        }
        let made = lines.iter().filter(|(_, subject)| subject.starts_with("commit ")).count();
        assert_eq!(made, answered, "a commit that nobody was told of:\n{log}\n{}", self.gate.trace());
        if self.world.plan.remote {
            assert_eq!(self.world.origin.rev_parse("main"), copy.rev_parse("main"), "the remote has something else");
            self.world.origin.fsck_strict();
        }
    }
}
