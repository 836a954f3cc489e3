//! The character classes that the splitting rules speak of, as one byte of flags per character.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

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

/// The classes come from the tables of `regex-syntax`, the same that the reference implementation compiles its patterns
/// with, so that a new version of Unicode arrives in both by the same door.
const CLASSES: [(u8, &str); 6] = [
    (LETTER, r"\p{L}"),
    (NUMBER, r"\p{N}"),
    (SPACE, r"\s"),
    (NEWLINE, r"[\r\n]"),
    (UPPER, r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"),
    (LOWER, r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"),
];

const PAGE: usize = 256;

/// Flags of every character in two steps; equal pages are stored once (about 60 KiB).
pub struct Classes {
    page_of: Vec<u16>,
    pages: Vec<[u8; PAGE]>,
}

impl Classes {
    /// The flags of `character`.
    #[inline]
    pub fn of(&self, character: char) -> u8 {
        let code = character as usize;
        self.pages[usize::from(self.page_of[code / PAGE])][code % PAGE]
    }
}

/// The table, built at first use.
pub static CLASSES_OF: LazyLock<Classes> = LazyLock::new(|| {
    let mut flags = vec![0u8; char::MAX as usize + 1];
    for (flag, pattern) in CLASSES {
        for (first, last) in ranges(pattern) {
            for entry in &mut flags[first as usize..=last as usize] {
                *entry |= flag;
            }
        }
    }
    let mut known: HashMap<[u8; PAGE], u16> = HashMap::new();
    let mut pages = Vec::new();
    let page_of = flags
        .chunks_exact(PAGE)
        .map(|chunk| {
            let page: [u8; PAGE] = chunk.try_into().unwrap_or([0; PAGE]);
            *known.entry(page).or_insert_with(|| {
                pages.push(page);
                // 4352 pages at most: Unicode ends at 0x10FFFF.
                u16::try_from(pages.len() - 1).unwrap_or(u16::MAX)
            })
        })
        .collect();
    Classes { page_of, pages }
});

fn ranges(pattern: &str) -> Vec<(char, char)> {
    match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class
            .ranges()
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        // The patterns are constants; a test walks over each.
        _ => Vec::new(),
    }
}
