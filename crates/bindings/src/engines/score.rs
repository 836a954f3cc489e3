//! scoring: the score, and the decision of the router.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use scoring::{Columns, Inputs, References};

use crate::errors::{caught, scoring as scoring_error};

#[pyfunction]
#[pyo3(signature = (
    price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms, work_reference
))]
// The five parts and their references are what a score is of; Python names each.
#[allow(clippy::too_many_arguments)]
fn score(
    py: Python<'_>,
    price: f64,
    quality: f64,
    latency_ms: f64,
    availability: f64,
    work: f64,
    price_reference: f64,
    latency_reference_ms: f64,
    work_reference: f64,
) -> PyResult<f64> {
    let inputs = Inputs {
        price,
        quality,
        latency_ms,
        availability,
        work,
    };
    let references = References {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
    };
    scoring::score(&inputs, &references).map_err(|error| scoring_error(py, error))
}

/// The scores of five sequences of numbers of equal length, a list; without a table's columns and missing values.
/// `InvalidInput` names column and row.
#[pyfunction]
#[pyo3(signature = (
    price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms, work_reference
))]
// Columns arrive as owned vectors; that is the conversion.
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
fn score_columns(
    py: Python<'_>,
    price: Vec<f64>,
    quality: Vec<f64>,
    latency_ms: Vec<f64>,
    availability: Vec<f64>,
    work: Vec<f64>,
    price_reference: f64,
    latency_reference_ms: f64,
    work_reference: f64,
) -> PyResult<Vec<f64>> {
    let columns = Columns {
        price: &price,
        quality: &quality,
        latency_ms: &latency_ms,
        availability: &availability,
        work: &work,
    };
    let references = References {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
    };
    scoring::score_columns(&columns, &references).map_err(|error| scoring_error(py, error))
}

/// What was picked, from what, and why.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Decision(pub(super) scoring::Decision);

#[pymethods]
impl Decision {
    /// The offer picked, or None if none passed the gates.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.key))
    }

    /// The device of the offer picked.
    #[getter]
    fn group<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.group))
    }

    /// The network of the offer picked.
    #[getter]
    fn owner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.owner))
    }

    /// Whether chance picked it.
    #[getter]
    fn explored(&self) -> bool {
        self.0.pick.is_some_and(|pick| pick.explored)
    }

    /// The probability of this pick, or None.
    #[getter]
    fn propensity(&self) -> Option<f64> {
        self.0.pick.map(|pick| pick.propensity)
    }

    /// How many offers passed the gates.
    #[getter]
    fn feasible(&self) -> u64 {
        self.0.feasible
    }

    /// Offers that the requester may know of, by the first gate each failed, in the order of the gates.
    #[getter]
    fn gates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let gates = PyDict::new(py);
        for (name, failed) in self.0.gates.named() {
            gates.set_item(name, failed)?;
        }
        Ok(gates)
    }

    /// The card as one JSON object: `chosen`, `explored`, `propensity`, `feasible`, `gates`, `candidates` (at most 17,
    /// best first, each with `key`, `score`, `band`, the five parts and `chosen`), `weights`, `effective_weights` (how
    /// much each part decided, adding up to 1: its weight times the sum of its distances between the winner and the
    /// other candidates, over the same of all five), `now_ms`, `epoch_ms`, `seed`. The keys are the router's own: put
    /// pseudonyms in their place before a requester sees them.
    fn card<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        caught(|| Ok(PyBytes::new(py, self.0.to_json().as_bytes())))
    }

    /// The card as a table for a notebook.
    fn _repr_html_(&self) -> PyResult<String> {
        caught(|| Ok(scoring::card_html(&self.0)))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Decision>()?;
    module.add_function(wrap_pyfunction!(score, module)?)?;
    module.add_function(wrap_pyfunction!(score_columns, module)?)
}
