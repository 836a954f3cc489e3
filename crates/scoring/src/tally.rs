//! What each offer was asked for, what it got, and why it did not get the rest.
//!
//! A pick does not look at the offers that it passes by. Each gate bucket counts its requests by how they ended; an offer
//! takes in what was counted since it last did so when something happens to it, and when the tallies are taken. Nothing
//! of what decides over it changes in between, so every count is exact but two, which need the single winners: by which
//! part of the score an offer lost, and what a highest price that not all offers kept did to it. These are exact for the
//! last [`crate::history::NEWEST`] requests, and beyond them split in the proportions of the winners kept; their sum is
//! exact always.

use crate::history::{apportion, Win};
use crate::offer::{Key, Request};
use crate::party::{By, NONE};
use crate::pool::{Pool, Seen};
use crate::queue::State;
use crate::router::Router;
use crate::standing::Standing;
use crate::weights::Weights;

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
#[derive(Clone, Debug, Default, PartialEq)]
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

    fn miss_many(&mut self, reason: Reason, count: u64) {
        self.missed[reason as usize] += count;
    }
}

impl Reason {
    /// Why an offer in this state gets nothing.
    pub(crate) fn of(state: State) -> Option<Self> {
        match state {
            State::Ready => None,
            State::Closed => Some(Self::Closed),
            State::Away => Some(Self::Online),
            State::Broken => Some(Self::Breaker),
            State::Full => Some(Self::Capacity),
        }
    }
}

impl Standing {
    pub(crate) fn tally(&mut self) -> &mut Tally {
        self.tally.get_or_insert_default()
    }
}

impl Router {
    /// Takes into an offer's tally what happened since. Before anything changes that decides over it.
    pub(crate) fn settle(&mut self, slot: u32) {
        let standing = &self.standings[slot as usize];
        if standing.block == NONE {
            return;
        }
        let pool = &self.models[standing.model as usize].pool;
        let Some(class) = pool.classes.get(standing.lengths()) else {
            return;
        };
        let now = class.seen(pool.number, standing.step);
        if now == standing.seen {
            return;
        }
        let parts = self.parts(slot).in_order();
        let mut tally = self.standings[slot as usize]
            .tally
            .take()
            .unwrap_or_default();
        count(
            &mut tally,
            &self.standings[slot as usize],
            &now,
            &parts,
            &self.settings.weights,
            &self.models[self.standings[slot as usize].model as usize].pool,
        );
        let standing = &mut self.standings[slot as usize];
        standing.seen = now;
        if tally.asked > 0 {
            standing.tally = Some(tally);
        }
    }

    /// What each offer was asked for since the last call, for those that were asked for anything.
    pub fn take_tallies(&mut self) -> Vec<(Key, Tally)> {
        let mut taken = Vec::new();
        for slot in 0..self.standings.len() {
            // Slots are u32.
            let Ok(number) = u32::try_from(slot) else {
                break;
            };
            self.settle(number);
            let standing = &mut self.standings[slot];
            if let Some(tally) = standing.tally.take() {
                taken.push((standing.key, *tally));
            }
        }
        for model in &mut self.models {
            model.pool.plain.clear();
            model.pool.cut.clear();
        }
        taken
    }

    /// Requests to the market since the last call: of all, and of each network that makes offers.
    pub fn take_asked(&mut self) -> (u64, Vec<(Key, u64)>) {
        (
            std::mem::take(&mut self.asked),
            std::mem::take(&mut self.asked_by).into_iter().collect(),
        )
    }

    /// For each model the medians of price (micro-cents per 1 000 000 tokens) and latency (milliseconds) over the offers
    /// that could serve the market now; models without one are left out.
    #[must_use]
    pub fn medians(&self) -> Vec<(String, f64, f64)> {
        let mut found = Vec::new();
        for model in &self.models {
            let (mut prices, mut latencies) = (Vec::new(), Vec::new());
            let mut slot = if model.count > 0 { model.offers } else { NONE };
            while slot != NONE {
                let one = &self.standings[slot as usize];
                if one.online && one.open && one.on_market() {
                    // A price loses its last bits above 2⁵³ micro-cents.
                    #[allow(clippy::cast_precision_loss)]
                    prices.push(one.price_microcents as f64);
                    if !one.latency_ms.is_nan() {
                        latencies.push(one.latency_ms);
                    }
                }
                slot = self.next(By::Model, slot);
            }
            if let (Some(price), Some(latency)) = (median(prices), median(latencies)) {
                found.push((model.name.clone(), price, latency));
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }
}

/// Adds what a bucket counted between `standing.seen` and `now`.
fn count(
    tally: &mut Tally,
    standing: &Standing,
    now: &Seen,
    parts: &[f64; 5],
    by: &Weights,
    pool: &Pool,
) {
    let since = &standing.seen;
    let passed = |now: u32, then: u32| u64::from(now.wrapping_sub(then));
    let only = passed(now.only, since.only);
    let context = passed(now.context, since.context);
    let entered = passed(now.entered, since.entered);
    let cut = passed(now.cut, since.cut);
    tally.asked += only + context + entered;
    tally.miss_many(Reason::Only, only);
    tally.miss_many(Reason::Context, context);
    let plain = entered.saturating_sub(cut);
    if let Some(reason) = Reason::of(standing.state) {
        tally.miss_many(reason, plain);
    } else {
        let (chance, turn) = (
            passed(now.chance, since.chance),
            passed(now.turn, since.turn),
        );
        tally.fair_share += now.share - since.share;
        tally.miss_many(Reason::Chance, chance);
        tally.miss_many(Reason::Turn, turn);
        let behind = plain.saturating_sub(chance).saturating_sub(turn);
        if behind > 0 {
            let mut weights = [0; PARTS.len()];
            pool.plain.since(since.number, now.number, |win| {
                if standing.step > win.floor && fits(standing, win) {
                    weights[by.most_behind(parts, &win.parts)] += u64::from(win.weight);
                }
            });
            let split = apportion(behind, &weights);
            for (part, count) in PARTS.into_iter().zip(split) {
                tally.miss_many(part, count);
            }
            // None of the winners was kept: as far as is known, it was another's turn.
            tally.miss_many(Reason::Turn, behind - split.iter().sum::<u64>());
        }
    }
    if cut > 0 {
        let mut weights = [0; REASONS];
        let (mut share, mut all) = (0.0, 0.0);
        pool.cut.since(since.number, now.number, |win| {
            if !fits(standing, win) {
                return;
            }
            let reason = ended(standing, win, parts, by);
            weights[reason as usize] += u64::from(win.weight);
            all += f64::from(win.weight);
            if reason as usize >= Reason::Price as usize {
                share += f64::from(win.weight) * win.share;
            }
        });
        if all > 0.0 {
            // At most 2³² requests.
            #[allow(clippy::cast_precision_loss)]
            let cut = cut as f64;
            tally.fair_share += share / all * cut;
        }
        split(tally, cut, weights);
    }
}

fn fits(standing: &Standing, win: &Win) -> bool {
    standing.context_tokens >= win.context_tokens && standing.output_tokens >= win.output_tokens
}

/// Adds misses by weights; if none of the winners was kept, they count as a turn.
fn split(tally: &mut Tally, total: u64, mut weights: [u64; REASONS]) {
    if weights.iter().all(|&weight| weight == 0) {
        weights[Reason::Turn as usize] = 1;
    }
    for (missed, part) in tally.missed.iter_mut().zip(apportion(total, &weights)) {
        *missed += part;
    }
}

/// How a request with a highest price ended for an offer that did not get it.
fn ended(standing: &Standing, win: &Win, parts: &[f64; 5], by: &Weights) -> Reason {
    if standing.price_microcents > win.price_max {
        Reason::MaxPrice
    } else if let Some(reason) = Reason::of(standing.state) {
        reason
    } else {
        let loser = (standing.step, parts);
        lost(loser, win.explored, (win.floor, &win.parts), by)
    }
}

/// Why an offer that passed the gates was not picked: of it the step and the parts, of the winner the deepest step that
/// counts as good, and the parts.
pub(crate) fn lost(
    (step, parts): (u16, &[f64; 5]),
    explored: bool,
    (floor, best): (u16, &[f64; 5]),
    by: &Weights,
) -> Reason {
    if explored {
        Reason::Chance
    } else if step <= floor {
        Reason::Turn
    } else {
        PARTS[by.most_behind(parts, best)]
    }
}

/// The first gate that this offer fails: the requester's wishes first, then what passes by itself.
pub(crate) fn first_failed(standing: &Standing, request: &Request<'_>) -> Option<Reason> {
    if !request.only.is_empty() && !request.only.contains(&standing.key) {
        Some(Reason::Only)
    } else if request.ignore.contains(&standing.key) {
        Some(Reason::Ignore)
    } else if request.tried.contains(&standing.key) {
        Some(Reason::Tried)
    } else if standing.context_tokens < request.context_tokens
        || standing.output_tokens < request.output_tokens
    {
        Some(Reason::Context)
    } else if request
        .price_microcents_max
        .is_some_and(|price| standing.price_microcents > price)
    {
        Some(Reason::MaxPrice)
    } else {
        Reason::of(standing.state)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
