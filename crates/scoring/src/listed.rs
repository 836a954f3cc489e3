//! Picks among offers that are looked at one by one: those of the requester's own network, or of a list.

use crate::card::Decision;
use crate::node::Heads;
use crate::offer::{Request, Scope};
use crate::pick::Listed;
use crate::queue::{Draw, Place};
use crate::router::Router;
use crate::tally::{first_failed, lost};

impl Router {
    /// Looks at each offer that comes into question: at home, or of a list.
    pub(crate) fn pick_listed(
        &mut self,
        request: &Request<'_>,
        model: u32,
        me: Option<u32>,
        listed: usize,
        decision: &mut Decision,
    ) {
        let own = self.own(me, model);
        let at_home = request.scope == Scope::Own;
        let queue = if at_home {
            let key = me.map(|me| (me, model));
            key.and_then(|key| self.queues.get(&key).copied())
                .unwrap_or_default()
        } else {
            self.models[model as usize].pool.queue
        };
        let looked_at = if at_home {
            decision.gates.model -= own.len() as u64;
            own
        } else {
            let looked_at = self.on_market(request.only, model, me);
            self.pass_by_the_rest(model, &own, &looked_at, decision);
            looked_at
        };
        let mut places = Vec::new();
        for &slot in &looked_at {
            let standing = &mut self.standings[slot as usize];
            standing.tally().asked += 1;
            if let Some(failed) = first_failed(standing, request) {
                standing.tally().miss(failed);
                decision.gates.count(failed);
            } else {
                places.push(standing.place(slot));
            }
        }
        places.sort_unstable();
        decision.feasible = places.len() as u64;
        let mut heads = Heads::NONE;
        for place in &places {
            heads.add(place);
        }
        let (best, top) = (*heads.next(), heads.step);
        if !best.is_ready() {
            return;
        }
        decision.top = top;
        let preferred = request
            .prefer
            .map(|key| Place::number(&key))
            .and_then(|key| {
                let near = |place: &&Place| place.key == key && self.is_near(place.slot, top);
                places.iter().find(near).copied()
            });
        let best = preferred.unwrap_or(best);
        let by_facts = |place: &&Place| {
            let one = &self.standings[place.slot as usize];
            (one.lengths(), one.price_microcents, one.key)
        };
        let fresh = places.iter().filter(|place| place.fresh).count() as u64;
        let lottery = self.lottery(decision.feasible, fresh, queue);
        let nth = |nth: u64, fresh: bool| {
            let mut drawn: Vec<&Place> = places.iter().filter(|one| one.fresh || !fresh).collect();
            drawn.sort_unstable_by_key(by_facts);
            usize::try_from(nth)
                .ok()
                .and_then(|nth| drawn.get(nth).map(|one| one.slot))
        };
        let drawn = lottery.draw(request.seed);
        let chosen = match drawn {
            Draw::Best => None,
            Draw::Any(number) => nth(number, false),
            Draw::Newcomer(number) => nth(number, true),
        }
        .unwrap_or(best.slot);
        let explored = drawn != Draw::Best;
        // At most 2³² offers.
        #[allow(clippy::cast_precision_loss)]
        let share = 1.0 / decision.feasible as f64;
        let floor = Heads::floor(top).max(self.standings[chosen as usize].step);
        let parts = self.parts(chosen).in_order();
        for place in places.iter().filter(|place| place.slot != chosen) {
            let mine = self.parts(place.slot).in_order();
            let standing = &mut self.standings[place.slot as usize];
            let winner = (floor, &parts);
            let weights = &self.settings.weights;
            let reason = lost((standing.step, &mine), explored, winner, weights);
            let tally = standing.tally();
            tally.fair_share += share;
            tally.miss(reason);
        }
        let tally = self.standings[chosen as usize].tally();
        tally.got += 1;
        tally.fair_share += share;
        let places = Listed::of(&places, listed);
        self.end(
            request, decision, &lottery, &places, best.slot, chosen, explored,
        );
    }

    /// Counts a request for some offers of a pool only at all the others, and the requester's own.
    fn pass_by_the_rest(
        &mut self,
        model: u32,
        own: &[u32],
        listed: &[u32],
        decision: &mut Decision,
    ) {
        for &slot in own.iter().chain(listed) {
            self.settle(slot);
        }
        let pool = &mut self.models[model as usize].pool;
        for (_, class) in pool.classes.iter_mut() {
            class.seen.only = class.seen.only.wrapping_add(1);
        }
        let offers = pool.offers;
        for &slot in own.iter().chain(listed) {
            self.see(slot);
        }
        let on_market = |slot: &&u32| self.standings[**slot as usize].on_market();
        let shown = offers - own.iter().filter(on_market).count() as u64;
        decision.gates.model -= shown;
        decision.gates.owner = own.len() as u64;
        decision.gates.only = shown - listed.len() as u64;
    }
}
