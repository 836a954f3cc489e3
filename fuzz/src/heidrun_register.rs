//! `tokenizer.json` files: an error, or a tokenizer that counts a stream as it counts the whole.
//!
//! The bytes are the length of a text (16 bits), the text, and the file.

use std::sync::Arc;

use heidrun::{Counter, Registered, Tokenizer};

use crate::source::Source;

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let length = usize::from(source.short() % 1_024);
    let text = String::from_utf8_lossy(source.take(length)).into_owned();
    let Ok(model) = Registered::parse(source.0) else {
        return;
    };
    let tokenizer = Tokenizer::Registered(Arc::new(model));
    let mut counter = Counter::new(tokenizer.clone());
    let mut end = 0;
    for (part, character) in text.chars().enumerate() {
        let start = end;
        end += character.len_utf8();
        let told = counter.push(&text[start..end]);
        if part % 7 == 0 {
            assert_eq!(told, tokenizer.count(&text[..end]), "{:?}", &text[..end]);
        }
    }
    let whole = tokenizer.count(&text);
    assert_eq!(counter.count(), whole, "{text:?}");
    assert_eq!(tokenizer.count_until(&text, whole), Some(whole));
    if whole > 0 {
        assert_eq!(tokenizer.count_until(&text, whole - 1), None);
    }
}

/// A file of each kind, small, in front of a text.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    let vocabulary: Vec<String> = (0..=255_u8)
        .map(|byte| format!("{:?}:{byte}", shown(byte).to_string()))
        .collect();
    let bytes = format!(
        r#"{{"added_tokens":[{{"id":300,"content":"<x>"}}],"normalizer":{{"type":"NFC"}},"pre_tokenizer":{{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":"{pattern}"}},"behavior":"Isolated","invert":false}},{{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}}]}},"model":{{"type":"BPE","ignore_merges":true,"vocab":{{{},"ab":256,"abc":257,"zz":258}},"merges":["a b","ab c"]}}}}"#,
        vocabulary.join(",")
    );
    let words = r###"{"added_tokens":[{"id":9,"content":"[x]"}],"normalizer":{"type":"BertNormalizer","lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"a":1,"##b":2,"ab":3,"##c":4}}}"###;
    let texts = [
        "",
        "abcab<x>zz",
        "ab abc A\u{301}b [x] ab",
        "'s 12345  \n\n x",
    ];
    let mut seeds = Vec::new();
    for file in [bytes.as_str(), words] {
        for text in texts {
            let mut seed = u16::try_from(text.len())
                .unwrap_or(0)
                .to_le_bytes()
                .to_vec();
            seed.extend(text.as_bytes());
            seed.extend(file.as_bytes());
            seeds.push(seed);
        }
    }
    seeds
}

/// The character that stands for a byte in such files.
fn shown(byte: u8) -> char {
    let visible = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if visible(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !visible(byte)).count();
    u32::try_from(before)
        .ok()
        .and_then(|before| char::from_u32(256 + before))
        .unwrap_or('?')
}

#[cfg(test)]
mod tests {
    use heidrun::Registered;

    #[test]
    fn the_seeds_are_good_files() {
        for seed in super::seeds() {
            let length = usize::from(u16::from_le_bytes([seed[0], seed[1]]));
            if let Err(error) = Registered::parse(&seed[2 + length..]) {
                panic!("{error}");
            }
        }
    }
}
