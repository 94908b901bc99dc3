//! Packs and answers that no git would make: refused, without a panic and without much memory.

use std::process::Command;

use proptest::prelude::*;
use treehold_object::pack::{Checksum, EntryHeader, EntryKind, header};
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId, second_opinion};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::bombs::delta_bomb;
use crate::git::{Numbers, Repo, parse_objects, seed, spool};
use crate::ingesting::{objects, options};

/// A pack written entry by entry, with any lie.
#[derive(Clone, Default)]
pub struct Forge {
    bytes: Vec<u8>,
    count: u32,
    offsets: Vec<usize>,
}

impl Forge {
    pub fn new() -> Self {
        Self { bytes: header(0).to_vec(), ..Self::default() }
    }

    /// An entry that claims `size` bytes and inflates to `data`.
    pub fn entry(&mut self, kind: EntryKind, size: u64, data: &[u8]) -> &mut Self {
        self.offsets.push(self.bytes.len());
        EntryHeader { kind, size }.encode(&mut self.bytes);
        Deflater::new(9).deflate(&[data], &mut self.bytes);
        self.count += 1;
        self
    }

    /// The same with so many empty blocks in its zlib stream, five bytes each.
    fn padded(&mut self, kind: EntryKind, data: &[u8], blocks: usize) -> &mut Self {
        self.offsets.push(self.bytes.len());
        EntryHeader { kind, size: data.len() as u64 }.encode(&mut self.bytes);
        let mut stream = Vec::new();
        Deflater::new(9).deflate(&[data], &mut stream);
        // Behind the two bytes of the stream's header.
        self.bytes.extend_from_slice(&stream[..2]);
        self.bytes.extend_from_slice(&b"\0\0\0\xff\xff".repeat(blocks));
        self.bytes.extend_from_slice(&stream[2..]);
        self.count += 1;
        self
    }

    fn whole(&mut self, kind: Kind, data: &[u8]) -> &mut Self {
        self.entry(EntryKind::Whole(kind), data.len() as u64, data)
    }

    pub fn ref_delta(&mut self, base: ObjectId, delta: &[u8]) -> &mut Self {
        self.entry(EntryKind::RefDelta { base }, delta.len() as u64, delta)
    }

    /// A delta against entry number `base` of this pack.
    pub fn ofs_delta(&mut self, base: usize, delta: &[u8]) -> &mut Self {
        let distance = (self.bytes.len() - self.offsets[base]) as u64;
        self.entry(EntryKind::OfsDelta { distance }, delta.len() as u64, delta)
    }

    /// The pack with its count, or another one, and a trailer that is right for the bytes.
    fn finish_with(&self, count: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[8..12].copy_from_slice(&count.to_be_bytes());
        seal(bytes)
    }

    pub fn finish(&self) -> Vec<u8> {
        self.finish_with(self.count)
    }
}

/// Appends the trailer.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut checksum = Checksum::default();
    checksum.update(&bytes);
    bytes.extend_from_slice(checksum.finish().unwrap().as_slice());
    bytes
}

fn take(pack: &[u8]) -> Result<Quarantine, IngestError> {
    ingest(spool(pack), &options(IngestLimits::default()))
}

fn size_bytes(mut size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    out
}

/// A delta with this head and these instructions.
pub fn delta(base: u64, target: u64, ops: &[u8]) -> Vec<u8> {
    [size_bytes(base), size_bytes(target), ops.to_vec()].concat()
}

fn blob(content: &[u8]) -> ObjectId {
    second_opinion(Kind::Blob, content)
}

/// What a git makes of the pack in an empty repository: its objects, if it takes it.
fn by_git(pack: &[u8]) -> Option<Vec<(ObjectId, Kind, u64)>> {
    let repo = Repo::bare();
    let taken = repo.try_git(&["index-pack", "--stdin"], pack).status.success();
    taken.then(|| {
        if pack.len() == 32 {
            Vec::new()
        } else {
            parse_objects(&repo.git(&["cat-file", "--batch-all-objects", "--batch-check"]))
        }
    })
}

/// A small pack with a delta of each sort.
fn small() -> Forge {
    let mut forge = Forge::new();
    forge.whole(Kind::Blob, b"0123456789").ofs_delta(0, &delta(10, 4, &[0x90, 4]));
    forge.ref_delta(blob(b"0123"), &delta(4, 6, &[0x90, 4, 2, b'x', b'y'])).whole(Kind::Blob, b"");
    forge
}

#[test]
fn the_forge_itself_makes_packs_that_git_takes() {
    let pack = small().finish();
    let quarantine = take(&pack).unwrap();
    assert_eq!(Some(objects(&quarantine)), by_git(&pack));
    assert_eq!(quarantine.len(), 4);
    assert_eq!(quarantine.read(&blob(b"0123xy")).unwrap().unwrap().1, "0123xy");
}

#[test]
fn a_pack_cut_anywhere_is_refused() {
    let pack = small().finish();
    for end in 0..pack.len() {
        assert!(matches!(take(&pack[..end]), Err(IngestError::Damaged { .. })), "cut at {end}");
        // Also where somebody made a trailer for what is left.
        if (12..pack.len() - 20).contains(&end) {
            let sealed = take(&seal(pack[..end].to_vec()));
            assert!(matches!(sealed, Err(IngestError::Damaged { .. })), "cut and sealed at {end}");
        }
    }
    let longer = [&pack[..], b"x"].concat();
    assert!(matches!(take(&longer), Err(IngestError::Damaged { .. })));
}

#[test]
fn a_flipped_bit_is_noticed() {
    let pack = small().finish();
    for at in 0..pack.len() {
        let mut bad = pack.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(take(&bad).is_err(), "flipped at {at}");
        // With a trailer to match it must at least not panic.
        bad.truncate(pack.len() - 20);
        drop(take(&seal(bad)));
    }
}

#[test]
fn counts_and_trailers_that_lie_are_refused() {
    for count in [3, 5, 1_000, u32::MAX] {
        let refused = take(&small().finish_with(count));
        assert!(matches!(refused, Err(IngestError::Damaged { .. } | IngestError::Limit { .. })), "{count}");
    }
    let few = IngestLimits { objects: 3, ..IngestLimits::default() };
    let refused = ingest(spool(&small().finish()), &options(few));
    assert!(matches!(refused, Err(IngestError::Limit { what: "objects", limit: 3 })));
    let short = IngestLimits { pack_bytes: 100, ..IngestLimits::default() };
    assert!(matches!(ingest(spool(&small().finish()), &options(short)), Err(IngestError::Limit { limit: 100, .. })));

    let empty = Forge::new().finish();
    assert!(take(&empty).unwrap().is_empty());
    let mut bad = empty.clone();
    bad[31] ^= 1;
    assert!(matches!(take(&bad), Err(IngestError::Damaged { .. })));
    let mut version = empty;
    version[7] = 4;
    version.truncate(12);
    assert!(matches!(take(&seal(version)), Err(IngestError::Damaged { .. })));
}

#[test]
fn what_is_dear_to_read_is_told() {
    let mut forge = Forge::new();
    forge.whole(Kind::Blob, &[7; 1 << 20]).ofs_delta(0, &delta(1 << 20, 4, &[0x90, 4]));
    let quarantine = ingest(spool(&forge.finish()), &options(IngestLimits::default())).unwrap();
    let small = [blob(&[7; 4])];
    assert_eq!(quarantine.costly(50, |size| size + 1_000), small, "four bytes on a megabyte");
    assert!(quarantine.costly(50, |_| 1 << 20).is_empty());
    assert_eq!(quarantine.costly(0, |_| u64::MAX), small, "no chain is short enough");
}

#[test]
fn deltas_that_lie_are_refused() {
    let base = b"0123456789";
    let good = delta(10, 4, &[0x90, 4]);
    let forge = |make: &dyn Fn(&mut Forge)| {
        let mut forge = Forge::new();
        forge.whole(Kind::Blob, base);
        make(&mut forge);
        take(&forge.finish())
    };
    assert_eq!(forge(&|f| _ = f.ofs_delta(0, &good)).unwrap().len(), 2);
    for bad in [
        delta(9, 4, &[0x90, 4]),
        delta(10, 5, &[0x90, 4]),
        delta(10, 3, &[0x90, 4]),
        delta(10, 4, &[0x91, 7, 4]),
        delta(10, 4, &[0]),
        delta(10, 4, &[4, b'a']),
        delta(10, 4, &[0xf0]),
        vec![],
        vec![10],
        vec![0xff; 20],
    ] {
        for by_ref in [true, false] {
            let result = forge(&|f| {
                if by_ref {
                    f.ref_delta(blob(base), &bad)
                } else {
                    f.ofs_delta(0, &bad)
                };
            });
            assert!(matches!(result, Err(IngestError::Damaged { .. } | IngestError::Limit { .. })), "{bad:?}");
        }
    }
    // Distances: before the pack, into the header, into the middle of an entry, beyond 64 bits.
    let at = forge(&|f| _ = f.ofs_delta(0, &good)).unwrap().iter().nth(1).unwrap().offset;
    for distance in [1, at - 13, at, at - 11, at + 1, u64::MAX / 2] {
        let result = forge(&|f| _ = f.entry(EntryKind::OfsDelta { distance }, good.len() as u64, &good));
        assert!(matches!(result, Err(IngestError::Damaged { .. })), "{distance}");
    }
}

/// Goal: a pack costs what its objects hold: what holds nothing is read into no memory, and kept and sent with no object.
#[test]
fn streams_of_nothing_are_refused() {
    let change = delta(10, 4, &[0x90, 4]);
    let pack = |blocks| {
        let mut object = Forge::new();
        object.padded(EntryKind::Whole(Kind::Blob), b"0123456789", blocks).ofs_delta(0, &change);
        let mut on_it = Forge::new();
        let base = EntryKind::RefDelta { base: blob(b"0123456789") };
        on_it.whole(Kind::Blob, b"0123456789").padded(base, &change, blocks);
        [object.finish(), on_it.finish()]
    };
    // As of somebody who flushes often.
    for taken in pack(500) {
        let quarantine = take(&taken).unwrap();
        assert_eq!((quarantine.len(), Some(objects(&quarantine))), (2, by_git(&taken)));
    }
    for padded in pack(1_000) {
        let refused = take(&padded);
        let long = |what: &str| what.contains("zlib stream");
        assert!(matches!(refused, Err(IngestError::Limit { what, .. }) if long(what)), "{refused:?}");
    }
    // Its end is not waited for.
    let endless = pack(1_000_000).map(|pack| pack[..pack.len() / 2].to_vec());
    for cut in endless {
        assert!(matches!(take(&cut), Err(IngestError::Limit { .. })));
    }
}

#[test]
fn deltas_that_rest_on_nothing_are_refused() {
    let (a, b) = (blob(b"0123"), blob(b"012"));
    let mut forge = Forge::new();
    // Each would be the other's base, if either could be made.
    forge.ref_delta(b, &delta(3, 4, &[0x90, 3, 1, b'3'])).ref_delta(a, &delta(4, 3, &[0x90, 3]));
    forge.ofs_delta(0, &delta(4, 3, &[0x90, 3]));
    match take(&forge.finish()) {
        Err(IngestError::Unresolved { count: 3, base }) => assert!(base == a || base == b),
        other => panic!("{other:?}"),
    }
}

/// Goal: deltas that rest on each other, and on an object that stands there whole, too, end at that one, wherever it stands. (Git refuses
/// deltas on what a pack has twice.)
#[test]
fn circles_with_a_way_in_are_objects() {
    let (a, b) = (&b"0123"[..], &b"012"[..]);
    let (a_on_b, b_on_a) = (delta(3, 4, &[0x90, 3, 1, b'3']), delta(4, 3, &[0x90, 3]));
    let a_on_a = delta(4, 4, &[0x90, 4]);
    let entries = [(Some(b), &a_on_b[..]), (Some(a), &b_on_a[..]), (Some(a), &a_on_a[..]), (None, a)];
    for turn in 0..entries.len() {
        let mut forge = Forge::new();
        for at in 0..entries.len() {
            match entries[(turn + at) % entries.len()] {
                (Some(base), change) => forge.ref_delta(blob(base), change),
                (None, content) => forge.whole(Kind::Blob, content),
            };
        }
        let pack = forge.finish();
        for threads in [1, 3] {
            let options = IngestOptions { threads, ..options(IngestLimits::default()) };
            let quarantine = ingest(spool(&pack), &options).unwrap();
            assert_eq!((quarantine.len(), quarantine.has_duplicates()), (2, true));
            for content in [a, b] {
                assert_eq!(quarantine.read(&blob(content)).unwrap().unwrap().1, content);
                assert!(quarantine.bases(&blob(content)).unwrap().len() < entries.len());
            }
        }
    }
}

#[test]
fn an_object_given_twice_counts_once() {
    let mut forge = Forge::new();
    forge.ref_delta(blob(b"0123456789"), &delta(10, 4, &[0x90, 4]));
    forge.whole(Kind::Blob, b"0123456789").whole(Kind::Blob, b"0123456789").whole(Kind::Blob, b"0123");
    forge.ofs_delta(1, &delta(10, 4, &[0x90, 4]));
    let quarantine = take(&forge.finish()).unwrap();
    assert_eq!((quarantine.len(), quarantine.iter().count(), quarantine.has_duplicates()), (2, 2, true));
    assert_eq!(quarantine.read(&blob(b"0123")).unwrap().unwrap().1, "0123");
    assert_eq!(quarantine.index_entries().len(), 2);
    let mut visited = 0;
    quarantine
        .visit(|_, _| {
            visited += 1;
            Ok::<_, ()>(())
        })
        .unwrap();
    assert_eq!(visited, 2);
}

#[test]
fn objects_must_be_what_others_take_them_for() {
    let entry = |mode: &str, oid: ObjectId| [mode.as_bytes(), b" a\0", oid.as_slice()].concat();
    let refused = |forge: &Forge| matches!(take(&forge.finish()), Err(IngestError::BadObject { .. }));
    // A blob as a tree: in the pack, in either order; and two trees that disagree.
    let tree = entry("40000", blob(b"x"));
    assert!(refused(Forge::new().whole(Kind::Tree, &tree).whole(Kind::Blob, b"x")));
    assert!(refused(Forge::new().whole(Kind::Blob, b"x").whole(Kind::Tree, &tree)));
    let other = entry("100644", blob(b"x"));
    assert!(refused(Forge::new().whole(Kind::Tree, &tree).whole(Kind::Tree, &other)));
    assert!(!refused(Forge::new().whole(Kind::Blob, b"x").whole(Kind::Tree, &other)));
    // Objects whose references cannot be read.
    assert!(refused(Forge::new().whole(Kind::Commit, b"not a commit")));
    assert!(refused(Forge::new().whole(Kind::Tree, b"100644 a\0short")));
    assert!(refused(Forge::new().whole(Kind::Tag, b"object nothing\n")));
    // The id of nothing is a reference like any other.
    let null = Forge::new().whole(Kind::Tree, &entry("100644", ObjectId::Sha1([0; 20]))).finish();
    assert_eq!(take(&null).unwrap().external(), [(ObjectId::Sha1([0; 20]), Kind::Blob)]);
}

fn bombs() {
    let refused = |pack: &[u8], limits: IngestLimits, part: &str| match ingest(spool(pack), &options(limits)) {
        Err(IngestError::Limit { what, .. }) => assert!(what.contains(part), "{what}"),
        Err(IngestError::Damaged { what, .. }) => assert!(what.contains(part), "{what}"),
        other => panic!("{other:?}"),
    };
    let limits = IngestLimits::default();
    let bomb = delta_bomb(2_048, 1, false);
    assert!(bomb.len() < 32_000);
    refused(&bomb, limits, "one object");
    // Each object is small enough, all together are not.
    let many = delta_bomb(5, 200, false);
    assert!(many.len() < 40_000);
    refused(&many, IngestLimits { inflated_bytes: 1 << 30, ..limits }, "inflated");
    // A stream that is longer than its entry says, and one that says so.
    let zeros = vec![0; 80 << 20];
    refused(&Forge::new().entry(EntryKind::Whole(Kind::Blob), 10, &zeros).finish(), limits, "longer than it says");
    refused(&Forge::new().entry(EntryKind::Whole(Kind::Blob), 1 << 40, b"x").finish(), limits, "one object");
    refused(&Forge::new().entry(EntryKind::Whole(Kind::Blob), 90 << 20, b"x").finish(), limits, "shorter than it says");
    let small = IngestLimits { object_bytes: 1 << 20, ..limits };
    refused(&Forge::new().whole(Kind::Blob, &zeros).finish(), small, "one object");
    drop(zeros);
    // A delta whose head claims what its instructions do not make.
    let mut forge = Forge::new();
    forge.whole(Kind::Blob, b"0123456789").ofs_delta(0, &delta(10, 60 << 20, &[0x90, 4]));
    refused(&forge.finish(), limits, "makes 4 bytes");
    refused(&Forge::new().finish_with(u32::MAX), limits, "objects");
}

/// Goal: no bomb costs memory. Method: the same test in a child process that may not have much.
#[test]
fn bombs_are_refused_in_little_memory() {
    const CHILD: &str = "TREEHOLD_TEST_BOMBS";
    if std::env::var_os(CHILD).is_some() {
        return bombs();
    }
    let name = "hostile::bombs_are_refused_in_little_memory";
    let child = std::env::current_exe().unwrap();
    let script = format!("ulimit -v 393216; exec '{}' --exact {name} --test-threads=1", child.display());
    let output = Command::new("sh").args(["-c", &script]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn chains_have_an_end() {
    let chain = |len: usize, by_ref: bool| {
        let mut forge = Forge::new();
        forge.whole(Kind::Blob, b"start");
        let mut content = b"start".to_vec();
        for at in 0..len {
            let next = format!("{at}").into_bytes();
            let change = delta(content.len() as u64, next.len() as u64, &[&[next.len() as u8], &next[..]].concat());
            if by_ref {
                forge.ref_delta(blob(&content), &change)
            } else {
                forge.ofs_delta(at, &change)
            };
            content = next;
        }
        forge.finish()
    };
    for by_ref in [true, false] {
        assert_eq!(take(&chain(4_096, by_ref)).unwrap().len(), 4_097);
        assert!(matches!(take(&chain(4_097, by_ref)), Err(IngestError::Limit { limit: 4_096, .. })), "{by_ref}");
        let deeper = IngestLimits { delta_depth: 30_000, ..IngestLimits::default() };
        let quarantine = ingest(spool(&chain(20_000, by_ref)), &options(deeper)).unwrap();
        assert_eq!(quarantine.len(), 20_001);
        assert_eq!(quarantine.read(&blob(b"19999")).unwrap().unwrap().1, "19999");
    }
}

/// Goal: dropping bases for memory cannot be turned into endless work.
#[test]
fn making_dropped_bases_again_is_on_a_budget() {
    // A chain in which each link has a side branch, so that its content is needed twice, far apart.
    let mut forge = Forge::new();
    let mut content = vec![b'x'; 2_000];
    forge.whole(Kind::Blob, &content);
    let mut total = content.len() as u64;
    for at in 0..300u32 {
        for side in [true, false] {
            let tag = format!("{}{at:08}", u8::from(side)).into_bytes();
            let ops = [&[0xb1, 9, (content.len() - 9) as u8, ((content.len() - 9) >> 8) as u8, 9][..], &tag].concat();
            let change = delta(content.len() as u64, content.len() as u64, &ops);
            total += change.len() as u64 + content.len() as u64;
            forge.ref_delta(blob(&content), &change);
            if !side {
                content = [&content[9..], &tag].concat();
            }
        }
    }
    let pack = forge.finish();
    let tight = IngestLimits { inflated_bytes: total, ..IngestLimits::default() };
    let small = IngestOptions { cache_bytes: 1, ..options(tight) };
    let starved = ingest(spool(&pack), &small);
    assert!(matches!(starved, Err(IngestError::Limit { .. })), "{starved:?}");
    // With room for the bases, or for the work, it is a pack like any other.
    let roomy = ingest(spool(&pack), &options(tight)).unwrap();
    let patient = ingest(spool(&pack), &IngestOptions { cache_bytes: 1, ..options(IngestLimits::default()) }).unwrap();
    assert_eq!((roomy.len(), objects(&roomy)), (601, objects(&patient)));
    assert_eq!(Some(objects(&roomy)), by_git(&pack));
}

/// Random packs of small lies: what we take, git takes too, with the same objects.
#[test]
fn forged_packs_are_judged_as_git_judges_them() {
    let mut numbers = Numbers(seed(77));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..150 {
        let mut forge = Forge::new();
        let mut known: Vec<Vec<u8>> = vec![b"0123456789".to_vec()];
        forge.whole(Kind::Blob, &known[0]);
        for _ in 0..numbers.next(6) {
            let base = numbers.next(known.len());
            let len = known[base].len();
            let from = numbers.next(len + 1);
            let text = format!("{}", numbers.next(1_000)).into_bytes();
            let target = [&known[base][from..], &text[..]].concat();
            let mut ops = if from < len { vec![0x91, from as u8, (len - from) as u8] } else { vec![] };
            ops.extend_from_slice(&[&[text.len() as u8], &text[..]].concat());
            let lie = |numbers: &mut Numbers| u64::from(numbers.next(25) == 0);
            let change = delta(len as u64 + lie(&mut numbers), target.len() as u64 + lie(&mut numbers), &ops);
            match numbers.next(3) {
                0 => forge.ref_delta(blob(&known[base]), &change),
                1 => forge.ofs_delta(base, &change),
                _ => forge.entry(EntryKind::Whole(Kind::Blob), target.len() as u64 + lie(&mut numbers), &target),
            };
            known.push(target);
        }
        let mut pack = forge.finish_with(forge.count + u32::from(numbers.next(20) == 0));
        if numbers.next(6) == 0 {
            let at = numbers.next(pack.len() - 20);
            pack[at] ^= 1 << numbers.next(8);
            pack.truncate(pack.len() - 20);
            pack = seal(pack);
        }
        let ours = take(&pack).ok().map(|quarantine| objects(&quarantine));
        let git = by_git(&pack);
        assert_eq!(ours, git, "{pack:02x?}");
        if ours.is_some() { taken += 1 } else { refused += 1 }
    }
    assert!(taken > 30 && refused > 15, "{taken} taken, {refused} refused");
}

proptest! {
    #[test]
    fn garbage_is_no_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        count in 0u32..6,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = header(count).to_vec();
        bytes.extend_from_slice(&body);
        drop(take(&seal(bytes.clone())));
        drop(take(&bytes));
        // A valid pack with garbage in the middle.
        let pack = small().finish();
        let mut mixed = pack[..cut.index(pack.len() - 20)].to_vec();
        mixed.extend_from_slice(&body);
        drop(take(&seal(mixed)));
    }

    #[test]
    fn answers_of_any_bytes_are_no_panic_and_do_not_depend_on_portions(
        lines in prop::collection::vec((0u8..6, "(ok |ng |unpack |shallow |packfile|ERR |[0-9a-f]{40} |version 2|\\PC){0,3}\n?"), 0..8),
        tail in prop::collection::vec(any::<u8>(), 0..12),
        portion in 1usize..40,
    ) {
        use treehold_wire::{Advertisement, fetch, push, pktline};
        let mut bytes = Vec::new();
        for (sort, line) in &lines {
            match sort {
                0 => bytes.extend_from_slice(pktline::FLUSH),
                1 => bytes.extend_from_slice(pktline::DELIM),
                band => {
                    let payload = if *band == 5 { line.as_bytes().to_vec() } else { [&[*band - 1], line.as_bytes()].concat() };
                    pktline::write(&mut bytes, &payload).unwrap();
                }
            }
        }
        bytes.extend_from_slice(&tail);
        let refs = |portion: usize| {
            let mut reader = fetch::RefsReader::new(fetch::RefLimits::default());
            bytes.chunks(portion).try_for_each(|chunk| reader.push(chunk))?;
            reader.finish()
        };
        prop_assert_eq!(refs(portion), refs(bytes.len().max(1)));
        let pack = |portion: usize| {
            let mut reader = fetch::FetchReader::new(fetch::FetchLimits::default());
            let mut out = Vec::new();
            for chunk in bytes.chunks(portion) {
                reader.push_to(chunk, &mut out, &mut |_| ()).unwrap()?;
            }
            reader.finish().map(|summary| (out, summary))
        };
        prop_assert_eq!(pack(portion), pack(bytes.len().max(1)));
        for side_band in [true, false] {
            let report = |portion: usize| {
                let mut reader = push::ReportReader::new(side_band);
                bytes.chunks(portion).for_each(|chunk| reader.push(chunk));
                reader.finish()
            };
            let read = report(portion);
            prop_assert_eq!(&read, &report(bytes.len().max(1)));
            drop(read.outcome(b"refs/heads/x", None));
        }
        drop(Advertisement::parse(&bytes));
    }
}
