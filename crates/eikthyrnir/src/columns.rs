//! Observations by the column.

use std::collections::HashSet;

use crate::batches::{slot_of, Batch, Own};
use crate::blocks::{Block, BLOCK};
use crate::bounds::{ensure, Invalid, InvalidRow};
use crate::change::Change;
use crate::quality::{check_provider, check_value, check_weight, Quality};
use crate::settings::Metric;
use crate::sorting::{Sorter, BATCH};

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
        let made;
        let handles = match providers {
            Providers::Handles(handles) => {
                self.check_handles(handles)?;
                handles
            }
            Providers::Keys(keys) => {
                made = self.handles(keys.iter().copied())?;
                &made
            }
        };
        match observations.weights {
            Some(weights) => self.add_rows(handles, observations, weights),
            None => self.add_rows(handles, observations, &vec![(); handles.len()]),
        }
        Ok(self.changes(handles, observations))
    }

    fn check_handles(&self, handles: &[i64]) -> Result<(), InvalidRow> {
        if let Some(row) = self.slots.first_unknown(handles) {
            return Err(InvalidRow {
                field: "providers",
                rule: "must be a handle of a provider that is here",
                row: Some(row),
            });
        }
        Ok(())
    }

    fn add_rows<W: Own>(&mut self, handles: &[i64], observations: &Observations<'_>, own: &[W]) {
        let kept = &mut self.kept[observations.metric as usize];
        let mut sorter = Sorter::new(self.slots.slots(), handles.len());
        let mut block = Block::new(self.half_life);
        let mut from = 0;
        while from < handles.len() {
            let batch = Batch::new(handles, observations, own, from, BATCH, self.half_life);
            from += batch.len();
            sorter.pieces(&batch, |piece| {
                let mut parts = piece.parts().peekable();
                while let Some(part) = parts.next() {
                    block.add(&part, parts.peek(), &batch, kept);
                }
            });
        }
        sorter.done();
    }

    fn changes(&mut self, handles: &[i64], observations: &Observations<'_>) -> Vec<Change> {
        if self.settings.notice.is_none() || handles.is_empty() {
            return Vec::new();
        }
        let at_ms = match observations.at_ms {
            Times::One(at_ms) => at_ms,
            Times::Each(times) => times.iter().copied().max().unwrap_or_default(),
        };
        let mut slots: Vec<u32> = handles.iter().map(|&handle| slot_of(handle)).collect();
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
    let most = observations.metric.most();
    let sound = |&value: &f64| value >= 0.0 && value <= most;
    if let Some(row) = first_refused(observations.values, sound) {
        check_value(observations.metric, observations.values[row]).map_err(at("values", row))?;
    }
    let weights = observations.weights.unwrap_or_default();
    if let Some(row) = first_refused(weights, |&weight| weight > 0.0 && weight <= 1.0) {
        check_weight(weights[row]).map_err(at("weights", row))?;
    }
    Ok(())
}

/// The first row that is not sound. Rows are tried many at a time without a branch, and one by one only where one is bad.
fn first_refused<T>(column: &[T], sound: impl Fn(&T) -> bool) -> Option<usize> {
    let bad = column.chunks(BLOCK).position(|rows| {
        let faults = rows
            .iter()
            .fold(0_u64, |faults, row| faults | u64::from(!sound(row)));
        faults != 0
    })?;
    let rows = column.iter().skip(bad * BLOCK);
    let place = rows.into_iter().position(|row| !sound(row))?;
    Some(bad * BLOCK + place)
}
