//! The weights of the five parts, as a router is made with.

use crate::bounds::{ensure, Invalid};
use crate::score::{Parts, WEIGHTS};

/// The fields of errors, in the order of [`WEIGHTS`].
const FIELDS: [&str; 5] = [
    "weights.price",
    "weights.quality",
    "weights.latency",
    "weights.availability",
    "weights.fairness",
];

/// The weights of price, quality, latency, availability and fairness; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights([f64; 5]);

impl Default for Weights {
    fn default() -> Self {
        Self(WEIGHTS)
    }
}

impl Weights {
    /// Five weights in any unit: they are divided by their sum.
    ///
    /// # Errors
    /// [`Invalid`] naming the first that is negative or not finite, or `weights` if their sum is 0 or too large.
    pub fn new(given: [f64; 5]) -> Result<Self, Invalid> {
        for (field, weight) in FIELDS.into_iter().zip(given) {
            ensure(
                weight.is_finite() && weight >= 0.0,
                field,
                "must be finite and at least 0",
            )?;
        }
        let sum: f64 = given.iter().sum();
        ensure(
            sum > 0.0,
            "weights",
            "must not all be 0: at least one must be above 0",
        )?;
        ensure(sum.is_finite(), "weights", "must have a finite sum")?;
        Ok(Self(given.map(|weight| weight / sum)))
    }

    /// As a snapshot holds them: to the last bit.
    pub(crate) fn as_written(weights: [f64; 5]) -> Option<Self> {
        let sum: f64 = weights.iter().sum();
        let fits = weights.iter().all(|weight| (0.0..=1.0).contains(weight));
        (fits && (sum - 1.0).abs() < 1e-9).then_some(Self(weights))
    }

    /// In the order of [`WEIGHTS`].
    #[must_use]
    pub fn in_order(&self) -> [f64; 5] {
        self.0
    }

    /// The weighted sum of the parts, added in the order of [`WEIGHTS`]; in [0, 1].
    #[must_use]
    pub fn total(&self, parts: &Parts) -> f64 {
        let [price, quality, latency, availability, fairness] = self.0;
        price * parts.price
            + quality * parts.quality
            + latency * parts.latency
            + availability * parts.availability
            + fairness * parts.fairness
    }

    /// The part that costs `mine` the most against `best`, the first if several do.
    #[inline]
    pub(crate) fn most_behind(&self, mine: &[f64; 5], best: &[f64; 5]) -> usize {
        let (mut most, mut worst) = (0, self.0[0] * (best[0] - mine[0]));
        for part in 1..self.0.len() {
            let behind = self.0[part] * (best[part] - mine[part]);
            if behind > worst {
                (most, worst) = (part, behind);
            }
        }
        most
    }
}
