//! Rows weighed and added to their aggregates and bins, a block at a time.

use std::hint::black_box;

use crate::aggregate::{powers, two_to, Aggregate, HalfLife};
use crate::batches::{Event, Own, Whole};
use crate::bins::Spreads;
use crate::mapping::mapping;

/// Rows whose aggregates are asked of the memory together, so that the waits overlap.
pub const BLOCK: usize = 256;

/// Up to [`BLOCK`] rows.
pub struct Block {
    half_life: HalfLife,
    /// Seen from the start of the half-life in `wholes`.
    weights: [f64; BLOCK],
    wholes: [i64; BLOCK],
    keys: [i16; BLOCK],
    /// Where a run of rows of one provider begins, and, one more, where the last one ends.
    starts: [u16; BLOCK + 1],
    runs: usize,
}

impl Block {
    pub fn new(half_life: HalfLife) -> Self {
        Self {
            half_life,
            weights: [0.0; BLOCK],
            wholes: [0; BLOCK],
            keys: [0; BLOCK],
            starts: [0; BLOCK + 1],
            runs: 0,
        }
    }

    /// Adds at most [`BLOCK`] events.
    pub fn add<W: Own>(
        &mut self,
        events: &[Event<W>],
        origin_ms: i64,
        whole: Option<Whole>,
        aggregates: &mut [Aggregate],
        spreads: Option<&mut Spreads>,
    ) {
        self.find_runs(events);
        self.touch(events, aggregates, spreads.as_deref());
        if let Some(whole) = whole {
            self.weigh_together(events, whole);
            match spreads {
                Some(spreads) => self.add_runs_spread(events, whole.number, aggregates, spreads),
                None => self.add_runs(events, whole.number, aggregates),
            }
            return;
        }
        self.weigh_each(events, origin_ms);
        for ((event, &weight), &whole) in events.iter().zip(&self.weights).zip(&self.wholes) {
            aggregates[event.slot() as usize].add(event.value, weight, whole);
        }
        if let Some(spreads) = spreads {
            let rows = events.iter().zip(&self.weights).zip(&self.wholes);
            for (((event, &weight), &whole), &key) in rows.zip(&self.keys) {
                spreads.add(event.slot() as usize, key, weight, whole);
            }
        }
    }

    #[inline(never)]
    #[allow(clippy::cast_possible_truncation)] // at most BLOCK
    fn find_runs<W: Own>(&mut self, events: &[Event<W>]) {
        let mut runs = 0;
        let mut last = events.first().map_or(0, |event| !event.slot());
        for (row, event) in events.iter().enumerate().take(BLOCK) {
            // What is no start is overwritten by what follows: no branch that could be guessed wrong.
            self.starts[runs] = row as u16;
            runs += usize::from(event.slot() != last);
            last = event.slot();
        }
        self.starts[runs] = events.len() as u16;
        self.runs = runs;
    }

    /// Reads once, all together, what will be changed: the processor fetches it side by side. Added up, so that it must.
    #[inline(never)]
    fn touch<W: Own>(
        &mut self,
        events: &[Event<W>],
        aggregates: &[Aggregate],
        spreads: Option<&Spreads>,
    ) {
        let slots = || {
            self.starts[..self.runs]
                .iter()
                .map(|&start| events[usize::from(start)].slot() as usize)
        };
        let mut touched = 0.0;
        for slot in slots() {
            touched += aggregates[slot].weight;
        }
        black_box(touched);
        let Some(spreads) = spreads else { return };
        let mut touched = 0;
        for slot in slots() {
            touched ^= spreads.touch_head(slot);
        }
        black_box(touched);
        let mapping = mapping();
        for (key, event) in self.keys.iter_mut().zip(events) {
            *key = mapping.key(event.value);
        }
        let mut touched = 0.0;
        for (&start, slot) in self.starts[..self.runs].iter().zip(slots()) {
            touched += spreads.touch(slot, self.keys[usize::from(start)]);
        }
        black_box(touched);
    }

    /// Two to the power of what part of the half-life has gone by, times the own weight.
    #[inline(never)]
    fn weigh_together<W: Own>(&mut self, events: &[Event<W>], whole: Whole) {
        let powers = powers();
        // Sums of whole numbers below 2⁵³: exact.
        #[allow(clippy::cast_precision_loss)]
        let (lead_ms, length_ms) = (whole.lead_ms as f64, self.half_life.ms() as f64);
        for (weight, event) in self.weights.iter_mut().zip(events) {
            let rest = (lead_ms + f64::from(event.since_ms())) / length_ms;
            *weight = two_to(powers, rest) * event.own.weight();
        }
    }

    #[inline(never)]
    fn weigh_each<W: Own>(&mut self, events: &[Event<W>], origin_ms: i64) {
        let powers = powers();
        let places = self.weights.iter_mut().zip(&mut self.wholes);
        for ((weight, its), event) in places.zip(events) {
            let (whole, rest) = self
                .half_life
                .split(origin_ms + i64::from(event.since_ms()));
            *its = whole;
            *weight = two_to(powers, rest) * event.own.weight();
        }
    }

    #[inline(never)]
    fn add_runs<W: Own>(&self, events: &[Event<W>], whole: i64, aggregates: &mut [Aggregate]) {
        let mut from = 0;
        for &to in &self.starts[1..=self.runs] {
            let to = usize::from(to);
            let (run, weights) = (&events[from..to], &self.weights[from..to]);
            let rows = run.iter().zip(weights);
            aggregates[run[0].slot() as usize]
                .add_run(rows.map(|(event, &weight)| (event.value, weight)), whole);
            from = to;
        }
    }

    #[inline(never)]
    fn add_runs_spread<W: Own>(
        &self,
        events: &[Event<W>],
        whole: i64,
        aggregates: &mut [Aggregate],
        spreads: &mut Spreads,
    ) {
        let mut from = 0;
        for &to in &self.starts[1..=self.runs] {
            let to = usize::from(to);
            let (run, weights) = (&events[from..to], &self.weights[from..to]);
            let slot = run[0].slot() as usize;
            let mut aggregate = aggregates[slot];
            let late = aggregate.add_first(run[0].value, weights[0], whole);
            spreads.add_run(slot, (&self.keys[from..to], weights), whole, |row| {
                aggregate.add_near(run[row].value, weights[row] * late);
            });
            aggregates[slot] = aggregate;
            from = to;
        }
    }
}
