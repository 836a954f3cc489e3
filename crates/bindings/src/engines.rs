//! Conversions for heidrun, eikthyrnir and scoring.

mod quality;
mod router;
mod tokens;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    tokens::register(module)?;
    quality::register(module)?;
    router::register(module)
}
