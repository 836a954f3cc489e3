//! Turns within a band, and chance.

use std::cmp::Ordering;

use crate::offer::Key;

/// Turns count in 2⁻¹⁶ of a token, so that dividing by a capacity loses nothing that matters.
const TURN_BITS: u32 = 16;
/// The bits of [`Place::order`] that hold the turn; those above hold the band.
const ORDER_TURN_BITS: u32 = 112;
const ORDER_TURN_MAX: u128 = (1 << ORDER_TURN_BITS) - 1;

/// Whether an offer can take a request now, or the first reason why not, in the order in which the gates ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Closed,
    Away,
    Broken,
    Full,
}

/// Where an offer stands: best band first, in it the one whose turn it is, then the one served longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The band above the turn, both so that less is better. An offer that is not ready stands last.
    pub order: u128,
    /// The key as a number, so that it compares like the bytes.
    pub key: u128,
    pub served: u64,
    pub slot: u32,
    pub state: State,
    /// Hardly ever picked.
    pub fresh: bool,
}

impl Place {
    /// Behind every offer.
    pub const LAST: Self = Self {
        order: u128::MAX,
        key: u128::MAX,
        served: u64::MAX,
        slot: u32::MAX,
        state: State::Closed,
        fresh: false,
    };

    /// `band` is at most 0; a turn that the virtual time has reached counts as reached now.
    #[inline]
    pub fn order(state: State, band: i32, turn: u128, virtual_time: u128) -> u128 {
        if state != State::Ready {
            return u128::MAX;
        }
        let turn = if turn <= virtual_time { 0 } else { turn };
        (u128::from(band.unsigned_abs()) << ORDER_TURN_BITS) | turn.min(ORDER_TURN_MAX)
    }

    #[inline]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The key of `order`.
    pub fn number(key: &Key) -> u128 {
        u128::from_be_bytes(*key)
    }
}

impl Ord for Place {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.order
            .cmp(&other.order)
            .then(self.served.cmp(&other.served))
            .then(self.key.cmp(&other.key))
    }
}

impl PartialOrd for Place {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    // By hand: the winner is found by this one comparison, most often by the first half of it.
    #[inline]
    fn lt(&self, other: &Self) -> bool {
        self.order < other.order || (self.order == other.order && self.cmp(other) == Ordering::Less)
    }
}

/// The queue of one model: of the market, or of one network's own requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its virtual time.
    pub turn: u128,
    /// Picks since a newcomer got one, of those that a newcomer could have had.
    pub waited: u32,
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

/// What the seed of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    Best,
    /// The n-th of those that passed.
    Any(u64),
    /// The n-th of the newcomers that passed.
    Newcomer(u64),
}

/// How a request is drawn: `feasible` offers passed, `newcomers` of them hardly ever picked.
#[derive(Clone, Copy, Debug)]
pub struct Lottery {
    pub explore_ppm: u32,
    pub newcomer_ppm: u32,
    pub feasible: u64,
    pub newcomers: u64,
    pub waited: u32,
}

impl Lottery {
    /// A newcomer that chance passed over in twice as many picks as it takes on average gets the next one.
    fn is_due(&self) -> bool {
        self.newcomer_ppm > 0 && u64::from(self.waited) * u64::from(self.newcomer_ppm) >= 2_000_000
    }

    pub fn draw(&self, seed: u64) -> Draw {
        let mut chance = Chance::new(seed);
        let explored = chance.below(1_000_000) < u64::from(self.explore_ppm);
        let any = chance.below(self.feasible);
        if self.newcomers > 0
            && (chance.below(1_000_000) < u64::from(self.newcomer_ppm) || self.is_due())
        {
            Draw::Newcomer(chance.below(self.newcomers))
        } else if explored {
            Draw::Any(any)
        } else {
            Draw::Best
        }
    }

    /// The probability of a pick over all seeds: the best one's by order and by chance, any other's by chance, a
    /// newcomer's by its own chance besides.
    pub fn propensity(&self, is_best: bool, is_new: bool) -> f64 {
        let explore = f64::from(self.explore_ppm) / 1_000_000.0;
        let first = if self.newcomers == 0 {
            0.0
        } else if self.is_due() {
            1.0
        } else {
            f64::from(self.newcomer_ppm) / 1_000_000.0
        };
        // At most 2³² offers.
        #[allow(clippy::cast_precision_loss)]
        let (by_chance, by_newness) = (
            explore / self.feasible as f64,
            first / self.newcomers.max(1) as f64,
        );
        let by_order = if is_best { 1.0 - explore } else { 0.0 };
        (1.0 - first) * (by_order + by_chance) + if is_new { by_newness } else { 0.0 }
    }
}
