//! Limits, and the error for what breaks one.

use std::error::Error;
use std::fmt;

/// The longest provider key, in bytes.
pub const PROVIDER_BYTES_MAX: usize = 64;

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

pub fn ensure(holds: bool, field: &'static str, rule: &'static str) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(Invalid { field, rule })
    }
}
