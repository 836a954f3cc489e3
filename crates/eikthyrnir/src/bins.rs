//! Quantiles of what fades.
//!
//! The stores of the crate `sketches-ddsketch` count whole observations and cannot forget; here each bin holds a weight
//! under forward decay instead, so that merging is adding and moving the landmark multiplies by a power of two, which is
//! exact.
//!
//! The bins of all providers lie in one place, a block for each provider: an observation touches the provider's head and the
//! bin, and no allocator. A block is a list of bins by rising key, or, once at least a quarter of it would be used, a window:
//! one bin for each key from the first on, found without a search.

use crate::aggregate::power_of_two;
use crate::mapping::mapping;

/// Weights are sums of rounded numbers; a rank is met if it is met within this share.
const RANK_SLACK: f64 = 1e-9;
/// Bins in the smallest block; each class of blocks is twice the one before.
const UNIT: usize = 4;
const CLASSES: usize = 11;
/// From this many bins on, a window is worth its empty places if it has at most [`SPARSENESS`] places a bin.
const WINDOW_FROM: usize = 8;
const SPARSENESS: usize = 4;
/// Units up to which comparing with all keys is faster than halving.
const COMPARED: usize = 16;
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

/// The keys of [`UNIT`] bins of a list.
#[derive(Clone, Copy, Debug)]
struct Keys([i16; UNIT]);

impl Default for Keys {
    fn default() -> Self {
        Self([NO_KEY; UNIT])
    }
}

/// Where the bins of one slot lie.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// In half-lives.
    landmark: i64,
    /// The first unit of its block.
    block: u32,
    /// Of a window: the key of its first bin. Of a list: the number of its bins.
    start: i16,
    /// There is no block in class 0; in each other one a block has `2 << class` bins.
    class: u8,
    window: bool,
}

impl Head {
    #[inline]
    fn units(self) -> std::ops::Range<usize> {
        let block = self.block as usize;
        block..block + self.places() / UNIT
    }

    #[inline]
    fn places(self) -> usize {
        (2 << self.class) & !2
    }

    /// Bins of a list.
    #[inline]
    fn listed(self) -> usize {
        usize::from(self.start.unsigned_abs())
    }

    /// Where the bin of the key is in a window, or some place beyond it.
    #[inline]
    fn place(self, key: i16) -> usize {
        usize::try_from(key - self.start).unwrap_or(usize::MAX)
    }

    #[inline]
    fn is_empty(self) -> bool {
        !self.window && self.start == 0
    }
}

/// How the observations of one metric are spread, slot by slot.
#[derive(Clone, Debug, Default)]
pub struct Spreads {
    heads: Vec<Head>,
    weights: Vec<Weights>,
    /// Of lists, beside their weights.
    keys: Vec<Keys>,
    /// Blocks given back, by class.
    free: [Vec<u32>; CLASSES],
}

impl Spreads {
    /// Makes room for more slots, in which nothing was seen.
    pub fn resize(&mut self, slots: usize) {
        self.heads.resize(slots, Head::default());
    }

    /// The landmark of a slot, in half-lives.
    pub fn landmark(&self, slot: usize) -> i64 {
        self.heads[slot].landmark
    }

    /// Adds `weight`, seen from the start of the half-life `whole`.
    #[inline]
    pub fn add(&mut self, slot: usize, key: i16, weight: f64, whole: i64) {
        let mut weight = weight;
        let head = &mut self.heads[slot];
        if head.is_empty() {
            head.landmark = whole;
        } else if whole > head.landmark {
            self.move_to(slot, whole);
        } else if whole < head.landmark {
            weight *= power_of_two(whole.saturating_sub(head.landmark));
        }
        let head = self.heads[slot];
        match self.find(head, key) {
            Some(place) => *self.weight_mut(head, place) += weight,
            None => self.insert(slot, Bin { key, weight }),
        }
    }

    /// What [`Spreads::add`] does one by one, to the bit; `also` is called for each row but the first, as two waits are better
    /// done in turns.
    #[inline]
    pub fn add_run(
        &mut self,
        slot: usize,
        rows: (&[i16], &[f64]),
        whole: i64,
        mut also: impl FnMut(usize),
    ) {
        let mut rows = rows.0.iter().zip(rows.1).enumerate();
        let Some((_, (&key, &weight))) = rows.next() else {
            return;
        };
        self.add(slot, key, weight, whole);
        // After one there is something, and the landmark is not before `whole`.
        let mut head = self.heads[slot];
        let late = power_of_two(whole.saturating_sub(head.landmark));
        for (row, (&key, &weight)) in rows {
            also(row);
            let weight = weight * late;
            if let Some(place) = self.find(head, key) {
                *self.weight_mut(head, place) += weight;
            } else {
                self.insert(slot, Bin { key, weight });
                head = self.heads[slot];
            }
        }
    }

    /// Where the bin of the key is, if there is one.
    #[inline]
    fn find(&self, head: Head, key: i16) -> Option<usize> {
        if head.window {
            return Some(head.place(key)).filter(|&place| place < head.places());
        }
        let keys = &self.keys[head.units()];
        let place = lower(keys, key);
        let found = keys.get(place / UNIT)?.0[place % UNIT];
        (found == key).then_some(place)
    }

    /// Something of the head; only to have the memory fetch it.
    #[inline]
    pub fn touch_head(&self, slot: usize) -> i64 {
        self.heads[slot].landmark
    }

    /// Something of where the bin is likely to be, as [`Spreads::touch_head`].
    #[inline]
    pub fn touch(&self, slot: usize, key: i16) -> f64 {
        let head = self.heads[slot];
        let place = if head.window { head.place(key) } else { 0 };
        let unit = head.block as usize + place / UNIT;
        self.weights.get(unit).map_or(0.0, |unit| unit.0[0])
    }

    #[inline]
    fn weight_mut(&mut self, head: Head, place: usize) -> &mut f64 {
        &mut self.weights[head.block as usize + place / UNIT].0[place % UNIT]
    }

    #[inline]
    fn key_mut(&mut self, head: Head, place: usize) -> &mut i16 {
        &mut self.keys[head.block as usize + place / UNIT].0[place % UNIT]
    }

    #[inline(never)]
    fn insert(&mut self, slot: usize, bin: Bin) {
        if bin.weight <= 0.0 {
            return;
        }
        let head = self.heads[slot];
        if !head.window && head.listed() < head.places() {
            let listed = head.listed();
            let place = lower(&self.keys[head.units()], bin.key);
            for place in (place..listed).rev() {
                let weight = *self.weight_mut(head, place);
                *self.weight_mut(head, place + 1) = weight;
                let key = *self.key_mut(head, place);
                *self.key_mut(head, place + 1) = key;
            }
            *self.key_mut(head, place) = bin.key;
            *self.weight_mut(head, place) = bin.weight;
            self.heads[slot].start += 1;
            return;
        }
        let mut bins: Vec<Bin> = self.iter(slot).collect();
        bins.insert(bins.partition_point(|held| held.key < bin.key), bin);
        self.put(slot, head.landmark, &bins);
    }

    /// Replaces all that was seen in a slot by bins of rising keys.
    pub fn put(&mut self, slot: usize, landmark: i64, bins: &[Bin]) {
        self.clear(slot);
        self.heads[slot].landmark = landmark;
        let (Some(first), Some(last)) = (bins.first(), bins.last()) else {
            return;
        };
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
        let head = Head {
            landmark,
            block: self.block(class),
            start: if is_window {
                first.key - margin
            } else {
                i16::try_from(bins.len()).unwrap_or(i16::MAX)
            },
            class,
            window: is_window,
        };
        self.heads[slot] = head;
        self.weights[head.units()].fill(Weights::default());
        self.keys[head.units()].fill(Keys::default());
        for (listed, bin) in bins.iter().enumerate() {
            let place = if is_window {
                head.place(bin.key)
            } else {
                *self.key_mut(head, listed) = bin.key;
                listed
            };
            *self.weight_mut(head, place) = bin.weight;
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
        self.keys.resize(block + units, Keys::default());
        // 2³² units are 160 GB.
        u32::try_from(block).unwrap_or(u32::MAX)
    }

    /// Forgets all that was seen in a slot.
    pub fn clear(&mut self, slot: usize) {
        let head = std::mem::take(&mut self.heads[slot]);
        if head.class > 0 {
            self.free[usize::from(head.class)].push(head.block);
        }
    }

    /// Adds all that another has seen in its slot.
    pub fn merge(&mut self, slot: usize, other: &Self, theirs: usize) {
        for bin in other.iter(theirs) {
            self.add(slot, bin.key, bin.weight, other.landmark(theirs));
        }
    }

    #[inline(never)]
    fn move_to(&mut self, slot: usize, landmark: i64) {
        let head = self.heads[slot];
        let factor = power_of_two(head.landmark.saturating_sub(landmark));
        if factor <= 0.0 {
            self.clear(slot);
        }
        self.heads[slot].landmark = landmark;
        for unit in &mut self.weights[head.units()] {
            for weight in &mut unit.0 {
                *weight *= factor;
            }
        }
    }

    /// The bins that hold something, by rising key.
    pub fn iter(&self, slot: usize) -> impl Iterator<Item = Bin> + '_ {
        let head = self.heads[slot];
        let weights = &self.weights[head.units()];
        let keys = &self.keys[head.units()];
        let places = if head.window {
            head.places()
        } else {
            head.listed()
        };
        (0..places)
            .map(move |place| Bin {
                key: if head.window {
                    head.start + i16::try_from(place).unwrap_or(i16::MAX)
                } else {
                    keys[place / UNIT].0[place % UNIT]
                },
                weight: weights[place / UNIT].0[place % UNIT],
            })
            .filter(|bin| bin.weight > 0.0)
    }

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

    /// Bytes held, as far as the allocator tells.
    pub fn heap_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        self.heads.capacity() * size_of::<Head>()
            + self.weights.capacity() * size_of::<Weights>()
            + self.keys.capacity() * size_of::<Keys>()
            + free * size_of::<u32>()
    }
}

/// How many keys are smaller. Places that are empty are compared like others, so that no loop ends by chance.
#[inline]
fn lower(keys: &[Keys], key: i16) -> usize {
    let smaller = |unit: &Keys| {
        let of = |place: usize| u32::from(unit.0[place] < key);
        (of(0).wrapping_add(of(1))).wrapping_add(of(2).wrapping_add(of(3)))
    };
    match keys {
        [] => 0,
        [unit] => smaller(unit) as usize,
        _ if keys.len() <= COMPARED => {
            let sum = |sum: u32, unit| sum.wrapping_add(smaller(unit));
            keys.iter().fold(0, sum) as usize
        }
        _ => {
            let below = keys.partition_point(|unit| unit.0[UNIT - 1] < key);
            below * UNIT + keys.get(below).map_or(0, |unit| smaller(unit) as usize)
        }
    }
}

#[cfg(test)]
mod tests;
