//! eikthyrnir: what is known of each provider.

use std::sync::{Mutex, MutexGuard, PoisonError};

use eikthyrnir::{Metric, Prior, Settings};
use pyo3::prelude::*;

use crate::errors::{caught, integer, number, quality as quality_error};

/// A metric of a provider at some time.
#[pyclass(frozen, get_all, module = "yggdrasil._core")]
pub struct Estimate {
    mean: f64,
    weight: f64,
    variance: f64,
    lower_bound: f64,
    upper_bound: f64,
}

#[pymethods]
impl Estimate {
    fn __repr__(&self) -> String {
        format!(
            "Estimate(mean={}, weight={}, variance={}, lower_bound={}, upper_bound={})",
            self.mean, self.weight, self.variance, self.lower_bound, self.upper_bound
        )
    }
}

/// The aggregates of all providers.
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
        latency_ms_prior = (1_000.0, 1.0), throughput_prior = (20.0, 1.0), providers_max = 1_000_000
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
    ) -> PyResult<Self> {
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
        };
        let quality =
            eikthyrnir::Quality::new(settings).map_err(|error| quality_error(py, error))?;
        Ok(Self(Mutex::new(quality)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    #[pyo3(signature = (provider, metric, value, *, at_ms, weight = 1.0))]
    fn observe(
        &self,
        py: Python<'_>,
        provider: &[u8],
        metric: &str,
        value: &Bound<'_, PyAny>,
        at_ms: &Bound<'_, PyAny>,
        weight: f64,
    ) -> PyResult<()> {
        let metric = Metric::from_name(metric).map_err(|error| quality_error(py, error))?;
        let value = number("value", value)?;
        let at_ms = integer("at_ms", at_ms)?;
        caught(|| {
            self.lock()
                .observe(provider, metric, value, weight, at_ms)
                .map_err(|error| quality_error(py, error))
        })
    }

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
            Ok(Estimate {
                mean: estimate.mean,
                weight: estimate.weight,
                variance: estimate.variance,
                lower_bound: estimate.lower_bound,
                upper_bound: estimate.upper_bound,
            })
        })
    }

    /// `other` may be this very registry; it is copied first, so that no two locks are held at once.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Quality>) -> PyResult<()> {
        caught(|| {
            let theirs = other.get().lock().clone();
            self.lock()
                .merge(&theirs)
                .map_err(|error| quality_error(py, error))
        })
    }

    fn remove(&self, provider: &[u8]) -> PyResult<bool> {
        caught(|| Ok(self.lock().remove(provider)))
    }

    #[pyo3(signature = (*, at_ms, weight_min))]
    fn prune(&self, at_ms: &Bound<'_, PyAny>, weight_min: f64) -> PyResult<usize> {
        let at_ms = integer("at_ms", at_ms)?;
        caught(|| Ok(self.lock().prune(at_ms, weight_min)))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Quality>()?;
    module.add_class::<Estimate>()
}
