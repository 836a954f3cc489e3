//! What is known of each provider, metric by metric.

use std::collections::HashMap;

use crate::aggregate::{Aggregate, HalfLife};
use crate::bounds::{ensure, Invalid, PROVIDER_BYTES_MAX};
use crate::estimate::{Estimate, Prior};

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
        }
    }
}

/// The aggregates of all providers.
#[derive(Clone, Debug)]
pub struct Quality {
    settings: Settings,
    half_life: HalfLife,
    aggregates: HashMap<Box<[u8]>, [Aggregate; 4]>,
}

impl Quality {
    /// A registry that has seen nothing.
    ///
    /// # Errors
    /// [`Invalid`] naming the setting that breaks its rule.
    pub fn new(settings: Settings) -> Result<Self, Invalid> {
        let half_life = HalfLife::from_ms(settings.half_life_ms)?;
        ensure(
            (0.0..=10.0).contains(&settings.z),
            "z",
            "must be from 0 to 10",
        )?;
        for (metric, prior) in Metric::ALL.into_iter().zip(settings.priors) {
            prior.checked()?;
            ensure(
                !metric.is_share() || prior.mean <= 1.0,
                "prior_mean",
                "must be from 0 to 1 for a share",
            )?;
        }
        ensure(
            settings.providers_max >= 1,
            "providers_max",
            "must be at least 1",
        )?;
        Ok(Self {
            settings,
            half_life,
            aggregates: HashMap::new(),
        })
    }

    /// The number of providers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.aggregates.len()
    }

    /// Whether nothing was seen of anyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aggregates.is_empty()
    }

    /// Adds an observation.
    ///
    /// # Errors
    /// [`Invalid`] for a value out of the range of its metric, a weight outside (0, 1], a provider key that is empty or
    /// too long, or a new provider when there is no room for one more.
    pub fn observe(
        &mut self,
        provider: &[u8],
        metric: Metric,
        value: f64,
        weight: f64,
        at_ms: i64,
    ) -> Result<(), Invalid> {
        check_provider(provider)?;
        if metric.is_share() {
            ensure((0.0..=1.0).contains(&value), "value", "must be from 0 to 1")?;
        } else {
            ensure(
                (0.0..=1e12).contains(&value),
                "value",
                "must be from 0 to 1e12",
            )?;
        }
        let known = self.aggregates.get(provider).copied();
        ensure(
            known.is_some() || self.aggregates.len() < self.settings.providers_max,
            "provider",
            "must be known: the most providers the registry keeps are here",
        )?;
        let mut aggregates = known.unwrap_or_default();
        aggregates[metric as usize].observe(value, weight, at_ms, self.half_life)?;
        match self.aggregates.get_mut(provider) {
            Some(kept) => *kept = aggregates,
            None => {
                self.aggregates.insert(provider.into(), aggregates);
            }
        }
        Ok(())
    }

    /// What may be relied on at `at_ms`; of a provider never seen, the prior.
    ///
    /// # Errors
    /// [`Invalid`] for a provider key that is empty or too long.
    pub fn estimate(
        &self,
        provider: &[u8],
        metric: Metric,
        at_ms: i64,
    ) -> Result<Estimate, Invalid> {
        check_provider(provider)?;
        let aggregate = self
            .aggregates
            .get(provider)
            .map_or_else(Aggregate::default, |kept| kept[metric as usize]);
        let prior = self.settings.priors[metric as usize];
        let of = if metric.is_share() {
            Estimate::of_share
        } else {
            Estimate::of_amount
        };
        Ok(of(
            &aggregate,
            at_ms,
            self.half_life,
            prior,
            self.settings.z,
        ))
    }

    /// Adds all that `other` has seen. Both must have the same half-life.
    ///
    /// # Errors
    /// [`Invalid`] for another half-life, or if there is no room for the providers new here.
    pub fn merge(&mut self, other: &Self) -> Result<(), Invalid> {
        ensure(
            self.half_life == other.half_life,
            "other",
            "must have the same half_life_ms",
        )?;
        let new = other
            .aggregates
            .keys()
            .filter(|provider| !self.aggregates.contains_key(*provider))
            .count();
        ensure(
            self.len() + new <= self.settings.providers_max,
            "other",
            "must not have more providers than fit here",
        )?;
        for (provider, theirs) in &other.aggregates {
            let ours = self.aggregates.entry(provider.clone()).or_default();
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours = ours.merged(theirs);
            }
        }
        Ok(())
    }

    /// Forgets a provider; false if it was not known.
    pub fn remove(&mut self, provider: &[u8]) -> bool {
        self.aggregates.remove(provider).is_some()
    }

    /// Forgets every provider of whom less than `weight_min` is left in each metric, and returns how many those were.
    pub fn prune(&mut self, at_ms: i64, weight_min: f64) -> usize {
        let before = self.aggregates.len();
        let half_life = self.half_life;
        self.aggregates.retain(|_, metrics| {
            metrics
                .iter()
                .any(|aggregate| aggregate.weight_at(at_ms, half_life) >= weight_min)
        });
        before - self.aggregates.len()
    }
}

fn check_provider(provider: &[u8]) -> Result<(), Invalid> {
    ensure(
        (1..=PROVIDER_BYTES_MAX).contains(&provider.len()),
        "provider",
        "must be 1 to 64 bytes long",
    )
}
