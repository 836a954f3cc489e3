//! Weighted moments under forward decay.
//!
//! Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay: A Practical Time Decay Model for Streaming
//! Systems", ICDE 2009): an observation at time `t` is stored with the weight `w × 2^((t − L) / h)` for a landmark `L`,
//! once; at a time `T`, everything stored is divided by the same `2^((T − L) / h)`. Adding is then all an update does,
//! and neither order nor place matters. The mean needs no division by it at all.
//!
//! The landmark is always a whole number of half-lives and moves up with the newest observation, so that the stored
//! weights never grow beyond twice the number of observations; moving it multiplies by a power of two, which is exact.

use std::f64::consts::LN_2;
use std::sync::LazyLock;

use crate::bounds::{ensure, Invalid};

/// How long until an observation counts half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfLife(i64);

impl HalfLife {
    /// # Errors
    /// [`Invalid`] unless it is from 1 ms to 10 years.
    pub fn from_ms(half_life_ms: i64) -> Result<Self, Invalid> {
        ensure(
            (1..=315_360_000_000).contains(&half_life_ms),
            "half_life_ms",
            "must be from 1 to 315360000000",
        )?;
        Ok(Self(half_life_ms))
    }

    /// The length, in milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// `at_ms` in half-lives: the whole ones, and the rest from 0 to 1. Exact but for the last division.
    pub(crate) fn split(self, at_ms: i64) -> (i64, f64) {
        (
            at_ms.div_euclid(self.0),
            self.rest(at_ms.rem_euclid(self.0)),
        )
    }

    /// What part of a half-life has gone by `since_ms` after its start.
    #[inline]
    #[allow(clippy::cast_precision_loss)] // below 3.2e11, so both casts are exact
    pub(crate) fn rest(self, since_ms: i64) -> f64 {
        since_ms as f64 / self.0 as f64
    }
}

/// Weight, mean and spread of the observations of one thing.
// Aligned to its size, so that none lies across two cache lines: a column of observations touches one line each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(32))]
pub struct Aggregate {
    /// In half-lives. Meaningless while the weight is 0.
    pub(crate) landmark: i64,
    /// Σ wᵢ·2^((tᵢ − L) / h)
    pub(crate) weight: f64,
    pub(crate) mean: f64,
    /// Σ of the same weights times the squared distance from the mean: never a difference of large numbers.
    pub(crate) spread: f64,
}

impl Aggregate {
    /// Adds an observation of `value` with `weight`, made at `at_ms`.
    ///
    /// # Errors
    /// [`Invalid`] for a value that is not finite or over 10¹², or a weight outside (0, 1].
    pub fn observe(
        &mut self,
        value: f64,
        weight: f64,
        at_ms: i64,
        half_life: HalfLife,
    ) -> Result<(), Invalid> {
        ensure(
            value.abs() <= 1e12,
            "value",
            "must be finite and at most 1e12 either way",
        )?;
        ensure(
            weight > 0.0 && weight <= 1.0,
            "weight",
            "must be above 0 and at most 1",
        )?;
        let (whole, rest) = half_life.split(at_ms);
        self.join(Self::of(value, weight * two_to(powers(), rest), whole));
        Ok(())
    }

    /// One checked observation, its weight seen from the start of the half-life `whole`.
    #[inline]
    pub(crate) fn of(value: f64, weight: f64, whole: i64) -> Self {
        Self {
            landmark: whole,
            weight,
            mean: value,
            spread: 0.0,
        }
    }

    /// Adds what was seen apart, as [`Aggregate::merged`]. Equal means stay what they are: one is moved towards the other, and
    /// always that of the greater weight, for the way from a large mean to a small one would round the small one away.
    #[inline]
    pub(crate) fn join(&mut self, other: Self) {
        let (mut one, mut two) = (*self, other);
        if one.landmark != two.landmark && one.weight > 0.0 {
            let landmark = one.landmark.max(two.landmark);
            (one, two) = (one.moved(landmark), two.moved(landmark));
        }
        if one.weight < two.weight {
            std::mem::swap(&mut one, &mut two);
        }
        let weight = one.weight + two.weight;
        // Late or after a long time, a weight may be too small to tell from 0.
        if two.weight > 0.0 {
            let share = two.weight / weight;
            let apart = two.mean - one.mean;
            one.mean += apart * share;
            one.spread += two.spread + apart * apart * (one.weight * share);
            one.weight = weight;
        }
        *self = one;
    }

    /// What both have seen (Chan, Golub and `LeVeque` 1983, for weights). `a.merged(b)` equals `b.merged(a)` to the bit.
    #[must_use]
    #[inline]
    pub fn merged(&self, other: &Self) -> Self {
        if self.weight <= 0.0 {
            return *other;
        }
        if other.weight <= 0.0 {
            return *self;
        }
        let landmark = self.landmark.max(other.landmark);
        let (one, two) = (self.moved(landmark), other.moved(landmark));
        let weight = one.weight + two.weight;
        let apart = one.mean - two.mean;
        Self {
            landmark,
            weight,
            // Written so that exchanging the two exchanges only terms and factors: floating point commutes to the bit.
            mean: one.mean * (one.weight / weight) + two.mean * (two.weight / weight),
            spread: one.spread + two.spread + apart * apart * (one.weight * two.weight / weight),
        }
    }

    /// The weight left at `at_ms`: an observation of weight `w` made `h` before counts `w / 2`. A time before
    /// the half-life in which the newest observation lies is taken as the start of that.
    #[must_use]
    pub fn weight_at(&self, at_ms: i64, half_life: HalfLife) -> f64 {
        let (whole, rest) = half_life.split(at_ms);
        if whole < self.landmark {
            return self.weight;
        }
        self.weight * power_of_two(self.landmark.saturating_sub(whole)) / two_to(powers(), rest)
    }

    /// The weighted mean; 0 before any observation. Time does not change it.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The weighted variance around the mean; 0 before any observation. Time does not change it.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.weight > 0.0 {
            self.spread / self.weight
        } else {
            0.0
        }
    }

    /// The same with every weight times `factor`, from 0 to 1.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self {
            weight: self.weight * factor,
            spread: self.spread * factor,
            ..*self
        }
    }

    /// The same, seen from a later landmark.
    #[inline]
    pub(crate) fn moved(&self, landmark: i64) -> Self {
        let factor = power_of_two(self.landmark.saturating_sub(landmark));
        Self {
            landmark,
            weight: self.weight * factor,
            mean: self.mean,
            spread: self.spread * factor,
        }
    }
}

/// `2^(k / 256)` for [`two_to`].
pub(crate) type Powers = [f64; 512];

static POWERS: LazyLock<Powers> = LazyLock::new(|| {
    std::array::from_fn(|k| (f64::from(u32::try_from(k).unwrap_or(0)) / 256.0).exp2())
});

/// The table for [`two_to`].
pub(crate) fn powers() -> &'static Powers {
    &POWERS
}

/// 1.5 · 2⁵²: added to a small number, it leaves the nearest whole one in the lowest bits.
pub(crate) const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// `2^rest` for a rest from 0 to 1, within 3·10⁻¹⁶ of it: a fifth of every observation was the library's `exp2`.
///
/// With `rest = k / 256 + f`, it is the table's `2^(k / 256)` times the Taylor polynomial of `e^(f ln 2)`, whose next term is
/// below 4·10⁻¹⁷, for `f` is at most 1/512 either way.
#[inline]
pub(crate) fn two_to(powers: &Powers, rest: f64) -> f64 {
    let (rounded, series) = two_to_in_parts(rest);
    power(powers, rounded) * series
}

/// What tells the power of the table, and the factor to it: without a look at the table, many can be had side by side.
#[inline]
pub(crate) fn two_to_in_parts(rest: f64) -> (f64, f64) {
    let scaled = rest * 256.0;
    let rounded = scaled + ROUNDER;
    let x = (scaled - (rounded - ROUNDER)) * (LN_2 / 256.0);
    let series = 1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0))));
    (rounded, series)
}

/// The power that [`two_to_in_parts`] tells.
#[inline]
#[allow(clippy::cast_possible_truncation)] // 0 to 256
pub(crate) fn power(powers: &Powers, rounded: f64) -> f64 {
    powers[rounded.to_bits() as usize % powers.len()]
}

/// `2^exponent` for an exponent of at most 0; below the normal range of `f64` it is 0, less than any weight can tell.
#[inline]
pub(crate) fn power_of_two(exponent: i64) -> f64 {
    match u64::try_from(exponent + 1_023) {
        Ok(biased @ 1..=1_023) => f64::from_bits(biased << 52),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{powers, two_to};

    #[test]
    fn powers_are_those_of_the_library() {
        for step in 0..200_000 {
            let rest = f64::from(step) / 200_000.0;
            assert!(
                (two_to(powers(), rest) / rest.exp2() - 1.0).abs() < 5e-16,
                "{rest}"
            );
        }
        assert_eq!(two_to(powers(), 0.0).to_bits(), 1.0_f64.to_bits());
    }
}
