//! Counting short pieces by merging their bytes, as the definition says.
//!
//! The walk tries the longest token first. In European languages that is one that merging does not make for every other
//! word, and the walk goes back. Merging needs no going back. But done for one piece after the other it is all waiting: for
//! memory, and for jumps, none of which can be foretold. So pieces of about the same length are merged side by side, the
//! same step of each, without a jump that depends on what is found; and what a step will read is asked for while other
//! pieces have theirs.

use std::hint::select_unpredictable;

use prefetch_index::prefetch_index;
use wide::f32x8;

use super::layout::{pair_key, MERGES, NO_MERGE, NO_TOKEN, PAIR_SHIFT, PLACE_BITS};
use super::{low_bits, Node, Vocabulary};

/// Pieces of up to this length can be merged here.
pub const MERGED_BYTES_MAX: usize = 30;
/// So many are merged at a time.
pub const MERGED_MAX: usize = 128;

/// Pieces side by side.
const LANES: usize = 8;
/// So many times that in turn.
const GROUPS: usize = 4;
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

type Lanes<T> = [T; LANES];

/// Pieces that are merged side by side. The bytes of a piece have the places from 1 on; a part has that of its first byte.
#[derive(Clone)]
struct Group {
    /// By place, and then by piece: the merge of the part there with the next one.
    merges: [Lanes<u32>; PLACES],
    /// Likewise its token. Before the first and behind the last part is [`NO_TOKEN`].
    tokens: [Lanes<u32>; PLACES],
    /// A bit for each place where a part starts, for place 0, and for that behind the last byte.
    starts: Lanes<u32>,
    /// What the last merge left to be looked up: the new part with the next one, and the one before with it.
    next: Open,
    previous: Open,
    /// Bytes of the longest piece.
    longest: usize,
    /// The numbers of the pieces; fewer than there are lanes in a last group.
    numbers: Lanes<usize>,
    used: usize,
}

/// Memory to merge in, used again and again.
#[derive(Clone, Default)]
pub struct Groups(Vec<Group>);

/// Two parts of each piece whose merge is to be looked up.
#[derive(Clone, Copy)]
struct Open {
    /// Where the left one starts.
    places: Lanes<u32>,
    /// As [`pair_key`] has them.
    pairs: Lanes<u64>,
    /// Where they are in [`super::Tables::pairs`], if they merge.
    slots: Lanes<usize>,
}

impl Vocabulary<'_> {
    /// Merges up to [`MERGED_MAX`] pieces of 2 to [`MERGED_BYTES_MAX`] bytes, all of them tokens by themselves, and calls
    /// `counted` with the number of each piece and of its tokens, not in order.
    pub fn merge_all(
        &self,
        pieces: &[&[u8]],
        groups: &mut Groups,
        mut counted: impl FnMut(usize, usize),
    ) {
        let order = by_length(pieces);
        let mut waiting = order[..pieces.len()].chunks(LANES);
        let mut busy = waiting.len().min(GROUPS);
        let groups = groups.first(busy);
        for (group, numbers) in groups.iter_mut().zip(&mut waiting) {
            self.begin(group, numbers, pieces);
        }
        while busy > 0 {
            for group in groups.iter_mut().filter(|group| group.used > 0) {
                self.look_up(group);
            }
            for group in groups.iter_mut().filter(|group| group.used > 0) {
                if let Some(lowest) = group.lowest() {
                    self.merge(group, lowest);
                    continue;
                }
                for (number, starts) in group.numbers.iter().zip(group.starts).take(group.used) {
                    counted(*number, starts.count_ones() as usize - 2);
                }
                if let Some(numbers) = waiting.next() {
                    self.begin(group, numbers, pieces);
                } else {
                    busy -= 1;
                    group.used = 0;
                }
            }
        }
    }

    /// The bytes of some pieces as parts.
    fn begin(&self, group: &mut Group, numbers: &[u8], pieces: &[&[u8]]) {
        group.merges = [[NO_MERGE; LANES]; PLACES];
        (group.next, group.previous) = (Open::NOTHING, Open::NOTHING);
        (group.used, group.longest) = (numbers.len(), 0);
        for (lane, &number) in numbers.iter().enumerate() {
            group.numbers[lane] = number.into();
            let piece = pieces[usize::from(number)];
            group.longest = group.longest.max(piece.len());
            group.starts[lane] = u32::MAX >> (MERGED_BYTES_MAX - piece.len());
            for (place, &byte) in (1..).zip(piece) {
                let node = Node(self.trie[usize::from(byte)]);
                group.tokens[place][lane] = node.token().unwrap_or(NO_TOKEN);
            }
            group.tokens[piece.len() + 1][lane] = NO_TOKEN;
            for (place, two) in (1_u8..).zip(piece.windows(2)) {
                let two = u16::from_le_bytes([two[0], two[1]]);
                // That of no merge has all bits of a place already.
                let merge = self.twos[usize::from(two)] | u32::from(place);
                group.merges[usize::from(place)][lane] = merge;
            }
        }
    }

    /// Looks up what is open.
    #[inline]
    fn look_up(&self, group: &mut Group) {
        for open in [&group.previous, &group.next] {
            for lane in 0..LANES {
                // Whatever differs in the pair makes it larger than a merge can be.
                let merge = self.pairs[open.slots[lane]] ^ open.pairs[lane];
                let found = MERGES.wrapping_add(low_bits(merge, u32::BITS)) | open.places[lane];
                let found = select_unpredictable(merge < 1 << PAIR_SHIFT, found, NO_MERGE);
                *at(&mut group.merges, open.places[lane], lane) = found;
            }
        }
    }

    /// Does the merges of each piece that are `lowest`.
    #[inline]
    fn merge(&self, group: &mut Group, lowest: Lanes<u32>) {
        for (lane, lowest) in lowest.into_iter().enumerate() {
            let place = lowest & PLACE_MASK;
            let token = lowest.wrapping_sub(MERGES) >> PLACE_BITS;
            let starts = group.starts[lane];
            // A piece that is done has no starts behind its place, which is the last of all, and so loses none.
            let behind = starts & (u32::MAX - 1) << place;
            let next = behind & behind.wrapping_sub(1);
            group.starts[lane] = starts ^ behind ^ next;
            *at(&mut group.merges, behind.trailing_zeros(), lane) = NO_MERGE;
            *at(&mut group.tokens, place, lane) = token;
            let right = *at(&mut group.tokens, next.trailing_zeros(), lane);
            let before = (starts & !(u32::MAX << place) | 1).ilog2();
            let left = *at(&mut group.tokens, before, lane);
            self.open(&mut group.next, lane, place, token, right);
            self.open(&mut group.previous, lane, before, left, token);
        }
    }

    #[inline]
    fn open(&self, open: &mut Open, lane: usize, place: u32, left: u32, right: u32) {
        let slot = self.pair_slot(left, right);
        prefetch_index(self.pairs, slot);
        open.places[lane] = place;
        open.pairs[lane] = pair_key(left, right);
        open.slots[lane] = slot;
    }
}

impl Groups {
    /// That many of them.
    fn first(&mut self, count: usize) -> &mut [Group] {
        self.0.reserve(count.saturating_sub(self.0.len()));
        while self.0.len() < count {
            self.0.push(Group {
                merges: [[NO_MERGE; LANES]; PLACES],
                tokens: [[NO_TOKEN; LANES]; PLACES],
                starts: [0; LANES],
                next: Open::NOTHING,
                previous: Open::NOTHING,
                numbers: [0; LANES],
                longest: 0,
                used: 0,
            });
        }
        &mut self.0[..count]
    }
}

impl Group {
    /// The next merge of each piece, [`NO_MERGE`] if there is none; None if there is none in any.
    #[inline]
    fn lowest(&self) -> Option<Lanes<u32>> {
        let row = |place: usize| f32x8::new(self.merges[place].map(f32::from_bits));
        // Two at a time: each waits for the one before.
        let (mut odd, mut even) = (row(1), row(2));
        for place in [3, 5, 7, 9, 11, 13, 15] {
            odd = odd.fast_min(row(place));
            even = even.fast_min(row(place + 1));
        }
        if self.longest > 16 {
            for place in [17, 19, 21, 23, 25, 27, 29] {
                odd = odd.fast_min(row(place));
                even = even.fast_min(row(place + 1));
            }
        }
        let lowest = odd.fast_min(even);
        let any = lowest.simd_lt(f32x8::splat(f32::from_bits(NO_MERGE))).any();
        any.then(|| lowest.to_array().map(f32::to_bits))
    }
}

impl Open {
    /// Finds no merge, for a place where none is.
    const NOTHING: Self = Self {
        places: [PLACE_MASK; LANES],
        pairs: [pair_key(NO_TOKEN, NO_TOKEN); LANES],
        slots: [0; LANES],
    };
}

#[inline]
fn at(rows: &mut [Lanes<u32>; PLACES], place: u32, lane: usize) -> &mut u32 {
    &mut rows[(place & PLACE_MASK) as usize][lane]
}

/// The numbers of the pieces, the shortest first: those of one length take about as many steps.
fn by_length(pieces: &[&[u8]]) -> [u8; MERGED_MAX] {
    let mut ends = [0; MERGED_BYTES_MAX + 2];
    for piece in pieces {
        ends[piece.len() + 1] += 1;
    }
    for length in 1..ends.len() {
        ends[length] += ends[length - 1];
    }
    let mut order = [0; MERGED_MAX];
    for (number, piece) in (0..).zip(pieces) {
        let end = &mut ends[piece.len()];
        order[*end] = number;
        *end += 1;
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::bpe::{Scratch, Split};
    use crate::encoding::Encoding;

    const ENCODINGS: [Encoding; 2] = [Encoding::Cl100kBase, Encoding::O200kBase];

    #[test]
    fn every_merge_is_found_and_no_other() {
        for vocabulary in ENCODINGS.map(Encoding::vocabulary) {
            let mut known = HashMap::new();
            for (token, &split) in (0..).zip(vocabulary.splits) {
                let split = Split(split);
                if split.left() != token {
                    known.insert((split.left(), split.right()), token);
                }
            }
            for (&(left, right), &token) in &known {
                assert!(vocabulary.merge_below(left, right, token + 1));
                assert!(!vocabulary.merge_below(left, right, token));
                let others = [
                    (right, left),
                    (left, token),
                    (token, right),
                    (left, right ^ 1),
                ];
                for (left, right) in others {
                    let merged = known.contains_key(&(left, right));
                    assert_eq!(vocabulary.merge_below(left, right, NO_TOKEN), merged);
                }
            }
        }
    }

    /// Pieces of a few tokens each, cut off at the length that can be merged here.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let letters =
            proptest::collection::vec(prop_oneof![any::<u8>(), b'a'..=b'i'], 2..=MERGED_BYTES_MAX);
        let words = "[ A-Z]?[a-z]{1,29}".prop_map(String::into_bytes);
        let of_letters = "[ ]?(un|ver|st|sch|en|er|ung|heit|lich|ge|be|an|ab|tion|s){1,6}";
        let of_letters = of_letters.prop_map(|mut word: String| {
            word.truncate(MERGED_BYTES_MAX);
            word.into_bytes()
        });
        let piece = prop_oneof![letters, words, of_letters];
        proptest::collection::vec(
            piece.prop_filter("several", |piece| piece.len() > 1),
            0..=MERGED_MAX,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn merging_guessing_and_going_back_agree(pieces in pieces()) {
            let mut groups = Groups::default();
            for vocabulary in ENCODINGS.map(Encoding::vocabulary) {
                let mut scratch = Scratch::default();
                let mut merged = vec![0; pieces.len()];
                let to_merge: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                vocabulary.merge_all(&to_merge, &mut groups, |piece, count| {
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
