//! When a caller is told at once.

use crate::bounds::{ensure, Invalid};
use crate::settings::Metric;

/// How far a mean must have moved from what the caller was last told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Notice {
    /// Of a share: the difference, either way.
    pub share: f64,
    /// Of an amount: the quotient of the larger and the smaller.
    pub ratio: f64,
}

impl Notice {
    /// # Errors
    /// [`Invalid`] naming the threshold that breaks its rule.
    pub fn checked(self) -> Result<(), Invalid> {
        ensure(
            self.share > 0.0 && self.share <= 1.0,
            "notice_share",
            "must be above 0 and at most 1",
        )?;
        ensure(
            self.ratio > 1.0 && self.ratio.is_finite(),
            "notice_ratio",
            "must be finite and above 1",
        )
    }

    /// Whether `after` is far enough from `before` to be told.
    #[must_use]
    pub fn tells(self, metric: Metric, before: f64, after: f64) -> bool {
        if metric.is_share() {
            (after - before).abs() >= self.share
        } else {
            before.max(after) >= self.ratio * before.min(after) && before.max(after) > 0.0
        }
    }
}

/// A mean that moved far.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The provider's key.
    pub provider: Box<[u8]>,
    /// Of which the mean is.
    pub metric: Metric,
    /// What was last told; the prior's mean if nothing was.
    pub before: f64,
    /// The mean now, drawn towards the prior.
    pub after: f64,
}
