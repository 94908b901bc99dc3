//! Lists and batch reads as streams: what they show does not depend on what is in memory, and stays at their snapshot.

use super::*;
use crate::api::{At, Condition, FileCommit, ListOptions, Listed, Oid, ReadItem, ReadPath, ReadRequest};

/// More files than a list shows at once, in directories of all depths.
fn many_files(random: &mut StdRng) -> Files {
    let mut files = Files::new();
    for number in 0..2_500 {
        let depth = number % 7;
        let dirs: Vec<String> = (0..depth).map(|level| format!("d{}", random.random_range(0..4 + level))).collect();
        let path = format!("{}/f{number}", dirs.join("/"));
        files.insert(path.trim_start_matches('/').to_owned(), ("100644", "x".repeat(number % 50)));
    }
    files
}

fn one_file(content: Option<bytes::Bytes>) -> FileCommit {
    let (branch, message, author_name, author_email, mode) = (None, None, None, None, None);
    FileCommit { branch, message, author_name, author_email, mode, condition: Condition::default(), content }
}

type Shown = Vec<(String, String, u64)>;

fn keep(shown: &mut Shown) -> impl FnMut(Listed<'_>) + Send {
    |file: Listed<'_>| {
        let path = String::from_utf8(file.path.to_vec()).expect("UTF-8");
        shown.push((path, file.oid.to_string(), file.size));
    }
}

fn expected(world: &World) -> Shown {
    let lines = world.git().run(["ls-tree", "-r", "--format=%(objectname) %(objectsize) %(path)", "main"]);
    let parts = lines.lines().map(|line| line.splitn(3, ' ').collect::<Vec<_>>());
    parts.map(|part| (part[2].to_owned(), part[0].to_owned(), part[1].parse().expect("a size"))).collect()
}

/// Goal: a streamed list is the snapshot with which it began, whatever is committed meanwhile and whatever the cache holds.
#[tokio::test]
async fn streamed_lists_stay_at_their_snapshot() {
    let mut random = random();
    for cache in CACHES {
        let world = World::with_cache(cache).await;
        world.commit_all(&[many_files(&mut random)]);
        world.import("p", 1).await;
        let expected = expected(&world);
        let options = ListOptions { streamed: true, ..ListOptions::default() };
        let mut listing = world.engine.open_list("p", &At::default(), &options).await.expect("a list");
        let before = listing.commit();
        let mut shown = Shown::new();
        assert!(listing.show(&mut keep(&mut shown)).await.expect("files"), "more than one step");
        assert!(shown.len() < expected.len());
        for (path, content) in [(expected[2_400].0.as_str(), None), ("zzz/new", Some("new".into()))] {
            world.engine.commit_file("p", path.as_bytes(), one_file(content), None, None).await.expect("a commit");
        }
        while listing.show(&mut keep(&mut shown)).await.expect("files") {}
        assert_eq!(shown, expected);
        assert_eq!((listing.commit(), listing.next_cursor()), (before, None));
        let after = world.engine.open_list("p", &At::default(), &options).await.expect("a list");
        assert_ne!(after.commit(), before);
    }
}

/// Goal: pages of a stream with a limit join to the whole list, and a batch read of all of it has every file once, in order.
#[tokio::test]
async fn pages_and_batches_join() {
    let mut random = random();
    for cache in CACHES {
        let world = World::with_cache(cache).await;
        world.commit_all(&[many_files(&mut random)]);
        world.import("p", 1).await;
        let expected = expected(&world);
        let (mut shown, mut cursor) = (Shown::new(), None);
        loop {
            let limit = Some(random.random_range(1..1_500));
            let options = ListOptions { limit, streamed: true, cursor: cursor.take(), prefix: None };
            let mut listing = world.engine.open_list("p", &At::default(), &options).await.expect("a list");
            while listing.show(&mut keep(&mut shown)).await.expect("files") {}
            match listing.next_cursor() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(shown, expected);
        let paths = shown.iter().map(|(path, ..)| ReadPath::Whole(path.clone())).collect();
        let request = ReadRequest { paths, reference: None, user: None, max_bytes: None, cursor: None };
        let mut reading = world.engine.batch_read("p", request).await.expect("a read");
        let mut read = Vec::new();
        while let Some(bytes) = reading.ahead().await.expect("a look ahead") {
            let items = reading.read().await.expect("files");
            let files = items.into_iter().map(|item| match item {
                ReadItem::File(file) => file,
                ReadItem::Failed { path, error } => panic!("{path}: {error:?}"),
            });
            let files: Vec<_> = files.collect();
            let held: std::collections::HashMap<Oid, u64> = files.iter().map(|file| (file.oid, file.size)).collect();
            assert!(held.values().sum::<u64>() <= bytes, "more was read than announced");
            read.extend(files);
        }
        for (file, (path, oid, size)) in read.iter().zip(&expected) {
            assert_eq!((&file.path, &file.oid.to_string(), file.size), (path, oid, *size));
            assert_eq!(file.content.bytes().len() as u64, *size);
        }
        assert_eq!(read.len(), expected.len());
    }
}
