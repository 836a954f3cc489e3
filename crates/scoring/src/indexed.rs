//! Picks among all offers of the market for a model, by its indexes.

use crate::card::Decision;
use crate::classes::Lengths;
use crate::history::Win;
use crate::node::{Counts, Heads};
use crate::offer::Request;
use crate::pick::Listed;
use crate::queue::Draw;
use crate::router::Router;
use crate::tally::{first_failed, Reason};
use crate::tree::Address;

/// What a request found.
struct Found {
    /// The best of each step of the band.
    heads: Heads,
    /// The best of all that passed, in order, as many as are to be listed.
    best: Listed,
    feasible: u64,
    newcomers: u64,
}

/// Offers of the pool that a request passes by, whatever the pool's indexes say.
struct Passed {
    slots: Vec<u32>,
    addresses: Vec<(Lengths, Address)>,
}

impl Router {
    /// Asks the pool's indexes.
    pub(crate) fn pick_indexed(
        &mut self,
        request: &Request<'_>,
        model: u32,
        me: Option<u32>,
        listed: usize,
        decision: &mut Decision,
    ) {
        let passed = self.pass_by(request, model, me, decision);
        let found = self.find(request, model, &passed, listed, decision);
        decision.feasible = found.feasible;
        let queue = self.models[model as usize].pool.queue;
        let lottery = self.lottery(found.feasible, found.newcomers, queue);
        if found.feasible == 0 {
            self.count(request, model, None);
            self.see_all(&passed.slots);
            return;
        }
        let (best, top) = (found.heads.next().slot, found.heads.step);
        decision.top = top;
        self.expect_around(best, model);
        let best = request
            .prefer
            .and_then(|key| self.slot_of.get(&key, &self.standings))
            .filter(|slot| !passed.slots.contains(slot))
            .filter(|&slot| {
                let one = &self.standings[slot as usize];
                one.model == model
                    && one.on_market()
                    && first_failed(one, request).is_none()
                    && self.is_near(slot, top)
            })
            .unwrap_or(best);
        let lengths = (request.context_tokens, request.output_tokens);
        let price_max = request.price_microcents_max;
        let drawn = lottery.draw(request.seed);
        let pool = &mut self.models[model as usize].pool;
        let chosen = match drawn {
            Draw::Best => None,
            Draw::Any(nth) => pool.select(nth, lengths, price_max, &passed.addresses, false),
            Draw::Newcomer(nth) => pool.select(nth, lengths, price_max, &passed.addresses, true),
        }
        .unwrap_or(best);
        let explored = drawn != Draw::Best;
        self.settle(chosen);
        self.expect_places(chosen, model);
        // At most 2³² offers.
        #[allow(clippy::cast_precision_loss)]
        let share = 1.0 / found.feasible as f64;
        let win = Win {
            share,
            explored,
            floor: Heads::floor(top).max(self.standings[chosen as usize].step),
            parts: self.parts(chosen).in_order(),
            ..Win::of(request, 0)
        };
        self.count(request, model, Some(win));
        self.see(chosen);
        self.see_all(&passed.slots);
        let tally = self.standings[chosen as usize].tally();
        tally.asked += 1;
        tally.got += 1;
        tally.fair_share += share;
        self.end(
            request,
            decision,
            &lottery,
            &found.best,
            best,
            chosen,
            explored,
        );
        self.expect_next(chosen, model);
    }

    /// The offers that the request passes by, with what they say of it in their tallies.
    fn pass_by(
        &mut self,
        request: &Request<'_>,
        model: u32,
        me: Option<u32>,
        decision: &mut Decision,
    ) -> Passed {
        let mut slots = self.own(me, model);
        decision.gates.owner = slots.len() as u64;
        slots.retain(|&slot| self.standings[slot as usize].on_market());
        decision.gates.model -= self.models[model as usize].pool.offers - slots.len() as u64;
        let own = slots.len();
        if !(request.ignore.is_empty() && request.tried.is_empty()) {
            slots.extend(self.on_market(request.ignore, model, me));
            let ignored = slots.len();
            let tried = self.on_market(request.tried, model, me);
            slots.extend(
                tried
                    .iter()
                    .filter(|slot| !slots[own..ignored].contains(slot))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        let mut addresses = Vec::with_capacity(slots.len());
        for (index, &slot) in slots.iter().enumerate() {
            self.settle(slot);
            let standing = &mut self.standings[slot as usize];
            addresses.push((standing.lengths(), standing.address()));
            if index < own {
                continue;
            }
            let failed = first_failed(standing, request).unwrap_or(Reason::Tried);
            let tally = standing.tally();
            tally.asked += 1;
            tally.miss(failed);
            decision.gates.count(failed);
        }
        Passed { slots, addresses }
    }

    fn see_all(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.see(slot);
        }
    }

    /// Counts the offers of the pool by gate, and finds the best that pass.
    fn find(
        &mut self,
        request: &Request<'_>,
        model: u32,
        passed: &Passed,
        most: usize,
        decision: &mut Decision,
    ) -> Found {
        let pool = &mut self.models[model as usize].pool;
        let gates = &mut decision.gates;
        let mut whole = passed.slots.is_empty();
        let mut fitting = Counts::default();
        for ((context, output), class) in pool.classes.iter_mut() {
            let mut all = class.tree.counts(None);
            let mut kept = if request.price_microcents_max.is_none() {
                all
            } else {
                class.tree.counts(request.price_microcents_max)
            };
            for &(lengths, address) in &passed.addresses {
                let place = class
                    .tree
                    .place(address)
                    .filter(|_| lengths == (context, output));
                if let Some(place) = place {
                    all.subtract(place);
                    if request
                        .price_microcents_max
                        .is_none_or(|max| address.price <= max)
                    {
                        kept.subtract(place);
                    }
                }
            }
            if context < request.context_tokens || output < request.output_tokens {
                gates.context += u64::from(all.all());
                whole = false;
                continue;
            }
            if request.price_microcents_max.is_some() {
                whole &= all.ready == kept.ready;
                gates.max_price += u64::from(all.all() - kept.all());
            }
            fitting.join(&kept);
        }
        gates.online += u64::from(fitting.closed + fitting.away);
        gates.breaker += u64::from(fitting.broken);
        gates.capacity += u64::from(fitting.full);
        let (feasible, newcomers) = (fitting.ready.into(), fitting.fresh.into());
        let (heads, best) = if feasible == 0 {
            (Heads::NONE, Listed::default())
        } else if whole {
            let front = pool.front(most);
            let best = Listed::of(front, most);
            (pool.heads(), best)
        } else {
            let mut skipped = passed.slots.clone();
            skipped.sort_unstable();
            let lengths = (request.context_tokens, request.output_tokens);
            let skip = |slot| skipped.binary_search(&slot).is_ok();
            let price_max = request.price_microcents_max;
            let best = if most == 0 {
                Listed::default()
            } else {
                Listed::of(&pool.best(most, lengths, price_max, skip), most)
            };
            (pool.heads_within(lengths, price_max, skip), best)
        };
        Found {
            heads,
            best,
            feasible,
            newcomers,
        }
    }

    /// Counts a request at the buckets of a pool, and remembers its winner.
    fn count(&mut self, request: &Request<'_>, model: u32, win: Option<Win>) {
        let pool = &mut self.models[model as usize].pool;
        let max = request.price_microcents_max;
        let takes = |lengths: Lengths| {
            lengths.0 >= request.context_tokens && lengths.1 >= request.output_tokens
        };
        let cut = max.is_some_and(|max| {
            let dear = |class: &crate::pool::Class| class.tree.price_max() > Some(max);
            pool.classes
                .iter()
                .any(|(lengths, class)| takes(lengths) && dear(class))
        });
        for (lengths, class) in pool.classes.iter_mut() {
            let seen = &mut class.seen;
            if !takes(lengths) {
                seen.context = seen.context.wrapping_add(1);
                continue;
            }
            seen.entered = seen.entered.wrapping_add(1);
            if cut {
                seen.cut = seen.cut.wrapping_add(1);
            } else if let Some(win) = &win {
                seen.share += win.share;
                if win.explored {
                    seen.chance = seen.chance.wrapping_add(1);
                } else {
                    class.wins.add(win.floor, 1);
                }
            }
        }
        let number = pool.number;
        pool.number += 1;
        match win {
            Some(win) if cut => pool.cut.push(Win { number, ..win }),
            Some(win) if !win.explored => pool.plain.push(Win { number, ..win }),
            // Nobody won: those too dear are to know that they were.
            None if cut => pool.cut.push(Win::of(request, number)),
            _ => {}
        }
    }
}
