//! Unicode's normal forms, by the crate that `tokenizers` takes them from: a newer table would count differently.

use std::borrow::Cow;

use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{is_nfc_quick, IsNormalized, UnicodeNormalization};

/// `text` in normal form C.
pub fn nfc(text: &str) -> Cow<'_, str> {
    if is_nfc(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(character, _)| character).collect())
}

/// True if `text` surely is in normal form C.
pub fn is_nfc(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// `text` in normal form D.
pub fn nfd(text: &str) -> impl Iterator<Item = char> + '_ {
    text.nfd().map(|(character, _)| character)
}

/// True if `text` does not begin with a mark that could take a place among those before it.
pub fn starts_anew(text: &str) -> bool {
    text.chars()
        .next()
        .is_none_or(|first| canonical_combining_class(first) == 0)
}

/// Where the last character starts that cannot be composed with what is before it: what follows changes nothing further
/// left.
pub fn last_start(text: &str) -> usize {
    text.char_indices()
        .rev()
        .find(|&(start, character)| {
            let own = &text[start..start + character.len_utf8()];
            canonical_combining_class(character) == 0 && is_nfc(own)
        })
        .map_or(0, |(start, _)| start)
}
