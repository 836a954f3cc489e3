//! The fields of a control message, read one by one, so that an error can name the field and its rule.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::limits::{NAME_CHARS_MAX, OPAQUE_BYTES_MAX};

/// A message that is none: its sender is cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAMessage;

/// A field that breaks a rule: its sender is told.
pub(crate) type FieldError = String;

pub(crate) struct Fields<'a> {
    kind: String,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, NotAMessage> {
        let fields: BTreeMap<String, &'a RawValue> =
            serde_json::from_str(text).map_err(|_| NotAMessage)?;
        let kind = fields.get("type").ok_or(NotAMessage)?;
        let kind = serde_json::from_str(kind.get()).map_err(|_| NotAMessage)?;
        Ok(Self { kind, fields })
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    fn get(&self, field: &str) -> Result<&'a RawValue, FieldError> {
        self.fields
            .get(field)
            .copied()
            .ok_or_else(|| format!("{field}: is missing"))
    }

    pub(crate) fn optional_number(&self, field: &str) -> Option<u32> {
        self.number(field, u32::MAX).ok()
    }

    pub(crate) fn number(&self, field: &str, max: u32) -> Result<u32, FieldError> {
        match serde_json::from_str(self.get(field)?.get()) {
            Ok(number) if number >= 1 && number <= max => Ok(number),
            _ => Err(format!("{field}: a whole number from 1 to {max}")),
        }
    }

    pub(crate) fn size(raw: &RawValue, field: &str) -> Result<u64, FieldError> {
        match serde_json::from_str(raw.get()) {
            Ok(size) if size <= 1 << 53 => Ok(size),
            _ => Err(format!("{field}: a whole number from 0 to 2^53")),
        }
    }

    pub(crate) fn text(
        &self,
        field: &str,
        chars_min: usize,
        chars_max: usize,
    ) -> Result<String, FieldError> {
        let rule = || format!("{field}: text of {chars_min} to {chars_max} characters");
        let text: String = serde_json::from_str(self.get(field)?.get()).map_err(|_| rule())?;
        let chars = text.chars().count();
        if chars < chars_min || chars > chars_max {
            Err(rule())
        } else {
            Ok(text)
        }
    }

    pub(crate) fn text_or(
        &self,
        field: &str,
        absent: &str,
        chars_max: usize,
    ) -> Result<String, FieldError> {
        if self.fields.contains_key(field) {
            self.text(field, 0, chars_max)
        } else {
            Ok(absent.to_owned())
        }
    }

    pub(crate) fn name(&self, field: &str) -> Result<String, FieldError> {
        self.text(field, 1, NAME_CHARS_MAX)
    }

    pub(crate) fn device(&self, field: &str) -> Result<String, FieldError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match self.name(field) {
            Ok(name) if name.chars().all(allowed) => Ok(name),
            _ => Err(format!(
                "{field}: 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -"
            )),
        }
    }

    pub(crate) fn flag(&self, field: &str) -> Result<bool, FieldError> {
        serde_json::from_str(self.get(field)?.get()).map_err(|_| format!("{field}: true or false"))
    }

    /// A JSON object carried as it is. It is read through once: a number out of range, a lone surrogate or deep nesting
    /// would make the receiving device blame the server.
    pub(crate) fn opaque(&self, field: &str) -> Result<Box<RawValue>, FieldError> {
        let rule = || {
            format!("{field}: a JSON object of at most {OPAQUE_BYTES_MAX} bytes, nested at most 100 deep")
        };
        let Some(raw) = self.fields.get(field) else {
            return RawValue::from_string("{}".to_owned()).map_err(|_| rule());
        };
        if raw.get().len() > OPAQUE_BYTES_MAX {
            return Err(rule());
        }
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(raw.get())
            .map_err(|_| rule())?;
        Ok((*raw).to_owned())
    }

    /// Prompt and completion tokens.
    pub(crate) fn usage(&self, field: &str) -> Result<(u64, u64), FieldError> {
        let rule = |_| format!("{field}: an object with prompt_tokens and completion_tokens");
        let inner: BTreeMap<String, &RawValue> =
            serde_json::from_str(self.get(field)?.get()).map_err(rule)?;
        let prompt = inner
            .get("prompt_tokens")
            .ok_or_else(|| format!("{field}.prompt_tokens: is missing"))?;
        let prompt = Self::size(prompt, "usage.prompt_tokens")?;
        let completion = match inner.get("completion_tokens") {
            Some(raw) => Self::size(raw, "usage.completion_tokens")?,
            None => 0,
        };
        Ok((prompt, completion))
    }
}
