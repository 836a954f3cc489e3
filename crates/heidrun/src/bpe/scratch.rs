//! What counting one piece needs besides the tables, kept from piece to piece.

/// Reused memory; holds nothing from one piece to the next.
#[derive(Clone, Default)]
pub struct Scratch {
    /// The tokens chosen so far, and where each starts.
    pub path: Vec<(u32, usize)>,
    /// Tokens that start at one place, and their lengths.
    pub matches: Vec<(u32, usize)>,
    /// The places that lead nowhere.
    pub dead: Places,
}

impl Scratch {
    /// Ready for another piece.
    pub fn start(&mut self) {
        self.path.clear();
        self.dead.clear();
    }
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
