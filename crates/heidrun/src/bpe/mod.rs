//! Byte-pair encoding for the count alone, over tables that stay where they are.
//!
//! Encoding is a walk from left to right: the longest token that is compatible with the one before it. Two neighbours are
//! compatible if encoding the two together gives these two; an encoding whose neighbours are all compatible is the
//! encoding, and the only one. If no token is compatible, the walk goes back one token; a place it went back from is
//! never entered again, so that the time is linear in the text. (The method is that of the crate `bpe`.)

mod follow;
mod lay_out;
mod layout;
mod scratch;

pub use follow::Follower;
pub use lay_out::{lay_out, Tables};
pub use layout::{low_half, TOKEN_BYTES_MAX};
pub use scratch::Scratch;

use layout::{
    fingerprint, hash_medium, hash_pair, hash_short, home, BASE_BITS, BASE_SHIFT, IS_LEFT,
    IS_RIGHT, SPLIT_BYTES, TAKEN, TOKEN_BITS, TRIE_SLOT_BYTES, VALUE_SHIFT,
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

/// A node of the trie, as its slot has it.
#[derive(Clone, Copy)]
pub struct Node(u64);

impl Node {
    /// Where every token starts. Its base is 0.
    pub const ROOT: Self = Self(0);

    /// The token that ends here.
    #[inline]
    pub fn token(self) -> Option<u32> {
        low_bits(self.0 >> VALUE_SHIFT, TOKEN_BITS).checked_sub(1)
    }
}

/// All bits of a token.
const TOKEN_MASK: u64 = (1 << TOKEN_BITS) - 1;

/// What is known of a token: what it is merged from, and whether it is itself merged to the left or right.
#[derive(Clone, Copy)]
struct Split(u64);

impl Split {
    #[inline]
    fn left(self) -> u32 {
        low_bits(self.0, TOKEN_BITS)
    }

    #[inline]
    fn right(self) -> u32 {
        low_bits(self.0 >> TOKEN_BITS, TOKEN_BITS)
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

    /// The child of a node by `byte`.
    #[inline]
    pub fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let base = low_bits(node.0 >> BASE_SHIFT, BASE_BITS) as usize;
        let entry = eight(self.trie, (base ^ usize::from(byte)) * TRIE_SLOT_BYTES);
        let label = TAKEN | u64::from(byte);
        (entry & (TAKEN | 0xFF) == label).then_some(Node(entry))
    }

    #[inline]
    fn split(&self, token: u32) -> Split {
        Split(eight(self.splits, token as usize * SPLIT_BYTES))
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
                let token = low_bits(slot.into(), TOKEN_BITS) - 1;
                let split = self.split(token);
                if (split.left(), split.right()) == (left, right) {
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
        let (mut of_left, mut of_right) = (self.split(left), self.split(right));
        loop {
            // Most parts that meet are never merged with anything on that side.
            if of_left.0 & IS_LEFT != 0
                && of_right.0 & IS_RIGHT != 0
                && self
                    .merged(left, right)
                    .is_some_and(|merged| merged < before)
            {
                return false;
            }
            if left > right {
                let part = of_left.right();
                if part == left {
                    return true;
                }
                // Of equal rank, the merge further left comes first: the one in `left`.
                before = left;
                left = part;
                of_left = self.split(left);
            } else {
                let part = of_right.left();
                if part == right {
                    return true;
                }
                before = right + 1;
                right = part;
                of_right = self.split(right);
            }
        }
    }

    /// The longest token at the start of `text`, and its length.
    #[inline]
    fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut node = Node::ROOT;
        let mut found = 0;
        let mut length = 0;
        for (place, &byte) in text.iter().enumerate() {
            let Some(child) = self.child(node, byte) else {
                break;
            };
            node = child;
            if node.0 >> VALUE_SHIFT & TOKEN_MASK != 0 {
                found = node.0;
                length = place + 1;
            }
        }
        Node(found).token().map(|token| (token, length))
    }

    /// The longest token at the start of `text` that `fits`, and its length.
    #[inline(never)]
    fn longest_that(
        &self,
        text: &[u8],
        scratch: &mut Vec<(u32, usize)>,
        mut fits: impl FnMut(u32, usize) -> bool,
    ) -> Option<(u32, usize)> {
        scratch.clear();
        let mut node = Node::ROOT;
        for (place, &byte) in text.iter().enumerate() {
            let Some(child) = self.child(node, byte) else {
                break;
            };
            node = child;
            if let Some(token) = node.token() {
                scratch.push((token, place + 1));
            }
        }
        let fitting = scratch.iter().rev();
        fitting
            .copied()
            .find(|&(token, length)| fits(token, length))
    }

    /// The number of tokens of `piece` by merging alone. None if a byte of it is in no token.
    pub fn count(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        scratch.start();
        let Scratch {
            path,
            matches,
            dead,
        } = scratch;
        let mut at = 0;
        let mut limit = piece.len();
        while at < piece.len() {
            let rest = &piece[at..limit];
            let before = path.last().map(|&(token, _)| token);
            let fits = |token, length| {
                !dead.contains(at + length)
                    && before.is_none_or(|before| self.compatible(before, token))
            };
            let chosen = match self.longest(rest) {
                Some((token, length)) if fits(token, length) => Some((token, length)),
                Some((_, length)) => self.longest_that(&rest[..length - 1], matches, fits),
                None => None,
            };
            if let Some((token, length)) = chosen {
                path.push((token, at));
                at += length;
                limit = piece.len();
            } else {
                dead.insert(at);
                let (_, start) = path.pop()?;
                limit = at - 1;
                at = start;
            }
        }
        Some(path.len())
    }
}

/// Where, among `slots`, a key of up to 16 bytes is remembered.
#[inline]
pub fn home_of(key: u128, slots: usize) -> usize {
    home(hash_medium(key), slots)
}
