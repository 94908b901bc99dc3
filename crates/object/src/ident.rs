//! Who did something, and when: the author, committer and tagger lines.

mod date;

pub use date::{DateError, TIME_S_MAX, parse_date};

use crate::limits::IDENT_BYTES_MAX;
use bstr::{BString, ByteSlice};
use date::OFFSET_MINUTES_MAX;

/// Why a name, an address or a time cannot stand in a commit. The sentences are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// The name has nothing but what git trims.
    #[error("the name is empty")]
    EmptyName,
    /// The address has nothing but what git trims.
    #[error("the e-mail address is empty")]
    EmptyEmail,
    /// A control character (a line feed would start another header), `<` or `>`.
    #[error("the name has a control character, < or >")]
    NameForbidden,
    /// The same in the address.
    #[error("the e-mail address has a control character, < or >")]
    EmailForbidden,
    /// Longer than [`IDENT_BYTES_MAX`].
    #[error("the name or the e-mail address is longer than 1024 bytes")]
    TooLong,
    /// Before 1970 or after the year 9999.
    #[error("the time is before 1970 or after the year 9999")]
    Time,
    /// A day or more from UTC.
    #[error("the time zone is a day or more from UTC")]
    Offset,
}

/// Name, address, time and time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name; UTF-8 in what we write, any bytes in what we read.
    pub name: BString,
    /// The e-mail address, without angle brackets.
    pub email: BString,
    /// Seconds since 1970 (UTC).
    pub time_s: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

impl Signature {
    /// A signature to be written. Name and address are trimmed at both ends, as git does, of spaces and `,:;"\'`.
    pub fn new(name: &str, email: &str, time_s: i64, offset_minutes: i32) -> Result<Signature, IdentError> {
        // Before trimming: what could start another header is refused, also where trimming would hide it.
        check_bytes(name.as_bytes(), email.as_bytes())?;
        let (name, email) = (trimmed(name.as_bytes()).into(), trimmed(email.as_bytes()).into());
        let signature = Signature { name, email, time_s, offset_minutes };
        signature.check()?;
        Ok(signature)
    }

    /// Checks what a commit to be written needs.
    pub(crate) fn check(&self) -> Result<(), IdentError> {
        check_bytes(&self.name, &self.email)?;
        if trimmed(&self.name).is_empty() {
            return Err(IdentError::EmptyName);
        }
        if trimmed(&self.email).is_empty() {
            return Err(IdentError::EmptyEmail);
        }
        if self.name.len().max(self.email.len()) > IDENT_BYTES_MAX {
            return Err(IdentError::TooLong);
        }
        if !(0..=TIME_S_MAX).contains(&self.time_s) {
            return Err(IdentError::Time);
        }
        if self.offset_minutes.abs() > OFFSET_MINUTES_MAX {
            return Err(IdentError::Offset);
        }
        Ok(())
    }

    /// As it stands in an object: `Name <email> 1700000000 +0100`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name);
        out.extend_from_slice(b" <");
        out.extend_from_slice(&self.email);
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        let zone = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
        out.extend_from_slice(format!("> {} {zone}", self.time_s).as_bytes());
    }

    /// Reads what stands in an object, in history that nobody can change any more: whatever is malformed is left
    /// empty or zero, as git shows it. [`crate::fsck`] is the judge.
    pub(crate) fn read(line: &[u8]) -> Signature {
        let open = line.find_byte(b'<').unwrap_or(line.len());
        let name = line[..open].trim_ascii().into();
        let rest = line.get(open + 1..).unwrap_or_default();
        let email = rest[..rest.find_byte(b'>').unwrap_or(rest.len())].into();
        let after = rest.rfind_byte(b'>').map_or(&b""[..], |close| &rest[close + 1..]);
        let words = after.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut words = words.map(|word| word.to_str().unwrap_or_default());
        let time_s = words.next().and_then(|word| word.parse().ok()).filter(|&time_s| time_s >= 0).unwrap_or(0);
        let offset_minutes = words.next().and_then(read_offset).unwrap_or(0);
        Signature { name, email, time_s, offset_minutes }
    }
}

fn check_bytes(name: &[u8], email: &[u8]) -> Result<(), IdentError> {
    let is_forbidden = |&byte: &u8| byte.is_ascii_control() || b"<>".contains(&byte);
    if name.iter().any(is_forbidden) {
        return Err(IdentError::NameForbidden);
    }
    if email.iter().any(is_forbidden) { Err(IdentError::EmailForbidden) } else { Ok(()) }
}

/// `+0130` as minutes. Old commits have zones like `-7` or `+051800`, which git reads as a number all the same.
fn read_offset(zone: &str) -> Option<i32> {
    let number: i32 = zone.parse().ok()?;
    let minutes = (number / 100).checked_mul(60)? + number % 100;
    (minutes.abs() <= OFFSET_MINUTES_MAX).then_some(minutes)
}

/// Without git's "crud" at both ends; control characters, `<` and `>` have been refused.
fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_with(|character| " ,:;\"\\'".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stand_in_a_commit() {
        let refused = |name: &str, email: &str| Signature::new(name, email, 0, 0).err();
        for (name, email, expected) in [
            ("", "a@b", IdentError::EmptyName),
            (" ,;'", "a@b", IdentError::EmptyName),
            ("A", "", IdentError::EmptyEmail),
            ("A", "  ", IdentError::EmptyEmail),
            ("A\nparent 0", "a@b", IdentError::NameForbidden),
            ("A\0", "a@b", IdentError::NameForbidden),
            ("A <x>", "a@b", IdentError::NameForbidden),
            ("A\r", "a@b", IdentError::NameForbidden),
            ("A\rB", "a@b", IdentError::NameForbidden),
            ("A", "a@b> 0 +0000\n", IdentError::EmailForbidden),
            ("A", "<a@b", IdentError::EmailForbidden),
        ] {
            assert_eq!(refused(name, email), Some(expected), "{name:?} {email:?}");
        }
        assert_eq!(refused(&"x".repeat(1025), "a@b"), Some(IdentError::TooLong));
        assert_eq!(Signature::new("A", "a@b", -1, 0), Err(IdentError::Time));
        assert_eq!(Signature::new("A", "a@b", TIME_S_MAX + 1, 0), Err(IdentError::Time));
        assert_eq!(Signature::new("A", "a@b", 0, 24 * 60), Err(IdentError::Offset));
    }

    #[test]
    fn malformed_lines_are_read_as_far_as_they_go() {
        let read = |line: &str| {
            let signature = Signature::read(line.as_bytes());
            (signature.name.to_string(), signature.email.to_string(), signature.time_s, signature.offset_minutes)
        };
        let (a, e) = ("A".to_owned(), "a@b".to_owned());
        assert_eq!(read("A <a@b> 12 -0130"), (a.clone(), e.clone(), 12, -90));
        assert_eq!(read("A <a@b>12 +0100"), (a.clone(), e.clone(), 12, 60));
        assert_eq!(read("A <a@b> 12 +051800"), (a.clone(), e.clone(), 12, 0));
        assert_eq!(read("A <a@b> -12 +0100"), (a.clone(), e.clone(), 0, 60));
        assert_eq!(read("A <a@b>"), (a.clone(), e.clone(), 0, 0));
        assert_eq!(read("A <a@b"), (a, e, 0, 0));
        assert_eq!(read("99999999999999999999"), ("99999999999999999999".into(), "".into(), 0, 0));
        assert_eq!(read(""), ("".into(), "".into(), 0, 0));
    }
}
