//! Counts against byte-pair encoding by its definition, and running counts against whole ones.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use heidrun::{count, count_until, Counter, Encoding};
use proptest::prelude::*;

const ENCODINGS: [Encoding; 2] = [Encoding::Cl100kBase, Encoding::O200kBase];

type Ranks = HashMap<Vec<u8>, usize>;

static RANKS: LazyLock<[Ranks; 2]> = LazyLock::new(|| {
    ["cl100k_base", "o200k_base"].map(|name| {
        let path = format!("{}/data/{name}.tiktoken.gz", env!("CARGO_MANIFEST_DIR"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(token, rank)| {
                (
                    BASE64_STANDARD.decode(token).unwrap(),
                    rank.parse().unwrap(),
                )
            })
            .collect()
    })
});

/// The definition: again and again, merge the leftmost pair of the lowest rank.
fn merged_by_definition(piece: &[u8], ranks: &Ranks) -> usize {
    let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
    loop {
        let best = (1..parts.len())
            .filter_map(|at| {
                ranks
                    .get(&[parts[at - 1].as_slice(), &parts[at]].concat())
                    .map(|rank| (*rank, at))
            })
            .min();
        let Some((_, at)) = best else {
            return parts.len();
        };
        let right = parts.remove(at);
        parts[at - 1].extend(right);
    }
}

fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        "[a-zA-Z'’ſ]{0,6}",
        "[ \\t\\r\\n\u{a0}\u{3000}]{0,4}",
        "[0-9²Ⅷ٣]{0,5}",
        "[!-/:-@/…😀]{0,4}",
        "[中AéǅʰÀ\u{301}\u{903}]{0,5}",
        any::<String>(),
    ];
    proptest::collection::vec(fragment, 0..8).prop_map(|fragments| fragments.concat())
}

/// Long stretches of few classes, so that runs go on over several parts, change their rule and end in every way.
fn run() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,150}",
        "[A-Z]{0,150}",
        "[A-Z中]{0,90}",
        "[A-Z中\u{301}a]{0,90}",
        "[中文]{0,60}",
        // A letter without case that merges with what follows, so that a wrong cut behind it shows in the count.
        "[A-Z]{64,70}ʻ",
        "[ao]{1,3}",
        "[\u{301}\u{903}]{0,70}[A-Z]{0,90}",
        "[ \\t]{0,120}",
        "[ \\t\\n]{0,120}",
        "[!-/]{0,120}",
        "[!-/]{0,80}[\\n/]{0,80}",
        "'(r|re|s|ſ|l)?",
        "[a-zA-Z ]{0,2}",
        "[0-9]{0,4}",
    ]
}

proptest! {
    #[test]
    fn one_word_counts_as_the_definition_says(word in "\\p{Ll}{1,40}|[a-z]{1,60}") {
        for (encoding, ranks) in ENCODINGS.into_iter().zip(RANKS.iter()) {
            prop_assert_eq!(count(encoding, &word), merged_by_definition(word.as_bytes(), ranks));
        }
    }

    #[test]
    fn a_run_of_one_class_counts_as_the_definition_says(run in "[中文的一是不了人我]{1,40}|[-=_*!()]{1,60}|[😀🇩👩👍🏽]{1,20}|[a-c]{1,80}") {
        for (encoding, ranks) in ENCODINGS.into_iter().zip(RANKS.iter()) {
            prop_assert_eq!(count(encoding, &run), merged_by_definition(run.as_bytes(), ranks));
        }
    }

    #[test]
    fn a_growing_text_counts_as_the_whole_at_every_character(text in text()) {
        for encoding in ENCODINGS {
            let mut counter = Counter::new(encoding);
            for (start, character) in text.char_indices() {
                let end = start + character.len_utf8();
                prop_assert_eq!(counter.push(&text[start..end]), count(encoding, &text[..end]));
            }
        }
    }

    #[test]
    fn a_growing_text_counts_as_the_whole_after_every_part(parts in proptest::collection::vec(text(), 0..6)) {
        for encoding in ENCODINGS {
            let mut counter = Counter::new(encoding);
            let mut whole = String::new();
            for part in &parts {
                whole.push_str(part);
                prop_assert_eq!(counter.push(part), count(encoding, &whole));
            }
        }
    }

    #[test]
    fn a_long_run_counts_as_the_whole_wherever_it_turns(parts in proptest::collection::vec(run(), 1..8)) {
        for encoding in ENCODINGS {
            let mut counter = Counter::new(encoding);
            let mut whole = String::new();
            for part in &parts {
                whole.push_str(part);
                prop_assert_eq!(counter.push(part), count(encoding, &whole), "{:?}", parts);
            }
        }
    }

    #[test]
    fn a_limit_is_met_exactly(text in text()) {
        for encoding in ENCODINGS {
            let counted = count(encoding, &text);
            prop_assert_eq!(count_until(encoding, &text, counted), Some(counted));
            if counted > 0 {
                prop_assert_eq!(count_until(encoding, &text, counted - 1), None);
            }
        }
    }
}

#[test]
fn an_empty_part_changes_nothing() {
    let mut counter = Counter::new(Encoding::O200kBase);
    assert_eq!(
        (counter.push(""), counter.push("a"), counter.push("")),
        (0, 1, 1)
    );
}
