//! The registry: columns as single observations, quantiles against a sort, raters capped, changes told.

use eikthyrnir::{
    Aggregate, Change, Estimate, Metric, Notice, Observations, Prior, Providers, Quality, Settings,
    Times, RELATIVE_ERROR,
};
use proptest::prelude::*;

const HALF_LIFE_MS: i64 = 60_000;

fn settings() -> Settings {
    Settings {
        half_life_ms: HALF_LIFE_MS,
        quantiles: true,
        notice: Some(Notice {
            share: 0.2,
            ratio: 2.0,
        }),
        ..Settings::default()
    }
}

fn registry() -> Quality {
    Quality::new(settings()).unwrap()
}

fn key(provider: u8) -> [u8; 16] {
    [provider; 16]
}

#[derive(Clone, Debug)]
struct Row {
    provider: u8,
    value: f64,
    weight: f64,
    at_ms: i64,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..6u8, 0.0..50_000.0f64, 0.01..=1.0f64, 0..2_000_000i64).prop_map(
        |(provider, value, weight, at_ms)| Row {
            provider,
            value,
            weight,
            at_ms,
        },
    );
    proptest::collection::vec(row, 1..60)
}

fn observed(rows: &[Row]) -> Quality {
    let mut quality = registry();
    for row in rows {
        quality
            .observe(
                &key(row.provider),
                Metric::LatencyMs,
                row.value,
                row.weight,
                row.at_ms,
            )
            .unwrap();
    }
    quality
}

fn in_columns(quality: &mut Quality, rows: &[Row]) -> Vec<Change> {
    let keys: Vec<_> = rows.iter().map(|row| key(row.provider)).collect();
    let keys: Vec<_> = keys.iter().map(<[u8; 16]>::as_slice).collect();
    let values: Vec<_> = rows.iter().map(|row| row.value).collect();
    let weights: Vec<_> = rows.iter().map(|row| row.weight).collect();
    let times: Vec<_> = rows.iter().map(|row| row.at_ms).collect();
    quality
        .observe_many(
            Providers::Keys(&keys),
            &Observations {
                metric: Metric::LatencyMs,
                values: &values,
                at_ms: Times::Each(&times),
                weights: Some(&weights),
            },
        )
        .unwrap()
}

/// The smallest value with at least `rank` of the weight at or below it, by a sort.
fn exact_quantile(rows: &[Row], provider: u8, rank: f64) -> Option<f64> {
    let newest = rows.iter().map(|row| row.at_ms).max()?;
    let mut seen: Vec<(f64, f64)> = rows
        .iter()
        .filter(|row| row.provider == provider)
        .map(|row| {
            #[allow(clippy::cast_precision_loss)]
            let age = (newest - row.at_ms) as f64 / HALF_LIFE_MS as f64;
            (row.value, row.weight * (-age).exp2())
        })
        .collect();
    seen.sort_by(|one, two| one.0.total_cmp(&two.0));
    let all: f64 = seen.iter().map(|row| row.1).sum();
    let mut below = 0.0;
    seen.iter()
        .find(|row| {
            below += row.1;
            below >= rank * all * (1.0 - 1e-9)
        })
        .map(|row| row.0)
}

fn close(one: f64, two: f64) -> bool {
    (one - two).abs() <= 1e-9 * one.abs().max(two.abs()) + 1e-12
}

/// What rows summed together and single observations may differ by.
fn same(one: &Estimate, two: &Estimate) -> bool {
    let close = |one: f64, two: f64, scale: f64| (one - two).abs() <= 1e-12 * scale;
    let scale = two.variance + two.mean * two.mean;
    close(one.weight, two.weight, two.weight)
        && close(one.mean, two.mean, two.mean)
        && close(one.variance, two.variance, scale)
        && close(one.lower_bound, two.lower_bound, two.upper_bound)
        && close(one.upper_bound, two.upper_bound, two.upper_bound)
}

proptest! {
    #[test]
    fn columns_are_single_observations(rows in rows()) {
        let mut columns = registry();
        in_columns(&mut columns, &rows);
        let single = observed(&rows);
        for provider in 0..6 {
            for metric in Metric::ALL {
                let of = |quality: &Quality| quality.estimate(&key(provider), metric, 3_000_000).unwrap();
                prop_assert!(same(&of(&columns), &of(&single)));
            }
            prop_assert_eq!(
                columns.quantile(&key(provider), Metric::LatencyMs, 0.5),
                single.quantile(&key(provider), Metric::LatencyMs, 0.5)
            );
        }
    }

    #[test]
    fn a_quantile_is_within_one_percent_of_the_sorted_one(rows in rows(), rank in 0.0..=1.0f64) {
        let quality = observed(&rows);
        for provider in 0..6 {
            let told = quality.quantile(&key(provider), Metric::LatencyMs, rank).unwrap();
            match (told, exact_quantile(&rows, provider, rank)) {
                (None, None) => {}
                (Some(told), Some(exact)) => {
                    prop_assert!((told - exact).abs() <= RELATIVE_ERROR * exact * (1.0 + 1e-9) + 1e-3, "{told} {exact}");
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn merging_is_order_free(one in rows(), two in rows(), three in rows()) {
        let mut forward = observed(&one);
        forward.merge(&observed(&two)).unwrap();
        forward.merge(&observed(&three)).unwrap();
        let mut backward = observed(&three);
        backward.merge(&observed(&two)).unwrap();
        backward.merge(&observed(&one)).unwrap();
        for provider in 0..6 {
            let one = forward.estimate(&key(provider), Metric::LatencyMs, 2_000_000).unwrap();
            let two = backward.estimate(&key(provider), Metric::LatencyMs, 2_000_000).unwrap();
            prop_assert!(close(one.mean, two.mean) && close(one.variance, two.variance) && close(one.weight, two.weight));
            for rank in [0.0, 0.5, 0.95, 1.0] {
                prop_assert_eq!(
                    forward.quantile(&key(provider), Metric::LatencyMs, rank),
                    backward.quantile(&key(provider), Metric::LatencyMs, rank)
                );
            }
        }
    }
}

#[test]
fn a_handle_of_a_removed_provider_reaches_nobody() {
    let mut quality = registry();
    let handles = quality.handles(&[b"a", b"b"]).unwrap();
    assert_eq!(quality.handles(&[b"a"]).unwrap(), handles[..1]);
    quality.remove(b"a");
    quality.handles(&[b"c"]).unwrap();
    let observations = Observations {
        metric: Metric::Success,
        values: &[1.0, 1.0],
        at_ms: Times::One(0),
        weights: None,
    };
    let refused = quality
        .observe_many(Providers::Handles(&[handles[1], handles[0]]), &observations)
        .unwrap_err();
    assert_eq!((refused.field, refused.row), ("providers", Some(1)));
    for provider in [b"b", b"c"] {
        let estimate = quality.estimate(provider, Metric::Success, 0).unwrap();
        assert!(estimate.weight.abs() < f64::EPSILON, "nothing was added");
    }
}

#[test]
fn a_column_is_added_whole_or_not_at_all() {
    let mut quality = registry();
    let observe = |quality: &mut Quality, values: &[f64], weights: &[f64]| {
        quality
            .observe_many(
                Providers::Keys(&[b"one", b"two", b"three"]),
                &Observations {
                    metric: Metric::Quality,
                    values,
                    at_ms: Times::One(0),
                    weights: Some(weights),
                },
            )
            .unwrap_err()
    };
    let refused = observe(&mut quality, &[0.5, 0.5, f64::NAN], &[1.0; 3]);
    assert_eq!((refused.field, refused.row), ("values", Some(2)));
    let refused = observe(&mut quality, &[0.5; 3], &[1.0, 0.0, 1.0]);
    assert_eq!((refused.field, refused.row), ("weights", Some(1)));
    let refused = observe(&mut quality, &[0.5; 2], &[1.0; 3]);
    assert_eq!((refused.field, refused.row), ("values", None));
    assert!(quality.is_empty());
    let mut small = Quality::new(Settings {
        providers_max: 2,
        ..settings()
    })
    .unwrap();
    let refused = observe(&mut small, &[0.5; 3], &[1.0; 3]);
    assert_eq!((refused.field, refused.row), ("providers", Some(2)));
    assert!(small.is_empty());
    // The first row that breaks a rule is named, whichever rule it is.
    for (keys, row) in [
        (["a", "b", "c", ""], 2),
        (["a", "", "b", "c"], 1),
        (["a", "a", "b", "c"], 3),
    ] {
        assert_eq!(small.handles(&keys).unwrap_err().row, Some(row));
        assert!(small.is_empty());
    }
    let twice = small.handles(&["a", "b", "a"]).unwrap();
    assert_eq!(twice[0], twice[2]);
}

#[test]
fn one_rater_counts_at_most_what_is_allowed() {
    let prior = Prior {
        mean: 0.5,
        weight: 2.0,
    };
    let mut quality = registry();
    for _ in 0..1_000 {
        quality
            .rate(b"p", Metric::Quality, 0.0, 1.0, 0, [1; 16])
            .unwrap();
    }
    for rater in 2..12 {
        quality
            .rate(b"p", Metric::Quality, 1.0, 1.0, 0, [rater; 16])
            .unwrap();
    }
    let estimate = quality.estimate(b"p", Metric::Quality, 0).unwrap();
    // 3 of the thousand, 10 of the others.
    let expected = (prior.weight * prior.mean + 10.0) / (prior.weight + 13.0);
    assert!(close(estimate.mean, expected), "{estimate:?}");
    assert!(close(estimate.weight, 13.0));
    let refused = quality
        .rate(b"p", Metric::LatencyMs, 1.0, 1.0, 0, [1; 16])
        .unwrap_err();
    assert_eq!(refused.field, "rater");
    // What is measured is not capped.
    quality.observe(b"p", Metric::Quality, 1.0, 1.0, 0).unwrap();
    let estimate = quality.estimate(b"p", Metric::Quality, 0).unwrap();
    assert!(close(estimate.weight, 14.0));
    assert_eq!(quality.prune(100 * HALF_LIFE_MS, 0.5), 1);
    assert!(quality.is_empty());
}

#[test]
fn the_caller_is_told_of_what_moved_far_and_once() {
    let mut quality = registry();
    let mut told = |value| {
        quality
            .observe(b"p", Metric::Success, value, 1.0, 0)
            .unwrap()
    };
    assert_eq!(told(1.0), None, "from 0.5 to 0.67");
    let change = told(1.0).expect("from 0.5 to 0.75");
    assert!(
        close(change.before, 0.5) && close(change.after, 0.75),
        "{change:?}"
    );
    assert_eq!(told(1.0), None, "0.8 is not far from 0.75");
    let mut told = |value| {
        quality
            .observe(b"p", Metric::LatencyMs, value, 1.0, 0)
            .unwrap()
    };
    assert_eq!(told(1_900.0), None, "from 1000 to 1450");
    assert!(told(4_000.0).is_some(), "to 2300");
    let mut silent = Quality::new(Settings {
        notice: None,
        ..settings()
    })
    .unwrap();
    for _ in 0..9 {
        assert_eq!(
            silent.observe(b"p", Metric::Success, 0.0, 1.0, 0).unwrap(),
            None
        );
    }
}

#[test]
fn outliers_do_not_move_the_trimmed_mean() {
    let mut quality = registry();
    for step in 0..100 {
        let value = if step % 25 == 0 { 1e9 } else { 200.0 };
        quality
            .observe(b"p", Metric::LatencyMs, value, 1.0, 0)
            .unwrap();
    }
    let mean = quality.estimate(b"p", Metric::LatencyMs, 0).unwrap().mean;
    assert!(mean > 1e7);
    let trimmed = quality
        .trimmed_mean(b"p", Metric::LatencyMs, 0.05)
        .unwrap()
        .unwrap();
    assert!((trimmed - 200.0).abs() <= 2.0, "{trimmed}");
}

/// Large enough that rows are brought together by provider and cut in batches.
#[test]
#[allow(clippy::cast_precision_loss)]
fn many_rows_of_many_providers_are_single_observations() {
    let keys: Vec<[u8; 8]> = (0_u64..40_000).map(u64::to_le_bytes).collect();
    let mut columns = registry();
    let handles = columns.handles(&keys).unwrap();
    let rows = 700_000_usize;
    let of: Vec<usize> = (0..rows).map(|row| row * 7_919 % 40_000).collect();
    let values: Vec<f64> = (0..rows).map(|row| (row * 31 % 5_003) as f64).collect();
    let times: Vec<i64> = (0_i64..).take(rows).map(|row| row * 97 % 900_001).collect();
    let whose: Vec<i64> = of.iter().map(|&provider| handles[provider]).collect();
    let observations = Observations {
        metric: Metric::Throughput,
        values: &values,
        at_ms: Times::Each(&times),
        weights: None,
    };
    columns
        .observe_many(Providers::Handles(&whose), &observations)
        .unwrap();
    let mut single = registry();
    for row in 0..rows {
        single
            .observe(
                &keys[of[row]],
                Metric::Throughput,
                values[row],
                1.0,
                times[row],
            )
            .unwrap();
    }
    for key in &keys {
        let of = |quality: &Quality| {
            quality
                .estimate(key, Metric::Throughput, 1_000_000)
                .unwrap()
        };
        assert!(same(&of(&columns), &of(&single)));
        assert_eq!(
            columns.quantile(key, Metric::Throughput, 0.9),
            single.quantile(key, Metric::Throughput, 0.9)
        );
    }
}

#[test]
fn an_aggregate_fills_half_a_cache_line() {
    assert_eq!((size_of::<Aggregate>(), align_of::<Aggregate>()), (32, 32));
}
