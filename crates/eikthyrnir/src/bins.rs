//! Quantiles of what fades.
//!
//! The stores of the crate `sketches-ddsketch` count whole observations and cannot forget; here each bin holds a weight
//! under forward decay instead, so that merging is adding and moving the landmark multiplies by a power of two, which is
//! exact.
//!
//! Each provider has one cache line: its aggregate, and its bins as long as they are few. More of them lie in a block, and the
//! blocks of all providers in one place, so that an observation touches the line and the bin, and no allocator. A block is a
//! list of bins by rising key, or, once at least a quarter of it would be used, a window: one bin for each key from the first
//! on, found without a search.

use prefetch_index::prefetch_index;

use crate::aggregate::{power_of_two, Aggregate};
use crate::mapping::KEY_MIN;

/// Bins beside the aggregate.
const NEAR: usize = 2;
/// Bins in the smallest block; each class of blocks is twice the one before.
const UNIT: usize = 4;
const CLASSES: usize = 11;
/// From this many bins on, a window is worth its empty places if it has at most [`SPARSENESS`] places a bin.
const WINDOW_FROM: usize = 8;
const SPARSENESS: usize = 4;
/// Bins up to which comparing with all keys is faster than halving.
const COMPARED: usize = 64;
/// From this many rows on they are summed by key before a list is looked at, if that has at most [`LISTED_A_ROW`] bins a row.
const SUMMED_FROM: usize = 4;
const LISTED_A_ROW: usize = 4;
/// A power of two above the number of keys.
const SUMS: usize = 2_048;
/// The key of an empty place in a list: above all others.
const NO_KEY: i16 = i16::MAX;

/// The weight in one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub key: i16,
    /// As in the aggregates: seen from the landmark.
    pub weight: f64,
}

/// The weights of [`UNIT`] bins, never across two cache lines.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Weights([f64; UNIT]);

/// An aggregate and where its bins lie. Their weights are seen from its landmark.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Sketch {
    aggregate: Aggregate,
    /// Of a list without a block.
    weights: [f64; NEAR],
    keys: [i16; NEAR],
    /// Of a window: the key of its first bin. Of a list: the number of its bins.
    start: i16,
    /// There is no block in class 0; in each other one a block has `2 << class` bins.
    class: u8,
    window: bool,
    /// The first unit of its block.
    block: u32,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            aggregate: Aggregate::default(),
            weights: [0.0; NEAR],
            keys: [NO_KEY; NEAR],
            start: 0,
            class: 0,
            window: false,
            block: 0,
        }
    }
}

impl Sketch {
    /// Of its block.
    #[inline]
    fn places(&self) -> usize {
        (2 << self.class) & !2
    }

    #[inline]
    fn units(&self) -> std::ops::Range<usize> {
        let block = self.block as usize;
        block..block + self.places() / UNIT
    }

    /// Where the keys of its list lie if it has a block.
    #[inline]
    fn listed(&self) -> std::ops::Range<usize> {
        let first = self.block as usize * UNIT;
        first..first + self.bins()
    }

    /// Bins of a list.
    #[inline]
    fn bins(&self) -> usize {
        usize::from(self.start.unsigned_abs())
    }

    /// Where the bin of the key is in a window, or some place beyond it.
    #[inline]
    #[allow(clippy::cast_sign_loss)] // a key below the first one is far above the last one
    fn place(&self, key: i16) -> usize {
        usize::from(key.wrapping_sub(self.start) as u16)
    }
}

/// How the observations of one metric are spread, slot by slot.
#[derive(Clone, Debug)]
pub struct Spreads {
    sketches: Vec<Sketch>,
    weights: Vec<Weights>,
    /// Of lists, beside their weights.
    keys: Vec<i16>,
    /// Blocks given back, by class.
    free: [Vec<u32>; CLASSES],
    /// For `add_summed`, by key; 0 in between.
    sums: Box<[f64; SUMS]>,
}

impl Default for Spreads {
    fn default() -> Self {
        Self {
            sketches: Vec::new(),
            weights: Vec::new(),
            keys: Vec::new(),
            free: Default::default(),
            sums: Box::new([0.0; SUMS]),
        }
    }
}

impl Spreads {
    /// Makes room for more slots, in which nothing was seen.
    pub fn resize(&mut self, slots: usize) {
        self.sketches.resize(slots, Sketch::default());
    }

    pub fn aggregate(&self, slot: usize) -> &Aggregate {
        &self.sketches[slot].aggregate
    }

    /// Adds an observation whose weight is seen from the start of the half-life `whole`.
    pub fn add(&mut self, slot: usize, value: f64, key: i16, weight: f64, whole: i64) {
        let one = Aggregate::of(value, weight, whole);
        self.add_rows(slot, one, &[key], &[weight]);
    }

    /// Adds rows that were summed, with their keys and their weights.
    #[inline]
    pub fn add_rows(&mut self, slot: usize, summed: Aggregate, keys: &[i16], weights: &[f64]) {
        let late = self.seen_from(slot, summed.landmark);
        self.sketches[slot].aggregate.join(summed);
        self.add_bins(slot, keys, weights, late);
    }

    /// Moves the landmark up if it is before `whole`, and returns the factor for weights seen from there.
    #[inline]
    fn seen_from(&mut self, slot: usize, whole: i64) -> f64 {
        let aggregate = &self.sketches[slot].aggregate;
        if aggregate.weight > 0.0 && aggregate.landmark == whole {
            1.0
        } else {
            self.move_to(slot, whole)
        }
    }

    #[inline(never)]
    fn move_to(&mut self, slot: usize, whole: i64) -> f64 {
        let sketch = &mut self.sketches[slot];
        let landmark = sketch.aggregate.landmark;
        if sketch.aggregate.weight > 0.0 {
            if landmark >= whole {
                return power_of_two(whole.saturating_sub(landmark));
            }
            sketch.aggregate = sketch.aggregate.moved(whole);
        }
        if sketch.aggregate.weight <= 0.0 {
            self.clear_bins(slot);
            return 1.0;
        }
        let factor = power_of_two(landmark.saturating_sub(whole));
        let units = sketch.units();
        let near = sketch.weights.iter_mut();
        let far = self.weights[units].iter_mut().flat_map(|unit| &mut unit.0);
        for weight in near.chain(far) {
            *weight *= factor;
        }
        1.0
    }

    #[inline]
    fn add_bins(&mut self, slot: usize, keys: &[i16], weights: &[f64], late: f64) {
        let mut from = 0;
        loop {
            from += self.add_known(slot, &keys[from..], &weights[from..], late);
            let (Some(&key), Some(&weight)) = (keys.get(from), weights.get(from)) else {
                return;
            };
            let weight = weight * late;
            self.insert(slot, Bin { key, weight });
            from += 1;
        }
    }

    /// Adds rows up to the first one whose key has no place, and returns how many those were.
    #[inline]
    #[allow(clippy::cast_sign_loss)] // on purpose
    fn add_known(&mut self, slot: usize, keys: &[i16], weights: &[f64], late: f64) -> usize {
        let sketch = &mut self.sketches[slot];
        let rows = keys.iter().zip(weights);
        if sketch.window {
            let start = sketch.start;
            let units = &mut self.weights[sketch.units()];
            for (row, (&key, &weight)) in rows.enumerate() {
                // A key below the first one is far above the last one.
                let place = usize::from(key.wrapping_sub(start) as u16);
                let Some(unit) = units.get_mut(place / UNIT) else {
                    return row;
                };
                unit.0[place % UNIT] += weight * late;
            }
        } else if sketch.class == 0 {
            for (row, (&key, &weight)) in rows.enumerate() {
                let Some(place) = sketch.keys.iter().position(|&its| its == key) else {
                    return row;
                };
                sketch.weights[place] += weight * late;
            }
        } else if keys.len() >= SUMMED_FROM && sketch.bins() <= keys.len() * LISTED_A_ROW {
            self.add_summed(slot, keys, weights, late);
        } else {
            let first = sketch.block as usize * UNIT;
            let listed = &self.keys[first..first + sketch.places()];
            let units = &mut self.weights[sketch.units()];
            for (row, (&key, &weight)) in rows.enumerate() {
                let place = lower(listed, key);
                if listed.get(place) != Some(&key) {
                    return row;
                }
                units[place / UNIT].0[place % UNIT] += weight * late;
            }
        }
        keys.len()
    }

    /// Adds rows to a list: first by key, so that no row has to look for its bin.
    #[inline(never)]
    fn add_summed(&mut self, slot: usize, keys: &[i16], weights: &[f64], late: f64) {
        for (&key, &weight) in keys.iter().zip(weights) {
            self.sums[sum_of(key)] += weight * late;
        }
        let sketch = &self.sketches[slot];
        let listed = self.keys[sketch.listed()].chunks(UNIT);
        for (unit, keys) in self.weights[sketch.units()].iter_mut().zip(listed) {
            for (weight, &key) in unit.0.iter_mut().zip(keys) {
                *weight += std::mem::take(&mut self.sums[sum_of(key)]);
            }
        }
        for &key in keys {
            let weight = std::mem::take(&mut self.sums[sum_of(key)]);
            if weight > 0.0 {
                self.insert(slot, Bin { key, weight });
            }
        }
    }

    /// Has the memory fetch a slot.
    #[inline]
    pub fn fetch(&self, slot: usize) {
        prefetch_index(&self.sketches, slot);
    }

    /// Has the memory fetch where the bin is likely to be.
    #[inline]
    pub fn fetch_bin(&self, slot: usize, key: i16) {
        let sketch = &self.sketches[slot];
        let first = sketch.block as usize;
        // No branch that could be guessed wrong: what is not needed is the first one, which is there already.
        let place = if sketch.window { sketch.place(key) } else { 0 };
        prefetch_index(&self.weights, first + place / UNIT);
        let listed = if sketch.window { 0 } else { first * UNIT };
        prefetch_index(&self.keys, listed);
    }

    /// Adds all that another has seen in its slot.
    pub fn merge(&mut self, slot: usize, other: &Self, theirs: usize) {
        let aggregate = other.aggregate(theirs);
        if aggregate.weight <= 0.0 {
            return;
        }
        let late = self.seen_from(slot, aggregate.landmark);
        let ours = &mut self.sketches[slot].aggregate;
        *ours = ours.merged(aggregate);
        for bin in other.iter(theirs) {
            self.add_bins(slot, &[bin.key], &[bin.weight], late);
        }
    }

    /// The bins that hold something, by rising key.
    pub fn iter(&self, slot: usize) -> impl Iterator<Item = Bin> + '_ {
        let sketch = &self.sketches[slot];
        let units = &self.weights[sketch.units()];
        let keys = match sketch.class {
            _ if sketch.window => &[],
            0 => &sketch.keys[..sketch.bins()],
            _ => &self.keys[sketch.listed()],
        };
        let near = sketch.weights.iter().filter(|_| sketch.class == 0);
        let far = units.iter().flat_map(|unit| &unit.0);
        let key = move |place: usize| {
            if sketch.window {
                Some(sketch.start + i16::try_from(place).unwrap_or(i16::MAX))
            } else {
                keys.get(place).copied()
            }
        };
        near.chain(far)
            .enumerate()
            .map_while(move |(place, &weight)| key(place).map(|key| Bin { key, weight }))
            .filter(|bin| bin.weight > 0.0)
    }

    /// Bytes held, as far as the allocator tells.
    pub fn heap_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        self.sketches.capacity() * size_of::<Sketch>()
            + self.weights.capacity() * size_of::<Weights>()
            + self.keys.capacity() * size_of::<i16>()
            + free * size_of::<u32>()
            + size_of_val(&*self.sums)
    }
}

/// Where rows of a key are summed.
#[inline]
#[allow(clippy::cast_sign_loss)] // no key is below the first
fn sum_of(key: i16) -> usize {
    usize::from(key.wrapping_sub(KEY_MIN) as u16) % SUMS
}

/// How many keys are smaller. All are compared, so that no loop ends by chance.
#[inline]
fn lower(keys: &[i16], key: i16) -> usize {
    if keys.len() > COMPARED {
        return keys.partition_point(|&its| its < key);
    }
    let smaller = |sum: u16, &its: &i16| sum.wrapping_add(u16::from(its < key));
    // Most lists are short: those of one length need no loop.
    if let Ok(keys) = <&[i16; 4]>::try_from(keys) {
        return usize::from(keys.iter().fold(0, smaller));
    }
    if let Ok(keys) = <&[i16; 8]>::try_from(keys) {
        return usize::from(keys.iter().fold(0, smaller));
    }
    usize::from(keys.iter().fold(0, smaller))
}

mod places;
#[cfg(test)]
mod tests;
