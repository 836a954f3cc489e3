//! scoring: the best rows of a table.

use arrow_array::{ArrayRef, Float64Array, UInt64Array};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_arrow::PyArray;
use scoring::Ranked;

use super::columns::Kind;

/// The best rows of a table, best first, each with its score and the five parts of it.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Ranking {
    pub best: Vec<Ranked>,
    pub kind: Kind,
}

#[pymethods]
impl Ranking {
    fn __len__(&self) -> usize {
        self.best.len()
    }

    /// The rows' numbers in the table, in its kind.
    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.best.iter().map(|best| best.row);
        match self.kind {
            Kind::Numpy => {
                let rows: Vec<i64> = rows
                    .map(|row| i64::try_from(row).unwrap_or(i64::MAX))
                    .collect();
                Ok(PyArray1::from_vec(py, rows).into_any())
            }
            Kind::Arrow => {
                let rows: ArrayRef = std::sync::Arc::new(UInt64Array::from_iter_values(rows));
                Ok(PyArray::from_array_ref(rows).into_pyobject(py)?.into_any())
            }
            Kind::List => Ok(rows.collect::<Vec<_>>().into_pyobject(py)?.into_any()),
        }
    }

    /// Their scores, in its kind.
    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let scores: Vec<f64> = self.best.iter().map(|best| best.score).collect();
        match self.kind {
            Kind::Numpy => Ok(PyArray1::from_vec(py, scores).into_any()),
            Kind::Arrow => {
                let scores: ArrayRef = std::sync::Arc::new(Float64Array::from(scores));
                Ok(PyArray::from_array_ref(scores)
                    .into_pyobject(py)?
                    .into_any())
            }
            Kind::List => Ok(scores.into_pyobject(py)?.into_any()),
        }
    }

    /// For each row, the five parts by name, before they are weighed.
    #[getter]
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.best
            .iter()
            .map(|best| {
                let parts = PyDict::new(py);
                for (name, part) in best.parts.named() {
                    parts.set_item(name, part)?;
                }
                Ok(parts)
            })
            .collect()
    }

    fn _repr_html_(&self) -> String {
        scoring::ranking_html(&self.best)
    }
}
