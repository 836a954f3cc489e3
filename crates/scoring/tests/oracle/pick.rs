//! The pick by its definition.

use std::collections::BTreeMap;

use scoring::{Key, Request, Scope, Visibility};

use super::{Offer, Oracle, Outcome, Queue};

fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((u128::from(z) * u128::from(bound)) >> 64) as u64
}

impl Oracle {
    fn failed(&self, offer: &Offer, request: &Request<'_>) -> Option<&'static str> {
        let facts = &offer.facts;
        let load: u32 = self
            .offers
            .values()
            .filter(|one| one.facts.group == facts.group)
            .map(|one| one.in_flight)
            .sum();
        let gates = [
            (
                "only",
                !request.only.is_empty() && !request.only.contains(&facts.key),
            ),
            ("ignore", request.ignore.contains(&facts.key)),
            ("tried", request.tried.contains(&facts.key)),
            (
                "context",
                facts.context < request.context_tokens || facts.output < request.output_tokens,
            ),
            (
                "max_price",
                request
                    .price_microcents_max
                    .is_some_and(|max| facts.price > max),
            ),
            ("closed", !offer.open),
            ("online", !offer.online),
            (
                "breaker",
                !self.admits(&facts.group, request.now_ms)
                    || !self.admits(&facts.owner, request.now_ms),
            ),
            (
                "capacity",
                offer.in_flight >= facts.capacity || load >= facts.group_capacity,
            ),
        ];
        gates.iter().find(|gate| gate.1).map(|gate| gate.0)
    }

    #[allow(clippy::too_many_lines)] // the definition in one piece
    pub fn pick(&mut self, request: &Request<'_>) -> Outcome {
        let mut gates: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut passed = Vec::new();
        let mut misses = Vec::new();
        for (key, offer) in &self.offers {
            let own = offer.facts.owner == request.network;
            let seen = match request.scope {
                Scope::Own => own,
                Scope::Market => !own && offer.facts.visibility == Visibility::Market,
            };
            if offer.facts.model != request.model {
                *gates.entry("model").or_default() += u64::from(seen);
            } else if !seen {
                let at_market = own && request.scope == Scope::Market;
                *gates.entry("owner").or_default() += u64::from(at_market);
            } else if let Some(failed) = self.failed(offer, request) {
                let shown = if failed == "closed" { "online" } else { failed };
                *gates.entry(shown).or_default() += 1;
                misses.push((*key, failed));
            } else {
                passed.push(*key);
            }
        }
        for (key, failed) in misses {
            let counted = &mut self.offers.get_mut(&key).unwrap().counted;
            counted.0 += 1;
            *counted.3.entry(failed).or_default() += 1;
        }
        let names = [
            "model",
            "owner",
            "only",
            "ignore",
            "tried",
            "context",
            "max_price",
            "online",
            "breaker",
            "capacity",
        ];
        let mut outcome = Outcome {
            key: None,
            explored: false,
            propensity: None,
            gates: names
                .iter()
                .map(|&name| (name, gates.get(name).copied().unwrap_or(0)))
                .collect(),
            feasible: passed.len() as u64,
            candidates: Vec::new(),
        };
        let at_home = (request.scope == Scope::Own).then_some(request.network);
        let model = ["even", "odd"]
            .into_iter()
            .find(|&name| name == request.model)
            .unwrap_or("none");
        let queue = self
            .queues
            .get(&(model, at_home))
            .copied()
            .unwrap_or_default();
        let waited = queue.waited;
        let mut ranked: Vec<Key> = passed;
        ranked.sort_by_key(|key| {
            let one = &self.offers[key];
            (self.step(one), one.turn, one.served, *key)
        });
        let Some(top) = ranked.first().map(|key| self.step(&self.offers[key])) else {
            return outcome;
        };
        let band = |key: &Key| (self.step(&self.offers[key]) - top) / 4;
        let first = *ranked
            .iter()
            .filter(|key| band(key) == 0)
            .min_by_key(|key| {
                let one = &self.offers[*key];
                (one.turn, one.served, **key)
            })
            .unwrap();
        let best = request
            .prefer
            .filter(|key| ranked.contains(key) && band(key) <= 1)
            .unwrap_or(first);
        let mut by_facts = ranked.clone();
        by_facts.sort_by_key(|key| {
            let facts = &self.offers[key].facts;
            (facts.context, facts.output, facts.price, *key)
        });
        let chance = f64::from(self.settings.newcomer_ppm) / 1e6;
        let mut fresh = by_facts.clone();
        fresh.retain(|key| self.offers[key].picks < 3 && chance > 0.0);
        let due = waited * u64::from(self.settings.newcomer_ppm) >= 2_000_000;
        let mut state = request.seed;
        let explored = below(&mut state, 1_000_000) < u64::from(self.settings.explore_ppm);
        let any = below(&mut state, ranked.len() as u64);
        let newcomer = !fresh.is_empty()
            && (below(&mut state, 1_000_000) < u64::from(self.settings.newcomer_ppm) || due);
        let chosen = if newcomer {
            fresh[below(&mut state, fresh.len() as u64) as usize]
        } else if explored {
            by_facts[any as usize]
        } else {
            best
        };
        outcome.explored = explored || newcomer;
        let explore = f64::from(self.settings.explore_ppm) / 1e6;
        let to_fresh = if fresh.is_empty() {
            0.0
        } else if due {
            1.0
        } else {
            chance
        };
        let mut propensity = explore / ranked.len() as f64;
        if chosen == best {
            propensity += 1.0 - explore;
        }
        propensity *= 1.0 - to_fresh;
        if fresh.contains(&chosen) {
            propensity += to_fresh / fresh.len() as f64;
        }
        outcome.propensity = Some(propensity);
        outcome.key = Some(chosen);
        let mut listed: Vec<Key> = ranked.iter().take(16).copied().collect();
        if !listed.contains(&chosen) {
            listed.push(chosen);
        }
        outcome.candidates = listed
            .iter()
            .map(|key| {
                (
                    *key,
                    self.score(&self.offers[key]),
                    -i32::try_from(band(key)).unwrap(),
                )
            })
            .collect();
        let floor = (top + 3).max(self.step(&self.offers[&chosen]));
        self.tell(&ranked, chosen, floor, outcome.explored);
        let waited = if fresh.contains(&chosen) {
            0
        } else {
            waited + u64::from(!fresh.is_empty())
        };
        self.served += 1;
        let served = self.served;
        let offer = self.offers.get_mut(&chosen).unwrap();
        let start = offer.turn.max(queue.turn);
        let work = request.work_tokens.clamp(1, 1 << 24).unsigned_abs() << 16;
        let mean = if queue.mean == 0 { work } else { queue.mean };
        let counted = work.min(mean * u64::from(self.settings.turn_times_max));
        offer.turn = start + (counted / u64::from(offer.facts.capacity)).max(1);
        let queue = Queue {
            turn: start,
            mean: mean - mean / 64 + counted / 64,
            waited,
        };
        offer.served = served;
        offer.in_flight += 1;
        offer.picks += 1;
        offer.work += request.work_tokens as f64;
        let group = offer.facts.group;
        self.queues.insert((model, at_home), queue);
        if let Some(breaker) = self.breakers.get_mut(&group).filter(|one| one.open_ms > 0) {
            breaker.probe = Some((chosen, request.now_ms + breaker.open_ms));
        }
        outcome
    }

    fn tell(&mut self, passed: &[Key], chosen: Key, floor: i64, explored: bool) {
        let names = ["price", "quality", "latency", "availability", "fairness"];
        let winner = &self.offers[&chosen];
        let best = self.parts(winner).in_order();
        let weights = self.settings.weights.in_order();
        for key in passed {
            let mine = self.parts(&self.offers[key]).in_order();
            let as_good = self.step(&self.offers[key]) <= floor;
            let counted = &mut self.offers.get_mut(key).unwrap().counted;
            counted.0 += 1;
            counted.2 += 1.0 / passed.len() as f64;
            let mut most = 0;
            for part in 1..5 {
                let behind = |part: usize| weights[part] * (best[part] - mine[part]);
                if behind(part) > behind(most) {
                    most = part;
                }
            }
            let reason = if explored {
                "chance"
            } else if as_good {
                "turn"
            } else {
                names[most]
            };
            if *key == chosen {
                counted.1 += 1;
            } else {
                *counted.3.entry(reason).or_default() += 1;
            }
        }
    }
}
