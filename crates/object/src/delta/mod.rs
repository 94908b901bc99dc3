//! Deltas: an object as copies from a base and new bytes (`gitformat-pack`, "Deltified representation").

mod encode;

pub use encode::{Index, create};

/// What is wrong with a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It ends inside its head or inside an instruction.
    #[error("the delta is cut off")]
    Truncated,
    /// Its head names a size of more than 64 bits.
    #[error("the delta's head has a size that overflows")]
    SizeOverflow,
    /// It was made for a base of another size.
    #[error("the delta is for a base of {declared} bytes, not {actual}")]
    BaseSize {
        /// The size in the delta's head.
        declared: u64,
        /// The size of the base given.
        actual: u64,
    },
    /// It makes an object larger than allowed.
    #[error("the delta makes {declared} bytes, more than {limit}")]
    TooLarge {
        /// The size in the delta's head.
        declared: u64,
        /// The size allowed.
        limit: u64,
    },
    /// It copies from outside of the base.
    #[error("the delta copies from outside of its base")]
    CopyRange,
    /// Its instructions make another size than its head says.
    #[error("the delta makes {made} bytes, not the {declared} of its head")]
    TargetSize {
        /// The size in the delta's head.
        declared: u64,
        /// What the instructions add up to.
        made: u64,
    },
    /// The instruction 0, which is reserved.
    #[error("the delta has the reserved instruction 0")]
    Reserved,
}

/// The sizes in a delta's head: of the base and of the target, and how many bytes the head has.
pub fn sizes(delta: &[u8]) -> Result<(u64, u64, usize), DeltaError> {
    let mut at = 0;
    let base = size(delta, &mut at)?;
    let target = size(delta, &mut at)?;
    Ok((base, target, at))
}

/// Seven bits a byte, least significant first.
fn size(delta: &[u8], at: &mut usize) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for shift in (0..).step_by(7) {
        let byte = *delta.get(*at).ok_or(DeltaError::Truncated)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift > 63 || (bits << shift) >> shift != bits {
            return Err(DeltaError::SizeOverflow);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// One instruction.
enum Op<'a> {
    Copy { offset: u64, len: u64 },
    Insert(&'a [u8]),
}

/// The instructions after the head.
struct Ops<'a>(&'a [u8]);

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, DeltaError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&code, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match code {
            0 => Err(DeltaError::Reserved),
            1..=127 => self.take(usize::from(code)).map(Op::Insert),
            128.. => self.copy(code),
        })
    }
}

impl<'a> Ops<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DeltaError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bits 0–3 say which bytes of the offset follow, bits 4–6 which of the length; a length of 0 means 64 KiB.
    fn copy(&mut self, code: u8) -> Result<Op<'a>, DeltaError> {
        let mut value = 0u64;
        for bit in 0..7 {
            if code & (1 << bit) != 0 {
                value |= u64::from(self.take(1)?[0]) << (8 * bit);
            }
        }
        let (offset, len) = (value & 0xffff_ffff, value >> 32);
        Ok(Op::Copy { offset, len: if len == 0 { 0x1_0000 } else { len } })
    }
}

/// The object that `delta` makes of `base`, at most `target_len_max` bytes.
///
/// All sizes and ranges are checked before any memory is taken.
pub fn apply(base: &[u8], delta: &[u8], target_len_max: u64) -> Result<Vec<u8>, DeltaError> {
    let (base_len, target_len, head_len) = sizes(delta)?;
    if base_len != base.len() as u64 {
        return Err(DeltaError::BaseSize { declared: base_len, actual: base.len() as u64 });
    }
    if target_len > target_len_max {
        return Err(DeltaError::TooLarge { declared: target_len, limit: target_len_max });
    }
    let ops = Ops(&delta[head_len..]);
    let mut made = 0u64;
    for op in Ops(ops.0) {
        made += match op? {
            Op::Copy { offset, len } if offset + len > base_len => return Err(DeltaError::CopyRange),
            Op::Copy { len, .. } => len,
            Op::Insert(bytes) => bytes.len() as u64,
        };
        if made > target_len {
            break;
        }
    }
    if made != target_len {
        return Err(DeltaError::TargetSize { declared: target_len, made });
    }
    let mut target = Vec::with_capacity(made as usize);
    for op in ops {
        match op? {
            Op::Copy { offset, len } => target.extend_from_slice(&base[offset as usize..(offset + len) as usize]),
            Op::Insert(bytes) => target.extend_from_slice(bytes),
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damage_is_refused() {
        let base = b"0123456789";
        assert_eq!(apply(base, &[10, 3, 0x91, 2, 3], 100).unwrap(), b"234");
        assert_eq!(apply(base, &[10, 5, 0x91, 2, 3, 2, b'x', b'y'], 100).unwrap(), b"234xy");
        assert_eq!(apply(base, &[10, 0], 0).unwrap(), b"");
        assert_eq!(apply(base, &[9, 3, 0x91, 2, 3], 100), Err(DeltaError::BaseSize { declared: 9, actual: 10 }));
        assert_eq!(apply(base, &[10, 3, 0x91, 2, 3], 2), Err(DeltaError::TooLarge { declared: 3, limit: 2 }));
        assert_eq!(apply(base, &[10, 3, 0x91, 8, 3], 100), Err(DeltaError::CopyRange));
        assert_eq!(apply(base, &[10, 4, 0x91, 2, 3], 100), Err(DeltaError::TargetSize { declared: 4, made: 3 }));
        assert_eq!(apply(base, &[10, 2, 0x91, 2, 3], 100), Err(DeltaError::TargetSize { declared: 2, made: 3 }));
        assert_eq!(apply(base, &[10, 3, 0], 100), Err(DeltaError::Reserved));
        assert_eq!(apply(base, &[10, 3, 3, b'x'], 100), Err(DeltaError::Truncated));
        assert_eq!(apply(base, &[10, 3, 0x91, 2], 100), Err(DeltaError::Truncated));
        assert_eq!(apply(base, &[10], 100), Err(DeltaError::Truncated));
        assert_eq!(sizes(&[0xff; 12]), Err(DeltaError::SizeOverflow));
        assert_eq!(sizes(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]), Ok((u64::MAX, 0, 11)));
        // A length of 0 stands for 64 KiB.
        assert_eq!(apply(&[7; 0x1_0000], &[0x80, 0x80, 4, 0x80, 0x80, 4, 0x80], 1 << 20).unwrap(), [7; 0x1_0000]);
    }

    #[test]
    fn a_declared_size_takes_no_memory() {
        let mut delta = vec![10];
        delta.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(apply(b"0123456789", &delta, u64::MAX), Err(DeltaError::TargetSize { made: 0, .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(base in prop::collection::vec(any::<u8>(), 0..40), delta in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = apply(&base, &delta, 1 << 20);
            // The same with a head that fits, so that the instructions are reached.
            let mut fitting = vec![base.len() as u8, 20];
            fitting.extend_from_slice(&delta);
            if let Ok(target) = apply(&base, &fitting, 1 << 20) {
                prop_assert_eq!(target.len(), 20);
            }
        }
    }
}
