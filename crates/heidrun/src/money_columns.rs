//! Settlement of many requests at once, by the column.

use crate::money::{
    settle, MoneyError, Rounding, BASIS_POINTS, FEE_BASIS_POINTS_MAX, FEE_BASIS_POINTS_MIN,
    MICROCENTS_PER_CENT,
};

/// A value for every row, or one for all.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// The same for all rows.
    All(i64),
    /// One for each row.
    Each(&'a [i64]),
}

impl Column<'_> {
    /// The rows from `start` on, at most `rows` of them.
    fn part(self, start: usize, rows: usize) -> Self {
        match self {
            Self::All(value) => Self::All(value),
            Self::Each(values) => Self::Each(&values[start..start + rows]),
        }
    }

    /// A value for each row of a block.
    fn spread(self) -> [i64; BLOCK_ROWS] {
        let mut spread = [0; BLOCK_ROWS];
        match self {
            Self::All(value) => spread.fill(value),
            Self::Each(values) => spread[..values.len()].copy_from_slice(values),
        }
        spread
    }

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

/// Rows that are looked at together: what is read and written stays in the first cache.
const BLOCK_ROWS: usize = 256;
/// Tokens, and cents, whose product with the other and with all that follows fits in 64 bits.
const PLAIN_TOKENS_BITS: u32 = 26;
const PLAIN_PRICE_BITS: u32 = 16;
// The largest product of all: tokens, price, micro-cents and fee rate, divided by the smallest unit.
const _: () = {
    let product = 1u128 << (PLAIN_TOKENS_BITS + PLAIN_PRICE_BITS);
    assert!(1 << 63 > product * 1_000 * FEE_BASIS_POINTS_MAX as u128);
};

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
    for (block, tokens) in tokens.chunks(BLOCK_ROWS).enumerate() {
        let (start, rows) = (block * BLOCK_ROWS, tokens.len());
        let columns = (
            tokens,
            price_cents.part(start, rows),
            fee_basis_points.part(start, rows),
        );
        let mut parts = Parts {
            total_microcents: &mut parts.total_microcents[start..start + rows],
            fee_microcents: &mut parts.fee_microcents[start..start + rows],
            earnings_microcents: &mut parts.earnings_microcents[start..start + rows],
        };
        // Looked at first and as a whole, so that the arithmetic has no branch.
        if are_plain(columns) {
            settle_plain::<UNIT, PER_REQUEST>(columns, &mut parts);
        } else {
            settle_any::<UNIT, PER_REQUEST>(columns, &mut parts).map_err(|error| RowError {
                row: start + error.row,
                error: error.error,
            })?;
        }
    }
    Ok(())
}

/// True if every row is in order and 64 bits are enough for every product.
fn are_plain((tokens, price_cents, fee_basis_points): Rows<'_>) -> bool {
    // A negative number has its upper bits set.
    let above = |bits: u32| move |found: i64, value: i64| found | value >> bits;
    let outside = |found: i64, rate: i64| {
        let over = rate.wrapping_sub(FEE_BASIS_POINTS_MIN);
        found | over | (FEE_BASIS_POINTS_MAX - FEE_BASIS_POINTS_MIN).wrapping_sub(over)
    };
    let fold = |column: Column<'_>, bits: u32| match column {
        Column::All(value) => above(bits)(0, value),
        Column::Each(values) => values.iter().copied().fold(0, above(bits)),
    };
    let rates = match fee_basis_points {
        Column::All(value) => outside(0, value),
        Column::Each(values) => values.iter().copied().fold(0, outside),
    };
    fold(Column::Each(tokens), PLAIN_TOKENS_BITS) == 0
        && fold(price_cents, PLAIN_PRICE_BITS) == 0
        && rates >= 0
}

/// The rows of a block that [`are_plain`]. What it wraps with cannot wrap: the assertion above says so of every product.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // none is negative, none has 64 bits
fn settle_plain<const UNIT: u64, const PER_REQUEST: bool>(
    (tokens, price_cents, fee_basis_points): Rows<'_>,
    parts: &mut Parts<'_>,
) {
    let settle = |tokens: i64, price: i64, rate: i64| {
        let microcents = MICROCENTS_PER_CENT as u64;
        let basis_points = BASIS_POINTS as u64;
        let (product, rate) = ((tokens as u64).wrapping_mul(price as u64), rate as u64);
        if PER_REQUEST {
            let cents = product.wrapping_add(UNIT - 1) / UNIT;
            // Whole cents are a multiple of the basis points: nothing is left to round down.
            let of_cent = const { MICROCENTS_PER_CENT / BASIS_POINTS } as u64;
            (
                cents.wrapping_mul(microcents),
                cents.wrapping_mul(of_cent).wrapping_mul(rate),
            )
        } else {
            // Each unit divides the micro-cents of a cent: nothing is left to round up.
            let total = product.wrapping_mul(microcents / UNIT);
            (total, total.wrapping_mul(rate) / basis_points)
        }
    };
    let rows = tokens.len();
    let (totals, fees) = (
        &mut parts.total_microcents[..rows],
        &mut parts.fee_microcents[..rows],
    );
    let earnings = &mut parts.earnings_microcents[..rows];
    let mut put = |row: usize, (total, fee): (u64, u64)| {
        totals[row] = total as i64;
        fees[row] = fee as i64;
        earnings[row] = total.wrapping_sub(fee) as i64;
    };
    if let (Column::All(price), Column::All(rate)) = (price_cents, fee_basis_points) {
        for (row, &tokens) in tokens.iter().enumerate() {
            put(row, settle(tokens, price, rate));
        }
        return;
    }
    let (prices, rates) = (price_cents.spread(), fee_basis_points.spread());
    let (prices, rates) = (&prices[..rows], &rates[..rows]);
    for (row, &tokens) in tokens.iter().enumerate() {
        put(row, settle(tokens, prices[row], rates[row]));
    }
}

/// The rows of a block of which some is not plain, one by one.
#[cold]
fn settle_any<const UNIT: u64, const PER_REQUEST: bool>(
    (tokens, price_cents, fee_basis_points): Rows<'_>,
    parts: &mut Parts<'_>,
) -> Result<(), RowError> {
    for (row, &tokens) in tokens.iter().enumerate() {
        let (price, fee_rate) = (price_cents.at(row), fee_basis_points.at(row));
        let (total, fee) = any::<UNIT, PER_REQUEST>(tokens, price, fee_rate)
            .map_err(|error| RowError { row, error })?;
        parts.total_microcents[row] = total;
        parts.fee_microcents[row] = fee;
        parts.earnings_microcents[row] = total - fee;
    }
    Ok(())
}

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
