//! What tokens cost, and who gets which part.
//!
//! Two ways to round, both upwards and both for the whole request at once:
//!
//! * [`Rounding::PerRequest`]: `total = ⌈tokens × price / unit⌉` whole cents;
//! * [`Rounding::PerStatement`]: `total = ⌈tokens × price × 10⁶ / unit⌉` micro-cents; the statement line rounds later.
//!
//! `fee = ⌊total × basis points / 10 000⌋` and `earnings = total − fee`, so that the two parts always add up to the total.

use std::error::Error;
use std::fmt;

/// Micro-cents in one cent.
pub const MICROCENTS_PER_CENT: i64 = 1_000_000;
/// Basis points in the whole.
pub const BASIS_POINTS: i64 = 10_000;
/// The lowest fee an offer class may have.
pub const FEE_BASIS_POINTS_MIN: i64 = 1_000;
/// The highest fee an offer class may have.
pub const FEE_BASIS_POINTS_MAX: i64 = 1_500;
/// The numbers of tokens a price may be stated for.
pub const UNITS_TOKENS: [i64; 2] = [1_000, 1_000_000];

/// When a total is rounded up to whole cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Each request by itself.
    PerRequest,
    /// Once per statement line; the request keeps exact micro-cents.
    PerStatement,
}

impl Rounding {
    /// The name used in offers and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerRequest => "per_request",
            Self::PerStatement => "per_statement",
        }
    }

    /// The rounding of that name.
    ///
    /// # Errors
    /// [`MoneyError::Invalid`] for any other name.
    pub fn from_name(name: &str) -> Result<Self, MoneyError> {
        match name {
            "per_request" => Ok(Self::PerRequest),
            "per_statement" => Ok(Self::PerStatement),
            _ => Err(MoneyError::Invalid {
                field: "rounding",
                rule: "must be per_request or per_statement",
            }),
        }
    }

    /// The step, in micro-cents, to which a total is rounded up.
    const fn step_microcents(self) -> i64 {
        match self {
            Self::PerRequest => MICROCENTS_PER_CENT,
            Self::PerStatement => 1,
        }
    }
}

/// The parts of one payment. `total_microcents == fee_microcents + earnings_microcents`, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// Tokens paid for: prompt and completion together.
    pub tokens: i64,
    /// What the requester pays.
    pub total_microcents: i64,
    /// What the platform keeps.
    pub fee_microcents: i64,
    /// What the provider gets.
    pub earnings_microcents: i64,
}

/// Why an amount could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// An argument breaks a rule.
    Invalid {
        /// Its name.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The total does not fit in `i64` micro-cents (about 92 billion in whole currency).
    Overflow,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, rule } => write!(f, "{field} {rule}"),
            Self::Overflow => f.write_str("total_microcents does not fit in 64 bits"),
        }
    }
}

impl Error for MoneyError {}

/// The most a request can cost: the settlement if all of `tokens_max` are used. This is the amount to hold.
///
/// # Errors
/// As [`settle`], with `tokens_max` as the name of the field.
pub fn quote(
    tokens_max: i64,
    price_cents: i64,
    unit_tokens: i64,
    fee_basis_points: i64,
    rounding: Rounding,
) -> Result<Settlement, MoneyError> {
    at_least_zero("tokens_max", tokens_max)?;
    settle(
        tokens_max,
        price_cents,
        unit_tokens,
        fee_basis_points,
        rounding,
    )
}

/// What `tokens` cost at `price_cents` per `unit_tokens`, and its parts.
///
/// # Errors
/// [`MoneyError::Invalid`] if tokens or price are negative, the unit is not 1 000 or 1 000 000, or the fee is not
/// 1000 to 1500 basis points; [`MoneyError::Overflow`] if the total does not fit.
pub fn settle(
    tokens: i64,
    price_cents: i64,
    unit_tokens: i64,
    fee_basis_points: i64,
    rounding: Rounding,
) -> Result<Settlement, MoneyError> {
    at_least_zero("tokens", tokens)?;
    check_price(price_cents, unit_tokens)?;
    if !(FEE_BASIS_POINTS_MIN..=FEE_BASIS_POINTS_MAX).contains(&fee_basis_points) {
        return Err(MoneyError::Invalid {
            field: "fee_basis_points",
            rule: "must be 1000 to 1500",
        });
    }
    let total = total_microcents(tokens, price_cents, unit_tokens, rounding)?;
    let fee = i128::from(total) * i128::from(fee_basis_points) / i128::from(BASIS_POINTS);
    let fee = i64::try_from(fee).map_err(|_| MoneyError::Overflow)?;
    Ok(Settlement {
        tokens,
        total_microcents: total,
        fee_microcents: fee,
        earnings_microcents: total - fee,
    })
}

/// The most tokens whose total is at most `budget_microcents`; `i64::MAX` if they are free.
///
/// The exact inverse of the total in [`settle`]: one token more would cost more than the budget. With `m` the budget
/// rounded down to the step `s`, `⌈x⌉ₛ ≤ budget` holds exactly when `x ≤ m`, so the answer is `⌊m × unit / (price × 10⁶)⌋`.
///
/// # Errors
/// [`MoneyError::Invalid`] as for [`settle`], or if the budget is negative.
pub fn tokens_affordable(
    budget_microcents: i64,
    price_cents: i64,
    unit_tokens: i64,
    rounding: Rounding,
) -> Result<i64, MoneyError> {
    at_least_zero("budget_microcents", budget_microcents)?;
    check_price(price_cents, unit_tokens)?;
    if price_cents == 0 {
        return Ok(i64::MAX);
    }
    let step = rounding.step_microcents();
    let budget = budget_microcents / step * step;
    let tokens = i128::from(budget) * i128::from(unit_tokens)
        / (i128::from(price_cents) * i128::from(MICROCENTS_PER_CENT));
    Ok(i64::try_from(tokens).unwrap_or(i64::MAX))
}

fn total_microcents(
    tokens: i64,
    price_cents: i64,
    unit_tokens: i64,
    rounding: Rounding,
) -> Result<i64, MoneyError> {
    // Below 2^126: the product of two i64 fits in i128, and so does `unit` times a step; the factor 10⁶ need not, so it
    // is multiplied in after the division, where the quotient is smaller, or checked.
    let cents_times_unit = i128::from(tokens) * i128::from(price_cents);
    let unit = i128::from(unit_tokens);
    let total = match rounding {
        Rounding::PerRequest => {
            div_ceil(cents_times_unit, unit).checked_mul(i128::from(MICROCENTS_PER_CENT))
        }
        Rounding::PerStatement => cents_times_unit
            .checked_mul(i128::from(MICROCENTS_PER_CENT))
            .map(|product| div_ceil(product, unit)),
    };
    total
        .and_then(|total| i64::try_from(total).ok())
        .ok_or(MoneyError::Overflow)
}

/// `⌈numerator / denominator⌉` for a numerator of at least 0 and a denominator above 0.
fn div_ceil(numerator: i128, denominator: i128) -> i128 {
    numerator / denominator + i128::from(numerator % denominator != 0)
}

fn at_least_zero(field: &'static str, value: i64) -> Result<(), MoneyError> {
    if value < 0 {
        return Err(MoneyError::Invalid {
            field,
            rule: "must be at least 0",
        });
    }
    Ok(())
}

fn check_price(price_cents: i64, unit_tokens: i64) -> Result<(), MoneyError> {
    at_least_zero("price_cents", price_cents)?;
    if !UNITS_TOKENS.contains(&unit_tokens) {
        return Err(MoneyError::Invalid {
            field: "unit_tokens",
            rule: "must be 1000 or 1000000",
        });
    }
    Ok(())
}
