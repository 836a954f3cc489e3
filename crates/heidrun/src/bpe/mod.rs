//! Byte-pair encoding for the count alone, over tables that stay where they are.
//!
//! Encoding is a walk from left to right: the longest token that is compatible with the one before it. Two neighbours are
//! compatible if encoding the two together gives these two; an encoding whose neighbours are all compatible is the
//! encoding, and the only one. If no token is compatible, the walk goes back one token; a place it went back from is
//! never entered again, so that the time is linear in the text. (The method is that of the crate `bpe`.) Short pieces in
//! alphabets are merged instead: see `merge`.

mod follow;
mod lay_out;
mod layout;
mod merge;
mod scratch;
mod walk;

pub use follow::Follower;
pub use lay_out::{lay_out, Tables};
pub use layout::{low_half, TOKEN_BYTES_MAX};
pub use merge::{Groups, MERGED_BYTES_MAX, MERGED_MAX};
pub use scratch::{Borders, Scratch};

use prefetch_index::prefetch_index;

use layout::{
    child_bit, hash_medium, hash_pair, hash_short, home, pair_key, pilot_of, slot_of,
    AS_LEFT_SHIFT, AS_RIGHT_SHIFT, BASE_SHIFT, CHILDREN_SHIFT, LABEL_MASK, LOWEST_BITS,
    LOWEST_SHIFT, NO_RANK, PLACE_BITS, TOKEN_BITS, VALUE_SHIFT,
};

/// The tables of a vocabulary, as [`Tables`] says.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    pub trie: &'a [u64],
    pub splits: &'a [u64],
    pub pairs: &'a [u64],
    pub pilots: &'a [u8],
    pub twos: &'a [u32],
    pub shorter: &'a [u32],
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
            pilots: &self.pilots,
            twos: &self.twos,
            shorter: &self.shorter,
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
    pub const ROOT: Self = Self(0xFFFF << CHILDREN_SHIFT);

    /// The token that ends here.
    #[inline]
    pub fn token(self) -> Option<u32> {
        low_bits(self.0 >> VALUE_SHIFT, TOKEN_BITS).checked_sub(1)
    }
}

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

/// What is known of a token: what it is merged from, and what it is at most merged to.
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

    /// No pair with this token on the left has a lower rank.
    #[inline]
    fn lowest_as_left(self) -> u32 {
        low_bits(self.0 >> AS_LEFT_SHIFT, LOWEST_BITS) << LOWEST_SHIFT
    }

    /// No pair with this token on the right has a lower rank.
    #[inline]
    fn lowest_as_right(self) -> u32 {
        low_bits(self.0 >> AS_RIGHT_SHIFT, LOWEST_BITS) << LOWEST_SHIFT
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // masked
const fn low_bits(value: u64, bits: u32) -> u32 {
    (value & ((1 << bits) - 1)) as u32
}

impl Vocabulary<'_> {
    /// Asks for what [`Vocabulary::has_short`] will read.
    #[inline]
    pub fn expect_short(&self, key: u64) {
        prefetch_index(self.short, home(hash_short(key), self.short.len()));
    }

    /// True if `key`, up to 8 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_short(&self, key: u64) -> bool {
        holds(self.short, key, hash_short(key))
    }

    /// Asks for what [`Vocabulary::has_medium`] will read.
    #[inline]
    pub fn expect_medium(&self, key: u128) {
        prefetch_index(self.medium, home(hash_medium(key), self.medium.len()));
    }

    /// True if `key`, 9 to 16 bytes padded with zeros and not ending with one, is a token.
    #[inline]
    pub fn has_medium(&self, key: u128) -> bool {
        holds(self.medium, key, hash_medium(key))
    }

    /// The child of a node by `byte`.
    #[inline]
    pub fn child(&self, node: Node, byte: u8) -> Option<Node> {
        if node.0 & child_bit(byte) == 0 {
            return None;
        }
        let base = (node.0 >> BASE_SHIFT) as usize;
        let entry = *self.trie.get(base ^ usize::from(byte))?;
        (entry & LABEL_MASK == u64::from(byte)).then_some(Node(entry))
    }

    #[inline]
    fn split(&self, token: u32) -> Split {
        Split(self.splits[token as usize])
    }

    /// Where the two are in [`Tables::pairs`], if they merge.
    #[inline]
    fn pair_slot(&self, left: u32, right: u32) -> usize {
        let hash = hash_pair(left, right);
        let pilot = self.pilots[pilot_of(hash, self.pilots.len())];
        slot_of(hash, pilot, self.pairs.len())
    }

    /// True if two tokens merge to one whose rank is below `before`.
    #[inline]
    fn merge_below(&self, left: u32, right: u32, before: u32) -> bool {
        // Whatever differs in the pair makes it larger than all tokens are.
        let token = self.pairs[self.pair_slot(left, right)] ^ pair_key(left, right);
        token < u64::from(before) << PLACE_BITS
    }

    /// True if encoding the bytes of the two gives these two.
    ///
    /// The merges that made them are undone, the last one first. If at any time the two parts that meet at the border
    /// would have merged before the merge undone last, then the border would have been lost.
    ///
    /// `apart`: the two are known not to merge as they are.
    fn compatible(&self, mut left: u32, mut right: u32, apart: bool) -> bool {
        let mut before = if apart { 0 } else { NO_RANK };
        let (mut of_left, mut of_right) = (self.split(left), self.split(right));
        loop {
            // Most parts that meet are never merged with anything on that side, or only later.
            let lowest = of_left.lowest_as_left().max(of_right.lowest_as_right());
            if lowest < before && self.merge_below(left, right, before) {
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

    /// The longest token at the start of `text`.
    #[inline]
    fn longest(&self, text: &[u8]) -> Option<Match> {
        let mut node = Node::ROOT;
        let mut found = None;
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            let Some(child) = self.child(node, *byte) else {
                break;
            };
            node = child;
            rest = behind;
            if let Some(token) = node.token() {
                // What will be asked next of the token. And it keeps this a jump, where the compiler would rather choose
                // between two values: behind a jump foretold, the next token is looked for before this one is known.
                prefetch_index(self.splits, token as usize);
                found = Some(Match {
                    token,
                    length: text.len() - rest.len(),
                });
            }
        }
        found
    }
}

/// A token that may be next.
#[derive(Clone, Copy)]
struct Match {
    token: u32,
    /// Bytes.
    length: usize,
}

/// Where, among `slots`, a key of up to 16 bytes is remembered.
#[inline]
pub fn home_of(key: u128, slots: usize) -> usize {
    home(hash_medium(key), slots)
}
