//! Who brings an object, and what is remembered about one that is carried although it is odd.

/// By whose rules names and objects are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// An edit through the API. The strictest: what it adds must be safe on every platform.
    Write,
    /// A push into us. As strict as `git fsck --strict`.
    Push,
    /// An import of somebody else's history, whose ids must stay: bytes are kept verbatim or the import is refused.
    Import,
}

/// What is odd about an object that is carried all the same. A set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// Nothing is odd.
    pub const NONE: Flags = Flags(0);
    /// A name has a control character.
    pub const CONTROL_CHARACTER: Flags = Flags(1);
    /// Two names in one directory differ in nothing but case.
    pub const CASE_FOLD_DUPLICATE: Flags = Flags(1 << 1);
    /// Two names in one directory differ in nothing but Unicode normalisation.
    pub const NORMALIZATION_DUPLICATE: Flags = Flags(1 << 2);
    /// `.gitmodules` is no file, or holds what git refuses to act on.
    pub const GITMODULES: Flags = Flags(1 << 3);
    /// `.gitattributes` is no file, or has lines that git does not read.
    pub const GITATTRIBUTES: Flags = Flags(1 << 4);
    /// A tree entry has the null id or is the empty tree.
    pub const EMPTY_ENTRY: Flags = Flags(1 << 5);
    /// A tree entry's mode is one that git does not write (100664, or padded with zeros).
    pub const ODD_MODE: Flags = Flags(1 << 6);
    /// An author, committer or tagger line is malformed.
    pub const IDENT: Flags = Flags(1 << 7);
    /// A commit's message has a NUL byte.
    pub const NUL_IN_MESSAGE: Flags = Flags(1 << 8);

    const NAMES: [(Flags, &'static str); 9] = [
        (Flags::CONTROL_CHARACTER, "control_character"),
        (Flags::CASE_FOLD_DUPLICATE, "case_fold_duplicate"),
        (Flags::NORMALIZATION_DUPLICATE, "normalization_duplicate"),
        (Flags::GITMODULES, "gitmodules"),
        (Flags::GITATTRIBUTES, "gitattributes"),
        (Flags::EMPTY_ENTRY, "empty_entry"),
        (Flags::ODD_MODE, "odd_mode"),
        (Flags::IDENT, "ident"),
        (Flags::NUL_IN_MESSAGE, "nul_in_message"),
    ];

    /// Whether nothing is odd.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The stable names of the set flags.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    #[test]
    fn a_set_of_names() {
        let flags = Flags::IDENT | Flags::ODD_MODE;
        assert_eq!(flags.names().collect::<Vec<_>>(), ["odd_mode", "ident"]);
        assert!(flags.contains(Flags::IDENT) && !flags.contains(Flags::GITMODULES) && !flags.is_empty());
        assert_eq!(format!("{flags:?}"), r#"{"odd_mode", "ident"}"#);
    }
}
