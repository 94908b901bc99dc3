//! Generated objects and names, a pack of them at a time: git's verdict on each, and ours.
//!
//! `TREEHOLD_DIFFERENTIAL` says how many objects there are in all. One process of git judges a whole pack of them, and memory holds one pack.
//! Each pack has a seed of its own, which is printed: with `TREEHOLD_TEST_SEED` it comes first.
//!
//! Known differences, all on purpose:
//! - `badTimezone`, `missingSpaceBeforeDate` and `zeroPaddedFilemode` are carried. Old histories of great projects have them, and forges take
//!   them; the oracle ignores them.
//! - a line break in the URL of a submodule is refused also where no command of git's would read it.
//! - what stands at `.gitmodules` and is no blob is named by git at that object, by us at the tree.
//! - a name with `\` in front of `.git` is refused everywhere; git's index takes it where the `\` comes first, its `fsck` does not.

use crate::fsck_commits::{COMMIT, TAG, broken};
use crate::oracle::{Oracle, joined, seed, seeded};
use crate::{fsck_commits, fsck_files, fsck_trees, names, refs};
use bstr::ByteSlice;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::{BTreeMap, BTreeSet};
use treehold_object::commit::CommitSpec;
use treehold_object::fsck::{GitFile, check_git_file};
use treehold_object::ident::TIME_S_MAX;
use treehold_object::tree::mode;
use treehold_object::{Kind, ObjectId, Policy, Signature, TreeEntry, encode_tree, fsck, hash, path};
use treehold_tests::git::Repo;

/// In one pack.
const BATCH: usize = 20_000;

/// Every fault that is refused of a push and that git has the same name for. Not here: what only edits may not do (`emptySubtree`,
/// `unsafeName`), what git names at another object (`gitmodulesBlob`), and files larger than a limit, which `fsck_files` makes.
const CLAIMED: [&str; 38] = [
    "nulInHeader",
    "unterminatedHeader",
    "missingTree",
    "badTreeSha1",
    "badParentSha1",
    "missingAuthor",
    "multipleAuthors",
    "missingCommitter",
    "nulInCommit",
    "missingObject",
    "badObjectSha1",
    "missingTypeEntry",
    "badType",
    "missingTagEntry",
    "missingNameBeforeEmail",
    "badName",
    "missingEmail",
    "missingSpaceBeforeEmail",
    "badEmail",
    "zeroPaddedDate",
    "badDateOverflow",
    "badDate",
    "badTree",
    "treeNotSorted",
    "duplicateEntries",
    "nullSha1",
    "hasDot",
    "hasDotdot",
    "hasDotgit",
    "fullPathname",
    "largePathname",
    "badFilemode",
    "gitmodulesSymlink",
    "gitmodulesName",
    "gitmodulesUrl",
    "gitmodulesPath",
    "gitmodulesUpdate",
    "gitattributesLineLength",
];

/// What `git hash-object` refuses and a push may bring.
const CARRIED: [&str; 4] = ["badTimezone", "missingSpaceBeforeDate", "badTagName", "missingTaggerEntry"];

const NAMES: [&str; 10] = ["A", "A U Thor", "A U Thor", "", " ", "A<", "A>", "\u{e9}", "A\t", "\"A\""];
const MAILS: [&str; 10] = ["<a@b>", "<a@b>", "<>", "a@b>", "<a@b", "<a<b>", "<a@b>>", "<a b>", "", "<a@b>x"];
const DATES: [&str; 15] = [
    "1700000000",
    "0",
    "1",
    "01",
    "00",
    "-1",
    "+1",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "",
    "x",
    "1x",
    "1.5",
    "\t1",
];
const ZONES: [&str; 11] =
    ["+0000", "-0000", "+0530", "+051800", "0000", "+000", "+00x0", "", "UTC", "+0000 ", "+0000\t"];
const SPACES: [&str; 6] = [" ", " ", " ", "", "  ", "\t"];
/// Between the committer and the message.
const EXTRA: [&[u8]; 14] = [
    b"encoding latin1\n",
    b"encoding \n",
    b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n",
    b"gpgsig x\ny\n",
    b"gpgsig-sha256 x\n",
    b"mergetag object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n type tree\n tag x\n",
    b"author A <a@b> 1 +0000\n",
    b"committer A <a@b> 1 +0000\n",
    b"parent 0000000000000000000000000000000000000000\n",
    b" continued\n",
    b"flag\n",
    b"x \xff\xfe\n",
    b"x \0\n",
    b"\n\0",
];
const MODULES: [&str; 9] = [
    ".gitmodules",
    ".gitmodules",
    ".GITMODULES",
    "gitmod~1",
    "gi7eba~1",
    ".gitmodules .",
    ".gitmodules::$DATA",
    ".git\u{200c}modules",
    "gitmodules",
];
const ATTRIBUTES: [&str; 6] =
    [".gitattributes", ".gitattributes", ".GitAttributes", "gitatt~1", "gi7d29~1", ".gitattributes.x"];

/// An object, and what is counted of it.
struct Sample {
    sort: &'static str,
    kind: Kind,
    content: Vec<u8>,
    /// Of a tag: its name is judged as that of a ref.
    ref_name: Option<Vec<u8>>,
}

impl Sample {
    fn new(sort: &'static str, kind: Kind, content: impl Into<Vec<u8>>) -> Sample {
        Sample { sort, kind, content: content.into(), ref_name: None }
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// Objects compared, by sort.
    compared: BTreeMap<&'static str, usize>,
    /// Objects that we refuse, by the fault that we find first.
    refused: BTreeMap<&'static str, usize>,
    /// Those that git says have the same fault.
    named: BTreeMap<&'static str, usize>,
    /// Taken by us and by `git hash-object`, while `git fsck` misses what they name: not a matter of one object.
    pointing: usize,
    /// Of refs: good and bad ones.
    ref_names: [usize; 2],
    /// Good and bad ones.
    paths: [usize; 2],
    written_trees: usize,
}

impl Tally {
    fn objects(&self) -> usize {
        self.compared.values().sum()
    }
}

/// Goal: git and we take the same objects and names, and where both refuse, for the same fault.
#[test]
fn git_judges_alike() {
    let size = std::env::var("TREEHOLD_DIFFERENTIAL").map_or(BATCH, |size| size.parse().expect("a number of objects"));
    let first = seed();
    let mut tally = Tally::default();
    for batch in 0.. {
        let Some(left) = size.checked_sub(tally.objects()).filter(|left| *left > 0) else { break };
        judge(first.wrapping_add(batch), left.min(BATCH), batch == 0, &mut tally);
    }
    println!("{tally:#?}");
    let sorts =
        ["commit", "person", "extra", "written", "tag", "ref name", "tree", ".gitmodules", ".gitattributes", "blob"];
    for sort in sorts {
        assert!(tally.compared.contains_key(sort), "no {sort} was compared");
    }
    let unheard: Vec<&str> = CLAIMED.into_iter().filter(|id| !tally.named.contains_key(id)).collect();
    assert!(unheard.is_empty(), "git never said {unheard:?}");
    let unclaimed: Vec<&&str> =
        tally.refused.keys().filter(|id| !CLAIMED.contains(id) && **id != "gitmodulesBlob").collect();
    assert!(unclaimed.is_empty(), "{unclaimed:?}");
    let refused: usize = tally.refused.values().sum();
    assert!(refused > size / 10 && refused < size - size / 10, "{refused} of {size} are refused");
    assert!(tally.pointing <= size / 100, "{} pointed elsewhere", tally.pointing);
    assert!(tally.written_trees > size / 100, "{} trees were written", tally.written_trees);
    for [good, bad] in [tally.ref_names, tally.paths] {
        assert!(good > size / 2_000 && bad > size / 2_000, "{good} good and {bad} bad names");
    }
}

/// What generated objects name. They come first in each pack, so that git knows what they are before another object claims otherwise.
struct Ground {
    tree: Sample,
    parent: Sample,
    blob: Sample,
}

impl Ground {
    fn new() -> Ground {
        Ground {
            tree: Sample::new("tree", Kind::Tree, ""),
            parent: Sample::new("commit", Kind::Commit, COMMIT.replace("parent PARENT\n", "")),
            blob: Sample::new("blob", Kind::Blob, "what the entries of generated trees name\n"),
        }
    }

    fn objects(&self) -> [(ObjectId, &Sample); 3] {
        [&self.tree, &self.parent, &self.blob].map(|sample| (oid(sample), sample))
    }
}

fn oid(sample: &Sample) -> ObjectId {
    hash(sample.kind, &sample.content).expect("no collision")
}

/// Makes `count` objects and more from one seed, gives them to git in one pack, and compares.
fn judge(seed: u64, count: usize, with_named: bool, tally: &mut Tally) {
    let mut random = seeded(seed);
    let ground = Ground::new();
    let [_, (parent, _), (blob, _)] = ground.objects();
    let mut samples: BTreeMap<ObjectId, Sample> = BTreeMap::new();
    while samples.len() < count {
        samples.extend(generated(&mut random, &parent, &blob).into_iter().map(|sample| (oid(&sample), sample)));
    }
    if with_named {
        samples.extend(named(&parent, &blob).into_iter().map(|sample| (oid(&sample), sample)));
    }
    for (oid, _) in ground.objects() {
        samples.remove(&oid);
    }
    let oracle = Oracle::new();
    let all = ground.objects().into_iter().chain(samples.iter().map(|(oid, sample)| (*oid, sample)));
    let all: Vec<_> = all.map(|(oid, sample)| (oid, sample.kind, sample.content.as_slice())).collect();
    oracle.put_all(all.into_iter());
    let complaints = oracle.complaints();
    // By our own reading of the trees, spelling by spelling.
    let mut files: BTreeMap<ObjectId, BTreeSet<GitFile>> = BTreeMap::new();
    for (oid, sample) in samples.iter().filter(|(_, sample)| sample.kind == Kind::Tree) {
        let checked = fsck::check(Kind::Tree, oid, &sample.content, Policy::Push).unwrap_or_default();
        for (file, oid) in checked.git_files {
            files.entry(oid).or_default().insert(file);
        }
    }
    let nothing = BTreeSet::new();
    for (oid, sample) in &samples {
        let ours = verdict(oid, sample, files.get(oid));
        compare(&oracle, sample, ours, complaints.get(oid).unwrap_or(&nothing), tally);
    }
    paths_are_judged_alike(&mut random, count, tally);
    trees_are_written_alike(&oracle, &mut random, count / 50 + 1, tally);
}

/// The first fault that we find in a push.
fn verdict(oid: &ObjectId, sample: &Sample, files: Option<&BTreeSet<GitFile>>) -> Option<&'static str> {
    let (kind, content) = (sample.kind, sample.content.as_slice());
    if let Err(error) = fsck::check(kind, oid, content, Policy::Push) {
        return Some(error.fault.id());
    }
    assert!(
        fsck::check(kind, oid, content, Policy::Import).is_ok(),
        "an import takes what a push may bring: {:?}",
        content.as_bstr()
    );
    files.into_iter().flatten().find_map(|&file| {
        let pushed = check_git_file(file, kind, oid, content, Policy::Push);
        let imported = check_git_file(file, kind, oid, content, Policy::Import).expect("it is carried");
        assert_eq!(imported.is_empty(), pushed.is_ok(), "{:?}", content.as_bstr());
        pushed.err().map(|error| error.fault.id())
    })
}

/// `theirs`: git's complaints about this object.
fn compare(oracle: &Oracle, sample: &Sample, ours: Option<&'static str>, theirs: &BTreeSet<String>, tally: &mut Tally) {
    let (kind, text) = (sample.kind, sample.content.as_bstr());
    *tally.compared.entry(sample.sort).or_default() += 1;
    if let Some(name) = &sample.ref_name {
        let is_bad = theirs.contains("badTagName");
        assert_eq!(refs::is_refused(name), is_bad, "{:?}", name.as_bstr());
        tally.ref_names[usize::from(is_bad)] += 1;
    }
    let faults: BTreeSet<&str> = theirs.iter().map(String::as_str).filter(|id| *id != "badTagName").collect();
    let Some(id) = ours else {
        if !faults.is_empty() {
            assert!(faults.iter().eq(&["parse"]), "git finds {faults:?}, we nothing in {kind} {text:?}");
            let alone = oracle.complaint(kind, &sample.content);
            let is_taken = alone.as_deref().is_none_or(|id| CARRIED.contains(&id));
            assert!(is_taken, "git finds {alone:?}, we nothing in {kind} {text:?}");
            tally.pointing += 1;
        }
        return;
    };
    *tally.refused.entry(id).or_default() += 1;
    let named = tally.named.entry(id).or_default();
    if faults.contains(id) {
        *named += 1;
    } else if faults.contains("parse") {
        // What git cannot even parse it names no fault of, unless asked for that object alone. A few are enough.
        if *named < 3 {
            let alone = oracle.complaint(kind, &sample.content);
            let is_same = alone.as_deref().is_some_and(|alone| alone == id || CARRIED.contains(&alone));
            assert!(is_same, "git finds {alone:?}, we {id} in {kind} {text:?}");
            *named += usize::from(alone.as_deref() == Some(id));
        }
    } else {
        let is_known = match id {
            "gitmodulesBlob" => kind == Kind::Tree,
            "gitmodulesUrl" => text.contains_str("\\n"),
            _ => faults.contains("badTree"),
        };
        assert!(is_known, "git finds {faults:?}, we {id} in {kind} {text:?}");
    }
    if tally.named.get(id) == Some(&0) {
        tally.named.remove(id);
    }
}

/// One object of each fault, whatever the seed.
fn named(parent: &ObjectId, blob: &ObjectId) -> Vec<Sample> {
    let heads = fsck_commits::faulty(parent).into_iter().map(|(kind, content, _)| {
        let sort = if kind == Kind::Tag { "tag" } else { "commit" };
        Sample::new(sort, kind, content)
    });
    let trees = fsck_trees::faulty(blob).into_iter().map(|(content, _)| Sample::new("tree", Kind::Tree, content));
    let modules = fsck_files::FAULTY.iter().flat_map(|(content, _)| at(".gitmodules", ".gitmodules", *content));
    let long = format!("*.x {}\n", "y".repeat(2_044));
    heads.chain(trees).chain(modules).chain(at(".gitattributes", ".gitattributes", long)).collect()
}

/// A blob, and a tree in which it has this name.
fn at(sort: &'static str, name: &str, content: impl Into<Vec<u8>>) -> [Sample; 2] {
    let blob = Sample::new(sort, Kind::Blob, content);
    let entry = TreeEntry { mode: mode::FILE, name: name.into(), oid: oid(&blob) };
    let tree = encode_tree([entry]).expect("a tree");
    [blob, Sample::new("tree", Kind::Tree, tree)]
}

/// The next object or two.
fn generated(random: &mut StdRng, parent: &ObjectId, blob: &ObjectId) -> Vec<Sample> {
    let commit = || COMMIT.replace("PARENT", &parent.to_string());
    match random.random_range(0..40) {
        0..5 => vec![Sample::new("commit", Kind::Commit, broken(random, commit().as_bytes()))],
        5..9 => {
            let good = ["A U Thor <author@example.org> 1700000000 +0100", "C <c@example.org> 1700000001 -0000"];
            let good = good.choose(random).copied().unwrap_or_default();
            vec![Sample::new("person", Kind::Commit, commit().replace(good, &person(random)))]
        }
        9..12 => {
            let commit = commit();
            let (headers, message) = commit.split_once("\n\n").expect("a message");
            let extra = joined(random, &EXTRA, 6);
            let content = [headers.as_bytes(), b"\n", &extra, b"\n", message.as_bytes()].concat();
            vec![Sample::new("extra", Kind::Commit, content)]
        }
        12 => written(random, parent).into_iter().collect(),
        13..17 => vec![Sample::new("tag", Kind::Tag, broken(random, TAG.as_bytes()))],
        17..21 => {
            let name = refs::name(random);
            let (head, tail) = TAG.split_once("v1").expect("a name");
            let content = [head.as_bytes(), &name, tail.as_bytes()].concat();
            vec![Sample { ref_name: Some(name), ..Sample::new("ref name", Kind::Tag, content) }]
        }
        21..31 => vec![Sample::new("tree", Kind::Tree, fsck_trees::generated(random, &[*blob]))],
        31..36 => {
            let name = MODULES.choose(random).copied().unwrap_or_default();
            let count = random.random_range(1..4);
            let content: Vec<u8> = (0..count).flat_map(|_| fsck_files::modules(random)).collect();
            at(".gitmodules", name, content).into()
        }
        36..38 => {
            let name = ATTRIBUTES.choose(random).copied().unwrap_or_default();
            at(".gitattributes", name, fsck_files::attributes(random)).into()
        }
        _ => {
            let bytes: [u8; 16] = random.random();
            vec![Sample::new("blob", Kind::Blob, bytes)]
        }
    }
}

/// Who and when, with any part of it odd.
fn person(random: &mut StdRng) -> String {
    [&NAMES[..], &SPACES, &MAILS, &SPACES, &DATES, &SPACES, &ZONES]
        .map(|from| from.choose(random).copied().unwrap_or_default())
        .concat()
}

/// A commit as an edit makes it; nothing where its author is refused.
fn written(random: &mut StdRng, parent: &ObjectId) -> Option<Sample> {
    let names: [&[u8]; 12] =
        [b"A", b" ", b",", b";", b"<", b">", b"\n", b"\"", "\u{e9}".as_bytes(), b".", b"\\", b"\t"];
    let messages: [&[u8]; 7] =
        [b"Subject", b"\n", b"\n\nBody\n", b"  ", "\u{65e5}".as_bytes(), b"tree ", b"author A <a@b> 1 +0000\n"];
    let mut text = |pieces: &[&[u8]], most| String::from_utf8(joined(random, pieces, most)).expect("UTF-8");
    let (name, email, message) = (text(&names, 4), text(&names, 4), text(&messages, 5));
    let author = Signature::new(&name, &email, random.random_range(0..=TIME_S_MAX), random.random_range(-1439..1440));
    let author = author.ok()?;
    let spec = CommitSpec {
        tree: hash(Kind::Tree, b"").expect("no collision"),
        parents: vec![*parent],
        committer: author.clone(),
        author,
        message: message.into(),
    };
    let content = spec.encode().expect("a commit");
    let sample = Sample::new("written", Kind::Commit, content);
    assert!(fsck::check(Kind::Commit, &oid(&sample), &sample.content, Policy::Write).is_ok(), "{name:?} {email:?}");
    Some(sample)
}

/// Paths against the `verify_path` of git's index, with the protection of all file systems on.
fn paths_are_judged_alike(random: &mut StdRng, count: usize, tally: &mut Tally) {
    // Others are refused by their shape; git would tidy them up before it looks.
    let is_shaped = |path: &[u8]| path.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    let paths: BTreeSet<Vec<u8>> =
        (0..count).map(|_| joined(random, &names::PIECES, 6)).filter(|path| is_shaped(path)).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let repo = Repo::init(directory.path());
    let input: Vec<u8> = paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    let arguments = ["update-index", "--force-remove", "--verbose", "-z", "--stdin"];
    let output = names::protected(repo.git()).output_of(arguments, &input);
    assert!(output.status.success(), "{}", output.stderr.as_bstr());
    let refused: BTreeSet<&[u8]> =
        output.stderr.split_str("\n").filter_map(|line| line.strip_prefix(b"Ignoring path ")).collect();
    assert_eq!(output.stdout.lines().count() + refused.len(), paths.len(), "git judged all of them");
    for path in &paths {
        let (is_bad, ours) = (refused.contains(path.as_slice()), path::check_existing(path));
        let is_stricter = !is_bad && path.split(|&byte| byte == b'/').any(|part| part.starts_with(b"\\"));
        assert!(ours.is_err() == is_bad || is_stricter, "git refuses: {is_bad}; we: {ours:?}; {:?}", path.as_bstr());
        tally.paths[usize::from(is_bad)] += 1;
    }
}

/// Trees as we write them, against `git mktree`, which is given the entries in any order.
fn trees_are_written_alike(oracle: &Oracle, random: &mut StdRng, count: usize, tally: &mut Tally) {
    let (blob, tree) = (hash(Kind::Blob, b"").expect("no collision"), hash(Kind::Tree, b"").expect("no collision"));
    let elsewhere = ObjectId::from_bytes_or_panic(&[1; 20]);
    let pieces: [&[u8]; 8] = [b"a", b"b", b".", b"-", b"0", b"~", b"\xff", b"\x01"];
    let kinds = [
        (mode::FILE, "blob", blob),
        (mode::EXECUTABLE, "blob", blob),
        (mode::SYMLINK, "blob", blob),
        (mode::TREE, "tree", tree),
        (mode::GITLINK, "commit", elsewhere),
    ];
    let (mut input, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut names: Vec<Vec<u8>> = (0..20).map(|_| joined(random, &pieces, 3)).collect();
        names.sort();
        names.dedup();
        names.shuffle(random);
        let mut entries = Vec::new();
        for name in &names {
            let &(mode, kind, oid) = kinds.choose(random).expect("some");
            input.extend_from_slice(format!("{mode:06o} {kind} {oid}\t").as_bytes());
            input.extend_from_slice(name);
            input.push(0);
            entries.push(TreeEntry { mode, name: name.as_bstr(), oid });
        }
        input.push(0);
        ours.push(hash(Kind::Tree, &encode_tree(entries).expect("a tree")).expect("no collision").to_string());
    }
    let git = oracle.git().clone().config("core.fsync", "none");
    let theirs = git.run_with(["mktree", "--batch", "-z"], &input);
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ours);
    tally.written_trees += ours.len();
}
