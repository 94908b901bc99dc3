//! How an input is taken apart.

/// The rest of an input. What is not there reads as zero or empty.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Two bytes, most significant first.
    pub fn short(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to 65,535 bytes behind their length.
    pub fn block(&mut self) -> &'a [u8] {
        let len = self.short();
        self.bytes(len)
    }
}

/// `bytes` in portions whose sizes come from `bytes` themselves: each input has its own, always the same.
pub(crate) fn portions(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut seed = bytes.iter().fold(bytes.len() as u32, |seed, byte| seed.rotate_left(5) ^ u32::from(*byte)) | 1;
    let mut rest = Input(bytes);
    std::iter::from_fn(move || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        let len = if seed & 0x30 == 0 { seed as usize % 5000 } else { seed as usize % 7 };
        Some(rest.bytes(len + 1)).filter(|portion| !portion.is_empty())
    })
}
