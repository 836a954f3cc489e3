//! The reader of `tokenizer.json` never panics, whatever the bytes.

use heidrun::{Counter, Registered, Tokenizer};
use proptest::prelude::*;
use std::sync::Arc;

/// A small file of each kind, to be damaged.
fn files() -> [String; 3] {
    let mut next = 256u32;
    let vocab: Vec<String> = (0..=255u8)
        .map(|byte| {
            let shown = matches!(byte, 33..=126 | 161..=172 | 174..=255);
            let character = if shown {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            };
            format!(
                "{}:{byte}",
                serde_json::to_string(&character.to_string()).unwrap()
            )
        })
        .collect();
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let pattern = serde_json::to_string(pattern).unwrap();
    let bytes = format!(
        r#"{{"added_tokens":[{{"id":300,"content":"<x>"}}],"normalizer":{{"type":"NFC"}},"pre_tokenizer":{{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":{pattern}}},"behavior":"Isolated","invert":false}},{{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}}]}},"model":{{"type":"BPE","ignore_merges":true,"vocab":{{{},"ab":256,"abc":257,"zz":258}},"merges":["a b","ab c"]}}}}"#,
        vocab.join(",")
    );
    let words = r###"{"normalizer":{"type":"BertNormalizer","lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"a":1,"##b":2}}}"###;
    let fallback: Vec<String> = (0..=255u8)
        .map(|byte| format!(r#""<0x{byte:02X}>":{byte}"#))
        .collect();
    let characters = format!(
        r#"{{"added_tokens":[{{"id":300,"content":"<x>"}}],"pre_tokenizer":{{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}},"model":{{"type":"BPE","byte_fallback":true,"vocab":{{{},"a":256,"b":257,"▁":258,"ab":259,"▁a":260,"▁ab":261}},"merges":["a b","▁ a","▁ ab","▁a b"]}}}}"#,
        fallback.join(",")
    );
    [bytes, words.to_owned(), characters]
}

#[test]
fn the_files_are_good_before_they_are_damaged() {
    let [bytes, words, characters] =
        files().map(|file| Registered::parse(file.as_bytes()).unwrap());
    let [bytes, words, characters] =
        [bytes, words, characters].map(|model| Tokenizer::Registered(Arc::new(model)));
    assert_eq!(bytes.count("abcab<x>zz"), 4);
    assert_eq!(words.count("ab abc A"), 4);
    // `▁ab`; `▁`, `b`; two bytes; the added token; `a`.
    assert_eq!(characters.count("ab bü<x>a"), 7);
}

proptest! {
    #[test]
    fn any_bytes_are_a_tokenizer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Registered::parse(&bytes);
    }

    #[test]
    fn a_damaged_file_is_a_tokenizer_or_an_error(
        which in 0..3usize, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        removed in any::<prop::sample::Index>(), length in 0..40usize, text in any::<String>(),
    ) {
        let mut file = files()[which].clone().into_bytes();
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let from = removed.index(file.len());
        let to = (from + length).min(file.len());
        file.drain(from..to);
        if let Ok(model) = Registered::parse(&file) {
            let tokenizer = Tokenizer::Registered(Arc::new(model));
            let mut counter = Counter::new(tokenizer.clone());
            prop_assert_eq!(counter.push(&text), tokenizer.count(&text));
        }
    }
}
