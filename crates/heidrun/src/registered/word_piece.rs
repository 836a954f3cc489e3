//! BERT's tokens: words, cut greedily into the longest parts that are known.

use std::collections::HashSet;

use serde_json::Value;
use unicode_categories::UnicodeCategories;

use super::file::{single, type_of, File};
use super::normal::nfd;
use super::{Added, FileError};

/// The most characters a word may have before it counts as one unknown token, unless the file says less.
const WORD_CHARACTERS_MAX: usize = 1_000;
const VOCABULARY_MAX: usize = 1_000_000;

/// A registered vocabulary of words and parts of words.
pub struct WordPiece {
    /// Whole words and beginnings.
    starts: Parts,
    /// What may follow.
    continuations: Parts,
    word_characters_max: usize,
    normal: Normalizer,
    added: Added,
}

/// Parts of words, and the length in bytes of the longest.
struct Parts {
    known: HashSet<String>,
    longest: usize,
}

impl Parts {
    fn new(parts: impl Iterator<Item = String>) -> Self {
        let known: HashSet<String> = parts.collect();
        let longest = known.iter().map(String::len).max().unwrap_or(0);
        Self { known, longest }
    }

    /// The length of the longest part at the start of `text`.
    fn longest(&self, text: &str) -> Option<usize> {
        (1..=self.longest.min(text.len()))
            .rev()
            .filter(|&end| text.is_char_boundary(end))
            .find(|&end| self.known.contains(&text[..end]))
    }
}

#[allow(clippy::struct_excessive_bools)] // the file has them
struct Normalizer {
    clean: bool,
    han_apart: bool,
    strip_accents: bool,
    lowercase: bool,
}

impl WordPiece {
    pub(super) fn build(file: File) -> Result<Self, FileError> {
        let normal = normalizer(single(file.normalizer, "normalizers").as_ref())?;
        match &single(file.pre_tokenizer, "pretokenizers") {
            Some(value) if type_of(value) == "BertPreTokenizer" => {}
            value => {
                let kind = value.as_ref().map_or("null", type_of).to_owned();
                return Err(FileError::new(
                    "pre_tokenizer.type",
                    format!("is {kind}; only BertPreTokenizer is supported"),
                ));
            }
        }
        let added = Added::build(file.added_tokens, true, false)?;
        let model = file.model;
        let unknown = model.unk_token.as_deref().unwrap_or("[UNK]");
        if !model.vocab.contains_key(unknown) {
            return Err(FileError::new("model.unk_token", "must be in model.vocab"));
        }
        if model.vocab.len() > VOCABULARY_MAX {
            return Err(FileError::new(
                "model.vocab",
                "must be at most 1000000 tokens",
            ));
        }
        let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
        let word_characters_max = model.max_input_chars_per_word.unwrap_or(100);
        if word_characters_max > WORD_CHARACTERS_MAX {
            return Err(FileError::new(
                "model.max_input_chars_per_word",
                "must be at most 1000",
            ));
        }
        let continuations = model
            .vocab
            .keys()
            .filter_map(|token| token.strip_prefix(prefix));
        Ok(Self {
            continuations: Parts::new(continuations.map(str::to_owned)),
            starts: Parts::new(model.vocab.keys().cloned()),
            word_characters_max,
            normal,
            added,
        })
    }

    /// The tokens of `text` if at most `limit`.
    pub fn count_until(&self, text: &str, limit: usize) -> Option<usize> {
        let mut tokens = 0;
        let mut start = 0;
        let ends = std::iter::once((text.len(), text.len()));
        for (segment_end, next) in self.added.find(text).chain(ends) {
            let mut word = Word::default();
            for character in self.normal.apply(&text[start..segment_end]) {
                tokens += word.push(self, character);
                if tokens > limit {
                    return None;
                }
            }
            tokens += word.end(self) + usize::from(next > segment_end);
            start = next;
        }
        (tokens <= limit).then_some(tokens)
    }

    /// The tokens of one word.
    fn parts_of(&self, word: &str) -> usize {
        let mut tokens = 0;
        let mut rest = word;
        while !rest.is_empty() {
            let parts = if tokens == 0 {
                &self.starts
            } else {
                &self.continuations
            };
            let Some(length) = parts.longest(rest) else {
                // A word with a part that is not known is unknown as a whole.
                return 1;
            };
            rest = &rest[length..];
            tokens += 1;
        }
        tokens
    }
}

/// The word that is being read.
#[derive(Clone, Default)]
struct Word {
    text: String,
    characters: usize,
}

impl Word {
    /// Takes a normalized character, and returns the tokens that ended with it.
    fn push(&mut self, model: &WordPiece, character: char) -> usize {
        let alone = character.is_ascii_punctuation() || character.is_punctuation();
        if alone || character.is_whitespace() {
            let tokens = self.end(model);
            *self = Self::default();
            return tokens
                + if alone {
                    model.parts_of(character.encode_utf8(&mut [0; 4]))
                } else {
                    0
                };
        }
        self.characters += 1;
        // One character more than allowed decides the word, whatever follows.
        if self.characters <= model.word_characters_max {
            self.text.push(character);
        }
        0
    }

    /// The tokens of the word, were it to end here.
    fn end(&self, model: &WordPiece) -> usize {
        if self.characters > model.word_characters_max {
            1
        } else {
            model.parts_of(&self.text)
        }
    }
}

fn normalizer(value: Option<&Value>) -> Result<Normalizer, FileError> {
    let value = value.ok_or_else(|| FileError::new("normalizer", "must not be null"))?;
    if type_of(value) != "BertNormalizer" {
        return Err(FileError::new(
            "normalizer.type",
            format!("is {}; only BertNormalizer is supported", type_of(value)),
        ));
    }
    let flag = |name: &str, default: bool| match &value[name] {
        Value::Bool(given) => Ok(*given),
        Value::Null => Ok(default),
        _ => Err(FileError::new(
            format!("normalizer.{name}"),
            "must be true or false",
        )),
    };
    let lowercase = flag("lowercase", true)?;
    Ok(Normalizer {
        clean: flag("clean_text", true)?,
        han_apart: flag("handle_chinese_chars", true)?,
        strip_accents: flag("strip_accents", lowercase)?,
        lowercase,
    })
}

impl Normalizer {
    fn apply<'t>(&'t self, text: &'t str) -> impl Iterator<Item = char> + 't {
        let spaced: String = text
            .chars()
            .filter(|&character| !(self.clean && is_dropped(character)))
            .flat_map(|character| {
                let apart = self.han_apart && is_han(character);
                [apart.then_some(' '), Some(character), apart.then_some(' ')]
            })
            .flatten()
            .collect();
        let stripped: String = if self.strip_accents && !spaced.is_ascii() {
            nfd(&spaced)
                .filter(|character| !character.is_mark_nonspacing())
                .collect()
        } else {
            spaced
        };
        let lowercase = self.lowercase;
        // A string of its own, so that the iterator borrows nothing.
        let lowered: Vec<char> = stripped
            .chars()
            .flat_map(|character| {
                let lower = lowercase.then(|| character.to_lowercase());
                let same = (!lowercase).then_some(character);
                lower.into_iter().flatten().chain(same)
            })
            .collect();
        lowered.into_iter()
    }
}

fn is_dropped(character: char) -> bool {
    let space = matches!(character, '\t' | '\n' | '\r');
    character == '\0' || character == '\u{fffd}' || (!space && character.is_other())
}

/// The blocks that `tokenizers` sets apart.
fn is_han(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// The count of a text that grows.
#[derive(Clone, Default)]
pub struct WordPieceCounter {
    settled: usize,
    /// Of the current word.
    word: Word,
    /// Text that may yet become an added token.
    open: String,
    open_tokens: usize,
}

impl WordPieceCounter {
    /// Appends `delta` and returns the tokens of the whole text so far.
    pub fn push(&mut self, model: &WordPiece, delta: &str) -> usize {
        self.open.push_str(delta);
        loop {
            let cut = model.added.cut(&self.open);
            if let Some((start, end)) = cut.found {
                self.take(model, start);
                self.settled += self.word.end(model) + 1;
                self.word = Word::default();
                self.open.drain(..end - start);
            } else {
                self.take(model, cut.open);
                break;
            }
        }
        self.open_tokens = if self.open.is_empty() {
            self.word.end(model)
        } else {
            self.tokens_of_open(model)
        };
        self.count()
    }

    /// The tokens of the current word and the open text, were it to end here: one added token that a longer one may
    /// replace, or none.
    fn tokens_of_open(&self, model: &WordPiece) -> usize {
        let mut word = self.word.clone();
        let mut tokens = 0;
        let mut start = 0;
        for (end, next) in model.added.find(&self.open) {
            for character in model.normal.apply(&self.open[start..end]) {
                tokens += word.push(model, character);
            }
            tokens += word.end(model) + 1;
            word = Word::default();
            start = next;
        }
        for character in model.normal.apply(&self.open[start..]) {
            tokens += word.push(model, character);
        }
        tokens + word.end(model)
    }

    /// Settles that many bytes of the open text.
    fn take(&mut self, model: &WordPiece, bytes: usize) {
        for character in model.normal.apply(&self.open[..bytes]) {
            self.settled += self.word.push(model, character);
        }
        self.open.drain(..bytes);
    }

    /// Tokens so far.
    pub fn count(&self) -> usize {
        self.settled + self.open_tokens
    }
}
