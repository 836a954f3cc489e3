//! The character classes that the splitting rules speak of, as one byte of flags per character.

/// `\p{L}`
pub const LETTER: u8 = 1;
/// `\p{N}`
pub const NUMBER: u8 = 2;
/// `\s`
pub const SPACE: u8 = 4;
/// `[\r\n]`
pub const NEWLINE: u8 = 8;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
pub const UPPER: u8 = 16;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
pub const LOWER: u8 = 32;
/// `[\p{P}\p{S}]`
pub const SYMBOL: u8 = 64;

const PAGE: usize = 256;
const PAGES: usize = (char::MAX as usize + 1) / PAGE;

/// Made by `class_layout.rs`.
static TABLE: [u8; BYTES.len()] = *include_bytes!(concat!(env!("OUT_DIR"), "/classes"));
const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes"));

/// The flags of `character`, in two steps.
#[inline]
pub fn class_of(character: char) -> u8 {
    class_of_code(character as u32)
}

#[inline(always)]
#[allow(clippy::inline_always)] // a few instructions, fewer than a call
fn class_of_code(code: u32) -> u8 {
    let code = code as usize;
    let page = usize::from(TABLE[code / PAGE]);
    TABLE[PAGES + page * PAGE + code % PAGE]
}

/// A character of a text, with its flags and where the next one starts.
#[derive(Clone, Copy)]
pub struct At {
    /// Its number in Unicode.
    pub code: u32,
    /// Its flags.
    pub flags: u8,
    /// The place behind it.
    pub next: usize,
}

impl At {
    /// True if it has any of `flags`.
    #[inline]
    pub fn is(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// True if it is `byte`, which is below 0x80.
    #[inline]
    pub fn equals(self, byte: u8) -> bool {
        self.code == u32::from(byte)
    }
}

/// The first character of a text in UTF-8: its number, its flags and the text behind it; None at the end. The text is
/// known to be valid, so that nothing is checked twice: the first byte says how many belong to it.
#[inline(always)]
#[allow(clippy::inline_always)] // what it returns is three registers here, and memory in a call
pub fn first_character(text: &[u8]) -> Option<(u32, u8, &[u8])> {
    let low = |byte: u8| u32::from(byte & 0x3F);
    match *text {
        [first, ref rest @ ..] if first < 0x80 => {
            Some((first.into(), CLASS_OF_BYTE[usize::from(first)], rest))
        }
        [first, second, ref rest @ ..] if first < 0xE0 => {
            let code = u32::from(first & 0x1F) << 6 | low(second);
            Some((code, class_of_code(code), rest))
        }
        [first, second, third, ref rest @ ..] if first < 0xF0 => {
            let code = u32::from(first & 0x0F) << 12 | low(second) << 6 | low(third);
            Some((code, class_of_code(code), rest))
        }
        [first, second, third, fourth, ref rest @ ..] => {
            let high = u32::from(first & 0x07) << 18 | low(second) << 12;
            let code = high | low(third) << 6 | low(fourth);
            Some((code, class_of_code(code), rest))
        }
        _ => None,
    }
}

/// The flags of [`behind_ideographs`]' characters.
pub const IDEOGRAPH: u8 = LETTER | UPPER | LOWER;

/// The text behind the ideographs and the syllables of Hangul that it begins with: U+4E00 to U+9FFF and U+AC00 to U+D77F,
/// which all have the same flags and are a large part of the texts they occur in.
#[inline(always)]
#[allow(clippy::inline_always)] // likewise
pub fn behind_ideographs(mut text: &[u8]) -> &[u8] {
    while let [first @ 0xE4..=0xED, second, _, rest @ ..] = text {
        if !matches!(u16::from_be_bytes([*first, *second]), 0xE4B8..=0xE9BF | 0xEAB0..=0xED9D) {
            break;
        }
        text = rest;
    }
    text
}

/// The character that starts at `index`, or None at the end of the text.
#[inline]
pub fn character_at(text: &[u8], index: usize) -> Option<At> {
    let (code, flags, rest) = first_character(text.get(index..)?)?;
    Some(At {
        code,
        flags,
        next: text.len() - rest.len(),
    })
}

/// The flags of the characters below 0x80; no flags but [`FOREIGN`] for the bytes of others.
pub static CLASS_OF_BYTE: [u8; 256] = {
    let mut table = [FOREIGN; 256];
    let mut byte = 0;
    while byte < 0x80 {
        table[byte] = TABLE[PAGES + TABLE[0] as usize * PAGE + byte];
        byte += 1;
    }
    table
};

/// A byte of a character above 0x7F.
pub const FOREIGN: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ideographs_end_where_the_flags_do() {
        let mut buffer = [0; 4];
        for code in 0..=u32::from(char::MAX) {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let text = character.encode_utf8(&mut buffer).as_bytes();
            let skipped = behind_ideographs(text).is_empty();
            let meant = matches!(code, 0x4E00..=0x9FFF | 0xAC00..=0xD77F);
            assert_eq!(skipped, meant, "{code:#x}");
            assert!(!meant || class_of(character) == IDEOGRAPH, "{code:#x}");
        }
    }
}
