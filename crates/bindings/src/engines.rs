//! Conversions for heidrun, eikthyrnir and scoring.

mod quality;
mod router;
mod score;
mod settlements;
mod tokens;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    tokens::register(module)?;
    settlements::register(module)?;
    quality::register(module)?;
    score::register(module)?;
    router::register(module)
}
