//! From what was seen to what may be relied on.

use crate::aggregate::{Aggregate, HalfLife};
use crate::bounds::{ensure, Invalid};
use crate::settings::Metric;

/// What is believed of a provider before anything is seen, worth `weight` observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// The mean expected of a newcomer.
    pub mean: f64,
    /// How many observations it takes to outweigh it.
    pub weight: f64,
}

impl Prior {
    /// # Errors
    /// [`Invalid`] unless the mean is one that can be observed, and the weight such that no estimate overflows.
    pub fn check(self, metric: Metric) -> Result<(), Invalid> {
        let field = match metric {
            Metric::Success => "success_prior",
            Metric::Quality => "quality_prior",
            Metric::LatencyMs => "latency_ms_prior",
            Metric::Throughput => "throughput_prior",
        };
        let rule = if metric.is_share() {
            "must have a mean from 0 to 1"
        } else {
            "must have a mean from 0 to 1e12"
        };
        ensure((0.0..=metric.most()).contains(&self.mean), field, rule)?;
        ensure(
            (1e-9..=1e9).contains(&self.weight),
            field,
            "must have a weight from 1e-9 to 1e9",
        )
    }
}

/// A metric of a provider at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Decayed mean of the observations, drawn towards the prior.
    pub mean: f64,
    /// Decayed weight of the observations, without the prior.
    pub weight: f64,
    /// Decayed variance of the observations.
    pub variance: f64,
    /// The mean is above this with the confidence of `z`.
    pub lower_bound: f64,
    /// The mean is below this with the same confidence.
    pub upper_bound: f64,
}

impl Estimate {
    /// Of a share in [0, 1].
    ///
    /// The beta reputation with forgetting (Jøsang and Ismail, "The Beta Reputation System", 2002): with `W` the decayed
    /// weight, `x̄` the decayed mean, and a prior of mean `m₀` and weight `n₀`,
    /// `α = n₀·m₀ + W·x̄`, `β = n₀·(1 − m₀) + W·(1 − x̄)`, `m = α / (α + β)`,
    /// `bound = m ∓ z·√(m·(1 − m) / (α + β + 1))`, cut to [0, 1]: the normal bound of the beta posterior. Values between
    /// 0 and 1 count as parts of a success; no distribution on [0, 1] has a larger variance than that, so the bound is
    /// on the safe side.
    #[must_use]
    pub fn of_share(
        aggregate: &Aggregate,
        at_ms: i64,
        half_life: HalfLife,
        prior: Prior,
        z: f64,
    ) -> Self {
        let weight = aggregate.weight_at(at_ms, half_life);
        let total = prior.weight + weight;
        let mean =
            ((prior.weight * prior.mean + weight * aggregate.mean()) / total).clamp(0.0, 1.0);
        let margin = z * (mean * (1.0 - mean) / (total + 1.0)).sqrt();
        Self {
            mean,
            weight,
            variance: aggregate.variance(),
            lower_bound: (mean - margin).max(0.0),
            upper_bound: (mean + margin).min(1.0),
        }
    }

    /// Of an amount that is at least 0.
    ///
    /// The mean is drawn towards the prior as above. The standard error takes the prior as `n₀` observations with a
    /// standard deviation of `m₀` (that of an exponential distribution, the widest of that mean that is commonly met):
    /// `s² = (n₀·m₀² + W·variance) / (n₀ + W)`, `bound = m ∓ z·√(s² / (n₀ + W))`, the lower one cut at 0.
    #[must_use]
    pub fn of_amount(
        aggregate: &Aggregate,
        at_ms: i64,
        half_life: HalfLife,
        prior: Prior,
        z: f64,
    ) -> Self {
        let weight = aggregate.weight_at(at_ms, half_life);
        let total = prior.weight + weight;
        let mean = (prior.weight * prior.mean + weight * aggregate.mean()) / total;
        let variance = aggregate.variance();
        let spread = (prior.weight * prior.mean * prior.mean + weight * variance) / total;
        let margin = z * (spread / total).sqrt();
        Self {
            mean,
            weight,
            variance,
            lower_bound: (mean - margin).max(0.0),
            upper_bound: mean + margin,
        }
    }
}
