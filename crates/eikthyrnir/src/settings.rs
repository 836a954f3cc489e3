//! What is observed, and the constants of a registry.

use crate::aggregate::HalfLife;
use crate::bounds::{ensure, Invalid, PROVIDERS_MAX};
use crate::change::Notice;
use crate::estimate::Prior;

/// What is observed of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// A request ended well (1) or not (0): its mean is the availability.
    Success,
    /// How good an answer was, 0 to 1.
    Quality,
    /// Time to the first chunk.
    LatencyMs,
    /// Tokens in a second.
    Throughput,
}

impl Metric {
    /// All of them, in the order in which they are kept.
    pub const ALL: [Self; 4] = [
        Self::Success,
        Self::Quality,
        Self::LatencyMs,
        Self::Throughput,
    ];

    /// The public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Quality => "quality",
            Self::LatencyMs => "latency_ms",
            Self::Throughput => "throughput",
        }
    }

    /// The metric of that name.
    ///
    /// # Errors
    /// [`Invalid`] for any other name.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or(Invalid {
                field: "metric",
                rule: "must be success, quality, latency_ms or throughput",
            })
    }

    /// The largest value.
    #[must_use]
    pub(crate) const fn most(self) -> f64 {
        if self.is_share() {
            1.0
        } else {
            1e12
        }
    }

    /// Whether it is from 0 to 1.
    #[must_use]
    pub const fn is_share(self) -> bool {
        matches!(self, Self::Success | Self::Quality)
    }
}

/// The constants of a [`Quality`] registry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long until an observation counts half.
    pub half_life_ms: i64,
    /// How many standard errors the bounds lie from the mean.
    pub z: f64,
    /// For each of [`Metric::ALL`].
    pub priors: [Prior; 4],
    /// The most providers kept.
    pub providers_max: usize,
    /// Whether latency and throughput also keep how they are spread.
    pub quantiles: bool,
    /// What a change must come to before the caller is told; none: the caller is never told.
    pub notice: Option<Notice>,
    /// The most weight that one rater has at one provider, at any time.
    pub rater_weight_max: f64,
    /// The most (provider, metric, rater) kept.
    pub raters_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let even = Prior {
            mean: 0.5,
            weight: 2.0,
        };
        Self {
            half_life_ms: 86_400_000,
            z: 1.0,
            priors: [
                even,
                even,
                Prior {
                    mean: 1_000.0,
                    weight: 1.0,
                },
                Prior {
                    mean: 20.0,
                    weight: 1.0,
                },
            ],
            providers_max: 1_000_000,
            quantiles: false,
            notice: None,
            rater_weight_max: 3.0,
            raters_max: 1_000_000,
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Invalid`] naming the setting that breaks its rule.
    pub fn checked(self) -> Result<(Self, HalfLife), Invalid> {
        let half_life = HalfLife::from_ms(self.half_life_ms)?;
        ensure((0.0..=10.0).contains(&self.z), "z", "must be from 0 to 10")?;
        for (metric, prior) in Metric::ALL.into_iter().zip(self.priors) {
            prior.check(metric)?;
        }
        ensure(
            (1..=PROVIDERS_MAX).contains(&self.providers_max),
            "providers_max",
            "must be from 1 to 100000000",
        )?;
        if let Some(notice) = self.notice {
            notice.checked()?;
        }
        ensure(
            self.rater_weight_max > 0.0 && self.rater_weight_max <= 1e6,
            "rater_weight_max",
            "must be above 0 and at most 1e6",
        )?;
        ensure(
            self.raters_max <= PROVIDERS_MAX,
            "raters_max",
            "must be at most 100000000",
        )?;
        Ok((self, half_life))
    }
}
