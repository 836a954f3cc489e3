//! scoring: a request to the router.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyString;
use scoring::{Key, Request, Scope};

use crate::errors::{integer, integer_or, invalid, key, text};

/// The offers that a request names; most name none.
pub struct Lists {
    only: Vec<Key>,
    ignore: Vec<Key>,
    tried: Vec<Key>,
}

impl Lists {
    pub fn new(
        py: Python<'_>,
        only: Option<&Bound<'_, PyAny>>,
        ignore: Option<&Bound<'_, PyAny>>,
        tried: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let keys = |field, values: Option<&Bound<'_, PyAny>>| {
            let Some(values) = values else {
                return Ok(Vec::new());
            };
            let values = values.extract::<Vec<PyBackedBytes>>()?;
            values.iter().map(|value| key(py, field, value)).collect()
        };
        Ok(Self {
            only: keys("only", only)?,
            ignore: keys("ignore", ignore)?,
            tried: keys("tried", tried)?,
        })
    }

    /// The request without its seed. `numbers`: context and time; `more`: work, highest price and output.
    #[allow(clippy::too_many_arguments)] // the wishes of a request
    pub fn request<'a>(
        &'a self,
        py: Python<'_>,
        model: &'a Bound<'_, PyString>,
        network: &[u8],
        scope: &str,
        [context_tokens, now_ms]: [&Bound<'_, PyAny>; 2],
        [work_tokens, price_microcents_max, output_tokens]: [Option<&Bound<'_, PyAny>>; 3],
        prefer: Option<&[u8]>,
    ) -> PyResult<Request<'a>> {
        let context_tokens = integer("context_tokens", context_tokens)?;
        Ok(Request {
            model: text("model", model)?,
            network: key(py, "network", network)?,
            scope: match scope {
                "own" => Scope::Own,
                "market" => Scope::Market,
                _ => return Err(invalid(py, "scope", "must be own or market")),
            },
            context_tokens,
            output_tokens: integer_or("output_tokens", output_tokens, 0)?,
            work_tokens: integer_or("work_tokens", work_tokens, context_tokens)?,
            price_microcents_max: price_microcents_max
                .map(|price| integer("price_microcents_max", price))
                .transpose()?,
            only: &self.only,
            ignore: &self.ignore,
            tried: &self.tried,
            prefer: prefer.map(|offer| key(py, "prefer", offer)).transpose()?,
            now_ms: integer("now_ms", now_ms)?,
            seed: 0,
        })
    }
}
