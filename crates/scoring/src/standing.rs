//! How each offer stands, and its way into the indexes.

use crate::card::Glance;
use crate::offer::{Key, Offer, Visibility};
use crate::party::{By, List, NONE};
use crate::pool::{Pool, Seen};
use crate::portable::Steps;
use crate::queue::{Place, State};
use crate::router::Router;
use crate::score::{Inputs, Parts, References};
use crate::settings::Settings;
use crate::tally::Tally;
use crate::tree::Address;

/// An offer picked less often is new.
pub const NEWCOMER_PICKS: u32 = 3;

/// An offer and how it stands; unused if its model is [`NONE`].
///
/// Three lines of the cache: what a card shows of it, what changes when it is picked, and what a gate bucket says to it.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Standing {
    pub key: Key,
    pub price_microcents: i64,
    /// Estimates; NaN: nobody knows.
    pub quality: f64,
    pub latency_ms: f64,
    pub availability: f64,
    /// Tokens given to it, decayed to the epoch.
    pub work: f64,
    /// The epoch up to which its work has faded.
    pub epoch: u32,
    /// Of its score.
    pub step: u16,
    pub state: State,
    pub visibility: Visibility,

    /// Where its next turn starts; see [`crate::queue::Queue::cost`].
    pub turn: u64,
    /// The number of its last pick.
    pub served: u64,
    pub model: u32,
    pub owner: u32,
    pub group: u32,
    /// Its block in the tree of its bucket, if it is on the market.
    pub block: u32,
    pub capacity: u32,
    pub group_capacity: u32,
    pub in_flight: u32,
    /// How often it was picked.
    pub picks: u32,
    pub online: bool,
    /// Whether its owner takes work at the moment.
    pub open: bool,
    pub tally: Option<Box<Tally>>,

    pub context_tokens: i64,
    pub output_tokens: i64,
    /// What is in its tally.
    pub seen: Seen,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Standing>() == 3 * 64);

/// One model: its reference points, its offers, and those of the market.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub name: String,
    pub references: Option<References>,
    pub count: u32,
    pub offers: List,
    pub pool: Pool,
}

impl Standing {
    /// Offline, unrated and unused.
    pub fn new(offer: &Offer<'_>) -> Self {
        let mut standing = Self {
            key: offer.key,
            turn: 0,
            model: NONE,
            owner: NONE,
            group: NONE,
            block: NONE,
            price_microcents: 0,
            context_tokens: 0,
            output_tokens: 0,
            capacity: 0,
            group_capacity: 0,
            in_flight: 0,
            picks: 0,
            step: 0,
            epoch: 0,
            state: State::Closed,
            visibility: Visibility::Own,
            online: false,
            open: true,
            served: 0,
            quality: f64::NAN,
            latency_ms: f64::NAN,
            availability: f64::NAN,
            work: 0.0,
            seen: Seen::default(),
            tally: None,
        };
        standing.set_facts(offer);
        standing
    }

    pub fn set_facts(&mut self, offer: &Offer<'_>) {
        self.price_microcents = offer.price_microcents;
        self.context_tokens = offer.context_tokens;
        self.output_tokens = offer.output_tokens;
        self.capacity = offer.capacity;
        self.group_capacity = offer.group_capacity;
        self.visibility = offer.visibility;
    }

    pub fn on_market(&self) -> bool {
        self.visibility == Visibility::Market
    }

    pub fn lengths(&self) -> (i64, i64) {
        (self.context_tokens, self.output_tokens)
    }

    pub fn address(&self) -> Address {
        Address {
            block: self.block,
            price: self.price_microcents,
            key: Place::number(&self.key),
        }
    }

    /// What a card is made of.
    #[inline]
    pub fn glance(&self) -> Glance {
        Glance {
            key: self.key,
            price_microcents: self.price_microcents,
            quality: self.quality,
            latency_ms: self.latency_ms,
            availability: self.availability,
            work: self.work,
        }
    }

    /// What its score is made of.
    pub fn inputs(&self, references: &References, settings: &Settings) -> Inputs {
        self.glance().inputs(references, &settings.priors())
    }

    /// Its place in a queue.
    pub fn place(&self, slot: u32) -> Place {
        Place {
            step: if self.state == State::Ready {
                self.step
            } else {
                Place::NOWHERE
            },
            state: self.state,
            fresh: self.picks < NEWCOMER_PICKS,
            slot,
            turn: self.turn,
            served: self.served,
            key: Place::number(&self.key),
        }
    }

    pub fn score_anew(&mut self, references: &References, settings: &Settings, steps: &Steps) {
        let parts = Parts::new(&self.inputs(references, settings), references);
        self.step = steps.near(settings.weights.total(&parts), self.step);
    }
}

impl Router {
    pub(crate) fn references(&self, model: u32) -> References {
        self.models[model as usize]
            .references
            .unwrap_or(self.settings.references)
    }

    pub(crate) fn parts(&self, slot: u32) -> Parts {
        let standing = &self.standings[slot as usize];
        let references = self.references(standing.model);
        Parts::new(&standing.inputs(&references, &self.settings), &references)
    }

    /// The model of a name, made if it is new.
    pub(crate) fn model(&mut self, name: &str) -> u32 {
        if let Some(&model) = self.names.get(name) {
            return model;
        }
        let new = Model {
            name: name.to_owned(),
            offers: NONE,
            ..Model::default()
        };
        let model = if let Some(model) = self.models_free.pop() {
            self.models[model as usize] = new;
            model
        } else {
            self.models.push(new);
            u32::try_from(self.models.len() - 1).unwrap_or(NONE)
        };
        self.names.insert(name.to_owned(), model);
        model
    }

    /// Takes an offer out of every index; it keeps its slot. To be followed by [`Router::leave`] of its owner and group.
    pub(crate) fn take(&mut self, slot: u32) -> (u32, u32) {
        self.settle(slot);
        let standing = &self.standings[slot as usize];
        let (model, owner, group) = (standing.model, standing.owner, standing.group);
        let (lengths, address) = (standing.lengths(), standing.address());
        let (on_market, in_flight) = (standing.on_market(), standing.in_flight);
        self.unlink(By::Model, model, slot);
        self.unlink(By::Owner, owner, slot);
        self.unlink(By::Group, group, slot);
        let of = &mut self.models[model as usize];
        of.count -= 1;
        if on_market {
            of.pool.remove(lengths, address);
            self.market -= 1;
        }
        if of.count == 0 && of.references.is_none() {
            let name = std::mem::take(&mut of.name);
            *of = Model::default();
            self.names.remove(&name);
            self.models_free.push(model);
        }
        self.parties[group as usize].grouped -= 1;
        self.load_by(group, -i64::from(in_flight));
        let left = self.parties[group as usize].by_group;
        self.restate_list(By::Group, left);
        let seller = &mut self.parties[owner as usize];
        seller.owned -= 1;
        seller.market -= u32::from(on_market);
        let standing = &mut self.standings[slot as usize];
        (standing.model, standing.block) = (NONE, NONE);
        (owner, group)
    }

    /// Puts an offer that is in no index into every one, and scores it.
    pub(crate) fn put(&mut self, slot: u32, model: &str, owner: &Key, group: &Key) {
        let model = self.model(model);
        let owner = self.party(owner);
        let group = self.party(group);
        let standing = &mut self.standings[slot as usize];
        (standing.model, standing.owner, standing.group) = (model, owner, group);
        let (on_market, in_flight) = (standing.on_market(), standing.in_flight);
        self.link(By::Model, model, slot);
        self.link(By::Owner, owner, slot);
        self.link(By::Group, group, slot);
        self.models[model as usize].count += 1;
        let seller = &mut self.parties[owner as usize];
        seller.owned += 1;
        seller.market += u32::from(on_market);
        self.parties[group as usize].grouped += 1;
        self.load_by(group, i64::from(in_flight));
        let references = self.references(model);
        let state = self.state_of(slot);
        let standing = &mut self.standings[slot as usize];
        standing.state = state;
        standing.score_anew(&references, &self.settings, &self.steps);
        if on_market {
            self.market += 1;
            let pool = &mut self.models[model as usize].pool;
            let place = standing.place(slot);
            let (lengths, price) = (standing.lengths(), standing.price_microcents);
            let standings = &mut self.standings;
            pool.insert(lengths, price, place, |moved, block| {
                standings[moved as usize].block = block;
            });
            self.see(slot);
        }
    }

    /// Alone, an offer's turn is the virtual time: who joins it later starts level with it, not with a credit. Before it
    /// is put there.
    pub(crate) fn level(&mut self, slot: u32, model: &str) {
        let standing = &self.standings[slot as usize];
        let (turn, on_market) = (standing.turn, standing.on_market());
        let model = self.model(model);
        let pool = &mut self.models[model as usize].pool;
        if on_market && pool.offers == 0 {
            pool.queue.turn = pool.queue.turn.max(turn);
        }
    }

    /// What its tally has is what there is.
    pub(crate) fn see(&mut self, slot: u32) {
        let standing = &mut self.standings[slot as usize];
        let pool = &self.models[standing.model as usize].pool;
        if let Some(class) = pool.classes.get(standing.lengths()) {
            standing.seen = class.seen(pool.number, standing.step);
        }
    }

    /// Whether it can take a request at the time of [`Router::sync`], but for what the requester asks.
    fn state_of(&self, slot: u32) -> State {
        let standing = &self.standings[slot as usize];
        let group = &self.parties[standing.group as usize];
        if !standing.open {
            State::Closed
        } else if !standing.online {
            State::Away
        } else if group.broken || self.parties[standing.owner as usize].broken {
            State::Broken
        } else if standing.in_flight >= standing.capacity || group.load >= standing.group_capacity {
            State::Full
        } else {
            State::Ready
        }
    }

    /// Brings an offer's state up to date: something happened to its device, its owner or its slots.
    pub(crate) fn restate(&mut self, slot: u32) {
        if self.state_of(slot) != self.standings[slot as usize].state {
            self.reindex(slot);
        }
    }

    /// Brings an offer's state and place up to date.
    fn reindex(&mut self, slot: u32) {
        let state = self.state_of(slot);
        if state != self.standings[slot as usize].state {
            self.settle(slot);
        }
        let standing = &mut self.standings[slot as usize];
        standing.state = state;
        if standing.block != NONE {
            let pool = &mut self.models[standing.model as usize].pool;
            let place = standing.place(slot);
            pool.replace(standing.lengths(), standing.address(), place);
        }
    }

    /// Changes what an offer is scored by.
    pub(crate) fn change(&mut self, slot: u32, change: impl FnOnce(&mut Standing)) {
        self.settle(slot);
        self.change_settled(slot, change);
    }

    /// The same for an offer that has settled since anything was counted.
    pub(crate) fn change_settled(&mut self, slot: u32, change: impl FnOnce(&mut Standing)) {
        let references = self.references(self.standings[slot as usize].model);
        let standing = &mut self.standings[slot as usize];
        change(standing);
        let step = standing.step;
        standing.score_anew(&references, &self.settings, &self.steps);
        if standing.step != step && standing.block != NONE {
            self.see(slot);
        }
        self.reindex(slot);
    }
}
