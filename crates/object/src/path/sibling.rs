//! Names that cannot be beside each other on every file system.

use bstr::{BStr, ByteSlice};
use unicode_normalization::UnicodeNormalization;

/// A sibling that is in the way of a new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash<'a> {
    /// They differ in nothing but case (and perhaps normalisation).
    CaseFold(&'a BStr),
    /// They differ in nothing but Unicode normalisation.
    Normalization(&'a BStr),
}

impl<'a> Clash<'a> {
    /// The sibling's name.
    pub fn sibling(&self) -> &'a BStr {
        match self {
            Clash::CaseFold(sibling) | Clash::Normalization(sibling) => sibling,
        }
    }
}

/// The first of the `siblings`' names that `new` cannot be beside; their [`fold`] is that of `new`. `new` itself among them is no clash.
pub fn sibling_conflict<'a>(new: &[u8], siblings: impl IntoIterator<Item = &'a [u8]>) -> Option<Clash<'a>> {
    let folded = fold(new);
    let normal = normal(new);
    siblings.into_iter().filter(|&sibling| sibling != new).find_map(|sibling| {
        if new.is_ascii() && sibling.is_ascii() {
            return new.eq_ignore_ascii_case(sibling).then(|| Clash::CaseFold(sibling.as_bstr()));
        }
        if self::normal(sibling) == normal {
            return Some(Clash::Normalization(sibling.as_bstr()));
        }
        (fold(sibling) == folded).then(|| Clash::CaseFold(sibling.as_bstr()))
    })
}

/// A form that is equal for names which a case-insensitive file system may take for one. It folds more than any one
/// of them: through upper case, so that `ß` is `SS`, and through both normal forms. Bytes that are not UTF-8 fold in ASCII.
pub fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => {
            let upper: String = text.nfd().flat_map(char::to_uppercase).collect();
            upper.to_lowercase().nfc().collect::<String>().into_bytes()
        }
        _ => name.to_ascii_lowercase(),
    }
}

/// The name in normal form C, or as it is where it is not UTF-8.
pub(crate) fn normal(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => text.nfc().collect::<String>().into_bytes(),
        _ => name.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_file_system_takes_for_one() {
        let clash = |new: &str, sibling: &'static str| sibling_conflict(new.as_bytes(), [sibling.as_bytes()]);
        for (new, sibling) in [
            ("README", "readme"),
            ("É", "é"),
            ("É", "e\u{301}"),
            ("straße", "STRASSE"),
            ("\u{212a}", "k"), // Kelvin sign
            ("\u{17f}", "S"),  // long s
            ("ΣΑΣ", "σας"),
        ] {
            assert_eq!(clash(new, sibling), Some(Clash::CaseFold(sibling.into())), "{new} {sibling}");
        }
        for (new, sibling) in [("é", "e\u{301}"), ("e\u{301}", "é"), ("\u{212b}", "Å"), ("가", "\u{1100}\u{1161}")]
        {
            assert_eq!(clash(new, sibling), Some(Clash::Normalization(sibling.into())), "{new} {sibling}");
        }
        for (new, sibling) in [("a", "a"), ("a", "b"), ("é", "e"), ("ﬁ", "if"), ("", "a")] {
            assert_eq!(clash(new, sibling), None, "{new} {sibling}");
        }
        assert_eq!(sibling_conflict(b"\xffA", [&b"\xffa"[..]]), Some(Clash::CaseFold(b"\xffa".as_bstr())));
        assert_eq!(sibling_conflict(b"\xff", [&b"\xfe"[..]]), None);
    }
}
