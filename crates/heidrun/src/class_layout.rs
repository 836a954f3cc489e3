// The character classes as a table; run when the crate is built.

use std::collections::HashMap;

use regex_syntax::hir::{Class, HirKind};

/// The classes come from the tables of `regex-syntax`, the same that the reference implementation compiles its patterns
/// with, so that a new version of Unicode arrives in both by the same door.
const CLASSES: [&str; 7] = [
    r"\p{L}",
    r"\p{N}",
    r"\s",
    r"[\r\n]",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    r"[\p{P}\p{S}]",
];

const PAGE: usize = 256;

/// One byte for each of the 4,352 pages of Unicode, the number of the flags' page; then the pages, equal ones once.
pub fn classes() -> Vec<u8> {
    let mut flags = vec![0u8; char::MAX as usize + 1];
    for (bit, pattern) in CLASSES.iter().enumerate() {
        let hir = regex_syntax::parse(pattern).expect("a class").into_kind();
        let HirKind::Class(Class::Unicode(class)) = hir else {
            panic!("{pattern} is no class");
        };
        for range in class.ranges() {
            for entry in &mut flags[range.start() as usize..=range.end() as usize] {
                *entry |= 1 << bit;
            }
        }
    }
    let mut known: HashMap<&[u8], u8> = HashMap::new();
    let mut pages: Vec<u8> = Vec::new();
    let mut table: Vec<u8> = flags
        .chunks(PAGE)
        .map(|page| {
            let next = known.len();
            *known.entry(page).or_insert_with(|| {
                pages.extend(page);
                u8::try_from(next).expect("at most 256 different pages")
            })
        })
        .collect();
    table.extend(pages);
    table
}
