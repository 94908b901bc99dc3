//! Random histories go in by pushes of random portions and come back whole, shallow and partial; everything is compared with stock
//! git, oid by oid.
//!
//! Each history has a seed, which is printed: `TREEHOLD_TEST_SEED` makes that one again. `TREEHOLD_HISTORIES` says how many there are.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use treehold_tests::git::Repo;

use crate::both;
use crate::deployment::Deployment;
use crate::git_tools::*;

/// Names as `git fast-import` reads them: quoted where they are not plain.
const NAMES: [&str; 12] = [
    "a",
    "a.c",
    "a-b",
    "a0",
    "ab",
    "README",
    "readme",
    "\"caf\\351\"",
    "\"\\344\\270\\255\"",
    "x y",
    "\"tab\\there\"",
    "con",
];
const FILTERS: [&str; 6] = ["blob:none", "blob:limit=50", "tree:0", "tree:1", "tree:2", "combine:blob:limit=1k+tree:3"];

/// A stream for `git fast-import` under way.
struct History {
    random: StdRng,
    stream: Vec<u8>,
    commits: usize,
    /// Clocks go wrong.
    skewed: bool,
}

impl History {
    fn say(&mut self, text: &str) {
        self.stream.extend_from_slice(text.as_bytes());
    }

    fn data(&mut self, content: &[u8]) {
        self.say(&format!("data {}\n", content.len()));
        self.stream.extend_from_slice(content);
        self.say("\n");
    }

    /// A path of some depth; a name that needs quotes makes all of it quoted.
    fn path(&mut self) -> String {
        let depth = if self.random.random_ratio(1, 20) { 30 } else { self.random.random_range(1..4) };
        let parts: Vec<&str> = (0..depth).map(|_| *NAMES.choose(&mut self.random).expect("a name")).collect();
        if parts.iter().any(|part| part.starts_with('"')) {
            format!("\"{}\"", parts.iter().map(|part| part.trim_matches('"')).collect::<Vec<_>>().join("/"))
        } else {
            parts.join("/")
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let number = self.random.random_range(0..60_u32);
        match self.random.random_range(0..40) {
            0 => (0..self.random.random_range(200_000..600_000)).map(|_| self.random.random()).collect(),
            1 => b"one\r\ntwo\r\n".repeat(number as usize),
            2 => Vec::new(),
            3..10 => (0..300)
                .fold(String::new(), |mut text, line| {
                    let changed = if line == number * 5 { "changed" } else { "line" };
                    writeln!(text, "{changed} {line}").expect("text");
                    text
                })
                .into_bytes(),
            _ => format!("content {number}\n").into_bytes(),
        }
    }

    fn change(&mut self) {
        let path = self.path();
        match self.random.random_range(0..14) {
            0 => self.say(&format!("D {path}\n")),
            1 => {
                let target = self.random.random_range(0..9_u32);
                self.say(&format!("M 120000 inline {path}\n"));
                self.data(format!("../to/{target}").as_bytes());
            }
            2 => {
                let oid = format!("{:040x}", self.random.random_range(1..u128::MAX));
                self.say(&format!("M 160000 {oid} {path}\n"));
            }
            3 => {
                // A wide tree.
                for number in 0..self.random.random_range(50..300) {
                    self.say(&format!("M 100644 inline wide/{number}\ndata 2\n{}\n", number % 10));
                    self.say("\n");
                }
            }
            mode => {
                self.say(&format!("M {} inline {path}\n", if mode == 4 { "100755" } else { "100644" }));
                let content = self.content();
                self.data(&content);
            }
        }
    }

    fn commit(&mut self) {
        self.commits += 1;
        let (mark, back) = (self.commits, self.random.random_range(1..6));
        let root = mark == 1 || self.random.random_ratio(1, 25);
        let branch = self.random.random_range(0..4);
        let skew: usize =
            if self.skewed && self.random.random_ratio(1, 5) { self.random.random_range(0..5_000) } else { 0 };
        if root {
            self.say(&format!("reset refs/heads/b{branch}\n\n"));
        }
        self.say(&format!("commit refs/heads/b{branch}\nmark :{mark}\n"));
        let time = 1_700_000_000 + mark * 100 - skew;
        self.say(&format!("author Ä <a@example.org> {time} +0545\ncommitter C <c@example.org> {time} -0330\n"));
        let message =
            format!("Commit {mark}\n{}", if mark.is_multiple_of(3) { "\nwith \u{1F333} and\r\nlines" } else { "" });
        self.data(message.as_bytes());
        if !root {
            self.say(&format!("from :{}\n", mark.saturating_sub(back).max(1)));
            let merges = *[0, 0, 0, 1, 1, 4].choose(&mut self.random).expect("a number");
            let mut parents: Vec<usize> = (0..merges).map(|_| self.random.random_range(1..mark)).collect();
            parents.sort_unstable();
            parents.dedup();
            parents.into_iter().for_each(|parent| self.say(&format!("merge :{parent}\n")));
        }
        match self.random.random_range(0..12) {
            0 => {}
            1 => self.say("deleteall\n"),
            _ => (0..self.random.random_range(1..5)).for_each(|_| self.change()),
        }
        self.say("\n");
    }
}

/// Makes a repository from a seed; more randomness, and whether its clocks go wrong.
fn make(source: &Clone, seed: u64) -> (StdRng, bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let skewed = random.random_bool(0.5);
    let mut history = History { random, stream: Vec::new(), commits: 0, skewed };
    history.say("feature done\n");
    let count = history.random.random_range(3..40);
    (0..count).for_each(|_| history.commit());
    for (number, target) in (0..history.random.random_range(0..5)).zip([1, count / 2 + 1, count].into_iter().cycle()) {
        let target = if number > 2 { 1_000 + number - 1 } else { target };
        history.say(&format!(
            "tag t{number}\nmark :{}\nfrom :{target}\ntagger T <t@example.org> 1700090000 +0000\n",
            1_000 + number
        ));
        history.data(b"a tag\n");
    }
    history.say(&format!("reset refs/heads/main\nfrom :{count}\n\ndone\n"));
    let marks = source.beside("marks");
    let to = format!("--export-marks={}", marks.display());
    source.git().run_with(["fast-import", "--quiet", "--force", &to], &history.stream);
    let random = &mut history.random;
    if random.random_bool(0.3) {
        source.run(&["tag", "-a", "-m", "x", "tree", "main^{tree}"]);
        let blob = source.hash_object_literally("blob", format!("only tagged {seed}\n").as_bytes());
        source.run(&["tag", "-a", "-m", "x", "blob", &blob]);
        let empty = source.git().run_with(["mktree"], b"");
        let holds = source
            .git()
            .run_with(["mktree"], format!("040000 tree {empty}\tempty\n100644 blob {blob}\tfile\n").as_bytes());
        let commit = source.run(&["commit-tree", "-m", "an empty directory", "-p", "main", &holds]);
        source.run(&["update-ref", "refs/heads/empty", &commit]);
    }
    (history.random, skewed)
}

/// Pushes it bit by bit, clones it back in every way, and compares.
async fn check(d: &Deployment, seed: u64) {
    let source = Clone::empty(true);
    let (mut random, skewed) = make(&source, seed);
    let version = *VERSIONS.choose(&mut random).expect("a version");
    let project = d.local_project().await;
    let to = url(d, project);
    let all: Vec<String> =
        source.run(&["rev-list", "--reverse", "--topo-order", "--all"]).lines().map(str::to_owned).collect();
    let mut follower = None;
    for portion in 0..random.random_range(0..4) {
        let oid = all.choose(&mut random).expect("a commit");
        let name = if random.random_bool(0.5) { "main".to_owned() } else { format!("part-{portion}") };
        source.run(&["push", "--quiet", &to, &format!("+{oid}:refs/heads/{name}")]);
        if follower.is_none() && random.random_bool(0.5) {
            follower = Some(Clone::of_project(d, project, version, &["--mirror"]));
        }
    }
    source.run(&["push", "--quiet", "--mirror", &to]);
    let expected = reached(&source);
    let clone = Clone::of_project(d, project, version, &["--mirror"]);
    assert_eq!(clone.refs(), source.refs());
    assert_eq!(stored(&clone), expected);
    clone.fsck_strict();
    if let Some(follower) = follower {
        follower.run(&["fetch", "--quiet", "--prune"]);
        assert_eq!(follower.refs(), source.refs());
        assert_eq!(reached(&follower), expected);
        follower.fsck_strict();
    }
    less(d, project, &source, version, &mut random, skewed);
}

/// Clones with less history and fewer objects.
fn less(d: &Deployment, project: uuid::Uuid, source: &Repo, version: &'static str, random: &mut StdRng, skewed: bool) {
    source.git().run(["config", "uploadpack.allowFilter", "true"]);
    source.git().run(["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let origin = format!("file://{}", source.path().display());
    let depth = format!("--depth={}", random.random_range(1..8));
    // Git counts depths from a tree that is asked for by name in a way of its own.
    let filters = if source.refs().contains_key("refs/tags/tree") { &FILTERS[..2] } else { &FILTERS[..] };
    let filter = format!("--filter={}", filters.choose(random).expect("a filter"));
    let branch = format!("--branch={}", if random.random_bool(0.5) { "main" } else { "b0" });
    let known = source.refs().contains_key("refs/heads/b0");
    let branch = if known { branch.as_str() } else { "--branch=main" };
    for options in [
        &["--mirror", &depth][..],
        &["--bare", &filter, "--mirror"],
        &["--bare", "--single-branch", branch, &depth, &filter],
    ] {
        let (ours, stock) = (Clone::of_project(d, project, version, options), Clone::of(&origin, version, options));
        assert_eq!(ours.refs(), stock.refs(), "{options:?}");
        assert_eq!(boundary(&ours), boundary(&stock), "{options:?}");
        let (lack, lacks_stock) = (left_out(&ours), left_out(&stock));
        if filter.contains("combine") {
            // Git leaves out what it met too deep first, though it is nearer to the root of another commit; what is below that is not
            // even known to be left out. All that git sends is sent.
            let only_stock: Vec<String> = stored(&stock).difference(&stored(&ours)).cloned().collect();
            assert!(only_stock.is_empty(), "{options:?}: {only_stock:?}");
        } else {
            assert_eq!(lack, lacks_stock, "{options:?}");
        }
        if options.contains(&depth.as_str()) && !options.contains(&filter.as_str()) {
            assert_eq!(reached(&ours), reached(&stock), "{options:?}");
            let deepen = format!("--deepen={}", random.random_range(1..5));
            for repo in [&ours, &stock] {
                repo.run(&["fetch", "--quiet", &deepen]);
            }
            // Where clocks are wrong, git overlooks that some commits at the boundary are reached.
            if !skewed {
                assert_eq!(boundary(&ours), boundary(&stock), "{options:?} {deepen}");
                assert_eq!(reached(&ours), reached(&stock), "{options:?} {deepen}");
            }
        }
        ours.fsck_strict();
    }
}

both! {
    /// Goal: whatever a history looks like, and in whichever portions it came, it comes back as it was.
    async fn come_back(d) {
        let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        if let Some(seed) = number("TREEHOLD_TEST_SEED") {
            return check(&d, seed).await;
        }
        let count = number("TREEHOLD_HISTORIES").unwrap_or(if d.setup == Setup::Embedded { 8 } else { 4 });
        for at in 0..count {
            let seed = rand::random::<u32>().into();
            println!("history {at}: TREEHOLD_TEST_SEED={seed}");
            check(&d, seed).await;
        }
    }
}
