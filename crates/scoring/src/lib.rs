//! The provider score, and the router that picks by it.
//!
//! Pure: time and randomness are arguments, so that the router is a function of (state, request, seed) and any decision
//! can be replayed. Only the operations that IEEE 754 rounds correctly are used (`+ − × ÷ √` and comparisons), so that a
//! replay gives the same bits on every platform; powers and logarithms are built from them in [`mod@portable`].
#![forbid(unsafe_code)]

mod ahead;
mod bounds;
mod breaker;
mod by_key;
mod card;
mod classes;
mod codec;
mod history;
mod html;
mod indexed;
mod kernel;
mod listed;
mod node;
mod offer;
mod party;
mod pick;
mod pool;
pub mod portable;
mod queue;
mod router;
mod score;
mod settings;
mod snapshot;
mod snapshot_offers;
mod standing;
mod table;
mod tally;
mod top;
mod tree;
mod weights;
mod wins;

pub use bounds::{Invalid, InvalidRow, KEYS_MAX, MODEL_BYTES_MAX};
pub use card::{Candidate, Decision, Gates, Pick};
pub use html::{card_html, ranked, ranking_html, Ranked};
pub use kernel::{Missing, Rows, Values, COLUMNS};
pub use offer::{Key, Offer, Request, Scope, Visibility};
pub use router::Router;
pub use score::{
    references_checked, score, score_columns, Columns, Inputs, Parts, References, WEIGHTS,
};
pub use settings::Settings;
pub use table::{rank_rows, score_rows, ROWS_MAX};
pub use tally::{Tally, REASON_NAMES};
pub use weights::Weights;
