//! Hot functions on packs: entries, deltas, indexes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use treehold_object::delta;
use treehold_object::idx::{self, Index, IndexEntry};
use treehold_object::pack::{EntryHeader, EntryKind, crc32, encode_entry};
use treehold_object::zlib::{Deflater, Inflater};
use treehold_object::{Kind, hash};

const FILE: &[u8] = include_bytes!("packs.rs");

fn entries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack-entry");
    let header = EntryHeader { kind: EntryKind::OfsDelta { distance: 123_456 }, size: 7_890 };
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    group.bench_function("header-encode", |bench| {
        let mut out = Vec::with_capacity(32);
        bench.iter(|| {
            out.clear();
            black_box(&header).encode(&mut out);
            out.len()
        });
    });
    group.bench_function("header-decode", |bench| bench.iter(|| EntryHeader::decode(black_box(&encoded))));
    group.throughput(Throughput::Bytes(FILE.len() as u64));
    let mut deflater = Deflater::new(6);
    group.bench_function("encode", |bench| {
        let mut out = Vec::new();
        bench.iter(|| {
            out.clear();
            encode_entry(Kind::Blob, black_box(FILE), &mut deflater, &mut out);
            out.len()
        });
    });
    let mut entry = Vec::new();
    encode_entry(Kind::Blob, FILE, &mut deflater, &mut entry);
    let mut inflater = Inflater::default();
    group.bench_function("decode", |bench| {
        bench.iter(|| {
            let (header, length) = EntryHeader::decode(black_box(&entry)).ok().flatten()?;
            inflater.inflate(&entry[length..], header.size).ok()
        });
    });
    group.bench_function("crc32", |bench| bench.iter(|| crc32(&[black_box(&entry)])));
    group.finish();
}

fn deltas(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("delta");
    for copies in [1, 50] {
        let base = FILE.repeat(copies);
        let mut target = base.clone();
        let middle = target.len() / 2;
        target.splice(middle..middle + 20, *b"fn another() -> usize { 42 }\n");
        let made = delta::create(&base, &target).expect("a delta that is shorter than its target");
        group.throughput(Throughput::Bytes(target.len() as u64));
        group.bench_function(BenchmarkId::new("create", target.len()), |bench| {
            bench.iter(|| delta::create(black_box(&base), black_box(&target)));
        });
        group.bench_function(BenchmarkId::new("apply", target.len()), |bench| {
            bench.iter(|| delta::apply(black_box(&base), black_box(&made), target.len() as u64));
        });
    }
    group.finish();
}

fn indexes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idx");
    let oid = |number: u32| hash(Kind::Blob, &number.to_be_bytes()).expect("no collision");
    for count in [100_u32, 10_000] {
        let entries: Vec<IndexEntry> = (0..count)
            .map(|number| IndexEntry { oid: oid(number), offset: u64::from(number) * 700, crc32: number })
            .collect();
        let written = idx::write(&entries, &oid(count)).expect("different objects");
        let index = Index::parse(&written[..]).expect("what was written");
        let wanted = entries[entries.len() / 3].oid;
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::new("write", count), &entries, |bench, entries| {
            bench.iter(|| idx::write(black_box(entries), &wanted));
        });
        group.bench_function(BenchmarkId::new("parse", count), |bench| {
            bench.iter(|| Index::parse(black_box(&written[..])).map(|index| index.len()));
        });
        group.throughput(Throughput::Elements(1));
        group
            .bench_function(BenchmarkId::new("lookup", count), |bench| bench.iter(|| index.lookup(black_box(&wanted))));
    }
    group.finish();
}

criterion_group!(packs, entries, deltas, indexes);
criterion_main!(packs);
