//! Dates that a client may give a commit: RFC 3339, or git's own `@unix +zzzz`. No clock, no names of time zones.

/// The last second of the year 9999, seconds since 1970.
pub const TIME_S_MAX: i64 = 253_402_300_799;
/// One minute less than a day.
pub(crate) const OFFSET_MINUTES_MAX: i32 = 24 * 60 - 1;

/// Why a text is no date. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Neither form.
    #[error("a date is written as 2026-08-22T10:00:00+02:00 or as @1787385600 +0200")]
    Format,
    /// A month, day, hour, minute or second that does not exist. (A leap second cannot be told in Unix time.)
    #[error("there is no such day or time")]
    NoSuchTime,
    /// Before 1970 or after the year 9999.
    #[error("the time is before 1970 or after the year 9999")]
    OutOfRange,
}

/// Reads `2026-08-22T10:00:00+02:00` (RFC 3339; fractions of a second are dropped) or `@1787385600 +0200`: seconds since
/// 1970 and minutes east of UTC.
pub fn parse_date(text: &str) -> Result<(i64, i32), DateError> {
    let (time_s, offset_minutes) = match text.strip_prefix('@') {
        Some(unix) => parse_unix(unix).ok_or(DateError::Format)?,
        None => parse_rfc3339(text)?,
    };
    if offset_minutes.abs() > OFFSET_MINUTES_MAX {
        return Err(DateError::NoSuchTime);
    }
    if !(0..=TIME_S_MAX).contains(&time_s) {
        return Err(DateError::OutOfRange);
    }
    Ok((time_s, offset_minutes))
}

fn parse_unix(text: &str) -> Option<(i64, i32)> {
    let (seconds, zone) = text.split_once(' ')?;
    let is_number = !seconds.is_empty() && seconds.len() <= 18 && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let [sign, zone @ ..] = zone.as_bytes() else { return None };
    let (hours, minutes) = zone.split_at_checked(2).filter(|_| zone.len() == 4)?;
    Some((is_number.then(|| seconds.parse().ok())??, offset(*sign, digits(hours)?, digits(minutes)?)?))
}

fn parse_rfc3339(text: &str) -> Result<(i64, i32), DateError> {
    let fields = rfc3339_fields(text.as_bytes()).ok_or(DateError::Format)?;
    let [year, month, day, hour, minute, second] = fields.civil;
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(is_leap_year),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let exists = (1..=12).contains(&month) && (1..=days_in_month).contains(&day);
    if !exists || hour > 23 || minute > 59 || second > 59 {
        return Err(DateError::NoSuchTime);
    }
    let offset_minutes = fields.offset_minutes.ok_or(DateError::NoSuchTime)?;
    let time_s = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok((time_s - i64::from(offset_minutes) * 60, offset_minutes))
}

struct Fields {
    /// Year, month, day, hour, minute, second.
    civil: [i64; 6],
    /// `None` if there is no such zone.
    offset_minutes: Option<i32>,
}

fn rfc3339_fields(text: &[u8]) -> Option<Fields> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', _, _, b':', _, _, b':', _, _] = date_time else {
        return None;
    };
    let mut civil = [0; 6];
    for (field, range) in civil.iter_mut().zip([0..4, 5..7, 8..10, 11..13, 14..16, 17..19]) {
        *field = digits(&date_time[range])?;
    }
    let zone = match rest {
        [b'.', fraction @ ..] => {
            let end = fraction.iter().position(|byte| !byte.is_ascii_digit()).filter(|&end| end > 0)?;
            &fraction[end..]
        }
        _ => rest,
    };
    let offset_minutes = match zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', tens, ones] if hours.len() == 2 => {
            offset(*sign, digits(hours)?, digits(&[*tens, *ones])?)
        }
        _ => return None,
    };
    Some(Fields { civil, offset_minutes })
}

/// At most 18 digits, so that the number fits.
fn digits(text: &[u8]) -> Option<i64> {
    let is_number = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

fn offset(sign: u8, hours: i64, minutes: i64) -> Option<i32> {
    let total = i32::try_from(hours * 60 + minutes).ok().filter(|_| minutes < 60)?;
    match sign {
        b'+' => Some(total),
        b'-' => Some(-total),
        _ => None,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar (`days_from_civil` of Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms"): years start in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_git_and_rfc_3339_write_them() {
        // The numbers are those of `date -u -d … +%s`.
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("2026-08-22T10:00:00+02:00", (1_787_385_600, 120)),
            ("2024-02-29t23:59:59.999-05:30", (1_709_270_999, -330)),
            ("2000-02-29 00:00:00Z", (951_782_400, 0)),
            ("9999-12-31T23:59:59Z", (TIME_S_MAX, 0)),
            ("1970-01-01T01:00:00+01:00", (0, 60)),
            ("@0 +0000", (0, 0)),
            ("@1787385600 +0200", (1_787_385_600, 120)),
            ("@1 -2359", (1, -1439)),
        ] {
            assert_eq!(parse_date(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-08-22",
            "2026-08-22T10:00:00",
            "2026-08-22T10:00:00+0200",
            "2026-8-22T10:00:00Z",
            "@1",
            "@ +0000",
            "@+1 +0000",
            "@1 0000",
            "@1 +000",
            "@1 +00000",
            "@1 +0099999999999999999999",
            "@1  +0000",
            "@1 +0060",
            "2026-08-22T10:00:00.Z",
            "@1 +0x00",
            "２026-08-22T10:00:00Z",
            "2026-08-22T10:00:00Z\n",
            "@99999999999999999999 +0000",
        ] {
            assert_eq!(parse_date(text), Err(DateError::Format), "{text:?}");
        }
        for text in [
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T23:59:60Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "@1 +2400",
        ] {
            assert_eq!(parse_date(text), Err(DateError::NoSuchTime), "{text}");
        }
        for text in ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01", "@253402300800 +0000", "0000-01-01T00:00:00Z"]
        {
            assert_eq!(parse_date(text), Err(DateError::OutOfRange), "{text}");
        }
    }
}
