//! scoring: which references each row of a table has.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use scoring::References;

use super::columns::{chunks, is_arrow_array, numpy_array, of_package};
use crate::errors::{invalid, invalid_row};

/// The column of the models' names.
pub const MODEL: &str = "model";

/// The references as Python gives them.
pub struct Given<'a, 'py> {
    pub price: Option<f64>,
    pub latency_ms: Option<f64>,
    pub work: f64,
    pub by_model: Option<&'a Bound<'py, PyDict>>,
    pub missing: &'a str,
}

/// References by model; without any, the common ones alone.
pub struct Models {
    pub references: Vec<References>,
    places: HashMap<String, u32>,
    /// Whether the first of the references serves for models without their own.
    common: bool,
}

impl Models {
    pub fn new(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Self> {
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

    pub fn wanted(&self) -> bool {
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
    pub fn of_arrow(
        &self,
        py: Python<'_>,
        names: &[ArrayRef],
        mut first: usize,
    ) -> PyResult<Vec<u32>> {
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

    pub fn of(&self, names: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let py = names.py();
        let names = if numpy_array(names)?.is_some() || of_package(names, "pandas")? {
            names.call_method0("tolist")?
        } else if is_arrow_array(names)? {
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
