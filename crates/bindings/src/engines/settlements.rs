//! heidrun: settlement by the column.

use heidrun::{Parts, Rounding};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PySlice};

use super::columns::numpy_array;
use crate::errors::{caught, integer, invalid, money, money_row};

/// Rows that are settled at a time: what is read and written stays in the first cache.
const CHUNK_ROWS: usize = 512;

/// A column of 64-bit integers.
enum Column<'py> {
    All(i64),
    /// In an array of `NumPy`, one after the other. What lies there may change at any time, so that each chunk is copied
    /// before it is looked at.
    Lent(PyReadonlyArray1<'py, i64>),
    Each(Vec<i64>),
}

impl<'py> Column<'py> {
    /// What has a buffer (`numpy`, `array.array`, `memoryview`); what makes an array of itself (Arrow, Polars, pandas); a
    /// sequence of integers.
    fn new(field: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = value.py();
        let rule = "must be a column of 64-bit integers";
        let array = if PyBuffer::<i64>::get(value).is_err() && value.hasattr("__array__")? {
            value.call_method0("__array__")?
        } else {
            value.clone()
        };
        if let Some(lent) = lent(&array)? {
            return Ok(Self::Lent(lent));
        }
        match PyBuffer::<i64>::get(&array) {
            Ok(buffer) if buffer.dimensions() != 1 => {
                Err(invalid(py, field, "must have one dimension"))
            }
            Ok(buffer) => buffer.to_vec(py).map(Self::Each),
            // A buffer of something else; an array with missing values is one of floats or objects.
            Err(_) if array.hasattr("__array__")? || PyMemoryView::from(&array).is_ok() => {
                Err(invalid(py, field, rule))
            }
            Err(_) => array
                .try_iter()
                .map_err(|_| invalid(py, field, rule))?
                .enumerate()
                .map(|(row, value)| integer(&format!("{field}[{row}]"), &value?))
                .collect::<PyResult<Vec<i64>>>()
                .map(Self::Each),
        }
    }

    /// The same, or one integer for all rows.
    fn or_one(field: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyInt>() {
            return integer(field, value).map(Self::All);
        }
        Self::new(field, value)
    }

    fn rows(&self) -> Option<usize> {
        match self {
            Self::All(_) => None,
            Self::Lent(array) => Some(array.len()),
            Self::Each(values) => Some(values.len()),
        }
    }

    fn check_rows(&self, py: Python<'_>, field: &str, rows: usize) -> PyResult<()> {
        match self.rows() {
            Some(own) if own != rows => {
                let rule = format!("has {own} rows, and tokens has {rows}");
                Err(invalid(py, field, &rule))
            }
            _ => Ok(()),
        }
    }

    /// That many rows from `start`, copied to `held` if they are Python's.
    fn chunk<'a>(
        &'a self,
        start: usize,
        rows: usize,
        held: &'a mut [i64; CHUNK_ROWS],
    ) -> heidrun::Column<'a> {
        match self {
            Self::All(value) => heidrun::Column::All(*value),
            Self::Lent(array) => {
                let lent = array.as_slice().unwrap_or_default();
                held[..rows].copy_from_slice(&lent[start..start + rows]);
                heidrun::Column::Each(&held[..rows])
            }
            Self::Each(values) => heidrun::Column::Each(&values[start..start + rows]),
        }
    }
}

/// The array, if it is one of `NumPy` with numbers of 64 bits one after the other.
fn lent<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<PyReadonlyArray1<'py, i64>>> {
    let Some(Ok(array)) = numpy_array(value)?.map(|array| array.cast::<PyArray1<i64>>()) else {
        return Ok(None);
    };
    let lent = array.try_readonly().ok();
    Ok(lent.filter(|lent| lent.as_slice().is_ok()))
}

/// The parts of many payments: three columns of 64-bit integers.
#[pyclass(frozen, get_all, module = "yggdrasil._core")]
#[allow(clippy::struct_field_names)] // the unit belongs to each name
pub struct Settlements {
    total_microcents: Py<PyMemoryView>,
    fee_microcents: Py<PyMemoryView>,
    earnings_microcents: Py<PyMemoryView>,
}

/// `settle` by the column: `tokens` is a column of 64-bit integers (`NumPy`, any buffer, Arrow, Polars, pandas, a
/// sequence), `price_cents` and `fee_basis_points` one integer for all rows or a column of equal length. The results
/// are memoryviews: `numpy.asarray` copies nothing. An error names column and row, as in `price_cents[17]`.
#[pyfunction]
#[pyo3(signature = (tokens, price_cents, unit_tokens, fee_basis_points, rounding = "per_request"))]
fn settle_many(
    py: Python<'_>,
    tokens: &Bound<'_, PyAny>,
    price_cents: &Bound<'_, PyAny>,
    unit_tokens: &Bound<'_, PyAny>,
    fee_basis_points: &Bound<'_, PyAny>,
    rounding: &str,
) -> PyResult<Settlements> {
    let tokens = Column::new("tokens", tokens)?;
    let price = Column::or_one("price_cents", price_cents)?;
    let unit = integer("unit_tokens", unit_tokens)?;
    let fee = Column::or_one("fee_basis_points", fee_basis_points)?;
    let rounding = Rounding::from_name(rounding).map_err(|error| money(py, error))?;
    if !heidrun::UNITS_TOKENS.contains(&unit) {
        return Err(invalid(py, "unit_tokens", "must be 1000 or 1000000"));
    }
    let rows = tokens.rows().unwrap_or(0);
    price.check_rows(py, "price_cents", rows)?;
    fee.check_rows(py, "fee_basis_points", rows)?;
    let settle = |to: [&mut [u8]; 3]| {
        let mut to = to.map(|bytes| bytes.chunks_mut(CHUNK_ROWS * size_of::<i64>()));
        let mut made = [[0; CHUNK_ROWS]; 3];
        let mut held = [[0; CHUNK_ROWS]; 3];
        for start in (0..rows).step_by(CHUNK_ROWS) {
            let length = CHUNK_ROWS.min(rows - start);
            let [total, fees, earnings] = &mut made;
            let [held_tokens, held_price, held_fee] = &mut held;
            let heidrun::Column::Each(tokens) = tokens.chunk(start, length, held_tokens) else {
                break;
            };
            heidrun::settle_many(
                tokens,
                price.chunk(start, length, held_price),
                unit,
                fee.chunk(start, length, held_fee),
                rounding,
                &mut Parts {
                    total_microcents: &mut total[..length],
                    fee_microcents: &mut fees[..length],
                    earnings_microcents: &mut earnings[..length],
                },
            )
            .map_err(|error| money_row(py, error.error, start + error.row))?;
            for (chunks, made) in to.iter_mut().zip(&made) {
                let bytes = chunks.next().unwrap_or_default();
                for (to, value) in bytes.chunks_exact_mut(size_of::<i64>()).zip(made) {
                    to.copy_from_slice(&value.to_ne_bytes());
                }
            }
        }
        Ok(())
    };
    let bytes = rows * size_of::<i64>();
    caught(|| {
        // One piece of memory: a large one that comes and goes is kept by the allocator, three smaller ones are not, and
        // a page that is new costs more than the arithmetic on it.
        let all = PyBytes::new_with(py, 3 * bytes, |all| {
            let (total, rest) = all.split_at_mut(bytes);
            let (fees, earnings) = rest.split_at_mut(bytes);
            settle([total, fees, earnings])
        })?;
        let all = PyMemoryView::from(all.as_any())?.call_method1("cast", ("q",))?;
        let column = |place: usize| {
            let part = all.get_item(PySlice::new(
                py,
                isize::try_from(place * rows)?,
                isize::try_from((place + 1) * rows)?,
                1,
            ))?;
            PyResult::Ok(part.cast_into::<PyMemoryView>()?.unbind())
        };
        Ok(Settlements {
            total_microcents: column(0)?,
            fee_microcents: column(1)?,
            earnings_microcents: column(2)?,
        })
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Settlements>()?;
    module.add_function(wrap_pyfunction!(settle_many, module)?)
}
