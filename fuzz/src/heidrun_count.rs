//! Counts of any text, against the definition: the pattern by a regular expression, then the leftmost merge of the lowest
//! rank until there is none.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use fancy_regex::Regex;
use heidrun::{count, count_until, Encoding};

/// Longer texts only repeat, and the oracle is quadratic.
const BYTES_MAX: usize = 600;

struct Definition {
    encoding: Encoding,
    pattern: Regex,
    ranks: HashMap<Vec<u8>, u32>,
}

impl Definition {
    fn new(encoding: Encoding, name: &str, pattern: &str) -> Self {
        let path = format!(
            "{}/../crates/heidrun/data/{name}.tiktoken.gz",
            env!("CARGO_MANIFEST_DIR")
        );
        let file = std::fs::File::open(path).expect("the vocabulary is part of the repository");
        let mut text = String::new();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .expect("the vocabulary is whole");
        let ranks = text.lines().filter_map(|line| {
            let (token, rank) = line.split_once(' ')?;
            Some((BASE64_STANDARD.decode(token).ok()?, rank.parse().ok()?))
        });
        Self {
            encoding,
            pattern: Regex::new(pattern).expect("a pattern of the definition"),
            ranks: ranks.collect(),
        }
    }

    fn count(&self, text: &str) -> usize {
        let pieces = self.pattern.find_iter(text);
        pieces
            .map(|piece| {
                self.merged(
                    piece
                        .expect("no backtracking limit is met")
                        .as_str()
                        .as_bytes(),
                )
            })
            .sum()
    }

    fn merged(&self, piece: &[u8]) -> usize {
        // Where the parts begin, and the end.
        let mut borders: Vec<usize> = (0..=piece.len()).collect();
        loop {
            let ranked = borders
                .windows(3)
                .enumerate()
                .filter_map(|(place, window)| {
                    let rank = self.ranks.get(&piece[window[0]..window[2]])?;
                    Some((*rank, place))
                });
            let Some((_, place)) = ranked.min() else {
                return borders.len() - 1;
            };
            borders.remove(place + 1);
        }
    }
}

static DEFINITIONS: LazyLock<[Definition; 2]> = LazyLock::new(|| {
    [
        Definition::new(
            Encoding::Cl100kBase,
            "cl100k_base",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
        ),
        Definition::new(
            Encoding::O200kBase,
            "o200k_base",
            concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
                r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
        ),
    ]
});

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(BYTES_MAX)]);
    for definition in &*DEFINITIONS {
        let expected = definition.count(&text);
        assert_eq!(count(definition.encoding, &text), expected, "{text:?}");
        assert_eq!(
            count_until(definition.encoding, &text, expected),
            Some(expected)
        );
        if expected > 0 {
            assert_eq!(count_until(definition.encoding, &text, expected - 1), None);
        }
    }
}

/// Texts of all classes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "",
        "The quick brown fox doesn't jump; it's 12345 years old!\r\n\n  And then\t…",
        "fn main() {\n    println!(\"{}\", 0x1F_u32 + 7);\n}\n// ====----====\n",
        "Rechtsschutzversicherungsgesellschaften überprüfen Äpfel. ſ'ſ 'S 'LL",
        "的一是不了人我在有他这为之大来以个中上们\u{3000}，。！",
        "😀😂🥰👩‍👩‍👧‍👦🏽🇩🇪 ²Ⅷ٣ ǅʰÀ\u{301}\u{903}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "ABCDefgHIJ'sKLM'Re////\n/\r\n   \u{a0}\u{2028}x \u{85} ",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
