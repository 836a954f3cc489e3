//! Columns of numbers from what data people hold: `NumPy`, Arrow (by its `PyCapsule` interface), pandas, buffers, sequences.
//!
//! What lies in memory as 64- or 32-bit floats in one piece is used where it is; everything else is copied once.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float32Array, Float64Array, Int64Array};
use arrow_schema::DataType;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3_arrow::input::AnyArray;
use pyo3_arrow::PyArray;
use scoring::{Missing, Values};

use crate::errors::{invalid, invalid_row};

/// What the caller works with, and gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Numpy,
    Arrow,
    List,
}

/// A column of floats, borrowed from Python where its layout allows.
pub enum Column<'py> {
    Numpy64(PyReadonlyArray1<'py, f64>),
    Numpy32(PyReadonlyArray1<'py, f32>),
    Arrow64(Float64Array),
    Arrow32(Float32Array),
    Copied(Vec<f64>),
}

impl Column<'_> {
    pub fn values(&self) -> Values<'_> {
        match self {
            // Only arrays in one piece are kept as such.
            Self::Numpy64(array) => Values::F64(array.as_slice().unwrap_or_default()),
            Self::Numpy32(array) => Values::F32(array.as_slice().unwrap_or_default()),
            Self::Arrow64(array) => Values::F64(array.values()),
            Self::Arrow32(array) => Values::F32(array.values()),
            Self::Copied(values) => Values::F64(values),
        }
    }

    /// The same as 64-bit floats, copied if they are narrower.
    pub fn into_wide(self) -> Self {
        match self {
            Self::Numpy32(_) | Self::Arrow32(_) => {
                let Values::F32(narrow) = self.values() else {
                    return self;
                };
                Self::Copied(narrow.iter().copied().map(f64::from).collect())
            }
            other => other,
        }
    }

    /// Of [`Column::into_wide`].
    pub fn wide(&self) -> &[f64] {
        match self.values() {
            Values::F64(values) => values,
            Values::F32(_) => &[],
        }
    }
}

/// `NumPy` is asked about an object only when somebody has imported it: an object cannot be an array before that, and
/// asking would import it.
pub fn numpy_array<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
) -> PyResult<Option<&'a Bound<'py, PyUntypedArray>>> {
    let py = value.py();
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    if !modules.contains(intern!(py, "numpy"))? {
        return Ok(None);
    }
    Ok(value.cast::<PyUntypedArray>().ok())
}

/// Whether the object's class is of this package.
pub fn of_package(value: &Bound<'_, PyAny>, package: &str) -> PyResult<bool> {
    let module = value.get_type().module()?;
    let module = module.to_str()?;
    Ok(module == package
        || module
            .strip_prefix(package)
            .is_some_and(|rest| rest.starts_with('.')))
}

/// One column.
pub fn column<'py>(
    name: &'static str,
    value: &Bound<'py, PyAny>,
    missing: Missing,
) -> PyResult<(Column<'py>, Kind)> {
    let py = value.py();
    if let Some(array) = numpy_array(value)? {
        return Ok((numpy_column(name, array)?, Kind::Numpy));
    }
    if of_package(value, "pandas")? {
        let numpy = py.import(intern!(py, "numpy"))?;
        let options = PyDict::new(py);
        options.set_item("dtype", "float64")?;
        options.set_item("na_value", numpy.getattr(intern!(py, "nan"))?)?;
        let array = value
            .call_method(intern!(py, "to_numpy"), (), Some(&options))
            .map_err(|_| invalid(py, name, "must be a column of numbers"))?;
        let array = array.cast::<PyUntypedArray>()?;
        return Ok((numpy_column(name, array)?, Kind::Numpy));
    }
    if is_arrow_array(value)? {
        let chunks = chunks(value)?;
        return Ok((arrow_column(py, name, &chunks, missing, 0)?, Kind::Arrow));
    }
    if let Some(values) = buffer_column(name, value)? {
        return Ok((values, Kind::List));
    }
    Ok((Column::Copied(sequence(name, value, missing)?), Kind::List))
}

/// An array, or a stream of its chunks, that is handed over by the `PyCapsule` interface.
pub fn is_arrow_array(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    Ok(value.hasattr(intern!(py, "__arrow_c_array__"))?
        || value.hasattr(intern!(py, "__arrow_c_stream__"))?)
}

/// The chunks of an Arrow array or of a stream of them.
pub fn chunks(value: &Bound<'_, PyAny>) -> PyResult<Vec<ArrayRef>> {
    let array: AnyArray = value.extract()?;
    match array {
        AnyArray::Array(array) => Ok(vec![array.into_inner().0]),
        stream @ AnyArray::Stream(_) => Ok(stream.into_chunked_array()?.into_inner().0),
    }
}

fn numpy_column<'py>(
    name: &'static str,
    array: &Bound<'py, PyUntypedArray>,
) -> PyResult<Column<'py>> {
    let py = array.py();
    if array.ndim() != 1 {
        return Err(invalid(py, name, "must have one dimension"));
    }
    if array.hasattr(intern!(py, "mask"))? {
        return Err(invalid(
            py,
            name,
            "must not be a masked array: fill it with NaN, and say what a missing value does",
        ));
    }
    let flags = array.getattr(intern!(py, "flags"))?;
    if !flags.getattr(intern!(py, "aligned"))?.extract::<bool>()? {
        // A field of a packed record; no number may be read where it lies.
        let copy = array.call_method0(intern!(py, "copy"))?;
        return numpy_column(name, copy.cast::<PyUntypedArray>()?);
    }
    if let Ok(array) = array.cast::<PyArray1<f64>>() {
        let array = array.try_readonly().map_err(|_| in_use(py, name))?;
        return Ok(match array.as_slice() {
            Ok(_) => Column::Numpy64(array),
            Err(_) => Column::Copied(array.as_array().to_vec()),
        });
    }
    if let Ok(array) = array.cast::<PyArray1<f32>>() {
        let array = array.try_readonly().map_err(|_| in_use(py, name))?;
        return Ok(match array.as_slice() {
            Ok(_) => Column::Numpy32(array),
            Err(_) => Column::Copied(array.as_array().iter().copied().map(f64::from).collect()),
        });
    }
    let kind: String = array.dtype().getattr(intern!(py, "kind"))?.extract()?;
    match kind.as_str() {
        "f" | "i" | "u" => {
            let wide = array.call_method1(intern!(py, "astype"), ("float64",))?;
            Ok(Column::Numpy64(wide.cast::<PyArray1<f64>>()?.readonly()))
        }
        "O" => {
            let list = array.call_method0(intern!(py, "tolist"))?;
            Ok(Column::Copied(sequence(name, &list, Missing::Nan)?))
        }
        _ => {
            let rule = format!("must be numbers, not {}", array.dtype().str()?);
            Err(invalid(py, name, &rule))
        }
    }
}

fn in_use(py: Python<'_>, name: &str) -> PyErr {
    invalid(py, name, "must not be written to at the same time")
}

/// Chunks as one column; `first` is the table's row with which they begin.
pub fn arrow_column<'py>(
    py: Python<'py>,
    name: &'static str,
    chunks: &[ArrayRef],
    missing: Missing,
    first: usize,
) -> PyResult<Column<'py>> {
    let mut whole: Vec<f64> = Vec::new();
    let mut row = first;
    for chunk in chunks {
        let column = arrow_chunk(py, name, chunk, missing, row)?;
        if chunks.len() == 1 {
            return Ok(column);
        }
        whole.extend_from_slice(column.into_wide().wide());
        row += chunk.len();
    }
    Ok(Column::Copied(whole))
}

fn arrow_chunk<'py>(
    py: Python<'py>,
    name: &'static str,
    chunk: &ArrayRef,
    missing: Missing,
    first: usize,
) -> PyResult<Column<'py>> {
    use DataType::{
        Decimal128, Decimal256, Decimal32, Decimal64, Float16, Float32, Float64, Int16, Int32,
        Int64, Int8, Null, UInt16, UInt32, UInt64, UInt8,
    };
    let chunk = match chunk.data_type() {
        Float64 | Float32 => chunk.clone(),
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Null
        | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
            arrow_cast::cast(chunk, &Float64)
                .map_err(|_| invalid(py, name, "must be numbers that fit in 64-bit floats"))?
        }
        other => return Err(invalid(py, name, &format!("must be numbers, not {other}"))),
    };
    let gaps = chunk.logical_nulls().filter(|gaps| gaps.null_count() > 0);
    if let (Some(gaps), Missing::Error) = (&gaps, missing) {
        let row = (0..gaps.len()).find(|&row| gaps.is_null(row)).unwrap_or(0);
        return Err(invalid_row(py, name, "must not be null", Some(first + row)));
    }
    Ok(match (chunk.data_type(), gaps) {
        (Float32, None) => Column::Arrow32(chunk.as_primitive::<Float32Type>().clone()),
        (Float32, Some(_)) => {
            let values = chunk.as_primitive::<Float32Type>().iter();
            Column::Copied(
                values
                    .map(|value| value.map_or(f64::NAN, f64::from))
                    .collect(),
            )
        }
        (_, None) => Column::Arrow64(chunk.as_primitive::<Float64Type>().clone()),
        (_, Some(_)) => {
            let values = chunk.as_primitive::<Float64Type>().iter();
            Column::Copied(values.map(|value| value.unwrap_or(f64::NAN)).collect())
        }
    })
}

/// `array.array`, `memoryview` and their like; bytes are text, not numbers.
fn buffer_column<'py>(
    name: &'static str,
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<Column<'py>>> {
    if value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyList>() {
        return Ok(None);
    }
    let Ok(array) = value.extract::<PyArray>() else {
        return Ok(None);
    };
    arrow_chunk(value.py(), name, array.array(), Missing::Nan, 0).map(Some)
}

fn sequence(name: &'static str, value: &Bound<'_, PyAny>, missing: Missing) -> PyResult<Vec<f64>> {
    let py = value.py();
    let text = value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>();
    if !text {
        if let Ok(values) = value.extract::<Vec<f64>>() {
            return Ok(values);
        }
    }
    let no_sequence = || {
        invalid(
            py,
            name,
            "must be a NumPy array, an Arrow array, a buffer or a sequence of numbers",
        )
    };
    if text || value.len().is_err() {
        return Err(no_sequence());
    }
    let mut values = Vec::new();
    for (row, value) in value.try_iter().map_err(|_| no_sequence())?.enumerate() {
        let value = value?;
        if value.is_none() {
            if missing == Missing::Error {
                return Err(invalid_row(py, name, "must not be None", Some(row)));
            }
            values.push(f64::NAN);
            continue;
        }
        let number = value.extract::<f64>().map_err(|_| {
            let rule = format!(
                "must be numbers, not {}",
                value
                    .get_type()
                    .name()
                    .map_or_else(|_| "this".to_owned(), |name| name.to_string())
            );
            invalid_row(py, name, &rule, Some(row))
        })?;
        values.push(number);
    }
    Ok(values)
}

/// A column of whole numbers, borrowed from Python where its layout allows.
pub enum Integers<'py> {
    Numpy(PyReadonlyArray1<'py, i64>),
    Arrow(Int64Array),
    Copied(Vec<i64>),
}

impl Integers<'_> {
    pub fn values(&self) -> &[i64] {
        match self {
            // Only arrays in one piece are kept as such.
            Self::Numpy(array) => array.as_slice().unwrap_or_default(),
            Self::Arrow(array) => array.values(),
            Self::Copied(values) => values,
        }
    }
}

/// A column of whole numbers: milliseconds, handles.
pub fn integers<'py>(name: &'static str, value: &Bound<'py, PyAny>) -> PyResult<Integers<'py>> {
    let py = value.py();
    if let Some(array) = numpy_array(value)? {
        let kind: String = array.dtype().getattr(intern!(py, "kind"))?.extract()?;
        if array.ndim() != 1 || !matches!(kind.as_str(), "i" | "u") {
            return Err(invalid(py, name, "must be whole numbers in one dimension"));
        }
        let fits = |most: Bound<'_, PyAny>| most.extract::<i64>().is_ok();
        if kind == "u" && array.len() > 0 && !fits(array.call_method0(intern!(py, "max"))?) {
            return Err(invalid(py, name, "must be whole numbers below 2^63"));
        }
        let options = PyDict::new(py);
        options.set_item("requirements", ["C", "A"])?;
        options.set_item("dtype", "int64")?;
        let array = py.import(intern!(py, "numpy"))?.call_method(
            intern!(py, "require"),
            (array,),
            Some(&options),
        )?;
        let array = array.cast::<PyArray1<i64>>()?;
        return Ok(Integers::Numpy(
            array.try_readonly().map_err(|_| in_use(py, name))?,
        ));
    }
    if of_package(value, "pandas")? {
        return integers(name, &value.call_method0(intern!(py, "to_numpy"))?);
    }
    if is_arrow_array(value)? {
        let mut whole = Vec::new();
        let chunks = chunks(value)?;
        for chunk in &chunks {
            if !chunk.data_type().is_integer() || chunk.null_count() > 0 {
                return Err(invalid(py, name, "must be whole numbers without nulls"));
            }
            let chunk = arrow_cast::cast(chunk, &DataType::Int64)
                .ok()
                .filter(|chunk| chunk.null_count() == 0) // what does not fit becomes null
                .ok_or_else(|| invalid(py, name, "must be whole numbers below 2^63"))?;
            let chunk = chunk.as_primitive::<Int64Type>();
            if chunks.len() == 1 {
                return Ok(Integers::Arrow(chunk.clone()));
            }
            whole.extend_from_slice(chunk.values());
        }
        return Ok(Integers::Copied(whole));
    }
    value
        .extract::<Vec<i64>>()
        .map(Integers::Copied)
        .map_err(|_| invalid(py, name, "must be a column of whole numbers of 64 bits"))
}
