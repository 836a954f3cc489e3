//! What is offered and what is asked for.

use crate::bounds::{ensure, model, Invalid, KEYS_MAX};

/// An id of 16 bytes.
pub type Key = [u8; 16];

/// Who may be served by an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Its own network only.
    Own,
    /// Its own network and the market.
    Market,
}

/// Where a request looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The offers of the requester's own network.
    Own,
    /// The offers that other networks make to the market.
    Market,
}

/// One model on one device, as its owner offers it. Facts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Its id.
    pub key: Key,
    /// The network it belongs to.
    pub owner: Key,
    /// The device: its offers share a breaker.
    pub group: Key,
    /// The model's name, compared byte by byte.
    pub model: &'a str,
    /// Micro-cents per 1 000 000 tokens.
    pub price_microcents: i64,
    /// The longest prompt and completion together.
    pub context_tokens: i64,
    /// The longest completion.
    pub output_tokens: i64,
    /// Requests it takes at the same time.
    pub capacity: u32,
    /// Requests its device takes at the same time, over all its offers.
    pub group_capacity: u32,
    /// Who may be served.
    pub visibility: Visibility,
}

impl Offer<'_> {
    /// # Errors
    /// [`Invalid`] naming the field that breaks its rule.
    pub fn check(&self) -> Result<(), Invalid> {
        model(self.model)?;
        ensure(
            self.price_microcents >= 0,
            "price_microcents",
            "must be at least 0",
        )?;
        ensure(
            self.context_tokens >= 1,
            "context_tokens",
            "must be at least 1",
        )?;
        ensure(
            self.output_tokens >= 1,
            "output_tokens",
            "must be at least 1",
        )
    }
}

/// What a requester needs and wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The requester's network.
    pub network: Key,
    /// Where to look.
    pub scope: Scope,
    /// Prompt and longest completion together.
    pub context_tokens: i64,
    /// The longest completion asked for.
    pub output_tokens: i64,
    /// The work charged to the provider picked, in tokens.
    pub work_tokens: i64,
    /// The highest acceptable price, micro-cents per 1 000 000 tokens.
    pub price_microcents_max: Option<i64>,
    /// If not empty, no other offers will do.
    pub only: &'a [Key],
    /// Offers the requester does not want.
    pub ignore: &'a [Key],
    /// Offers this request was already sent to.
    pub tried: &'a [Key],
    /// Taken in place of the best if it passes the gates and is not far worse.
    pub prefer: Option<Key>,
    /// The time, in milliseconds from any fixed start.
    pub now_ms: i64,
    /// All the chance there is in the pick.
    pub seed: u64,
}

impl Request<'_> {
    /// # Errors
    /// [`Invalid`] naming the field that breaks its rule.
    pub fn check(&self) -> Result<(), Invalid> {
        model(self.model)?;
        ensure(
            self.context_tokens >= 0,
            "context_tokens",
            "must be at least 0",
        )?;
        ensure(
            self.output_tokens >= 0,
            "output_tokens",
            "must be at least 0",
        )?;
        ensure(self.work_tokens >= 0, "work_tokens", "must be at least 0")?;
        ensure(
            self.price_microcents_max.is_none_or(|price| price >= 0),
            "price_microcents_max",
            "must be at least 0",
        )?;
        for (field, keys) in [
            ("only", self.only),
            ("ignore", self.ignore),
            ("tried", self.tried),
        ] {
            ensure(
                keys.len() <= KEYS_MAX,
                field,
                "must have at most 1024 entries",
            )?;
        }
        Ok(())
    }
}
