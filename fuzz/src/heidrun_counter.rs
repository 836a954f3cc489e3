//! Streams: split anywhere, the deltas come to the count of the whole.
//!
//! The bytes are a seed of the cuts (one byte) and the text.

use heidrun::{count, Counter, Encoding};

use crate::source::Source;

/// Every count of a prefix is a count of all of it.
const BYTES_MAX: usize = 2_000;

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let mut cut = u32::from(source.byte());
    let text = String::from_utf8_lossy(&source.0[..source.0.len().min(BYTES_MAX)]);
    for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
        let mut counter = Counter::new(encoding);
        let mut start = 0;
        for (end, _) in text.char_indices().chain([(text.len(), ' ')]) {
            cut = cut.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let here = end == text.len() || (cut >> 16) % 5 == 0;
            if here {
                let told = counter.push(&text[start..end]);
                assert_eq!(told, count(encoding, &text[..end]), "{:?}", &text[..end]);
                start = end;
            }
        }
        assert_eq!(counter.count(), count(encoding, &text), "{text:?}");
    }
}

/// Texts whose pieces are long, so that cuts fall into them.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = crate::heidrun_count::seeds();
    seeds.extend(
        [
            "A".repeat(200) + "bc",
            " ".repeat(90) + "\n x",
            "中".repeat(60),
            "!/".repeat(70) + "\n//",
        ]
        .map(String::into_bytes),
    );
    for (number, seed) in (0..).zip(&mut seeds) {
        seed.insert(0, number);
    }
    seeds
}
