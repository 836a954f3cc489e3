//! Observations by the column.

use std::collections::HashSet;
use std::hint::black_box;

use crate::aggregate::{two_to, Aggregate, HalfLife};
use crate::bins::{key as bin_key, Bins};
use crate::bounds::{ensure, Invalid, InvalidRow};
use crate::change::Change;
use crate::quality::{check_provider, check_value, check_weight, Quality};
use crate::settings::Metric;

/// Rows brought together at a time, if there are bins: without them the sort costs more than it saves. 32 bytes each.
const BATCH: usize = 1 << 19;
/// Slots that are worked on together: their aggregates and bins fit in the second cache.
const SLOTS_TOGETHER: usize = 8_192;
/// Rows whose aggregates are asked of the memory together, so that the waits overlap.
const BLOCK: usize = 128;

/// When each row was observed.
#[derive(Clone, Copy, Debug)]
pub enum Times<'a> {
    /// All at once.
    One(i64),
    /// Row by row.
    Each(&'a [i64]),
}

/// Observations of one metric, one a row.
#[derive(Clone, Copy, Debug)]
pub struct Observations<'a> {
    /// Of what they are.
    pub metric: Metric,
    /// As in [`Quality::observe`].
    pub values: &'a [f64],
    /// When.
    pub at_ms: Times<'a>,
    /// As in [`Quality::observe`]; none: 1 each.
    pub weights: Option<&'a [f64]>,
}

/// Whose the rows are.
#[derive(Clone, Copy, Debug)]
pub enum Providers<'a> {
    /// By handles of this registry.
    Handles(&'a [i64]),
    /// By keys; new ones are made known.
    Keys(&'a [&'a [u8]]),
}

impl Providers<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Handles(handles) => handles.len(),
            Self::Keys(keys) => keys.len(),
        }
    }
}

impl Quality {
    /// Makes providers known and returns a handle for each, good until the provider is removed or pruned.
    ///
    /// # Errors
    /// [`InvalidRow`] for a key that is empty or too long, or if there is no room for all; none is then made known.
    pub fn handles<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
    ) -> Result<Vec<i64>, InvalidRow> {
        let mut new = HashSet::new();
        let mut slots = Vec::with_capacity(keys.size_hint().0);
        for (row, key) in keys.clone().enumerate() {
            check_provider(key).map_err(at(row))?;
            let slot = self.slots.find(key);
            if slot.is_none() && new.insert(key) {
                ensure(
                    self.len() + new.len() <= self.settings.providers_max,
                    "provider",
                    "must be known: the most providers the registry keeps are here",
                )
                .map_err(at(row))?;
            }
            slots.push(slot);
        }
        drop(new);
        Ok(keys
            .zip(slots)
            .map(|(key, slot)| {
                let slot = slot.unwrap_or_else(|| self.slot(key));
                self.slots.handle(slot)
            })
            .collect())
    }

    /// Adds all rows, in their order, or none. The changes are those of the means after the last row.
    ///
    /// # Errors
    /// [`InvalidRow`] for columns of different lengths, or the first row that [`Quality::observe`] would refuse.
    pub fn observe_many(
        &mut self,
        providers: Providers<'_>,
        observations: &Observations<'_>,
    ) -> Result<Vec<Change>, InvalidRow> {
        check_lengths(providers.len(), observations)?;
        check_rows(observations)?;
        let slots: Vec<u32> = match providers {
            Providers::Handles(handles) => self.slots_of(handles)?,
            Providers::Keys(keys) => {
                let handles = self.handles(keys.iter().copied())?;
                handles.into_iter().map(slot_of).collect()
            }
        };
        self.add_rows(&slots, observations);
        Ok(self.changes(slots, observations))
    }

    fn slots_of(&self, handles: &[i64]) -> Result<Vec<u32>, InvalidRow> {
        let mut slots = Vec::with_capacity(handles.len());
        for (row, &handle) in handles.iter().enumerate() {
            let slot = self
                .slots
                .slot(handle)
                .map(|_| slot_of(handle))
                .ok_or(InvalidRow {
                    field: "providers",
                    rule: "must be a handle of a provider that is here",
                    row: Some(row),
                })?;
            slots.push(slot);
        }
        Ok(slots)
    }

    fn add_rows(&mut self, slots: &[u32], observations: &Observations<'_>) {
        let metric = observations.metric;
        let spread = metric.spread().filter(|_| self.settings.quantiles);
        let mut bins = spread.map(|place| &mut self.bins[place]);
        let together = if spread.is_some() { BATCH } else { BLOCK };
        let mut batches = Batches::new(self.slots.slots());
        let mut clock = Clock::new(self.half_life);
        let mut row = 0;
        for slots in slots.chunks(together) {
            let events = batches.sorted(slots, |slot| {
                let value = observations.values[row];
                let (whole, factor) = clock.at(match observations.at_ms {
                    Times::One(at_ms) => at_ms,
                    Times::Each(times) => times[row],
                });
                let weight = observations
                    .weights
                    .map_or(factor, |weights| weights[row] * factor);
                row += 1;
                Event {
                    value,
                    weight,
                    whole,
                    slot,
                    key: spread.map_or(0, |_| bin_key(value)),
                }
            });
            let aggregates = &mut self.aggregates[metric as usize];
            for block in events.chunks(BLOCK) {
                apply(block, aggregates, bins.as_deref_mut());
            }
        }
    }

    fn changes(&mut self, mut slots: Vec<u32>, observations: &Observations<'_>) -> Vec<Change> {
        if self.settings.notice.is_none() || slots.is_empty() {
            return Vec::new();
        }
        let at_ms = match observations.at_ms {
            Times::One(at_ms) => at_ms,
            Times::Each(times) => times.iter().copied().max().unwrap_or_default(),
        };
        slots.sort_unstable();
        slots.dedup();
        slots
            .into_iter()
            .filter_map(|slot| self.told_of(slot as usize, observations.metric, at_ms))
            .collect()
    }
}

fn apply(events: &[Event], aggregates: &mut [Aggregate], bins: Option<&mut Vec<Bins>>) {
    // Read once, all together: the processor fetches them side by side. Added up, so that it must.
    let mut touched: f64 = events
        .iter()
        .map(|event| aggregates[event.slot as usize].weight)
        .sum();
    if let Some(bins) = &bins {
        touched += events
            .iter()
            .map(|event| bins[event.slot as usize].touch(event.key))
            .sum::<f64>();
    }
    black_box(touched);
    for event in events {
        aggregates[event.slot as usize].add(event.value, event.weight, event.whole);
    }
    if let Some(bins) = bins {
        for event in events {
            bins[event.slot as usize].add(event.key, event.weight, event.whole);
        }
    }
}

/// A row, ready to be added.
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    value: f64,
    /// Seen from the start of the half-life `whole`.
    weight: f64,
    whole: i64,
    slot: u32,
    key: i16,
}

/// Rows brought together by where their aggregates lie, so that these stay in the cache: a counting sort by the upper bits
/// of the slot. It is stable, so that every provider's rows keep their order and the result is the same to the bit.
struct Batches {
    shift: u32,
    ends: Vec<usize>,
    events: Vec<Event>,
}

impl Batches {
    fn new(slots: usize) -> Self {
        Self {
            shift: SLOTS_TOGETHER.ilog2(),
            ends: vec![0; slots.div_ceil(SLOTS_TOGETHER) + 1],
            events: Vec::new(),
        }
    }

    fn sorted(&mut self, slots: &[u32], mut event: impl FnMut(u32) -> Event) -> &[Event] {
        self.events.resize(slots.len(), Event::default());
        if self.ends.len() <= 2 || slots.len() < self.ends.len() * BLOCK {
            for (place, &slot) in self.events.iter_mut().zip(slots) {
                *place = event(slot);
            }
            return &self.events;
        }
        self.ends.fill(0);
        for &slot in slots {
            self.ends[(slot >> self.shift) as usize + 1] += 1;
        }
        for group in 1..self.ends.len() {
            self.ends[group] += self.ends[group - 1];
        }
        // From here on the start of each group moves up to its end.
        for &slot in slots {
            let next = &mut self.ends[(slot >> self.shift) as usize];
            self.events[*next] = event(slot);
            *next += 1;
        }
        &self.events
    }
}

/// The row of a column of keys.
fn at(row: usize) -> impl Fn(Invalid) -> InvalidRow {
    move |Invalid { rule, .. }| InvalidRow {
        field: "providers",
        rule,
        row: Some(row),
    }
}

/// The slot in a handle; slots are counted in 32 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the upper half is the generation
fn slot_of(handle: i64) -> u32 {
    handle as u32
}

/// Times in half-lives. Neighbouring rows are mostly of the same half-life: that one is remembered, and costs no division
/// of integers.
struct Clock {
    half_life: HalfLife,
    whole: i64,
    /// When that half-life begins; none before the first row.
    start_ms: Option<i64>,
}

impl Clock {
    fn new(half_life: HalfLife) -> Self {
        Self {
            half_life,
            whole: 0,
            start_ms: None,
        }
    }

    /// The whole half-lives, and two to the power of the rest.
    #[inline]
    fn at(&mut self, at_ms: i64) -> (i64, f64) {
        let since = self
            .start_ms
            .and_then(|start| at_ms.checked_sub(start))
            .filter(|since| (0..self.half_life.ms()).contains(since));
        if let Some(since) = since {
            return (self.whole, two_to(self.half_life.rest(since)));
        }
        let (whole, rest) = self.half_life.split(at_ms);
        self.whole = whole;
        self.start_ms = whole.checked_mul(self.half_life.ms());
        (whole, two_to(rest))
    }
}

fn check_lengths(rows: usize, observations: &Observations<'_>) -> Result<(), Invalid> {
    const RULE: &str = "must have as many rows as providers";
    ensure(observations.values.len() == rows, "values", RULE)?;
    if let Times::Each(times) = observations.at_ms {
        ensure(times.len() == rows, "at_ms", RULE)?;
    }
    if let Some(weights) = observations.weights {
        ensure(weights.len() == rows, "weights", RULE)?;
    }
    Ok(())
}

fn check_rows(observations: &Observations<'_>) -> Result<(), InvalidRow> {
    let at = |field, row| {
        move |Invalid { rule, .. }| InvalidRow {
            field,
            rule,
            row: Some(row),
        }
    };
    for (row, &value) in observations.values.iter().enumerate() {
        check_value(observations.metric, value).map_err(at("values", row))?;
    }
    for (row, &weight) in observations.weights.unwrap_or_default().iter().enumerate() {
        check_weight(weight).map_err(at("weights", row))?;
    }
    Ok(())
}
