//! The only place where an engine's error becomes a Python exception. The tree itself lives in `yggdrasil.errors`.

use std::panic::{catch_unwind, AssertUnwindSafe};

use heidrun::MoneyError;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::PyTypeInfo;

mod tree {
    pyo3::import_exception!(yggdrasil.errors, InvalidInput);
    pyo3::import_exception!(yggdrasil.errors, MoneyOverflow);
    pyo3::import_exception!(yggdrasil.errors, YggdrasilError);
}

/// `InvalidInput` with the field and the rule it breaks.
pub fn invalid(py: Python<'_>, field: &str, rule: &str) -> PyErr {
    with_field::<tree::InvalidInput>(py, field, rule)
}

/// `InvalidInput` with the column, the rule and the first row that breaks it.
pub fn invalid_row(py: Python<'_>, field: &str, rule: &str, row: Option<usize>) -> PyErr {
    match row {
        Some(row) => invalid(py, field, &format!("{rule} (row {row})")),
        None => invalid(py, field, rule),
    }
}

/// An error of the pricing functions.
pub fn money(py: Python<'_>, error: MoneyError) -> PyErr {
    match error {
        MoneyError::Invalid { field, rule } => invalid(py, field, rule),
        MoneyError::Overflow => {
            with_field::<tree::MoneyOverflow>(py, "total_microcents", "does not fit in 64 bits")
        }
    }
}

/// An error of the pricing functions in one row of columns.
pub fn money_row(py: Python<'_>, error: MoneyError, row: usize) -> PyErr {
    match error {
        MoneyError::Invalid { field, rule } => invalid(py, &format!("{field}[{row}]"), rule),
        MoneyError::Overflow => with_field::<tree::MoneyOverflow>(
            py,
            &format!("total_microcents[{row}]"),
            "does not fit in 64 bits",
        ),
    }
}

/// An error of the router and the score.
pub fn scoring(py: Python<'_>, error: scoring::Invalid) -> PyErr {
    invalid(py, error.field, error.rule)
}

/// An error of the aggregates.
pub fn quality(py: Python<'_>, error: eikthyrnir::Invalid) -> PyErr {
    invalid(py, error.field, error.rule)
}

fn with_field<E: PyTypeInfo>(py: Python<'_>, field: &str, rule: &str) -> PyErr {
    let keywords = PyDict::new(py);
    let made = keywords
        .set_item("field", field)
        .and_then(|()| E::type_object(py).call((format!("{field} {rule}"),), Some(&keywords)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Runs an engine's call; a panic in it is our bug and becomes an exception that a handler for errors sees. (The binding library's own
/// `PanicException` is no `Exception` and would pass through every handler.)
pub fn caught<T>(call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(tree::YggdrasilError::new_err(
            "an engine failed; this is a bug",
        ))
    })
}

/// A Python integer of any size as `T`, or `InvalidInput`.
pub fn integer<'py, T>(field: &str, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract::<T>().map_err(|error| {
        let py = value.py();
        if error.is_instance_of::<PyOverflowError>(py) {
            invalid(py, field, "is out of range")
        } else {
            PyTypeError::new_err(format!("{field} must be an int"))
        }
    })
}

/// The same, or `default` for what was not given.
pub fn integer_or<'py, T>(field: &str, value: Option<&Bound<'py, PyAny>>, default: T) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.map_or(Ok(default), |value| integer(field, value))
}

/// A Python number as `f64`, or `InvalidInput`.
pub fn number(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract::<f64>().map_err(|error| {
        let py = value.py();
        if error.is_instance_of::<PyOverflowError>(py) {
            invalid(py, field, "is out of range")
        } else {
            PyTypeError::new_err(format!("{field} must be a number"))
        }
    })
}

/// A Python string as UTF-8; one with lone surrogates is no text.
pub fn text<'a>(field: &str, value: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    value
        .to_str()
        .map_err(|_| invalid(value.py(), field, "must be valid Unicode text"))
}

/// An id of 16 bytes.
pub fn key(py: Python<'_>, field: &str, value: &[u8]) -> PyResult<[u8; 16]> {
    value
        .try_into()
        .map_err(|_| invalid(py, field, "must be 16 bytes"))
}
