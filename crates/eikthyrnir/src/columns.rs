//! Observations by the column.

use std::hint::black_box;

use crate::aggregate::HalfLife;
use crate::bins::key as bin_key;
use crate::bounds::{ensure, Invalid, InvalidRow};
use crate::change::Change;
use crate::quality::{check_provider, check_value, check_weight, Quality};
use crate::settings::Metric;

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
    Handles(&'a [u64]),
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
    ) -> Result<Vec<u64>, InvalidRow> {
        let mut room = self.settings.providers_max - self.len().min(self.settings.providers_max);
        for (row, key) in keys.clone().enumerate() {
            check_provider(key).map_err(at(row))?;
            // A key that stands twice is counted twice; only if they do not fit even so are they told apart.
            if self.slots.find(key).is_none() {
                room = match room.checked_sub(1) {
                    Some(room) => room,
                    None => return self.handles_of_few(keys),
                };
            }
        }
        Ok(keys
            .map(|key| {
                let slot = self.slot(key);
                self.slots.handle(slot)
            })
            .collect())
    }

    /// As [`Quality::handles`], with each new key counted once.
    fn handles_of_few<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
    ) -> Result<Vec<u64>, InvalidRow> {
        let mut new = std::collections::HashSet::new();
        for (row, key) in keys.clone().enumerate() {
            check_provider(key).map_err(at(row))?;
            if self.slots.find(key).is_none() {
                new.insert(key);
            }
            ensure(
                self.len() + new.len() <= self.settings.providers_max,
                "provider",
                "must be known: the most providers the registry keeps are here",
            )
            .map_err(at(row))?;
        }
        Ok(keys
            .map(|key| {
                let slot = self.slot(key);
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

    fn slots_of(&self, handles: &[u64]) -> Result<Vec<u32>, InvalidRow> {
        let mut slots = Vec::with_capacity(handles.len());
        for (row, &handle) in handles.iter().enumerate() {
            let slot = self.slots.slot(handle).ok_or(InvalidRow {
                field: "providers",
                rule: "must be a handle of a provider that is here",
                row: Some(row),
            })?;
            slots.push(slot_of(slot as u64));
        }
        Ok(slots)
    }

    fn add_rows(&mut self, slots: &[u32], observations: &Observations<'_>) {
        let metric = observations.metric;
        let aggregates = &mut self.aggregates[metric as usize];
        let mut bins = metric
            .spread()
            .filter(|_| self.settings.quantiles)
            .map(|place| &mut self.bins[place]);
        let mut clock = Seen::new(self.half_life);
        for (block, slots) in slots.chunks(BLOCK).enumerate() {
            // Read once, all together: the processor fetches them side by side. Added up, so that it must.
            let mut touched: f64 = slots
                .iter()
                .map(|&slot| aggregates[slot as usize].weight)
                .sum();
            if let Some(bins) = &bins {
                touched += slots
                    .iter()
                    .filter_map(|&slot| bins[slot as usize].bins.first())
                    .map(|bin| bin.weight)
                    .sum::<f64>();
            }
            black_box(touched);
            for (place, &slot) in slots.iter().enumerate() {
                let row = block * BLOCK + place;
                let value = observations.values[row];
                let (whole, factor) = clock.at(match observations.at_ms {
                    Times::One(at_ms) => at_ms,
                    Times::Each(times) => times[row],
                });
                let weight = observations
                    .weights
                    .map_or(factor, |weights| weights[row] * factor);
                aggregates[slot as usize].add(value, weight, whole);
                if let Some(bins) = &mut bins {
                    bins[slot as usize].add(bin_key(value), weight, whole);
                }
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

/// The row of a column of keys.
fn at(row: usize) -> impl Fn(Invalid) -> InvalidRow {
    move |Invalid { rule, .. }| InvalidRow {
        field: "providers",
        rule,
        row: Some(row),
    }
}

/// The slot in a handle; slots are counted in 32 bits.
#[allow(clippy::cast_possible_truncation)] // the upper half is the generation
fn slot_of(handle: u64) -> u32 {
    handle as u32
}

/// Times in half-lives; the last one is remembered, because neighbours are often of the same moment.
struct Seen {
    half_life: HalfLife,
    at_ms: i64,
    split: (i64, f64),
}

impl Seen {
    fn new(half_life: HalfLife) -> Self {
        Self {
            half_life,
            at_ms: 0,
            split: (0, 1.0),
        }
    }

    /// The whole half-lives, and two to the power of the rest.
    #[inline]
    fn at(&mut self, at_ms: i64) -> (i64, f64) {
        if at_ms != self.at_ms {
            let (whole, rest) = self.half_life.split(at_ms);
            self.at_ms = at_ms;
            self.split = (whole, rest.exp2());
        }
        self.split
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
