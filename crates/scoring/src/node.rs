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

/// The steps that a band spans: the best one's, and as many below as take in every score within the width of a band.
pub const STEPS: usize = 4;

/// The best ready offers of some: of each step from the best down, as far as a band reaches. Whatever it is joined with,
/// the band of the whole begins no deeper than its own, so nothing that could be in it is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// The best step; [`Place::NOWHERE`] if none is ready.
    pub step: u16,
    by_step: [Place; STEPS],
}

impl Heads {
    pub const NONE: Self = Self {
        step: Place::NOWHERE,
        by_step: [Place::LAST; STEPS],
    };

    /// The one of a step, or [`Place::LAST`].
    #[inline]
    fn of(&self, step: u16) -> &Place {
        let place = usize::from(step.wrapping_sub(self.step));
        self.by_step.get(place).unwrap_or(&Place::LAST)
    }

    /// The first of its step.
    pub fn first(&self) -> &Place {
        &self.by_step[0]
    }

    /// Those that there are.
    pub fn ready(&self) -> impl Iterator<Item = &Place> {
        self.by_step.iter().filter(|place| place.is_ready())
    }

    /// The one whose turn it is in the band.
    pub fn next(&self) -> &Place {
        let mut next = &self.by_step[0];
        for head in &self.by_step[1..] {
            if head.is_before(next) {
                next = head;
            }
        }
        next
    }

    /// The deepest step of the band.
    #[inline]
    pub fn floor(step: u16) -> u16 {
        // Less than the number of bits says.
        #[allow(clippy::cast_possible_truncation)]
        let below = STEPS as u16 - 1;
        step.saturating_add(below)
    }

    fn rise_to(&mut self, step: u16) {
        let by = usize::from(self.step - step).min(STEPS);
        self.by_step.copy_within(..STEPS - by, by);
        self.by_step[..by].fill(Place::LAST);
        self.step = step;
    }

    /// Takes in one more; whether that changed anything.
    #[inline]
    pub fn add(&mut self, place: &Place) -> bool {
        if !place.is_ready() {
            return false;
        }
        if place.step < self.step {
            self.rise_to(place.step);
        }
        let at = usize::from(place.step - self.step);
        if at < STEPS && place.is_before(&self.by_step[at]) {
            self.by_step[at] = *place;
            return true;
        }
        false
    }

    pub fn join(&mut self, other: &Self) {
        if other.step == Place::NOWHERE || other.step > Self::floor(self.step) {
            return;
        }
        if self.step == Place::NOWHERE {
            *self = *other;
            return;
        }
        if other.step < self.step {
            self.rise_to(other.step);
        }
        let at = usize::from(other.step - self.step);
        for (mine, its) in self.by_step.iter_mut().skip(at).zip(&other.by_step) {
            if its.is_ready() && its.is_before(mine) {
                *mine = *its;
            }
        }
    }

    /// Whether one of `other` would change this.
    pub fn yields_to(&self, other: &Self) -> bool {
        if other.step < self.step {
            return true;
        }
        let at = usize::from(other.step - self.step);
        self.by_step
            .iter()
            .skip(at)
            .zip(&other.by_step)
            .any(|(mine, its)| its.is_before(mine))
    }

    /// Puts `new` in the place of `old`; whether that changed anything. `again` looks for the best of a step, `anew` for
    /// all of them, when what was best is so no longer.
    #[inline]
    fn replace(
        &mut self,
        old: &Place,
        new: &Place,
        again: impl FnOnce(u16) -> Place,
        anew: impl FnOnce() -> Self,
    ) -> bool {
        let held = old.is_ready() && self.of(old.step).slot == old.slot;
        if held {
            let at = usize::from(old.step - self.step);
            self.by_step[at] = again(old.step);
            if !self.by_step[0].is_ready() {
                *self = anew();
                return true;
            }
        }
        self.add(new) || held
    }
}

/// What is known of a block, or of the nodes below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    pub heads: Heads,
    pub counts: Counts,
    pub price_min: i64,
}

impl Node {
    pub fn of_block(leaves: &[Leaf]) -> Self {
        let mut counts = Counts::default();
        for leaf in leaves {
            counts.add(&leaf.place);
        }
        Self {
            heads: heads_of(leaves),
            counts,
            price_min: leaves.first().map_or(i64::MAX, |leaf| leaf.price),
        }
    }

    pub fn of_nodes(nodes: &[Self]) -> Self {
        let mut node = nodes[0];
        for other in &nodes[1..] {
            node.counts.join(&other.counts);
            node.heads.join(&other.heads);
        }
        node
    }

    /// A leaf of this block changed; `leaves` are as they are now. Whether that changed the heads.
    pub fn changed_leaf(&mut self, leaves: &[Leaf], old: &Place, new: &Place) -> bool {
        self.count(old, new);
        let again = |step| {
            let mut best = &Place::LAST;
            for leaf in leaves {
                if leaf.place.step == step && leaf.place.is_before(best) {
                    best = &leaf.place;
                }
            }
            *best
        };
        self.heads.replace(old, new, again, || heads_of(leaves))
    }

    /// The same for a leaf below one of the nodes below.
    pub fn changed_below(&mut self, below: &[Self], old: &Place, new: &Place) -> bool {
        self.count(old, new);
        let again = |step| {
            let mut best = &Place::LAST;
            for node in below {
                let head = node.heads.of(step);
                if head.is_ready() && head.is_before(best) {
                    best = head;
                }
            }
            *best
        };
        let anew = || {
            let mut heads = Heads::NONE;
            for node in below {
                heads.join(&node.heads);
            }
            heads
        };
        self.heads.replace(old, new, again, anew)
    }

    #[inline]
    fn count(&mut self, old: &Place, new: &Place) {
        if (old.state, old.fresh) != (new.state, new.fresh) {
            self.counts.subtract(old);
            self.counts.add(new);
        }
    }
}

fn heads_of(leaves: &[Leaf]) -> Heads {
    let mut heads = Heads::NONE;
    for leaf in leaves {
        heads.add(&leaf.place);
    }
    heads
}
