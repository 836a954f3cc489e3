//! Observations a second on one core: `cargo run --release --example observe [rounds] [providers] [events]`.
//!
//! Whose they are is drawn by Zipf's law with exponent 1 and in no order, what they are is log-normal milliseconds, when is
//! within an hour and rising: a feed of many providers. Prints one JSON object: nanoseconds of CPU an event, the median of the
//! rounds, without and with quantiles; and `floor_event_ns`, what it costs to bring the same rows together and to add to one
//! number in each place that they change with quantiles, without weighing, averaging or looking for anything.

// Numbers of a bench: below 2⁵³, and truncated on purpose.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use eikthyrnir::{InvalidRow, Metric, Observations, Providers, Quality, Settings, Times};

const HOUR_MS: usize = 3_600_000;

/// Numbers from 0 to 1 in a fixed order (`SplitMix64`).
struct Drawn(u64);

impl Drawn {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// For each event its provider's number: the shares fall as 1, ½, ⅓ …
fn zipf(providers: usize, events: usize, drawn: &mut Drawn) -> Vec<usize> {
    let mut shares = Vec::with_capacity(providers);
    let mut all = 0.0;
    for rank in 1..=providers {
        all += 1.0 / rank as f64;
        shares.push(all);
    }
    let mut names: Vec<usize> = (0..providers).collect();
    for place in (1..providers).rev() {
        names.swap(place, drawn.bits() as usize % (place + 1));
    }
    let mut whose = || {
        let at = drawn.unit() * all;
        names[shares
            .partition_point(|&share| share < at)
            .min(providers - 1)]
    };
    (0..events).map(|_| whose()).collect()
}

/// What a provider has: its aggregate and its first bins.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([f64; 8]);

/// And more of its bins.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Bins([f64; 4]);

/// What memory alone costs: rows are moved once, by the upper bits of the slot as they are by the registry, and each changes a
/// number in the line and in the bins of its provider.
struct Floor {
    rows: Vec<(f64, u64)>,
    ends: Vec<usize>,
    lines: Vec<Line>,
    bins: Vec<Bins>,
}

impl Floor {
    const SHIFT: u32 = 13;

    fn new(providers: usize, events: usize) -> Self {
        Self {
            rows: vec![(0.0, 0); events],
            ends: vec![0; (providers >> Self::SHIFT) + 2],
            lines: vec![Line::default(); providers],
            bins: vec![Bins::default(); providers],
        }
    }

    fn pass(&mut self, whose: &[usize], values: &[f64], times: &[i64]) {
        self.ends.fill(0);
        for slot in whose {
            self.ends[(slot >> Self::SHIFT) + 1] += 1;
        }
        for group in 1..self.ends.len() {
            self.ends[group] += self.ends[group - 1];
        }
        for ((&slot, &value), &at_ms) in whose.iter().zip(values).zip(times) {
            let next = &mut self.ends[slot >> Self::SHIFT];
            self.rows[*next] = (value, (at_ms as u64) << 32 | slot as u64);
            *next += 1;
        }
        for &(value, place) in &self.rows {
            let slot = place as u32 as usize;
            self.lines[slot].0[0] += value;
            self.bins[slot].0[0] += value;
        }
    }
}

/// Nanoseconds of CPU that this process has used: other processes on the machine do not count.
fn cpu_ns() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let first = times.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), InvalidRow> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<usize>().ok());
    let rounds = arguments.next().unwrap_or(9);
    let providers = arguments.next().unwrap_or(1_000_000);
    let events = arguments.next().unwrap_or(2_000_000);
    let mut drawn = Drawn(1);
    let whose = zipf(providers, events, &mut drawn);
    let values: Vec<f64> = (0..events)
        .map(|_| (5.0 + 0.5 * drawn.normal()).exp())
        .collect();
    let times: Vec<i64> = (0..events)
        .map(|event| (event * HOUR_MS / events) as i64)
        .collect();
    let keys: Vec<[u8; 16]> = (0..providers)
        .map(|_| u128::from(drawn.bits()).to_le_bytes())
        .collect();
    let mut figures = Vec::new();
    for quantiles in [false, true] {
        let mut quality = Quality::new(Settings {
            quantiles,
            ..Settings::default()
        })?;
        let handles = quality.handles(&keys)?;
        let whose: Vec<i64> = whose.iter().map(|&provider| handles[provider]).collect();
        let observations = Observations {
            metric: Metric::LatencyMs,
            values: &values,
            at_ms: Times::Each(&times),
            weights: None,
        };
        let mut spent = Vec::new();
        for _ in 0..=rounds {
            let start = cpu_ns();
            quality.observe_many(Providers::Handles(&whose), &observations)?;
            spent.push((cpu_ns() - start) as f64 / events as f64);
        }
        // The first round sets memory aside.
        let mut spent = spent.split_off(1);
        spent.sort_by(f64::total_cmp);
        figures.push((
            spent[spent.len() / 2],
            spent[0],
            quality.heap_bytes() / providers,
        ));
    }
    let mut floor = Floor::new(providers, events);
    let mut spent = Vec::new();
    for _ in 0..=rounds {
        let start = cpu_ns();
        floor.pass(&whose, &values, &times);
        spent.push((cpu_ns() - start) as f64 / events as f64);
    }
    let mut spent = spent.split_off(1);
    spent.sort_by(f64::total_cmp);
    let (floor, floor_least) = (spent[spent.len() / 2], spent[0]);
    let [(plain, plain_least, plain_bytes), (full, full_least, full_bytes)] = figures[..] else {
        return Ok(());
    };
    println!(
        "{{\"providers\":{providers},\"events\":{events},\"event_ns\":{plain:.1},\"event_ns_min\":{plain_least:.1},\
         \"quantiles_event_ns\":{full:.1},\"quantiles_event_ns_min\":{full_least:.1},\
         \"floor_event_ns\":{floor:.1},\"floor_event_ns_min\":{floor_least:.1},\
         \"bytes_per_provider\":{plain_bytes},\"quantiles_bytes_per_provider\":{full_bytes}}}"
    );
    Ok(())
}
