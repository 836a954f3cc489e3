//! What is kept of one metric.

use crate::aggregate::Aggregate;
use crate::bins::Spreads;
use crate::mapping::mapping;

/// By slot.
#[derive(Clone, Debug)]
pub enum Kept {
    Means(Vec<Aggregate>),
    /// And how the observations are spread.
    Spreads(Box<Spreads>),
}

impl Kept {
    pub fn new(spreads: bool) -> Self {
        if spreads {
            Self::Spreads(Box::default())
        } else {
            Self::Means(Vec::new())
        }
    }

    /// Makes room for more slots, in which nothing was seen.
    pub fn resize(&mut self, slots: usize) {
        match self {
            Self::Means(means) => means.resize_with(slots, Aggregate::default),
            Self::Spreads(spreads) => spreads.resize(slots),
        }
    }

    pub fn aggregate(&self, slot: usize) -> &Aggregate {
        match self {
            Self::Means(means) => &means[slot],
            Self::Spreads(spreads) => spreads.aggregate(slot),
        }
    }

    pub fn spreads(&self) -> Option<&Spreads> {
        match self {
            Self::Means(_) => None,
            Self::Spreads(spreads) => Some(spreads),
        }
    }

    /// Adds a checked observation whose weight is seen from the start of the half-life `whole`.
    pub fn add(&mut self, slot: usize, value: f64, weight: f64, whole: i64) {
        match self {
            Self::Means(means) => means[slot].join(Aggregate::of(value, weight, whole)),
            Self::Spreads(spreads) => {
                spreads.add(slot, value, mapping().key(value), weight, whole);
            }
        }
    }

    /// Forgets all that was seen in a slot.
    pub fn clear(&mut self, slot: usize) {
        match self {
            Self::Means(means) => means[slot] = Aggregate::default(),
            Self::Spreads(spreads) => spreads.clear(slot),
        }
    }

    /// Adds all that another of the same kind has seen in its slot.
    pub fn merge(&mut self, slot: usize, other: &Self, theirs: usize) {
        match (self, other) {
            (Self::Spreads(spreads), Self::Spreads(other)) => spreads.merge(slot, other, theirs),
            (Self::Means(means), other) => {
                means[slot] = means[slot].merged(other.aggregate(theirs));
            }
            // Registries of which only one keeps quantiles are not merged.
            (Self::Spreads(_), Self::Means(_)) => {}
        }
    }

    /// Bytes held, as far as the allocator tells.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Means(means) => means.capacity() * size_of::<Aggregate>(),
            Self::Spreads(spreads) => spreads.heap_bytes(),
        }
    }
}
