//! Rows on their way to their aggregates: brought together by where those lie, weighed and added a block at a time.

use std::hint::black_box;

use crate::aggregate::{two_to, Aggregate, HalfLife};
use crate::bins::Spreads;
use crate::columns::{Observations, Times};
use crate::mapping::mapping;

/// Rows brought together at a time, if there are bins: without them the sort costs more than it saves. 16 bytes each.
pub const BATCH: usize = 1 << 21;
/// Slots that are worked on together: their aggregates and bins fit in the second cache.
const SLOTS_TOGETHER: usize = 1 << SHIFT;
const SHIFT: u32 = 13;
/// Rows whose aggregates are asked of the memory together, so that the waits overlap.
pub const BLOCK: usize = 128;
/// A batch's times are counted in 32 bits, with the first row's in the middle: 24 days either way.
const MIDDLE_MS: i64 = 1 << 31;

/// What a row weighs of its own: 1 or a number. Rows without weights carry none around.
pub trait Own: Copy + Default {
    /// The weight.
    fn weight(self) -> f64;
}

impl Own for () {
    #[inline]
    fn weight(self) -> f64 {
        1.0
    }
}

impl Own for f64 {
    #[inline]
    fn weight(self) -> f64 {
        self
    }
}

/// A row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<W> {
    value: f64,
    slot: u32,
    /// From the origin of its batch.
    since_ms: u32,
    own: W,
}

/// Rows whose times are near each other.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, W> {
    slots: &'a [u32],
    values: &'a [f64],
    times: Times<'a>,
    own: &'a [W],
    origin_ms: i64,
}

impl<'a, W> Batch<'a, W> {
    /// The batch that begins with the row `from`, which must be there.
    pub fn new(
        slots: &'a [u32],
        of: &Observations<'a>,
        own: &'a [W],
        from: usize,
        rows_max: usize,
    ) -> Self {
        let most = slots.len().min(from + rows_max);
        let (rows, origin_ms) = match of.at_ms {
            Times::One(at_ms) => (from..most, at_ms),
            Times::Each(times) => {
                let origin_ms = times[from].saturating_sub(MIDDLE_MS);
                let near = times[from..most].iter();
                let near = near.take_while(|&&at_ms| is_near(at_ms, origin_ms));
                (from..from + near.count(), origin_ms)
            }
        };
        Self {
            slots: &slots[rows.clone()],
            values: &of.values[rows.clone()],
            times: match of.at_ms {
                one @ Times::One(_) => one,
                Times::Each(times) => Times::Each(&times[rows.clone()]),
            },
            own: &own[rows],
            origin_ms,
        }
    }

    /// From when its times are counted.
    pub fn origin_ms(&self) -> i64 {
        self.origin_ms
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Whether the time is within 32 bits after the origin.
#[inline]
fn is_near(at_ms: i64, origin_ms: i64) -> bool {
    at_ms >= origin_ms && u32::try_from(at_ms.abs_diff(origin_ms)).is_ok()
}

/// Brings the rows of a batch together by a counting sort by the upper bits of the slot, so that their aggregates stay in the
/// cache. It is stable: every provider's rows keep their order, and the result is the same to the bit.
pub struct Sorter<W> {
    ends: Vec<usize>,
    events: Vec<Event<W>>,
}

impl<W: Own> Sorter<W> {
    pub fn new(slots: usize) -> Self {
        Self {
            ends: vec![0; slots.div_ceil(SLOTS_TOGETHER) + 1],
            events: Vec::new(),
        }
    }

    /// The rows in their new order.
    pub fn sorted(&mut self, batch: &Batch<'_, W>) -> &[Event<W>] {
        match batch.times {
            Times::One(_) => self.place(batch, std::iter::repeat_n(0, batch.len())),
            Times::Each(times) => {
                // They are near.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let since = |&at_ms: &i64| at_ms.wrapping_sub(batch.origin_ms) as u32;
                self.place(batch, times.iter().map(since));
            }
        }
        &self.events
    }

    #[inline]
    fn place(&mut self, batch: &Batch<'_, W>, since_ms: impl Iterator<Item = u32>) {
        let rows = batch.slots.iter().zip(batch.values).zip(batch.own);
        let rows = rows
            .zip(since_ms)
            .map(|(((&slot, &value), &own), since_ms)| Event {
                value,
                slot,
                since_ms,
                own,
            });
        let Self { ends, events } = self;
        if ends.len() <= 2 || batch.len() < ends.len() * BLOCK {
            events.clear();
            events.extend(rows);
            return;
        }
        events.resize(batch.len(), Event::default());
        ends.fill(0);
        for &slot in batch.slots {
            ends[(slot >> SHIFT) as usize + 1] += 1;
        }
        for group in 1..ends.len() {
            ends[group] += ends[group - 1];
        }
        // From here on the start of each group moves up to its end.
        for event in rows {
            let next = &mut ends[(event.slot >> SHIFT) as usize];
            events[*next] = event;
            *next += 1;
        }
    }
}

/// Up to [`BLOCK`] rows, weighed.
pub struct Block {
    half_life: HalfLife,
    /// Seen from the start of the half-life in `wholes`.
    weights: [f64; BLOCK],
    wholes: [i64; BLOCK],
    keys: [i16; BLOCK],
}

impl Block {
    pub fn new(half_life: HalfLife) -> Self {
        Self {
            half_life,
            weights: [0.0; BLOCK],
            wholes: [0; BLOCK],
            keys: [0; BLOCK],
        }
    }

    /// Weighs at most [`BLOCK`] events: their half-lives, and two to the power of what part of those has gone by.
    pub fn weigh<W: Own>(&mut self, events: &[Event<W>], origin_ms: i64) {
        let at = |since_ms: u32| self.half_life.split(origin_ms + i64::from(since_ms));
        let first = events.iter().map(|event| event.since_ms).min().unwrap_or(0);
        let last = events.iter().map(|event| event.since_ms).max().unwrap_or(0);
        let (whole, _) = at(first);
        // Mostly all are of one half-life, which then costs no division of integers each.
        let start_ms = whole.checked_mul(self.half_life.ms());
        let lead_ms = start_ms
            .filter(|_| whole == at(last).0)
            .and_then(|start_ms| origin_ms.checked_sub(start_ms));
        let places = self.weights.iter_mut().zip(&mut self.wholes).zip(events);
        if let Some(lead_ms) = lead_ms {
            for ((weight, its), event) in places {
                *its = whole;
                let rest = self.half_life.rest(lead_ms + i64::from(event.since_ms));
                *weight = two_to(rest) * event.own.weight();
            }
            return;
        }
        for ((weight, its), event) in places {
            let (whole, rest) = at(event.since_ms);
            *its = whole;
            *weight = two_to(rest) * event.own.weight();
        }
    }

    /// Adds the events that were weighed.
    pub fn add<W: Own>(
        &mut self,
        events: &[Event<W>],
        aggregates: &mut [Aggregate],
        spreads: Option<&mut Spreads>,
    ) {
        // Read once, all together: the processor fetches them side by side. Added up, so that it must.
        let mut touched = 0.0;
        for event in events {
            touched += aggregates[event.slot as usize].weight;
        }
        black_box(touched);
        if let Some(spreads) = spreads {
            self.add_to_spreads(events, spreads);
        }
        for ((event, &weight), &whole) in events.iter().zip(&self.weights).zip(&self.wholes) {
            aggregates[event.slot as usize].add(event.value, weight, whole);
        }
    }

    fn add_to_spreads<W: Own>(&mut self, events: &[Event<W>], spreads: &mut Spreads) {
        let mapping = mapping();
        let mut touched = 0;
        for (key, event) in self.keys.iter_mut().zip(events) {
            *key = mapping.key(event.value);
            touched ^= spreads.touch_head(event.slot as usize);
        }
        black_box(touched);
        let mut touched = 0.0;
        for (&key, event) in self.keys.iter().zip(events) {
            touched += spreads.touch(event.slot as usize, key);
        }
        black_box(touched);
        let rows = events.iter().zip(&self.weights).zip(&self.wholes);
        for (((event, &weight), &whole), &key) in rows.zip(&self.keys) {
            spreads.add(event.slot as usize, key, weight, whole);
        }
    }
}
