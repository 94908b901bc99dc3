use super::*;
use crate::api::SearchRequest;

fn plan(request: SearchRequest) -> Plan {
    Plan::new(&request).expect("a plan")
}

fn literal(query: &str) -> SearchRequest {
    SearchRequest { query: query.to_owned(), ..SearchRequest::default() }
}

fn hits(plan: &Plan, text: &[u8], from: u64) -> Hits {
    search(plan, text, from, &AtomicBool::new(false)).expect("a search")
}

fn all(request: SearchRequest, text: &[u8]) -> Vec<Hit> {
    hits(&plan(request), text, 0).list.into_iter().map(|(hit, _)| hit).collect()
}

fn matched(hit: &Hit) -> Vec<&[u8]> {
    hit.submatches.iter().map(|part| &hit.text.bytes[part.start as usize..part.end as usize]).collect()
}

/// Goal: a line that is cut shows its first match and says what is missing; never half a character.
#[test]
fn long_lines_are_cut_around_the_match() {
    for (before, after) in [(0, 9000), (10, 9000), (5000, 0), (5001, 7), (20_000, 30_000), (4092, 0), (4093, 4)] {
        let line = format!("{}needle{}", "é".repeat(before / 2) + &"x".repeat(before % 2), "€".repeat(after / 3));
        let text = format!("first\n{line}\nlast\n");
        let found = all(SearchRequest { context: Some(1), ..literal("needle") }, text.as_bytes());
        let [hit] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((hit.line, hit.column), (2, before as u64 + 1));
        assert_eq!(matched(hit), [b"needle"]);
        let shown = std::str::from_utf8(&hit.text.bytes).expect("whole characters");
        assert!(shown.len() <= TEXT_MAX && line[hit.text.start as usize..].starts_with(shown));
        assert_eq!(hit.text.truncated, shown.len() < line.len());
        assert_eq!(hit.submatches[0].start, before as u64 - hit.text.start);
        assert_eq!((hit.before[0].line, hit.after[0].line), (1, 3));
        assert_eq!((&hit.before[0].text.bytes[..], &hit.after[0].text.bytes[..]), (&b"first"[..], &b"last"[..]));
    }
    // So many matches in one line that they do not fit: those that are shown are there.
    let found = all(literal("ab"), "ab".repeat(50_000).as_bytes());
    assert_eq!((found.len(), found[0].submatches.len()), (1, TEXT_MAX / 2 + 1));
    let long = format!("{}\nx\n{}", "b".repeat(5000), "a".repeat(5000));
    let found = all(SearchRequest { context: Some(1), ..literal("x") }, long.as_bytes());
    let sides = [&found[0].before[0], &found[0].after[0]];
    assert!(sides.iter().all(|side| side.text.truncated && side.text.bytes.len() == LINE_MAX));
}

/// Goal: a text of any number of matches is searched to its end in parts, each match once, with the lines of the whole.
#[test]
fn texts_are_searched_in_parts() {
    let text: String = (0..3500).map(|n| if n % 7 == 0 { "\n".to_owned() } else { format!("word {n}\n") }).collect();
    let expected: Vec<u64> = (0..3500).filter(|n| n % 7 != 0).map(|n| n + 1).collect();
    for request in [
        literal("word"),
        SearchRequest { regex: true, ..literal("^wo") },
        SearchRequest { regex: true, ..literal("(?:word)") },
        SearchRequest { multiline: true, regex: true, ..literal("word\\s") },
    ] {
        let plan = plan(request.clone());
        let (mut lines, mut from, mut parts) = (Vec::new(), Some(0), 0);
        while let Some(at) = from {
            let part = hits(&plan, text.as_bytes(), at);
            lines.extend(part.list.iter().map(|(hit, _)| hit.line));
            (from, parts) = (part.more, parts + 1);
        }
        // Over several lines, neighbours are one match.
        let expected: Vec<u64> = match request.multiline {
            true => expected.iter().copied().filter(|line| line % 7 == 2).collect(),
            false => expected.clone(),
        };
        assert_eq!(lines, expected, "{request:?}");
        assert_eq!(parts, expected.len().div_ceil(HITS_MAX), "{request:?}");
        // From the middle of what was shown: where a limit stopped.
        let (_, end) = hits(&plan, text.as_bytes(), 0).list.swap_remove(9);
        assert_eq!(hits(&plan, text.as_bytes(), end).list[0].0.line, expected[10], "{request:?}");
    }
    let begin = plan(SearchRequest { regex: true, multiline: true, ..literal("\\Aword") });
    assert_eq!(hits(&begin, b"word\nword\n", 0).list.len(), 1);
    assert_eq!(hits(&begin, b"word\nword\n", 5).list.len(), 0, "the start of a part is not the start of the text");
}

/// Goal: matches over several lines, empty ones, line ends of any kind, and a text without one at its end.
#[test]
fn lines_are_counted_as_they_are() {
    let found = all(SearchRequest { multiline: true, regex: true, ..literal("b\\nc") }, b"a\nb\nc\nd");
    assert_eq!((found[0].line, found[0].column, &found[0].text.bytes[..]), (2, 1, &b"b\nc"[..]));
    assert_eq!(matched(&found[0]), [b"b\nc"]);
    let found = all(SearchRequest { regex: true, ..literal("^$") }, b"a\n\nb\n\n");
    assert_eq!(found.iter().map(|hit| (hit.line, hit.text.bytes.len())).collect::<Vec<_>>(), [(2, 0), (4, 0)]);
    let found = all(literal("z"), b"x\r\nyz\r\nz");
    assert_eq!(found.iter().map(|hit| (hit.line, hit.column)).collect::<Vec<_>>(), [(2, 2), (3, 1)]);
    assert_eq!(found[0].text.bytes, b"yz\r");
    let found = all(SearchRequest { word: true, ..literal("ab") }, b"abc ab\ncab\nab.ab\n");
    assert_eq!(
        found.iter().map(|hit| (hit.line, hit.column, hit.submatches.len())).collect::<Vec<_>>(),
        [(1, 5, 1), (3, 1, 2)]
    );
    assert!(all(literal("a"), b"").is_empty());
    let latin = all(literal("b"), b"\xe4b\n");
    let shown = serde_json::to_value(&latin[0]).expect("JSON");
    assert_eq!(
        shown,
        serde_json::json!({"line": 1, "column": 2, "encoding": "base64", "text": "5GI=",
        "submatches": [{"start": 1, "end": 2}]})
    );
}

/// Goal: counting counts lines, naming files stops at the first match, and who was told to stop does.
#[test]
fn modes_and_stopping() {
    let text = b"a\nb\na\na";
    let of = |mode| hits(&plan(SearchRequest { mode, ..literal("a") }), text, 0);
    let (count, files) = (of(SearchMode::Count), of(SearchMode::Files));
    assert_eq!((count.count, count.list.len(), files.count), (3, 0, 1));
    let stopped = search(&plan(literal("a")), text, 0, &AtomicBool::new(true)).expect("a search");
    assert_eq!(stopped.list, Vec::new());
}
