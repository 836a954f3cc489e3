//! The offers of one model that are on the market, ready to be picked from.

use std::collections::BinaryHeap;

use crate::classes::{Classes, Lengths};
use crate::history::History;
use crate::node::Heads;
use crate::queue::{Place, Queue};
use crate::tree::{Address, Tree};
use crate::wins::Wins;

/// The best offers of a pool are kept at hand, at most so many: looking for more of them at once costs little more, and
/// moving them in memory costs little yet.
const FRONT_MAX: usize = 96;

/// How often something happened to the offers of a gate bucket, since ever; they wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Requests served in the pool: the next one's number.
    pub number: u64,
    /// Requests for others only.
    pub only: u32,
    /// Requests too long for the bucket.
    pub context: u32,
    /// Requests that the bucket could take.
    pub entered: u32,
    /// Those of them whose highest price not all offers kept.
    pub cut: u32,
    /// The others that were served by chance.
    pub chance: u32,
    /// The others that were served by order, from a band that reached down to a step.
    pub turn: u32,
    /// The shares of those that were not cut, in which each offer that passed counts the same.
    pub share: f64,
}

/// The offers that can take the same lengths.
#[derive(Clone, Debug, Default)]
pub struct Class {
    pub tree: Tree,
    /// All but `number` and `turn`.
    pub seen: Seen,
    /// Requests served by order, by the deepest step of the band.
    pub wins: Wins,
}

impl Class {
    /// The counts as an offer at a step sees them.
    pub fn seen(&self, number: u64, step: u16) -> Seen {
        Seen {
            number,
            turn: self.wins.from(step),
            ..self.seen
        }
    }
}

/// The market's offers of one model.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub classes: Classes,
    pub queue: Queue,
    pub offers: u64,
    pub ready: u64,
    /// The best ready offers in order; all of them, if they are as many as `ready`.
    front: Vec<Place>,
    /// Requests served.
    pub number: u64,
    /// Those that every offer could take for its price, and those that not.
    pub plain: History,
    pub cut: History,
}

impl Pool {
    pub fn insert(
        &mut self,
        lengths: Lengths,
        price: i64,
        place: Place,
        moved: impl FnMut(u32, u32),
    ) {
        let class = self.classes.made(lengths);
        class.tree.insert(price, place, moved);
        self.offers += 1;
        self.arrived(place);
    }

    pub fn remove(&mut self, lengths: Lengths, address: Address) {
        let Some(class) = self.classes.get_mut(lengths) else {
            return;
        };
        let place = class.tree.remove(address);
        if class.tree.is_empty() {
            self.classes.remove(lengths);
        }
        if let Some(place) = place {
            self.offers -= 1;
            self.left(&place);
        }
    }

    pub fn replace(&mut self, lengths: Lengths, address: Address, place: Place) {
        let old = self
            .classes
            .get_mut(lengths)
            .and_then(|class| class.tree.replace(address, place));
        let Some(old) = old.filter(|old| *old != place) else {
            return;
        };
        if old.is_ready() && place.is_ready() {
            self.moved(&old, place);
        } else {
            self.left(&old);
            self.arrived(place);
        }
    }

    fn arrived(&mut self, place: Place) {
        if !place.is_ready() {
            return;
        }
        let whole = self.front.len() as u64 == self.ready;
        self.ready += 1;
        if whole || self.front.last().is_some_and(|last| place < *last) {
            let at = self.front.partition_point(|other| *other < place);
            self.front.insert(at, place);
            self.front.truncate(FRONT_MAX);
        }
    }

    fn left(&mut self, place: &Place) {
        if !place.is_ready() {
            return;
        }
        self.ready -= 1;
        if let Some(at) = self.at(place) {
            self.front.remove(at);
        }
    }

    /// Where an offer is in the front, if it is there.
    fn at(&self, place: &Place) -> Option<usize> {
        let within = self.front.last().is_some_and(|last| place <= last);
        let at = within.then(|| self.front.partition_point(|other| other < place))?;
        (self.front.get(at)?.slot == place.slot).then_some(at)
    }

    fn moved(&mut self, old: &Place, new: Place) {
        let whole = self.front.len() as u64 == self.ready;
        let at = self.at(old);
        let within = whole || self.front.last().is_some_and(|last| new < *last);
        match at {
            Some(from) if within => {
                let to = self.front.partition_point(|other| *other < new);
                if to > from {
                    self.front.copy_within(from + 1..to, from);
                    self.front[to - 1] = new;
                } else {
                    self.front.copy_within(to..from, to + 1);
                    self.front[to] = new;
                }
            }
            Some(from) => {
                self.front.remove(from);
            }
            None if within => {
                let to = self.front.partition_point(|other| *other < new);
                self.front.insert(to, new);
                self.front.truncate(FRONT_MAX);
            }
            None => {}
        }
    }

    /// The best ready offers in order: at least `least` of them, if there are so many.
    pub fn front(&mut self, least: usize) -> &[Place] {
        if self.front.len() < least && (self.front.len() as u64) < self.ready {
            let mut best = BinaryHeap::with_capacity(FRONT_MAX + 1);
            for (_, class) in self.classes.iter_mut() {
                class.tree.best(FRONT_MAX, None, &|_| false, &mut best);
            }
            self.front = best.into_sorted_vec();
        }
        &self.front
    }

    /// The best ready offers of each step of the band, among all.
    pub fn heads(&mut self) -> Heads {
        let mut heads = Heads::NONE;
        for (_, class) in self.classes.iter_mut() {
            heads.join(class.tree.heads());
        }
        heads
    }

    /// The same among the offers of the buckets that take such lengths, up to a price, without those that `skip` names.
    pub fn heads_within(
        &mut self,
        lengths: Lengths,
        price_max: Option<i64>,
        skip: impl Fn(u32) -> bool,
    ) -> Heads {
        let mut heads = Heads::NONE;
        for (_, class) in self.classes.takers(lengths) {
            class.tree.heads_within(price_max, &skip, &mut heads);
        }
        heads
    }

    /// The best ready offers of the buckets that take such lengths, up to a price, without those that `skip` names.
    pub fn best(
        &mut self,
        most: usize,
        lengths: Lengths,
        price_max: Option<i64>,
        skip: impl Fn(u32) -> bool,
    ) -> Vec<Place> {
        let mut best = BinaryHeap::with_capacity(most + 1);
        for (_, class) in self.classes.takers(lengths) {
            class.tree.best(most, price_max, &skip, &mut best);
        }
        best.into_sorted_vec()
    }

    /// The n-th of the offers that passed, in the order of lengths, price and key; `skipped` did not. Newcomers alone if
    /// `fresh`.
    pub fn select(
        &mut self,
        nth: u64,
        lengths: Lengths,
        price_max: Option<i64>,
        skipped: &[(Lengths, Address)],
        fresh: bool,
    ) -> Option<u32> {
        let mut nth = nth;
        for (own, class) in self.classes.takers(lengths) {
            let mut ranks = Vec::new();
            for (_, address) in skipped.iter().filter(|(lengths, _)| *lengths == own) {
                let drawn = |place: &Place| place.is_ready() && (!fresh || place.fresh);
                if class.tree.place(*address).is_some_and(drawn) {
                    ranks.push(u64::from(class.tree.rank(*address, fresh)));
                }
            }
            ranks.sort_unstable();
            let counts = class.tree.counts(price_max);
            let all = u64::from(if fresh { counts.fresh } else { counts.ready });
            let here = all - ranks.iter().filter(|&&rank| rank < all).count() as u64;
            if nth >= here {
                nth -= here;
                continue;
            }
            for rank in ranks {
                nth += u64::from(rank <= nth);
            }
            return class.tree.select(u32::try_from(nth).ok()?, fresh);
        }
        None
    }
}
