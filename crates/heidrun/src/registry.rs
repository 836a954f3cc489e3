//! Which tokenizer a model's name stands for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::encoding::encoding_for;
use crate::registered::{FileError, Registered};
use crate::tokens::Tokenizer;

/// The most models that can be registered; each takes some megabytes.
pub const MODELS_MAX: usize = 256;
/// The most bytes a model's name may have.
pub const MODEL_BYTES_MAX: usize = 255;

/// Registered models by name, in front of the table of `encoding_for`.
#[derive(Default)]
pub struct Registry(RwLock<HashMap<String, Arc<Registered>>>);

/// What a model is counted with.
pub struct Choice {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Its name: the model's own if it is registered, else the vocabulary's.
    pub name: String,
    /// True if the model is unknown, so that the count is an estimate.
    pub fallback: bool,
}

impl Registry {
    /// Gives `model` the tokenizer of a `tokenizer.json`, in place of any that it has.
    ///
    /// # Errors
    /// [`FileError`]: of the file as [`Registered::parse`] says, or `model` if the name is empty or too long, or if there
    /// are too many. Nothing is changed then.
    pub fn register(&self, model: &str, json: &[u8]) -> Result<(), FileError> {
        if model.is_empty() || model.len() > MODEL_BYTES_MAX {
            return Err(FileError::new("model", "must be 1 to 255 bytes"));
        }
        let registered = Arc::new(Registered::parse(json)?);
        let mut models = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MODELS_MAX && !models.contains_key(model) {
            return Err(FileError::new(
                "model",
                "cannot be registered: there are 256 already",
            ));
        }
        models.insert(model.to_owned(), registered);
        Ok(())
    }

    /// The tokenizer of `model`.
    #[must_use]
    pub fn tokenizer(&self, model: &str) -> Tokenizer {
        self.registered(model).map_or_else(
            || encoding_for(model).encoding.into(),
            Tokenizer::Registered,
        )
    }

    /// The tokenizer of `model`, its name, and whether it is a guess.
    #[must_use]
    pub fn choice(&self, model: &str) -> Choice {
        if let Some(registered) = self.registered(model) {
            return Choice {
                tokenizer: Tokenizer::Registered(registered),
                name: model.to_owned(),
                fallback: false,
            };
        }
        let choice = encoding_for(model);
        Choice {
            tokenizer: choice.encoding.into(),
            name: choice.encoding.name().to_owned(),
            fallback: choice.fallback,
        }
    }

    fn registered(&self, model: &str) -> Option<Arc<Registered>> {
        let models = self.0.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).cloned()
    }
}
