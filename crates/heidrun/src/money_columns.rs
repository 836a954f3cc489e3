//! Settlement of many requests at once, by the column.

use crate::money::{settle, MoneyError, Rounding, BASIS_POINTS, MICROCENTS_PER_CENT};

/// A value for every row, or one for all.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// The same for all rows.
    All(i64),
    /// One for each row.
    Each(&'a [i64]),
}

impl Column<'_> {
    #[inline]
    fn at(self, row: usize) -> i64 {
        match self {
            Self::All(value) => value,
            Self::Each(values) => values[row],
        }
    }

    fn holds(self, rows: usize) -> bool {
        match self {
            Self::All(_) => true,
            Self::Each(values) => values.len() == rows,
        }
    }
}

/// Where the parts of the settlements go; each as long as there are rows.
pub struct Parts<'a> {
    /// What the requesters pay.
    pub total_microcents: &'a mut [i64],
    /// What the platform keeps.
    pub fee_microcents: &'a mut [i64],
    /// What the providers get.
    pub earnings_microcents: &'a mut [i64],
}

/// The first row that could not be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Which row, from 0.
    pub row: usize,
    /// Why.
    pub error: MoneyError,
}

/// Below this a total times any fee fits in 64 bits without a sign.
const PLAIN_TOTAL_MAX: u64 = u64::MAX / crate::money::FEE_BASIS_POINTS_MAX as u64;
/// Tokens, and cents, whose product with 10⁶ and the other fits in 64 bits.
const PLAIN_TOKENS_MAX: u64 = 1 << 28;
const PLAIN_PRICE_MAX: u64 = 1 << 16;

/// [`settle`] of each row. On an error the parts of the rows before it are written and no others.
///
/// # Errors
/// The first row that [`settle`] refuses, and why.
///
/// # Panics
/// If the columns are not all of one length.
pub fn settle_many(
    tokens: &[i64],
    price_cents: Column<'_>,
    unit_tokens: i64,
    fee_basis_points: Column<'_>,
    rounding: Rounding,
    parts: &mut Parts<'_>,
) -> Result<(), RowError> {
    let rows = tokens.len();
    assert!(
        price_cents.holds(rows)
            && fee_basis_points.holds(rows)
            && parts.total_microcents.len() == rows
            && parts.fee_microcents.len() == rows
            && parts.earnings_microcents.len() == rows,
        "columns of one length"
    );
    let columns = (tokens, price_cents, fee_basis_points);
    // A division by a number known here is a multiplication.
    match (unit_tokens, rounding) {
        (1_000, Rounding::PerRequest) => settle_rows::<1_000, true>(columns, parts),
        (1_000, Rounding::PerStatement) => settle_rows::<1_000, false>(columns, parts),
        (1_000_000, Rounding::PerRequest) => settle_rows::<1_000_000, true>(columns, parts),
        (1_000_000, Rounding::PerStatement) => settle_rows::<1_000_000, false>(columns, parts),
        _ if rows == 0 => Ok(()),
        _ => Err(RowError {
            row: 0,
            error: MoneyError::Invalid {
                field: "unit_tokens",
                rule: "must be 1000 or 1000000",
            },
        }),
    }
}

type Rows<'a> = (&'a [i64], Column<'a>, Column<'a>);

fn settle_rows<const UNIT: u64, const PER_REQUEST: bool>(
    (tokens, price_cents, fee_basis_points): Rows<'_>,
    parts: &mut Parts<'_>,
) -> Result<(), RowError> {
    for (row, &tokens) in tokens.iter().enumerate() {
        let (price, fee_rate) = (price_cents.at(row), fee_basis_points.at(row));
        let (total, fee) = match plain::<UNIT, PER_REQUEST>(tokens, price, fee_rate) {
            Some(parts) => parts,
            None => any::<UNIT, PER_REQUEST>(tokens, price, fee_rate)
                .map_err(|error| RowError { row, error })?,
        };
        parts.total_microcents[row] = total;
        parts.fee_microcents[row] = fee;
        parts.earnings_microcents[row] = total - fee;
    }
    Ok(())
}

/// Total and fee where 64 bits are enough for every product; None where they may not be, or where something is wrong.
#[inline]
#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // a negative number is a large one, and refused as such
fn plain<const UNIT: u64, const PER_REQUEST: bool>(
    tokens: i64,
    price_cents: i64,
    fee_basis_points: i64,
) -> Option<(i64, i64)> {
    let (tokens, price, fee_rate) = (tokens as u64, price_cents as u64, fee_basis_points as u64);
    let rates =
        crate::money::FEE_BASIS_POINTS_MIN as u64..=crate::money::FEE_BASIS_POINTS_MAX as u64;
    if tokens >= PLAIN_TOKENS_MAX || price >= PLAIN_PRICE_MAX || !rates.contains(&fee_rate) {
        return None;
    }
    let microcents = MICROCENTS_PER_CENT as u64;
    let total = if PER_REQUEST {
        (tokens * price).div_ceil(UNIT) * microcents
    } else if microcents % UNIT == 0 {
        tokens * price * (microcents / UNIT)
    } else {
        return None;
    };
    if total > PLAIN_TOTAL_MAX {
        return None;
    }
    Some((
        total as i64,
        (total * fee_rate / BASIS_POINTS as u64) as i64,
    ))
}

#[cold]
#[allow(clippy::cast_possible_wrap)] // 1 000 or 1 000 000
fn any<const UNIT: u64, const PER_REQUEST: bool>(
    tokens: i64,
    price_cents: i64,
    fee_basis_points: i64,
) -> Result<(i64, i64), MoneyError> {
    let rounding = if PER_REQUEST {
        Rounding::PerRequest
    } else {
        Rounding::PerStatement
    };
    let settled = settle(tokens, price_cents, UNIT as i64, fee_basis_points, rounding)?;
    Ok((settled.total_microcents, settled.fee_microcents))
}
