//! Byte-pair encoding over bytes, as Llama 3, Qwen and most models since them have it.

use std::collections::{HashMap, HashSet};

use serde_json::{json, Value};

use super::file::{single, type_of, File, Model};
use super::merging::merged;
use super::{Added, FileError};
use crate::bpe::{lay_out, Tables, Vocabulary};
use crate::count::PieceCounter;
use crate::rules::{Rules, GPT_2, SEGMENTS};

/// A registered vocabulary with its rules.
pub struct ByteLevel {
    tables: Tables,
    /// Tokens that merging does not make, and that are too long for the tables: found as whole pieces only.
    long: HashSet<Vec<u8>>,
    rules: Rules,
    /// There are tokens that merging does not make.
    pub unmerged: bool,
    /// The normalizer is NFC.
    pub composes: bool,
    pub added: Added,
}

impl ByteLevel {
    pub(super) fn build(file: File) -> Result<Self, FileError> {
        let normalizer = single(file.normalizer, "normalizers");
        let composes = match &normalizer {
            None => false,
            Some(value) if *value == json!({"type": "NFC"}) => true,
            Some(value) => return Err(unsupported("normalizer", value)),
        };
        let rules = rules(file.pre_tokenizer.as_ref())?;
        let added = Added::build(file.added_tokens, normalizer.is_some(), composes)?;
        let (tables, long, unmerged) = tables(&file.model)?;
        Ok(Self {
            tables,
            long,
            rules,
            unmerged,
            composes,
            added,
        })
    }

    /// The tables and the rules, to count with.
    pub fn parts(&self) -> (Vocabulary<'_>, Rules, Option<&HashSet<Vec<u8>>>) {
        let long = Some(&self.long).filter(|long| !long.is_empty());
        (self.tables.vocabulary(), self.rules, long)
    }

    /// The tokens of `text` if at most `limit`.
    pub fn count_until(&self, text: &str, limit: usize) -> Option<usize> {
        let (vocabulary, rules, long) = self.parts();
        let mut counter = PieceCounter::new(vocabulary, text.len()).with_long(long);
        let mut tokens = 0;
        let mut start = 0;
        let ends = std::iter::once((text.len(), text.len()));
        for (segment_end, next) in self.added.find(text).chain(ends) {
            let segment = &text[start..segment_end];
            let segment = if self.composes {
                super::normal::nfc(segment)
            } else {
                segment.into()
            };
            if !counter.take_all(rules, &segment, limit.checked_sub(tokens)?) {
                return None;
            }
            tokens += counter.finish(segment.as_bytes());
            tokens += usize::from(next > segment_end);
            start = next;
        }
        (tokens <= limit).then_some(tokens)
    }
}

pub(super) fn unsupported(field: &str, value: &Value) -> FileError {
    FileError::new(
        field,
        format!("of type {} is not supported as it is here", type_of(value)),
    )
}

/// The rules of a pre-tokenizer that splits by a pattern and then looks at bytes.
fn rules(value: Option<&Value>) -> Result<Rules, FileError> {
    let field = "pre_tokenizer";
    let value = value.ok_or_else(|| FileError::new(field, "must not be null"))?;
    let steps = match value.get("pretokenizers").and_then(Value::as_array) {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(value),
    };
    let Some((bytes, splits)) = steps.split_last() else {
        return Err(unsupported(field, value));
    };
    let place = |at: usize| match value.get("pretokenizers") {
        Some(_) => format!("{field}.pretokenizers[{at}]"),
        None => field.to_owned(),
    };
    // By itself it splits, unless it is told not to.
    let splits_itself = match &bytes["use_regex"] {
        Value::Bool(given) => *given,
        _ => true,
    };
    if type_of(bytes) != "ByteLevel"
        || bytes["add_prefix_space"] != json!(false)
        || splits_itself != splits.is_empty()
    {
        return Err(unsupported(&place(splits.len()), bytes));
    }
    if splits.is_empty() {
        return Ok(GPT_2);
    }
    let mut patterns = Vec::new();
    for (at, split) in splits.iter().enumerate() {
        if type_of(split) != "Split" {
            return Err(unsupported(&place(at), split));
        }
        // Each pattern of a single one matches every text from end to end, so that keeping only what matches is the same
        // as cutting.
        let kept = split["behavior"] == "Isolated" && split["invert"] == json!(false)
            || splits.len() == 1
                && split["behavior"] == "Removed"
                && split["invert"] == json!(true);
        if !kept {
            let field = format!("{}.behavior", place(at));
            return Err(FileError::new(field, "is not supported"));
        }
        patterns.push(split["pattern"]["Regex"].as_str().unwrap_or_default());
    }
    let (segments, of_segments) = SEGMENTS;
    if patterns == of_segments {
        return Ok(segments);
    }
    let known = match patterns.as_slice() {
        [pattern] => Rules::of_pattern(pattern),
        _ => None,
    };
    known.ok_or_else(|| {
        FileError::new(
            format!("{}.pattern", place(0)),
            "is none of those that are supported (GPT-2, Llama 3, Qwen, GPT-4o, Mistral Nemo, DeepSeek V3)",
        )
    })
}

/// The character that stands for each byte in the file.
fn byte_characters() -> HashMap<char, u8> {
    let mut next = 256;
    (0..=255u8)
        .map(|byte| {
            let shown = matches!(byte, 33..=126 | 161..=172 | 174..=255);
            let character = if shown {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or_default()
            };
            (character, byte)
        })
        .collect()
}

fn tables(model: &Model) -> Result<(Tables, HashSet<Vec<u8>>, bool), FileError> {
    model.refuse_variants()?;
    let characters = byte_characters();
    let bytes_of = |text: &str| -> Option<Vec<u8>> {
        text.chars()
            .map(|character| characters.get(&character).copied())
            .collect()
    };
    let vocab: HashSet<Vec<u8>> = model
        .vocab
        .keys()
        .filter_map(|text| bytes_of(text))
        .collect();
    if let Some(byte) = (0..=255u8).find(|&byte| !vocab.contains([byte].as_slice())) {
        return Err(FileError::new(
            "model.vocab",
            format!("has no token for the byte {byte:#04x}"),
        ));
    }
    let base = (0..=255).map(|byte| vec![byte]).collect();
    let merged = merged(base, model, |text| {
        bytes_of(text).filter(|bytes| vocab.contains(bytes))
    })?;
    let (mut tokens, mut splits) = (merged.tokens, merged.splits);
    let mut long = HashSet::new();
    if model.ignore_merges {
        let known: HashSet<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
        let unmerged = vocab
            .iter()
            .filter(|token| !known.contains(token.as_slice()));
        let unmerged: Vec<Vec<u8>> = unmerged.cloned().collect();
        tokens.extend(unmerged);
        splits.resize(tokens.len(), None);
        long = tokens
            .iter()
            .zip(&splits)
            .filter(|(token, split)| {
                split.is_none() && (token.len() > 16 || token.last() == Some(&0))
            })
            .map(|(token, _)| token.clone())
            .collect();
    }
    let tables = lay_out(&tokens, &splits, model.ignore_merges)
        .map_err(|error| FileError::new("model.vocab", error.to_string()))?;
    let unmerged = model.ignore_merges && splits.contains(&None);
    Ok((tables, long, unmerged))
}
