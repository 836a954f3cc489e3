//! Where new bins go.

use super::{lower, Bin, Spreads, Weights, NEAR, NO_KEY, SPARSENESS, UNIT, WINDOW_FROM};
use crate::aggregate::Aggregate;

impl Spreads {
    #[inline(never)]
    pub(super) fn insert(&mut self, slot: usize, bin: Bin) {
        if bin.weight <= 0.0 {
            return;
        }
        let sketch = &mut self.sketches[slot];
        let bins = sketch.bins();
        if !sketch.window && sketch.class == 0 && bins < NEAR {
            let place = lower(&sketch.keys, bin.key);
            sketch.keys.copy_within(place..bins, place + 1);
            sketch.weights.copy_within(place..bins, place + 1);
            sketch.keys[place] = bin.key;
            sketch.weights[place] = bin.weight;
            sketch.start += 1;
        } else if !sketch.window && bins < sketch.places() {
            sketch.start += 1;
            let keys = &mut self.keys[sketch.listed()];
            let units = &mut self.weights[sketch.units()];
            let place = lower(&keys[..bins], bin.key);
            keys.copy_within(place..bins, place + 1);
            keys[place] = bin.key;
            for place in (place..bins).rev() {
                units[(place + 1) / UNIT].0[(place + 1) % UNIT] =
                    units[place / UNIT].0[place % UNIT];
            }
            units[place / UNIT].0[place % UNIT] = bin.weight;
        } else {
            let mut bins: Vec<Bin> = self.iter(slot).collect();
            bins.insert(bins.partition_point(|held| held.key < bin.key), bin);
            self.put_bins(slot, &bins);
        }
    }

    /// Replaces all that was seen in a slot. The keys of the bins rise.
    pub fn put(&mut self, slot: usize, aggregate: Aggregate, bins: &[Bin]) {
        self.put_bins(slot, bins);
        self.sketches[slot].aggregate = aggregate;
    }

    fn put_bins(&mut self, slot: usize, bins: &[Bin]) {
        self.clear_bins(slot);
        let (Some(first), Some(last)) = (bins.first(), bins.last()) else {
            return;
        };
        if bins.len() <= NEAR {
            for bin in bins {
                self.insert(slot, *bin);
            }
            return;
        }
        let span = usize::from(last.key.abs_diff(first.key)) + 1;
        let window = span.next_power_of_two().max(UNIT);
        let is_window = bins.len() >= WINDOW_FROM && window <= SPARSENESS * bins.len();
        let places = if is_window {
            window
        } else {
            bins.len().next_power_of_two().max(UNIT)
        };
        // At most 2,048 places, for the keys are 1,729.
        let class = u8::try_from(places.ilog2() - 1).unwrap_or(0);
        // Room for what lies beyond, on both sides.
        let margin = i16::try_from((window - span) / 2).unwrap_or(0);
        let block = self.block(class);
        let sketch = &mut self.sketches[slot];
        sketch.block = block;
        sketch.class = class;
        sketch.window = is_window;
        sketch.start = if is_window {
            first.key - margin
        } else {
            i16::try_from(bins.len()).unwrap_or(i16::MAX)
        };
        let units = &mut self.weights[sketch.units()];
        units.fill(Weights::default());
        self.keys[block as usize * UNIT..][..places].fill(NO_KEY);
        for (listed, bin) in bins.iter().enumerate() {
            let place = if is_window {
                sketch.place(bin.key)
            } else {
                self.keys[block as usize * UNIT + listed] = bin.key;
                listed
            };
            units[place / UNIT].0[place % UNIT] = bin.weight;
        }
    }

    /// A block of that class, whatever was in it.
    fn block(&mut self, class: u8) -> u32 {
        if let Some(block) = self.free[usize::from(class)].pop() {
            return block;
        }
        let block = self.weights.len();
        let units = (2_usize << class) / UNIT;
        self.weights.resize(block + units, Weights::default());
        self.keys.resize((block + units) * UNIT, NO_KEY);
        // 2³² units are 160 GB.
        u32::try_from(block).unwrap_or(u32::MAX)
    }

    /// Forgets all that was seen in a slot.
    pub fn clear(&mut self, slot: usize) {
        self.put(slot, Aggregate::default(), &[]);
    }

    pub(super) fn clear_bins(&mut self, slot: usize) {
        let sketch = &mut self.sketches[slot];
        let aggregate = sketch.aggregate;
        let held = std::mem::take(sketch);
        sketch.aggregate = aggregate;
        if held.class > 0 {
            self.free[usize::from(held.class)].push(held.block);
        }
    }
}
