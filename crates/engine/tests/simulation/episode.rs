//! One episode: people work while everything goes wrong; then it is quiet, and what was answered must be there.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use treehold_engine::api::ProjectSpec;
use treehold_engine::{Engine, EngineError, VerifyOptions, VerifyReport};
use treehold_object::Kind;

use crate::check::{self, Past};
use crate::gate::Gate;
use crate::life::{Deed, Life};
use crate::people::{self, Done};
use crate::tenant::{Secret, Stage, Tenant, Turn};
use crate::world::{Plan, World};

/// Rounds of work; more while a fault is wanted that did not come yet.
const STEPS: usize = 12;
const STEPS_MAX: usize = 30;
/// In a project alone, and in one among others: what is done in a round is about the same.
const PEOPLE: usize = 3;
const PEOPLE_BESIDE: usize = 2;
/// Projects, forks among them.
const TENANTS_MAX: usize = 5;
/// Foreign objects that a project is asked for in a round.
const PROBES: usize = 3;
/// How often in the end what was not answered is asked again.
const PATIENCE: usize = 4;

/// Deeds of a round, each with its project.
type Deeds = Vec<(&'static str, Deed<(usize, Done)>)>;

pub struct Episode {
    world: World,
    random: StdRng,
    gate: Arc<Gate>,
    tenants: Vec<Tenant>,
    round: u32,
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
        Episode {
            world: World::new(plan, gate),
            random: StdRng::seed_from_u64(plan.seed ^ 2),
            gate: Arc::clone(gate),
            tenants: Vec::new(),
            round: 0,
            past: Past::default(),
            outside: 0,
            deaths: 0,
        }
    }

    pub fn run(&mut self) {
        let mut alive = self.born();
        alive.life.calm(self.founded(&alive.engines[0]));
        for step in 0..STEPS_MAX {
            if step >= STEPS && self.gate.wanted().is_empty() {
                break;
            }
            self.round += 1;
            let deeds = self.choose(&alive.engines);
            let done = alive.life.storm(deeds);
            let died = self.gate.is_dead();
            for (at, done) in done.into_iter().flatten() {
                self.take(at, done);
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

    /// The projects that are there from the start.
    async fn founded(&mut self, engine: &Engine) {
        let plan = self.world.plan;
        let project = match plan.remote {
            true => self.connected(engine).await,
            false => alone(engine).await,
        };
        let people = self.people();
        let mut first = Tenant::new(0, people, project, &mut self.random);
        first.remote = plan.remote;
        self.tenants.push(first);
        if plan.second {
            let second = alone(engine).await;
            self.tenants.push(Tenant::new(1, people, second, &mut self.random));
        }
        self.look(engine).await;
    }

    fn people(&self) -> usize {
        let Plan { second, forks, .. } = self.world.plan;
        if second || forks { PEOPLE_BESIDE } else { PEOPLE }
    }

    async fn connected(&self, engine: &Engine) -> String {
        for number in 1000..1003 {
            self.world.outsider(number);
        }
        self.world.imported(engine).await
    }

    /// What happens at the same time.
    fn choose(&mut self, engines: &[Engine]) -> Deeds {
        let wanted = self.gate.wanted();
        let next = self.random.random_range(0..engines.len());
        let mut random = StdRng::from_seed(self.random.random());
        let (stays, round) = (self.world.plan.stays, self.round);
        let mut turn = Turn { random: &mut random, wanted: &wanted, engines, next, round, stays };
        let mut deeds = Deeds::new();
        for (at, tenant) in self.tenants.iter_mut().enumerate().filter(|(_, tenant)| tenant.is_alive()) {
            deeds.extend(tenant.deeds(&mut turn).into_iter().map(|(name, deed)| (name, of(at, deed))));
        }
        self.steal(&mut turn, &mut deeds);
        if self.world.plan.forks {
            self.fork(&mut turn, &mut deeds);
            self.delete(&mut turn, &mut deeds);
        }
        if turn.often("housekeep", 4) {
            deeds.push(("housekeep", of(0, people::housekeep(turn.engine()))));
        }
        // Where others share the catalog, who is silent for long counts as dead, and may be alive.
        if engines.len() > 1 && turn.often("time", 4) {
            let (gate, clock) = (Arc::clone(&self.gate), Arc::clone(&self.world.clock));
            let (turns, time_ms) = (turn.random.random_range(0..60), turn.random.random_range(1_000..300_000));
            deeds.push(("time", of(0, people::time(gate, clock, turns, Duration::from_millis(time_ms)))));
        }
        if turn.often("verify", 6) {
            deeds.push(("verify", of(0, people::verify(turn.engine(), turn.random))));
        }
        if turn.often("repack", 6) {
            deeds.push(("repack", of(0, people::repack(turn.engine()))));
        }
        if turn.often("gc", 4) {
            // Of one project, where there are others that need what it gives up.
            let beside = self.tenants.len() > 1 && !wanted.contains(&"gc") && turn.random.random_ratio(1, 3);
            let at = turn.random.random_range(0..self.tenants.len());
            let only = beside.then(|| self.tenants[at].project.clone());
            deeds.push(("gc", of(at, people::gc(turn.engine(), only))));
        }
        deeds
    }

    /// Somebody pushes a tree that names a blob of another project.
    fn steal(&self, turn: &mut Turn<'_>, deeds: &mut Deeds) {
        let thief = turn.random.random_range(0..self.tenants.len());
        let blobs: Vec<Secret> = self.foreign(thief).into_iter().filter(|secret| secret.kind == Kind::Blob).collect();
        if self.tenants[thief].is_alive() && !blobs.is_empty() && turn.often("theft", 4) {
            let blob = blobs[turn.random.random_range(0..blobs.len())].oid;
            let deed = people::steal(turn.engine(), self.tenants[thief].project.clone(), blob);
            deeds.push(("theft", of(thief, deed)));
        }
    }

    /// Asks for a fork, again if the last one did not come.
    fn fork(&mut self, turn: &mut Turn<'_>, deeds: &mut Deeds) {
        if !turn.often("fork", 3) {
            return;
        }
        let last = self.tenants.iter().position(|tenant| matches!(tenant.stage, Stage::Asked { .. }));
        let Some(at) = last.or_else(|| self.conceived(turn)) else { return };
        let parent = self.tenants[at].parent.expect("a fork");
        let source = &self.tenants[parent];
        if !source.is_alive() {
            self.tenants[at].stage = Stage::Gone;
            return;
        }
        let client = [source.client.known].into_iter().chain(source.client.unsure.iter().copied()).collect();
        let asked = Stage::Asked { answered: false, client, main: source.main };
        let deed = people::fork(turn.engine(), source.project.clone(), &self.tenants[at].project);
        self.tenants[at].stage = asked;
        deeds.push(("fork", of(at, deed)));
    }

    /// A fork that nobody has asked for yet; `None` = there are enough, or there is nothing to fork.
    fn conceived(&mut self, turn: &mut Turn<'_>) -> Option<usize> {
        let at = self.tenants.len();
        let sources =
            self.tenants.iter().enumerate().filter(|(_, tenant)| tenant.is_alive() && tenant.parent.is_none());
        let sources: Vec<usize> = sources.map(|(at, _)| at).collect();
        if at >= TENANTS_MAX || sources.is_empty() {
            return None;
        }
        let id = uuid::Builder::from_random_bytes(turn.random.random()).into_uuid();
        let mut fork = Tenant::new(at, PEOPLE_BESIDE, id.to_string(), turn.random);
        fork.parent = Some(sources[turn.random.random_range(0..sources.len())]);
        fork.stage = Stage::Gone;
        self.tenants.push(fork);
        Some(at)
    }

    /// Asks for the deletion of a project of which a fork lives.
    fn delete(&mut self, turn: &mut Turn<'_>, deeds: &mut Deeds) {
        let sources = self.tenants.iter().filter(|tenant| tenant.is_alive()).filter_map(|tenant| tenant.parent);
        let source = sources.filter(|at| self.tenants[*at].is_alive()).min();
        let Some(at) = source.filter(|_| turn.often("delete", 6)) else { return };
        let tenant = &mut self.tenants[at];
        tenant.stage = Stage::Leaving { answered: false };
        deeds.push(("delete", of(at, people::delete(turn.engine(), tenant.project.clone()))));
    }

    /// What others have and this project must not see.
    fn foreign(&self, to: usize) -> Vec<Secret> {
        let (parent, born) = (self.tenants[to].parent, self.tenants[to].born);
        let others = self.tenants.iter().enumerate().filter(|(from, _)| *from != to);
        others
            .flat_map(|(from, other)| {
                let secrets = other.secrets.iter().copied();
                secrets.filter(move |secret| parent != Some(from) || secret.round > born)
            })
            .collect()
    }

    /// Takes an answer for what it says.
    fn take(&mut self, at: usize, done: Done) {
        self.gate.note(&format!("{at} {}", done.told()));
        if let Done::Verified(Ok(report)) = &done {
            self.no_damage(report);
        }
        if let Some(error) = self.tenants[at].take(done, self.round) {
            self.excused(at, &error);
        }
    }

    /// Nothing is damaged here. What is read may be; and of a project that goes away, half may be found.
    fn no_damage(&self, report: &VerifyReport) {
        let goes = |tenant: &Tenant| matches!(tenant.stage, Stage::Leaving { .. } | Stage::Gone);
        let excused = self.world.plan.spoiled || self.tenants.iter().any(goes);
        assert!(report.errors == 0 || excused, "{:?}\n{}", report.findings, self.gate.trace());
    }

    /// What may be answered while things go wrong: never that something is wrong with what we keep, or that edits are in each other's way.
    fn excused(&self, at: usize, error: &EngineError) {
        let damage = matches!(error, EngineError::Internal(_) | EngineError::Damaged { .. });
        // What goes away may be found half gone by whoever is at work in it, or forks it; not by a fork that is there.
        let leaves = |at: usize| matches!(self.tenants[at].stage, Stage::Leaving { .. });
        let tenant = &self.tenants[at];
        let forking = matches!(tenant.stage, Stage::Asked { .. });
        let leaving = leaves(at) || (forking && tenant.parent.is_some_and(leaves));
        let spoiled = self.world.plan.spoiled;
        assert!(!damage || spoiled || leaving, "{error}: {error:?}\n{}", self.gate.trace());
        // A batch asks for nothing that its user does not see.
        assert!(!matches!(error, EngineError::Batch(_)), "{error}: {error:?}\n{}", self.gate.trace());
        // Nobody touches another one's files: whatever does not merge is somebody's own.
        let clash = matches!(error, EngineError::MergeConflict(_) | EngineError::Diverged(_));
        assert!(!clash || self.world.plan.misleads(), "{error}: {error:?}\n{}", self.gate.trace());
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

    async fn look(&mut self, engine: &Engine) {
        self.past.moved_on(&self.world).await;
        for tenant in &mut self.tenants {
            tenant.come_or_go(engine, self.round).await;
        }
        for tenant in self.tenants.iter_mut().filter(|tenant| tenant.is_alive()) {
            tenant.look(engine, &self.gate).await;
        }
        for at in 0..self.tenants.len() {
            self.probe(engine, at).await;
        }
    }

    /// A project is asked for what only others have: it knows of none.
    async fn probe(&mut self, engine: &Engine, at: usize) {
        let foreign = self.foreign(at);
        let project = self.tenants[at].project.clone();
        if !self.tenants[at].is_alive() || foreign.is_empty() {
            return;
        }
        for _ in 0..PROBES {
            let Secret { kind, oid, .. } = foreign[self.random.random_range(0..foreign.len())];
            let shown = engine.raw_object(&project, kind, oid).await;
            assert!(matches!(shown, Err(EngineError::NotFound { .. })), "{project} shows {kind:?} {oid} of another");
            let shown = engine.raw_committed(&project, kind, oid).await;
            assert!(matches!(shown, Err(EngineError::NotFound { .. })), "{project} shows {kind:?} {oid} of another");
            let sizes = engine.object_sizes(&project, &[oid]).await.expect("sizes");
            assert_eq!(sizes, [None::<u64>], "{project} knows the size of {kind:?} {oid} of another");
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
                for at in 0..self.tenants.len() {
                    self.ask_again(engine, at).await;
                }
            });
        }
        let open = self.tenants.iter().filter(|tenant| tenant.is_alive()).flat_map(|tenant| &tenant.people);
        let open: Vec<_> = open.filter_map(|person| person.open.as_ref()).collect();
        assert!(open.is_empty(), "{}\nnever answered: {open:?}", self.gate.trace());
        alive.life.calm(self.all_is_well(&alive.engines[0]));
    }

    async fn ask_again(&mut self, engine: &Engine, at: usize) {
        let tenant = &mut self.tenants[at];
        if !tenant.is_alive() {
            return;
        }
        if tenant.remote {
            let done = people::sync(engine.clone(), tenant.project.clone()).await;
            assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}\n{}", self.gate.trace());
        }
        for who in 0..tenant.people.len() {
            let tenant = &mut self.tenants[at];
            if tenant.people[who].open.is_some() {
                let project = tenant.project.clone();
                let done = tenant.people[who].commit(who, engine.clone(), project, false).await;
                self.take(at, done);
            }
        }
    }

    async fn all_is_well(&mut self, engine: &Engine) {
        self.look(engine).await;
        for tenant in self.tenants.iter_mut().filter(|tenant| tenant.is_alive()) {
            if tenant.remote {
                let done = people::push(engine.clone(), tenant.project.clone()).await;
                assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}\n{}", self.gate.trace());
            }
            tenant.says_it_again(engine).await;
        }
        engine.housekeep().await.expect("a round of housekeeping");
        let options = VerifyOptions { full: true, restart: true, ..VerifyOptions::default() };
        let report = engine.verify(&options, &()).await.expect("a verification");
        assert_eq!(report.errors, 0, "{:?}\n{}", report.findings, self.gate.trace());
        let copy = check::settled(&self.world).await;
        for tenant in self.tenants.iter().filter(|tenant| tenant.is_alive()) {
            let parent = tenant.parent.map(|at| &self.tenants[at]);
            tenant.commits_are_there_once(&copy, parent, &self.gate.trace());
            tenant.has_its_saves(&check::kept(&self.world, &copy, &tenant.project).await);
            let (main, stolen) = (check::copied(&tenant.project, "refs/heads/main"), people::STOLEN_REF);
            if tenant.remote {
                let ours = copy.refs().get(&main).cloned().expect("what was imported");
                assert_eq!(self.world.origin.rev_parse("main"), ours, "the remote has something else");
                self.world.origin.fsck_strict();
            }
            assert!(!copy.refs().contains_key(&check::copied(&tenant.project, stolen)), "a blob was stolen");
        }
    }
}

/// A project without a remote.
async fn alone(engine: &Engine) -> String {
    engine.create_project(None, &ProjectSpec::default()).await.expect("a project").0.id.to_string()
}

/// A deed of a project.
fn of(tenant: usize, deed: Deed<Done>) -> Deed<(usize, Done)> {
    Box::pin(async move { (tenant, deed.await) })
}
