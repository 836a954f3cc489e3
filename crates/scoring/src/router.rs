//! The router: offers, their standing, and the pick.

use std::collections::{BTreeMap, HashMap};

use crate::bounds::{above_zero, amount, ensure, model as model_checked, share, Invalid};
use crate::breaker::Breaker;
use crate::card::{Decision, Pick};
use crate::offer::{Key, Offer, Request, Scope};
use crate::portable::{decay, Bands};
use crate::queue::{preferred, Chance, Place};
use crate::score::References;
use crate::settings::Settings;
use crate::standing::{Bucket, Holdings, Standing};

/// An offer picked less often is new.
const NEWCOMER_PICKS: u64 = 3;

/// Picks one of many offers for a request.
///
/// Scores change only when something happens to a provider, and at [`Router::tick`]: between two ticks the order does
/// not change by the mere passing of time.
#[derive(Clone, Debug)]
pub struct Router {
    pub(crate) settings: Settings,
    pub(crate) bands: Bands,
    pub(crate) standings: Vec<Option<Standing>>,
    pub(crate) free: Vec<usize>,
    pub(crate) slot_of: HashMap<Key, usize>,
    pub(crate) buckets: BTreeMap<String, Bucket>,
    pub(crate) holdings: HashMap<Key, Holdings>,
    pub(crate) market: u64,
    pub(crate) breakers: HashMap<Key, Breaker>,
    /// Slots taken of each device.
    pub(crate) loads: HashMap<Key, u32>,
    /// Requests to the market since the tallies were taken: of all, and of each network that makes offers.
    pub(crate) asked: u64,
    pub(crate) asked_by: HashMap<Key, u64>,
    pub(crate) epoch_ms: i64,
    pub(crate) served: u64,
}

impl Router {
    /// A router without offers, whose first epoch is at 0 ms.
    ///
    /// # Errors
    /// [`Invalid`] naming the setting that breaks its rule.
    pub fn new(settings: Settings) -> Result<Self, Invalid> {
        let settings = settings.checked()?;
        Ok(Self {
            bands: Bands::new(settings.band_width),
            settings,
            standings: Vec::new(),
            free: Vec::new(),
            slot_of: HashMap::new(),
            buckets: BTreeMap::new(),
            holdings: HashMap::new(),
            market: 0,
            breakers: HashMap::new(),
            loads: HashMap::new(),
            asked: 0,
            asked_by: HashMap::new(),
            epoch_ms: 0,
            served: 0,
        })
    }

    /// The number of offers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// Whether there is no offer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slot_of.is_empty()
    }

    /// Adds an offer, or changes the facts of the one with its key. A new one is offline, unrated and unused; a changed
    /// one keeps how it stands.
    ///
    /// # Errors
    /// [`Invalid`] for a bad field, or if there is no room for one more.
    pub fn upsert(&mut self, offer: Offer) -> Result<(), Invalid> {
        offer.check()?;
        let known = self.slot_of.get(&offer.key).copied();
        ensure(
            known.is_some() || self.slot_of.len() < self.settings.offers_max,
            "key",
            "must be a known offer: the most offers the router keeps are here",
        )?;
        let kept = known.and_then(|slot| self.take(slot));
        let standing = match kept {
            Some(standing) => Standing { offer, ..standing },
            None => Standing::new(offer),
        };
        self.put(standing);
        Ok(())
    }

    /// Removes an offer; false if it is not here.
    pub fn remove(&mut self, key: &Key) -> bool {
        self.slot_of
            .get(key)
            .copied()
            .and_then(|slot| self.take(slot))
            .is_some()
    }

    /// Says whether the device behind an offer is there; false if the offer is not here.
    pub fn set_online(&mut self, key: &Key, online: bool) -> bool {
        self.standing_mut(key)
            .map(|standing| standing.online = online)
            .is_some()
    }

    /// Says whether the owner of an offer takes work; false if the offer is not here.
    pub fn set_open(&mut self, key: &Key, open: bool) -> bool {
        self.standing_mut(key)
            .map(|standing| standing.open = open)
            .is_some()
    }

    /// Sets what is expected of an offer; false if it is not here.
    ///
    /// # Errors
    /// [`Invalid`] for a share outside 0 to 1 or a negative or infinite latency.
    pub fn set_estimates(
        &mut self,
        key: &Key,
        quality: f64,
        latency_ms: f64,
        availability: f64,
    ) -> Result<bool, Invalid> {
        share("quality", quality)?;
        amount("latency_ms", latency_ms)?;
        share("availability", availability)?;
        let Some(standing) = self.standing_mut(key) else {
            return Ok(false);
        };
        standing.quality = Some(quality);
        standing.latency_ms = Some(latency_ms);
        standing.availability = Some(availability);
        if let Some(&slot) = self.slot_of.get(key) {
            self.rescore(slot);
        }
        Ok(true)
    }

    /// Sets the price (micro-cents per 1 000 000 tokens) and the latency that score ½ for a model's offers, and scores
    /// them anew. To be called when an epoch begins.
    ///
    /// # Errors
    /// [`Invalid`] for a reference that is not above 0, or if there is no room for one more model.
    pub fn set_references(
        &mut self,
        model: &str,
        price: f64,
        latency_ms: f64,
    ) -> Result<(), Invalid> {
        model_checked(model)?;
        above_zero("price_reference", price)?;
        above_zero("latency_reference_ms", latency_ms)?;
        let room =
            self.buckets.len() < self.settings.offers_max || self.buckets.contains_key(model);
        ensure(
            room,
            "model",
            "must be a known model: the most models the router keeps are here",
        )?;
        let references = References {
            price,
            latency_ms,
            work: self.settings.references.work,
        };
        let bucket = self.buckets.entry(model.to_owned()).or_default();
        bucket.references = Some(references);
        for slot in bucket.slots.clone() {
            self.rescore(slot);
        }
        Ok(())
    }

    /// Begins a new epoch: work done before counts less, and breakers long silent are forgotten. A time before the
    /// present epoch changes nothing.
    pub fn tick(&mut self, now_ms: i64) {
        let Ok(elapsed @ 1..) = u64::try_from(now_ms.saturating_sub(self.epoch_ms)) else {
            return;
        };
        let factor = decay(elapsed, self.settings.work_half_life_ms);
        self.epoch_ms = now_ms;
        self.breakers.retain(|_, breaker| !breaker.is_idle(now_ms));
        for slot in 0..self.standings.len() {
            if let Some(standing) = &mut self.standings[slot] {
                standing.work *= factor;
                self.rescore(slot);
            }
        }
    }

    /// Picks an offer, takes one of its slots and charges it the work.
    ///
    /// # Errors
    /// [`Invalid`] naming the field of the request that breaks its rule.
    pub fn pick(&mut self, request: &Request) -> Result<Decision, Invalid> {
        request.check()?;
        if request.scope == Scope::Market {
            self.asked += 1;
            if self.holdings.contains_key(&request.network) {
                *self.asked_by.entry(request.network).or_default() += 1;
            }
        }
        let (gates, mut places) = self.gate(request);
        let mut decision = Decision {
            pick: None,
            gates,
            feasible: places.len() as u64,
            candidates: Vec::new(),
            now_ms: request.now_ms,
            epoch_ms: self.epoch_ms,
            seed: request.seed,
        };
        let Some(&best) = places.iter().min_by_key(|(place, _)| *place) else {
            return Ok(decision);
        };
        let best = request
            .prefer
            .and_then(|key| preferred(&places, best, key))
            .unwrap_or(best);
        let mut chance = Chance::new(request.seed);
        let explored = chance.below(1_000_000) < u64::from(self.settings.explore_ppm);
        let drawn = usize::try_from(chance.below(places.len() as u64)).unwrap_or(0);
        let newcomers = self.newcomers(&places);
        let newcomer = !newcomers.is_empty()
            && chance.below(1_000_000) < u64::from(self.settings.newcomer_ppm);
        let chosen = if newcomer {
            newcomers[usize::try_from(chance.below(newcomers.len() as u64)).unwrap_or(0)]
        } else if explored {
            places[drawn]
        } else {
            best
        };
        let explored = explored || newcomer;
        let propensity = self.propensity(
            chosen == best,
            newcomers.contains(&chosen),
            places.len(),
            newcomers.len(),
        );
        self.tell(&places, chosen, explored);
        decision.candidates = self.best_candidates(&mut places, chosen);
        decision.pick = self.give(chosen, request).map(|offer| Pick {
            key: offer.key,
            group: offer.group,
            owner: offer.owner,
            explored,
            propensity,
        });
        Ok(decision)
    }

    /// Gives a slot back; false if the offer is not here or had none taken.
    pub fn release(&mut self, key: &Key) -> bool {
        let Some(standing) = self.standing_mut(key) else {
            return false;
        };
        if standing.in_flight == 0 {
            return false;
        }
        standing.in_flight -= 1;
        let group = standing.offer.group;
        self.unload(group, 1);
        if let Some(breaker) = self.breakers.get_mut(&group) {
            breaker.released(*key);
        }
        true
    }

    /// The offers among these that were hardly ever picked.
    fn newcomers(&self, places: &[(Place, usize)]) -> Vec<(Place, usize)> {
        if self.settings.newcomer_ppm == 0 {
            return Vec::new();
        }
        places
            .iter()
            .copied()
            .filter(|&(_, slot)| {
                self.standings[slot]
                    .as_ref()
                    .is_some_and(|standing| standing.picks < NEWCOMER_PICKS)
            })
            .collect()
    }

    /// Says how a request to a device of an owner ended: a breaker over all his devices, which bears more.
    pub fn report_owner(&mut self, owner: &Key, ok: bool, now_ms: i64) {
        let settings = Settings {
            breaker_failures: self.settings.breaker_failures.saturating_mul(4),
            breaker_window: self.settings.breaker_window.saturating_mul(2).min(32),
            ..self.settings
        };
        self.report_to(owner, ok, now_ms, &settings);
    }

    /// Says how a request to a device ended.
    pub fn report(&mut self, group: &Key, ok: bool, now_ms: i64) {
        let settings = self.settings;
        self.report_to(group, ok, now_ms, &settings);
    }

    fn report_to(&mut self, key: &Key, ok: bool, now_ms: i64, settings: &Settings) {
        let room = self.breakers.len() < 2 * settings.offers_max;
        match self.breakers.get_mut(key) {
            Some(breaker) => breaker.report(ok, now_ms, settings),
            // Without a window a breaker begins with a failure.
            None if room && (!ok || settings.breaker_window > 0) => {
                self.breakers
                    .entry(*key)
                    .or_default()
                    .report(ok, now_ms, settings);
            }
            None => {}
        }
    }

    /// Slots taken of a device, over all its offers.
    #[must_use]
    pub fn load(&self, group: &Key) -> u32 {
        self.loads.get(group).copied().unwrap_or(0)
    }

    /// The state of a device's or an owner's breaker: `closed`, `open` or `half_open`.
    #[must_use]
    pub fn breaker_state(&self, group: &Key, now_ms: i64) -> &'static str {
        self.breakers
            .get(group)
            .map_or("closed", |breaker| breaker.state(now_ms))
    }
}
