//! Columns of provider keys, and of the handles that stand for them.

use arrow_array::cast::AsArray;
use arrow_array::Array;
use arrow_schema::DataType;
use numpy::{PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::columns::{chunks, integers, is_arrow_array, numpy_array, Integers, Kind};
use crate::errors::invalid;

/// Keys as they lie in Python's memory or copied out of it.
pub struct Keys {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Keys {
    pub fn slices(&self) -> Vec<&[u8]> {
        let mut from = 0;
        self.ends
            .iter()
            .map(|&to| {
                let key = &self.bytes[from..to];
                from = to;
                key
            })
            .collect()
    }

    /// Of a `NumPy` array of bytes with a row for each key, Arrow binary, or a sequence of bytes.
    pub fn of(value: &Bound<'_, PyAny>) -> PyResult<(Self, Kind)> {
        let py = value.py();
        let rule =
            "must be bytes: a NumPy array of uint8 with one row a key, Arrow binary, or a sequence";
        let refused = || invalid(py, "providers", rule);
        if numpy_array(value)?.is_some() {
            let array = value.cast::<PyArray2<u8>>().map_err(|_| refused())?;
            let array = array.try_readonly().map_err(|_| refused())?;
            let (rows, width) = (array.shape()[0], array.shape()[1]);
            // Copied: what lies there may change while the interpreter is free. In one piece only if row lies after row: the
            // view says so, the array itself also says it of columns.
            let view = array.as_array();
            let bytes = match view.as_slice() {
                Some(bytes) => bytes.to_vec(),
                None => view.iter().copied().collect(),
            };
            let ends = (1..=rows).map(|row| row * width).collect();
            return Ok((Self { bytes, ends }, Kind::Numpy));
        }
        if is_arrow_array(value)? {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for chunk in chunks(value)? {
                let chunk = match chunk.data_type() {
                    DataType::FixedSizeBinary(_) | DataType::BinaryView | DataType::LargeBinary => {
                        arrow_cast::cast(&chunk, &DataType::Binary).map_err(|_| refused())?
                    }
                    DataType::Binary => chunk,
                    _ => return Err(refused()),
                };
                if chunk.null_count() > 0 {
                    return Err(refused());
                }
                for key in chunk.as_binary::<i32>().iter().flatten() {
                    bytes.extend_from_slice(key);
                    ends.push(bytes.len());
                }
            }
            return Ok((Self { bytes, ends }, Kind::Arrow));
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for key in value.try_iter().map_err(|_| refused())? {
            bytes.extend_from_slice(key?.cast::<PyBytes>().map_err(|_| refused())?.as_bytes());
            ends.push(bytes.len());
        }
        Ok((Self { bytes, ends }, Kind::List))
    }
}

/// Whose rows are: by handles if they are whole numbers, by keys if they are bytes.
pub enum Whose<'py> {
    Handles(Integers<'py>),
    Keys(Keys),
}

impl<'py> Whose<'py> {
    pub fn of(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        match Keys::of(value) {
            Ok((keys, _)) => Ok(Self::Keys(keys)),
            Err(refused) => integers("providers", value)
                .map(Self::Handles)
                .map_err(|_| refused),
        }
    }
}
