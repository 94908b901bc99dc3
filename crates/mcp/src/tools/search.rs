//! `search`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{Excerpt, Found, Hit, SearchCase, SearchEnd, SearchMode, SearchRequest, Source};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
const CONTEXT_MAX: u64 = 10;
/// Contents that a search has at hand at a time, bytes: those it searches, and those it reads meanwhile.
const SEARCHED_BYTES: u64 = 8 << 20;
/// What a match takes beside its path and its lines, bytes.
const MATCH_BYTES: usize = 40;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// What to look for: literal text, or with `regex` a regular expression (Rust's syntax, no look-around).
    query: String,
    #[serde(default)]
    regex: bool,
    #[serde(default)]
    ignore_case: bool,
    /// Only whole words.
    #[serde(default)]
    word: bool,
    /// Let the query match over line ends.
    #[serde(default)]
    multiline: bool,
    /// Globs as in .gitignore, the last that matches decides: "*.rs", "!tests/".
    #[serde(default)]
    globs: Vec<String>,
    /// Only paths that start with this.
    prefix: Option<String>,
    /// Lines shown before and after each match (at most 10).
    context: Option<u64>,
    /// Only which files match, and how many lines in each: cheap for a broad query.
    #[serde(default)]
    count_only: bool,
    /// Search this branch, tag or commit as committed. Left out: your own view, pending edits included.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Most matches, or files with `count_only` (default 100, at most 1000).
    limit: Option<usize>,
    /// Most bytes shown (default 100000, at most 1000000).
    max_bytes: Option<u64>,
    /// `next_cursor` of the last answer, with the same arguments.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// The commit that was searched; null on an empty branch.
    commit: Option<String>,
    /// In byte order of the path.
    files: Vec<File>,
    files_searched: u64,
    /// Files that were meant but not searched: binary, or too large.
    files_skipped: u64,
    /// There may be more: call again with it.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    /// You have pending edits in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    /// With `count_only`: how many lines match.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Match {
    line: u64,
    /// Where the match begins in the line: bytes, from 1.
    column: u64,
    text: String,
    /// The line is longer than what is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<Line>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<Line>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    line: u64,
    text: String,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let mut limit = bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX);
    let room = bounds::room(args.max_bytes);
    loop {
        let answer = search(call, &args, limit).await?;
        // Long paths are no shown text, and so not in the search's own budget. One entry is always shown.
        if limit <= 1 || weight(&answer) <= room.saturating_mul(2) {
            return Ok(show(text(&answer, args.count_only), &answer));
        }
        limit /= 2;
    }
}

async fn search<H: Host>(call: &Call<'_, H>, args: &Args, limit: usize) -> Result<Answer, Refusal> {
    let (reference, user) = call.view(args.reference.clone());
    let request = SearchRequest {
        query: args.query.clone(),
        regex: args.regex,
        case: if args.ignore_case { SearchCase::Insensitive } else { SearchCase::Sensitive },
        word: args.word,
        multiline: args.multiline,
        globs: args.globs.clone(),
        prefix: args.prefix.clone(),
        reference,
        user,
        context: Some(args.context.unwrap_or(0).min(CONTEXT_MAX)),
        limit: Some(limit),
        max_bytes: Some(bounds::budget(args.max_bytes)),
        cursor: args.cursor.clone(),
        mode: if args.count_only { SearchMode::Count } else { SearchMode::Matches },
        ..SearchRequest::default()
    };
    let project = call.binding.project.clone();
    let work = Work::Batch { factor: 0, bytes: SEARCHED_BYTES + bounds::memory(bounds::budget(args.max_bytes)) };
    let searched = call.host.run(work, move |engine| async move {
        let mut searching = engine.search(&project, request, false).await?;
        let mut found = Vec::new();
        while searching.ahead().await?.is_some() {
            found.extend(searching.step(true).await?);
        }
        Ok((searching.commit(), found, searching.end().clone()))
    });
    let (commit, found, end) = searched.await?;
    let SearchEnd { files_searched, skipped, next_cursor, .. } = end;
    let mut files = Vec::new();
    found.into_iter().for_each(|found| add(&mut files, found));
    Ok(Answer {
        commit: commit.map(|oid| oid.to_string()),
        files,
        files_searched,
        files_skipped: skipped.binary + skipped.too_large + skipped.unreadable,
        next_cursor,
    })
}

fn add(files: &mut Vec<File>, found: Found) {
    let (path, path_b64) = shown::path_bytes(&found.path.0);
    let same = files.last_mut().filter(|file| file.path == path && file.path_b64 == path_b64);
    let hit = found.hit.map(of_hit);
    match same {
        Some(file) => file.matches.extend(hit),
        None => {
            let pending = found.source == Source::Pending;
            files.push(File { path, path_b64, pending, count: found.count, matches: hit.into_iter().collect() });
        }
    }
}

fn of_hit(hit: Hit) -> Match {
    let line = |line: treehold_engine::api::ContextLine| Line { line: line.line, text: lossy(&line.text) };
    Match {
        line: hit.line,
        column: hit.column,
        text: lossy(&hit.text),
        truncated: hit.text.truncated,
        before: hit.before.into_iter().map(line).collect(),
        after: hit.after.into_iter().map(line).collect(),
    }
}

fn lossy(excerpt: &Excerpt) -> String {
    String::from_utf8_lossy(&excerpt.bytes).into_owned()
}

fn weight(answer: &Answer) -> usize {
    let of_match = |found: &Match| {
        let beside = found.before.iter().chain(&found.after).map(|line| line.text.len() + MATCH_BYTES);
        found.text.len() + MATCH_BYTES + beside.sum::<usize>()
    };
    let of_file = |file: &File| file.path.len() + MATCH_BYTES + file.matches.iter().map(of_match).sum::<usize>();
    answer.files.iter().map(of_file).sum()
}

fn text(answer: &Answer, count_only: bool) -> String {
    let mut text = String::new();
    for file in &answer.files {
        text.push_str(&shown::path(&file.path));
        if let Some(count) = file.count {
            _ = write!(text, ": {count}");
        }
        text.push_str(if file.pending { " (pending)\n" } else { "\n" });
        for found in &file.matches {
            for line in &found.before {
                _ = writeln!(text, "{}-{}", line.line, line.text);
            }
            let cut = if found.truncated { " [line cut]" } else { "" };
            _ = writeln!(text, "{}:{}{cut}", found.line, found.text);
            for line in &found.after {
                _ = writeln!(text, "{}-{}", line.line, line.text);
            }
        }
    }
    let matches: usize = answer.files.iter().map(|file| file.matches.len()).sum();
    let (files, searched) = (answer.files.len(), answer.files_searched);
    let found = if count_only { String::new() } else { format!("{matches} matches in ") };
    _ = write!(text, "[{found}{files} files; {searched} files searched, {} skipped]", answer.files_skipped);
    if let Some(cursor) = &answer.next_cursor {
        shown::goes_on(&mut text, cursor, "Cut");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, line: u64, text: &str) -> Found {
        let excerpt = Excerpt { bytes: text.as_bytes().to_vec(), start: 0, truncated: false };
        let hit = Hit {
            line,
            column: 1,
            text: excerpt,
            submatches: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            more_in_file: false,
        };
        let oid = "0000000000000000000000000000000000000001".parse().unwrap();
        let path = treehold_engine::api::Path(path.into());
        Found { path, oid, source: Source::Committed, hit: Some(hit), count: None }
    }

    #[test]
    fn matches_stand_below_their_file() {
        let mut files = Vec::new();
        for found in [found("a", 1, "x"), found("a", 7, "xx"), found("b\nc", 2, "x")] {
            add(&mut files, found);
        }
        let answer =
            Answer { commit: None, files, files_searched: 9, files_skipped: 1, next_cursor: Some("c".to_owned()) };
        assert_eq!(weight(&answer), 1 + 40 + 41 + 42 + 3 + 40 + 41);
        let text = text(&answer, false);
        let end = "[3 matches in 2 files; 9 files searched, 1 skipped]\n[Cut. Call again";
        assert!(text.starts_with(&format!("a\n1:x\n7:xx\n\"b\\nc\"\n2:x\n{end}")), "{text}");
    }
}
