//! What each offer was asked for, what it got, and why it did not get the rest.

use crate::offer::{Key, Request, Visibility};
use crate::queue::Place;
use crate::router::Router;
use crate::score::{Parts, WEIGHTS};
use crate::standing::Standing;

/// Why an offer did not get a request: the gate it failed, or the part of the score in which it lost the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Only,
    Ignore,
    Tried,
    Context,
    MaxPrice,
    /// Its owner takes no work at the moment.
    Closed,
    Online,
    Breaker,
    Capacity,
    Price,
    Quality,
    Latency,
    Availability,
    Fairness,
    /// As good as the one picked, whose turn it was.
    Turn,
    /// Chance picked another one, to learn about it.
    Chance,
}

/// The parts of a score, in its order.
pub const PARTS: [Reason; 5] = [
    Reason::Price,
    Reason::Quality,
    Reason::Latency,
    Reason::Availability,
    Reason::Fairness,
];

/// The number of reasons.
pub const REASONS: usize = 16;

/// Their names, in order.
pub const REASON_NAMES: [&str; REASONS] = [
    "only",
    "ignore",
    "tried",
    "context",
    "max_price",
    "closed",
    "online",
    "breaker",
    "capacity",
    "price",
    "quality",
    "latency",
    "availability",
    "fairness",
    "turn",
    "chance",
];

/// The counts of one offer since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests for its model that could see it.
    pub asked: u64,
    /// Requests it was picked for.
    pub got: u64,
    /// What it had got if all that passed the gates had shared each request evenly.
    pub fair_share: f64,
    /// The others, by reason.
    pub missed: [u64; REASONS],
}

impl Tally {
    /// Counts one that went elsewhere.
    pub fn miss(&mut self, reason: Reason) {
        self.missed[reason as usize] += 1;
    }
}

impl Router {
    /// Counts what each offer that passed the gates got, and why the others did not.
    pub(crate) fn tell(
        &mut self,
        places: &[(Place, usize)],
        chosen: (Place, usize),
        explored: bool,
    ) {
        let Some(best) = self.standings[chosen.1].as_ref().map(|best| best.parts) else {
            return;
        };
        // At most 2³² offers.
        #[allow(clippy::cast_precision_loss)]
        let share = 1.0 / places.len() as f64;
        for &(place, slot) in places {
            let Some(standing) = &mut self.standings[slot] else {
                continue;
            };
            standing.tally.fair_share += share;
            if slot == chosen.1 {
                standing.tally.got += 1;
                standing.picks += 1;
            } else if explored {
                standing.tally.miss(Reason::Chance);
            } else if place.band == chosen.0.band {
                standing.tally.miss(Reason::Turn);
            } else {
                standing.tally.miss(most_behind(&standing.parts, &best));
            }
        }
    }

    /// What each offer was asked for since the last call, for those that were asked for anything.
    pub fn take_tallies(&mut self) -> Vec<(Key, Tally)> {
        self.standings
            .iter_mut()
            .flatten()
            .filter(|standing| standing.tally.asked > 0)
            .map(|standing| (standing.offer.key, std::mem::take(&mut standing.tally)))
            .collect()
    }

    /// Requests to the market since the last call: of all, and of each network that makes offers.
    pub fn take_asked(&mut self) -> (u64, Vec<(Key, u64)>) {
        (
            std::mem::take(&mut self.asked),
            self.asked_by.drain().collect(),
        )
    }

    /// For each model the medians of price (micro-cents per 1 000 000 tokens) and latency (milliseconds) over the offers
    /// that could serve the market now; models without one are left out.
    #[must_use]
    pub fn medians(&self) -> Vec<(String, f64, f64)> {
        let mut found = Vec::new();
        for (model, bucket) in &self.buckets {
            let serving = || {
                bucket
                    .slots
                    .iter()
                    .filter_map(|&slot| self.standings[slot].as_ref())
                    .filter(|one| {
                        one.online && one.open && one.offer.visibility == Visibility::Market
                    })
            };
            // A price loses its last bits above 2⁵³ micro-cents.
            #[allow(clippy::cast_precision_loss)]
            let price = median(
                serving()
                    .map(|one| one.offer.price_microcents as f64)
                    .collect(),
            );
            let latency = median(serving().filter_map(|one| one.latency_ms).collect());
            if let (Some(price), Some(latency)) = (price, latency) {
                found.push((model.clone(), price, latency));
            }
        }
        found
    }
}

/// The first gate that this offer fails: the requester's wishes first, then what passes by itself.
pub(crate) fn first_failed(
    standing: &Standing,
    request: &Request,
    broken: bool,
    full: bool,
) -> Option<Reason> {
    let offer = &standing.offer;
    if !request.only.is_empty() && !request.only.contains(&offer.key) {
        Some(Reason::Only)
    } else if request.ignore.contains(&offer.key) {
        Some(Reason::Ignore)
    } else if request.tried.contains(&offer.key) {
        Some(Reason::Tried)
    } else if offer.context_tokens < request.context_tokens
        || offer.output_tokens < request.output_tokens
    {
        Some(Reason::Context)
    } else if request
        .price_microcents_max
        .is_some_and(|price| offer.price_microcents > price)
    {
        Some(Reason::MaxPrice)
    } else if !standing.open {
        Some(Reason::Closed)
    } else if !standing.online {
        Some(Reason::Online)
    } else if broken {
        Some(Reason::Breaker)
    } else if full {
        Some(Reason::Capacity)
    } else {
        None
    }
}

/// The part of the score that costs `mine` the most against `best`.
fn most_behind(mine: &Parts, best: &Parts) -> Reason {
    let (mine, best) = (mine.in_order(), best.in_order());
    let behind = |part: usize| WEIGHTS[part] * (best[part] - mine[part]);
    let most = (1..PARTS.len()).fold(0, |most, part| {
        if behind(part) > behind(most) {
            part
        } else {
            most
        }
    });
    PARTS[most]
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
