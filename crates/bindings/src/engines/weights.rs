//! scoring: the weights of the five parts.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use scoring::{Parts, Weights};

use crate::errors::{invalid, number, scoring as scoring_error};

/// Five weights, from a mapping by the names of the parts or a sequence in their order; without any, the router's own.
pub fn weights(py: Python<'_>, given: Option<&Bound<'_, PyAny>>) -> PyResult<Weights> {
    let Some(given) = given else {
        return Ok(Weights::default());
    };
    let rule = "must be five: price, quality, latency, availability, fairness";
    let mut five = [0.0; 5];
    if let Ok(by_name) = given.cast::<PyMapping>() {
        for (name, weight) in Parts::NAMES.into_iter().zip(&mut five) {
            let field = format!("weights.{name}");
            let found = by_name.get_item(name);
            let found =
                found.map_err(|_| invalid(py, &field, "is missing: all five are needed"))?;
            *weight = number(&field, &found)?;
        }
        if by_name.len()? != five.len() {
            return Err(invalid(py, "weights", rule));
        }
    } else {
        let listed = given.extract::<Vec<Bound<'_, PyAny>>>();
        let listed = listed.map_err(|_| invalid(py, "weights", rule))?;
        if listed.len() != five.len() {
            return Err(invalid(py, "weights", rule));
        }
        for ((name, weight), found) in Parts::NAMES.into_iter().zip(&mut five).zip(&listed) {
            *weight = number(&format!("weights.{name}"), found)?;
        }
    }
    Weights::new(five).map_err(|error| scoring_error(py, error))
}

/// Weights by the names of the parts.
pub fn by_name<'py>(py: Python<'py>, weights: &Weights) -> PyResult<Bound<'py, PyDict>> {
    let named = PyDict::new(py);
    for (name, weight) in Parts::NAMES.into_iter().zip(weights.in_order()) {
        named.set_item(name, weight)?;
    }
    Ok(named)
}
