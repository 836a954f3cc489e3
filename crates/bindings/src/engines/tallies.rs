//! scoring: what offers were asked for, as Python takes it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use scoring::{Key, Pick, Tally};

pub type PickOf<'py> = (Bound<'py, PyBytes>, bool, f64);
pub type TallyOf<'py> = (Bound<'py, PyBytes>, u64, u64, f64, Bound<'py, PyDict>);

pub fn picked<'py>(py: Python<'py>, pick: &Pick) -> PickOf<'py> {
    (PyBytes::new(py, &pick.key), pick.explored, pick.propensity)
}

/// Reasons that nothing was lost by are left out.
pub fn tally<'py>(py: Python<'py>, key: &Key, tally: &Tally) -> PyResult<TallyOf<'py>> {
    let missed = PyDict::new(py);
    for (name, count) in scoring::REASON_NAMES.iter().zip(tally.missed) {
        if count > 0 {
            missed.set_item(name, count)?;
        }
    }
    let key = PyBytes::new(py, key);
    Ok((key, tally.asked, tally.got, tally.fair_share, missed))
}

pub fn by_network(
    py: Python<'_>,
    counts: impl IntoIterator<Item = (Key, u64)>,
) -> PyResult<Bound<'_, PyDict>> {
    let of = PyDict::new(py);
    for (network, count) in counts {
        of.set_item(PyBytes::new(py, &network), count)?;
    }
    Ok(of)
}
