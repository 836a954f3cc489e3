//! scoring: tables of providers, scored and ranked.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow_schema::DataType;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use pyo3_arrow::input::AnyRecordBatch;
use pyo3_arrow::PyArray;
use scoring::{rank_rows, score_rows, Missing, Ranked, References, Rows, COLUMNS, ROWS_MAX};

use super::columns::{arrow_column, chunks, column, numpy_array, of_package, Column, Kind};
use crate::errors::{caught, invalid, invalid_row};

const MODEL: &str = "model";

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

/// The references as Python gives them.
pub struct Given<'a, 'py> {
    pub price: Option<f64>,
    pub latency_ms: Option<f64>,
    pub work: f64,
    pub by_model: Option<&'a Bound<'py, PyDict>>,
    pub missing: &'a str,
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
                // NumPy's own memory: it asks for huge pages, which are filled a hundred times faster.
                let empty = py
                    .import(intern!(py, "numpy"))?
                    .call_method1(intern!(py, "empty"), (self.len(),))?;
                self.score(py, Some(&empty))
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

/// The best rows of a table, best first, each with its score and the five parts of it.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Ranking {
    best: Vec<Ranked>,
    kind: Kind,
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
                let rows: Vec<i64> = rows.map(u64::cast_signed).collect();
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

/// References by model; without any, the common ones alone.
struct Models {
    references: Vec<References>,
    places: HashMap<String, u32>,
    /// Whether the first of the references serves for models without their own.
    common: bool,
}

impl Models {
    fn new(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Self> {
        let common = match (given.price, given.latency_ms) {
            (Some(price), Some(latency_ms)) => Some(References {
                price,
                latency_ms,
                work: given.work,
            }),
            (None, None) if given.by_model.is_some_and(|by_model| !by_model.is_empty()) => None,
            _ => {
                let rule =
                    "must be given, with latency_reference_ms, unless references names every model";
                return Err(invalid(py, "price_reference", rule));
            }
        };
        let mut references: Vec<References> = common.into_iter().collect();
        let mut places = HashMap::new();
        for (name, pair) in given.by_model.into_iter().flatten() {
            let rule = "must map a model's name to (price_reference, latency_reference_ms)";
            let refused = |_| invalid(py, "references", rule);
            let (price, latency_ms): (f64, f64) = pair.extract().map_err(refused)?;
            let name: String = name.extract().map_err(refused)?;
            places.insert(name, u32::try_from(references.len()).unwrap_or(u32::MAX));
            references.push(References {
                price,
                latency_ms,
                work: given.work,
            });
        }
        Ok(Self {
            references,
            places,
            common: common.is_some(),
        })
    }

    fn wanted(&self) -> bool {
        !self.places.is_empty()
    }

    fn place(&self, py: Python<'_>, name: Option<&str>, row: usize) -> PyResult<u32> {
        let known = name.and_then(|name| self.places.get(name).copied());
        match (known, name) {
            (Some(place), _) => Ok(place),
            (None, Some(_)) if self.common => Ok(0),
            (None, Some(name)) => {
                let rule = format!("{name:?} must have references, or there must be common ones");
                Err(invalid_row(py, MODEL, &rule, Some(row)))
            }
            (None, None) => Err(invalid_row(py, MODEL, "must not be missing", Some(row))),
        }
    }

    /// Of strings in Arrow memory; each distinct name is looked up once a chunk.
    fn of_arrow(&self, py: Python<'_>, names: &[ArrayRef], mut first: usize) -> PyResult<Vec<u32>> {
        let words = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        let mut places = Vec::new();
        for chunk in names {
            let refused = |_| {
                invalid(
                    py,
                    MODEL,
                    &format!("must be text, not {}", chunk.data_type()),
                )
            };
            let chunk = arrow_cast::cast(chunk, &words).map_err(refused)?;
            let chunk = chunk.as_dictionary::<UInt32Type>();
            let words = chunk.values().as_string::<i32>();
            let mut known: Vec<Option<u32>> = vec![None; words.len()];
            for row in 0..chunk.len() {
                let word = chunk.key(row);
                let place = match word.and_then(|word| known[word]) {
                    Some(place) => place,
                    None => self.place(py, word.map(|word| words.value(word)), first + row)?,
                };
                if let Some(word) = word {
                    known[word] = Some(place);
                }
                places.push(place);
            }
            first += chunk.len();
        }
        Ok(places)
    }

    fn of(&self, names: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let py = names.py();
        let names = if numpy_array(names)?.is_some() || of_package(names, "pandas")? {
            names.call_method0(intern!(py, "tolist"))?
        } else if names.hasattr(intern!(py, "__arrow_c_array__"))?
            || names.hasattr(intern!(py, "__arrow_c_stream__"))?
        {
            return self.of_arrow(py, &chunks(names)?, 0);
        } else {
            names.clone()
        };
        let refused = || invalid(py, MODEL, "must be a column of text");
        if names.is_instance_of::<PyString>() {
            return Err(refused());
        }
        names
            .try_iter()
            .map_err(|_| refused())?
            .enumerate()
            .map(|(row, name)| {
                let name = name?;
                if name.is_none() {
                    return self.place(py, None, row);
                }
                let name = name
                    .cast::<PyString>()
                    .map_err(|_| invalid_row(py, MODEL, "must be text", Some(row)))?;
                self.place(py, Some(name.to_str()?), row)
            })
            .collect()
    }
}

/// pandas has the Arrow interface too, but only copies through it; its columns are NumPy's.
fn is_arrow_table(table: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = table.py();
    let arrow = table.hasattr(intern!(py, "__arrow_c_stream__"))?
        || table.hasattr(intern!(py, "__arrow_c_array__"))?;
    Ok(arrow && !of_package(table, "pandas")? && !table.is_instance_of::<PyDict>())
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

/// A mapping of columns, a record array of NumPy, a frame of pandas: whatever gives a column for a name.
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
