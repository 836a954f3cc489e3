//! Byte-pair encoding over characters, as Llama 2, Mistral and Gemma have it from `SentencePiece`: a character that is no
//! token counts as its bytes, and a whole text may be one piece.

use std::collections::HashSet;

use super::file::{File, Model};
use super::merging::merged;
use super::spaces::{Before, Spaces, MARK};
use super::{Added, FileError};
use crate::bpe::{lay_out, Follower, Node, Scratch, Tables, Vocabulary};

/// A registered vocabulary with its rules.
pub struct CharacterLevel {
    tables: Tables,
    spaces: Spaces,
    added: Added,
}

impl CharacterLevel {
    pub(super) fn build(file: File) -> Result<Self, FileError> {
        let spaces = Spaces::of(&file)?;
        let tables = tables(&file.model)?;
        let added = Added::build(file.added_tokens, file.normalizer.is_some(), false)?;
        Ok(Self {
            tables,
            spaces,
            added,
        })
    }

    fn vocabulary(&self) -> Vocabulary<'_> {
        self.tables.vocabulary()
    }

    /// The tokens of `text` if at most `limit`.
    pub fn count_until(&self, text: &str, limit: usize) -> Option<usize> {
        let mut pieces = Pieces {
            vocabulary: self.vocabulary(),
            scratch: Scratch::default(),
            piece: String::new(),
            tokens: 0,
        };
        let mut start = 0;
        let ends = std::iter::once((text.len(), text.len()));
        for (end, next) in self.added.find(text).chain(ends) {
            let mut part = Part {
                begun: false,
                at_start: start == 0,
            };
            for character in text[start..end].chars() {
                part.push(self.spaces, character, |mark_before, character| {
                    if mark_before {
                        pieces.push(MARK, false);
                    }
                    pieces.push(character, self.spaces.apart && character == MARK);
                });
                if pieces.tokens > limit {
                    return None;
                }
            }
            pieces.end();
            pieces.tokens += usize::from(next > end);
            start = next;
        }
        (pieces.tokens <= limit).then_some(pieces.tokens)
    }
}

/// A part of the text between added tokens, as it is read.
#[derive(Clone, Copy)]
struct Part {
    /// There is a character in it.
    begun: bool,
    /// The text begins with it.
    at_start: bool,
}

impl Part {
    /// Gives `put` the character as it is encoded, and says whether a mark comes before it.
    fn push(&mut self, spaces: Spaces, character: char, mut put: impl FnMut(bool, char)) {
        let character = if spaces.marked && character == ' ' {
            MARK
        } else {
            character
        };
        let mark = !self.begun
            && match spaces.before {
                Before::Nothing => false,
                Before::Mark => true,
                Before::MarkIfNone => character != MARK,
                Before::MarkIfNoneAtStart => self.at_start && character != MARK,
            };
        self.begun = true;
        put(mark, character);
    }
}

/// Counts the pieces of a whole text.
struct Pieces<'a> {
    vocabulary: Vocabulary<'a>,
    scratch: Scratch,
    /// The characters since the last cut, all of them tokens.
    piece: String,
    tokens: usize,
}

impl Pieces<'_> {
    fn push(&mut self, character: char, cut: bool) {
        if cut {
            self.end();
        }
        if is_token(&self.vocabulary, character) {
            self.piece.push(character);
        } else {
            self.end();
            self.tokens += character.len_utf8();
        }
    }

    fn end(&mut self) {
        let piece = self.piece.as_bytes();
        // Every character of it is a token, so that there is always a count.
        let count = self.vocabulary.count(piece, &mut self.scratch);
        self.tokens += count.unwrap_or(piece.len());
        self.piece.clear();
    }
}

/// True if `character` by itself is a token.
fn is_token(vocabulary: &Vocabulary<'_>, character: char) -> bool {
    let mut buffer = [0; 4];
    let mut node = Node::ROOT;
    for byte in character.encode_utf8(&mut buffer).bytes() {
        let Some(child) = vocabulary.child(node, byte) else {
            return false;
        };
        node = child;
    }
    node.token().is_some()
}

fn tables(model: &Model) -> Result<Tables, FileError> {
    model.refuse_variants()?;
    if model.ignore_merges {
        let rule = "is not supported beside model.byte_fallback";
        return Err(FileError::new("model.ignore_merges", rule));
    }
    let bytes: HashSet<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    if let Some(missing) = bytes
        .iter()
        .filter(|&token| !model.vocab.contains_key(token))
        .min()
    {
        let rule = format!("has no token {missing}, which model.byte_fallback needs");
        return Err(FileError::new("model.vocab", rule));
    }
    for (place, merge) in model.merges.iter().flatten().enumerate() {
        // It would merge with what a character fell apart to.
        if merge
            .parts()
            .is_some_and(|(left, right)| bytes.contains(left) || bytes.contains(right))
        {
            return Err(FileError::new(
                format!("model.merges[{place}]"),
                "has the token of a byte, which is not supported",
            ));
        }
    }
    let characters = |token: &&String| token.chars().count() == 1;
    let mut base: Vec<Vec<u8>> = model
        .vocab
        .keys()
        .filter(characters)
        .map(|token| token.as_bytes().to_vec())
        .collect();
    base.sort_unstable();
    let merged = merged(base, model, |token| {
        let known = model.vocab.contains_key(token);
        known.then(|| token.as_bytes().to_vec())
    })?;
    lay_out(&merged.tokens, &merged.splits, false)
        .map_err(|error| FileError::new("model.vocab", error.to_string()))
}

/// The count of a text that grows.
#[derive(Clone)]
pub struct CharacterCounter {
    settled: usize,
    part: Part,
    /// Of the part, what comes since the last cut.
    piece: Follower,
    /// Text that may yet become an added token.
    open: String,
    open_tokens: usize,
}

impl Default for CharacterCounter {
    fn default() -> Self {
        Self {
            settled: 0,
            part: Part {
                begun: false,
                at_start: true,
            },
            piece: Follower::new(),
            open: String::new(),
            open_tokens: 0,
        }
    }
}

impl CharacterCounter {
    /// Appends `delta` and returns the tokens of the whole text so far.
    pub fn push(&mut self, model: &CharacterLevel, delta: &str) -> usize {
        self.open.push_str(delta);
        let open = loop {
            let cut = model.added.cut(&self.open);
            let Some((start, end)) = cut.found else {
                break cut.open;
            };
            let text: String = self.open.drain(..end).collect();
            self.take(model, &text[..start]);
            self.end_part();
        };
        let text: String = self.open.drain(..open).collect();
        self.take(model, &text);
        self.open_tokens = self.piece.count();
        if !self.open.is_empty() {
            // Were it to end here: an added token that a longer one may replace, or none.
            let mut ended = self.clone();
            let open = std::mem::take(&mut ended.open);
            let mut start = 0;
            for (end, next) in model.added.find(&open) {
                ended.take(model, &open[start..end]);
                ended.end_part();
                start = next;
            }
            ended.take(model, &open[start..]);
            self.open_tokens = ended.settled + ended.piece.count() - self.settled;
        }
        self.count()
    }

    /// Tokens so far.
    pub fn count(&self) -> usize {
        self.settled + self.open_tokens
    }

    /// An added token follows.
    fn end_part(&mut self) {
        self.end_piece();
        self.settled += 1;
        self.part = Part {
            begun: false,
            at_start: false,
        };
    }

    fn end_piece(&mut self) {
        if self.piece.count() > 0 {
            self.settled += self.piece.count();
            self.piece.clear();
        }
    }

    fn take(&mut self, model: &CharacterLevel, text: &str) {
        let vocabulary = model.vocabulary();
        for character in text.chars() {
            let mut part = self.part;
            part.push(model.spaces, character, |mark_before, character| {
                if mark_before {
                    self.character(&vocabulary, MARK, false);
                }
                self.character(&vocabulary, character, model.spaces.apart);
            });
            self.part = part;
        }
    }

    fn character(&mut self, vocabulary: &Vocabulary<'_>, character: char, apart: bool) {
        if apart && character == MARK {
            self.end_piece();
        }
        if is_token(vocabulary, character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                self.piece.push(vocabulary, byte);
            }
        } else {
            self.end_piece();
            self.settled += character.len_utf8();
        }
    }
}
