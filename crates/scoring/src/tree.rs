//! The offers of one gate bucket in the order of their prices, under a tree of maxima.
//!
//! Offers lie in blocks; over the blocks stand levels of nodes, each over [`FAN`] of the level below, which hold the best
//! places, the counts by state and the lowest price. So the best offer, those up to a price, their counts and the n-th of
//! them cost the same number of steps among a thousand offers and a million.

use std::collections::BinaryHeap;

use crate::node::{Counts, Heads, Leaf, Node};
use crate::queue::{Number, Place};

/// Children of a node.
pub const FAN: usize = 8;
/// The most offers in a block.
const BLOCK_MAX: usize = 16;

/// Some offers.
#[derive(Clone, Debug)]
pub struct Block {
    pub leaves: Vec<Leaf>,
    /// Where it stands among the blocks.
    pub position: usize,
}

/// An offer's own way to its leaf.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub block: u32,
    pub price: i64,
    pub key: Number,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub blocks: Vec<Block>,
    free: Vec<u32>,
    /// Blocks by position.
    order: Vec<u32>,
    pub levels: Vec<Vec<Node>>,
    /// Whether the levels above the lowest are out of date.
    stale: bool,
}

impl Tree {
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn price_max(&self) -> Option<i64> {
        let last = self.leaves(self.order.len().checked_sub(1)?).last();
        last.map(|leaf| leaf.price)
    }

    /// Adds an offer. `moved` is told the block of this one, and of those that went to another for it.
    pub fn insert(&mut self, price: i64, place: Place, mut moved: impl FnMut(u32, u32)) {
        if self.order.is_empty() {
            let block = self.new_block(Vec::new(), 0);
            self.order.push(block);
            self.levels = vec![vec![Node::of_block(&[])]];
        }
        let before = |block: &u32| {
            let first = self.blocks[*block as usize].leaves.first();
            first.is_some_and(|leaf| (leaf.price, leaf.place.key) <= (price, place.key))
        };
        let mut position = self.order.partition_point(before).saturating_sub(1);
        if self.leaves(position).len() == BLOCK_MAX {
            self.split(position, &mut moved);
            let behind = &self.leaves(position + 1)[0];
            position += usize::from((behind.price, behind.place.key) < (price, place.key));
        }
        let id = self.order[position];
        let leaves = &mut self.blocks[id as usize].leaves;
        let at = leaves.partition_point(|leaf| (leaf.price, leaf.place.key) < (price, place.key));
        leaves.insert(at, Leaf { place, price });
        moved(place.slot, id);
        self.levels[0][position] = Node::of_block(leaves);
        self.climb(position);
    }

    /// Puts the second half of a block into a new one behind it.
    fn split(&mut self, position: usize, moved: &mut impl FnMut(u32, u32)) {
        let leaves = &mut self.blocks[self.order[position] as usize].leaves;
        let mut behind = Vec::with_capacity(BLOCK_MAX);
        behind.extend(leaves.drain(BLOCK_MAX / 2..));
        let (node, new_node) = (Node::of_block(leaves), Node::of_block(&behind));
        let new = self.new_block(behind, position + 1);
        for leaf in &self.blocks[new as usize].leaves {
            moved(leaf.place.slot, new);
        }
        self.order.insert(position + 1, new);
        self.levels[0][position] = node;
        self.levels[0].insert(position + 1, new_node);
        self.renumber(position + 1);
        self.stale = true;
    }

    /// Removes an offer.
    pub fn remove(&mut self, address: Address) -> Option<Place> {
        let block = &mut self.blocks[address.block as usize];
        let at = find(&block.leaves, address)?;
        let leaf = block.leaves.remove(at);
        let position = block.position;
        if block.leaves.is_empty() {
            block.leaves = Vec::new();
            self.free.push(address.block);
            self.order.remove(position);
            self.levels[0].remove(position);
            self.renumber(position);
            self.stale = true;
        } else {
            self.levels[0][position] = Node::of_block(&block.leaves);
            self.climb(position);
        }
        Some(leaf.place)
    }

    /// Changes the place of an offer; returns the old one.
    pub fn replace(&mut self, address: Address, place: Place) -> Option<Place> {
        let block = &mut self.blocks[address.block as usize];
        let at = find(&block.leaves, address)?;
        let old = std::mem::replace(&mut block.leaves[at].place, place);
        if old == place {
            return Some(old);
        }
        let mut position = block.position;
        let mut led = self.levels[0][position].changed_leaf(&block.leaves, &old, &place);
        if self.stale {
            return Some(old);
        }
        // The counts move by one; the best are looked for again only where the old one was among them.
        let counted = (old.state, old.fresh) == (place.state, place.fresh);
        for level in 1..self.levels.len() {
            position /= FAN;
            let (below, above) = self.levels.split_at_mut(level);
            let below = &below[level - 1];
            let last = (position * FAN + FAN).min(below.len());
            let node = &mut above[0][position];
            if led {
                led = node.changed_below(&below[position * FAN..last], &old, &place);
            } else if counted {
                break;
            } else {
                node.counts.subtract(&old);
                node.counts.add(&place);
            }
        }
        Some(old)
    }

    pub fn place(&self, address: Address) -> Option<&Place> {
        let leaves = &self.blocks.get(address.block as usize)?.leaves;
        find(leaves, address).map(|at| &leaves[at].place)
    }

    /// The counts of the offers up to a price.
    pub fn counts(&mut self, price_max: Option<i64>) -> Counts {
        self.refresh();
        let mut counts = Counts::default();
        let Some(price_max) = price_max else {
            return self.root().map_or(counts, |root| root.counts);
        };
        // The last block that begins within the price is cut; those before it are whole.
        let blocks = self.levels.first().map_or(&[][..], Vec::as_slice);
        let within = blocks.partition_point(|node| node.price_min <= price_max);
        let Some(last) = within.checked_sub(1) else {
            return counts;
        };
        for leaf in self.leaves(last) {
            if leaf.price <= price_max {
                counts.add(&leaf.place);
            }
        }
        let mut position = last;
        for nodes in &self.levels {
            let first = position / FAN * FAN;
            for node in &nodes[first..position] {
                counts.join(&node.counts);
            }
            position /= FAN;
        }
        counts
    }

    /// The best ready offers of each step, if there is no price to keep to and nothing to skip.
    #[inline]
    pub fn heads(&mut self) -> &Heads {
        self.refresh();
        self.root().map_or(&Heads::NONE, |root| &root.heads)
    }

    #[inline]
    fn root(&self) -> Option<&Node> {
        self.levels.last()?.first()
    }

    /// Takes the best ready offers of each step up to a price into `heads`, without those that `skip` names.
    pub fn heads_within(
        &mut self,
        price_max: Option<i64>,
        skip: &impl Fn(u32) -> bool,
        heads: &mut Heads,
    ) {
        self.refresh();
        if let Some(top) = self.levels.len().checked_sub(1) {
            let price_max = price_max.unwrap_or(i64::MAX);
            self.descend_heads(top, 0, price_max, skip, heads);
        }
    }

    fn descend_heads(
        &self,
        level: usize,
        position: usize,
        price_max: i64,
        skip: &impl Fn(u32) -> bool,
        heads: &mut Heads,
    ) {
        let node = &self.levels[level][position];
        if node.price_min > price_max || !heads.yields_to(&node.heads) {
            return;
        }
        let Some(below) = level.checked_sub(1) else {
            for leaf in self.leaves(position) {
                let place = &leaf.place;
                if leaf.price <= price_max && !skip(place.slot) {
                    heads.add(place);
                }
            }
            return;
        };
        let first = position * FAN;
        let last = (first + FAN).min(self.levels[below].len());
        let leading = (first..last).min_by_key(|&child| self.levels[below][child].heads.step);
        let others = (first..last).filter(|&child| Some(child) != leading);
        for child in leading.into_iter().chain(others) {
            self.descend_heads(below, child, price_max, skip, heads);
        }
    }

    /// Puts the best ready offers up to a price into `best`, which holds at most `most`, the last of them on top; those
    /// that `skip` names are left out.
    pub fn best(
        &mut self,
        most: usize,
        price_max: Option<i64>,
        skip: &impl Fn(u32) -> bool,
        best: &mut BinaryHeap<Place>,
    ) {
        self.refresh();
        if let Some(top) = self.levels.len().checked_sub(1) {
            let price_max = price_max.unwrap_or(i64::MAX);
            self.descend(top, 0, most, price_max, skip, best);
        }
    }

    fn descend(
        &self,
        level: usize,
        position: usize,
        most: usize,
        price_max: i64,
        skip: &impl Fn(u32) -> bool,
        best: &mut BinaryHeap<Place>,
    ) {
        let node = &self.levels[level][position];
        let full = |best: &BinaryHeap<Place>, place: &Place| {
            !place.is_ready() || (best.len() >= most && best.peek().is_none_or(|last| place > last))
        };
        if node.price_min > price_max || full(best, node.heads.first()) {
            return;
        }
        let Some(below) = level.checked_sub(1) else {
            for leaf in self.leaves(position) {
                let place = &leaf.place;
                if leaf.price <= price_max && !full(best, place) && !skip(place.slot) {
                    if best.len() == most {
                        best.pop();
                    }
                    best.push(*place);
                }
            }
            return;
        };
        let first = position * FAN;
        let last = (first + FAN).min(self.levels[below].len());
        // The child of the best one first: what it holds cuts off most of the others.
        let leading = (first..last).min_by_key(|&child| self.levels[below][child].heads.first());
        let others = (first..last).filter(|&child| Some(child) != leading);
        for child in leading.into_iter().chain(others) {
            self.descend(below, child, most, price_max, skip, best);
        }
    }

    /// The n-th ready (and `fresh`) offer in the order of price and key.
    pub fn select(&mut self, mut nth: u32, fresh: bool) -> Option<u32> {
        self.refresh();
        let mut position = 0;
        for nodes in self.levels.iter().rev() {
            let first = position * FAN;
            position = (first..(first + FAN).min(nodes.len())).find(|&child| {
                let here = nodes[child].counts.drawn(fresh);
                let found = nth < here;
                nth -= if found { 0 } else { here };
                found
            })?;
        }
        let nth = usize::try_from(nth).ok()?;
        self.leaves(position)
            .iter()
            .filter(|leaf| leaf.place.is_ready() && (!fresh || leaf.place.fresh))
            .nth(nth)
            .map(|leaf| leaf.place.slot)
    }

    /// How many ready (and `fresh`) offers lie before one, in the order of price and key.
    pub fn rank(&mut self, address: Address, fresh: bool) -> u32 {
        self.refresh();
        let mut position = self.blocks[address.block as usize].position;
        let mut counts = Counts::default();
        for leaf in self.leaves(position) {
            if (leaf.price, leaf.place.key) < (address.price, address.key) {
                counts.add(&leaf.place);
            }
        }
        for nodes in &self.levels {
            for node in &nodes[position / FAN * FAN..position] {
                counts.join(&node.counts);
            }
            position /= FAN;
        }
        counts.drawn(fresh)
    }

    fn leaves(&self, position: usize) -> &[Leaf] {
        &self.blocks[self.order[position] as usize].leaves
    }

    fn new_block(&mut self, leaves: Vec<Leaf>, position: usize) -> u32 {
        let block = Block { leaves, position };
        if let Some(id) = self.free.pop() {
            self.blocks[id as usize] = block;
            return id;
        }
        self.blocks.push(block);
        u32::try_from(self.blocks.len() - 1).unwrap_or(u32::MAX)
    }

    fn renumber(&mut self, from: usize) {
        for (position, id) in self.order.iter().enumerate().skip(from) {
            self.blocks[*id as usize].position = position;
        }
    }

    /// Brings the nodes above a block up to date.
    fn climb(&mut self, mut position: usize) {
        if self.stale {
            return;
        }
        for level in 1..self.levels.len() {
            position /= FAN;
            let (below, above) = self.levels.split_at_mut(level);
            let below = &below[level - 1];
            let last = (position * FAN + FAN).min(below.len());
            let node = Node::of_nodes(&below[position * FAN..last]);
            let old = std::mem::replace(&mut above[0][position], node);
            if old == node {
                return;
            }
        }
    }

    /// Brings the levels up to date after blocks came or went.
    #[inline]
    fn refresh(&mut self) {
        if self.stale {
            self.build();
        }
    }

    #[cold]
    fn build(&mut self) {
        self.stale = false;
        self.levels.truncate(1);
        while let Some(below) = self.levels.last().filter(|nodes| nodes.len() > 1) {
            let above = below.chunks(FAN).map(Node::of_nodes).collect();
            self.levels.push(above);
        }
        if self.order.is_empty() {
            self.levels.clear();
        }
    }
}

fn find(leaves: &[Leaf], address: Address) -> Option<usize> {
    leaves
        .binary_search_by(|leaf| (leaf.price, leaf.place.key).cmp(&(address.price, address.key)))
        .ok()
}
