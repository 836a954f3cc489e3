//! What becomes of spaces before text is encoded by characters: the mark `▁` stands for each, and one may stand before all.

use serde_json::{json, Value};

use super::byte_level::unsupported;
use super::file::{type_of, File};
use super::FileError;

/// The mark.
pub const MARK: char = '▁';

/// What is put before a part of the text: all of it, or what stands between two added tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A mark.
    Mark,
    /// A mark, if there is none.
    MarkIfNone,
    /// The same, and only before the part that begins the text.
    MarkIfNoneAtStart,
}

/// What becomes of spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spaces {
    /// What is put before.
    pub before: Before,
    /// Each space becomes a mark.
    pub marked: bool,
    /// A piece begins at each mark; else all is one.
    pub apart: bool,
}

impl Spaces {
    /// What normalizer and pre-tokenizer of a file say.
    ///
    /// # Errors
    /// [`FileError`] with the part that says anything else.
    pub fn of(file: &File) -> Result<Self, FileError> {
        let mut spaces = Self {
            before: Before::Nothing,
            marked: false,
            apart: false,
        };
        if let Some(normalizer) = &file.normalizer {
            spaces.normalize(normalizer)?;
        }
        match &file.pre_tokenizer {
            None => {}
            Some(value) if type_of(value) == "Metaspace" => {
                if file.normalizer.is_some() {
                    return Err(FileError::new(
                        "pre_tokenizer.type",
                        "is Metaspace, which is not supported beside a normalizer",
                    ));
                }
                spaces = metaspace(value)?;
            }
            // As Gemma has it: where each space is a mark there is nothing left to split at.
            Some(value)
                if spaces.marked
                    && type_of(value) == "Split"
                    && value["pattern"] == json!({"String": " "})
                    && value["invert"] == json!(false) => {}
            Some(value) => return Err(unsupported("pre_tokenizer", value)),
        }
        Ok(spaces)
    }

    fn normalize(&mut self, normalizer: &Value) -> Result<(), FileError> {
        let one = std::slice::from_ref(normalizer);
        let (steps, field) = match normalizer["normalizers"].as_array() {
            Some(steps) if type_of(normalizer) == "Sequence" => {
                (steps.as_slice(), "normalizer.normalizers")
            }
            _ => (one, "normalizer"),
        };
        for (place, step) in steps.iter().enumerate() {
            if *step == json!({"type": "Prepend", "prepend": "▁"}) && self.before == Before::Nothing
            {
                self.before = Before::Mark;
            } else if *step
                == json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
            {
                self.marked = true;
            } else {
                let at = format!("{field}[{place}]");
                let field = if steps.len() == 1 { field } else { &at };
                return Err(unsupported(field, step));
            }
        }
        Ok(())
    }
}

fn metaspace(value: &Value) -> Result<Spaces, FileError> {
    let refused = |name: &str| {
        let field = format!("pre_tokenizer.{name}");
        Err(FileError::new(field, "is not supported as it is here"))
    };
    if value["replacement"] != json!("▁") {
        return refused("replacement");
    }
    // Older files say `add_prefix_space`.
    let before = match (&value["prepend_scheme"], &value["add_prefix_space"]) {
        (Value::String(scheme), Value::Null) => match scheme.as_str() {
            "always" => Before::MarkIfNone,
            "first" => Before::MarkIfNoneAtStart,
            "never" => Before::Nothing,
            _ => return refused("prepend_scheme"),
        },
        (Value::String(scheme), Value::Bool(true)) if scheme == "always" => Before::MarkIfNone,
        (Value::String(scheme), Value::Bool(true)) if scheme == "first" => {
            Before::MarkIfNoneAtStart
        }
        (Value::String(scheme), Value::Bool(false)) if scheme == "never" => Before::Nothing,
        (Value::Null, Value::Bool(true) | Value::Null) => Before::MarkIfNone,
        _ => return refused("prepend_scheme"),
    };
    let apart = match &value["split"] {
        Value::Bool(apart) => *apart,
        Value::Null => true,
        _ => return refused("split"),
    };
    Ok(Spaces {
        before,
        marked: true,
        apart,
    })
}
