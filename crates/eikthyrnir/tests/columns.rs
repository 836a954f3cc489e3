//! Columns are single observations to the bit, whatever the times and weights.

use eikthyrnir::{Metric, Observations, Providers, Quality, Settings, Times};
use proptest::prelude::*;

const PROVIDERS: [&[u8]; 3] = [b"one", b"two", b"three"];

fn registry(half_life_ms: i64) -> Quality {
    Quality::new(Settings {
        half_life_ms,
        quantiles: true,
        ..Settings::default()
    })
    .unwrap()
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
            let mut columns = registry(half_life_ms);
            columns.observe_many(Providers::Keys(&keys), &Observations {
                metric,
                values: &values,
                at_ms: if together { Times::One(times[0]) } else { Times::Each(&times) },
                weights: weighted.then_some(&weights),
            }).unwrap();
            let mut single = registry(half_life_ms);
            for (row, key) in keys.iter().enumerate() {
                let weight = if weighted { weights[row] } else { 1.0 };
                let at_ms = times[if together { 0 } else { row }];
                single.observe(key, metric, values[row], weight, at_ms).unwrap();
            }
            prop_assert!(columns.snapshot() == single.snapshot());
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
    let handles = columns
        .handles(keys.iter().map(<[u8; 4]>::as_slice))
        .unwrap();
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
    assert!(columns.snapshot() == single.snapshot());
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
        let handles = columns.handles(keys.iter().map(<[u8; 2]>::as_slice)).unwrap();
        single.handles(keys.iter().map(<[u8; 2]>::as_slice)).unwrap();
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
            prop_assert!(columns.snapshot() == single.snapshot());
        }
    }
}

/// Enough slots for groups, rows without weights, in more than one half-life and more than one call: what is kept from one
/// column to the next is room and nothing else.
#[test]
#[allow(clippy::cast_precision_loss)]
fn rows_of_many_groups() {
    let (slots, rows) = (70_000_u32, 40_000_usize);
    let keys: Vec<[u8; 4]> = (0..slots).map(u32::to_le_bytes).collect();
    let (mut columns, mut single) = (registry(60_000), registry(60_000));
    let handles = columns
        .handles(keys.iter().map(<[u8; 4]>::as_slice))
        .unwrap();
    single
        .handles(keys.iter().map(<[u8; 4]>::as_slice))
        .unwrap();
    for (call, rows) in [rows, rows / 3, 500, rows].into_iter().enumerate() {
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
        assert!(columns.snapshot() == single.snapshot(), "call {call}");
    }
}
