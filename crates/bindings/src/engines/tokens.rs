//! heidrun: counts and money.

use std::sync::{Mutex, PoisonError};

use heidrun::Rounding;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::{caught, integer, money, text};

/// Below this a count takes less time than giving the interpreter away and taking it back.
const DETACH_BYTES_MIN: usize = 2_048;

/// The parts of one payment; `total_microcents == fee_microcents + earnings_microcents`.
#[pyclass(frozen, get_all, eq, hash, module = "yggdrasil._core")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settlement {
    tokens: i64,
    total_microcents: i64,
    fee_microcents: i64,
    earnings_microcents: i64,
}

#[pymethods]
impl Settlement {
    fn __repr__(&self) -> String {
        format!(
            "Settlement(tokens={}, total_microcents={}, fee_microcents={}, earnings_microcents={})",
            self.tokens, self.total_microcents, self.fee_microcents, self.earnings_microcents
        )
    }
}

impl From<heidrun::Settlement> for Settlement {
    fn from(parts: heidrun::Settlement) -> Self {
        Self {
            tokens: parts.tokens,
            total_microcents: parts.total_microcents,
            fee_microcents: parts.fee_microcents,
            earnings_microcents: parts.earnings_microcents,
        }
    }
}

#[pyfunction]
#[pyo3(signature = (tokens_max, price_cents, unit_tokens, fee_basis_points, rounding = "per_request"))]
fn quote(
    py: Python<'_>,
    tokens_max: &Bound<'_, PyAny>,
    price_cents: &Bound<'_, PyAny>,
    unit_tokens: &Bound<'_, PyAny>,
    fee_basis_points: &Bound<'_, PyAny>,
    rounding: &str,
) -> PyResult<Settlement> {
    let tokens_max = integer("tokens_max", tokens_max)?;
    let price_cents = integer("price_cents", price_cents)?;
    let unit_tokens = integer("unit_tokens", unit_tokens)?;
    let fee_basis_points = integer("fee_basis_points", fee_basis_points)?;
    caught(|| {
        Rounding::from_name(rounding)
            .and_then(|rounding| {
                heidrun::quote(
                    tokens_max,
                    price_cents,
                    unit_tokens,
                    fee_basis_points,
                    rounding,
                )
            })
            .map(Settlement::from)
            .map_err(|error| money(py, error))
    })
}

#[pyfunction]
#[pyo3(signature = (tokens, price_cents, unit_tokens, fee_basis_points, rounding = "per_request"))]
fn settle(
    py: Python<'_>,
    tokens: &Bound<'_, PyAny>,
    price_cents: &Bound<'_, PyAny>,
    unit_tokens: &Bound<'_, PyAny>,
    fee_basis_points: &Bound<'_, PyAny>,
    rounding: &str,
) -> PyResult<Settlement> {
    let tokens = integer("tokens", tokens)?;
    let price_cents = integer("price_cents", price_cents)?;
    let unit_tokens = integer("unit_tokens", unit_tokens)?;
    let fee_basis_points = integer("fee_basis_points", fee_basis_points)?;
    caught(|| {
        Rounding::from_name(rounding)
            .and_then(|rounding| {
                heidrun::settle(tokens, price_cents, unit_tokens, fee_basis_points, rounding)
            })
            .map(Settlement::from)
            .map_err(|error| money(py, error))
    })
}

#[pyfunction]
#[pyo3(signature = (budget_microcents, price_cents, unit_tokens, rounding = "per_request"))]
fn tokens_affordable(
    py: Python<'_>,
    budget_microcents: &Bound<'_, PyAny>,
    price_cents: &Bound<'_, PyAny>,
    unit_tokens: &Bound<'_, PyAny>,
    rounding: &str,
) -> PyResult<i64> {
    let budget_microcents = integer("budget_microcents", budget_microcents)?;
    let price_cents = integer("price_cents", price_cents)?;
    let unit_tokens = integer("unit_tokens", unit_tokens)?;
    caught(|| {
        Rounding::from_name(rounding)
            .and_then(|rounding| {
                heidrun::tokens_affordable(budget_microcents, price_cents, unit_tokens, rounding)
            })
            .map_err(|error| money(py, error))
    })
}

#[pyfunction]
fn encoding_for(model: &Bound<'_, PyString>) -> PyResult<(&'static str, bool)> {
    let choice = heidrun::encoding_for(text("model", model)?);
    Ok((choice.encoding.name(), choice.fallback))
}

#[pyfunction]
#[pyo3(name = "count")]
fn count_tokens(
    py: Python<'_>,
    model: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
) -> PyResult<usize> {
    let encoding = heidrun::encoding_for(crate::errors::text("model", model)?).encoding;
    let text = crate::errors::text("text", text)?;
    caught(|| Ok(spaciously(py, text, |text| heidrun::count(encoding, text))))
}

#[pyfunction]
fn count_until(
    py: Python<'_>,
    model: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
    limit: &Bound<'_, PyAny>,
) -> PyResult<Option<usize>> {
    let encoding = heidrun::encoding_for(crate::errors::text("model", model)?).encoding;
    let text = crate::errors::text("text", text)?;
    let limit = integer("limit", limit)?;
    caught(|| {
        Ok(spaciously(py, text, |text| {
            heidrun::count_until(encoding, text, limit)
        }))
    })
}

/// Calls `work` without the interpreter if the text is long.
fn spaciously<T: Send>(py: Python<'_>, text: &str, work: impl FnOnce(&str) -> T + Send) -> T {
    if text.len() < DETACH_BYTES_MIN {
        work(text)
    } else {
        py.detach(|| work(text))
    }
}

/// The number of tokens of a text that arrives in parts, exact after each.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Counter(Mutex<heidrun::Counter>);

#[pymethods]
impl Counter {
    #[new]
    fn new(model: &Bound<'_, PyString>) -> PyResult<Self> {
        let encoding = heidrun::encoding_for(text("model", model)?).encoding;
        Ok(Self(Mutex::new(heidrun::Counter::new(encoding))))
    }

    fn push(&self, py: Python<'_>, delta: &Bound<'_, PyString>) -> PyResult<usize> {
        let delta = text("delta", delta)?;
        caught(|| {
            Ok(spaciously(py, delta, |delta| {
                self.0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(delta)
            }))
        })
    }

    /// Tokens of the whole text so far.
    #[getter]
    fn count(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count()
    }

    /// The name of the vocabulary.
    #[getter]
    fn encoding(&self) -> &'static str {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .encoding()
            .name()
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FEE_BASIS_POINTS_MIN", heidrun::FEE_BASIS_POINTS_MIN)?;
    module.add("FEE_BASIS_POINTS_MAX", heidrun::FEE_BASIS_POINTS_MAX)?;
    module.add_class::<Settlement>()?;
    module.add_class::<Counter>()?;
    module.add_function(wrap_pyfunction!(quote, module)?)?;
    module.add_function(wrap_pyfunction!(settle, module)?)?;
    module.add_function(wrap_pyfunction!(tokens_affordable, module)?)?;
    module.add_function(wrap_pyfunction!(encoding_for, module)?)?;
    module.add_function(wrap_pyfunction!(count_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(count_until, module)?)
}
