//! Hot functions on single objects: hashing, zlib, trees.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use treehold_object::zlib::{Deflater, Inflater};
use treehold_object::{Kind, TreeEntry, encode_tree, hash, loose, parse_tree};

fn main_text() -> Vec<u8> {
    // This file and its neighbour, again and again: real text, the same everywhere.
    [include_bytes!("objects.rs").as_slice(), include_bytes!("packs.rs")].concat().repeat(200)
}

/// Bytes of a small file, a usual one, a large one.
const SIZES: [usize; 3] = [250, 8 << 10, 1 << 20];

fn hashing(criterion: &mut Criterion) {
    let text = main_text();
    let mut group = criterion.benchmark_group("hash");
    for size in SIZES {
        let content = &text[..size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("oid", size), content, |bench, content| {
            bench.iter(|| hash(Kind::Blob, black_box(content)));
        });
        group.bench_with_input(BenchmarkId::new("sha256", size), content, |bench, content| {
            bench.iter(|| hash::sha256(Kind::Blob, black_box(content)));
        });
    }
    group.finish();
}

fn zlib(criterion: &mut Criterion) {
    let text = main_text();
    let mut group = criterion.benchmark_group("zlib");
    for size in SIZES {
        let content = &text[..size];
        group.throughput(Throughput::Bytes(size as u64));
        for level in [1, 6] {
            let mut deflater = Deflater::new(level);
            group.bench_with_input(BenchmarkId::new(format!("deflate-{level}"), size), content, |bench, content| {
                let mut out = Vec::new();
                bench.iter(|| {
                    out.clear();
                    deflater.deflate(&[black_box(content)], &mut out);
                    out.len()
                });
            });
        }
        let mut stream = Vec::new();
        Deflater::new(6).deflate(&[content], &mut stream);
        let mut inflater = Inflater::default();
        group.bench_with_input(BenchmarkId::new("inflate", size), &stream, |bench, stream| {
            bench.iter(|| inflater.inflate(black_box(stream), size as u64));
        });
        let mut deflater = Deflater::new(6);
        let encoded = loose::encode(Kind::Blob, content, &mut deflater);
        group.bench_with_input(BenchmarkId::new("loose-decode", size), &encoded, |bench, encoded| {
            bench.iter(|| loose::decode(black_box(encoded), size as u64, &mut inflater));
        });
    }
    group.finish();
}

fn trees(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tree");
    for count in [12, 1_000] {
        let names: Vec<String> = (0..count).map(|number| format!("file_{number:05}.rs")).collect();
        let oid = |name: &str| hash(Kind::Blob, name.as_bytes()).expect("no collision");
        let entries: Vec<TreeEntry<'_>> = names
            .iter()
            .map(|name| TreeEntry { mode: 0o100_644, name: name.as_bytes().into(), oid: oid(name) })
            .collect();
        let encoded = encode_tree(entries.iter().copied()).expect("entries with different names");
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("encode", count), &entries, |bench, entries| {
            bench.iter(|| encode_tree(black_box(entries).iter().copied()));
        });
        group.bench_with_input(BenchmarkId::new("parse", count), &encoded, |bench, encoded| {
            bench.iter(|| parse_tree(black_box(encoded)).map(|entries| entries.len()));
        });
    }
    group.finish();
}

criterion_group!(objects, hashing, zlib, trees);
criterion_main!(objects);
