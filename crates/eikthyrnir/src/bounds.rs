//! Limits, and the error for what breaks one.

use std::error::Error;
use std::fmt;

/// The longest provider key, in bytes.
pub const PROVIDER_BYTES_MAX: usize = 64;
/// The most providers that a registry can be set to keep.
pub const PROVIDERS_MAX: usize = 100_000_000;

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

/// A row of a column breaks a rule, or the columns do not fit together; nothing was changed.
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
