//! scoring: the score and the router.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyString};
use scoring::{Columns, Inputs, Key, Offer, References, Request, Scope, Settings, Visibility};

use crate::errors::{caught, integer, invalid, key, number, scoring as scoring_error, text};

#[pyfunction]
#[pyo3(signature = (
    price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms, work_reference
))]
// The five parts and their references are what a score is of; Python names each.
#[allow(clippy::too_many_arguments)]
fn score(
    py: Python<'_>,
    price: f64,
    quality: f64,
    latency_ms: f64,
    availability: f64,
    work: f64,
    price_reference: f64,
    latency_reference_ms: f64,
    work_reference: f64,
) -> PyResult<f64> {
    let inputs = Inputs {
        price,
        quality,
        latency_ms,
        availability,
        work,
    };
    let references = References {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
    };
    scoring::score(&inputs, &references).map_err(|error| scoring_error(py, error))
}

#[pyfunction]
#[pyo3(signature = (
    price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms, work_reference
))]
// Columns arrive as owned vectors; that is the conversion.
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
fn score_columns(
    py: Python<'_>,
    price: Vec<f64>,
    quality: Vec<f64>,
    latency_ms: Vec<f64>,
    availability: Vec<f64>,
    work: Vec<f64>,
    price_reference: f64,
    latency_reference_ms: f64,
    work_reference: f64,
) -> PyResult<Vec<f64>> {
    let columns = Columns {
        price: &price,
        quality: &quality,
        latency_ms: &latency_ms,
        availability: &availability,
        work: &work,
    };
    let references = References {
        price: price_reference,
        latency_ms: latency_reference_ms,
        work: work_reference,
    };
    scoring::score_columns(&columns, &references).map_err(|error| scoring_error(py, error))
}

/// What was picked, from what, and why.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Decision(scoring::Decision);

#[pymethods]
impl Decision {
    /// The offer picked, or None if none passed the gates.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.key))
    }

    /// The device of the offer picked.
    #[getter]
    fn group<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.group))
    }

    /// The network of the offer picked.
    #[getter]
    fn owner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.pick.map(|pick| PyBytes::new(py, &pick.owner))
    }

    /// Whether chance picked it.
    #[getter]
    fn explored(&self) -> bool {
        self.0.pick.is_some_and(|pick| pick.explored)
    }

    /// The probability of this pick, or None.
    #[getter]
    fn propensity(&self) -> Option<f64> {
        self.0.pick.map(|pick| pick.propensity)
    }

    /// How many offers passed the gates.
    #[getter]
    fn feasible(&self) -> u64 {
        self.0.feasible
    }

    /// How many failed each gate, in the order of the gates.
    #[getter]
    fn gates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let gates = PyDict::new(py);
        for (name, failed) in self.0.gates.named() {
            gates.set_item(name, failed)?;
        }
        Ok(gates)
    }

    /// The card as one JSON object.
    fn card<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        caught(|| Ok(PyBytes::new(py, self.0.to_json().as_bytes())))
    }
}

/// Picks one of many offers for a request.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Router(Mutex<scoring::Router>);

impl Router {
    /// A panic is reported to its caller; the state behind it is estimates and queue places, good enough to go on with.
    fn lock(&self) -> MutexGuard<'_, scoring::Router> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Router {
    #[new]
    #[pyo3(signature = (
        *, price_reference = 100_000_000.0, latency_reference_ms = 1_000.0, work_reference_tokens = 100_000.0,
        work_half_life_ms = 600_000, band_width = 0.05, explore_ppm = 15_000, breaker_failures = 5,
        breaker_open_ms = 10_000, breaker_open_ms_max = 300_000, quality_prior = 0.5, availability_prior = 0.5,
        offers_max = 1_000_000
    ))]
    #[allow(clippy::too_many_arguments)] // settings, each named in Python
    fn new(
        py: Python<'_>,
        price_reference: f64,
        latency_reference_ms: f64,
        work_reference_tokens: f64,
        work_half_life_ms: u64,
        band_width: f64,
        explore_ppm: u32,
        breaker_failures: u32,
        breaker_open_ms: i64,
        breaker_open_ms_max: i64,
        quality_prior: f64,
        availability_prior: f64,
        offers_max: usize,
    ) -> PyResult<Self> {
        let settings = Settings {
            references: References {
                price: price_reference,
                latency_ms: latency_reference_ms,
                work: work_reference_tokens,
            },
            work_half_life_ms,
            band_width,
            explore_ppm,
            breaker_failures,
            breaker_open_ms,
            breaker_open_ms_max,
            quality_prior,
            availability_prior,
            offers_max,
        };
        let router = scoring::Router::new(settings).map_err(|error| scoring_error(py, error))?;
        Ok(Self(Mutex::new(router)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    #[pyo3(signature = (
        *, key, owner, group, model, price_microcents, context_tokens, capacity, visibility = "market"
    ))]
    #[allow(clippy::too_many_arguments)] // the facts of an offer, each named in Python
    fn upsert(
        &self,
        py: Python<'_>,
        key: &[u8],
        owner: &[u8],
        group: &[u8],
        model: &Bound<'_, PyString>,
        price_microcents: &Bound<'_, PyAny>,
        context_tokens: &Bound<'_, PyAny>,
        capacity: &Bound<'_, PyAny>,
        visibility: &str,
    ) -> PyResult<()> {
        let offer = Offer {
            key: self::key(py, "key", key)?,
            owner: self::key(py, "owner", owner)?,
            group: self::key(py, "group", group)?,
            model: text("model", model)?.to_owned(),
            price_microcents: integer("price_microcents", price_microcents)?,
            context_tokens: integer("context_tokens", context_tokens)?,
            capacity: integer("capacity", capacity)?,
            visibility: match visibility {
                "own" => Visibility::Own,
                "market" => Visibility::Market,
                _ => return Err(invalid(py, "visibility", "must be own or market")),
            },
        };
        caught(|| {
            self.lock()
                .upsert(offer)
                .map_err(|error| scoring_error(py, error))
        })
    }

    fn remove(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().remove(&key)))
    }

    fn set_online(&self, py: Python<'_>, key: &[u8], online: bool) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().set_online(&key, online)))
    }

    #[pyo3(signature = (key, *, quality, latency_ms, availability))]
    fn set_estimates(
        &self,
        py: Python<'_>,
        key: &[u8],
        quality: &Bound<'_, PyAny>,
        latency_ms: &Bound<'_, PyAny>,
        availability: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        let quality = number("quality", quality)?;
        let latency_ms = number("latency_ms", latency_ms)?;
        let availability = number("availability", availability)?;
        caught(|| {
            self.lock()
                .set_estimates(&key, quality, latency_ms, availability)
                .map_err(|error| scoring_error(py, error))
        })
    }

    #[pyo3(signature = (model, *, price_reference, latency_reference_ms))]
    fn set_references(
        &self,
        py: Python<'_>,
        model: &Bound<'_, PyString>,
        price_reference: &Bound<'_, PyAny>,
        latency_reference_ms: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let model = text("model", model)?;
        let price = number("price_reference", price_reference)?;
        let latency_ms = number("latency_reference_ms", latency_reference_ms)?;
        caught(|| {
            self.lock()
                .set_references(model, price, latency_ms)
                .map_err(|error| scoring_error(py, error))
        })
    }

    fn tick(&self, now_ms: &Bound<'_, PyAny>) -> PyResult<()> {
        let now_ms = integer("now_ms", now_ms)?;
        caught(|| {
            self.lock().tick(now_ms);
            Ok(())
        })
    }

    #[pyo3(signature = (
        *, model, network, scope, context_tokens, now_ms, seed, work_tokens = None, price_microcents_max = None,
        only = Vec::new(), ignore = Vec::new(), tried = Vec::new()
    ))]
    // The wishes of a request, each named in Python; lists arrive as owned vectors.
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn pick(
        &self,
        py: Python<'_>,
        model: &Bound<'_, PyString>,
        network: &[u8],
        scope: &str,
        context_tokens: &Bound<'_, PyAny>,
        now_ms: &Bound<'_, PyAny>,
        seed: &Bound<'_, PyAny>,
        work_tokens: Option<&Bound<'_, PyAny>>,
        price_microcents_max: Option<&Bound<'_, PyAny>>,
        only: Vec<PyBackedBytes>,
        ignore: Vec<PyBackedBytes>,
        tried: Vec<PyBackedBytes>,
    ) -> PyResult<Decision> {
        let context_tokens = integer("context_tokens", context_tokens)?;
        let request = Request {
            model: text("model", model)?.to_owned(),
            network: key(py, "network", network)?,
            scope: match scope {
                "own" => Scope::Own,
                "market" => Scope::Market,
                _ => return Err(invalid(py, "scope", "must be own or market")),
            },
            context_tokens,
            work_tokens: match work_tokens {
                Some(work_tokens) => integer("work_tokens", work_tokens)?,
                None => context_tokens,
            },
            price_microcents_max: price_microcents_max
                .map(|price| integer("price_microcents_max", price))
                .transpose()?,
            only: keys(py, "only", &only)?,
            ignore: keys(py, "ignore", &ignore)?,
            tried: keys(py, "tried", &tried)?,
            now_ms: integer("now_ms", now_ms)?,
            seed: integer("seed", seed)?,
        };
        caught(|| {
            self.lock()
                .pick(&request)
                .map(Decision)
                .map_err(|error| scoring_error(py, error))
        })
    }

    fn release(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().release(&key)))
    }

    fn report(
        &self,
        py: Python<'_>,
        group: &[u8],
        ok: bool,
        now_ms: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let group = key(py, "group", group)?;
        let now_ms = integer("now_ms", now_ms)?;
        caught(|| {
            self.lock().report(&group, ok, now_ms);
            Ok(())
        })
    }

    fn breaker_state(
        &self,
        py: Python<'_>,
        group: &[u8],
        now_ms: &Bound<'_, PyAny>,
    ) -> PyResult<&'static str> {
        let group = key(py, "group", group)?;
        let now_ms = integer("now_ms", now_ms)?;
        caught(|| Ok(self.lock().breaker_state(&group, now_ms)))
    }
}

fn keys(py: Python<'_>, field: &str, values: &[PyBackedBytes]) -> PyResult<Vec<Key>> {
    values.iter().map(|value| key(py, field, value)).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Router>()?;
    module.add_class::<Decision>()?;
    module.add_function(wrap_pyfunction!(score, module)?)?;
    module.add_function(wrap_pyfunction!(score_columns, module)?)
}
