//! The shape of a `tokenizer.json`, as far as it bears on counts.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::Value;

use super::{FileError, FILE_BYTES_MAX};

/// The file. Truncation, padding and what is added around a text are the caller's business: they change no count here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // named so that unknown fields can be refused
pub struct File {
    version: Option<IgnoredAny>,
    truncation: Option<IgnoredAny>,
    padding: Option<IgnoredAny>,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    post_processor: Option<IgnoredAny>,
    decoder: Option<IgnoredAny>,
    pub model: Model,
}

/// A token that is found in the text before all else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, clippy::struct_excessive_bools)] // likewise; the file has them
pub struct AddedToken {
    id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    special: bool,
}

/// The model, of either kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    #[serde(rename = "type")]
    pub kind: String,
    pub vocab: HashMap<String, u32>,
    pub merges: Option<Vec<Merge>>,
    pub unk_token: Option<String>,
    pub dropout: Option<f64>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    /// Of no effect: where every byte is a token, nothing is unknown.
    #[serde(rename = "fuse_unk")]
    _fuse_unk: Option<bool>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    pub max_input_chars_per_word: Option<usize>,
}

impl Model {
    /// Refuses what no byte-pair encoding here knows.
    ///
    /// # Errors
    /// [`FileError`] with the first field that asks for it.
    pub fn refuse_variants(&self) -> Result<(), FileError> {
        let is_some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        for (field, given) in [
            (
                "model.dropout",
                self.dropout.is_some_and(|rate| rate != 0.0),
            ),
            (
                "model.continuing_subword_prefix",
                is_some(&self.continuing_subword_prefix),
            ),
            (
                "model.end_of_word_suffix",
                is_some(&self.end_of_word_suffix),
            ),
        ] {
            if given {
                return Err(FileError::new(field, "is not supported"));
            }
        }
        Ok(())
    }
}

/// A merge in the older and in the newer notation.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Merge {
    /// `"a b"`
    Joined(String),
    /// `["a", "b"]`
    Pair(String, String),
}

impl Merge {
    /// The two that are merged.
    pub fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Joined(text) => text.split_once(' '),
            Self::Pair(left, right) => Some((left, right)),
        }
    }
}

#[derive(Deserialize)]
struct Kind {
    model: Option<ModelKind>,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads the file.
pub fn read(json: &[u8]) -> Result<File, FileError> {
    if json.len() > FILE_BYTES_MAX {
        return Err(FileError::new("tokenizer_json", "must be at most 64 MiB"));
    }
    let shape = |error: serde_json::Error| {
        FileError::new("tokenizer_json", format!("is no tokenizer file: {error}"))
    };
    // The kind first: a model of another kind has another shape, and the error should say which.
    let kind: Kind = serde_json::from_slice(json).map_err(shape)?;
    match kind.model.and_then(|model| model.kind).as_deref() {
        Some("BPE" | "WordPiece") => serde_json::from_slice(json).map_err(shape),
        Some(other) => Err(FileError::new(
            "model.type",
            format!("is {other:?}; only BPE and WordPiece are supported"),
        )),
        None => Err(FileError::new("model.type", "is missing")),
    }
}

/// The only element of a `Sequence` of one, or the thing itself; None for null.
pub fn single(value: Option<Value>, list: &str) -> Option<Value> {
    let value = value?;
    match value.get(list).and_then(Value::as_array) {
        Some(elements) if value["type"] == "Sequence" && elements.len() == 1 => {
            elements.first().cloned()
        }
        _ => Some(value),
    }
}

/// The `type` of a part of the file, for an error.
pub fn type_of(value: &Value) -> &str {
    value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("(none)")
}
