//! Numbers and slices read from the bytes of a fuzzer, from the front; past the end they are zeros.

/// What is not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a>(pub &'a [u8]);

impl<'a> Source<'a> {
    /// The next bytes, as many as there are, at most `length`.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A number from 0 to below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// 16 bits.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// 64 bits.
    pub fn long(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    /// Any number of 64 bits, also those that are none.
    pub fn float(&mut self) -> f64 {
        f64::from_le_bytes(self.array())
    }

    /// A slice behind its length in a byte.
    pub fn slice(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }
}
