//! No rater alone decides what a provider is worth.
//!
//! What a rater said of a provider is an aggregate of its own. When the provider's metric is read, it counts with at most
//! `rater_weight_max`: an aggregate of decayed weight `W` enters with the factor `min(1, rater_weight_max / W)`. Nothing is
//! cut when it arrives, so that order and place still do not matter.

use std::collections::HashMap;

use crate::aggregate::{Aggregate, HalfLife};

/// Who rates: an id of 16 bytes.
pub type Rater = [u8; 16];

/// What each rater said of each provider's shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raters {
    /// By slot and metric; by rising rater.
    said: HashMap<(usize, u8), Vec<(Rater, Aggregate)>>,
    count: usize,
}

impl Raters {
    /// (Provider, metric, rater) kept.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn of(&self, slot: usize, metric: u8) -> &[(Rater, Aggregate)] {
        self.said.get(&(slot, metric)).map_or(&[], Vec::as_slice)
    }

    pub fn knows(&self, slot: usize, metric: u8, rater: &Rater) -> bool {
        self.of(slot, metric)
            .binary_search_by(|(known, _)| known.cmp(rater))
            .is_ok()
    }

    /// The aggregate of a rater, made if there is none.
    pub fn entry(&mut self, slot: usize, metric: u8, rater: Rater) -> &mut Aggregate {
        let list = self.said.entry((slot, metric)).or_default();
        let place = match list.binary_search_by(|(known, _)| known.cmp(&rater)) {
            Ok(place) => place,
            Err(place) => {
                list.insert(place, (rater, Aggregate::default()));
                self.count += 1;
                place
            }
        };
        &mut list[place].1
    }

    /// `measured` and what all raters said, each capped, at `at_ms`.
    pub fn merged_into(
        &self,
        measured: &Aggregate,
        slot: usize,
        metric: u8,
        at_ms: i64,
        half_life: HalfLife,
        weight_max: f64,
    ) -> Aggregate {
        let mut all = *measured;
        for (_, said) in self.of(slot, metric) {
            let weight = said.weight_at(at_ms, half_life);
            let factor = if weight > weight_max {
                weight_max / weight
            } else {
                1.0
            };
            all = all.merged(&said.scaled(factor));
        }
        all
    }

    pub fn remove(&mut self, slot: usize) {
        for metric in 0..2 {
            if let Some(list) = self.said.remove(&(slot, metric)) {
                self.count -= list.len();
            }
        }
    }

    /// Forgets each rater of whom less than `weight_min` is left.
    pub fn prune(&mut self, at_ms: i64, half_life: HalfLife, weight_min: f64) {
        self.said.retain(|_, list| {
            list.retain(|(_, said)| said.weight_at(at_ms, half_life) >= weight_min);
            !list.is_empty()
        });
        self.count = self.said.values().map(Vec::len).sum();
    }

    /// Bytes held, about.
    pub fn heap_bytes(&self) -> usize {
        let lists: usize = self.said.values().map(Vec::capacity).sum();
        lists * size_of::<(Rater, Aggregate)>() + self.said.capacity() * 48
    }
}
