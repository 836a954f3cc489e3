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
pub use scratch::{Borders, Scratch};

use layout::{
    fingerprint, hash_medium, hash_pair, hash_short, home, BASE_SHIFT, IS_LEFT, IS_RIGHT,
    LABEL_MASK, TOKEN_BITS, VALUE_SHIFT,
};

/// The tables of a vocabulary, as [`Tables`] says.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    pub trie: &'a [u64],
    pub splits: &'a [u64],
    pub pairs: &'a [u32],
    pub short: &'a [u64],
    pub medium: &'a [u128],
}

impl Tables {
    /// The tables, to count with.
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            trie: &self.trie,
            splits: &self.splits,
            pairs: &self.pairs,
            short: &self.short,
            medium: &self.medium,
        }
    }
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

/// True if `key` is in a table that is searched from the place of its hash on.
#[inline]
fn holds<Key: Copy + Default + PartialEq>(table: &[Key], key: Key, hash: u64) -> bool {
    let mut at = home(hash, table.len());
    loop {
        let found = table[at];
        if found == key {
            return true;
        }
        if found == Key::default() {
            return false;
        }
        at += 1;
        if at == table.len() {
            at = 0;
        }
    }
}

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

impl Vocabulary<'_> {
    /// True if `key`, up to 8 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_short(&self, key: u64) -> bool {
        holds(self.short, key, hash_short(key))
    }

    /// True if `key`, 9 to 16 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_medium(&self, key: u128) -> bool {
        holds(self.medium, key, hash_medium(key))
    }

    /// The child of a node by `byte`.
    #[inline]
    pub fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let base = (node.0 >> BASE_SHIFT) as usize;
        let entry = *self.trie.get(base ^ usize::from(byte))?;
        (entry & LABEL_MASK == u64::from(byte)).then_some(Node(entry))
    }

    #[inline]
    fn split(&self, token: u32) -> Split {
        Split(self.splits[token as usize])
    }

    /// The token that two others merge to.
    #[inline]
    fn merged(&self, left: u32, right: u32) -> Option<u32> {
        let slots = self.pairs.len();
        let hash = hash_pair(left, right);
        let wanted = fingerprint(hash);
        let mut at = home(hash, slots);
        loop {
            let slot = self.pairs[at];
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
        let mut found_rest = text.len();
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            let Some(child) = self.child(node, *byte) else {
                break;
            };
            node = child;
            rest = behind;
            if node.0 >> VALUE_SHIFT & TOKEN_MASK != 0 {
                found = node.0;
                found_rest = rest.len();
            }
        }
        let length = text.len() - found_rest;
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
        let Scratch { path, borders, .. } = scratch;
        let mut rest = piece;
        let mut before = None;
        // Nearly always the longest token is the one, and then nothing else needs to be kept but where it starts.
        while let Some((token, length)) = self.longest(rest) {
            if before.is_some_and(|before| !self.fit(borders, before, token)) {
                break;
            }
            path.push((token, piece.len() - rest.len()));
            before = Some(token);
            rest = &rest[length..];
        }
        if rest.is_empty() {
            return Some(path.len());
        }
        self.count_from(piece, piece.len() - rest.len(), scratch)
    }

    /// The same from a place on, whose path is in `scratch`.
    #[inline(never)]
    fn count_from(&self, piece: &[u8], mut at: usize, scratch: &mut Scratch) -> Option<usize> {
        let Scratch {
            path,
            matches,
            dead,
            borders,
        } = scratch;
        let mut limit = piece.len();
        while at < piece.len() {
            let rest = &piece[at..limit];
            let before = path.last().map(|&(token, _)| token);
            let mut fits = |token, length| {
                !dead.contains(at + length)
                    && before.is_none_or(|before| self.fit(borders, before, token))
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

    #[inline]
    fn fit(&self, borders: &mut Borders, left: u32, right: u32) -> bool {
        borders.holds(left, right, || self.compatible(left, right))
    }
}

/// Where, among `slots`, a key of up to 16 bytes is remembered.
#[inline]
pub fn home_of(key: u128, slots: usize) -> usize {
    home(hash_medium(key), slots)
}
