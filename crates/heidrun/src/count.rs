//! The count of a text, piece by piece: most pieces are tokens, and one look into a table says so.

use std::collections::HashSet;

use crate::bpe::{home_of, low_half, Borders, Scratch, Vocabulary};

/// Pieces of up to this length are looked up as a whole.
const KEY_BYTES_MAX: usize = 16;
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
        }
    }

    /// The same, with tokens that are in no table.
    pub fn with_long(self, long: Option<&'a HashSet<Vec<u8>>>) -> Self {
        Self { long, ..self }
    }

    /// The tokens of `text[start..end]`, which is not empty.
    #[inline]
    pub fn count(&mut self, text: &[u8], start: usize, end: usize) -> usize {
        let length = end - start;
        if length == 1 {
            // Every byte is a token of every vocabulary counted with here.
            return 1;
        }
        if length <= 8 {
            let unused_bits = 64 - 8 * length;
            let key = match text.get(start..).and_then(|rest| rest.first_chunk()) {
                Some(bytes) => u64::from_le_bytes(*bytes) << unused_bits,
                None => low_half(padded(&text[start..end])) << unused_bits,
            };
            // A piece that ends with a zero would look like a shorter one.
            if key >> 56 != 0 && self.vocabulary.has_short(key >> unused_bits) {
                return 1;
            }
        }
        self.count_longer(&text[start..end])
    }

    #[inline(never)]
    fn count_longer(&mut self, piece: &[u8]) -> usize {
        if piece.len() > KEY_BYTES_MAX || piece.last() == Some(&0) {
            return self.count_long(piece);
        }
        let key = padded(piece);
        if piece.len() > 8 && self.vocabulary.has_medium(key) {
            return 1;
        }
        if self.remembered.is_empty() || piece.len() == KEY_BYTES_MAX {
            return self.count_long(piece);
        }
        let at = home_of(key, REMEMBERED);
        let known = self.remembered[at];
        if known & !(u128::MAX << COUNT_SHIFT) == key {
            return (known >> COUNT_SHIFT) as usize;
        }
        let count = self.count_long(piece);
        self.remembered[at] = key | (count as u128) << COUNT_SHIFT;
        count
    }

    fn count_long(&mut self, piece: &[u8]) -> usize {
        if self.long.is_some_and(|long| long.contains(piece)) {
            return 1;
        }
        // None is for a byte that is no token.
        self.vocabulary
            .count(piece, &mut self.scratch)
            .unwrap_or(piece.len())
    }
}

/// Up to 16 bytes, padded with zeros.
fn padded(piece: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..piece.len()].copy_from_slice(piece);
    u128::from_le_bytes(bytes)
}
