//! Byte-pair encoding for the count alone, over tables that stay where they are.
//!
//! Encoding is a walk from left to right: the longest token that is compatible with the one before it. Two neighbours are
//! compatible if encoding the two together gives these two; an encoding whose neighbours are all compatible is the
//! encoding, and the only one. If no token is compatible, the walk goes back one token; a place it went back from is
//! never entered again, so that the time is linear in the text. (The method is that of the crate `bpe`.)

pub mod layout;
mod follow;
mod scratch;

pub use follow::Follower;
pub use scratch::Scratch;

use layout::{
    fingerprint, hash_medium, hash_pair, hash_short, home, BASE_BITS, NO_BASE, PAIR_TOKEN_BITS,
    SPLIT_BYTES, TRIE_SLOT_BYTES, VALUE_BITS,
};

/// The tables of a vocabulary, as `layout` makes them.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    trie: &'a [u8],
    splits: &'a [u8],
    pairs: &'a [u8],
    short: &'a [u8],
    medium: &'a [u8],
}

/// A node of the trie below the root.
#[derive(Clone, Copy)]
pub struct Node(u64);

impl Node {
    /// The token that ends here.
    #[inline]
    pub fn token(self) -> Option<u32> {
        let value = low_bits(self.0 >> (8 + BASE_BITS), VALUE_BITS);
        value.checked_sub(1)
    }

    #[inline]
    fn base(self) -> usize {
        low_bits(self.0 >> 8, BASE_BITS) as usize
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // masked
const fn low_bits(value: u64, bits: u32) -> u32 {
    (value & ((1 << bits) - 1)) as u32
}

/// The 8 bytes at `at`; zeros beyond the table.
#[inline]
fn eight(table: &[u8], at: usize) -> u64 {
    table
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl<'a> Vocabulary<'a> {
    /// A vocabulary over its tables.
    pub const fn new(
        trie: &'a [u8],
        splits: &'a [u8],
        pairs: &'a [u8],
        short: &'a [u8],
        medium: &'a [u8],
    ) -> Self {
        Self {
            trie,
            splits,
            pairs,
            short,
            medium,
        }
    }

    /// True if `key`, up to 8 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_short(&self, key: u64) -> bool {
        let slots = self.short.len() / 8;
        let mut at = home(hash_short(key), slots);
        loop {
            let found = eight(self.short, at * 8);
            if found == key {
                return true;
            }
            if found == 0 {
                return false;
            }
            at += 1;
            if at == slots {
                at = 0;
            }
        }
    }

    /// True if `key`, 9 to 16 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_medium(&self, key: u128) -> bool {
        let slots = self.medium.len() / 16;
        let mut at = home(hash_medium(key), slots);
        loop {
            let found = u128::from(eight(self.medium, at * 16))
                | u128::from(eight(self.medium, at * 16 + 8)) << 64;
            if found == key {
                return true;
            }
            if found == 0 {
                return false;
            }
            at += 1;
            if at == slots {
                at = 0;
            }
        }
    }

    /// The child of a node (of the root if None) by `byte`.
    #[inline]
    pub fn child(&self, node: Option<Node>, byte: u8) -> Option<Node> {
        let base = node.map_or(0, Node::base);
        if base == NO_BASE as usize {
            return None;
        }
        let entry = eight(self.trie, (base ^ usize::from(byte)) * TRIE_SLOT_BYTES);
        let taken = entry & 1 << 47 != 0;
        (taken && low_bits(entry, 8) == u32::from(byte)).then_some(Node(entry))
    }

    #[inline]
    fn split(&self, token: u32) -> (u32, u32) {
        let entry = eight(self.splits, token as usize * SPLIT_BYTES);
        (
            low_bits(entry, BASE_BITS),
            low_bits(entry >> BASE_BITS, BASE_BITS),
        )
    }

    /// The token that two others merge to.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // a slot has 32 bits
    fn merged(&self, left: u32, right: u32) -> Option<u32> {
        let slots = self.pairs.len() / 4;
        let hash = hash_pair(left, right);
        let wanted = fingerprint(hash);
        let mut at = home(hash, slots);
        loop {
            let slot = self
                .pairs
                .get(at * 4..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if slot == 0 {
                return None;
            }
            if fingerprint(slot.into()) == wanted {
                let token = low_bits(slot.into(), PAIR_TOKEN_BITS) - 1;
                if self.split(token) == (left, right) {
                    return Some(token);
                }
            }
            at += 1;
            if at == slots {
                at = 0;
            }
        }
    }

    /// True if encoding the bytes of the two gives these two.
    ///
    /// The merges that made them are undone, the last one first. If at any time the two parts that meet at the border
    /// would have merged before the merge undone last, then the border would have been lost.
    fn compatible(&self, mut left: u32, mut right: u32) -> bool {
        let mut before = u32::MAX;
        loop {
            if self
                .merged(left, right)
                .is_some_and(|merged| merged < before)
            {
                return false;
            }
            if left > right {
                let part = self.split(left).1;
                if part == left {
                    return true;
                }
                // Of equal rank, the merge further left comes first: the one in `left`.
                before = left;
                left = part;
            } else {
                let part = self.split(right).0;
                if part == right {
                    return true;
                }
                before = right + 1;
                right = part;
            }
        }
    }

    /// The number of tokens of `piece` by merging alone. None if a byte of it is in no token.
    pub fn count(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        scratch.start();
        let mut at = 0;
        let mut longest = usize::MAX;
        while at < piece.len() {
            scratch.matches.clear();
            let mut node = None;
            for (length, &byte) in piece[at..].iter().take(longest).enumerate() {
                node = self.child(node, byte);
                let Some(reached) = node else { break };
                if let Some(token) = reached.token() {
                    scratch.matches.push((token, at + length + 1));
                }
            }
            let before = scratch.path.last().map(|&(token, _)| token);
            let chosen = scratch.matches.iter().rev().find(|&&(token, end)| {
                !scratch.dead.contains(end) && before.is_none_or(|before| self.compatible(before, token))
            });
            if let Some(&(token, end)) = chosen {
                scratch.path.push((token, at));
                at = end;
                longest = usize::MAX;
            } else {
                scratch.dead.insert(at);
                let (_, start) = scratch.path.pop()?;
                longest = at - start - 1;
                at = start;
            }
        }
        Some(scratch.path.len())
    }
}

/// Where, among `slots`, a key of up to 16 bytes is remembered.
#[inline]
pub fn home_of(key: u128, slots: usize) -> usize {
    home(hash_medium(key), slots)
}
