//! Columns are single observations, whatever the times and weights: within 10⁻¹², and the same calls give the same bits.

use eikthyrnir::{Metric, Observations, Prior, Providers, Quality, Settings, Times};
use proptest::prelude::*;

const PROVIDERS: [&[u8]; 3] = [b"one", b"two", b"three"];

fn registry(half_life_ms: i64) -> Quality {
    Quality::new(Settings {
        half_life_ms,
        quantiles: true,
        // Next to nothing, so that estimates are of what was seen.
        priors: [Prior {
            mean: 0.5,
            weight: 1e-9,
        }; 4],
        ..Settings::default()
    })
    .unwrap()
}

fn close(one: f64, two: f64, scale: f64) -> bool {
    (one - two).abs() <= 1e-12 * scale
}

/// Rows are summed before they are added, so that they give what single observations give, but not the same bits.
fn same<K: AsRef<[u8]>>(columns: &Quality, single: &Quality, keys: &[K], metric: Metric) -> bool {
    keys.iter().all(|key| {
        // So early a time is taken as the start of the half-life of the newest observation.
        let of = |quality: &Quality| quality.estimate(key.as_ref(), metric, i64::MIN).unwrap();
        let (one, two) = (of(columns), of(single));
        let spreads = metric.is_share()
            || [0.0, 0.3, 0.5, 0.9, 1.0].into_iter().all(|rank| {
                let of = |quality: &Quality| quality.quantile(key.as_ref(), metric, rank).unwrap();
                of(columns) == of(single)
            }) && {
                let of =
                    |quality: &Quality| quality.trimmed_mean(key.as_ref(), metric, 0.1).unwrap();
                let (one, two) = (of(columns), of(single));
                one.is_some() == two.is_some()
                    && one.zip(two).is_none_or(|(one, two)| close(one, two, two))
            };
        spreads
            && close(one.weight, two.weight, two.weight)
            && close(one.mean, two.mean, two.mean)
            && close(
                one.variance,
                two.variance,
                two.variance + two.mean * two.mean,
            )
    })
}

/// Mostly near each other, and now and then an age apart: further than a batch's times may lie from each other.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let time = prop_oneof![
        6 => 0..100_000_000_i64,
        2 => 1_700_000_000_000..1_700_000_100_000_i64,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1, 1 << 31, 1 << 32]),
    ];
    proptest::collection::vec(time, 1..80)
}

proptest! {
    #[test]
    fn whatever_the_times(
        times in times(),
        half_life_ms in prop::sample::select(vec![1, 1_000, 86_400_000, 315_360_000_000]),
        drawn in proptest::collection::vec((0..3_usize, 0.0..1e5_f64, 0.001..=1.0_f64), 80),
        weighted in any::<bool>(),
        together in any::<bool>(),
    ) {
        let drawn = &drawn[..times.len()];
        let keys: Vec<&[u8]> = drawn.iter().map(|row| PROVIDERS[row.0]).collect();
        let values: Vec<f64> = drawn.iter().map(|row| row.1).collect();
        let weights: Vec<f64> = drawn.iter().map(|row| row.2).collect();
        for metric in [Metric::Throughput, Metric::Success] {
            let values: Vec<f64> = values.iter().map(|value| value / if metric.is_share() { 1e5 } else { 1.0 }).collect();
            let observations = Observations {
                metric,
                values: &values,
                at_ms: if together { Times::One(times[0]) } else { Times::Each(&times) },
                weights: weighted.then_some(&weights),
            };
            let [mut columns, mut again] = [registry(half_life_ms), registry(half_life_ms)];
            for registry in [&mut columns, &mut again] {
                registry.observe_many(Providers::Keys(&keys), &observations).unwrap();
            }
            prop_assert!(columns.snapshot() == again.snapshot());
            let mut single = registry(half_life_ms);
            for (row, key) in keys.iter().enumerate() {
                let weight = if weighted { weights[row] } else { 1.0 };
                let at_ms = times[if together { 0 } else { row }];
                single.observe(key, metric, values[row], weight, at_ms).unwrap();
            }
            prop_assert!(same(&columns, &single, &keys, metric));
        }
    }
}

/// More rows than are brought together at a time, with weights, so that both kinds of rows are sorted and cut.
#[test]
#[allow(clippy::cast_precision_loss)]
fn more_rows_than_a_batch() {
    let rows = (1 << 21) + 70_000_usize;
    let keys: Vec<[u8; 4]> = (0_u32..20_000).map(u32::to_le_bytes).collect();
    let of: Vec<usize> = (0..rows).map(|row| row * 7_919 % 20_000).collect();
    let values: Vec<f64> = (0..rows).map(|row| (row * 31 % 5_003) as f64).collect();
    let weights: Vec<f64> = (0..rows).map(|row| (1 + row % 9) as f64 / 9.0).collect();
    let times: Vec<i64> = (0_i64..).take(rows).map(|row| row * 97 % 900_001).collect();
    let mut columns = registry(60_000);
    let handles = columns.handles(&keys).unwrap();
    let whose: Vec<i64> = of.iter().map(|&provider| handles[provider]).collect();
    let observations = Observations {
        metric: Metric::LatencyMs,
        values: &values,
        at_ms: Times::Each(&times),
        weights: Some(&weights),
    };
    columns
        .observe_many(Providers::Handles(&whose), &observations)
        .unwrap();
    let mut single = registry(60_000);
    for row in 0..rows {
        let key = &keys[of[row]];
        single
            .observe(
                key,
                Metric::LatencyMs,
                values[row],
                weights[row],
                times[row],
            )
            .unwrap();
    }
    assert!(same(&columns, &single, &keys, Metric::LatencyMs));
}

proptest! {
    /// Columns of one half-life, where rows of a provider are added together: to what is there, late or after a long time;
    /// enough of them that bins become lists of every length and windows.
    #[test]
    fn rows_of_a_provider_together(
        calls in proptest::collection::vec(
            (
                prop_oneof![4 => 0..4_i64, 1 => -3_000..3_000_i64],
                proptest::collection::vec((0..40_usize, 0.0..1.0_f64, 0..1_000_i64), 1..1_200),
                prop::sample::select(vec![0.5, 6.0, 25.0]),
                any::<bool>(),
            ),
            1..5,
        ),
    ) {
        let keys: Vec<[u8; 2]> = (0..40_u16).map(u16::to_le_bytes).collect();
        let (mut columns, mut single) = (registry(1_000), registry(1_000));
        let handles = columns.handles(&keys).unwrap();
        single.handles(&keys).unwrap();
        for (half_life, rows, width, weighted) in calls {
            // Few providers have most of the rows.
            let whose: Vec<usize> = rows.iter().map(|row| row.0 * row.0 / 40).collect();
            let values: Vec<f64> = rows.iter().map(|row| (row.1 * width).exp()).collect();
            let times: Vec<i64> = rows.iter().map(|row| half_life * 1_000 + row.2).collect();
            let weights: Vec<f64> = rows.iter().map(|row| 1.0 - row.1 / 2.0).collect();
            let handles: Vec<i64> = whose.iter().map(|&provider| handles[provider]).collect();
            columns.observe_many(Providers::Handles(&handles), &Observations {
                metric: Metric::LatencyMs,
                values: &values,
                at_ms: Times::Each(&times),
                weights: weighted.then_some(&weights),
            }).unwrap();
            for row in 0..rows.len() {
                let weight = if weighted { weights[row] } else { 1.0 };
                single.observe(&keys[whose[row]], Metric::LatencyMs, values[row], weight, times[row]).unwrap();
            }
            prop_assert!(same(&columns, &single, &keys, Metric::LatencyMs));
        }
    }
}

/// Enough slots for groups, rows without weights, in more than one half-life and more than one call: what is kept from one
/// column to the next is room and nothing else.
#[test]
#[allow(clippy::cast_precision_loss)]
fn rows_of_many_groups() {
    let (slots, rows) = (150_000_u32, 40_000_usize);
    let keys: Vec<[u8; 4]> = (0..slots).map(u32::to_le_bytes).collect();
    let (mut columns, mut single) = (registry(60_000), registry(60_000));
    let handles = columns.handles(&keys).unwrap();
    single.handles(&keys).unwrap();
    for (call, rows) in [rows, rows / 3, 2_300, rows].into_iter().enumerate() {
        // Every other row is of one provider.
        let of = |row: usize| row % 2 * (row * 7_919 + call) % slots as usize;
        let whose: Vec<i64> = (0..rows).map(|row| handles[of(row)]).collect();
        let values: Vec<f64> = (0..rows).map(|row| (row * 31 % 5_003) as f64).collect();
        let step = [1, 5, 97, 0][call];
        let times: Vec<i64> = (0_i64..).take(rows).map(|row| row * step).collect();
        let observations = Observations {
            metric: Metric::Throughput,
            values: &values,
            at_ms: Times::Each(&times),
            weights: None,
        };
        columns
            .observe_many(Providers::Handles(&whose), &observations)
            .unwrap();
        for row in 0..rows {
            single
                .observe(
                    &keys[of(row)],
                    Metric::Throughput,
                    values[row],
                    1.0,
                    times[row],
                )
                .unwrap();
        }
        assert!(
            same(&columns, &single, &keys, Metric::Throughput),
            "call {call}"
        );
    }
}

/// However many rows of a provider are summed together.
#[test]
fn equal_values_have_that_mean_and_no_variance() {
    for rows in [1, 2, 3, 4, 5, 9, 300] {
        let mut quality = Quality::new(Settings::default()).unwrap();
        let times: Vec<i64> = (0..rows).map(|row| row * 7_777).collect();
        let keys = vec![PROVIDERS[0]; times.len()];
        for call in 0..3 {
            let observations = Observations {
                metric: Metric::LatencyMs,
                values: &vec![0.1; times.len()],
                at_ms: Times::Each(&times),
                weights: None,
            };
            quality
                .observe_many(Providers::Keys(&keys), &observations)
                .unwrap();
            let seen = quality
                .estimate(PROVIDERS[0], Metric::LatencyMs, 0)
                .unwrap();
            assert!(seen.variance == 0.0, "{rows} rows, call {call}");
        }
    }
}

/// A large value of next to no weight, before, among and after small ones.
#[test]
fn a_small_mean_is_not_rounded_away_by_a_large_value() {
    for place in 0..9 {
        let mut values = [0.1; 9];
        let mut weights = [1.0; 9];
        values[place] = 1e12;
        weights[place] = 1e-15;
        let mean = values
            .iter()
            .zip(&weights)
            .map(|(value, weight)| value * weight)
            .sum::<f64>()
            / weights.iter().sum::<f64>();
        let (mut columns, mut single) = (registry(1_000), registry(1_000));
        let observations = Observations {
            metric: Metric::LatencyMs,
            values: &values,
            at_ms: Times::One(0),
            weights: Some(&weights),
        };
        columns
            .observe_many(Providers::Keys(&[PROVIDERS[0]; 9]), &observations)
            .unwrap();
        for (value, weight) in values.into_iter().zip(weights) {
            single
                .observe(PROVIDERS[0], Metric::LatencyMs, value, weight, 0)
                .unwrap();
        }
        for quality in [columns, single] {
            let seen = quality
                .estimate(PROVIDERS[0], Metric::LatencyMs, 0)
                .unwrap();
            // The prior weighs 10⁻⁹ of one.
            assert!(
                (seen.mean / mean - 1.0).abs() < 1e-9,
                "{place}: {}",
                seen.mean
            );
        }
    }
}

#[test]
fn the_smallest_weights_count() {
    let values = [0.1, 0.3, 0.1, 0.7, 0.2, 0.1, 0.9];
    let weights = [1e-310; 7];
    let mut quality = Quality::new(Settings::default()).unwrap();
    let observations = Observations {
        metric: Metric::LatencyMs,
        values: &values,
        at_ms: Times::One(0),
        weights: Some(&weights),
    };
    quality
        .observe_many(Providers::Keys(&[PROVIDERS[0]; 7]), &observations)
        .unwrap();
    let seen = quality
        .estimate(PROVIDERS[0], Metric::LatencyMs, 0)
        .unwrap();
    assert!((seen.weight / 7e-310 - 1.0).abs() < 1e-12);
    // Of seven values; the mean is hidden behind the prior, but the spread is around it.
    let mean = values.iter().sum::<f64>() / 7.0;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / 7.0;
    assert!(
        (seen.variance / variance - 1.0).abs() < 1e-9,
        "{} {variance}",
        seen.variance
    );
}

/// Also where slots were given away by merging and pruning: which rows are summed together depends on them.
#[test]
fn the_same_calls_give_the_same_bits() {
    let made = || {
        let keys: Vec<[u8; 2]> = (0..3_000_u16).map(u16::to_le_bytes).collect();
        let (mut quality, mut other) = (registry(60_000), registry(60_000));
        for (row, key) in keys.iter().enumerate() {
            let to = if row % 3 == 0 {
                &mut quality
            } else {
                &mut other
            };
            let at_ms = [0, 600_000][row % 2];
            to.observe(key, Metric::LatencyMs, 5.0, 1.0, at_ms).unwrap();
        }
        quality.merge(&other).unwrap();
        assert_eq!(quality.prune(600_000, 0.5), 1_500);
        let whose: Vec<&[u8]> = (0..60_000)
            .map(|row| keys[row * row % 3_000].as_slice())
            .collect();
        let values: Vec<f64> = (0..60_000_u32).map(|row| f64::from(row % 977)).collect();
        let observations = Observations {
            metric: Metric::LatencyMs,
            values: &values,
            at_ms: Times::One(600_000),
            weights: None,
        };
        quality
            .observe_many(Providers::Keys(&whose), &observations)
            .unwrap();
        quality.snapshot()
    };
    assert!(made() == made());
}
