//! Turns within a band, and chance.

use std::cmp::Ordering;

use crate::offer::Key;

/// Turns count in 2⁻¹⁶ of a token, so that dividing by a capacity loses nothing that matters.
const TURN_BITS: u32 = 16;
/// No request counts for more work than this, whatever it says: turns are sums of it in 64 bits, and saturate.
const WORK_MAX: i64 = 1 << 24;
/// The mean of a queue's late requests takes in 2⁻⁶ of each.
const MEAN_BITS: u32 = 6;

/// Whether an offer can take a request now, or the first reason why not, in the order in which the gates ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Closed,
    Away,
    Broken,
    Full,
}

/// Where an offer stands: by the step of its score, in it the one whose turn it is, then the one served longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// See [`crate::portable::Steps`]; that of an offer which is not ready is [`Place::NOWHERE`].
    pub step: u16,
    pub state: State,
    /// Hardly ever picked.
    pub fresh: bool,
    pub slot: u32,
    pub turn: u64,
    pub served: u64,
    /// The key as numbers, so that it compares like the bytes.
    pub key: Number,
}

/// A key as two numbers, the first half first.
pub type Number = [u64; 2];

impl Place {
    /// Behind every step.
    pub const NOWHERE: u16 = u16::MAX;

    /// Behind every offer.
    pub const LAST: Self = Self {
        step: Self::NOWHERE,
        state: State::Closed,
        fresh: false,
        slot: u32::MAX,
        turn: u64::MAX,
        served: u64::MAX,
        key: [u64::MAX; 2],
    };

    #[inline]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether it comes before another one of its band.
    #[inline]
    pub fn is_before(&self, other: &Self) -> bool {
        if self.turn != other.turn {
            return self.turn < other.turn;
        }
        (self.served, self.key) < (other.served, other.key)
    }

    pub fn number(key: &Key) -> Number {
        let whole = u128::from_be_bytes(*key);
        // The halves of 128 bits.
        #[allow(clippy::cast_possible_truncation)]
        let halves = [(whole >> 64) as u64, whole as u64];
        halves
    }
}

impl Ord for Place {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (self.step, self.turn, self.served, self.key).cmp(&(
            other.step,
            other.turn,
            other.served,
            other.key,
        ))
    }
}

impl PartialOrd for Place {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    // By hand: places are searched by this one comparison, most often by the first half of it.
    #[inline]
    fn lt(&self, other: &Self) -> bool {
        if self.step == other.step {
            self.is_before(other)
        } else {
            self.step < other.step
        }
    }
}

/// The queue of one model: of the market, or of one network's own requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its virtual time.
    pub turn: u64,
    /// The mean work of its late requests, in turns of one slot; 0 before the first.
    pub mean: u64,
    /// Picks since a newcomer got one, of those that a newcomer could have had.
    pub waited: u32,
}

impl Queue {
    /// How far a request moves its provider back: work over capacity, at least one step, and no more than `times_max`
    /// times the mean work of the queue's late requests, so that nobody waits for long because of one that was huge.
    ///
    /// Start-time fair queueing (Goyal, Vin and Cheng 1996): the start tag of a request is the later of its provider's
    /// last finish tag and the virtual time; the finish tag lies the cost behind; the virtual time is the start tag last
    /// served. Who was away or in a lower band gathers no credit: it starts at the virtual time.
    ///
    /// The mean is exponential, over the costs so capped: one huge request lifts it by `times_max` / 64 at most.
    pub fn cost(&mut self, work_tokens: i64, capacity: u32, times_max: u32) -> u64 {
        // From 1 to 2²⁴.
        let work = work_tokens.clamp(1, WORK_MAX).unsigned_abs() << TURN_BITS;
        let capped = if self.mean == 0 {
            self.mean = work;
            work
        } else {
            work.min(self.mean.saturating_mul(u64::from(times_max)))
        };
        self.mean = self.mean - (self.mean >> MEAN_BITS) + (capped >> MEAN_BITS);
        (capped / u64::from(capacity.max(1))).max(1)
    }
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
