use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use treehold_engine::api::{Content, FileEntry, Mode, Path};
use treehold_object::ObjectId;

use super::*;

fn random() -> StdRng {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TREEHOLD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn some_text(random: &mut StdRng, len: usize) -> String {
    const CHARS: [char; 16] = [
        'a',
        'b',
        ' ',
        '~',
        '"',
        '\\',
        '\n',
        '\t',
        '\r',
        '\u{8}',
        '\u{c}',
        '\u{1f}',
        '\u{7f}',
        '\u{e9}',
        '\u{2028}',
        '\u{1f600}',
    ];
    let plain = random.random_range(0..=10);
    (0..len).map(|_| if random.random_range(0..10) < plain { 'x' } else { *CHARS.choose(random).unwrap() }).collect()
}

fn some_oid(random: &mut StdRng) -> Oid {
    let mut oid = [0; 20];
    random.fill_bytes(&mut oid);
    Oid(ObjectId::Sha1(oid))
}

#[test]
fn every_character_is_escaped_as_serde_json_does() {
    for code in (0..0x3000).chain(0xfff0..0x1_0010) {
        let Some(character) = char::from_u32(code) else { continue };
        for before in 0..9 {
            let text = format!("{}{character}tail of it", "p".repeat(before));
            let mut out = Vec::new();
            string(&mut out, text.as_bytes());
            assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{code:x} after {before}");
        }
    }
}

#[test]
fn listed_files_are_written_as_serde_json_writes_them() {
    let mut random = random();
    for round in 0..2_000_u64 {
        let len = random.random_range(0..40);
        let mut path = some_text(&mut random, len).into_bytes();
        if round % 7 == 0 {
            path.extend_from_slice(b"\xff\xc3(");
        }
        let (oid, source) = (some_oid(&mut random), if round % 3 == 0 { Source::Pending } else { Source::Committed });
        let size = *[0, 9, 10, 12_345, u64::MAX, random.random()].choose(&mut random).unwrap();
        let mode = Mode(*[0o100644, 0o100755, 0o120000, 0o160000, 0].choose(&mut random).unwrap());
        let entry = FileEntry { path: Path(path.clone().into()), mode, oid, size, source };
        let mut out = Vec::new();
        listed(&mut out, &Listed { path: &path, mode, oid, size, source });
        assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&entry).unwrap());
    }
}

#[test]
fn read_files_are_written_as_serde_json_writes_them() {
    let mut random = random();
    for round in 0..300_u64 {
        let len = *[0, 1, 7, 100, 3_000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5].choose(&mut random).unwrap();
        let len = if round < 250 { len.min(3_000) } else { len };
        let content = match round % 2 {
            0 => Content::new(Encoding::Utf8, some_text(&mut random, len).into()),
            _ => {
                let mut bytes = vec![0; len];
                random.fill_bytes(&mut bytes);
                Content::new(Encoding::Base64, bytes.into())
            }
        };
        let lines = (round % 5 == 0).then_some(round);
        let file = ReadFile {
            path: some_text(&mut random, 10),
            oid: some_oid(&mut random),
            mode: Mode(0o100755),
            size: len as u64,
            source: Source::Pending,
            content,
            start_line: lines,
            end_line: lines,
            total_lines: lines,
            truncated: round % 4 == 0,
        };
        let expected = serde_json::to_string(&file).unwrap();
        let mut out = Vec::new();
        let mut writer = FileWriter::new(&mut out, file);
        while !writer.write(&mut out) {}
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
