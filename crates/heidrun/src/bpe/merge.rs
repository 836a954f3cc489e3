//! Counting short pieces by merging their bytes, as the definition says.
//!
//! The walk tries the longest token first. In European languages that is one that merging does not make for every other
//! word, and the walk goes back. Merging needs no going back, but each of its steps waits for memory; so several pieces are
//! merged in turn, and what one of them will look at is asked for before the others have theirs.

use prefetch_index::prefetch_index;

use super::layout::{ascii_pair, hash_pair, home, pair, TOKEN_BITS};
use super::{low_bits, Node, Vocabulary};

/// Pieces of up to this length can be merged here.
pub const MERGED_BYTES_MAX: usize = 16;

/// So many pieces at a time.
const WAYS: usize = 8;
/// Bits of a place in a piece.
const PLACE_BITS: u32 = 4;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
/// Instead of a place, where there are no two parts.
const NOWHERE: u32 = u32::MAX;
/// No merge.
const NOTHING: u64 = u64::MAX;

/// A piece that is merged.
#[derive(Default)]
struct Merging {
    /// By the place where a part starts: the token that it and the next part may merge to, and below that the place. The
    /// lowest is the next merge: tokens are numbered by rank, and of equal ones the first goes first.
    merges: [u64; MERGED_BYTES_MAX],
    /// By the same place: its token.
    tokens: [u32; MERGED_BYTES_MAX],
    /// A bit for each place where a part starts.
    starts: u32,
    /// What the last merge left to be looked up: the new part with the next one, and the one before with it.
    next: Open,
    previous: Open,
}

/// Two parts whose merge is to be looked up.
#[derive(Clone, Copy, Default)]
struct Open {
    /// Where the left one starts, or [`NOWHERE`].
    place: u32,
    /// Where the search in [`Vocabulary::pairs`] starts, and for what.
    home: u32,
    pair: u64,
}

impl Vocabulary<'_> {
    /// Merges pieces of 2 to [`MERGED_BYTES_MAX`] bytes, whose every byte is a token, and calls `counted` with the number
    /// of each and of its tokens, not in order.
    pub fn merge_each<'t>(
        &self,
        pieces: impl Iterator<Item = &'t [u8]>,
        mut counted: impl FnMut(usize, usize),
    ) {
        let mut pieces = pieces.enumerate();
        let mut ways: [(Option<usize>, Merging); WAYS] = Default::default();
        for (number, merging) in &mut ways {
            *number = pieces.next().map(|piece| self.begin(merging, piece));
        }
        let mut busy = true;
        while busy {
            busy = false;
            for (number, merging) in &mut ways {
                let Some(ready) = *number else { continue };
                busy = true;
                if !self.step(merging) {
                    counted(ready, merging.starts.count_ones() as usize);
                    *number = pieces.next().map(|piece| self.begin(merging, piece));
                }
            }
        }
    }

    /// The bytes of a piece as parts; its number.
    #[inline]
    fn begin(&self, merging: &mut Merging, (number, piece): (usize, &[u8])) -> usize {
        merging.merges = [NOTHING; MERGED_BYTES_MAX];
        for (place, &byte) in (0..).zip(piece) {
            let node = Node(self.trie[usize::from(byte)]);
            *merging.token(place) = node.token().unwrap_or(0);
        }
        for (place, two) in (0..).zip(piece.windows(2)) {
            if let Some(token) = self.of_two(two[0], two[1]) {
                *merging.merge(place) = merge_to(token, place);
            }
        }
        merging.starts = (1 << piece.len()) - 1;
        (merging.next.place, merging.previous.place) = (NOWHERE, NOWHERE);
        number
    }

    /// The token that two bytes merge to: a token of two bytes is always merged from these two.
    #[inline]
    fn of_two(&self, left: u8, right: u8) -> Option<u32> {
        if (left | right).is_ascii() {
            return self.ascii[ascii_pair(left, right)].checked_sub(1);
        }
        let node = Node(self.trie[usize::from(left)]);
        self.child(node, right)?.token()
    }

    /// Looks up what is open, and does the next merge; false if there is none.
    #[inline]
    fn step(&self, merging: &mut Merging) -> bool {
        for open in [merging.next, merging.previous] {
            if open.place != NOWHERE {
                *merging.merge(open.place) = self.candidate(open);
            }
        }
        let lowest = lowest(&merging.merges);
        if lowest == NOTHING {
            return false;
        }
        let place = low_bits(lowest, PLACE_BITS);
        let token = low_bits(lowest >> PLACE_BITS, TOKEN_BITS);
        let gone = (merging.starts & behind(place)).trailing_zeros();
        merging.starts &= !(1 << gone);
        *merging.token(place) = token;
        *merging.merge(place) = NOTHING;
        *merging.merge(gone) = NOTHING;
        let next = merging.starts & behind(place);
        let right = *merging.token(next.trailing_zeros());
        merging.next = self.open(token, right, if next == 0 { NOWHERE } else { place });
        let previous = merging.starts & !(u32::MAX << place);
        let before = (previous | 1).ilog2();
        let left = *merging.token(before);
        merging.previous = self.open(left, token, if previous == 0 { NOWHERE } else { before });
        true
    }

    #[inline]
    fn open(&self, left: u32, right: u32, place: u32) -> Open {
        let home = home(hash_pair(left, right), self.pairs.len());
        prefetch_index(self.pairs, home);
        Open {
            place,
            // A table has fewer than 2³² slots.
            #[allow(clippy::cast_possible_truncation)]
            home: home as u32,
            pair: pair(left, right),
        }
    }

    /// What two parts merge to.
    #[inline]
    fn candidate(&self, open: Open) -> u64 {
        self.merged(open.pair, open.home as usize)
            .map_or(NOTHING, |token| merge_to(token, open.place))
    }
}

impl Merging {
    #[inline]
    fn token(&mut self, place: u32) -> &mut u32 {
        &mut self.tokens[(place & PLACE_MASK) as usize]
    }

    #[inline]
    fn merge(&mut self, place: u32) -> &mut u64 {
        &mut self.merges[(place & PLACE_MASK) as usize]
    }
}

#[inline]
fn merge_to(token: u32, place: u32) -> u64 {
    u64::from(token) << PLACE_BITS | u64::from(place)
}

/// The bits of the places behind one.
#[inline]
fn behind(place: u32) -> u32 {
    (u32::MAX - 1) << (place & PLACE_MASK)
}

/// The lowest of all, in four steps that wait for each other instead of sixteen.
#[inline]
fn lowest(merges: &[u64; MERGED_BYTES_MAX]) -> u64 {
    let of_four =
        |at: usize| (merges[at].min(merges[at + 1])).min(merges[at + 2].min(merges[at + 3]));
    (of_four(0).min(of_four(4))).min(of_four(8).min(of_four(12)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bpe::{Scratch, Split};
    use crate::encoding::Encoding;

    const ENCODINGS: [Encoding; 2] = [Encoding::Cl100kBase, Encoding::O200kBase];

    #[test]
    fn every_merge_is_found() {
        for vocabulary in ENCODINGS.map(Encoding::vocabulary) {
            for (token, &split) in (0..).zip(vocabulary.splits) {
                let split = Split(split);
                if split.left() != token {
                    let open = vocabulary.open(split.left(), split.right(), 0);
                    assert_eq!(vocabulary.candidate(open), merge_to(token, 0));
                }
            }
        }
    }

    /// Pieces of a few tokens each, cut off at the length that can be merged here.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let letters = proptest::collection::vec(prop_oneof![any::<u8>(), b'a'..=b'i'], 2..=16);
        let words = "[ A-Z]?[a-z]{1,15}".prop_map(String::into_bytes);
        let of_letters = "[ ]?(un|ver|st|sch|en|er|ung|heit|lich|ge|be|an|ab|tion|s){1,6}";
        let of_letters = of_letters.prop_map(|mut word: String| {
            word.truncate(MERGED_BYTES_MAX);
            word.into_bytes()
        });
        let piece = prop_oneof![letters, words, of_letters];
        proptest::collection::vec(piece.prop_filter("several", |piece| piece.len() > 1), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn merging_guessing_and_going_back_agree(pieces in pieces()) {
            for vocabulary in ENCODINGS.map(Encoding::vocabulary) {
                let mut scratch = Scratch::default();
                let mut merged = vec![0; pieces.len()];
                vocabulary.merge_each(pieces.iter().map(Vec::as_slice), |piece, count| {
                    assert_eq!(merged[piece], 0, "counted once");
                    merged[piece] = count;
                });
                for (piece, merged) in pieces.iter().zip(merged) {
                    prop_assert_eq!(vocabulary.count(piece, &mut scratch), Some(merged));
                    prop_assert_eq!(vocabulary.count_surely(piece, &mut scratch), Some(merged));
                }
            }
        }
    }
}
