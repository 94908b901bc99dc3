//! Small packs that would become large: refused early, in little memory.

use std::fs::File;
use std::process::Command;

use treehold_object::pack::EntryKind;
use treehold_object::{Kind, ObjectId, second_opinion};
use treehold_wire::{IngestError, IngestLimits, ingest};

use crate::hostile::{Forge, delta};
use crate::ingesting::options;

/// As long as a copy instruction can reach.
const BASE_LEN: usize = 0xff_ffff;

/// 16 MiB of nothing, and `deltas` small ones that repeat it `copies` times each.
pub fn delta_bomb(copies: usize, deltas: usize, by_offset: bool) -> Vec<u8> {
    let base = vec![0; BASE_LEN];
    let bomb = delta(BASE_LEN as u64, (BASE_LEN * copies) as u64, &b"\xf0\xff\xff\xff".repeat(copies));
    let oid = second_opinion(Kind::Blob, &base);
    let mut forge = Forge::new();
    forge.entry(EntryKind::Whole(Kind::Blob), base.len() as u64, &base);
    for _ in 0..deltas {
        if by_offset {
            forge.ofs_delta(0, &bomb)
        } else {
            forge.ref_delta(oid, &bomb)
        };
    }
    forge.finish()
}

/// What a server allows a push of a megabyte at most.
const OF_A_PUSH: IngestLimits = IngestLimits {
    pack_bytes: 1 << 20,
    objects: 100_000,
    object_bytes: 100 << 20,
    inflated_bytes: 128 << 30,
    inflated_ratio: 1_000,
    padding_bytes: 4_096,
    delta_depth: 4_096,
    external: 1_000_000,
};

/// The most memory that this process ever had, bytes.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

const BOMB: &str = "TREEHOLD_TEST_BOMB";

/// Goal: a bomb costs no more than the base it brings along. Method: a process of its own for each, which looks at its peak.
#[test]
fn delta_bombs_are_refused_before_they_are_made() {
    if let Some(path) = std::env::var_os(BOMB) {
        let (before, start) = (memory_peak(), std::time::Instant::now());
        let refused = ingest(File::open(path).unwrap(), &options(OF_A_PUSH)).unwrap_err();
        assert!(matches!(refused, IngestError::Limit { .. }), "{refused}");
        let more = memory_peak() - before;
        println!("{refused}: {} KiB, {:?}", more >> 10, start.elapsed());
        return assert!(more < 32 << 20, "{more} bytes");
    }
    let name = "bombs::delta_bombs_are_refused_before_they_are_made";
    let dir = tempfile::tempdir().unwrap();
    for (copies, deltas, by_offset) in [(512, 1, false), (5, 200, false), (5, 200, true), (1, 20_000, true)] {
        let path = dir.path().join("bomb");
        let bomb = delta_bomb(copies, deltas, by_offset);
        assert!(bomb.len() < 700_000);
        std::fs::write(&path, bomb).unwrap();
        let child = std::env::current_exe().unwrap();
        let output = Command::new(child).args(["--exact", name, "--nocapture"]).env(BOMB, &path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "{copies} copies, {deltas} deltas: {text}");
        println!("{copies} copies, {deltas} deltas: {}", text.lines().find(|line| line.contains("KiB")).unwrap_or(""));
    }
}

/// Goal: the ratio counts deltas only after the streams that they come in: what zlib alone packs is no bomb.
#[test]
fn files_of_nothing_are_no_bombs() {
    let mut forge = Forge::new();
    let mut oids: Vec<ObjectId> = Vec::new();
    for at in 0..3u8 {
        let content = vec![at; 40 << 20];
        oids.push(second_opinion(Kind::Blob, &content));
        forge.entry(EntryKind::Whole(Kind::Blob), content.len() as u64, &content);
    }
    let pack = forge.finish();
    assert!(pack.len() < 130_000);
    let quarantine = ingest(crate::git::spool(&pack), &options(OF_A_PUSH)).unwrap();
    assert!(oids.iter().all(|oid| quarantine.contains(oid)));
}
