//! Counting tokens: of a whole text, up to a limit, and of a text that grows.

use std::sync::Arc;

use crate::count::PieceCounter;
use crate::encoding::Encoding;
use crate::growing::Growing;
use crate::registered::{CharacterCounter, Registered, WordPieceCounter};

/// What text is counted with.
#[derive(Clone)]
pub enum Tokenizer {
    /// A vocabulary that is part of the program.
    Embedded(Encoding),
    /// One that was registered.
    Registered(Arc<Registered>),
}

impl From<Encoding> for Tokenizer {
    fn from(encoding: Encoding) -> Self {
        Self::Embedded(encoding)
    }
}

impl Tokenizer {
    /// The number of tokens of `text`. With an embedded vocabulary, special tokens are ordinary text (as `tiktoken`'s
    /// `encode_ordinary`); with a registered one, its added tokens are found (as `encode` of `tokenizers`).
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.count_until(text, usize::MAX).unwrap_or(usize::MAX)
    }

    /// The number of tokens of `text` if it is at most `limit`, else `None`, read only as far as needed to know.
    #[must_use]
    pub fn count_until(&self, text: &str, limit: usize) -> Option<usize> {
        match self {
            Self::Embedded(encoding) => count_until(*encoding, text, limit),
            Self::Registered(registered) => match &**registered {
                Registered::ByteLevel(model) => model.count_until(text, limit),
                Registered::CharacterLevel(model) => model.count_until(text, limit),
                Registered::WordPiece(model) => model.count_until(text, limit),
            },
        }
    }
}

/// As [`Tokenizer::count`], with an embedded vocabulary.
#[must_use]
pub fn count(encoding: Encoding, text: &str) -> usize {
    count_until(encoding, text, usize::MAX).unwrap_or(usize::MAX)
}

/// As [`Tokenizer::count_until`], with an embedded vocabulary.
#[must_use]
pub fn count_until(encoding: Encoding, text: &str, limit: usize) -> Option<usize> {
    // Each with its rules known to the compiler.
    match encoding {
        Encoding::Cl100kBase => count_by(Encoding::Cl100kBase, text, limit),
        Encoding::O200kBase => count_by(Encoding::O200kBase, text, limit),
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // or the rules are looked up for each piece
fn count_by(encoding: Encoding, text: &str, limit: usize) -> Option<usize> {
    let mut counter = PieceCounter::new(encoding.vocabulary(), text.len());
    let all = counter.take_all(encoding.rules(), text, limit);
    let tokens = all.then(|| counter.finish(text.as_bytes()));
    tokens.filter(|&tokens| tokens <= limit)
}

/// The number of tokens of a text that arrives in parts, exact after each.
///
/// A part costs time in proportion to its own length, whatever the length of the text: what is settled is not kept.
#[derive(Clone)]
pub struct Counter {
    tokenizer: Tokenizer,
    text: Text,
}

#[derive(Clone)]
enum Text {
    Pieces(Growing),
    Characters(CharacterCounter),
    Words(WordPieceCounter),
}

impl Counter {
    /// A counter of the empty text.
    #[must_use]
    pub fn new(tokenizer: impl Into<Tokenizer>) -> Self {
        let tokenizer = tokenizer.into();
        let text = match &tokenizer {
            Tokenizer::Embedded(_) => Text::Pieces(Growing::default()),
            Tokenizer::Registered(registered) => match &**registered {
                Registered::ByteLevel(_) => Text::Pieces(Growing::default()),
                Registered::CharacterLevel(_) => Text::Characters(CharacterCounter::default()),
                Registered::WordPiece(_) => Text::Words(WordPieceCounter::default()),
            },
        };
        Self { tokenizer, text }
    }

    /// Appends `delta` and returns the number of tokens of the whole text so far.
    pub fn push(&mut self, delta: &str) -> usize {
        if delta.is_empty() {
            return self.count();
        }
        match (&mut self.text, &self.tokenizer) {
            (Text::Pieces(text), Tokenizer::Embedded(encoding)) => {
                text.push(encoding.vocabulary(), encoding.rules(), delta);
            }
            (text, Tokenizer::Registered(of)) => match (text, &**of) {
                (Text::Pieces(text), Registered::ByteLevel(model)) => text.push_to(model, delta),
                (Text::Characters(text), Registered::CharacterLevel(model)) => {
                    text.push(model, delta);
                }
                (Text::Words(text), Registered::WordPiece(model)) => {
                    text.push(model, delta);
                }
                _ => {}
            },
            (_, Tokenizer::Embedded(_)) => {}
        }
        self.count()
    }

    /// The number of tokens of the whole text so far.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.text {
            Text::Pieces(text) => text.count(),
            Text::Characters(text) => text.count(),
            Text::Words(text) => text.count(),
        }
    }

    /// What it counts with.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
