//! The count of a text, piece by piece: most pieces are tokens, and one look into a table says so.

use crate::bpe::{Scratch, Vocabulary};

/// Pieces of up to this length are looked up as a whole, and remembered if they are not a token.
const KEY_BYTES_MAX: usize = 16;
/// Texts shorter than this are counted without a memory: filling one would cost more than it saves.
const REMEMBERED_TEXT_BYTES_MIN: usize = 2_048;
const REMEMBERED: usize = 1_024;

/// Counts the pieces of one text.
///
/// Its memory of pieces that are several tokens lives as long as it does and is shared with no other text, so that the time a
/// count takes says nothing about what others have counted.
pub struct PieceCounter<'a> {
    vocabulary: Vocabulary<'a>,
    scratch: Scratch,
    /// By hash: a piece of up to 16 bytes as its key, and its tokens.
    remembered: Vec<(u128, usize)>,
}

impl<'a> PieceCounter<'a> {
    /// A counter for a text of that many bytes.
    pub fn new(vocabulary: Vocabulary<'a>, text_bytes: usize) -> Self {
        let remembered = if text_bytes < REMEMBERED_TEXT_BYTES_MIN {
            0
        } else {
            REMEMBERED
        };
        Self {
            vocabulary,
            scratch: Scratch::default(),
            remembered: vec![(0, 0); remembered],
        }
    }

    /// The tokens of `text[start..end]`.
    #[inline]
    pub fn count(&mut self, text: &[u8], start: usize, end: usize) -> usize {
        let length = end - start;
        if text.get(end - 1) == Some(&0) {
            // Padded with zeros it would look like a shorter one.
            return self.count_long(&text[start..end]);
        }
        if length <= 8 {
            let key = match text.get(start..).and_then(|rest| rest.first_chunk()) {
                Some(bytes) => u64::from_le_bytes(*bytes) & (u64::MAX >> (64 - 8 * length as u32)),
                None => padded(&text[start..end]) as u64,
            };
            if self.vocabulary.has_short(key) {
                return 1;
            }
            return self.count_parts(&text[start..end], key.into());
        }
        let piece = &text[start..end];
        if length <= KEY_BYTES_MAX {
            let key = padded(piece);
            if self.vocabulary.has_medium(key) {
                return 1;
            }
            return self.count_parts(piece, key);
        }
        self.count_long(piece)
    }

    fn count_parts(&mut self, piece: &[u8], key: u128) -> usize {
        if self.remembered.is_empty() {
            return self.count_long(piece);
        }
        let at = crate::bpe::home_of(key, REMEMBERED);
        let (known, count) = self.remembered[at];
        if known == key {
            return count;
        }
        let count = self.count_long(piece);
        self.remembered[at] = (key, count);
        count
    }

    fn count_long(&mut self, piece: &[u8]) -> usize {
        // Every byte is a token of the vocabularies embedded here.
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
