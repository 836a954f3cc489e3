//! eikthyrnir: what is known of each provider.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, Int64Array};
use eikthyrnir::{Metric, Notice, Observations, Prior, Providers, Settings, Times};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use pyo3_arrow::PyArray;
use scoring::Missing;

use super::columns::{column, integers, Column, Kind};
use super::estimates::{Change, Estimate};
use super::keys::{Keys, Whose};
use crate::errors::{caught, integer, invalid, invalid_row, key, number, quality as quality_error};

/// Aggregates of all providers in which the past fades: an observation counts half after each `half_life_ms`, whatever
/// the order they arrive in.
///
/// A metric is `success` or `quality` (0 to 1), `latency_ms` or `throughput` (0 to 10¹²). A provider is named by 1 to
/// 64 bytes, times are whole milliseconds from any fixed start, priors are (mean, weight). With `notice_share` and
/// `notice_ratio` a mean that moved by so much (shares), by this factor (amounts), is told. What breaks a rule raises
/// `InvalidInput` with the name of the field, and changes nothing. Formulas and their sources:
/// docs/engines/eikthyrnir.md.
#[pyclass(frozen, module = "yggdrasil._core")]
pub struct Quality(Mutex<eikthyrnir::Quality>);

impl Quality {
    /// An observation is added whole or not at all, so the state behind a panic is sound.
    fn lock(&self) -> MutexGuard<'_, eikthyrnir::Quality> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Quality {
    /// Priors are (mean, weight).
    #[new]
    #[pyo3(signature = (
        *, half_life_ms = 86_400_000, z = 1.0, success_prior = (0.5, 2.0), quality_prior = (0.5, 2.0),
        latency_ms_prior = (1_000.0, 1.0), throughput_prior = (20.0, 1.0), providers_max = 1_000_000,
        quantiles = false, notice_share = None, notice_ratio = None, rater_weight_max = 3.0, raters_max = 1_000_000
    ))]
    #[allow(clippy::too_many_arguments)] // settings, each named in Python
    fn new(
        py: Python<'_>,
        half_life_ms: i64,
        z: f64,
        success_prior: (f64, f64),
        quality_prior: (f64, f64),
        latency_ms_prior: (f64, f64),
        throughput_prior: (f64, f64),
        providers_max: usize,
        quantiles: bool,
        notice_share: Option<f64>,
        notice_ratio: Option<f64>,
        rater_weight_max: f64,
        raters_max: usize,
    ) -> PyResult<Self> {
        let notice = match (notice_share, notice_ratio) {
            (None, None) => None,
            (Some(share), Some(ratio)) => Some(Notice { share, ratio }),
            _ => {
                let rule = "must be given if notice_ratio is, and only then";
                return Err(invalid(py, "notice_share", rule));
            }
        };
        let priors = [
            success_prior,
            quality_prior,
            latency_ms_prior,
            throughput_prior,
        ]
        .map(|(mean, weight)| Prior { mean, weight });
        let settings = Settings {
            half_life_ms,
            z,
            priors,
            providers_max,
            quantiles,
            notice,
            rater_weight_max,
            raters_max,
        };
        let quality =
            eikthyrnir::Quality::new(settings).map_err(|error| quality_error(py, error))?;
        Ok(Self(Mutex::new(quality)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    /// Adds one observation, of a `weight` above 0 and at most 1; a Change if the mean moved far. With a `rater` (16
    /// bytes; shares only) all that this rater says of the provider counts with at most `rater_weight_max`.
    #[pyo3(signature = (provider, metric, value, *, at_ms, weight = 1.0, rater = None))]
    #[allow(clippy::too_many_arguments)] // each named in Python
    fn observe(
        &self,
        py: Python<'_>,
        provider: &[u8],
        metric: &str,
        value: &Bound<'_, PyAny>,
        at_ms: &Bound<'_, PyAny>,
        weight: f64,
        rater: Option<&[u8]>,
    ) -> PyResult<Option<Change>> {
        let metric = Metric::from_name(metric).map_err(|error| quality_error(py, error))?;
        let value = number("value", value)?;
        let at_ms = integer("at_ms", at_ms)?;
        let rater = rater.map(|rater| key(py, "rater", rater)).transpose()?;
        caught(|| {
            let mut quality = self.lock();
            let change = match rater {
                None => quality.observe(provider, metric, value, weight, at_ms),
                Some(rater) => quality.rate(provider, metric, value, weight, at_ms, rater),
            };
            let change = change.map_err(|error| quality_error(py, error))?;
            Ok(change.map(|change| Change::of(py, &change)))
        })
    }

    /// Adds one observation a row, all rows or none: `providers` is a column of keys or, much faster, of `handles`;
    /// `values` and `weights` columns of 64-bit floats; `at_ms` one time or a column. An error names column and row.
    #[pyo3(signature = (providers, metric, values, *, at_ms, weights = None))]
    fn observe_many(
        &self,
        py: Python<'_>,
        providers: &Bound<'_, PyAny>,
        metric: &str,
        values: &Bound<'_, PyAny>,
        at_ms: &Bound<'_, PyAny>,
        weights: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Change>> {
        let metric = Metric::from_name(metric).map_err(|error| quality_error(py, error))?;
        let values = column("values", values, Missing::Error)?.0.into_wide();
        let weights = weights
            .map(|weights| column("weights", weights, Missing::Error))
            .transpose()?
            .map(|(weights, _)| weights.into_wide());
        let times = if at_ms.is_instance_of::<PyInt>() {
            Err(integer("at_ms", at_ms)?)
        } else {
            Ok(integers("at_ms", at_ms)?)
        };
        let (values, weights) = (values.wide(), weights.as_ref().map(Column::wide));
        let observations = Observations {
            metric,
            values,
            weights,
            at_ms: match &times {
                Ok(times) => Times::Each(times.values()),
                Err(at_ms) => Times::One(*at_ms),
            },
        };
        let whose = Whose::of(providers)?;
        let providers = match &whose {
            Whose::Handles(handles) => Ok(handles.values()),
            Whose::Keys(keys) => Err(keys),
        };
        caught(|| {
            let changes = py
                .detach(|| {
                    let add = |providers| self.lock().observe_many(providers, &observations);
                    match providers {
                        Ok(handles) => add(Providers::Handles(handles)),
                        Err(keys) => add(Providers::Keys(&keys.slices())),
                    }
                })
                .map_err(|error| invalid_row(py, error.field, error.rule, error.row))?;
            Ok(changes
                .iter()
                .map(|change| Change::of(py, change))
                .collect())
        })
    }

    /// Makes providers known: a column of int64 in the kind of `keys`, each good until its provider is removed or
    /// pruned.
    fn handles<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (keys, kind) = Keys::of(keys)?;
        let handles: Vec<i64> = caught(|| {
            py.detach(|| self.lock().handles(&keys.slices()))
                .map_err(|error| invalid_row(py, error.field, error.rule, error.row))
        })?;
        match kind {
            Kind::Numpy => Ok(PyArray1::from_vec(py, handles).into_any()),
            Kind::Arrow => {
                let handles: ArrayRef = std::sync::Arc::new(Int64Array::from(handles));
                Ok(PyArray::from_array_ref(handles)
                    .into_pyobject(py)?
                    .into_any())
            }
            Kind::List => Ok(handles.into_pyobject(py)?.into_any()),
        }
    }

    /// The value at `rank` (0 to 1) of latency or throughput, within 1 %; None if nothing was seen. `InvalidInput`
    /// without `quantiles=True`.
    fn quantile(
        &self,
        py: Python<'_>,
        provider: &[u8],
        metric: &str,
        rank: f64,
    ) -> PyResult<Option<f64>> {
        caught(|| {
            Metric::from_name(metric)
                .and_then(|metric| self.lock().quantile(provider, metric, rank))
                .map_err(|error| quality_error(py, error))
        })
    }

    /// The mean without the share `trim` at either end; else as `quantile`.
    #[pyo3(signature = (provider, metric, trim = 0.05))]
    fn trimmed_mean(
        &self,
        py: Python<'_>,
        provider: &[u8],
        metric: &str,
        trim: f64,
    ) -> PyResult<Option<f64>> {
        caught(|| {
            Metric::from_name(metric)
                .and_then(|metric| self.lock().trimmed_mean(provider, metric, trim))
                .map_err(|error| quality_error(py, error))
        })
    }

    /// All of it, settings too, as bytes, which `restore` reads.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        caught(|| {
            let bytes = py.detach(|| self.lock().snapshot());
            Ok(PyBytes::new(py, &bytes))
        })
    }

    /// The registry that `snapshot` has. `InvalidInput` for anything else.
    #[staticmethod]
    fn restore(py: Python<'_>, snapshot: &[u8]) -> PyResult<Self> {
        caught(|| {
            let quality = py
                .detach(|| eikthyrnir::Quality::restore(snapshot))
                .map_err(|error| quality_error(py, error))?;
            Ok(Self(Mutex::new(quality)))
        })
    }

    /// What it holds, without the room for sorting columns, which the process keeps (80 MiB at most).
    #[getter]
    fn memory_bytes(&self) -> usize {
        self.lock().heap_bytes()
    }

    /// A metric of a provider at `at_ms`. One never seen gets the prior; one not seen for long drifts back to it.
    #[pyo3(signature = (provider, metric, *, at_ms))]
    fn estimate(
        &self,
        py: Python<'_>,
        provider: &[u8],
        metric: &str,
        at_ms: &Bound<'_, PyAny>,
    ) -> PyResult<Estimate> {
        let metric = Metric::from_name(metric).map_err(|error| quality_error(py, error))?;
        let at_ms = integer("at_ms", at_ms)?;
        caught(|| {
            let estimate = self
                .lock()
                .estimate(provider, metric, at_ms)
                .map_err(|error| quality_error(py, error))?;
            Ok(Estimate::of(&estimate))
        })
    }

    /// Adds what another registry of the same half-life has seen; `a.merge(b)` and `b.merge(a)` end equal.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Quality>) -> PyResult<()> {
        caught(|| {
            // Copied first, so that no two locks are held at once: `other` may be this very registry.
            let theirs = other.get().lock().clone();
            self.lock()
                .merge(&theirs)
                .map_err(|error| quality_error(py, error))
        })
    }

    /// Forgets a provider. False if it is not here.
    fn remove(&self, provider: &[u8]) -> PyResult<bool> {
        caught(|| Ok(self.lock().remove(provider)))
    }

    /// Forgets every provider of whom less than `weight_min` is left in each metric, and the raters of whom less is
    /// left; how many providers those were.
    #[pyo3(signature = (*, at_ms, weight_min))]
    fn prune(&self, at_ms: &Bound<'_, PyAny>, weight_min: f64) -> PyResult<usize> {
        let at_ms = integer("at_ms", at_ms)?;
        caught(|| Ok(self.lock().prune(at_ms, weight_min)))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Quality>()
}
