//! The constants of a router.

use crate::bounds::{above_zero, ensure, share, Invalid};
use crate::score::{references_checked, References};
use crate::weights::Weights;

/// What a router is made with. Scores are comparable only between routers with the same settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Of the five parts of a score.
    pub weights: Weights,
    /// Price (micro-cents per 1 000 000 tokens), latency and work that score ½, for models without their own.
    pub references: References,
    /// Work given to a provider counts half after this.
    pub work_half_life_ms: u64,
    /// Relative width of a band: scores within it below the best count as equal and take turns, and none that are more
    /// than about four thirds of it below.
    pub band_width: f64,
    /// A request moves its provider's turn back by at most this many times the mean work of its queue's late requests.
    pub turn_times_max: u32,
    /// Picks in a million that explore.
    pub explore_ppm: u32,
    /// Picks in a million that go to an offer picked less than three times, if there is one.
    pub newcomer_ppm: u32,
    /// Failures in a row that open a breaker; of an owner's, four times as many.
    pub breaker_failures: u32,
    /// Of this many last requests, 40 % failed open a breaker as well (at least half of them seen); 0: never.
    pub breaker_window: u32,
    /// Successes in a row that close a half-open breaker.
    pub breaker_successes: u32,
    /// Whether no request goes through a half-open breaker: somebody else tests it, and reports.
    pub breaker_tested_apart: bool,
    /// How long the first opening lasts; each failed probe doubles it.
    pub breaker_open_ms: i64,
    /// The longest opening.
    pub breaker_open_ms_max: i64,
    /// Quality of a provider nobody has rated.
    pub quality_prior: f64,
    /// Availability of a provider nobody has used.
    pub availability_prior: f64,
    /// The most offers kept.
    pub offers_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            // 1.00 in whole currency per million tokens, a second to answer, a hundred thousand tokens of late.
            references: References {
                price: 100_000_000.0,
                latency_ms: 1_000.0,
                work: 100_000.0,
            },
            work_half_life_ms: 600_000,
            band_width: 0.05,
            turn_times_max: 8,
            explore_ppm: 15_000,
            newcomer_ppm: 0,
            breaker_failures: 5,
            breaker_window: 0,
            breaker_successes: 1,
            breaker_tested_apart: false,
            breaker_open_ms: 10_000,
            breaker_open_ms_max: 300_000,
            quality_prior: 0.5,
            availability_prior: 0.5,
            offers_max: 1_000_000,
        }
    }
}

/// What an offer counts for while nobody knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Priors {
    pub quality: f64,
    pub availability: f64,
}

impl Settings {
    pub(crate) fn priors(&self) -> Priors {
        Priors {
            quality: self.quality_prior,
            availability: self.availability_prior,
        }
    }

    /// # Errors
    /// [`Invalid`] naming the first setting that breaks its rule.
    pub fn checked(self) -> Result<Self, Invalid> {
        references_checked(&self.references)?;
        ensure(
            self.work_half_life_ms >= 1,
            "work_half_life_ms",
            "must be at least 1",
        )?;
        above_zero("band_width", self.band_width)?;
        ensure(
            (0.001..=1.0).contains(&self.band_width),
            "band_width",
            "must be from 0.001 to 1",
        )?;
        ensure(
            (1..=1_000_000).contains(&self.turn_times_max),
            "turn_times_max",
            "must be from 1 to 1000000",
        )?;
        ensure(
            self.explore_ppm <= 1_000_000,
            "explore_ppm",
            "must be at most 1000000",
        )?;
        ensure(
            self.newcomer_ppm <= 1_000_000,
            "newcomer_ppm",
            "must be at most 1000000",
        )?;
        ensure(
            self.breaker_window <= 32,
            "breaker_window",
            "must be at most 32",
        )?;
        ensure(
            self.breaker_successes >= 1,
            "breaker_successes",
            "must be at least 1",
        )?;
        ensure(
            self.breaker_failures >= 1,
            "breaker_failures",
            "must be at least 1",
        )?;
        ensure(
            self.breaker_open_ms >= 1,
            "breaker_open_ms",
            "must be at least 1",
        )?;
        ensure(
            (self.breaker_open_ms..=86_400_000).contains(&self.breaker_open_ms_max),
            "breaker_open_ms_max",
            "must be from breaker_open_ms to 86400000",
        )?;
        share("quality_prior", self.quality_prior)?;
        share("availability_prior", self.availability_prior)?;
        ensure(
            (1..=u32::MAX as usize).contains(&self.offers_max),
            "offers_max",
            "must be from 1 to 4294967295",
        )?;
        Ok(self)
    }
}
