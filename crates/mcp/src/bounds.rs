//! No answer is larger than was asked for, and none is cut without saying so.

use serde_json::{Map, Value};

/// Content of an answer if the caller names no budget, bytes: about 25,000 tokens.
pub(crate) const BUDGET_DEFAULT: u64 = 100_000;
/// The largest budget that is taken; more is clamped to it.
pub(crate) const BUDGET_MAX: u64 = 1_000_000;
/// The smallest one, so that a page has room for more than its frame.
pub(crate) const BUDGET_MIN: u64 = 1_000;
/// Content of one resource, bytes. Larger files are read with the tool, page by page.
pub(crate) const RESOURCE_BYTES_MAX: u64 = 1 << 20;
/// Items of each list that a refusal has beside its sentence.
const LISTED_MAX: usize = 200;

/// The budget in force.
pub(crate) fn budget(asked: Option<u64>) -> u64 {
    asked.unwrap_or(BUDGET_DEFAULT).clamp(BUDGET_MIN, BUDGET_MAX)
}

/// Memory for an answer of `budget` bytes of content: those, in two texts, and in the message.
pub(crate) fn memory(budget: u64) -> u64 {
    budget * 5
}

/// The same as a length in memory.
pub(crate) fn room(asked: Option<u64>) -> usize {
    usize::try_from(budget(asked)).unwrap_or(usize::MAX)
}

/// The number of items of a page.
pub(crate) fn limit(asked: Option<usize>, default: usize, most: usize) -> usize {
    asked.unwrap_or(default).clamp(1, most)
}

/// What else is known of a refusal: of a longer list the first ones, and `NAME_total`.
pub(crate) fn details(details: &Map<String, Value>) -> Map<String, Value> {
    let mut told = Map::new();
    for (name, value) in details {
        match value {
            Value::Array(items) if items.len() > LISTED_MAX => {
                told.insert(name.clone(), items.iter().take(LISTED_MAX).cloned().collect());
                told.insert(format!("{name}_total"), items.len().into());
            }
            value => _ = told.insert(name.clone(), value.clone()),
        }
    }
    told
}

/// At most `most` bytes of a text, at the end of a line if there is one in the last half, and whether something is missing.
pub(crate) fn cut(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    let line = head.rfind('\n').map(|at| at + 1).filter(|at| *at > end / 2);
    (head.get(..line.unwrap_or(end)).unwrap_or_default(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_clamped_not_refused() {
        for (asked, expected) in
            [(None, BUDGET_DEFAULT), (Some(0), BUDGET_MIN), (Some(5_000), 5_000), (Some(u64::MAX), BUDGET_MAX)]
        {
            assert_eq!(budget(asked), expected);
        }
        assert_eq!((limit(None, 5, 9), limit(Some(0), 5, 9), limit(Some(99), 5, 9)), (5, 1, 9));
    }

    #[test]
    fn texts_are_cut_between_characters_and_rather_between_lines() {
        assert_eq!(cut("abc", 3), ("abc", false));
        assert_eq!(cut("ab\u{e9}", 3), ("ab", true));
        assert_eq!(cut("one\ntwo\nthree", 9), ("one\ntwo\n", true));
        assert_eq!(cut("a\nbcdefgh", 8), ("a\nbcdefg", true), "a cut near the start would lose too much");
        assert_eq!(cut("\u{1f600}", 3), ("", true));
        assert_eq!(cut("abc", 0), ("", true));
    }
}
