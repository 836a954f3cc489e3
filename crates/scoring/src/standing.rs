//! How each offer stands, and the steps of a pick.

use crate::card::{Candidate, Decision, Gates};
use crate::offer::{Key, Offer, Request, Scope, Visibility};
use crate::queue::{cost, Place};
use crate::router::Router;
use crate::score::{Inputs, Parts, References};
use crate::tally::{first_failed, Tally};

/// An offer and how it stands.
#[derive(Clone, Debug)]
pub struct Standing {
    pub offer: Offer,
    pub online: bool,
    /// Whether its owner takes work at the moment.
    pub open: bool,
    pub in_flight: u32,
    /// How often it was picked.
    pub picks: u64,
    pub tally: Tally,
    pub quality: Option<f64>,
    pub latency_ms: Option<f64>,
    pub availability: Option<f64>,
    /// Tokens given to it, decayed to the epoch.
    pub work: f64,
    /// Where its next turn starts; see [`cost`].
    pub turn: u128,
    /// The number of its last pick.
    pub served: u64,
    pub parts: Parts,
    pub score: f64,
    pub band: i32,
}

/// The offers of one model.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    /// Slots, in the order of their keys.
    pub slots: Vec<usize>,
    /// The virtual time of its queue.
    pub turn: u128,
    pub references: Option<References>,
}

/// How many offers a network makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holdings {
    pub all: u64,
    pub market: u64,
}

impl Standing {
    /// Offline, unrated and unused; scored when it is put on its bucket.
    pub fn new(offer: Offer) -> Self {
        Self {
            offer,
            online: false,
            open: true,
            in_flight: 0,
            picks: 0,
            tally: Tally::default(),
            quality: None,
            latency_ms: None,
            availability: None,
            work: 0.0,
            turn: 0,
            served: 0,
            parts: Parts {
                price: 0.0,
                quality: 0.0,
                latency: 0.0,
                availability: 0.0,
                fairness: 0.0,
            },
            score: 0.0,
            band: 0,
        }
    }
}

impl Router {
    pub(crate) fn standing_mut(&mut self, key: &Key) -> Option<&mut Standing> {
        let slot = *self.slot_of.get(key)?;
        self.standings[slot].as_mut()
    }

    /// Where `key` is, or belongs, among the slots of a bucket.
    fn place_on(&self, bucket: &Bucket, key: &Key) -> usize {
        bucket.slots.partition_point(|&slot| {
            self.standings[slot]
                .as_ref()
                .is_some_and(|other| other.offer.key < *key)
        })
    }

    /// Takes an offer out of every index.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Standing> {
        let offer = &self.standings[slot].as_ref()?.offer;
        if let Some(bucket) = self.buckets.get(&offer.model) {
            let place = self.place_on(bucket, &offer.key);
            let model = offer.model.clone();
            if let Some(bucket) = self.buckets.get_mut(&model) {
                bucket.slots.remove(place);
                if bucket.slots.is_empty() && bucket.references.is_none() {
                    self.buckets.remove(&model);
                }
            }
        }
        let standing = self.standings[slot].take()?;
        self.slot_of.remove(&standing.offer.key);
        self.free.push(slot);
        let on_market = u64::from(standing.offer.visibility == Visibility::Market);
        self.unload(standing.offer.group, standing.in_flight);
        self.market -= on_market;
        if let Some(holdings) = self.holdings.get_mut(&standing.offer.owner) {
            holdings.all -= 1;
            holdings.market -= on_market;
            if holdings.all == 0 {
                self.holdings.remove(&standing.offer.owner);
            }
        }
        Some(standing)
    }

    /// Puts an offer into every index, and scores it.
    pub(crate) fn put(&mut self, standing: Standing) {
        let key = standing.offer.key;
        let model = standing.offer.model.clone();
        let on_market = u64::from(standing.offer.visibility == Visibility::Market);
        let holdings = self.holdings.entry(standing.offer.owner).or_default();
        holdings.all += 1;
        holdings.market += on_market;
        self.market += on_market;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.standings.push(None);
            self.standings.len() - 1
        });
        let turn = standing.turn;
        if standing.in_flight > 0 {
            *self.loads.entry(standing.offer.group).or_default() += standing.in_flight;
        }
        self.standings[slot] = Some(standing);
        self.slot_of.insert(key, slot);
        let place = self
            .buckets
            .get(&model)
            .map_or(0, |bucket| self.place_on(bucket, &key));
        let bucket = self.buckets.entry(model).or_default();
        if bucket.slots.is_empty() {
            // Alone, its turn is the virtual time: who joins it later starts level with it, not with a credit.
            bucket.turn = bucket.turn.max(turn);
        }
        bucket.slots.insert(place, slot);
        self.rescore(slot);
    }

    /// Gives slots of a device back.
    pub(crate) fn unload(&mut self, group: Key, slots: u32) {
        if let Some(load) = self.loads.get_mut(&group) {
            *load = load.saturating_sub(slots);
            if *load == 0 {
                self.loads.remove(&group);
            }
        }
    }

    /// Computes the score of one offer anew: something happened to it, or an epoch began.
    pub(crate) fn rescore(&mut self, slot: usize) {
        let Some(standing) = &mut self.standings[slot] else {
            return;
        };
        let references = self
            .buckets
            .get(&standing.offer.model)
            .and_then(|bucket| bucket.references)
            .unwrap_or(self.settings.references);
        // A price loses its last bits above 2⁵³ micro-cents, where it scores 0 anyway.
        #[allow(clippy::cast_precision_loss)]
        let price = standing.offer.price_microcents as f64;
        standing.parts = Parts::new(
            &Inputs {
                price,
                quality: standing.quality.unwrap_or(self.settings.quality_prior),
                latency_ms: standing.latency_ms.unwrap_or(references.latency_ms),
                availability: standing
                    .availability
                    .unwrap_or(self.settings.availability_prior),
                work: standing.work,
            },
            &references,
        );
        standing.score = standing.parts.total();
        standing.band = self.bands.of(standing.score);
    }

    /// Sends the offers of the model through the gates: the counts of those that failed, the places of those that passed.
    pub(crate) fn gate(&mut self, request: &Request) -> (Gates, Vec<(Place, usize)>) {
        let mut gates = Gates::default();
        let mut places = Vec::new();
        let mut shown = 0;
        let Self {
            buckets,
            standings,
            breakers,
            loads,
            settings,
            ..
        } = self;
        if let Some(bucket) = buckets.get(&request.model) {
            for &slot in &bucket.slots {
                let Some(standing) = &mut standings[slot] else {
                    continue;
                };
                let own = standing.offer.owner == request.network;
                let on_market = standing.offer.visibility == Visibility::Market;
                match request.scope {
                    Scope::Own if !own => continue,
                    Scope::Market if own => {
                        gates.owner += 1;
                        continue;
                    }
                    Scope::Market if !on_market => continue,
                    _ => shown += 1,
                }
                standing.tally.asked += 1;
                let admits = |key: &Key| {
                    breakers
                        .get(key)
                        .is_none_or(|breaker| breaker.admits(request.now_ms, settings))
                };
                let offer = &standing.offer;
                let full = standing.in_flight >= offer.capacity
                    || loads.get(&offer.group).copied().unwrap_or(0) >= offer.group_capacity;
                let broken = !admits(&offer.group) || !admits(&offer.owner);
                if let Some(failed) = first_failed(standing, request, broken, full) {
                    standing.tally.miss(failed);
                    gates.count(failed);
                    continue;
                }
                let place = Place {
                    band: standing.band,
                    turn: standing.turn.max(bucket.turn),
                    served: standing.served,
                    key: standing.offer.key,
                };
                places.push((place, slot));
            }
        }
        let holdings = self
            .holdings
            .get(&request.network)
            .copied()
            .unwrap_or_default();
        let visible = match request.scope {
            Scope::Own => holdings.all,
            Scope::Market => self.market - holdings.market,
        };
        gates.model = visible - shown;
        (gates, places)
    }

    /// The probability of a pick: the best one's by order and by chance, any other's by chance, a newcomer's by its own
    /// chance besides.
    pub(crate) fn propensity(
        &self,
        is_best: bool,
        is_new: bool,
        feasible: usize,
        newcomers: usize,
    ) -> f64 {
        let explore = f64::from(self.settings.explore_ppm) / 1_000_000.0;
        let first = if newcomers == 0 {
            0.0
        } else {
            f64::from(self.settings.newcomer_ppm) / 1_000_000.0
        };
        // At most 2³² offers.
        #[allow(clippy::cast_precision_loss)]
        let (by_chance, by_newness) = (explore / feasible as f64, first / newcomers.max(1) as f64);
        let by_order = if is_best { 1.0 - explore } else { 0.0 };
        (1.0 - first) * (by_order + by_chance) + if is_new { by_newness } else { 0.0 }
    }

    /// The best of the places in order, and the chosen one at the end if it is not among them.
    pub(crate) fn best_candidates(
        &self,
        places: &mut [(Place, usize)],
        chosen: (Place, usize),
    ) -> Vec<Candidate> {
        let listed = places.len().min(Decision::CANDIDATES_MAX);
        if listed < places.len() {
            places.select_nth_unstable(listed);
        }
        let best = &mut places[..listed];
        best.sort_unstable();
        let other = (!best.contains(&chosen)).then_some(chosen);
        best.iter()
            .copied()
            .chain(other)
            .filter_map(|(place, slot)| {
                let standing = self.standings[slot].as_ref()?;
                Some(Candidate {
                    key: place.key,
                    parts: standing.parts,
                    score: standing.score,
                    band: standing.band,
                    chosen: place.key == chosen.0.key,
                })
            })
            .collect()
    }

    /// Gives the request to an offer: a slot taken, the work charged, its turn moved back.
    pub(crate) fn give(
        &mut self,
        (place, slot): (Place, usize),
        request: &Request,
    ) -> Option<Offer> {
        self.served += 1;
        let standing = self.standings[slot].as_mut()?;
        standing.in_flight += 1;
        *self.loads.entry(standing.offer.group).or_default() += 1;
        standing.served = self.served;
        standing.turn = place.turn + cost(request.work_tokens, standing.offer.capacity);
        // Work loses its last bits above 2⁵³ tokens, where it scores 0 anyway.
        #[allow(clippy::cast_precision_loss)]
        let work = request.work_tokens as f64;
        standing.work += work;
        let offer = standing.offer.clone();
        if let Some(bucket) = self.buckets.get_mut(&offer.model) {
            bucket.turn = bucket.turn.max(place.turn);
        }
        if let Some(breaker) = self.breakers.get_mut(&offer.group) {
            breaker.picked(offer.key, request.now_ms);
        }
        self.rescore(slot);
        Some(offer)
    }
}
