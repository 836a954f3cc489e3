//! Settlement by the column against arithmetic of 128 bits.

use heidrun::{settle, settle_many, Column, MoneyError, Parts, Rounding, RowError};

const ROUNDINGS: [Rounding; 2] = [Rounding::PerRequest, Rounding::PerStatement];
const UNITS: [i64; 2] = [1_000, 1_000_000];
const FEES: [i64; 6] = [1_000, 1_001, 1_111, 1_250, 1_337, 1_500];
const PRICES: [i64; 25] = [
    0, 1, 2, 3, 5, 7, 10, 13, 20, 33, 50, 99, 100, 101, 250, 333, 500, 777, 999, 1_000, 1_001,
    4_999, 10_000, 65_535, 65_536,
];

/// The definition, in numbers that cannot overflow.
fn exact(tokens: u128, price: u128, unit: u128, fee: u128, rounding: Rounding) -> (u128, u128) {
    let total = match rounding {
        Rounding::PerRequest => (tokens * price).div_ceil(unit) * 1_000_000,
        Rounding::PerStatement => (tokens * price * 1_000_000).div_ceil(unit),
    };
    (total, total * fee / 10_000)
}

fn settled(
    tokens: &[i64],
    price: Column<'_>,
    unit: i64,
    fee: Column<'_>,
    rounding: Rounding,
) -> Result<[Vec<i64>; 3], RowError> {
    let mut parts = [(); 3].map(|()| vec![0; tokens.len()]);
    let [total, fees, earnings] = &mut parts;
    settle_many(
        tokens,
        price,
        unit,
        fee,
        rounding,
        &mut Parts {
            total_microcents: total,
            fee_microcents: fees,
            earnings_microcents: earnings,
        },
    )?;
    Ok(parts)
}

#[allow(clippy::cast_sign_loss)] // none is negative
fn assert_exact(tokens: &[i64]) {
    for (rounding, unit) in ROUNDINGS
        .into_iter()
        .flat_map(|one| UNITS.map(|two| (one, two)))
    {
        for (price, fee) in PRICES
            .into_iter()
            .flat_map(|one| FEES.map(|two| (one, two)))
        {
            let [totals, fees, earnings] =
                settled(tokens, Column::All(price), unit, Column::All(fee), rounding).unwrap();
            for (row, &count) in tokens.iter().enumerate() {
                let expected = exact(
                    count as u128,
                    price as u128,
                    unit as u128,
                    fee as u128,
                    rounding,
                );
                let found = (totals[row] as u128, fees[row] as u128);
                assert_eq!(found, expected, "{count} at {price} per {unit}, {fee}");
                assert_eq!(earnings[row], totals[row] - fees[row]);
            }
        }
    }
}

#[test]
fn every_row_is_exact() {
    let near = |middle: i64| middle - 2_000..middle + 2_000;
    let tokens: Vec<i64> = (0..4_000)
        .chain(near(1_000_000))
        .chain(near(2_000_000))
        .chain(near(1 << 26))
        .chain(near(1 << 28))
        .collect();
    assert_exact(&tokens);
}

/// 1.2 billion settlements.
#[test]
#[ignore = "long: cargo test --release -p heidrun -- --ignored"]
fn every_row_is_exact_for_all_tokens_up_to_two_million() {
    assert_exact(&(0..=2_000_000).collect::<Vec<i64>>());
}

#[test]
fn a_column_for_each_row_is_as_its_rows() {
    let tokens: Vec<i64> = (0..5_000).map(|row| row * 7_919 % 100_003).collect();
    let prices: Vec<i64> = (0..5_000).map(|row| row * 31 % 70_000).collect();
    let fees: Vec<i64> = (0..5_000).map(|row| 1_000 + row % 501).collect();
    for (rounding, unit) in ROUNDINGS
        .into_iter()
        .flat_map(|one| UNITS.map(|two| (one, two)))
    {
        let [totals, fee, earnings] = settled(
            &tokens,
            Column::Each(&prices),
            unit,
            Column::Each(&fees),
            rounding,
        )
        .unwrap();
        for row in 0..tokens.len() {
            let one = settle(tokens[row], prices[row], unit, fees[row], rounding).unwrap();
            assert_eq!(
                (
                    one.total_microcents,
                    one.fee_microcents,
                    one.earnings_microcents
                ),
                (totals[row], fee[row], earnings[row])
            );
        }
    }
}

#[test]
fn an_error_names_its_row_and_the_first_one_wins() {
    let refused = |tokens: &[i64], price| {
        settled(
            tokens,
            price,
            1_000,
            Column::All(1_000),
            Rounding::PerRequest,
        )
        .unwrap_err()
    };
    assert_eq!(
        refused(&[1, i64::MAX, -1], Column::All(1 << 40)),
        RowError {
            row: 1,
            error: MoneyError::Overflow
        }
    );
    assert_eq!(refused(&[1, 1, 1], Column::Each(&[1, 1, -1])).row, 2);
    let fee = settled(
        &[1],
        Column::All(1),
        1_000,
        Column::All(999),
        Rounding::PerRequest,
    )
    .unwrap_err();
    assert!(matches!(
        fee.error,
        MoneyError::Invalid {
            field: "fee_basis_points",
            ..
        }
    ));
}
