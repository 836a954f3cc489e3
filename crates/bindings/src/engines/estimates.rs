//! eikthyrnir: what it tells of a provider.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A mean that moved far since the caller was last told: of `metric` of `provider`, from `before` to `after`.
#[pyclass(frozen, get_all, module = "yggdrasil._core")]
pub struct Change {
    provider: Py<PyBytes>,
    metric: &'static str,
    before: f64,
    after: f64,
}

#[pymethods]
impl Change {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let provider = self.provider.bind(py).repr()?;
        let Self {
            metric,
            before,
            after,
            ..
        } = self;
        Ok(format!(
            "Change(provider={provider}, metric={metric:?}, before={before}, after={after})"
        ))
    }
}

impl Change {
    pub fn of(py: Python<'_>, change: &eikthyrnir::Change) -> Self {
        Self {
            provider: PyBytes::new(py, &change.provider).unbind(),
            metric: change.metric.name(),
            before: change.before,
            after: change.after,
        }
    }
}

/// A metric of a provider at some time: the `mean`, drawn to the prior; the `weight` that is left of its observations;
/// their `variance`; `lower_bound` and `upper_bound`, z standard errors away.
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

impl Estimate {
    pub fn of(estimate: &eikthyrnir::Estimate) -> Self {
        Self {
            mean: estimate.mean,
            weight: estimate.weight,
            variance: estimate.variance,
            lower_bound: estimate.lower_bound,
            upper_bound: estimate.upper_bound,
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Change>()?;
    module.add_class::<Estimate>()
}
