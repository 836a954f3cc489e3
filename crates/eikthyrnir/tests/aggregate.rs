//! The laws of the aggregates: order-free, mergeable, and fading by half.

use eikthyrnir::{Aggregate, HalfLife, Metric, Quality, Settings};
use proptest::prelude::*;

const HALF_LIFE_MS: i64 = 60_000;

fn events() -> impl Strategy<Value = Vec<(f64, f64, i64)>> {
    proptest::collection::vec(
        (0.0..1.0f64, 0.01..=1.0f64, -10_000_000..10_000_000i64),
        1..40,
    )
}

fn half_life() -> HalfLife {
    HalfLife::from_ms(HALF_LIFE_MS).unwrap()
}

fn aggregate(events: &[(f64, f64, i64)]) -> Aggregate {
    let mut aggregate = Aggregate::default();
    for &(value, weight, at_ms) in events {
        aggregate
            .observe(value, weight, at_ms, half_life())
            .unwrap();
    }
    aggregate
}

fn close(one: f64, two: f64) -> bool {
    (one - two).abs() <= 1e-9 * one.abs().max(two.abs()) + 1e-15
}

proptest! {
    #[test]
    fn merging_commutes_to_the_bit(one in events(), two in events()) {
        let (one, two) = (aggregate(&one), aggregate(&two));
        prop_assert_eq!(one.merged(&two), two.merged(&one));
    }

    #[test]
    fn merging_is_associative_and_equals_seeing_all(one in events(), two in events(), three in events()) {
        let all = aggregate(&[one.as_slice(), &two, &three].concat());
        let (one, two, three) = (aggregate(&one), aggregate(&two), aggregate(&three));
        for merged in [one.merged(&two).merged(&three), one.merged(&two.merged(&three))] {
            prop_assert!(close(merged.mean(), all.mean()));
            prop_assert!(close(merged.variance(), all.variance()));
            prop_assert!(close(merged.weight_at(10_000_000, half_life()), all.weight_at(10_000_000, half_life())));
        }
    }

    #[test]
    fn the_order_of_observations_does_not_matter(events in events()) {
        let mut sorted = events.clone();
        sorted.sort_by_key(|event| std::cmp::Reverse(event.2));
        let (one, two) = (aggregate(&events), aggregate(&sorted));
        prop_assert!(close(one.mean(), two.mean()));
        prop_assert!(close(one.variance(), two.variance()));
    }

    #[test]
    fn the_mean_lies_among_the_values_and_the_bounds_around_it(events in events()) {
        let mut quality = Quality::new(Settings { half_life_ms: HALF_LIFE_MS, ..Settings::default() }).unwrap();
        for &(value, weight, at_ms) in &events {
            quality.observe(b"one", Metric::Quality, value, weight, at_ms).unwrap();
        }
        let seen = aggregate(&events);
        let least = events.iter().map(|event| event.0).fold(1.0, f64::min);
        let most = events.iter().map(|event| event.0).fold(0.0, f64::max);
        prop_assert!((least - 1e-12..=most + 1e-12).contains(&seen.mean()));
        prop_assert!(seen.variance() >= 0.0);
        let estimate = quality.estimate(b"one", Metric::Quality, 10_000_000).unwrap();
        prop_assert!(0.0 <= estimate.lower_bound && estimate.lower_bound <= estimate.mean);
        prop_assert!(estimate.mean <= estimate.upper_bound && estimate.upper_bound <= 1.0);
    }
}

#[test]
fn extreme_times_are_no_danger() {
    let mut aggregate = Aggregate::default();
    for at_ms in [0, i64::MIN, i64::MAX, 1, i64::MAX, i64::MIN] {
        aggregate.observe(1.0, 1.0, at_ms, half_life()).unwrap();
    }
    assert!((aggregate.weight_at(i64::MAX, half_life()) - 2.0).abs() < 1e-9);
    assert!(aggregate.weight_at(i64::MIN, half_life()).is_finite());
}

#[test]
fn nothing_seen_weighs_nothing() {
    let nothing = Aggregate::default();
    assert!(nothing.weight_at(5, half_life()).abs() < f64::MIN_POSITIVE);
    assert_eq!(nothing.merged(&nothing), nothing);
    let something = aggregate(&[(0.5, 1.0, 7)]);
    assert_eq!(nothing.merged(&something), something);
}
