//! Turns within a band, and chance.

use std::cmp::Ordering;

use crate::offer::Key;

/// Turns count in 2⁻¹⁶ of a token, so that dividing by a capacity loses nothing that matters.
const TURN_BITS: u32 = 16;

/// Where a candidate stands: best band first, in it the one whose turn it is, then the one served longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub band: i32,
    pub turn: u128,
    pub served: u64,
    pub key: Key,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .band
            .cmp(&self.band)
            .then(self.turn.cmp(&other.turn))
            .then(self.served.cmp(&other.served))
            .then(self.key.cmp(&other.key))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How far one request moves its provider back: work over capacity, at least one step.
///
/// Start-time fair queueing (Goyal, Vin and Cheng 1996): the start tag of a request is the later of its queue's last
/// finish tag and the virtual time; the finish tag lies `cost` behind; the virtual time is the start tag last served. Who
/// was away or in a lower band gathers no credit: it starts at the virtual time.
pub fn cost(work_tokens: i64, capacity: u32) -> u128 {
    let work = u128::from(u64::try_from(work_tokens).unwrap_or(0).max(1)) << TURN_BITS;
    (work / u128::from(capacity.max(1))).max(1)
}

/// `SplitMix64` (Steele, Lea and Flood 2014): every seed is good, and the stream is easy to repeat elsewhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, even to within 2⁻³² for the bounds used here; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        // The high half of a product of two u64 is a u64.
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

/// The offer with that key, if its band is the best one's or the next.
pub fn preferred(
    places: &[(Place, usize)],
    best: (Place, usize),
    key: Key,
) -> Option<(Place, usize)> {
    places
        .iter()
        .copied()
        .find(|(place, _)| place.key == key && place.band >= best.0.band.saturating_sub(1))
}
