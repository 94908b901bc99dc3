//! Small sets of small numbers.

use std::fmt;

/// A set of numbers below 16: objects, keys or commits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bits(u16);

impl Bits {
    /// The set of what is listed.
    pub const fn of(members: &[u8]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < members.len() {
            bits |= 1 << members[at];
            at += 1;
        }
        Self(bits)
    }

    /// Whether `member` is in it.
    pub fn has(self, member: u8) -> bool {
        self.0 & 1 << member != 0
    }

    /// Adds `member`.
    pub fn add(&mut self, member: u8) {
        self.0 |= 1 << member;
    }

    /// Takes `member` out.
    pub fn remove(&mut self, member: u8) {
        self.0 &= !(1 << member);
    }

    /// What is in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The members, smallest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u8> {
        (0..16).filter(move |member| self.has(*member))
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}
