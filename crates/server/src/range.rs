//! `Range: bytes=…` (RFC 9110 section 14): one range is served, anything else is as if it were not there.

use http::{HeaderMap, header};

/// What to send of `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything: 200.
    Whole,
    /// From the first to the last byte, both included: 206.
    Some(u64, u64),
    /// Nothing of it is there: 416.
    None,
}

/// Reads the header. Malformed and multiple ranges are ignored.
pub(crate) fn part(headers: &HeaderMap, size: u64) -> Part {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Part::Whole };
    value.to_str().ok().and_then(|text| parse(text, size)).unwrap_or(Part::Whole)
}

fn parse(text: &str, size: u64) -> Option<Part> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(if suffix == 0 || size == 0 {
            Part::None
        } else {
            Part::Some(size.saturating_sub(suffix), size - 1)
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first >= size { Part::None } else { Part::Some(first, last.min(size - 1)) })
}

/// Digits only; what does not fit is as large as can be.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, size: u64) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        part(&headers, size)
    }

    #[test]
    fn one_range_is_served() {
        assert_eq!(of("bytes=0-0", 10), Part::Some(0, 0));
        assert_eq!(of("bytes=2-5", 10), Part::Some(2, 5));
        assert_eq!(of("bytes=2-", 10), Part::Some(2, 9));
        assert_eq!(of("bytes=2-99", 10), Part::Some(2, 9));
        assert_eq!(of("bytes=-3", 10), Part::Some(7, 9));
        assert_eq!(of("bytes=-30", 10), Part::Some(0, 9));
        assert_eq!(of("Bytes=0-99999999999999999999999999", 10), Part::Some(0, 9));
    }

    #[test]
    fn ranges_outside_are_unsatisfiable() {
        assert_eq!(of("bytes=10-", 10), Part::None);
        assert_eq!(of("bytes=99999999999999999999-", 10), Part::None);
        assert_eq!(of("bytes=-0", 10), Part::None);
        assert_eq!(of("bytes=0-0", 0), Part::None);
        assert_eq!(of("bytes=-1", 0), Part::None);
    }

    #[test]
    fn anything_else_is_ignored() {
        for text in [
            "bytes=5-2",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-1",
            "0-1",
            "bytes=+1-2",
            "bytes=1--2",
        ] {
            assert_eq!(of(text, 10), Part::Whole, "{text}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::RANGE, "bytes=0-1".parse().unwrap());
        twice.append(header::RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(part(&twice, 10), Part::Whole);
        assert_eq!(part(&HeaderMap::new(), 10), Part::Whole);
    }

    #[test]
    fn every_small_range_agrees_with_slicing() {
        let bytes: Vec<u8> = (0..7).collect();
        for first in 0..10_u64 {
            for last in 0..10_u64 {
                let text = format!("bytes={first}-{last}");
                let expected: Vec<u8> =
                    bytes.iter().copied().filter(|byte| (first..=last).contains(&u64::from(*byte))).collect();
                match of(&text, 7) {
                    Part::Whole => assert!(last < first, "{text}"),
                    Part::None => assert!(expected.is_empty() && first <= last, "{text}"),
                    Part::Some(from, to) => assert_eq!(bytes[from as usize..=to as usize], expected, "{text}"),
                }
            }
        }
    }
}
