//! Chance from a seed, and bytes changed by it: what `cargo test` does where no coverage guides.

/// Numbers in an order that the seed fixes (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Drawn(pub u64);

/// Numbers at which parsers err.
const EDGES: [i64; 12] = [
    0,
    1,
    -1,
    127,
    128,
    255,
    65_535,
    65_536,
    i32::MAX as i64,
    u32::MAX as i64,
    i64::MAX,
    i64::MIN,
];

impl Drawn {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// From 0 to below `end`, or 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % (end as u64).max(1)).unwrap_or(0)
    }

    /// One of the pool, changed in one to eight ways, at most `length_max` long.
    pub fn changed(&mut self, pool: &[Vec<u8>], length_max: usize) -> Vec<u8> {
        let mut bytes = pool[self.below(pool.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, pool);
        }
        bytes.truncate(length_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(9);
        let to = bytes.len().min(at + length);
        match self.below(10) {
            0 => bytes.truncate(at),
            1 => {
                bytes.drain(at..to);
            }
            2 => {
                let new: Vec<u8> = (0..length).map(|_| self.bits().to_le_bytes()[0]).collect();
                bytes.splice(at..at, new);
            }
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                // A part of another one.
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let until = other.len().min(from + self.below(64));
                let end = bytes.len().min(at + self.below(64));
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            5 | 6 => {
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            7 => {
                for byte in &mut bytes[at..to] {
                    *byte = self.bits().to_le_bytes()[0];
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }
}
