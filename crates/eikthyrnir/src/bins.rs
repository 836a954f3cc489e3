//! Quantiles of what fades.
//!
//! The bins are those of `DDSketch` (Masson, Rim and Lee, "`DDSketch`: A Fast and Fully-Mergeable Quantile Sketch with
//! Relative-Error Guarantees", VLDB 2019), by the mapping of the crate `sketches-ddsketch`. Its stores count whole
//! observations and cannot forget; here each bin holds a weight under forward decay instead, so that merging is adding
//! and moving the landmark multiplies by a power of two, which is exact.

use std::sync::LazyLock;

use sketches_ddsketch::Config;

use crate::aggregate::power_of_two;

/// A quantile is at most this share away from a value seen.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Values below this are told apart from 0 no more.
pub const VALUE_MIN: f64 = 1e-3;
/// Weights are sums of rounded numbers; a rank is met if it is met within this share.
const RANK_SLACK: f64 = 1e-9;

static MAPPING: LazyLock<Config> = LazyLock::new(|| Config::new(RELATIVE_ERROR, 2_048, VALUE_MIN));
/// The key of what lies below [`VALUE_MIN`]; the smallest key of the mapping is above it.
pub const KEY_MIN: i16 = -347;
/// The key of 10¹², the largest amount.
pub const KEY_MAX: i16 = 1_381;

/// The key of the bin of a value from 0 to 10¹².
#[inline]
pub fn key(value: f64) -> i16 {
    if value < VALUE_MIN {
        return KEY_MIN;
    }
    i16::try_from(MAPPING.key(value))
        .unwrap_or(KEY_MAX)
        .clamp(KEY_MIN + 1, KEY_MAX)
}

fn value(key: i16) -> f64 {
    if key <= KEY_MIN {
        0.0
    } else {
        MAPPING.value(i32::from(key))
    }
}

/// The weight in one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub key: i16,
    /// As in the aggregates: seen from the landmark.
    pub weight: f64,
}

/// From this many bins on, gaps between them are filled, so that a bin is found by its distance from the first.
const FILLED_FROM: usize = 16;

/// How the observations of one thing are spread. At most 1,729 bins of 16 bytes.
#[derive(Clone, Debug, Default)]
pub struct Bins {
    /// In half-lives.
    pub landmark: i64,
    /// By rising key; some may be empty.
    bins: Vec<Bin>,
}

impl Bins {
    /// Of bins by rising key.
    pub fn new(landmark: i64, bins: Vec<Bin>) -> Self {
        Self { landmark, bins }
    }

    /// The bins that hold something, by rising key.
    pub fn iter(&self) -> impl Iterator<Item = &Bin> {
        self.bins.iter().filter(|bin| bin.weight > 0.0)
    }

    /// Adds `weight`, seen from the start of the half-life `whole`.
    #[inline]
    pub fn add(&mut self, key: i16, weight: f64, whole: i64) {
        let mut weight = weight;
        if self.bins.is_empty() {
            self.landmark = whole;
        } else if whole > self.landmark {
            self.move_to(whole);
        } else if whole < self.landmark {
            weight *= power_of_two(whole.saturating_sub(self.landmark));
        }
        let guess = self.guess(key);
        match self.bins.get_mut(guess) {
            Some(bin) if bin.key == key => bin.weight += weight,
            _ => self.search(key, weight),
        }
    }

    /// Where the bin is if no gap lies between it and the first one.
    #[inline]
    fn guess(&self, key: i16) -> usize {
        self.bins
            .first()
            .and_then(|first| usize::try_from(key - first.key).ok())
            .unwrap_or(usize::MAX)
    }

    /// The weight where the bin of this key is likely to be; only to have the memory fetch it.
    #[inline]
    pub fn touch(&self, key: i16) -> f64 {
        self.bins.get(self.guess(key)).map_or(0.0, |bin| bin.weight)
    }

    fn search(&mut self, key: i16, weight: f64) {
        if weight <= 0.0 {
            return;
        }
        let place = self.bins.partition_point(|bin| bin.key < key);
        match self.bins.get_mut(place) {
            Some(bin) if bin.key == key => bin.weight += weight,
            _ => {
                self.bins.insert(place, Bin { key, weight });
                self.fill();
            }
        }
    }

    /// Puts empty bins into the gaps if that at most doubles them.
    fn fill(&mut self) {
        let (Some(first), Some(last)) = (self.bins.first(), self.bins.last()) else {
            return;
        };
        let span = usize::try_from(last.key - first.key).unwrap_or(usize::MAX) + 1;
        if self.bins.len() < FILLED_FROM || span == self.bins.len() || span > 2 * self.bins.len() {
            return;
        }
        let mut held = self.bins.iter().copied().peekable();
        let filled = (first.key..=last.key).map(|key| {
            held.next_if(|bin| bin.key == key)
                .unwrap_or(Bin { key, weight: 0.0 })
        });
        self.bins = filled.collect();
    }

    /// Adds all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        for bin in other.iter() {
            self.add(bin.key, bin.weight, other.landmark);
        }
    }

    fn move_to(&mut self, landmark: i64) {
        let factor = power_of_two(self.landmark.saturating_sub(landmark));
        self.landmark = landmark;
        for bin in &mut self.bins {
            bin.weight *= factor;
        }
        if factor <= 0.0 {
            self.bins.clear();
        }
    }

    fn weight(&self) -> f64 {
        self.bins.iter().map(|bin| bin.weight).sum()
    }

    /// The smallest value with at least the share `rank` of the weight at or below it; none before any observation.
    pub fn quantile(&self, rank: f64) -> Option<f64> {
        let wanted = rank * self.weight() * (1.0 - RANK_SLACK);
        let mut below = 0.0;
        let found = self.iter().find(|bin| {
            below += bin.weight;
            below >= wanted
        });
        found.or(self.iter().last()).map(|bin| value(bin.key))
    }

    /// The mean without the lowest and the highest `trim` of the weight; none before any observation.
    pub fn trimmed_mean(&self, trim: f64) -> Option<f64> {
        let weight = self.weight();
        let (low, high) = (trim * weight, (1.0 - trim) * weight);
        let (mut below, mut kept, mut sum) = (0.0_f64, 0.0, 0.0);
        for bin in &self.bins {
            let inside = (below + bin.weight).min(high) - below.max(low);
            below += bin.weight;
            if inside > 0.0 {
                kept += inside;
                sum += inside * value(bin.key);
            }
        }
        (kept > 0.0).then(|| sum / kept)
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
    }
}

#[cfg(test)]
mod tests {
    use super::{key, value, KEY_MAX, KEY_MIN, RELATIVE_ERROR, VALUE_MIN};

    #[test]
    fn the_ends_of_the_range_are_the_ends_of_the_keys() {
        assert_eq!(key(0.0), KEY_MIN);
        assert_eq!(key(VALUE_MIN), KEY_MIN + 1);
        assert_eq!(key(1e12), KEY_MAX);
    }

    #[test]
    fn a_bin_is_at_most_one_percent_wide_each_way() {
        let mut seen = VALUE_MIN;
        while seen <= 1e12 {
            let told = value(key(seen));
            assert!(
                (told - seen).abs() <= RELATIVE_ERROR * seen * (1.0 + 1e-9),
                "{seen} {told}"
            );
            seen *= 1.000_7;
        }
    }
}
