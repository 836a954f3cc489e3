//! The offers of one model that are on the market, ready to be picked from.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::history::History;
use crate::queue::{Place, Queue};
use crate::tree::{Address, Tree};

/// The best offers of a pool are kept at hand, at most so many: looking for more of them at once costs little more.
const FRONT_MAX: usize = 192;

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
    /// The others that were served by order, by an offer of one band.
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
    /// Requests served by order, by the band of the winner.
    pub wins: BTreeMap<i32, u32>,
}

impl Class {
    /// The counts as an offer in a band sees them.
    pub fn seen(&self, number: u64, band: i32) -> Seen {
        Seen {
            number,
            turn: self.wins.get(&band).copied().unwrap_or(0),
            ..self.seen
        }
    }
}

/// The market's offers of one model.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// By longest prompt and completion together, and longest completion.
    pub classes: BTreeMap<(i64, i64), Class>,
    pub queue: Queue,
    pub offers: u64,
    pub ready: u64,
    /// Offers whose turn the virtual time has not reached.
    pub future: BTreeSet<(u128, u32)>,
    /// The best ready offers in order; all of them, if they are as many as `ready`.
    front: VecDeque<Place>,
    /// Requests served.
    pub number: u64,
    /// Those that every offer could take for its price, and those that not.
    pub plain: History,
    pub cut: History,
}

impl Pool {
    pub fn insert(
        &mut self,
        lengths: (i64, i64),
        price: i64,
        place: Place,
        moved: impl FnMut(u32, u32),
    ) {
        let class = self.classes.entry(lengths).or_default();
        class.tree.insert(price, place, moved);
        self.offers += 1;
        self.arrived(place);
    }

    pub fn remove(&mut self, lengths: (i64, i64), address: Address) {
        let Some(class) = self.classes.get_mut(&lengths) else {
            return;
        };
        let place = class.tree.remove(address);
        if class.tree.is_empty() {
            self.classes.remove(&lengths);
        }
        if let Some(place) = place {
            self.offers -= 1;
            self.left(&place);
        }
    }

    pub fn replace(&mut self, lengths: (i64, i64), address: Address, place: Place) {
        let old = self
            .classes
            .get_mut(&lengths)
            .and_then(|class| class.tree.replace(address, place));
        if let Some(old) = old.filter(|old| *old != place) {
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
        if whole || self.front.back().is_some_and(|last| place < *last) {
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
        if self.front.back().is_some_and(|last| place <= last) {
            let at = self.front.partition_point(|other| other < place);
            if self
                .front
                .get(at)
                .is_some_and(|other| other.key == place.key)
            {
                self.front.remove(at);
            }
        }
    }

    /// The best ready offers in order: at least `least` of them, if there are so many.
    pub fn front(&mut self, least: usize) -> &VecDeque<Place> {
        if self.front.len() < least && (self.front.len() as u64) < self.ready {
            let mut best = BinaryHeap::with_capacity(FRONT_MAX + 1);
            for class in self.classes.values_mut() {
                class.tree.best(FRONT_MAX, None, &|_| false, &mut best);
            }
            self.front = best.into_sorted_vec().into();
        }
        &self.front
    }

    /// The best ready offers of the buckets that take such lengths, up to a price, without those that `skip` names.
    pub fn best(
        &mut self,
        most: usize,
        lengths: (i64, i64),
        price_max: Option<i64>,
        skip: impl Fn(u32) -> bool,
    ) -> Vec<Place> {
        let mut best = BinaryHeap::with_capacity(most + 1);
        for (_, class) in takers(&mut self.classes, lengths) {
            class.tree.best(most, price_max, &skip, &mut best);
        }
        best.into_sorted_vec()
    }

    /// The n-th of the offers that passed, in the order of lengths, price and key; `skipped` did not. Newcomers alone if
    /// `fresh`.
    pub fn select(
        &mut self,
        nth: u64,
        lengths: (i64, i64),
        price_max: Option<i64>,
        skipped: &[((i64, i64), Address)],
        fresh: bool,
    ) -> Option<u32> {
        let mut nth = nth;
        for (&own, class) in takers(&mut self.classes, lengths) {
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

/// The buckets that take such lengths.
fn takers(
    classes: &mut BTreeMap<(i64, i64), Class>,
    (context, output): (i64, i64),
) -> impl Iterator<Item = (&(i64, i64), &mut Class)> {
    classes
        .range_mut((context, i64::MIN)..)
        .filter(move |((_, longest), _)| *longest >= output)
}
