//! Rows weighed and added to their aggregates and bins, a block at a time.

use prefetch_index::prefetch_index;

use crate::aggregate::{power, powers, two_to, two_to_in_parts, Aggregate, HalfLife};
use crate::batches::{Batch, Own, Whole};
use crate::bins::Spreads;
use crate::kept::Kept;
use crate::mapping::mapping;
use crate::pieces::Part;
use crate::runs::summed;

/// Rows whose aggregates are asked of the memory together, so that the waits overlap.
pub const BLOCK: usize = 256;

/// Up to [`BLOCK`] rows.
pub struct Block {
    half_life: HalfLife,
    /// Seen from the start of the half-life in `wholes`.
    weights: [f64; BLOCK],
    /// For [`two_to_in_parts`].
    rounded: [f64; BLOCK],
    wholes: [i64; BLOCK],
    keys: [i16; BLOCK],
}

impl Block {
    pub fn new(half_life: HalfLife) -> Self {
        Self {
            half_life,
            weights: [0.0; BLOCK],
            rounded: [0.0; BLOCK],
            wholes: [0; BLOCK],
            keys: [0; BLOCK],
        }
    }

    /// Adds rows of a batch, and has the memory fetch what those will change that come next.
    pub fn add<W: Own>(
        &mut self,
        part: &Part<'_, W>,
        next: Option<&Part<'_, W>>,
        batch: &Batch<'_, W>,
        kept: &mut Kept,
    ) {
        if let Some(next) = next {
            fetch(next, kept);
        }
        if let Kept::Spreads(spreads) = kept {
            self.fetch_bins(part, spreads);
        }
        let Some(whole) = batch.whole else {
            self.weigh_each(part, batch.origin_ms);
            for (slot, rows) in part.runs() {
                for row in rows {
                    kept.add(slot, part.values[row], self.weights[row], self.wholes[row]);
                }
            }
            return;
        };
        self.weigh_together(part, whole);
        match kept {
            Kept::Means(means) => self.add_runs(part, whole.number, means),
            Kept::Spreads(spreads) => self.add_runs_spread(part, whole.number, spreads),
        }
    }

    /// Looks the keys up, and has the memory fetch the bins.
    #[inline(never)]
    fn fetch_bins<W: Own>(&mut self, part: &Part<'_, W>, spreads: &Spreads) {
        mapping().keys(part.values, &mut self.keys);
        for (slot, rows) in part.runs() {
            spreads.fetch_bin(slot, self.keys[rows.start]);
        }
    }

    /// Two to the power of what part of the half-life has gone by, times the own weight. As many rows at a time as the processor
    /// can, with the same bits.
    #[inline(never)]
    fn weigh_together<W: Own>(&mut self, part: &Part<'_, W>, whole: Whole) {
        // Sums of whole numbers below 2⁵³: exact.
        #[allow(clippy::cast_precision_loss)]
        let (lead_ms, length_ms) = (whole.lead_ms as f64, self.half_life.ms() as f64);
        let places = self.weights.iter_mut().zip(&mut self.rounded);
        let rows = places.zip(part.since_ms);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for ((weight, rounded), &since_ms) in rows {
                    let since_ms = lead_ms + f64::from(since_ms);
                    (*rounded, *weight) = two_to_in_parts(since_ms / length_ms);
                }
            },
        );
        let powers = powers();
        let rows = self.weights.iter_mut().zip(&self.rounded).zip(part.own);
        for ((weight, &rounded), own) in rows {
            *weight = power(powers, rounded) * *weight * own.weight();
        }
    }

    #[inline(never)]
    fn weigh_each<W: Own>(&mut self, part: &Part<'_, W>, origin_ms: i64) {
        let powers = powers();
        let places = self.weights.iter_mut().zip(&mut self.wholes);
        let rows = places.zip(part.since_ms).zip(part.own);
        for (((weight, its), &since_ms), own) in rows {
            let (whole, rest) = self.half_life.split(origin_ms + i64::from(since_ms));
            *its = whole;
            *weight = two_to(powers, rest) * own.weight();
        }
    }

    #[inline(never)]
    fn add_runs<W: Own>(&self, part: &Part<'_, W>, whole: i64, means: &mut [Aggregate]) {
        for (slot, rows) in part.runs() {
            let run = summed(&part.values[rows.clone()], &self.weights[rows], whole);
            means[slot].join(run);
        }
    }

    #[inline(never)]
    fn add_runs_spread<W: Own>(&self, part: &Part<'_, W>, whole: i64, spreads: &mut Spreads) {
        for (slot, rows) in part.runs() {
            let weights = &self.weights[rows.clone()];
            let run = summed(&part.values[rows.clone()], weights, whole);
            spreads.add_rows(slot, run, &self.keys[rows], weights);
        }
    }
}

/// Has the memory fetch what rows will change.
#[inline(never)]
fn fetch<W>(part: &Part<'_, W>, kept: &Kept) {
    match kept {
        Kept::Means(means) => part.slots().for_each(|slot| prefetch_index(means, slot)),
        Kept::Spreads(spreads) => part.slots().for_each(|slot| spreads.fetch(slot)),
    }
}
