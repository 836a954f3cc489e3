//! What counting one piece needs besides the tables, kept from piece to piece.

use super::layout::{hash_pair, pair, TOKEN_BITS};

/// Reused memory. What is remembered from one piece to the next is true of the vocabulary, whatever the text.
#[derive(Clone, Default)]
pub struct Scratch {
    /// The tokens chosen so far.
    pub path: Vec<Step>,
    /// The places that lead nowhere.
    pub dead: Places,
    /// Which tokens may stand side by side.
    pub borders: Borders,
}

impl Scratch {
    /// Ready for another piece.
    pub fn start(&mut self) {
        self.path.clear();
        self.dead.clear();
    }
}

/// A token of a path.
#[derive(Clone, Copy)]
pub struct Step {
    pub token: u32,
    /// Its place in the piece.
    pub start: usize,
    /// No longer one starts there.
    pub longest: bool,
}

/// A set of places in a piece.
#[derive(Clone, Default)]
pub struct Places(Vec<u64>);

impl Places {
    fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a place.
    pub fn insert(&mut self, place: usize) {
        if self.0.len() <= place / 64 {
            self.0.resize(place / 64 + 1, 0);
        }
        self.0[place / 64] |= 1 << (place % 64);
    }

    /// True if the place was added.
    #[inline]
    pub fn contains(&self, place: usize) -> bool {
        self.0
            .get(place / 64)
            .is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }
}

/// Remembers of pairs of tokens whether they are compatible. The last pair of each place is kept, so that it needs no
/// cleaning and no search.
#[derive(Clone, Default)]
pub struct Borders(Vec<u64>);

impl Borders {
    /// A memory of that many pairs, a power of two; of none, everything is asked anew.
    pub fn new(pairs: usize) -> Self {
        Self(vec![0; pairs])
    }

    /// What was noted of the two, if nothing was since at their place.
    #[inline]
    pub fn known(&self, left: u32, right: u32) -> Option<bool> {
        let entry = self.0.get(self.place(left, right))?;
        (entry >> 1 == noted(left, right)).then_some(entry & 1 != 0)
    }

    /// Notes it.
    #[inline]
    pub fn note(&mut self, left: u32, right: u32, fits: bool) {
        let place = self.place(left, right);
        if let Some(entry) = self.0.get_mut(place) {
            *entry = noted(left, right) << 1 | u64::from(fits);
        }
    }

    #[allow(clippy::cast_possible_truncation)] // 32 bits
    fn place(&self, left: u32, right: u32) -> usize {
        (hash_pair(left, right) >> 32) as usize & self.0.len().wrapping_sub(1)
    }
}

/// Two tokens. It is never zero: the bit above them is set.
const fn noted(left: u32, right: u32) -> u64 {
    1 << (2 * TOKEN_BITS) | pair(left, right)
}
