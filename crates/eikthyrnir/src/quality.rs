//! What is known of each provider, metric by metric.

use crate::aggregate::{powers, two_to, Aggregate, HalfLife};
use crate::bins::Spreads;
use crate::bounds::{ensure, Invalid, PROVIDER_BYTES_MAX};
use crate::change::Change;
use crate::estimate::Estimate;
use crate::kept::Kept;
use crate::raters::{Rater, Raters};
use crate::settings::{Metric, Settings};
use crate::slots::Slots;

/// The aggregates of all providers.
#[derive(Clone, Debug)]
pub struct Quality {
    pub(crate) settings: Settings,
    pub(crate) half_life: HalfLife,
    pub(crate) slots: Slots,
    /// For each of [`Metric::ALL`], by slot.
    pub(crate) kept: [Kept; 4],
    /// What the caller was last told of each metric, by slot; empty if it is told nothing.
    pub(crate) told: Vec<[f64; 4]>,
    pub(crate) raters: Raters,
}

impl Quality {
    /// A registry that has seen nothing.
    ///
    /// # Errors
    /// [`Invalid`] naming the setting that breaks its rule.
    pub fn new(settings: Settings) -> Result<Self, Invalid> {
        let (settings, half_life) = settings.checked()?;
        Ok(Self {
            settings,
            half_life,
            slots: Slots::default(),
            kept: Metric::ALL.map(|metric| Kept::new(settings.quantiles && !metric.is_share())),
            told: Vec::new(),
            raters: Raters::default(),
        })
    }

    /// The constants.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of providers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing was seen of anyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Bytes held, as far as the allocator tells: 128 of aggregates, 29 and up of key and handle for each provider, and
    /// with quantiles 64, and 10 for each place of a bin where a metric has more than two.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let kept: usize = self.kept.iter().map(Kept::heap_bytes).sum();
        self.slots.heap_bytes()
            + kept
            + self.told.capacity() * size_of::<[f64; 4]>()
            + self.raters.heap_bytes()
    }

    /// Adds an observation, and says so if the mean has moved far.
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
    ) -> Result<Option<Change>, Invalid> {
        self.check(provider, metric, value, weight)?;
        let slot = self.slot(provider);
        let (whole, rest) = self.half_life.split(at_ms);
        let weight = weight * two_to(powers(), rest);
        self.kept[metric as usize].add(slot, value, weight, whole);
        Ok(self.told_of(slot, metric, at_ms))
    }

    /// Adds what `rater` says of a share: all that one rater says of a provider counts with at most `rater_weight_max`.
    ///
    /// # Errors
    /// As [`Quality::observe`], for a metric that is measured and not rated, or for a new rater when there is no room.
    pub fn rate(
        &mut self,
        provider: &[u8],
        metric: Metric,
        value: f64,
        weight: f64,
        at_ms: i64,
        rater: Rater,
    ) -> Result<Option<Change>, Invalid> {
        self.check(provider, metric, value, weight)?;
        ensure(
            metric.is_share(),
            "rater",
            "must not be given for latency_ms and throughput, which are measured",
        )?;
        let known = self
            .slots
            .find(provider)
            .is_some_and(|slot| self.raters.knows(slot, metric as u8, &rater));
        ensure(
            known || self.raters.len() < self.settings.raters_max,
            "rater",
            "must be known: the most raters the registry keeps are here",
        )?;
        let slot = self.slot(provider);
        let (whole, rest) = self.half_life.split(at_ms);
        let said = self.raters.entry(slot, metric as u8, rater);
        said.join(Aggregate::of(value, weight * two_to(powers(), rest), whole));
        Ok(self.told_of(slot, metric, at_ms))
    }

    fn check(
        &self,
        provider: &[u8],
        metric: Metric,
        value: f64,
        weight: f64,
    ) -> Result<(), Invalid> {
        check_provider(provider)?;
        check_value(metric, value)?;
        check_weight(weight)?;
        ensure(
            self.len() < self.settings.providers_max || self.slots.find(provider).is_some(),
            "provider",
            "must be known: the most providers the registry keeps are here",
        )
    }

    /// The slot of a provider, made if there is none; the caller has checked that there is room.
    pub(crate) fn slot(&mut self, provider: &[u8]) -> usize {
        if let Some(slot) = self.slots.find(provider) {
            return slot;
        }
        let slot = self.slots.insert(provider);
        let slots = self.slots.slots();
        for kept in &mut self.kept {
            kept.resize(slots);
        }
        if self.settings.notice.is_some() {
            let priors = self.settings.priors.map(|prior| prior.mean);
            self.told.resize(slots, priors);
        }
        slot
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
        Ok(self.estimated(self.slots.find(provider), metric, at_ms))
    }

    fn estimated(&self, slot: Option<usize>, metric: Metric, at_ms: i64) -> Estimate {
        let aggregate = slot.map_or_else(Aggregate::default, |slot| {
            self.raters.merged_into(
                self.kept[metric as usize].aggregate(slot),
                slot,
                metric as u8,
                at_ms,
                self.half_life,
                self.settings.rater_weight_max,
            )
        });
        let of = if metric.is_share() {
            Estimate::of_share
        } else {
            Estimate::of_amount
        };
        let prior = self.settings.priors[metric as usize];
        of(&aggregate, at_ms, self.half_life, prior, self.settings.z)
    }

    /// The value below which the share `rank` of the decayed weight lies, at most 1 % away from one that was seen; none
    /// of a provider of whom nothing was. Time does not change it.
    ///
    /// # Errors
    /// [`Invalid`] for a rank outside 0 to 1, a share, a bad provider key, or a registry that keeps no quantiles.
    pub fn quantile(
        &self,
        provider: &[u8],
        metric: Metric,
        rank: f64,
    ) -> Result<Option<f64>, Invalid> {
        ensure((0.0..=1.0).contains(&rank), "rank", "must be from 0 to 1")?;
        Ok(self
            .spread(provider, metric)?
            .and_then(|(spreads, slot)| spreads.quantile(slot, rank)))
    }

    /// The mean without the lowest and the highest `trim` of the decayed weight: what outliers cannot move. At most 1 %
    /// away from that of the values; none of a provider of whom nothing was seen.
    ///
    /// # Errors
    /// As [`Quality::quantile`]; `trim` from 0 to below ½.
    pub fn trimmed_mean(
        &self,
        provider: &[u8],
        metric: Metric,
        trim: f64,
    ) -> Result<Option<f64>, Invalid> {
        ensure(
            (0.0..0.5).contains(&trim),
            "trim",
            "must be at least 0 and below 0.5",
        )?;
        Ok(self
            .spread(provider, metric)?
            .and_then(|(spreads, slot)| spreads.trimmed_mean(slot, trim)))
    }

    fn spread(
        &self,
        provider: &[u8],
        metric: Metric,
    ) -> Result<Option<(&Spreads, usize)>, Invalid> {
        check_provider(provider)?;
        ensure(
            !metric.is_share(),
            "metric",
            "must be latency_ms or throughput",
        )?;
        let spreads = self.kept[metric as usize].spreads().ok_or(Invalid {
            field: "quantiles",
            rule: "must be kept: make the registry with quantiles",
        })?;
        Ok(self.slots.find(provider).map(|slot| (spreads, slot)))
    }

    /// A change, if the caller wants to know and the mean has moved far since it was last told.
    pub(crate) fn told_of(&mut self, slot: usize, metric: Metric, at_ms: i64) -> Option<Change> {
        let notice = self.settings.notice?;
        let after = self.estimated(Some(slot), metric, at_ms).mean;
        let told = &mut self.told[slot][metric as usize];
        let before = *told;
        notice.tells(metric, before, after).then(|| {
            *told = after;
            Change {
                provider: self.slots.key(slot).into(),
                metric,
                before,
                after,
            }
        })
    }
}

pub(crate) fn check_provider(provider: &[u8]) -> Result<(), Invalid> {
    ensure(
        (1..=PROVIDER_BYTES_MAX).contains(&provider.len()),
        "provider",
        "must be 1 to 64 bytes long",
    )
}

#[inline]
pub(crate) fn check_value(metric: Metric, value: f64) -> Result<(), Invalid> {
    if metric.is_share() {
        ensure((0.0..=1.0).contains(&value), "value", "must be from 0 to 1")
    } else {
        ensure(
            (0.0..=1e12).contains(&value),
            "value",
            "must be from 0 to 1e12",
        )
    }
}

#[inline]
pub(crate) fn check_weight(weight: f64) -> Result<(), Invalid> {
    ensure(
        weight > 0.0 && weight <= 1.0,
        "weight",
        "must be above 0 and at most 1",
    )
}
