//! Powers of two and logarithmic bands from correctly rounded operations alone.
//!
//! `exp2` and `log` of the platform's mathematics library differ in the last bit between platforms; one bit can move a
//! score over the edge of a band and change who is picked. A replay must not.

/// Below this the decay is 0: 2⁻¹⁰⁷⁵ rounds to 0 in `f64`.
const HALVINGS_MAX: u64 = 1_075;
/// Binary digits of the fraction that are used; 2⁻⁵² is the resolution of `f64` near 1.
const FRACTION_DIGITS: u32 = 52;

/// `2^(−elapsed / half_life)`, for a half-life above 0.
///
/// The whole halvings are exact divisions; the fraction is a product over its binary digits of `2^(−2^−k)`, which is the
/// k-th repeated square root of ½. Relative error below 10⁻¹⁴.
#[must_use]
pub fn decay(elapsed: u64, half_life: u64) -> f64 {
    let half_life = half_life.max(1);
    let halvings = elapsed / half_life;
    if halvings > HALVINGS_MAX {
        return 0.0;
    }
    let mut rest = u128::from(elapsed % half_life);
    let mut root: f64 = 0.5;
    let mut factor: f64 = 1.0;
    for _ in 0..FRACTION_DIGITS {
        if rest == 0 {
            break;
        }
        root = root.sqrt();
        rest *= 2;
        if rest >= u128::from(half_life) {
            rest -= u128::from(half_life);
            factor *= root;
        }
    }
    for _ in 0..halvings {
        factor *= 0.5;
    }
    factor
}

/// The edges between bands: `⌊log score / log(1 + ε)⌋` by comparison instead of by logarithm.
#[derive(Clone, Debug)]
pub struct Bands {
    /// `edges[k] = (1 + ε)^−k`, falling.
    edges: Vec<f64>,
}

impl Bands {
    /// The smallest score told apart; all below share the lowest band.
    pub const SCORE_MIN: f64 = 1e-6;

    /// The bands of relative width `epsilon`, which must be above 0.
    #[must_use]
    pub fn new(epsilon: f64) -> Self {
        let mut edges = Vec::new();
        let mut edge = 1.0;
        while edge > Self::SCORE_MIN {
            edges.push(edge);
            edge /= 1.0 + epsilon;
        }
        Self { edges }
    }

    /// The band of a score in [0, 1]: 0 for a perfect score, lower is worse.
    #[must_use]
    pub fn of(&self, score: f64) -> i32 {
        let above = self.edges.partition_point(|&edge| edge > score);
        -i32::try_from(above).unwrap_or(i32::MAX)
    }
}
