//! The offers of a snapshot, and its settings and breakers.

use crate::bounds::Invalid;
use crate::breaker::Breaker;
use crate::codec::{broken, whole, Reader, Writer};
use crate::offer::{Offer, Visibility};
use crate::party::NONE;
use crate::pool::Seen;
use crate::router::Router;
use crate::score::References;
use crate::settings::Settings;
use crate::snapshot::{read_seen, read_tally, write_seen, write_tally};
use crate::standing::Standing;
use crate::weights::Weights;

impl Router {
    pub(crate) fn write_standings(&self, numbers: &[u32], to: &mut Writer) {
        to.length(self.standings.len());
        for one in &self.standings {
            to.flag(one.model != NONE);
            if one.model == NONE {
                continue;
            }
            to.bytes(&one.key);
            to.bytes(&self.parties[one.owner as usize].key);
            to.bytes(&self.parties[one.group as usize].key);
            to.u32(numbers[one.model as usize]);
            to.i64(one.price_microcents);
            to.i64(one.context_tokens);
            to.i64(one.output_tokens);
            for number in [
                one.capacity,
                one.group_capacity,
                one.in_flight,
                one.picks,
                one.epoch,
            ] {
                to.u32(number);
            }
            to.flag(one.on_market());
            to.flag(one.online);
            to.flag(one.open);
            to.u64(one.turn);
            to.u64(one.served);
            for number in [one.quality, one.latency_ms, one.availability, one.work] {
                to.f64(number);
            }
            write_seen(&one.seen, to);
            to.flag(one.tally.is_some());
            if let Some(tally) = &one.tally {
                write_tally(tally, to);
            }
        }
        to.length(self.free.len());
        for slot in &self.free {
            to.u32(*slot);
        }
    }

    /// Returns what each offer had seen.
    pub(crate) fn read_standings(
        &mut self,
        names: &[&str],
        from: &mut Reader<'_>,
    ) -> Result<Vec<(u32, Seen)>, Invalid> {
        let mut found = Vec::new();
        let slots = from.length()?;
        let unused = Standing::new(&Offer {
            key: [0; 16],
            owner: [0; 16],
            group: [0; 16],
            model: "",
            price_microcents: 0,
            context_tokens: 0,
            output_tokens: 0,
            capacity: 0,
            group_capacity: 0,
            visibility: Visibility::Own,
        });
        for slot in 0..slots {
            let slot = u32::try_from(slot).map_err(|_| broken("must hold at most 2^32 offers"))?;
            if !from.flag()? {
                self.push(unused.clone());
                continue;
            }
            let (key, owner, group) = (from.key()?, from.key()?, from.key()?);
            let model = names.get(from.u32()? as usize);
            let model = model.ok_or(broken("must hold the models of its offers"))?;
            let (price_microcents, context_tokens, output_tokens) =
                (from.i64()?, from.i64()?, from.i64()?);
            let (capacity, group_capacity) = (from.u32()?, from.u32()?);
            let (in_flight, picks, epoch) = (from.u32()?, from.u32()?, from.u32()?);
            let visibility = if from.flag()? {
                Visibility::Market
            } else {
                Visibility::Own
            };
            let offer = Offer {
                key,
                owner,
                group,
                model,
                price_microcents,
                context_tokens,
                output_tokens,
                capacity,
                group_capacity,
                visibility,
            };
            offer.check()?;
            whole(self.slot_of.get(&key, &self.standings).is_none())?;
            let mut standing = Standing {
                in_flight,
                picks,
                epoch,
                online: from.flag()?,
                open: from.flag()?,
                turn: from.u64()?,
                served: from.count()?,
                quality: from.f64()?,
                latency_ms: from.f64()?,
                availability: from.f64()?,
                work: from.amount()?,
                ..Standing::new(&offer)
            };
            let share = |share: f64| share.is_nan() || (0.0..=1.0).contains(&share);
            let latency = standing.latency_ms;
            whole(share(standing.quality) && share(standing.availability))?;
            whole(latency.is_nan() || (latency.is_finite() && latency >= 0.0))?;
            let seen = read_seen(from)?;
            if from.flag()? {
                standing.tally = Some(Box::new(read_tally(from)?));
            }
            self.push(standing);
            self.slot_of.insert(slot, &self.standings);
            whole(self.slot_of.len() <= self.settings.offers_max)?;
            self.put(slot, model, &owner, &group);
            found.push((slot, seen));
        }
        for _ in 0..from.length()? {
            let slot = from.u32()?;
            let free = self
                .standings
                .get(slot as usize)
                .is_some_and(|one| one.model == NONE);
            whole(free)?;
            self.free.push(slot);
        }
        let mut free = self.free.clone();
        free.sort_unstable();
        free.dedup();
        whole(free.len() == self.free.len() && slots - self.slot_of.len() == free.len())?;
        Ok(found)
    }
}

impl Settings {
    pub(crate) fn write(&self, to: &mut Writer) {
        for weight in self.weights.in_order() {
            to.f64(weight);
        }
        to.f64(self.references.price);
        to.f64(self.references.latency_ms);
        to.f64(self.references.work);
        to.u64(self.work_half_life_ms);
        to.f64(self.band_width);
        to.u32(self.turn_times_max);
        for number in [
            self.explore_ppm,
            self.newcomer_ppm,
            self.breaker_failures,
            self.breaker_window,
            self.breaker_successes,
        ] {
            to.u32(number);
        }
        to.flag(self.breaker_tested_apart);
        to.i64(self.breaker_open_ms);
        to.i64(self.breaker_open_ms_max);
        to.f64(self.quality_prior);
        to.f64(self.availability_prior);
        to.length(self.offers_max);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Invalid> {
        let mut weights = [0.0; 5];
        for weight in &mut weights {
            *weight = from.f64()?;
        }
        let weights = Weights::as_written(weights);
        Ok(Self {
            weights: weights.ok_or(broken("must hold weights that add up to 1"))?,
            references: References {
                price: from.f64()?,
                latency_ms: from.f64()?,
                work: from.f64()?,
            },
            work_half_life_ms: from.u64()?,
            band_width: from.f64()?,
            turn_times_max: from.u32()?,
            explore_ppm: from.u32()?,
            newcomer_ppm: from.u32()?,
            breaker_failures: from.u32()?,
            breaker_window: from.u32()?,
            breaker_successes: from.u32()?,
            breaker_tested_apart: from.flag()?,
            breaker_open_ms: from.i64()?,
            breaker_open_ms_max: from.i64()?,
            quality_prior: from.f64()?,
            availability_prior: from.f64()?,
            offers_max: usize::try_from(from.u64()?).unwrap_or(usize::MAX),
        })
    }
}

impl Breaker {
    pub(crate) fn write(&self, to: &mut Writer) {
        for number in [self.failures, self.successes, self.history, self.known] {
            to.u32(number);
        }
        to.i64(self.open_ms);
        to.i64(self.open_until_ms);
        to.flag(self.probe.is_some());
        if let Some((offer, until_ms)) = &self.probe {
            to.bytes(offer);
            to.i64(*until_ms);
        }
        to.i64(self.heard_ms);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Invalid> {
        let breaker = Self {
            failures: from.u32()?,
            successes: from.u32()?,
            history: from.u32()?,
            known: from.u32()?,
            open_ms: from.i64()?,
            open_until_ms: from.i64()?,
            probe: if from.flag()? {
                Some((from.key()?, from.i64()?))
            } else {
                None
            },
            heard_ms: from.i64()?,
        };
        whole(breaker.known <= 32 && breaker.successes < u32::MAX && breaker.open_ms >= 0)?;
        Ok(breaker)
    }
}
