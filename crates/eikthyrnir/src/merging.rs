//! Registries become one, and what is over is forgotten.

use crate::bounds::{ensure, Invalid};
use crate::quality::Quality;

impl Quality {
    /// Adds all that `other` has seen. Both must have the same half-life, and both keep quantiles or neither.
    ///
    /// # Errors
    /// [`Invalid`] for another half-life, or if there is no room for the providers or raters new here.
    pub fn merge(&mut self, other: &Self) -> Result<(), Invalid> {
        ensure(
            self.half_life == other.half_life,
            "other",
            "must have the same half_life_ms",
        )?;
        ensure(
            self.settings.quantiles == other.settings.quantiles,
            "other",
            "must keep quantiles if this does, and only then",
        )?;
        let new = other
            .slots
            .iter()
            .filter(|(_, provider)| self.slots.find(provider).is_none());
        ensure(
            self.len() + new.count() <= self.settings.providers_max,
            "other",
            "must not have more providers than fit here",
        )?;
        let new: usize = other
            .slots
            .iter()
            .map(|(theirs, provider)| {
                let ours = self.slots.find(provider);
                let new = |metric| {
                    let said = other.raters.of(theirs, metric).iter();
                    said.filter(|(rater, _)| {
                        !ours.is_some_and(|ours| self.raters.knows(ours, metric, rater))
                    })
                    .count()
                };
                new(0) + new(1)
            })
            .sum();
        ensure(
            self.raters.len() + new <= self.settings.raters_max,
            "other",
            "must not have more raters than fit here",
        )?;
        for (theirs, provider) in other.slots.iter() {
            let ours = self.slot(provider);
            for (here, there) in self.kept.iter_mut().zip(&other.kept) {
                here.merge(ours, there, theirs);
            }
            for metric in 0..2 {
                for (rater, said) in other.raters.of(theirs, metric) {
                    let here = self.raters.entry(ours, metric, *rater);
                    *here = here.merged(said);
                }
            }
        }
        Ok(())
    }

    /// Forgets a provider; false if it was not known.
    pub fn remove(&mut self, provider: &[u8]) -> bool {
        let Some(slot) = self.slots.remove(provider) else {
            return false;
        };
        for kept in &mut self.kept {
            kept.clear(slot);
        }
        if let Some(told) = self.told.get_mut(slot) {
            *told = self.settings.priors.map(|prior| prior.mean);
        }
        self.raters.remove(slot);
        true
    }

    /// Forgets every provider of whom less than `weight_min` is left in each metric, and returns how many those were; of
    /// the others, forgets the raters of whom less is left.
    pub fn prune(&mut self, at_ms: i64, weight_min: f64) -> usize {
        let half_life = self.half_life;
        self.raters.prune(at_ms, half_life, weight_min);
        let faded: Vec<Box<[u8]>> =
            self.slots
                .iter()
                .filter(|&(slot, _)| {
                    let rated = (0..2).any(|metric| !self.raters.of(slot, metric).is_empty());
                    !rated
                        && self.kept.iter().all(|kept| {
                            kept.aggregate(slot).weight_at(at_ms, half_life) < weight_min
                        })
                })
                .map(|(_, provider)| provider.into())
                .collect();
        for provider in &faded {
            self.remove(provider);
        }
        faded.len()
    }
}
