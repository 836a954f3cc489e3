//! Observations by the column.

use std::collections::HashSet;

use crate::batches::{slot_of, Batch, Own};
use crate::blocks::{Block, BLOCK};
use crate::bounds::{ensure, Invalid, InvalidRow};
use crate::change::Change;
use crate::names::AT_A_TIME;
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
    pub fn handles<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<i64>, InvalidRow> {
        let (mut handles, mut new_rows) = (Vec::with_capacity(keys.len()), Vec::new());
        let mut refused = Ok(());
        'rows: for keys in keys.chunks(AT_A_TIME) {
            let slots = self.slots.find_each(keys);
            for (key, slot) in keys.iter().zip(slots) {
                refused = check_provider(key.as_ref()).map_err(at(handles.len()));
                if refused.is_err() {
                    break 'rows;
                }
                handles.push(slot.map_or_else(
                    || {
                        new_rows.push(handles.len());
                        0
                    },
                    |slot| self.slots.handle(slot as usize),
                ));
            }
        }
        // Before the row that was refused, there may be one that has no room.
        self.check_room(keys, &new_rows)?;
        refused?;
        for row in new_rows {
            let slot = self.slot(keys[row].as_ref());
            handles[row] = self.slots.handle(slot);
        }
        Ok(handles)
    }

    /// Room for the keys of those rows, of which some may be the same.
    fn check_room<K: AsRef<[u8]>>(&self, keys: &[K], rows: &[usize]) -> Result<(), InvalidRow> {
        let room = self.settings.providers_max.saturating_sub(self.len());
        if rows.len() <= room {
            return Ok(());
        }
        let mut new = HashSet::new();
        for &row in rows {
            new.insert(keys[row].as_ref());
            ensure(
                new.len() <= room,
                "provider",
                "must be known: the most providers the registry keeps are here",
            )
            .map_err(at(row))?;
        }
        Ok(())
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
                made = self.handles(keys)?;
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
