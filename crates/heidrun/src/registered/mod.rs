//! Tokenizers that are registered at run time from the `tokenizer.json` files models are published with.
//!
//! A count is what the library `tokenizers` 0.23 gives for `encode(text, add_special_tokens=False)` without truncation and
//! padding. A file that asks for anything not implemented here is refused by the name of what it asks for.

mod added;
mod byte_level;
mod characters;
mod file;
mod merging;
mod normal;
mod spaces;
mod word_piece;

use std::fmt;

pub use added::Added;
pub use byte_level::ByteLevel;
pub use characters::{CharacterCounter, CharacterLevel};
pub use normal::{is_nfc, last_start, nfc, starts_anew};
pub use word_piece::{WordPiece, WordPieceCounter};

/// The most bytes a `tokenizer.json` may have.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Why a file was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The place in the file, such as `model.type`.
    pub field: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl FileError {
    pub(crate) fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

impl std::error::Error for FileError {}

/// A registered tokenizer.
pub enum Registered {
    /// Byte-pair encoding over bytes.
    ByteLevel(ByteLevel),
    /// Byte-pair encoding over characters.
    CharacterLevel(CharacterLevel),
    /// BERT's words and their parts.
    WordPiece(WordPiece),
}

impl Registered {
    /// The tokenizer of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`FileError`] with the place in the file: it is no JSON of that shape, is too large, or asks for what is not
    /// implemented here.
    pub fn parse(json: &[u8]) -> Result<Self, FileError> {
        let file = file::read(json)?;
        match file.model.kind.as_str() {
            // Which of the two shows where the bytes are: in the pre-tokenizer, or among the tokens.
            "BPE" if file.model.byte_fallback => {
                CharacterLevel::build(file).map(Self::CharacterLevel)
            }
            "BPE" => ByteLevel::build(file).map(Self::ByteLevel),
            "WordPiece" => WordPiece::build(file).map(Self::WordPiece),
            other => Err(FileError::new(
                "model.type",
                format!("is {other}; only BPE and WordPiece are supported"),
            )),
        }
    }
}
