//! Asking for memory ahead: among a million offers nearly everything that a pick reads is in no cache.
//!
//! The offers that are next in their steps are known when a pick ends. What the next pick will read of them is asked for
//! then, as far as it can be found without waiting, and the rest when that pick begins. Nothing here changes a pick.

use prefetch_index::prefetch_index;

use crate::router::Router;
use crate::tree::{Tree, FAN};

/// With fewer offers in a pool, what a pick reads is in a cache.
const OFFERS_MIN: u64 = 8_192;

/// Asks for the line of the cache in which a value begins.
#[inline]
pub fn expect<T>(value: &T) {
    prefetch_index(std::slice::from_ref(value), 0);
}

impl Router {
    /// At the end of a pick: asks for the offers that are next in their steps, and notes where the one picked is.
    pub(crate) fn expect_next(&mut self, chosen: u32, model: u32) {
        let pool = &mut self.models[model as usize].pool;
        if pool.offers < OFFERS_MIN {
            return;
        }
        self.slot_of.note(chosen, &self.standings);
        for head in pool.heads().ready() {
            if let Some(standing) = self.standings.get(head.slot as usize) {
                expect(&standing.key);
                expect(&standing.turn);
                expect(&standing.context_tokens);
            }
        }
    }

    /// When the best offer is known: asks for what it leads to.
    pub(crate) fn expect_around(&self, slot: u32, model: u32) {
        let pool = &self.models[model as usize].pool;
        if pool.offers < OFFERS_MIN {
            return;
        }
        let standing = &self.standings[slot as usize];
        expect(&self.parties[standing.group as usize]);
        expect(&self.parties[standing.owner as usize]);
        if let Some(tally) = &standing.tally {
            expect(&tally.asked);
            expect(&tally.missed[5]);
            expect(&tally.missed[13]);
        }
        if let Some(class) = pool.classes.get(standing.lengths()) {
            class.tree.expect_block(standing.block);
        }
    }

    /// Before it is given the request: asks for the places that will change.
    pub(crate) fn expect_places(&self, slot: u32, model: u32) {
        let pool = &self.models[model as usize].pool;
        if pool.offers < OFFERS_MIN {
            return;
        }
        let standing = &self.standings[slot as usize];
        if let Some(class) = pool.classes.get(standing.lengths()) {
            class.tree.expect_leaves(standing.block);
        }
    }
}

impl Tree {
    /// Asks for a block.
    fn expect_block(&self, block: u32) {
        if let Some(block) = self.blocks.get(block as usize) {
            expect(block);
        }
    }

    /// Asks for the places in a block, and for the nodes beside its own.
    fn expect_leaves(&self, block: u32) {
        let Some(block) = self.blocks.get(block as usize) else {
            return;
        };
        block.leaves.iter().for_each(expect);
        if let Some(nodes) = self.levels.first() {
            let first = block.position / FAN * FAN;
            let last = (first + FAN).min(nodes.len());
            nodes[first..last].iter().for_each(expect);
        }
    }
}
