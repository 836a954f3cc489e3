//! What the nodes of a tree of maxima hold.

use crate::queue::{Place, State};

/// Offers by state; those ready that are hardly ever picked are counted apart as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: u32,
    pub closed: u32,
    pub away: u32,
    pub broken: u32,
    pub full: u32,
    pub fresh: u32,
}

impl Counts {
    pub fn all(&self) -> u32 {
        self.ready + self.closed + self.away + self.broken + self.full
    }

    #[inline]
    pub fn add(&mut self, place: &Place) {
        *self.of(place.state) += 1;
        self.fresh += u32::from(place.is_ready() && place.fresh);
    }

    #[inline]
    pub fn subtract(&mut self, place: &Place) {
        *self.of(place.state) -= 1;
        self.fresh -= u32::from(place.is_ready() && place.fresh);
    }

    #[inline]
    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Ready => &mut self.ready,
            State::Closed => &mut self.closed,
            State::Away => &mut self.away,
            State::Broken => &mut self.broken,
            State::Full => &mut self.full,
        }
    }

    #[inline]
    pub fn join(&mut self, other: &Self) {
        self.ready += other.ready;
        self.closed += other.closed;
        self.away += other.away;
        self.broken += other.broken;
        self.full += other.full;
        self.fresh += other.fresh;
    }

    /// How many of them can be drawn: all that are ready, or the newcomers among them.
    pub fn drawn(&self, fresh: bool) -> u32 {
        if fresh {
            self.fresh
        } else {
            self.ready
        }
    }
}

/// An offer in its block.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub place: Place,
    pub price: i64,
}

/// What is known of a block, or of the nodes below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    pub best: Place,
    pub counts: Counts,
    pub price_min: i64,
}

impl Node {
    pub fn of_block(leaves: &[Leaf]) -> Self {
        let mut node = Self {
            best: Place::LAST,
            counts: Counts::default(),
            price_min: leaves.first().map_or(i64::MAX, |leaf| leaf.price),
        };
        for leaf in leaves {
            node.counts.add(&leaf.place);
            if leaf.place < node.best {
                node.best = leaf.place;
            }
        }
        node
    }

    /// The best of a block.
    pub fn best_of(leaves: &[Leaf]) -> Place {
        let mut best = &Place::LAST;
        for leaf in leaves {
            if leaf.place < *best {
                best = &leaf.place;
            }
        }
        *best
    }

    /// The best of some nodes.
    pub fn best_of_nodes(nodes: &[Self]) -> Place {
        let mut best = &Place::LAST;
        for node in nodes {
            if node.best < *best {
                best = &node.best;
            }
        }
        *best
    }

    pub fn of_nodes(nodes: &[Self]) -> Self {
        let mut node = nodes[0];
        for other in &nodes[1..] {
            node.counts.join(&other.counts);
            if other.best < node.best {
                node.best = other.best;
            }
        }
        node
    }
}
