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

const PAGE: usize = 256;
const PAGES: usize = (char::MAX as usize + 1) / PAGE;

/// Made by `class_layout.rs`.
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes"));

/// The flags of `character`, in two steps.
#[inline]
pub fn class_of(character: char) -> u8 {
    let code = character as usize;
    let page = usize::from(TABLE[code / PAGE]);
    TABLE[PAGES + page * PAGE + code % PAGE]
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
