//! The router by its definition, without regard to speed: every pick looks at every offer and sorts them all.

use std::collections::BTreeMap;

use scoring::{portable, Inputs, Key, Parts, References, Settings, Visibility};

mod pick;

/// What a pick came to.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub key: Option<Key>,
    pub explored: bool,
    pub propensity: Option<f64>,
    pub gates: Vec<(&'static str, u64)>,
    pub feasible: u64,
    /// The best 16, and the one picked besides: key, score, band.
    pub candidates: Vec<(Key, f64, i32)>,
}

/// asked, got, fair share, missed by reason.
pub type Counted = (u64, u64, f64, BTreeMap<&'static str, u64>);

#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub key: Key,
    pub owner: Key,
    pub group: Key,
    pub model: &'static str,
    pub price: i64,
    pub context: i64,
    pub output: i64,
    pub capacity: u32,
    pub group_capacity: u32,
    pub visibility: Visibility,
}

#[derive(Clone, Debug)]
struct Offer {
    facts: Facts,
    online: bool,
    open: bool,
    in_flight: u32,
    picks: u64,
    served: u64,
    turn: u64,
    quality: f64,
    latency: Option<f64>,
    availability: f64,
    work: f64,
    counted: Counted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    turn: u64,
    mean: u64,
    waited: u64,
}

#[derive(Clone, Debug, Default)]
struct Breaker {
    failures: u32,
    open_ms: i64,
    until_ms: i64,
    probe: Option<(Key, i64)>,
}

/// For settings without a window, and with one success to close: the breaker has tests of its own.
pub struct Oracle {
    settings: Settings,
    offers: BTreeMap<Key, Offer>,
    references: BTreeMap<&'static str, References>,
    /// Virtual time, mean work and waits of newcomers, by model, and by network for requests at home.
    queues: BTreeMap<(&'static str, Option<Key>), Queue>,
    breakers: BTreeMap<Key, Breaker>,
    epoch_ms: i64,
    served: u64,
}

impl Oracle {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            offers: BTreeMap::new(),
            references: BTreeMap::new(),
            queues: BTreeMap::new(),
            breakers: BTreeMap::new(),
            epoch_ms: 0,
            served: 0,
        }
    }

    fn forget(&mut self, old: &Facts) {
        let any = |test: &dyn Fn(&Facts) -> bool| self.offers.values().any(|one| test(&one.facts));
        let no_model =
            !any(&|facts| facts.model == old.model) && !self.references.contains_key(old.model);
        if no_model {
            self.queues.remove(&(old.model, None));
        }
    }

    fn forget_owner(&mut self, owner: Key) {
        let none =
            |offers: &BTreeMap<Key, Offer>| !offers.values().any(|one| one.facts.owner == owner);
        if none(&self.offers) {
            self.queues.retain(|queue, _| queue.1 != Some(owner));
        }
    }

    pub fn upsert(&mut self, facts: Facts) {
        let old = self.offers.remove(&facts.key);
        if let Some(old) = &old {
            self.forget(&old.facts);
        }
        let on_market = |one: &Offer| {
            one.facts.model == facts.model && one.facts.visibility == Visibility::Market
        };
        let turn = old.as_ref().map_or(0, |old| old.turn);
        if facts.visibility == Visibility::Market && !self.offers.values().any(on_market) {
            let queue = self.queues.entry((facts.model, None)).or_default();
            queue.turn = queue.turn.max(turn);
        }
        let new = Offer {
            facts,
            online: false,
            open: true,
            in_flight: 0,
            picks: 0,
            served: 0,
            turn: 0,
            quality: self.settings.quality_prior,
            latency: None,
            availability: self.settings.availability_prior,
            work: 0.0,
            counted: Counted::default(),
        };
        let owner = old.as_ref().map(|old| old.facts.owner);
        let offer = old.map_or(new, |old| Offer { facts, ..old });
        self.offers.insert(facts.key, offer);
        if let Some(owner) = owner {
            self.forget_owner(owner);
        }
    }

    pub fn remove(&mut self, key: &Key) -> bool {
        let old = self.offers.remove(key);
        if let Some(old) = &old {
            self.forget(&old.facts);
            self.forget_owner(old.facts.owner);
        }
        old.is_some()
    }

    pub fn set_online(&mut self, key: &Key, online: bool) -> bool {
        self.offers
            .get_mut(key)
            .map(|one| one.online = online)
            .is_some()
    }

    pub fn set_open(&mut self, key: &Key, open: bool) -> bool {
        self.offers
            .get_mut(key)
            .map(|one| one.open = open)
            .is_some()
    }

    pub fn set_estimates(
        &mut self,
        key: &Key,
        quality: f64,
        latency: f64,
        availability: f64,
    ) -> bool {
        let Some(offer) = self.offers.get_mut(key) else {
            return false;
        };
        (offer.quality, offer.latency, offer.availability) = (quality, Some(latency), availability);
        true
    }

    pub fn set_references(&mut self, model: &'static str, price: f64, latency_ms: f64) {
        let work = self.settings.references.work;
        self.references.insert(
            model,
            References {
                price,
                latency_ms,
                work,
            },
        );
    }

    pub fn tick(&mut self, now_ms: i64) {
        if now_ms <= self.epoch_ms {
            return;
        }
        let elapsed = u64::try_from(now_ms - self.epoch_ms).unwrap();
        let factor = portable::decay(elapsed, self.settings.work_half_life_ms);
        self.epoch_ms = now_ms;
        for offer in self.offers.values_mut() {
            offer.work *= factor;
        }
        // A breaker silent for an hour is forgotten; the events of the test are younger than that.
    }

    pub fn release(&mut self, key: &Key) -> bool {
        let Some(offer) = self.offers.get_mut(key).filter(|one| one.in_flight > 0) else {
            return false;
        };
        offer.in_flight -= 1;
        if let Some(breaker) = self.breakers.get_mut(&offer.facts.group) {
            breaker.probe = breaker.probe.filter(|probe| probe.0 != *key);
        }
        true
    }

    pub fn report(&mut self, key: &Key, ok: bool, now_ms: i64, failures: u32) {
        let settings = self.settings;
        let breaker = self.breakers.entry(*key).or_default();
        if breaker.open_ms > 0 && now_ms < breaker.until_ms {
            return;
        }
        if ok {
            *breaker = Breaker::default();
            return;
        }
        breaker.failures += 1;
        if breaker.open_ms > 0 {
            breaker.open_ms = (2 * breaker.open_ms).min(settings.breaker_open_ms_max);
        } else if breaker.failures >= failures {
            breaker.open_ms = settings.breaker_open_ms;
        } else {
            return;
        }
        breaker.until_ms = now_ms + breaker.open_ms;
        breaker.probe = None;
    }

    fn admits(&self, key: &Key, now_ms: i64) -> bool {
        self.breakers.get(key).is_none_or(|one| {
            one.open_ms == 0
                || (now_ms >= one.until_ms && one.probe.is_none_or(|probe| now_ms >= probe.1))
        })
    }

    fn parts(&self, offer: &Offer) -> Parts {
        let references = self
            .references
            .get(offer.facts.model)
            .copied()
            .unwrap_or(self.settings.references);
        let inputs = Inputs {
            price: offer.facts.price as f64,
            quality: offer.quality,
            latency_ms: offer.latency.unwrap_or(references.latency_ms),
            availability: offer.availability,
            work: offer.work,
        };
        Parts::new(&inputs, &references)
    }

    fn score(&self, offer: &Offer) -> f64 {
        let parts = self.parts(offer).in_order();
        let mut sum = 0.0;
        for (weight, part) in self.settings.weights.in_order().iter().zip(parts) {
            sum += weight * part;
        }
        sum
    }

    /// How often 1 can be divided by 1 + ε / 3 before it is no more than the score, or no more than a millionth.
    fn step(&self, offer: &Offer) -> i64 {
        let score = self.score(offer);
        let (mut edge, mut steps) = (1.0, 0);
        while edge > score && edge > 1e-6 {
            edge /= 1.0 + self.settings.band_width / 3.0;
            steps += 1;
        }
        steps
    }

    pub fn take_tallies(&mut self) -> BTreeMap<Key, Counted> {
        self.offers
            .iter_mut()
            .map(|(key, one)| (*key, std::mem::take(&mut one.counted)))
            .filter(|one| one.1 .0 > 0)
            .collect()
    }
}
