//! The laws of settlement.

use heidrun::{quote, settle, tokens_affordable, MoneyError, Rounding};
use proptest::prelude::*;

fn rounding() -> impl Strategy<Value = Rounding> {
    prop_oneof![Just(Rounding::PerRequest), Just(Rounding::PerStatement)]
}

fn unit() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_000), Just(1_000_000)]
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![0..1_000_000i64, 0..=i64::MAX]
}

proptest! {
    #[test]
    fn the_parts_add_up_and_no_part_is_negative(
        tokens in amount(), price in amount(), unit in unit(), fee in 1_000..=1_500i64, rounding in rounding(),
    ) {
        match settle(tokens, price, unit, fee, rounding) {
            Ok(settled) => {
                prop_assert_eq!(settled.fee_microcents + settled.earnings_microcents, settled.total_microcents);
                prop_assert!(settled.fee_microcents >= 0 && settled.earnings_microcents >= 0);
                prop_assert_eq!(quote(tokens, price, unit, fee, rounding), Ok(settled));
            }
            Err(error) => {
                prop_assert_eq!(error, MoneyError::Overflow);
                // Only what is really too large: 2^63 micro-cents, to within one step of rounding.
                let exact = f64_product(tokens, price) / f64_product(unit, 1) * 1e6;
                prop_assert!(exact > 9.2e18, "{exact}");
            }
        }
    }

    #[test]
    fn more_tokens_never_cost_less(
        tokens in 0..1_000_000_000i64, more in 0..1_000_000i64, price in 0..100_000i64, unit in unit(), rounding in rounding(),
    ) {
        let one = settle(tokens, price, unit, 1_000, rounding).unwrap();
        let two = settle(tokens + more, price, unit, 1_000, rounding).unwrap();
        prop_assert!(one.total_microcents <= two.total_microcents);
    }

    #[test]
    fn a_statement_never_costs_more_than_its_requests_rounded_one_by_one(
        tokens in 0..1_000_000_000i64, price in 0..100_000i64, unit in unit(),
    ) {
        let exact = settle(tokens, price, unit, 1_000, Rounding::PerStatement).unwrap();
        let whole = settle(tokens, price, unit, 1_000, Rounding::PerRequest).unwrap();
        prop_assert!(exact.total_microcents <= whole.total_microcents);
        prop_assert!(whole.total_microcents - exact.total_microcents < 1_000_000);
    }

    #[test]
    fn what_is_affordable_is_the_most_that_is(
        budget in 0..=i64::MAX / 2, price in 1..=i64::MAX, unit in unit(), rounding in rounding(),
    ) {
        let tokens = tokens_affordable(budget, price, unit, rounding).unwrap();
        prop_assert!(settle(tokens, price, unit, 1_000, rounding).unwrap().total_microcents <= budget);
        match settle(tokens + 1, price, unit, 1_000, rounding) {
            Ok(settled) => prop_assert!(settled.total_microcents > budget),
            Err(error) => prop_assert_eq!(error, MoneyError::Overflow),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a bound, not an amount
fn f64_product(one: i64, two: i64) -> f64 {
    one as f64 * two as f64
}

#[test]
fn an_error_names_the_field_and_the_rule() {
    let error = settle(1, 1, 7, 1_000, Rounding::PerRequest).unwrap_err();
    assert_eq!(error.to_string(), "unit_tokens must be 1000 or 1000000");
    assert_eq!(
        Rounding::from_name(Rounding::PerStatement.name()),
        Ok(Rounding::PerStatement)
    );
    assert!(Rounding::from_name("never").is_err());
}
