//! `yggdrasil._core`: one flat module, a table of contents over the engines.

mod engines;
mod errors;
#[cfg(feature = "node")]
mod relay;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    engines::register(module)?;
    #[cfg(feature = "node")]
    relay::register(module)?;
    Ok(())
}
