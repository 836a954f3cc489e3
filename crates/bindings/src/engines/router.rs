//! scoring: the router.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use scoring::{Offer, References, Request, Settings, Visibility};

use super::request::Lists;
use super::score::Decision;
use super::tallies::{self, PickOf, TallyOf};
use crate::errors::{
    caught, integer, integer_or, invalid, key, number, scoring as scoring_error, text,
};

/// The offers of a market, and the pick of one for each request: a function of its state, the request and the seed.
///
/// Keys are 16 bytes, times whole milliseconds from any fixed start, prices micro-cents per 1,000,000 tokens. `weights`
/// are five others, by name or in the order of the score, in any unit: finite, at least 0, not all 0. What breaks a
/// rule raises `InvalidInput` with the name of the field, and changes nothing. The order of offers, and where it comes
/// from: docs/engines/router.md.
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

    /// Adds an offer, offline and open, or changes one, which keeps how it stands. `owner` is its network, `group` its
    /// device: offers of a device share a breaker and its `group_capacity` slots (None: no limit). `visibility` is
    /// `own` or `market`; `capacity` at least 1; `output_tokens` None: as many as there is context for.
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
            output_tokens: integer_or("output_tokens", output_tokens, i64::MAX)?,
            capacity: integer("capacity", capacity)?,
            group_capacity: integer_or("group_capacity", group_capacity, u32::MAX)?,
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

    /// Forgets an offer. False if it is not here.
    fn remove(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().remove(&key)))
    }

    /// Whether its device is connected. False if the offer is not here.
    fn set_online(&self, py: Python<'_>, key: &[u8], online: bool) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().set_online(&key, online)))
    }

    /// Whether its owner takes work. False if the offer is not here.
    fn set_open(&self, py: Python<'_>, key: &[u8], open: bool) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().set_open(&key, open)))
    }

    /// What is known of its provider: `quality` and `availability` from 0 to 1, `latency_ms` finite and at least 0, as
    /// `Quality.estimate` has them. False if the offer is not here.
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

    /// The price and the latency at which a part of the score is one half, for the offers of `model`, which are scored
    /// anew: to be called when an epoch begins.
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

    /// Begins an epoch: the work of all offers fades to `now_ms`. With `offers_max` no more of them are scored anew at
    /// once; False while some are left: call it again with the same time.
    #[pyo3(signature = (now_ms, *, offers_max = None))]
    fn tick(
        &self,
        now_ms: &Bound<'_, PyAny>,
        offers_max: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let now_ms = integer("now_ms", now_ms)?;
        let offers_max = integer_or("offers_max", offers_max, usize::MAX)?;
        caught(|| Ok(self.lock().tick(now_ms, offers_max)))
    }

    /// Picks an offer, takes a slot of it, which `release` gives back, and charges it `work_tokens` (the context's, if
    /// not given). `scope` is `own` (the network's own offers) or `market` (those of others). Only offers for at least
    /// `context_tokens` and `output_tokens` that cost `price_microcents_max` at most, listed in `only` (if given) and
    /// not in `ignore` or `tried`. `prefer` is taken if it passes and its band is the best one's or the next.
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

    /// The same request once for each of `seeds`, without cards: (key, explored, propensity), or None where nothing
    /// fitted.
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
        let pick = |pick: Option<_>| pick.map(|pick| tallies::picked(py, &pick));
        Ok(picks.into_iter().map(pick).collect())
    }

    /// The whole state as bytes, which `restore` reads.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let snapshot = caught(|| Ok(self.lock().snapshot()))?;
        Ok(PyBytes::new(py, &snapshot))
    }

    /// A router that goes on where the one of `snapshot` was, to the last bit. `InvalidInput` for anything else.
    #[staticmethod]
    fn restore(py: Python<'_>, snapshot: &[u8]) -> PyResult<Self> {
        caught(|| {
            scoring::Router::restore(snapshot)
                .map(|router| Self(Mutex::new(router)))
                .map_err(|error| scoring_error(py, error))
        })
    }

    /// Gives the slot of a pick back. False if the offer has none taken, or is not here.
    fn release(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let key = self::key(py, "key", key)?;
        caught(|| Ok(self.lock().release(&key)))
    }

    /// How many slots of a device are taken.
    fn load(&self, py: Python<'_>, group: &[u8]) -> PyResult<u32> {
        let group = key(py, "group", group)?;
        caught(|| Ok(self.lock().load(&group)))
    }

    /// How a request to a device ended. `breaker_failures` in a row open its breaker for `breaker_open_ms`, longer each
    /// time; with `breaker_window`, so do 40 % of the last requests. Then one request tries it.
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

    /// The same over all devices of an owner, with four times the failures in a row and twice the window.
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

    /// Of each offer asked for since the last call: (key, asked, got, fair share, missed), `missed` by the gate it
    /// failed, the part of the score that cost it most against the winner, `turn` or `chance`.
    fn take_tallies<'py>(&self, py: Python<'py>) -> PyResult<Vec<TallyOf<'py>>> {
        let tallies = caught(|| Ok(self.lock().take_tallies()))?;
        tallies
            .iter()
            .map(|(key, tally)| tallies::tally(py, key, tally))
            .collect()
    }

    /// Requests to the market since the last call: of all, and of each network that makes offers, by its key.
    fn take_asked<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyDict>)> {
        let (all, by) = caught(|| Ok(self.lock().take_asked()))?;
        Ok((all, tallies::by_network(py, by)?))
    }

    /// (model, price, latency in milliseconds) of each model, over the offers that could serve the market now.
    fn medians(&self) -> PyResult<Vec<(String, f64, f64)>> {
        caught(|| Ok(self.lock().medians()))
    }

    /// `closed`, `open` or `half_open`: of a device's breaker or an owner's.
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
