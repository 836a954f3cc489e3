//! Token counting, pricing and settlement arithmetic.
//!
//! Pure: no input or output, no clock, no randomness. Money is integer micro-cents (10⁻⁶ cent) in `i64`, products are
//! formed in `i128`, and what does not fit is an error. Counts equal those of `tiktoken` for the two vocabularies
//! embedded here.
#![forbid(unsafe_code)]

mod ascii;
mod bpe;
mod class;
mod count;
mod encoding;
mod growing;
mod money;
mod money_columns;
mod registered;
mod registry;
mod rules;
mod run;
mod segments;
mod split;
mod tokens;

pub use encoding::{encoding_for, Encoding, EncodingChoice};
pub use money::{
    quote, settle, tokens_affordable, MoneyError, Rounding, Settlement, BASIS_POINTS,
    FEE_BASIS_POINTS_MAX, FEE_BASIS_POINTS_MIN, MICROCENTS_PER_CENT, UNITS_TOKENS,
};
pub use money_columns::{settle_many, Column, Parts, RowError};
pub use registered::{FileError, Registered, FILE_BYTES_MAX};
pub use registry::{Choice, Registry, MODELS_MAX, MODEL_BYTES_MAX};
pub use tokens::{count, count_until, Counter, Tokenizer};
