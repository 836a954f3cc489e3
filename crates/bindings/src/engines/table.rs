//! scoring: tables of providers, scored and ranked.

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use numpy::{get_array_module, PyArray1, PyArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyo3_arrow::input::AnyRecordBatch;
use pyo3_arrow::PyArray;
use scoring::{rank_rows, score_rows, Missing, References, Rows, COLUMNS, ROWS_MAX};

use super::columns::{arrow_column, column, is_arrow_array, numpy_array, of_package, Column, Kind};
use super::models::{Given, Models, MODEL};
use super::ranking::Ranking;
use crate::errors::{caught, invalid, invalid_row};

/// Rows that lie together: five columns, and which references each row has.
struct Batch<'py> {
    columns: [Column<'py>; 5],
    models: Option<Vec<u32>>,
}

/// A table with its references.
pub struct Table<'py> {
    batches: Vec<Batch<'py>>,
    references: Vec<References>,
    kind: Kind,
    missing: Missing,
}

impl<'py> Table<'py> {
    pub fn new(table: &Bound<'py, PyAny>, given: &Given<'_, 'py>) -> PyResult<Self> {
        let py = table.py();
        let missing = match given.missing {
            "error" => Missing::Error,
            "null" => Missing::Nan,
            _ => return Err(invalid(py, "missing", "must be error or null")),
        };
        let models = Models::new(py, given)?;
        let (batches, kind) = if is_arrow_table(table)? {
            (arrow_batches(table, &models, missing)?, Kind::Arrow)
        } else {
            let (batch, kind) = by_name(table, &models, missing)?;
            (vec![batch], kind)
        };
        let rows: usize = batches
            .iter()
            .map(|batch| batch.columns[0].values().len())
            .sum();
        if rows >= ROWS_MAX {
            return Err(invalid(py, "table", "must have fewer than 2^32 rows"));
        }
        Ok(Self {
            batches,
            references: models.references,
            kind,
            missing,
        })
    }

    fn len(&self) -> usize {
        self.batches
            .iter()
            .map(|batch| batch.columns[0].values().len())
            .sum()
    }

    fn rows(&self) -> Vec<Rows<'_>> {
        self.batches
            .iter()
            .map(|batch| Rows {
                columns: batch.columns.each_ref().map(Column::values),
                models: batch.models.as_deref(),
            })
            .collect()
    }

    fn score_into(&self, py: Python<'py>, scores: &mut [f64]) -> PyResult<()> {
        let rows = self.rows();
        let (references, missing) = (&self.references, self.missing);
        caught(|| {
            // Columns and scores are borrowed; Python may go on with anything else meanwhile.
            py.detach(|| score_rows(&rows, references, missing, scores))
                .map_err(|error| invalid_row(py, error.field, error.rule, error.row))
        })
    }

    /// The scores in the kind of the table, or in `out`.
    pub fn score(
        &self,
        py: Python<'py>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(out) = out {
            let rule =
                "must be a writable NumPy array of float64, in one piece and as long as the table";
            let refused = || invalid(py, "out", rule);
            let array = out.cast::<PyArray1<f64>>().map_err(|_| refused())?;
            let mut into = array.try_readwrite().map_err(|_| refused())?;
            let scores = into.as_slice_mut().map_err(|_| refused())?;
            if scores.len() != self.len() {
                return Err(refused());
            }
            self.score_into(py, scores)?;
            return Ok(out.clone());
        }
        match self.kind {
            Kind::Numpy => {
                // `NumPy` asks the system for large pages: so many small ones cost more than the scores.
                let array =
                    get_array_module(py)?.call_method1(intern!(py, "empty"), (self.len(),))?;
                let array = array.cast_into::<PyArray1<f64>>()?;
                self.score_into(py, array.readwrite().as_slice_mut()?)?;
                Ok(array.into_any())
            }
            Kind::Arrow => {
                let mut scores = vec![0.0; self.len()];
                self.score_into(py, &mut scores)?;
                let array: ArrayRef = std::sync::Arc::new(match self.missing {
                    Missing::Error => Float64Array::from(scores),
                    Missing::Nan => scores
                        .into_iter()
                        .map(|score| (!score.is_nan()).then_some(score))
                        .collect(),
                });
                Ok(PyArray::from_array_ref(array).into_pyobject(py)?.into_any())
            }
            Kind::List => {
                let mut scores = vec![0.0; self.len()];
                self.score_into(py, &mut scores)?;
                let scores = scores
                    .into_iter()
                    .map(|score| (!score.is_nan()).then_some(score));
                Ok(scores.collect::<Vec<_>>().into_pyobject(py)?.into_any())
            }
        }
    }

    pub fn rank(&self, py: Python<'py>, k: usize) -> PyResult<Ranking> {
        let rows = self.rows();
        let (references, missing) = (&self.references, self.missing);
        caught(|| {
            let best = py
                .detach(|| rank_rows(&rows, references, missing, k))
                .map_err(|error| invalid_row(py, error.field, error.rule, error.row))?;
            let best = scoring::ranked(&rows, references, &best);
            Ok(Ranking {
                best,
                kind: self.kind,
            })
        })
    }
}

/// pandas has the Arrow interface too, but only copies through it; its columns are those of `NumPy`.
fn is_arrow_table(table: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_arrow_array(table)? && !of_package(table, "pandas")?)
}

fn arrow_batches<'py>(
    table: &Bound<'py, PyAny>,
    models: &Models,
    missing: Missing,
) -> PyResult<Vec<Batch<'py>>> {
    let py = table.py();
    let reader = table
        .extract::<AnyRecordBatch>()
        .and_then(AnyRecordBatch::into_reader)
        .map_err(|_| {
            invalid(
                py,
                "table",
                "must be an Arrow table: a stream of record batches",
            )
        })?;
    let mut batches = Vec::new();
    let mut first = 0;
    for batch in reader {
        let batch =
            batch.map_err(|error| invalid(py, "table", &format!("could not be read: {error}")))?;
        batches.push(arrow_batch(py, &batch, models, missing, first)?);
        first += batch.num_rows();
    }
    if batches.is_empty() {
        let empty = || Column::Copied(Vec::new());
        let columns = [empty(), empty(), empty(), empty(), empty()];
        batches.push(Batch {
            columns,
            models: models.wanted().then(Vec::new),
        });
    }
    Ok(batches)
}

fn arrow_batch<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
    models: &Models,
    missing: Missing,
    first: usize,
) -> PyResult<Batch<'py>> {
    let named = |name: &str| {
        let found = batch.column_by_name(name).cloned();
        found.ok_or_else(|| invalid(py, name, "must be a column of the table"))
    };
    let mut columns = COLUMNS.map(|_| Column::Copied(Vec::new()));
    for (place, name) in columns.iter_mut().zip(COLUMNS) {
        *place = arrow_column(py, name, &[named(name)?], missing, first)?;
    }
    let models = models
        .wanted()
        .then(|| models.of_arrow(py, &[named(MODEL)?], first))
        .transpose()?;
    Ok(Batch { columns, models })
}

/// A mapping of columns, a record array of `NumPy`, a frame of pandas: whatever gives a column for a name.
fn by_name<'py>(
    table: &Bound<'py, PyAny>,
    models: &Models,
    missing: Missing,
) -> PyResult<(Batch<'py>, Kind)> {
    let py = table.py();
    let records = match numpy_array(table)? {
        Some(array) => !array
            .getattr(intern!(py, "dtype"))?
            .getattr(intern!(py, "names"))?
            .is_none(),
        None => false,
    };
    if !records && !of_package(table, "pandas")? && table.cast::<PyMapping>().is_err() {
        let rule =
            "must be a mapping of columns, a NumPy record array, a pandas frame or an Arrow table";
        return Err(invalid(py, "table", rule));
    }
    let named = |name: &'static str| {
        table
            .get_item(name)
            .map_err(|_| invalid(py, name, "must be a column of the table"))
    };
    let mut columns = COLUMNS.map(|_| Column::Copied(Vec::new()));
    let mut kinds = [Kind::List; 5];
    for ((place, kind), name) in columns.iter_mut().zip(&mut kinds).zip(COLUMNS) {
        (*place, *kind) = column(name, &named(name)?, missing)?;
    }
    let models = if models.wanted() {
        let places = models.of(&named(MODEL)?)?;
        if places.len() != columns[0].values().len() {
            return Err(invalid(py, MODEL, "must have as many rows as price"));
        }
        Some(places)
    } else {
        None
    };
    Ok((Batch { columns, models }, kinds[0]))
}

/// The `k` best rows of a table, best first; of equal scores the lower row first. Tables, columns, references and
/// errors as in `score`.
#[pyfunction]
#[pyo3(signature = (
    table, k, *, price_reference = None, latency_reference_ms = None, work_reference, references = None,
    missing = "error"
))]
#[allow(clippy::too_many_arguments)] // each named in Python
fn rank<'py>(
    py: Python<'py>,
    table: &Bound<'py, PyAny>,
    k: i64,
    price_reference: Option<f64>,
    latency_reference_ms: Option<f64>,
    work_reference: f64,
    references: Option<&Bound<'py, PyDict>>,
    missing: &str,
) -> PyResult<Ranking> {
    let k = usize::try_from(k).map_err(|_| invalid(py, "k", "must be at least 0"))?;
    let given = Given {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
        by_model: references,
        missing,
    };
    Table::new(table, &given)?.rank(py, k)
}

#[pyfunction]
#[pyo3(signature = (
    table, *, price_reference = None, latency_reference_ms = None, work_reference, references = None,
    missing = "error", out = None
))]
#[allow(clippy::too_many_arguments)] // each named in Python
fn score_table<'py>(
    py: Python<'py>,
    table: &Bound<'py, PyAny>,
    price_reference: Option<f64>,
    latency_reference_ms: Option<f64>,
    work_reference: f64,
    references: Option<&Bound<'py, PyDict>>,
    missing: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let given = Given {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
        by_model: references,
        missing,
    };
    Table::new(table, &given)?.score(py, out)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Ranking>()?;
    module.add_function(wrap_pyfunction!(score_table, module)?)?;
    module.add_function(wrap_pyfunction!(rank, module)?)
}
