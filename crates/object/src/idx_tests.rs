//! Stock git reads what `loose`, `pack` and `idx` write.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use gix_object::Kind;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::pack::{PackWriter, Span, Written};
use crate::zlib::{Deflater, Inflater};

fn seeded() -> StdRng {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TREEHOLD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Runs git without anybody's configuration; answers its standard output.
fn git(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = feed.join();
    assert!(output.status.success(), "git {args:?}");
    output.stdout
}

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "--bare", "--quiet", "."], b"");
    dir
}

/// Blobs of all sizes from 0 on, a tree and a commit.
fn objects(rng: &mut StdRng, blobs: usize) -> Vec<(ObjectId, Kind, Vec<u8>)> {
    let mut objects = Vec::new();
    let mut push = |kind, content: Vec<u8>| {
        let oid = crate::hash(kind, &content).unwrap();
        objects.push((oid, kind, content));
        oid
    };
    let empty = push(Kind::Blob, Vec::new());
    for number in 0..blobs {
        let line = format!("line {number} {}\n", rng.random::<u32>());
        push(Kind::Blob, line.repeat(1 << rng.random_range(0..12)).into_bytes());
    }
    let mut tree = b"100644 file\0".to_vec();
    tree.extend_from_slice(empty.as_slice());
    let tree = push(Kind::Tree, tree);
    let commit = format!("tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nfirst\n");
    let commit = push(Kind::Commit, commit.into_bytes());
    let tag = format!("object {commit}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n");
    push(Kind::Tag, tag.into_bytes());
    objects
}

fn pack(objects: &[(ObjectId, Kind, Vec<u8>)], level: u32) -> (Vec<u8>, Written, Vec<Span>) {
    let mut writer = PackWriter::new(Vec::new(), u32::try_from(objects.len()).unwrap(), level).unwrap();
    let spans = objects.iter().map(|(oid, kind, content)| writer.add(*oid, *kind, content).unwrap()).collect();
    let (data, written) = writer.finish().unwrap();
    assert_eq!(data.len() as u64, written.length);
    (data, written, spans)
}

/// What `git cat-file --batch` says of the objects.
fn batch(objects: &[(ObjectId, Kind, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (oid, kind, content) in objects {
        all.extend_from_slice(format!("{oid} {kind} {}\n", content.len()).as_bytes());
        all.extend_from_slice(content);
        all.push(b'\n');
    }
    all
}

fn names(objects: &[(ObjectId, Kind, Vec<u8>)]) -> Vec<u8> {
    objects.iter().flat_map(|(oid, ..)| format!("{oid}\n").into_bytes()).collect()
}

#[test]
fn git_reads_loose_objects_and_we_read_gits() {
    let repository = repository();
    let objects = objects(&mut seeded(), 20);
    let mut deflater = Deflater::new(1);
    for (oid, kind, content) in &objects {
        let path = repository.path().join(crate::loose::key(oid));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, crate::loose::encode(*kind, content, &mut deflater)).unwrap();
    }
    git(repository.path(), &["fsck", "--strict", "--full"], b"");
    assert!(git(repository.path(), &["cat-file", "--batch"], &names(&objects)) == batch(&objects));

    let other = self::repository();
    for (_, kind, content) in &objects {
        let oid = git(other.path(), &["hash-object", "-w", "-t", &kind.to_string(), "--stdin"], content);
        let oid = ObjectId::from_hex(oid.trim_ascii()).unwrap();
        let data = std::fs::read(other.path().join(crate::loose::key(&oid))).unwrap();
        let read = crate::loose::decode(&data, content.len() as u64, &mut Inflater::default());
        assert_eq!(read, Ok((*kind, content.clone())));
    }
}

#[test]
fn git_takes_packs_and_writes_the_same_index() {
    let repository = repository();
    let objects = objects(&mut seeded(), 500);
    let (data, written, spans) = pack(&objects, 1);
    let stem = repository.path().join(format!("objects/pack/pack-{}", written.checksum));
    let (pack_path, idx_path) = (stem.with_extension("pack"), stem.with_extension("idx"));
    let (pack_name, idx_name) = (pack_path.to_str().unwrap(), idx_path.to_str().unwrap());
    std::fs::write(&pack_path, &data).unwrap();
    git(repository.path(), &["index-pack", "--strict", "-o", idx_name, pack_name], b"");
    assert!(std::fs::read(&idx_path).unwrap() == write(&written.entries, &written.checksum).unwrap());

    let verified = git(repository.path(), &["verify-pack", "-v", idx_name], b"");
    let verified = String::from_utf8(verified).unwrap();
    for ((oid, kind, content), Span { offset, length }) in objects.iter().zip(&spans) {
        let line = format!("{oid} {kind:<6} {} {length} {offset}\n", content.len(), kind = kind.to_string());
        assert!(verified.contains(&line), "{line}");
    }
    assert!(git(repository.path(), &["cat-file", "--batch"], &names(&objects)) == batch(&objects));
}

#[test]
fn entries_copied_verbatim_are_the_same_pack() {
    let objects = objects(&mut seeded(), 50);
    let (data, written, spans) = pack(&objects, 6);
    let mut copy = PackWriter::new(Vec::new(), u32::try_from(objects.len()).unwrap(), 1).unwrap();
    for ((oid, kind, content), span) in objects.iter().zip(&spans) {
        let start = usize::try_from(span.offset).unwrap();
        let entry = &data[start..start + usize::try_from(span.length).unwrap()];
        let (header, length) = crate::pack::EntryHeader::decode(entry).unwrap().unwrap();
        assert_eq!(header.kind, crate::pack::EntryKind::Whole(*kind));
        let (inflated, used) = Inflater::default().inflate(&entry[length..], header.size).unwrap();
        assert!(inflated == *content && length + used == entry.len());
        assert_eq!(copy.add_compressed(*oid, *kind, header.size, &entry[length..]).unwrap(), *span);
    }
    let (copied, copied_written) = copy.finish().unwrap();
    assert!(copied == data);
    assert_eq!(copied_written, written);
}

#[test]
fn git_writes_the_same_64_bit_offsets() {
    let repository = repository();
    let objects = objects(&mut seeded(), 100);
    let (data, written, spans) = pack(&objects, 1);
    let limit = spans[60].offset;
    let (pack_path, idx_path) = (repository.path().join("x.pack"), repository.path().join("x.idx"));
    std::fs::write(&pack_path, &data).unwrap();
    let (pack_name, idx_name) = (pack_path.to_str().unwrap(), idx_path.to_str().unwrap());
    git(repository.path(), &["index-pack", &format!("--index-version=2,{limit}"), "-o", idx_name, pack_name], b"");
    let ours = write_with_limit(&written.entries, &written.checksum, limit).unwrap();
    assert!(std::fs::read(&idx_path).unwrap() == ours);
    let index = Index::parse(ours).unwrap();
    assert!(written.entries.iter().all(|entry| index.lookup(&entry.oid) == Some(*entry)));
}

#[test]
fn offsets_beyond_32_bits_come_back() {
    let entry = |byte: u8, offset| IndexEntry { oid: ObjectId::Sha1([byte; 20]), offset, crc32: u32::from(byte) };
    let entries = [entry(9, u64::MAX), entry(0, 12), entry(255, (1 << 31) - 1), entry(4, 1 << 31), entry(5, 1 << 40)];
    let checksum = ObjectId::Sha1([3; 20]);
    let index = Index::parse(write(&entries, &checksum).unwrap()).unwrap();
    assert_eq!((index.len(), index.pack_checksum()), (5, checksum));
    assert!(entries.iter().all(|entry| index.lookup(&entry.oid) == Some(*entry)));
    assert!(index.iter().map(|entry| entry.oid).is_sorted());
    assert_eq!(index.lookup(&ObjectId::Sha1([8; 20])), None);
}

#[test]
fn the_empty_index_is_gits() {
    let repository = repository();
    let (data, written, _) = pack(&[], 1);
    let (pack_path, idx_path) = (repository.path().join("x.pack"), repository.path().join("x.idx"));
    std::fs::write(&pack_path, &data).unwrap();
    let (pack_name, idx_name) = (pack_path.to_str().unwrap(), idx_path.to_str().unwrap());
    git(repository.path(), &["index-pack", "-o", idx_name, pack_name], b"");
    let ours = write(&[], &written.checksum).unwrap();
    assert!(std::fs::read(&idx_path).unwrap() == ours);
    assert!(Index::parse(&ours).unwrap().is_empty());
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let objects = objects(&mut seeded(), 3);
    let (_, written, _) = pack(&objects, 1);
    let bytes = write(&written.entries, &written.checksum).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Index::parse(&damaged).is_err(), "byte {at}");
        assert!(Index::parse(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_lying_index_with_a_right_checksum_is_refused() {
    let entry = |byte: u8| IndexEntry { oid: ObjectId::Sha1([byte; 20]), offset: 12, crc32: 0 };
    let good = write(&[entry(1), entry(2), entry(2)], &ObjectId::Sha1([3; 20])).unwrap();
    assert_eq!(Index::parse(&good).map(|_| ()), Err(IndexError("ids out of order")));
    let good = write(&[entry(1), entry(2)], &ObjectId::Sha1([3; 20])).unwrap();
    // Fan-out of 0, of 1, of 255; the first id; the first offset.
    for (at, byte) in
        [(8 + 3, 1), (8 + 4 + 3, 9), (8 + 1023, 200), (8 + 1020, 0xff), (8 + 1024, 7), (8 + 1024 + 48, 0x80)]
    {
        let mut bad = good.clone();
        bad[at] = byte;
        let body = bad.len() - 20;
        let mut checksum = Checksum::default();
        checksum.update(&bad[..body]);
        bad[body..].copy_from_slice(checksum.finish().unwrap().as_slice());
        assert!(Index::parse(&bad).is_err(), "byte {at}");
    }
}
