//! Time-decayed, weighted quality aggregates per provider.
//!
//! Pure: the time is an argument. An old observation counts less than a new one, by half for each half-life between them,
//! and the order in which observations arrive does not matter.
#![forbid(unsafe_code)]

mod aggregate;
mod bounds;
mod estimate;
mod quality;

pub use aggregate::{Aggregate, HalfLife};
pub use bounds::{Invalid, PROVIDER_BYTES_MAX};
pub use estimate::{Estimate, Prior};
pub use quality::{Metric, Quality, Settings};
