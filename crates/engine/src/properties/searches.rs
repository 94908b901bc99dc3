//! Search compared with `git grep`, over random files, by pages of random sizes.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Files, World, put, random, some_path};
use crate::api::{Found, SearchCase, SearchEnd, SearchMode, SearchRequest};

const WORDS: [&str; 10] = ["foo", "Foo", "bar", "foobar", "x", "a1", "b22", "foo-bar", "FOO", "(x"];

/// Some lines of few words, now and then without a line end, empty or binary.
fn some_text(random: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(0..12) {
        let words = (0..random.random_range(0..5)).map(|_| *WORDS.choose(random).expect("a word"));
        text.push_str(&words.collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    match random.random_range(0..10) {
        0 => text.push('\0'),
        1 | 2 => _ = text.pop(),
        _ => {}
    }
    text
}

fn some_files(random: &mut StdRng) -> Files {
    let mut files = Files::new();
    let mut last = String::new();
    for _ in 0..random.random_range(20..60) {
        // The same content comes at several paths.
        if random.random_bool(0.8) {
            last = some_text(random);
        }
        let mode = *["100644", "100644", "100755", "120000"].choose(random).expect("a mode");
        let path = some_path(random);
        put(&mut files, &path, (mode, last.clone()));
    }
    files
}

/// All pages of a search, and how many there were.
async fn pages(world: &World, project: &str, request: &SearchRequest, random: &mut StdRng) -> (Vec<Found>, SearchEnd) {
    let (mut all, mut total) = (Vec::new(), SearchEnd::default());
    let mut request = request.clone();
    let paged = random.random_bool(0.7);
    loop {
        if paged {
            request.limit = random.random_bool(0.7).then(|| random.random_range(1..9));
            request.max_bytes = random.random_bool(0.5).then(|| random.random_range(0..900));
        }
        let mut searching = world.engine.search(project, request.clone(), false).await.expect("a search");
        let mut found = Vec::new();
        while searching.ahead().await.expect("a look ahead").is_some() {
            // Now and then there is no memory to read ahead.
            let read = found.is_empty() || random.random_bool(0.7);
            found.extend(searching.step(read).await.expect("a step"));
        }
        assert!(request.limit.is_none_or(|limit| found.len() <= limit));
        all.extend(found);
        let end = searching.end().clone();
        if total == SearchEnd::default() {
            total = SearchEnd { next_cursor: None, ..end.clone() };
        }
        match end.next_cursor {
            Some(next) => request.cursor = Some(next),
            None => return (all, total),
        }
    }
}

/// A query that git's extended expressions and ours read alike. (Git also finds an empty line after the last line end, and no NUL by a dot.)
fn some_query(random: &mut StdRng) -> (SearchRequest, Vec<&'static str>) {
    let (query, regex) = *[
        ("foo", false),
        ("x", false),
        ("(x", false),
        ("foo bar", false),
        ("zzz", false),
        ("o", false),
        (".", false),
        ("fo+", true),
        ("^foo", true),
        ("bar$", true),
        ("(foo|bar) x", true),
        ("[a-b][0-9]+", true),
    ]
    .choose(random)
    .expect("a query");
    let mut request = SearchRequest { query: query.to_owned(), regex, ..SearchRequest::default() };
    let mut flags = vec![if regex { "-E" } else { "-F" }];
    if random.random_bool(0.3) {
        request.case = SearchCase::Insensitive;
        flags.push("-i");
    }
    if query == "foo" && random.random_bool(0.5) {
        request.word = true;
        flags.push("-w");
    }
    if random.random_bool(0.2) {
        request.include_binary = true;
        flags.push("-a");
    } else {
        flags.push("-I");
    }
    flags.extend(["-e", query]);
    (request, flags)
}

fn grep(world: &World, shape: &[&str], flags: &[&str]) -> Vec<(String, String)> {
    let all = ["grep", "-z"].iter().chain(shape).chain(flags).chain(&["main"]);
    let output = world.git().output(all.copied());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    match shape.contains(&"-l") {
        true => text.split_terminator('\0').map(|path| (path.to_owned(), String::new())).collect(),
        false => {
            // Git puts a NUL after each field; what a line holds of them, with -a, comes after those.
            let lines = text.split_terminator('\n').map(|line| line.split_once('\0').expect("a path"));
            lines.map(|(path, rest)| (path.to_owned(), rest.replacen('\0', ":", 2))).collect()
        }
    }
}

fn told(found: &Found) -> (String, String) {
    let rest = match (&found.hit, found.count) {
        (Some(hit), _) => format!("{}:{}:{}", hit.line, hit.column, String::from_utf8_lossy(&hit.text.bytes)),
        (None, Some(count)) => count.to_string(),
        (None, None) => String::new(),
    };
    (format!("main:{}", found.path.0), rest)
}

/// Goal: what is found, where and in which order, is what `git grep` finds, whatever the pages.
#[tokio::test]
async fn searches_are_those_of_git_grep() {
    let mut random = random();
    let mut matches = 0;
    for round in 0..4 {
        let world = World::new().await;
        world.commit_all(&[some_files(&mut random)]);
        let name = format!("search{round}");
        world.import(&name, 0).await;
        for _ in 0..12 {
            let (mut request, flags) = some_query(&mut random);
            for (mode, shape) in [
                (SearchMode::Matches, &["-n", "--column"][..]),
                (SearchMode::Files, &["-l"][..]),
                (SearchMode::Count, &["-c"][..]),
            ] {
                request.mode = mode;
                let (found, _) = pages(&world, &name, &request, &mut random).await;
                let found: Vec<_> = found.iter().map(told).collect();
                assert_eq!(found, grep(&world, shape, &flags), "{request:?}");
                matches += found.len();
            }
        }
    }
    assert!(matches > 100, "{matches}");
}

/// Goal: a file of many matches is shown to its end from one page to the next, and at most so many of each where asked for.
#[tokio::test]
async fn a_file_of_many_matches_goes_on() {
    let world = World::new().await;
    let mut random = random();
    let text: String = (0..2500).map(|n| format!("needle {n}\n")).collect();
    let files = ["a", "b", "c/d"].map(|path| (path.to_owned(), ("100644", text.clone())));
    world.commit_all(&[Files::from(files)]);
    world.import("many", 0).await;
    let request = SearchRequest { query: "needle".to_owned(), ..SearchRequest::default() };
    let mut searching = world.engine.search("many", request.clone(), true).await.expect("a search");
    let mut found = Vec::new();
    while searching.ahead().await.expect("a look ahead").is_some() {
        found.extend(searching.step(true).await.expect("a step"));
    }
    assert_eq!((found.len(), searching.end().files_searched), (7500, 3));
    assert_eq!(searching.end().next_cursor, None);
    let mut lines = Vec::new();
    let mut paged = SearchRequest { limit: Some(999), ..request.clone() };
    loop {
        let mut page = world.engine.search("many", paged.clone(), false).await.expect("a search");
        while page.ahead().await.expect("a look ahead").is_some() {
            lines.extend(page.step(true).await.expect("a step"));
        }
        match &page.end().next_cursor {
            Some(next) => paged.cursor = Some(next.clone()),
            None => break,
        }
    }
    assert_eq!(lines, found);
    let few = SearchRequest { max_matches_per_file: Some(3), ..request };
    let (found, _) = pages(&world, "many", &few, &mut random).await;
    let cut: Vec<bool> = found.iter().map(|found| found.hit.as_ref().expect("a match").more_in_file).collect();
    assert_eq!(cut, [false, false, true].repeat(3));
}

/// Goal: the same content at many paths is searched once.
#[tokio::test]
async fn each_content_is_searched_once() {
    let world = World::new().await;
    let files = (0..300).map(|n| (format!("d{}/f{n}", n % 7), ("100644", format!("text {}\n", n % 3))));
    world.commit_all(&[files.collect()]);
    world.import("same", 0).await;
    let request = SearchRequest { query: "text 1".to_owned(), ..SearchRequest::default() };
    let mut searching = world.engine.search("same", request, true).await.expect("a search");
    let mut found = 0;
    while searching.ahead().await.expect("a look ahead").is_some() {
        found += searching.step(true).await.expect("a step").len();
    }
    let end = searching.end();
    assert_eq!((found, end.files_searched, end.bytes_searched), (100, 300, 3 * 7));
}
