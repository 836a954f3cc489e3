//! Time-decayed, weighted quality aggregates per provider.
//!
//! Pure: the time is an argument. An old observation counts less than a new one, by half for each half-life between them,
//! and the order in which observations arrive does not matter.
#![forbid(unsafe_code)]

mod aggregate;
mod batches;
mod bins;
mod blocks;
mod bounds;
mod change;
mod columns;
mod estimate;
mod kept;
mod mapping;
mod merging;
mod names;
mod pieces;
mod quality;
mod raters;
mod reading;
mod runs;
mod settings;
mod slots;
mod snapshot;
mod sorting;

pub use aggregate::{Aggregate, HalfLife};
pub use bounds::{Invalid, InvalidRow, PROVIDERS_MAX, PROVIDER_BYTES_MAX};
pub use change::{Change, Notice};
pub use columns::{Observations, Providers, Times};
pub use estimate::{Estimate, Prior};
pub use mapping::{RELATIVE_ERROR, VALUE_MIN};
pub use quality::Quality;
pub use raters::Rater;
pub use settings::{Metric, Settings};
