//! Bytes of a snapshot: numbers little-endian, floats by their bits, lists behind their length.

use crate::bounds::Invalid;
use crate::offer::Key;

/// Counts in a snapshot are below this, so that counting on never overflows.
const COUNT_MAX: u64 = 1 << 62;

pub fn broken(rule: &'static str) -> Invalid {
    Invalid {
        field: "snapshot",
        rule,
    }
}

pub fn whole(holds: bool) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(broken(
            "must be what Router.snapshot returned: a value in it breaks its rule",
        ))
    }
}

#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    pub fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }
    pub fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }
    pub fn u64(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }
    pub fn i64(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }
    pub fn u16(&mut self, number: u16) {
        self.bytes(&number.to_le_bytes());
    }
    pub fn f64(&mut self, number: f64) {
        self.u64(number.to_bits());
    }
    pub fn length(&mut self, length: usize) {
        self.u64(length as u64);
    }
    pub fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }
}

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(broken(
            "must be what Router.snapshot returned: it ends too early",
        ))?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    pub fn key(&mut self) -> Result<Key, Invalid> {
        self.array()
    }
    pub fn byte(&mut self) -> Result<u8, Invalid> {
        Ok(self.array::<1>()?[0])
    }
    pub fn flag(&mut self) -> Result<bool, Invalid> {
        let byte = self.byte()?;
        whole(byte <= 1)?;
        Ok(byte == 1)
    }
    pub fn u32(&mut self) -> Result<u32, Invalid> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub fn u64(&mut self) -> Result<u64, Invalid> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub fn i64(&mut self) -> Result<i64, Invalid> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    /// The step of a score.
    pub fn step(&mut self) -> Result<u16, Invalid> {
        let step = u16::from_le_bytes(self.array()?);
        whole(step < u16::MAX)?;
        Ok(step)
    }
    pub fn count(&mut self) -> Result<u64, Invalid> {
        let count = self.u64()?;
        whole(count < COUNT_MAX)?;
        Ok(count)
    }
    pub fn f64(&mut self) -> Result<f64, Invalid> {
        Ok(f64::from_bits(self.u64()?))
    }
    /// Finite and at least 0.
    pub fn amount(&mut self) -> Result<f64, Invalid> {
        let amount = self.f64()?;
        whole(amount.is_finite() && amount >= 0.0)?;
        Ok(amount)
    }
    /// The length of a list; each entry takes a byte at least.
    pub fn length(&mut self) -> Result<usize, Invalid> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        whole(length <= self.0.len())?;
        Ok(length)
    }
    pub fn text(&mut self) -> Result<&'a str, Invalid> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| broken("must hold text as UTF-8"))
    }
}
