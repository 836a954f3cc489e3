//! Powers of two and logarithmic steps from correctly rounded operations alone.
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

/// The steps of a score, of which a band spans four: the edges between them, by comparison instead of by logarithm.
#[derive(Clone, Debug)]
pub struct Steps {
    /// `edges[k] = (1 + ε / 3)^−k`, falling.
    edges: Vec<f64>,
}

impl Steps {
    /// The smallest score told apart; all below share the lowest step.
    pub const SCORE_MIN: f64 = 1e-6;

    /// The steps of bands of relative width `epsilon`, from 0.001 to 1. Four of them are at least as wide as that
    /// wherever in the first of them the best score lies, for `(1 + ε / 3)³ > 1 + ε`.
    #[must_use]
    pub fn new(epsilon: f64) -> Self {
        let ratio = 1.0 + epsilon / 3.0;
        let mut edges = Vec::new();
        let mut edge = 1.0;
        while edge > Self::SCORE_MIN {
            edges.push(edge);
            edge /= ratio;
        }
        Self { edges }
    }

    /// The step of a score in [0, 1]: 0 for a perfect score, higher is worse.
    #[must_use]
    pub fn of(&self, score: f64) -> u16 {
        self.near(score, 0)
    }

    /// The same, looked for from a step on that is probably not far.
    #[must_use]
    pub fn near(&self, score: f64, step: u16) -> u16 {
        let at = usize::from(step);
        let above = |index: usize| self.edges[index] > score;
        // The step is the number of edges above the score.
        let edges = self.edges.len();
        let is_same = at <= edges && (at == 0 || above(at - 1)) && (at == edges || !above(at));
        if is_same {
            return step;
        }
        let found = self.edges.partition_point(|&edge| edge > score);
        // At most 42 000, at a width of 0.001.
        u16::try_from(found).unwrap_or(u16::MAX - 1)
    }
}
