//! Search in one text, and what is shown of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use grep_matcher::Matcher as _;
use grep_searcher::{Searcher, Sink, SinkMatch};

use super::plan::Plan;
use crate::api::{ContextLine, Excerpt, Hit, SearchMode, Submatch};
use crate::{EngineError, Result};

/// What is shown of one match, and of one line beside it, bytes.
const TEXT_MAX: usize = 4096;
const LINE_MAX: usize = 1024;
/// What is shown before the first match of a line that is cut, bytes.
const LEAD: usize = 256;
/// How far after a match's lines the matcher may look, bytes: a word boundary, a line end.
const LOOK_AHEAD: usize = 128;
/// Matches that are made at once, and bytes of what they show: as many more, when they are wanted.
const HITS_MAX: usize = 1000;
/// Searched without a look at whether anybody still waits, bytes and the rest of a line.
const SLICE: usize = 64 << 10;
const HITS_BYTES: usize = 1 << 20;

/// What a text has from a point on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// In order, and where the text goes on after each.
    pub list: Vec<(Hit, u64)>,
    /// Matching lines; in the modes that do not show them, `list` is empty.
    pub count: u64,
    /// The text has more of them from here on.
    pub more: Option<u64>,
}

/// Takes matches as the searcher comes to them.
struct Taking<'a> {
    plan: &'a Plan,
    text: &'a [u8],
    /// Where the searched part begins in the text, and its line, from 0.
    start: usize,
    line: u64,
    /// Matches before this point were shown already.
    from: usize,
    stop: &'a AtomicBool,
    bytes: usize,
    hits: Hits,
    /// Nothing more is wanted.
    ended: bool,
}

/// Searches a text from a point on, which is 0 or where an earlier answer stopped. `stop` ends it early, with what it has.
pub(super) fn search(plan: &Plan, text: &[u8], from: u64, stop: &AtomicBool) -> Result<Hits> {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
    let start = if plan.by_lines { from } else { 0 };
    let line = count_lines(&text[..start]);
    let mut taking = Taking { plan, text, start, line, from, stop, bytes: 0, hits: Hits::default(), ended: false };
    let mut searcher = plan.searcher();
    while taking.start < text.len() && !taking.ended && !stop.load(Ordering::Relaxed) {
        let slice = if plan.in_slices() { lines_from(text, taking.start) } else { &text[taking.start..] };
        searcher.search_slice(&plan.matcher, slice, &mut taking).map_err(EngineError::internal)?;
        taking.line += count_lines(slice);
        taking.start += slice.len();
    }
    Ok(taking.hits)
}

/// Some whole lines: a matcher cannot be interrupted, so that it gets little at a time.
fn lines_from(text: &[u8], start: usize) -> &[u8] {
    let least = text.len().min(start + SLICE);
    let end = text[least..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| least + at + 1);
    &text[start..end]
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|b| **b == b'\n').count() as u64
}

impl Sink for Taking<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> std::io::Result<bool> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let begin = self.start + usize::try_from(found.absolute_byte_offset()).unwrap_or(usize::MAX);
        let end = begin + found.bytes().len();
        if begin < self.from {
            return Ok(true);
        }
        match self.plan.mode {
            SearchMode::Files => {
                self.hits.count = 1;
                self.ended = true;
                return Ok(false);
            }
            SearchMode::Count => {
                // Lines, also where a match goes over several of them.
                self.hits.count += count_lines(found.bytes()).max(1);
                return Ok(true);
            }
            SearchMode::Matches => {}
        }
        if self.hits.list.len() >= HITS_MAX || self.bytes >= HITS_BYTES {
            self.hits.more = Some(begin as u64);
            self.ended = true;
            return Ok(false);
        }
        let line = self.line + found.line_number().unwrap_or(1);
        let hit = self.show(begin, end, line)?;
        self.bytes += weight(&hit);
        self.hits.count += 1;
        self.hits.list.push((hit, end as u64));
        Ok(true)
    }
}

impl Taking<'_> {
    fn show(&self, begin: usize, end: usize, line: u64) -> std::io::Result<Hit> {
        let shown = trimmed(&self.text[begin..end]);
        // Beyond the lines for what looks ahead, and no further: the matcher would look for the next match to the end of the text.
        let within = &self.text[..self.text.len().min(end + LOOK_AHEAD)];
        let mut matches: Vec<(usize, usize)> = Vec::new();
        let mut window = None;
        let found = self.plan.matcher.find_iter_at(within, begin, |found| {
            if found.start() >= end {
                return false;
            }
            let (from, to) = (found.start() - begin, found.end() - begin);
            let (_, last) = *window.get_or_insert_with(|| Self::window(shown, from));
            if from > last {
                return false;
            }
            matches.push((from.min(shown.len()), to.min(shown.len())));
            true
        });
        found.map_err(std::io::Error::other)?;
        let (from, to) = window.unwrap_or_else(|| Self::window(shown, 0));
        let cut = |at: usize| (at.clamp(from, to) - from) as u64;
        let first = matches.first().map_or(0, |(start, _)| *start);
        Ok(Hit {
            line,
            column: first as u64 + 1,
            text: Excerpt {
                bytes: shown[from..to].to_vec(),
                start: from as u64,
                truncated: from > 0 || to < shown.len(),
            },
            submatches: matches.iter().map(|(start, end)| Submatch { start: cut(*start), end: cut(*end) }).collect(),
            before: self.lines_before(begin, line),
            after: self.lines_after(end, line + count_lines(&self.text[begin..end])),
            more_in_file: false,
        })
    }

    /// What is shown of a text whose first match begins at `first`.
    fn window(text: &[u8], first: usize) -> (usize, usize) {
        if text.len() <= TEXT_MAX {
            return (0, text.len());
        }
        let from = if first + LEAD <= TEXT_MAX { 0 } else { first - LEAD };
        let from = from.min(text.len() - TEXT_MAX.min(text.len()));
        around_characters(text, from, from + TEXT_MAX)
    }

    fn lines_before(&self, begin: usize, line: u64) -> Vec<ContextLine> {
        let mut lines = VecDeque::new();
        let mut end = begin;
        while (lines.len() as u64) < self.plan.before && end > 0 {
            let start = memrchr(&self.text[..end - 1]).map_or(0, |at| at + 1);
            let line = line - 1 - lines.len() as u64;
            lines.push_front(ContextLine { line, text: context(&self.text[start..end]) });
            end = start;
        }
        lines.into()
    }

    fn lines_after(&self, end: usize, line: u64) -> Vec<ContextLine> {
        let mut lines = Vec::new();
        let mut start = end;
        while (lines.len() as u64) < self.plan.after && start < self.text.len() {
            let rest = &self.text[start..];
            let len = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
            lines.push(ContextLine { line: line + lines.len() as u64, text: context(&rest[..len]) });
            start += len;
        }
        lines
    }
}

fn memrchr(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|b| *b == b'\n')
}

/// Without the last line end.
fn trimmed(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

fn context(line: &[u8]) -> Excerpt {
    let line = trimmed(line);
    let (_, to) = around_characters(line, 0, line.len().min(LINE_MAX));
    Excerpt { bytes: line[..to].to_vec(), start: 0, truncated: to < line.len() }
}

/// The same part without the halves of characters at its ends.
fn around_characters(text: &[u8], from: usize, to: usize) -> (usize, usize) {
    let inside = |at: &usize| text.get(*at).is_some_and(|b| b & 0xC0 == 0x80);
    let from = (from..from.saturating_add(4).min(to)).find(|at| !inside(at)).unwrap_or(from);
    let to = (to.saturating_sub(3).max(from)..=to).rev().find(|at| !inside(at)).unwrap_or(to);
    (from, to)
}

/// What a hit takes of an answer, bytes.
pub(super) fn weight(hit: &Hit) -> usize {
    let lines = hit.before.iter().chain(&hit.after).map(|line| line.text.bytes.len() + 32).sum::<usize>();
    hit.text.bytes.len() + hit.submatches.len() * 16 + lines + 128
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
