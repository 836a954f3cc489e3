//! The router: offers, their standing, and the pick.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ahash::RandomState;

use crate::bounds::{above_zero, amount, ensure, model as model_checked, share, Invalid};
use crate::breaker::Breaker;
use crate::by_key::ByKey;
use crate::card::{Decision, Pick};
use crate::offer::{Key, Offer, Request};
use crate::party::{By, Link, Party, NONE};
use crate::portable::{decay, Steps};
use crate::queue::Queue;
use crate::score::References;
use crate::settings::Settings;
use crate::standing::{Model, Standing};
use crate::weights::Weights;

/// Keyed, as ids may be chosen to collide, and faster than that of the standard library.
type Hashed<K, V> = HashMap<K, V, RandomState>;

/// Picks one of many offers for a request.
///
/// Scores change only when something happens to a provider, and at [`Router::tick`]: between two ticks the order does
/// not change by the mere passing of time.
#[derive(Clone, Debug)]
pub struct Router {
    pub(crate) settings: Settings,
    pub(crate) steps: Steps,
    /// Offers by slot.
    pub(crate) standings: Vec<Standing>,
    /// Their neighbours, by slot and [`By`].
    pub(crate) links: Vec<[Link; 3]>,
    pub(crate) free: Vec<u32>,
    pub(crate) slot_of: ByKey,
    pub(crate) models: Vec<Model>,
    pub(crate) models_free: Vec<u32>,
    pub(crate) names: Hashed<String, u32>,
    pub(crate) parties: Vec<Party>,
    pub(crate) parties_free: Vec<u32>,
    pub(crate) party_of: ByKey,
    /// Of the own requests of a network for a model.
    pub(crate) queues: BTreeMap<(u32, u32), Queue>,
    pub(crate) market: u64,
    pub(crate) breakers: Hashed<Key, Breaker>,
    /// From when on each breaker that is not closed lets requests through.
    pub(crate) thresholds: BTreeSet<(i64, Key)>,
    /// The time that the states are true for.
    pub(crate) now_ms: i64,
    /// Requests to the market since the tallies were taken: of all, and of each network that makes offers.
    pub(crate) asked: u64,
    pub(crate) asked_by: BTreeMap<Key, u64>,
    pub(crate) epoch_ms: i64,
    /// The number of the epoch, by how much work fades at its beginning, and the next slot to be told.
    pub(crate) epoch: u32,
    pub(crate) factor: f64,
    pub(crate) swept: usize,
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
            steps: Steps::new(settings.band_width),
            settings,
            standings: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            slot_of: ByKey::default(),
            models: Vec::new(),
            models_free: Vec::new(),
            names: Hashed::default(),
            parties: Vec::new(),
            parties_free: Vec::new(),
            party_of: ByKey::default(),
            queues: BTreeMap::new(),
            market: 0,
            breakers: Hashed::default(),
            thresholds: BTreeSet::new(),
            now_ms: i64::MIN,
            asked: 0,
            asked_by: BTreeMap::new(),
            epoch_ms: 0,
            epoch: 0,
            factor: 1.0,
            swept: 0,
            served: 0,
        })
    }

    /// The weights of the five parts.
    #[must_use]
    pub fn weights(&self) -> Weights {
        self.settings.weights
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
    pub fn upsert(&mut self, offer: &Offer<'_>) -> Result<(), Invalid> {
        offer.check()?;
        let known = self.slot_of.get(&offer.key, &self.standings);
        ensure(
            known.is_some() || self.slot_of.len() < self.settings.offers_max,
            "key",
            "must be a known offer: the most offers the router keeps are here",
        )?;
        if let Some(slot) = known {
            let (owner, group) = self.take(slot);
            self.standings[slot as usize].set_facts(offer);
            self.level(slot, offer.model);
            self.put(slot, offer.model, &offer.owner, &offer.group);
            self.leave(owner);
            self.leave(group);
        } else {
            let mut standing = Standing::new(offer);
            standing.epoch = self.epoch;
            let slot = self.add(standing);
            self.put(slot, offer.model, &offer.owner, &offer.group);
        }
        Ok(())
    }

    /// Gives an offer a slot.
    pub(crate) fn add(&mut self, standing: Standing) -> u32 {
        let slot = if let Some(slot) = self.free.pop() {
            self.standings[slot as usize] = standing;
            slot
        } else {
            self.push(standing);
            u32::try_from(self.standings.len() - 1).unwrap_or(NONE)
        };
        self.slot_of.insert(slot, &self.standings);
        slot
    }

    /// Makes one more slot.
    pub(crate) fn push(&mut self, standing: Standing) {
        large_pages::room_for_one(&mut self.standings, self.settings.offers_max);
        self.standings.push(standing);
        self.links.push([Link::ALONE; 3]);
    }

    /// Removes an offer; false if it is not here.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(slot) = self.slot_of.remove(key, &self.standings) else {
            return false;
        };
        let (owner, group) = self.take(slot);
        self.leave(owner);
        self.leave(group);
        self.standings[slot as usize].tally = None;
        self.free.push(slot);
        true
    }

    fn slot(&self, key: &Key) -> Option<u32> {
        self.slot_of.get(key, &self.standings)
    }

    /// Says whether the device behind an offer is there; false if the offer is not here.
    pub fn set_online(&mut self, key: &Key, online: bool) -> bool {
        let Some(slot) = self.slot(key) else {
            return false;
        };
        self.standings[slot as usize].online = online;
        self.restate(slot);
        true
    }

    /// Says whether the owner of an offer takes work; false if the offer is not here.
    pub fn set_open(&mut self, key: &Key, open: bool) -> bool {
        let Some(slot) = self.slot(key) else {
            return false;
        };
        self.standings[slot as usize].open = open;
        self.restate(slot);
        true
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
        let Some(slot) = self.slot(key) else {
            return Ok(false);
        };
        self.change(slot, |standing| {
            standing.quality = quality;
            standing.latency_ms = latency_ms;
            standing.availability = availability;
        });
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
        let room = self.names.len() < self.settings.offers_max || self.names.contains_key(model);
        ensure(
            room,
            "model",
            "must be a known model: the most models the router keeps are here",
        )?;
        let model = self.model(model);
        self.each_of(model, Self::settle);
        self.models[model as usize].references = Some(References {
            price,
            latency_ms,
            work: self.settings.references.work,
        });
        self.each_of(model, |router, slot| router.change(slot, |_| {}));
        Ok(())
    }

    fn each_of(&mut self, model: u32, mut call: impl FnMut(&mut Self, u32)) {
        let mut slot = self.models[model as usize].offers;
        while slot != NONE {
            call(self, slot);
            slot = self.next(By::Model, slot);
        }
    }

    /// Begins a new epoch: work done before counts less, and breakers long silent are forgotten. At most `offers_max`
    /// offers are scored anew; true if none is left, else the next call goes on, with the same time. An offer that is
    /// picked before its turn comes is scored anew at once. A time before the present epoch changes nothing.
    pub fn tick(&mut self, now_ms: i64, offers_max: usize) -> bool {
        if let Ok(elapsed @ 1..) = u64::try_from(now_ms.saturating_sub(self.epoch_ms)) {
            self.sweep(usize::MAX);
            self.factor = decay(elapsed, self.settings.work_half_life_ms);
            self.epoch_ms = now_ms;
            self.epoch = self.epoch.wrapping_add(1);
            self.swept = 0;
            self.forget_breakers(now_ms);
        }
        self.sweep(offers_max);
        self.swept == self.standings.len()
    }

    fn sweep(&mut self, offers_max: usize) {
        let end = self
            .swept
            .saturating_add(offers_max)
            .min(self.standings.len());
        for slot in self.swept..end {
            // Slots are u32.
            if let Ok(slot) = u32::try_from(slot) {
                if self.standings[slot as usize].model != NONE && self.fade(slot) {
                    self.change(slot, |_| {});
                }
            }
        }
        self.swept = end;
    }

    /// Lets the work of an offer fade to the present epoch; whether that changed anything.
    pub(crate) fn fade(&mut self, slot: u32) -> bool {
        let standing = &self.standings[slot as usize];
        if standing.epoch == self.epoch {
            return false;
        }
        if standing.work > 0.0 {
            self.settle(slot);
        }
        let standing = &mut self.standings[slot as usize];
        standing.epoch = self.epoch;
        let faded = standing.work * self.factor;
        let changed = faded < standing.work;
        standing.work = faded;
        changed
    }

    /// Picks an offer, takes one of its slots and charges it the work.
    ///
    /// # Errors
    /// [`Invalid`] naming the field of the request that breaks its rule.
    pub fn pick(&mut self, request: &Request<'_>) -> Result<Decision, Invalid> {
        request.check()?;
        Ok(self.decide(request, Decision::CANDIDATES_MAX))
    }

    /// Picks for each request in turn, without candidates for a card; before the first if any is bad.
    ///
    /// # Errors
    /// [`Invalid`] naming the field of the first request that breaks its rule; nothing is picked.
    pub fn pick_many(&mut self, requests: &[Request<'_>]) -> Result<Vec<Option<Pick>>, Invalid> {
        for request in requests {
            request.check()?;
        }
        Ok(requests
            .iter()
            .map(|request| self.decide(request, 0).pick)
            .collect())
    }

    /// Gives a slot back; false if the offer is not here or had none taken.
    pub fn release(&mut self, key: &Key) -> bool {
        let Some(slot) = self.slot(key) else {
            return false;
        };
        let standing = &mut self.standings[slot as usize];
        if standing.in_flight == 0 {
            return false;
        }
        standing.in_flight -= 1;
        let group = standing.group;
        self.load_by(group, -1);
        self.restate(slot);
        let device = self.parties[group as usize].key;
        self.with_breaker(&device, |breaker| breaker.released(*key));
        true
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

    /// Slots taken of a device, over all its offers.
    #[must_use]
    pub fn load(&self, group: &Key) -> u32 {
        let party = self.party_of.get(group, &self.parties);
        party.map_or(0, |party| self.parties[party as usize].load)
    }

    /// The state of a device's or an owner's breaker: `closed`, `open` or `half_open`.
    #[must_use]
    pub fn breaker_state(&self, group: &Key, now_ms: i64) -> &'static str {
        self.breakers
            .get(group)
            .map_or("closed", |breaker| breaker.state(now_ms))
    }
}
