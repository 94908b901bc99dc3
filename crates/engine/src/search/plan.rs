//! What a search looks for and where, compiled once.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};

use crate::api::{SearchCase, SearchMode, SearchRequest};
use crate::{EngineError, Result};

/// A query, bytes.
const QUERY_MAX: usize = 4096;
/// Globs of a request, and bytes of each.
const GLOBS_MAX: usize = 100;
const GLOB_MAX: usize = 1024;
/// A compiled pattern, and what it may keep at hand while it searches, bytes.
const PATTERN_BYTES: usize = 1 << 20;
const STATES_BYTES: usize = 8 << 20;
/// Lines beside a match.
const CONTEXT_MAX: u64 = 100;

/// A search, ready for any file.
#[derive(Debug)]
pub(super) struct Plan {
    pub matcher: RegexMatcher,
    globs: Globs,
    multiline: bool,
    /// The pattern means the same from the start of any line on.
    pub by_lines: bool,
    pub before: u64,
    pub after: u64,
    pub mode: SearchMode,
    /// Matches of one file.
    pub file_max: u64,
    pub include_binary: bool,
}

impl Plan {
    /// Compiles a request.
    pub fn new(request: &SearchRequest) -> Result<Self> {
        let context = |own: Option<u64>| own.or(request.context).unwrap_or(0).min(CONTEXT_MAX);
        // Only these can tell the start of a text from that of a line.
        let anchored = request.regex && ["\\A", "(?"].iter().any(|sign| request.query.contains(sign));
        Ok(Self {
            matcher: matcher(request)?,
            globs: Globs::new(&request.globs)?,
            multiline: request.multiline,
            by_lines: !anchored,
            before: context(request.before),
            after: context(request.after),
            mode: request.mode,
            file_max: request.max_matches_per_file.unwrap_or(u64::MAX).max(1),
            include_binary: request.include_binary,
        })
    }

    /// Whether the globs take a path.
    pub fn takes(&self, path: &[u8]) -> bool {
        self.globs.take(path)
    }

    /// Whether a text may be searched a few lines at a time.
    pub fn in_slices(&self) -> bool {
        self.by_lines && !self.multiline
    }

    /// What runs the matcher over a text. The bytes are searched as they are, whatever their encoding.
    pub fn searcher(&self) -> Searcher {
        SearcherBuilder::new()
            .line_number(true)
            .multi_line(self.multiline)
            .bom_sniffing(false)
            .binary_detection(BinaryDetection::none())
            .build()
    }
}

fn matcher(request: &SearchRequest) -> Result<RegexMatcher> {
    if request.query.is_empty() {
        return Err(bad_regex("The query is empty: say what to look for."));
    }
    if request.query.len() > QUERY_MAX {
        return Err(EngineError::TooLarge { what: "the query", limit: QUERY_MAX as u64, unit: "bytes" });
    }
    let mut builder = RegexMatcherBuilder::new();
    builder
        .multi_line(true)
        .fixed_strings(!request.regex)
        .word(request.word)
        .case_insensitive(request.case == SearchCase::Insensitive)
        .case_smart(request.case == SearchCase::Smart)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(STATES_BYTES);
    if !request.multiline {
        builder.line_terminator(Some(b'\n'));
    }
    builder.build(&request.query).map_err(|error| refused(request, &error))
}

/// Why a pattern is refused, in words.
fn refused(request: &SearchRequest, error: &grep_regex::Error) -> EngineError {
    if let grep_regex::ErrorKind::NotAllowed(_) = error.kind() {
        return bad_regex("The query goes over a line end; give `multiline` for that.");
    }
    let parsed = if request.regex { regex_syntax::Parser::new().parse(&request.query).err() } else { None };
    let (what, span) = match &parsed {
        Some(regex_syntax::Error::Parse(error)) => (error.kind().to_string(), error.span()),
        Some(regex_syntax::Error::Translate(error)) => (error.kind().to_string(), error.span()),
        _ => return bad_regex("The query is too large once it is compiled; use fewer or smaller repetitions."),
    };
    let before = request.query.get(..span.start.offset).unwrap_or_default().chars().count();
    let part = request.query.get(span.start.offset..span.end.offset).unwrap_or_default();
    let part: String = part.chars().take(40).collect();
    let at = if part.is_empty() { String::new() } else { format!(" ({part:?})") };
    bad_regex(format!("The regular expression is refused at character {}{at}: {what}.", before + 1))
}

fn bad_regex(detail: impl Into<String>) -> EngineError {
    EngineError::unprocessable("bad_regex", detail)
}

/// Globs as in `.gitignore`: the last one that matches decides.
#[derive(Debug)]
pub struct Globs {
    set: GlobSet,
    /// Of each glob of the set, whether it takes what it matches.
    takes: Vec<bool>,
    /// What none matches.
    others: bool,
}

impl Globs {
    /// Compiles them; none take every path. A bad one is `bad_glob`, and too many or too long ones `too_large`.
    pub fn new(globs: &[String]) -> Result<Self> {
        if globs.len() > GLOBS_MAX {
            return Err(EngineError::TooLarge { what: "the list of globs", limit: GLOBS_MAX as u64, unit: "globs" });
        }
        let mut set = GlobSetBuilder::new();
        let mut takes = Vec::new();
        for glob in globs {
            let bad =
                |why: String| EngineError::unprocessable("bad_glob", format!("The glob {glob:?} is refused: {why}."));
            if glob.len() > GLOB_MAX {
                return Err(EngineError::TooLarge { what: "a glob", limit: GLOB_MAX as u64, unit: "bytes" });
            }
            let (take, text) = glob.strip_prefix('!').map_or((true, glob.as_str()), |rest| (false, rest));
            // As git reads it: a slash before the end ties it to the root, one at the end means directories only.
            let (text, only_dirs) = text.strip_suffix('/').map_or((text, false), |text| (text, true));
            let tied = text.contains('/');
            let text = text.strip_prefix('/').unwrap_or(text);
            if text.is_empty() {
                return Err(bad("it names nothing".to_owned()));
            }
            let here = if tied { text.to_owned() } else { format!("**/{text}") };
            let below = format!("{here}/**");
            for pattern in (!only_dirs).then_some(here).into_iter().chain([below]) {
                let pattern = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
                set.add(pattern.map_err(|error| bad(error.kind().to_string()))?);
                takes.push(take);
            }
        }
        let set = set.build().map_err(|error| {
            EngineError::unprocessable("bad_glob", format!("The globs are refused: {}.", error.kind()))
        })?;
        let others = !takes.contains(&true);
        Ok(Self { set, takes, others })
    }

    /// Whether they take a path, from the root.
    pub fn take(&self, path: &[u8]) -> bool {
        if self.takes.is_empty() {
            return true;
        }
        let matching = self.set.matches_candidate(&Candidate::from_bytes(path));
        let last = matching.into_iter().max();
        last.and_then(|last| self.takes.get(last)).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(request: &SearchRequest) -> String {
        let error = Plan::new(request).expect_err("a refusal");
        assert_eq!(error.code(), "bad_regex", "{error}");
        error.to_string()
    }

    fn regex(query: &str) -> SearchRequest {
        SearchRequest { query: query.to_owned(), regex: true, ..SearchRequest::default() }
    }

    /// Goal: a pattern that cannot be searched for is refused with where and why, and a large one before it costs memory.
    #[test]
    fn patterns_are_refused_in_words() {
        assert!(
            detail(&regex("äö(b")).contains("at character 3 (\"(\"): unclosed group"),
            "{}",
            detail(&regex("äö(b"))
        );
        assert!(detail(&regex(r"a\p{Nothing}")).contains("at character 2"), "{}", detail(&regex(r"a\p{Nothing}")));
        assert!(detail(&regex(r"(?=a)")).contains("look-around"));
        assert!(detail(&regex(r"\w{1000}{1000}")).contains("too large"));
        assert!(detail(&regex("")).contains("empty"));
        assert!(detail(&regex(r"a\nb")).contains("multiline"));
        assert!(detail(&SearchRequest { query: "a\nb".to_owned(), ..SearchRequest::default() }).contains("multiline"));
        for fine in [SearchRequest { multiline: true, ..regex(r"a\nb") }, regex(r"\w+\s\d{3}"), regex("(a*)*b")] {
            assert!(Plan::new(&fine).is_ok(), "{fine:?}");
        }
        assert!(Plan::new(&SearchRequest { regex: false, ..regex("(b") }).is_ok(), "a literal is no pattern");
        let long = SearchRequest { query: "a".repeat(QUERY_MAX + 1), ..SearchRequest::default() };
        assert_eq!(Plan::new(&long).expect_err("a refusal").code(), "too_large");
    }

    /// Goal: globs take what `.gitignore` would match, directories with all below them; the last one decides.
    #[test]
    fn globs_are_those_of_gitignore() {
        let cases: [(&[&str], &[&str], &[&str]); 9] = [
            (&[], &["a", "a/b"], &[]),
            (&["*.rs"], &["a.rs", "d/e/a.rs", "x.rs/y"], &["a.c", "ars", "a.rsx"]),
            (&["/src"], &["src", "src/a/b"], &["a/src", "srcs"]),
            (&["src/"], &["src/a", "b/src/c/d"], &["src", "b/src"]),
            (&["a/*.c"], &["a/x.c"], &["b/a/x.c", "a/b/x.c"]),
            (&["a/**/x"], &["a/x", "a/b/c/x"], &["x", "b/a/x"]),
            (&["!*.lock", "!/target/"], &["a", "a/target/b", "target"], &["a.lock", "d/b.lock", "target/a/b"]),
            (&["*.rs", "!gen/", "gen/keep.rs"], &["a.rs", "gen/keep.rs"], &["gen/a.rs", "b/gen/a.rs", "a.c"]),
            (&[r"\!a", "{b,c}.x", "[d-e]?"], &["!a", "z/b.x", "c.x", "d1", "e2"], &["a", "d.x", "f1", "d12"]),
        ];
        for (globs, taken, left) in cases {
            let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
            let set = Globs::new(&globs).expect("globs");
            for path in taken {
                assert!(set.take(path.as_bytes()), "{globs:?} takes {path}");
            }
            for path in left {
                assert!(!set.take(path.as_bytes()), "{globs:?} leaves {path}");
            }
        }
        let bad = |glob: &str| Globs::new(&[glob.to_owned()]).expect_err("a refusal").code();
        assert_eq!([bad("[a"), bad("!"), bad("/"), bad("{a")], ["bad_glob"; 4]);
        assert_eq!(Globs::new(&vec!["a".to_owned(); GLOBS_MAX + 1]).expect_err("a refusal").code(), "too_large");
    }
}
