//! The count of a text, piece by piece: most pieces are tokens, and one look into a table says so.

use std::collections::HashSet;

use prefetch_index::prefetch_index;

use crate::bpe::{home_of, low_half, Borders, Scratch, Vocabulary};

/// Tokens of up to this length are in the table of short ones.
const SHORT_BYTES_MAX: usize = 8;
/// Pieces of up to this length are looked up as a whole.
const KEY_BYTES_MAX: usize = 16;
/// So many pieces are looked up together. Where each may be in the tables is asked for when it is taken: most of the time
/// of a look is waiting for memory, and this way it is waited for all at once.
const WAITING_MAX: usize = 64;
/// A longer piece does not wait for others, so that not much text is read when a limit is reached.
const WAITING_BYTES_MAX: usize = 256;
/// Texts shorter than this are counted without a memory: filling one would cost more than it saves.
const REMEMBERED_TEXT_BYTES_MIN: usize = 2_048;
/// Pieces that are remembered, for texts of any length.
const REMEMBERED: usize = 2_048;
/// Texts shorter than this are counted without any memory.
const BORDERS_TEXT_BYTES_MIN: usize = 256;
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
    /// Pieces that are counted as one token so far.
    waiting: Vec<Waiting>,
    /// Of the pieces taken since the last [`PieceCounter::finish`].
    tokens: usize,
}

/// A piece that is to be looked up.
struct Waiting {
    start: usize,
    end: usize,
    /// Its bytes, padded with zeros; 0 if there are more than 16, or if the last one is zero: it would look like a shorter
    /// piece.
    key: u128,
}

impl<'a> PieceCounter<'a> {
    /// A counter for a text of that many bytes.
    pub fn new(vocabulary: Vocabulary<'a>, text_bytes: usize) -> Self {
        let remembered = if text_bytes < REMEMBERED_TEXT_BYTES_MIN {
            0
        } else {
            REMEMBERED
        };
        let borders = if text_bytes < BORDERS_TEXT_BYTES_MIN {
            0
        } else {
            let pairs = text_bytes / BORDER_BYTES;
            pairs.min(BORDERS_MAX).next_power_of_two()
        };
        Self {
            vocabulary,
            long: None,
            scratch: Scratch {
                borders: Borders::new(borders),
                ..Scratch::default()
            },
            remembered: vec![0; remembered],
            waiting: Vec::new(),
            tokens: 0,
        }
    }

    /// The same, with tokens that are in no table.
    pub fn with_long(self, long: Option<&'a HashSet<Vec<u8>>>) -> Self {
        Self { long, ..self }
    }

    /// Takes `text[start..end]`, which is not empty.
    #[inline]
    pub fn take(&mut self, text: &[u8], start: usize, end: usize) {
        self.tokens += 1;
        let length = end - start;
        if length == 1 {
            // Every byte is a token of every vocabulary counted with here.
            return;
        }
        let key = key_of(text, start, end);
        if length <= SHORT_BYTES_MAX {
            self.vocabulary.expect_short(low_half(key));
        } else {
            self.vocabulary.expect_medium(key);
        }
        self.waiting.push(Waiting { start, end, key });
        if self.waiting.len() == WAITING_MAX || length > WAITING_BYTES_MAX {
            self.settle(text);
        }
    }

    /// What was taken since the last [`PieceCounter::finish`] is at least so many tokens.
    #[inline]
    pub fn at_least(&self) -> usize {
        self.tokens
    }

    /// The tokens of what was taken since the last time, all of it from `text`.
    pub fn finish(&mut self, text: &[u8]) -> usize {
        self.settle(text);
        std::mem::take(&mut self.tokens)
    }

    /// Counts what waits.
    #[inline(never)]
    fn settle(&mut self, text: &[u8]) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|piece| {
            let is_token = self.is_token(piece);
            if !is_token && !self.remembered.is_empty() {
                prefetch_index(&self.remembered, home_of(piece.key, REMEMBERED));
            }
            !is_token
        });
        for piece in waiting.drain(..) {
            self.tokens += self.count(&text[piece.start..piece.end], piece.key) - 1;
        }
        self.waiting = waiting;
    }

    /// True if a piece is in the table of short or of medium tokens.
    fn is_token(&self, piece: &Waiting) -> bool {
        if piece.key == 0 {
            false
        } else if piece.end - piece.start <= SHORT_BYTES_MAX {
            self.vocabulary.has_short(low_half(piece.key))
        } else {
            self.vocabulary.has_medium(piece.key)
        }
    }

    /// The tokens of a piece that is in no table.
    fn count(&mut self, piece: &[u8], key: u128) -> usize {
        if self.remembered.is_empty() || key == 0 || piece.len() == KEY_BYTES_MAX {
            return self.count_anew(piece);
        }
        let at = home_of(key, REMEMBERED);
        let known = self.remembered[at];
        if known & !(u128::MAX << COUNT_SHIFT) == key {
            return (known >> COUNT_SHIFT) as usize;
        }
        let count = self.count_anew(piece);
        self.remembered[at] = key | (count as u128) << COUNT_SHIFT;
        count
    }

    fn count_anew(&mut self, piece: &[u8]) -> usize {
        if self.long.is_some_and(|long| long.contains(piece)) {
            return 1;
        }
        // None is for a byte that is no token.
        self.vocabulary
            .count(piece, &mut self.scratch)
            .unwrap_or(piece.len())
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
