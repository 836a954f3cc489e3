//! Limits, and the error for what breaks one.

use std::error::Error;
use std::fmt;

/// The longest model name, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;
/// The most keys in each list of a request.
pub const KEYS_MAX: usize = 1_024;

/// An argument breaks a rule; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The argument.
    pub field: &'static str,
    /// The rule.
    pub rule: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

impl Error for Invalid {}

/// A row of a column breaks a rule, or the columns do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRow {
    /// The column.
    pub field: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// The first row that breaks it, from 0; none if it is no single row's fault.
    pub row: Option<usize>,
}

impl From<Invalid> for InvalidRow {
    fn from(Invalid { field, rule }: Invalid) -> Self {
        Self {
            field,
            rule,
            row: None,
        }
    }
}

impl fmt::Display for InvalidRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)?;
        self.row.map_or(Ok(()), |row| write!(f, " (row {row})"))
    }
}

impl Error for InvalidRow {}

pub fn ensure(holds: bool, field: &'static str, rule: &'static str) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(Invalid { field, rule })
    }
}

/// A share: 0 to 1.
pub fn share(field: &'static str, value: f64) -> Result<(), Invalid> {
    ensure((0.0..=1.0).contains(&value), field, "must be from 0 to 1")
}

/// An amount: finite and at least 0.
pub fn amount(field: &'static str, value: f64) -> Result<(), Invalid> {
    ensure(
        value.is_finite() && value >= 0.0,
        field,
        "must be finite and at least 0",
    )
}

/// A reference point or a duration: finite and above 0.
pub fn above_zero(field: &'static str, value: f64) -> Result<(), Invalid> {
    ensure(
        value.is_finite() && value > 0.0,
        field,
        "must be finite and above 0",
    )
}

pub fn model(name: &str) -> Result<(), Invalid> {
    ensure(
        (1..=MODEL_BYTES_MAX).contains(&name.len()),
        "model",
        "must be 1 to 256 bytes long",
    )
}
