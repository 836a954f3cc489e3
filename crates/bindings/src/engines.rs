//! Conversions for heidrun, eikthyrnir and scoring.

mod columns;
mod estimates;
mod keys;
mod models;
mod quality;
mod ranking;
mod request;
mod router;
mod score;
mod settlements;
mod table;
mod tallies;
mod tokens;
mod weights;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    tokens::register(module)?;
    settlements::register(module)?;
    quality::register(module)?;
    estimates::register(module)?;
    score::register(module)?;
    table::register(module)?;
    router::register(module)
}
