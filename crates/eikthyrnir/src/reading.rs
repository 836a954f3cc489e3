//! What bins tell.

use crate::bins::Spreads;
use crate::mapping::mapping;

/// Weights are sums of rounded numbers; a rank is met if it is met within this share.
const RANK_SLACK: f64 = 1e-9;

impl Spreads {
    fn weight(&self, slot: usize) -> f64 {
        self.iter(slot).map(|bin| bin.weight).sum()
    }

    /// The smallest value with at least the share `rank` of the weight at or below it; none before any observation.
    pub fn quantile(&self, slot: usize, rank: f64) -> Option<f64> {
        let wanted = rank * self.weight(slot) * (1.0 - RANK_SLACK);
        let mut below = 0.0;
        let found = self.iter(slot).find(|bin| {
            below += bin.weight;
            below >= wanted
        });
        let found = found.or_else(|| self.iter(slot).last());
        found.map(|bin| mapping().value(bin.key))
    }

    /// The mean without the lowest and the highest `trim` of the weight; none before any observation.
    pub fn trimmed_mean(&self, slot: usize, trim: f64) -> Option<f64> {
        let weight = self.weight(slot);
        let (low, high) = (trim * weight, (1.0 - trim) * weight);
        let (mut below, mut kept, mut sum) = (0.0_f64, 0.0, 0.0);
        for bin in self.iter(slot) {
            let inside = (below + bin.weight).min(high) - below.max(low);
            below += bin.weight;
            if inside > 0.0 {
                kept += inside;
                sum += inside * mapping().value(bin.key);
            }
        }
        (kept > 0.0).then(|| sum / kept)
    }
}
