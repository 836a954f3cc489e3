//! heidrun: counts and money.

use std::sync::{LazyLock, Mutex, PoisonError};

use heidrun::{Registry, Rounding};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyList, PyString};

use crate::errors::{caught, integer, invalid, money, text};

/// The models that were registered in this process.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);
/// The most texts of one call.
const TEXTS_MAX: usize = 1_000_000;

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

/// The most that a request of `tokens_max` can cost, the amount to hold; as `settle`.
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

/// What `tokens` cost at whole `price_cents` per `unit_tokens`, and who gets which part, in micro-cents.
///
/// `total = ⌈tokens × price_cents / unit_tokens⌉` cents, or with `rounding="per_statement"` so many micro-cents rounded
/// up, for a statement's line to round; `fee = ⌊total × fee_basis_points / 10,000⌋`; `earnings = total − fee`.
/// `InvalidInput` names what is negative, a unit other than 1,000 or 1,000,000, a fee outside 1,000 to 1,500 basis
/// points; `MoneyOverflow`: the total does not fit in 64 bits.
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

/// The most tokens whose total is within `budget_microcents`; 2⁶³ − 1 if they are free. `InvalidInput` as `settle`.
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

/// (name, fallback): what `model` is counted with. `fallback` is true for a model that is neither registered nor known:
/// it is counted with `o200k_base`, and the count is an estimate.
#[pyfunction]
fn encoding_for(model: &Bound<'_, PyString>) -> PyResult<(String, bool)> {
    let choice = REGISTRY.choice(text("model", model)?);
    Ok((choice.name, choice.fallback))
}

/// Count `model` by the bytes of its tokenizer.json from now on, in this process, as the library `tokenizers` does with
/// `encode(text, add_special_tokens=False)`, without truncation and padding.
///
/// BPE over bytes with the patterns of GPT-2, Llama 3, Qwen, GPT-4o, Mistral Nemo and `DeepSeek` V3; BPE over
/// characters with bytes as the fallback (Llama 2, Mistral, Gemma); `WordPiece` of BERT. `InvalidInput` names the place
/// of anything else; at most 64 MiB a file and 256 models.
#[pyfunction]
#[pyo3(name = "register")]
fn register_model(
    py: Python<'_>,
    model: &Bound<'_, PyString>,
    tokenizer_json: &[u8],
) -> PyResult<()> {
    let model = text("model", model)?;
    caught(|| {
        py.detach(|| REGISTRY.register(model, tokenizer_json))
            .map_err(|error| invalid(py, &error.field, &error.rule))
    })
}

/// Tokens of `text`, as `tiktoken` counts them with `encode_ordinary`: special tokens are plain text. `model` is a
/// model's name or a vocabulary's (`o200k_base`, `cl100k_base`). `InvalidInput`: lone surrogates.
#[pyfunction]
#[pyo3(name = "count")]
fn count_tokens(
    py: Python<'_>,
    model: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
) -> PyResult<usize> {
    let tokenizer = REGISTRY.tokenizer(crate::errors::text("model", model)?);
    let text = crate::errors::text("text", text)?;
    caught(|| Ok(spaciously(py, text, |text| tokenizer.count(text))))
}

/// The strings of a sequence, at most [`TEXTS_MAX`].
fn strings(field: &str, values: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
    let py = values.py();
    if values.is_instance_of::<PyString>() {
        return Err(invalid(py, field, "must be a sequence of str, not one str"));
    }
    let mut strings = Vec::new();
    for (row, value) in values.try_iter()?.enumerate() {
        if row == TEXTS_MAX {
            return Err(invalid(py, field, "must be at most 1000000"));
        }
        let value = value?;
        let Ok(string) = value.cast::<PyString>() else {
            return Err(invalid(py, &format!("{field}[{row}]"), "must be a str"));
        };
        // Here rather than below, so that the error names the row.
        text(&format!("{field}[{row}]"), string)?;
        strings.push(PyBackedStr::try_from(string.clone())?);
    }
    Ok(strings)
}

/// Tokens of each text, as `count`; at most 1,000,000 texts. An error names the row, as in `texts[17]`.
#[pyfunction]
fn count_many<'py>(
    py: Python<'py>,
    model: &Bound<'py, PyString>,
    texts: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let tokenizer = REGISTRY.tokenizer(text("model", model)?);
    let texts = strings("texts", texts)?;
    let counts = caught(|| {
        Ok(py.detach(|| {
            texts
                .iter()
                .map(|text| tokenizer.count(text))
                .collect::<Vec<usize>>()
        }))
    })?;
    PyList::new(py, counts)
}

/// Tokens of `text`, or None as soon as they are more than `limit`.
#[pyfunction]
fn count_until(
    py: Python<'_>,
    model: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
    limit: &Bound<'_, PyAny>,
) -> PyResult<Option<usize>> {
    let tokenizer = REGISTRY.tokenizer(crate::errors::text("model", model)?);
    let text = crate::errors::text("text", text)?;
    let limit = integer("limit", limit)?;
    caught(|| {
        Ok(spaciously(py, text, |text| {
            tokenizer.count_until(text, limit)
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

/// Tokens of a text that arrives in parts, exact after each: what a part costs grows with the part, not with the text.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Counter {
    counter: Mutex<heidrun::Counter>,
    encoding: String,
}

impl Counter {
    fn with<T>(&self, work: impl FnOnce(&mut heidrun::Counter) -> T) -> T {
        work(&mut self.counter.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Counter {
    #[new]
    fn new(model: &Bound<'_, PyString>) -> PyResult<Self> {
        let choice = REGISTRY.choice(text("model", model)?);
        Ok(Self {
            counter: Mutex::new(heidrun::Counter::new(choice.tokenizer)),
            encoding: choice.name,
        })
    }

    /// Appends `delta`; tokens of the whole text so far.
    fn push(&self, py: Python<'_>, delta: &Bound<'_, PyString>) -> PyResult<usize> {
        let delta = text("delta", delta)?;
        caught(|| {
            Ok(spaciously(py, delta, |delta| {
                self.with(|counter| counter.push(delta))
            }))
        })
    }

    /// Appends several parts, at most 1,000,000; tokens of the whole text after the last.
    fn push_many(&self, py: Python<'_>, deltas: &Bound<'_, PyAny>) -> PyResult<usize> {
        let deltas = strings("deltas", deltas)?;
        caught(|| {
            Ok(py.detach(|| {
                self.with(|counter| {
                    // As one: what the parts have in common is looked at once.
                    counter.push(
                        &deltas
                            .iter()
                            .map(AsRef::as_ref)
                            .collect::<Vec<&str>>()
                            .concat(),
                    )
                })
            }))
        })
    }

    /// Tokens of the whole text so far.
    #[getter]
    fn count(&self) -> usize {
        self.with(|counter| counter.count())
    }

    /// The name of the vocabulary, or the model's own if it is registered.
    #[getter]
    fn encoding(&self) -> &str {
        &self.encoding
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
    module.add_function(wrap_pyfunction!(register_model, module)?)?;
    module.add_function(wrap_pyfunction!(count_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(count_many, module)?)?;
    module.add_function(wrap_pyfunction!(count_until, module)?)
}
