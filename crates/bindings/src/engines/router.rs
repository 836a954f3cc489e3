//! scoring: the router.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use scoring::{Offer, References, Request, Settings, Visibility};

use super::request::Lists;
use super::score::Decision;
use crate::errors::{caught, integer, invalid, key, number, scoring as scoring_error, text};

type PickOf<'py> = (Bound<'py, PyBytes>, bool, f64);
type TallyOf<'py> = (Bound<'py, PyBytes>, u64, u64, f64, Bound<'py, PyDict>);

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
        offers_max = 1_000_000, newcomer_ppm = 0, breaker_window = 0, breaker_successes = 1,
        breaker_tested_apart = false, weights = None, turn_times_max = 8
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
        newcomer_ppm: u32,
        breaker_window: u32,
        breaker_successes: u32,
        breaker_tested_apart: bool,
        weights: Option<&Bound<'_, PyAny>>,
        turn_times_max: u32,
    ) -> PyResult<Self> {
        let settings = Settings {
            weights: super::weights::weights(py, weights)?,
            turn_times_max,
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
            newcomer_ppm,
            breaker_window,
            breaker_successes,
            breaker_tested_apart,
        };
        let router = scoring::Router::new(settings).map_err(|error| scoring_error(py, error))?;
        Ok(Self(Mutex::new(router)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    /// The weights of the five parts, which add up to 1.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        super::weights::by_name(py, &self.lock().weights())
    }

    #[pyo3(signature = (
        *, key, owner, group, model, price_microcents, context_tokens, capacity, visibility = "market",
        group_capacity = None, output_tokens = None
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
        group_capacity: Option<&Bound<'_, PyAny>>,
        output_tokens: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let offer = Offer {
            key: self::key(py, "key", key)?,
            owner: self::key(py, "owner", owner)?,
            group: self::key(py, "group", group)?,
            model: text("model", model)?,
            price_microcents: integer("price_microcents", price_microcents)?,
            context_tokens: integer("context_tokens", context_tokens)?,
            output_tokens: match output_tokens {
                Some(output_tokens) => integer("output_tokens", output_tokens)?,
                None => i64::MAX,
            },
            capacity: integer("capacity", capacity)?,
            group_capacity: match group_capacity {
                Some(group_capacity) => integer("group_capacity", group_capacity)?,
                None => u32::MAX,
            },
            visibility: match visibility {
                "own" => Visibility::Own,
                "market" => Visibility::Market,
                _ => return Err(invalid(py, "visibility", "must be own or market")),
            },
        };
        caught(|| {
            self.lock()
                .upsert(&offer)
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

    fn set_open(&self, py: Python<'_>, key: &[u8], open: bool) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().set_open(&key, open)))
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

    #[pyo3(signature = (now_ms, *, offers_max = None))]
    fn tick(
        &self,
        now_ms: &Bound<'_, PyAny>,
        offers_max: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let now_ms = integer("now_ms", now_ms)?;
        let offers_max = match offers_max {
            Some(offers_max) => integer("offers_max", offers_max)?,
            None => usize::MAX,
        };
        caught(|| Ok(self.lock().tick(now_ms, offers_max)))
    }

    #[pyo3(signature = (
        *, model, network, scope, context_tokens, now_ms, seed, work_tokens = None, price_microcents_max = None,
        only = None, ignore = None, tried = None, output_tokens = None, prefer = None
    ))]
    // The wishes of a request, each named in Python.
    #[allow(clippy::too_many_arguments)]
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
        only: Option<&Bound<'_, PyAny>>,
        ignore: Option<&Bound<'_, PyAny>>,
        tried: Option<&Bound<'_, PyAny>>,
        output_tokens: Option<&Bound<'_, PyAny>>,
        prefer: Option<&[u8]>,
    ) -> PyResult<Decision> {
        let lists = Lists::new(py, only, ignore, tried)?;
        let numbers = [context_tokens, now_ms];
        let more = [work_tokens, price_microcents_max, output_tokens];
        let mut request = lists.request(py, model, network, scope, numbers, more, prefer)?;
        request.seed = integer("seed", seed)?;
        caught(|| {
            self.lock()
                .pick(&request)
                .map(Decision)
                .map_err(|error| scoring_error(py, error))
        })
    }

    /// The same request once for each seed: (key, explored, propensity), or None where nothing fitted.
    #[pyo3(signature = (
        *, model, network, scope, context_tokens, now_ms, seeds, work_tokens = None, price_microcents_max = None,
        only = None, ignore = None, tried = None, output_tokens = None, prefer = None
    ))]
    // The wishes of a request, each named in Python; the seeds arrive as an owned vector.
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn pick_many<'py>(
        &self,
        py: Python<'py>,
        model: &Bound<'_, PyString>,
        network: &[u8],
        scope: &str,
        context_tokens: &Bound<'_, PyAny>,
        now_ms: &Bound<'_, PyAny>,
        seeds: Vec<Bound<'_, PyAny>>,
        work_tokens: Option<&Bound<'_, PyAny>>,
        price_microcents_max: Option<&Bound<'_, PyAny>>,
        only: Option<&Bound<'_, PyAny>>,
        ignore: Option<&Bound<'_, PyAny>>,
        tried: Option<&Bound<'_, PyAny>>,
        output_tokens: Option<&Bound<'_, PyAny>>,
        prefer: Option<&[u8]>,
    ) -> PyResult<Vec<Option<PickOf<'py>>>> {
        let lists = Lists::new(py, only, ignore, tried)?;
        let numbers = [context_tokens, now_ms];
        let more = [work_tokens, price_microcents_max, output_tokens];
        let request = lists.request(py, model, network, scope, numbers, more, prefer)?;
        let requests = seeds
            .iter()
            .map(|seed| {
                let seed = integer("seeds", seed)?;
                Ok(Request { seed, ..request })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let picks = caught(|| {
            self.lock()
                .pick_many(&requests)
                .map_err(|error| scoring_error(py, error))
        })?;
        let of =
            |pick: scoring::Pick| (PyBytes::new(py, &pick.key), pick.explored, pick.propensity);
        Ok(picks.into_iter().map(|pick| pick.map(of)).collect())
    }

    /// The whole state as bytes.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let snapshot = caught(|| Ok(self.lock().snapshot()))?;
        Ok(PyBytes::new(py, &snapshot))
    }

    /// The router that `snapshot` described.
    #[staticmethod]
    fn restore(py: Python<'_>, snapshot: &[u8]) -> PyResult<Self> {
        caught(|| {
            scoring::Router::restore(snapshot)
                .map(|router| Self(Mutex::new(router)))
                .map_err(|error| scoring_error(py, error))
        })
    }

    fn release(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().release(&key)))
    }

    /// Slots taken of a device.
    fn load(&self, py: Python<'_>, group: &[u8]) -> PyResult<u32> {
        let group = key(py, "group", group)?;
        caught(|| Ok(self.lock().load(&group)))
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

    fn report_owner(
        &self,
        py: Python<'_>,
        owner: &[u8],
        ok: bool,
        now_ms: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let owner = key(py, "owner", owner)?;
        let now_ms = integer("now_ms", now_ms)?;
        caught(|| {
            self.lock().report_owner(&owner, ok, now_ms);
            Ok(())
        })
    }

    /// (key, asked, got, fair share, missed by reason) of each offer that was asked for anything.
    fn take_tallies<'py>(&self, py: Python<'py>) -> PyResult<Vec<TallyOf<'py>>> {
        let tallies = caught(|| Ok(self.lock().take_tallies()))?;
        tallies
            .into_iter()
            .map(|(key, tally)| {
                let missed = PyDict::new(py);
                for (name, count) in scoring::REASON_NAMES.iter().zip(tally.missed) {
                    if count > 0 {
                        missed.set_item(name, count)?;
                    }
                }
                let key = PyBytes::new(py, &key);
                Ok((key, tally.asked, tally.got, tally.fair_share, missed))
            })
            .collect()
    }

    /// Requests to the market: of all, and of each network that makes offers.
    fn take_asked<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyDict>)> {
        let (all, by) = caught(|| Ok(self.lock().take_asked()))?;
        let of = PyDict::new(py);
        for (network, count) in by {
            of.set_item(PyBytes::new(py, &network), count)?;
        }
        Ok((all, of))
    }

    /// (model, price, latency) of each model that somebody could serve now.
    fn medians(&self) -> PyResult<Vec<(String, f64, f64)>> {
        caught(|| Ok(self.lock().medians()))
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

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Router>()
}
