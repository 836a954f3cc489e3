//! The count of a text, piece by piece: most pieces are tokens, and one look into a table says so.

use std::collections::HashSet;

use prefetch_index::prefetch_index;

use crate::ascii::{self, Look};
use crate::bpe::{
    home_of, low_half, Borders, Groups, Scratch, Vocabulary, MERGED_BYTES_MAX, MERGED_MAX,
};
use crate::rules::Rules;
use crate::split::Scanner;

/// Tokens of up to this length are in the table of short ones.
const SHORT_BYTES_MAX: usize = 8;
/// Pieces of up to this length are looked up as a whole.
const KEY_BYTES_MAX: usize = 16;
/// Characters that start with this or more have at least three bytes: not those of alphabets, but Chinese ones. There
/// merging takes more steps, and the walk goes back less often.
const THREE_BYTES: u8 = 0xE0;
/// Fewer pieces than this are not worth being merged side by side.
const MERGED_MIN: usize = 20;
/// So many pieces are looked up together. Where each may be in the tables is asked for when it is taken: most of the time
/// of a look is waiting for memory, and this way it is waited for all at once.
const WAITING_MAX: usize = 64;
/// In European languages a piece takes about so many bytes: a short text is given no more room for pieces that wait.
const PIECE_BYTES: usize = 4;
/// A longer piece does not wait for others, so that not much text is read when a limit is reached.
const WAITING_BYTES_MAX: usize = 256;
/// Texts shorter than this are counted without a memory: filling one would cost more than it saves.
const REMEMBERED_TEXT_BYTES_MIN: usize = 2_048;
/// Pieces that are remembered, at most.
const REMEMBERED_MAX: usize = 2_048;
/// One is remembered for about as many bytes of text: half as many are of several tokens.
const REMEMBERED_BYTES: usize = 12;
/// In a shorter text hardly any pair of tokens comes again that is not in a piece remembered anyway.
const BORDERS_TEXT_BYTES_MIN: usize = 32_768;
/// Pairs of tokens that are remembered, at most: more would not fit in the second cache beside the vocabulary.
const BORDERS_MAX: usize = 16_384;
/// A pair is remembered for about as many bytes of text.
const BORDER_BYTES: usize = 2;
/// Where a remembered key, of at most 15 bytes, holds its count.
const COUNT_SHIFT: u32 = 120;

/// Counts the pieces of one text.
///
/// Its memory of pieces that are several tokens lives as long as it does and is shared with no other text, so that the time a
/// count takes says nothing about what others have counted.
pub struct PieceCounter<'a> {
    vocabulary: Vocabulary<'a>,
    /// Tokens that are only found as whole pieces, and are in no table.
    long: Option<&'a HashSet<Vec<u8>>>,
    scratch: Scratch,
    /// By hash: the key of a piece of up to 15 bytes, and above it how many tokens it is.
    remembered: Vec<u128>,
    /// Pieces that are counted as one token so far: those of up to 8 bytes, and longer ones.
    short: Vec<Waiting<u64>>,
    medium: Vec<Waiting<u128>>,
    /// Those of them that are in neither table.
    several: Vec<Waiting<u128>>,
    /// Those of them that are to be merged.
    merging: Vec<Waiting<u128>>,
    groups: Groups,
    /// Of the pieces taken since the last [`PieceCounter::finish`].
    tokens: usize,
}

/// A piece that is to be looked up.
struct Waiting<Key> {
    start: usize,
    end: usize,
    /// Its bytes, padded with zeros; 0 if there are more than 16, or if the last one is zero: it would look like a shorter
    /// piece.
    key: Key,
}

impl<'a> PieceCounter<'a> {
    /// A counter for a text of that many bytes.
    pub fn new(vocabulary: Vocabulary<'a>, text_bytes: usize) -> Self {
        let remembered = if text_bytes < REMEMBERED_TEXT_BYTES_MIN {
            0
        } else {
            REMEMBERED_MAX.min(text_bytes / REMEMBERED_BYTES)
        };
        let borders = if text_bytes < BORDERS_TEXT_BYTES_MIN {
            0
        } else {
            let pairs = text_bytes / BORDER_BYTES;
            pairs.min(BORDERS_MAX).next_power_of_two()
        };
        let waiting = WAITING_MAX.min(text_bytes / PIECE_BYTES);
        Self {
            vocabulary,
            long: None,
            scratch: Scratch {
                borders: Borders::new(borders),
                ..Scratch::default()
            },
            remembered: vec![0; remembered],
            short: Vec::with_capacity(waiting),
            medium: Vec::with_capacity(waiting),
            several: Vec::with_capacity(waiting),
            merging: Vec::new(),
            groups: Groups::default(),
            tokens: 0,
        }
    }

    /// The same, with tokens that are in no table.
    pub fn with_long(self, long: Option<&'a HashSet<Vec<u8>>>) -> Self {
        Self { long, ..self }
    }

    /// Takes the pieces of `text`; false, and not all of them, if they are more than `most` tokens.
    #[inline(always)]
    #[allow(clippy::inline_always)] // its caller may know the rules
    pub fn take_all(&mut self, rules: Rules, text: &str, most: usize) -> bool {
        let bytes = text.as_bytes();
        let mut scanner = Scanner::new(rules, text);
        let mut start = 0;
        loop {
            let end = match ascii::look(rules, bytes, start) {
                Look::Ends(end) => end,
                look => match scanner.end_from(start, look) {
                    Some(end) => end,
                    None => return true,
                },
            };
            self.take(bytes, start, end);
            if self.tokens > most {
                return false;
            }
            start = end;
        }
    }

    /// Takes `text[start..end]`, which is not empty.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a call would cost a fourth of it
    pub fn take(&mut self, text: &[u8], start: usize, end: usize) {
        self.tokens += 1;
        let length = end - start;
        if length == 1 {
            // Every byte is a token of every vocabulary counted with here.
            return;
        }
        if length <= SHORT_BYTES_MAX {
            let key = short_key(text, start, end);
            self.vocabulary.expect_short(key);
            self.short.push(Waiting { start, end, key });
            if self.short.len() == WAITING_MAX {
                self.settle(text);
            }
        } else {
            let key = key_of(text, start, end);
            self.vocabulary.expect_medium(key);
            self.medium.push(Waiting { start, end, key });
            if self.medium.len() == WAITING_MAX || length > WAITING_BYTES_MAX {
                self.settle(text);
            }
        }
    }

    /// The tokens of what was taken since the last time, all of it from `text`.
    pub fn finish(&mut self, text: &[u8]) -> usize {
        self.settle(text);
        self.merge(text);
        std::mem::take(&mut self.tokens)
    }

    /// Counts what waits.
    #[inline(never)]
    fn settle(&mut self, text: &[u8]) {
        for Waiting { start, end, key } in self.short.drain(..) {
            if key == 0 || !self.vocabulary.has_short(key) {
                let key = key.into();
                self.several.push(Waiting { start, end, key });
            }
        }
        for piece in self.medium.drain(..) {
            if piece.key == 0 || !self.vocabulary.has_medium(piece.key) {
                self.several.push(piece);
            }
        }
        if !self.remembered.is_empty() {
            for piece in &self.several {
                prefetch_index(&self.remembered, home_of(piece.key, self.remembered.len()));
            }
        }
        let mut several = std::mem::take(&mut self.several);
        for piece in several.drain(..) {
            let bytes = &text[piece.start..piece.end];
            if let Some(count) = self.known(&piece, bytes) {
                self.tokens += count - 1;
            } else if bytes.len() <= MERGED_BYTES_MAX
                && bytes[0] < THREE_BYTES
                && bytes[1] < THREE_BYTES
            {
                self.merging.push(piece);
                if self.merging.len() == MERGED_MAX {
                    self.merge(text);
                }
            } else {
                let count = self.walk(bytes);
                self.count_noted(piece.key, count);
            }
        }
        self.several = several;
    }

    /// Counts what is to be merged.
    #[inline(never)]
    fn merge(&mut self, text: &[u8]) {
        let merging = std::mem::take(&mut self.merging);
        if merging.len() < MERGED_MIN {
            for piece in &merging {
                let count = self.walk(&text[piece.start..piece.end]);
                self.count_noted(piece.key, count);
            }
        } else {
            let mut pieces = [&text[..0]; MERGED_MAX];
            for (piece, of) in pieces.iter_mut().zip(&merging) {
                *piece = &text[of.start..of.end];
            }
            let mut groups = std::mem::take(&mut self.groups);
            let vocabulary = self.vocabulary;
            vocabulary.merge_all(&pieces[..merging.len()], &mut groups, |number, count| {
                self.count_noted(merging[number].key, count);
            });
            self.groups = groups;
        }
        self.merging = merging;
        self.merging.clear();
    }

    /// The tokens of a piece, if they are remembered or it is a token that is in no table.
    fn known(&self, piece: &Waiting<u128>, bytes: &[u8]) -> Option<usize> {
        if self.long.is_some_and(|long| long.contains(bytes)) {
            return Some(1);
        }
        let known = self
            .remembered
            .get(home_of(piece.key, self.remembered.len()))?;
        let same = known & !(u128::MAX << COUNT_SHIFT) == piece.key && piece.key != 0;
        same.then_some((known >> COUNT_SHIFT) as usize)
    }

    /// Counts a piece as so many tokens, and notes it.
    fn count_noted(&mut self, key: u128, count: usize) {
        self.tokens += count - 1;
        if key == 0 || key >> COUNT_SHIFT != 0 {
            return;
        }
        let home = home_of(key, self.remembered.len());
        if let Some(known) = self.remembered.get_mut(home) {
            *known = key | (count as u128) << COUNT_SHIFT;
        }
    }

    /// The tokens of a piece that is several, or a long one.
    fn walk(&mut self, piece: &[u8]) -> usize {
        // None is for a byte that is no token.
        self.vocabulary
            .count(piece, &mut self.scratch)
            .unwrap_or(piece.len())
    }
}

/// The key of a piece of up to 8 bytes, as [`Waiting::key`] has it.
#[inline]
fn short_key(text: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    let Some(bytes) = text.get(start..).and_then(|rest| rest.first_chunk()) else {
        return low_half(key_of(text, start, end));
    };
    let key = u64::from_le_bytes(*bytes) << (64 - 8 * length);
    if key >> 56 == 0 {
        0
    } else {
        key >> (64 - 8 * length)
    }
}

/// The key of a piece, as [`Waiting::key`] has it.
#[inline]
fn key_of(text: &[u8], start: usize, end: usize) -> u128 {
    let length = end - start;
    if length > KEY_BYTES_MAX {
        return 0;
    }
    let unused_bits = 128 - 8 * length;
    let key = match text.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u128::from_le_bytes(*bytes) << unused_bits,
        None => padded(&text[start..end]) << unused_bits,
    };
    if key >> 120 == 0 {
        0
    } else {
        key >> unused_bits
    }
}

/// Up to 16 bytes, padded with zeros.
fn padded(piece: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..piece.len()].copy_from_slice(piece);
    u128::from_le_bytes(bytes)
}
