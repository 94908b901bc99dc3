//! One file per command.

pub mod admin;
pub mod completions;
pub mod config_check;
pub mod doctor;
pub mod export;
pub mod import;
pub mod man;
pub mod mcp;
pub mod project;
pub mod quickstart;
pub mod serve;
pub mod token;

use serde_json::Value;
use uuid::Uuid;

use crate::failure::Failure;
use crate::open;
use crate::operation::Operation;
use crate::output;
use crate::progress::Bar;
use crate::settings::Settings;

/// A number and a unit, as seconds: `90s`, `30m`, `24h`, `7d`.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time; name a number and a unit, as in 90s, 30m, 24h or 7d");
    let unit = text.char_indices().last().map(|(at, unit)| (text.get(..at).unwrap_or_default(), unit));
    let (number, unit) = unit.ok_or_else(wrong)?;
    let unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// A number of bytes: `4096`, `500K`, `50M`, `1G`, in powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let shift = match text.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let number = if shift == 0 { text } else { text.get(..text.len() - 1).unwrap_or_default() };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no number of bytes; name one, as in 4096, 500K, 50M or 1G"))
}

/// A count: of commits, of entries of a list.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("a whole number from 1 to {} is expected", u32::MAX))
}

/// Runs the operation, then prints its answer: as JSON, or as `human` tells it.
async fn report(
    settings: &Settings,
    operation: Operation,
    json: bool,
    human: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    reported(settings, operation, json, human).await.map(|_| ())
}

/// The same, and gives what was printed.
async fn reported(
    settings: &Settings,
    operation: Operation,
    json: bool,
    human: impl FnOnce(&Value) -> String,
) -> Result<Value, Failure> {
    let bar = Bar::new();
    let answer = open::execute(settings, &operation, &bar).await;
    bar.finish();
    let answer = answer?;
    output::print(&if json { output::pretty(&answer) } else { human(&answer) })?;
    Ok(answer)
}

/// A user's id on the command line.
fn user_id(text: &str) -> Result<Uuid, String> {
    let how = "a user is a UUID of yours, such as 11111111-2222-4333-8444-555555555555";
    Uuid::try_parse(text).map_err(|_| how.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, seconds};

    #[test]
    fn counts_are_whole_and_begin_with_one() {
        assert_eq!((count("1"), count("4294967295")), (Ok(1), Ok(4_294_967_295)));
        for text in ["", "0", "-1", "abc", "1.5", "1k", "4294967296"] {
            assert!(count(text).is_err_and(|why| why.contains("from 1 to 4294967295")), "{text:?}");
        }
    }

    #[test]
    fn times_have_a_number_and_a_unit() {
        for (text, expected) in [("0s", 0), ("90s", 90), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in
            ["", "h", "24", "1.5h", "-1s", "24 h", "1w", "99999999999999999999d", "18446744073709551615d", "1\u{fc}"]
        {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bytes_have_a_number_and_may_have_a_unit() {
        for (text, expected) in [("1", 1), ("4096", 4096), ("500K", 512_000), ("50m", 50 << 20), ("1G", 1 << 30)] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "0", "M", "1.5M", "-1", "1 M", "1T", "99999999999G", "1\u{fc}"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }
}
