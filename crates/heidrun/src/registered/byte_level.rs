//! Byte-pair encoding over bytes, as Llama 3, Qwen and most models since them have it.

use std::collections::{HashMap, HashSet};

use serde_json::{json, Value};

use super::file::{single, type_of, File, Model};
use super::{Added, FileError};
use crate::bpe::{lay_out, Tables, Vocabulary};
use crate::count::PieceCounter;
use crate::rules::Rules;
use crate::split::Scanner;

const MERGES_MAX: usize = 2_000_000;

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
        let Tables {
            trie,
            splits,
            pairs,
            short,
            medium,
        } = &self.tables;
        let long = Some(&self.long).filter(|long| !long.is_empty());
        (
            Vocabulary {
                trie,
                splits,
                pairs,
                short,
                medium,
            },
            self.rules,
            long,
        )
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
            let mut pieces = Scanner::new(rules, &segment);
            let mut piece_start = 0;
            while let Some(piece_end) = pieces.next_end() {
                tokens += counter.count(segment.as_bytes(), piece_start, piece_end);
                if tokens > limit {
                    return None;
                }
                piece_start = piece_end;
            }
            tokens += usize::from(next > segment_end);
            start = next;
        }
        (tokens <= limit).then_some(tokens)
    }
}

/// True if it is given and not empty.
fn is_some(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn unsupported(field: &str, value: &Value) -> FileError {
    FileError::new(
        field,
        format!("of type {} is not supported as it is here", type_of(value)),
    )
}

/// The rules of a pre-tokenizer that splits by a pattern and then looks at bytes.
fn rules(value: Option<&Value>) -> Result<Rules, FileError> {
    let field = "pre_tokenizer";
    let value = value.ok_or_else(|| FileError::new(field, "must not be null"))?;
    let steps = value.get("pretokenizers").and_then(Value::as_array);
    let Some([split, bytes]) = steps.map(Vec::as_slice) else {
        return Err(unsupported(field, value));
    };
    if type_of(split) != "Split" {
        return Err(unsupported("pre_tokenizer.pretokenizers[0]", split));
    }
    // Each pattern matches every text from end to end, so that keeping only what matches is the same as cutting.
    let kept = split["behavior"] == "Isolated" && split["invert"] == json!(false)
        || split["behavior"] == "Removed" && split["invert"] == json!(true);
    if !kept {
        return Err(FileError::new(
            "pre_tokenizer.pretokenizers[0].behavior",
            "is not supported",
        ));
    }
    if type_of(bytes) != "ByteLevel"
        || bytes["add_prefix_space"] != json!(false)
        || bytes["use_regex"] != json!(false)
    {
        return Err(unsupported("pre_tokenizer.pretokenizers[1]", bytes));
    }
    split["pattern"]["Regex"]
        .as_str()
        .and_then(Rules::of_pattern)
        .ok_or_else(|| {
            FileError::new(
                "pre_tokenizer.pretokenizers[0].pattern",
                "is none of those that are supported (Llama 3, Qwen, GPT-4o, Mistral Nemo)",
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

/// Tokens by rank, and the merges: what makes tables of a vocabulary.
struct Merging {
    tokens: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
    /// By the two that are merged: the place of the merge in the list, and the token.
    merges: HashMap<(u32, u32), (usize, u32)>,
}

fn tables(model: &Model) -> Result<(Tables, HashSet<Vec<u8>>, bool), FileError> {
    for (field, given) in [
        (
            "model.dropout",
            model.dropout.is_some_and(|rate| rate != 0.0),
        ),
        ("model.byte_fallback", model.byte_fallback),
        (
            "model.continuing_subword_prefix",
            is_some(model.continuing_subword_prefix.as_deref()),
        ),
        (
            "model.end_of_word_suffix",
            is_some(model.end_of_word_suffix.as_deref()),
        ),
    ] {
        if given {
            return Err(FileError::new(field, "is not supported"));
        }
    }
    let characters = byte_characters();
    let bytes_of = |text: &str| -> Option<Vec<u8>> {
        text.chars()
            .map(|character| characters.get(&character).copied())
            .collect()
    };
    let mut merging = Merging {
        tokens: (0..=255).map(|byte| vec![byte]).collect(),
        numbers: (0..=255u8)
            .map(|byte| (vec![byte], u32::from(byte)))
            .collect(),
        merges: HashMap::new(),
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
    merging.read(model, bytes_of, &vocab)?;
    let mut splits: Vec<Option<(u32, u32)>> = (0..=255).map(|byte| Some((byte, byte))).collect();
    splits.extend((256..merging.tokens.len()).map(|token| merging.split_of(token)));
    let mut tokens = merging.tokens;
    let mut long = HashSet::new();
    if model.ignore_merges {
        let unmerged = vocab
            .into_iter()
            .filter(|token| !merging.numbers.contains_key(token));
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

impl Merging {
    /// Gives numbers to all tokens that are merged, in the order of their first merge.
    fn read(
        &mut self,
        model: &Model,
        bytes_of: impl Fn(&str) -> Option<Vec<u8>>,
        vocab: &HashSet<Vec<u8>>,
    ) -> Result<(), FileError> {
        let merges = model.merges.as_deref().unwrap_or(&[]);
        if merges.len() > MERGES_MAX {
            return Err(FileError::new("model.merges", "must be at most 2000000"));
        }
        let refused =
            |place: usize, rule: &str| Err(FileError::new(format!("model.merges[{place}]"), rule));
        let mut never = Vec::new();
        for (place, merge) in merges.iter().enumerate() {
            let parts = merge
                .parts()
                .and_then(|(left, right)| Some((bytes_of(left)?, bytes_of(right)?)));
            let Some((left, right)) = parts else {
                return refused(place, "must be two tokens of bytes");
            };
            let whole = [left.as_slice(), &right].concat();
            if ![&left, &right, &whole]
                .iter()
                .all(|token| vocab.contains(*token))
            {
                return refused(place, "has a token that is not in model.vocab");
            }
            let (Some(&left), Some(&right)) = (self.numbers.get(&left), self.numbers.get(&right))
            else {
                // A part that no merge before this one makes.
                never.push((place, left, right));
                continue;
            };
            let last = self.tokens.len() - 1;
            let number = match self.numbers.get(&whole) {
                Some(&number) if number as usize == last && last > 255 => number,
                Some(_) => return refused(place, "must follow the other merges to the same token"),
                None => {
                    self.numbers
                        .insert(whole.clone(), u32::try_from(last + 1).unwrap_or(u32::MAX));
                    self.tokens.push(whole);
                    u32::try_from(last + 1).unwrap_or(u32::MAX)
                }
            };
            self.merges.insert((left, right), (place, number));
        }
        // It is harmless if no later merge makes it either.
        for (place, left, right) in never {
            if self.numbers.contains_key(&left) && self.numbers.contains_key(&right) {
                return refused(place, "must follow the merges to its parts");
            }
        }
        Ok(())
    }

    /// The last merge by which encoding the token's own bytes makes it; None if it makes something else.
    fn split_of(&self, token: usize) -> Option<(u32, u32)> {
        let mut parts: Vec<u32> = self.tokens[token]
            .iter()
            .map(|&byte| u32::from(byte))
            .collect();
        loop {
            let (place, (_, merged)) = parts
                .windows(2)
                .enumerate()
                .filter_map(|(at, pair)| Some((at, *self.merges.get(&(pair[0], pair[1]))?)))
                .min_by_key(|&(at, (rank, _))| (rank, at))?;
            if parts.len() == 2 {
                return (merged as usize == token).then_some((parts[0], parts[1]));
            }
            parts[place] = merged;
            parts.remove(place + 1);
        }
    }
}
