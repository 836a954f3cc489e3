//! The steps of a pick.

use crate::card::{Decision, Gates, Pick, GLANCES_MAX};
use crate::node::Heads;
use crate::offer::{Key, Request, Scope};
use crate::party::{By, NONE};
use crate::queue::{Lottery, Place, Queue};
use crate::router::Router;
use crate::standing::NEWCOMER_PICKS;

/// The slots of the offers that a card is to show, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    slots: [u32; Decision::CANDIDATES_MAX],
    count: usize,
}

impl Listed {
    /// The first of some places, at most so many.
    pub fn of(places: &[Place], most: usize) -> Self {
        let mut listed = Self::default();
        let most = most.min(listed.slots.len());
        for (slot, place) in listed
            .slots
            .iter_mut()
            .zip(&places[..most.min(places.len())])
        {
            *slot = place.slot;
            listed.count += 1;
        }
        listed
    }

    fn slots(&self) -> &[u32] {
        &self.slots[..self.count]
    }
}

impl Router {
    /// Picks, and lists at most `listed` candidates.
    pub(crate) fn decide(&mut self, request: &Request<'_>, listed: usize) -> Decision {
        self.sync(request.now_ms.min(i64::MAX - 1));
        let me = self.party_of.get(&request.network, &self.parties);
        let me = me.filter(|&me| self.parties[me as usize].owned > 0);
        if request.scope == Scope::Market {
            self.asked += 1;
            if me.is_some() {
                *self.asked_by.entry(request.network).or_default() += 1;
            }
        }
        let mut decision = Decision {
            pick: None,
            gates: Gates::default(),
            feasible: 0,
            glances: Vec::new(),
            steps: [0; GLANCES_MAX],
            chosen: 0,
            top: 0,
            weights: self.settings.weights,
            references: self.settings.references,
            priors: self.settings.priors(),
            now_ms: request.now_ms,
            epoch_ms: self.epoch_ms,
            seed: request.seed,
        };
        let (owned, of_market) = me.map_or((0, 0), |me| {
            let one = &self.parties[me as usize];
            (u64::from(one.owned), u64::from(one.market))
        });
        decision.gates.model = match request.scope {
            Scope::Own => owned,
            Scope::Market => self.market - of_market,
        };
        let Some(&model) = self.names.get(request.model) else {
            return decision;
        };
        decision.references = self.references(model);
        if request.scope == Scope::Own || !request.only.is_empty() {
            self.pick_listed(request, model, me, listed, &mut decision);
        } else {
            self.pick_indexed(request, model, me, listed, &mut decision);
        }
        decision
    }

    /// The offers of one network for a model.
    pub(crate) fn own(&self, me: Option<u32>, model: u32) -> Vec<u32> {
        let mut own = Vec::new();
        let mut slot = me.map_or(NONE, |me| self.parties[me as usize].by_owner);
        while slot != NONE {
            if self.standings[slot as usize].model == model {
                own.push(slot);
            }
            slot = self.next(By::Owner, slot);
        }
        own
    }

    /// The slots of some offers of a model's market that are of other networks than `me`, each once.
    pub(crate) fn on_market(&self, keys: &[Key], model: u32, me: Option<u32>) -> Vec<u32> {
        let mut slots: Vec<u32> = keys
            .iter()
            .filter_map(|key| self.slot_of.get(key, &self.standings))
            .filter(|&slot| {
                let one = &self.standings[slot as usize];
                one.model == model && one.on_market() && Some(one.owner) != me
            })
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Whether an offer is in the band below the best step, or in the next one.
    pub(crate) fn is_near(&self, slot: u32, top: u16) -> bool {
        let next = Heads::floor(top).saturating_add(1);
        self.standings[slot as usize].step <= Heads::floor(next)
    }

    pub(crate) fn lottery(&self, feasible: u64, newcomers: u64, queue: Queue) -> Lottery {
        Lottery {
            explore_ppm: self.settings.explore_ppm,
            newcomer_ppm: self.settings.newcomer_ppm,
            feasible,
            newcomers: if self.settings.newcomer_ppm == 0 {
                0
            } else {
                newcomers
            },
            waited: queue.waited,
        }
    }

    /// Writes the decision down, and gives the request to the chosen offer.
    #[allow(clippy::too_many_arguments)] // what a pick comes to
    pub(crate) fn end(
        &mut self,
        request: &Request<'_>,
        decision: &mut Decision,
        lottery: &Lottery,
        listed: &Listed,
        best: u32,
        chosen: u32,
        explored: bool,
    ) {
        let slots = listed.slots();
        let place = slots.iter().position(|&slot| slot == chosen);
        decision.chosen = place.unwrap_or(slots.len());
        let besides = place.is_none().then_some(&chosen);
        for (&slot, step) in slots.iter().chain(besides).zip(&mut decision.steps) {
            *step = self.standings[slot as usize].step;
        }
        let glance = |&slot: &u32| self.standings[slot as usize].glance();
        decision.glances = Vec::with_capacity(slots.len() + usize::from(place.is_none()));
        decision.glances.extend(slots.iter().map(glance));
        decision.glances.extend(besides.map(glance));
        let standing = &self.standings[chosen as usize];
        let fresh = lottery.newcomers > 0 && standing.picks < NEWCOMER_PICKS;
        decision.pick = Some(Pick {
            key: standing.key,
            group: self.parties[standing.group as usize].key,
            owner: self.parties[standing.owner as usize].key,
            explored,
            propensity: lottery.propensity(chosen == best, fresh),
        });
        let waited = if fresh {
            Some(0)
        } else if lottery.newcomers > 0 {
            Some(lottery.waited.saturating_add(1))
        } else {
            None
        };
        self.give(chosen, request, waited);
    }

    /// Gives the request to an offer: a slot taken, the work charged, its turn moved back.
    fn give(&mut self, slot: u32, request: &Request<'_>, waited: Option<u32>) {
        let standing = &self.standings[slot as usize];
        let (key, model, owner, group) =
            (standing.key, standing.model, standing.owner, standing.group);
        let (before, capacity) = (standing.turn, standing.capacity);
        let at_home = request.scope == Scope::Own;
        let queue = if at_home {
            self.queues.entry((owner, model)).or_default()
        } else {
            &mut self.models[model as usize].pool.queue
        };
        queue.waited = waited.unwrap_or(queue.waited);
        queue.turn = before.max(queue.turn);
        let times_max = self.settings.turn_times_max;
        let cost = queue.cost(request.work_tokens, capacity, times_max);
        let turn = queue.turn.saturating_add(cost);
        self.served += 1;
        let served = self.served;
        // Work loses its last bits above 2⁵³ tokens, where it scores 0 anyway.
        #[allow(clippy::cast_precision_loss)]
        let work = request.work_tokens as f64;
        self.fade(slot);
        let device = self.parties[group as usize].key;
        self.with_breaker(&device, |breaker| breaker.picked(key, request.now_ms));
        self.parties[group as usize].load += 1;
        if at_home {
            self.settle(slot);
        }
        // At the market its tally took in everything before the pick was counted.
        self.change_settled(slot, |standing| {
            standing.turn = turn;
            standing.in_flight += 1;
            standing.picks = standing.picks.saturating_add(1);
            standing.served = served;
            standing.work += work;
        });
        self.load_by(group, 0);
    }
}
