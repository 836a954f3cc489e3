//! Snapshots of a quality registry: an error, or a registry that is sound and goes on.
//!
//! The bytes are a snapshot without its checksum, which is made good here: what lies behind it is what is tried.

use eikthyrnir::{Metric, Notice, Observations, Providers, Quality, Settings, Times};

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let Ok(mut quality) = Quality::restore(&sealed(data)) else {
        return;
    };
    let bytes = quality.snapshot();
    let again = Quality::restore(&bytes).expect("what was restored can be restored again");
    assert!(again.snapshot() == bytes, "the same once more");
    let keys: [&[u8]; 3] = [b"p", b"another", &[1; 16]];
    for at_ms in [0, 1_700_000_000_000, i64::MAX, i64::MIN] {
        for key in keys {
            for metric in Metric::ALL {
                let value = if metric.is_share() { 0.5 } else { 321.0 };
                // There may be no room; then it is an error.
                let _ = quality.observe(key, metric, value, 0.5, at_ms);
                sound(&quality, key, metric, at_ms);
            }
            let _ = quality.rate(key, Metric::Quality, 1.0, 1.0, at_ms, [3; 16]);
        }
    }
    let observations = Observations {
        metric: Metric::LatencyMs,
        values: &[1.0, 1e12, 0.0],
        at_ms: Times::Each(&[5, i64::MIN, i64::MAX]),
        weights: Some(&[1.0, 0.1, 1e-300]),
    };
    let _ = quality.observe_many(Providers::Keys(&keys), &observations);
    let _ = quality.merge(&again);
    quality.prune(1_700_000_000_000, 0.5);
    quality.remove(keys[0]);
    let bytes = quality.snapshot();
    let last = Quality::restore(&bytes).expect("what went on can be restored");
    assert!(last.snapshot() == bytes, "the same at the end");
}

fn sound(quality: &Quality, key: &[u8], metric: Metric, at_ms: i64) {
    let estimate = quality.estimate(key, metric, at_ms).expect("a good key");
    let ordered = estimate.lower_bound <= estimate.mean && estimate.mean <= estimate.upper_bound;
    assert!(
        ordered && estimate.lower_bound >= 0.0 && estimate.weight >= 0.0,
        "{estimate:?}"
    );
    if metric.is_share() || !quality.settings().quantiles {
        return;
    }
    for rank in [0.0, 0.5, 1.0] {
        let value = quality.quantile(key, metric, rank).expect("a good rank");
        assert!(value.is_none_or(|value| (0.0..=1.02e12).contains(&value)));
    }
    let trimmed = quality
        .trimmed_mean(key, metric, 0.05)
        .expect("a good trim");
    assert!(trimmed.is_none_or(|mean| (0.0..=1.02e12).contains(&mean)));
}

fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.extend(crc32fast::hash(data).to_le_bytes());
    bytes
}

/// Registries of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let notice = Notice {
        share: 0.2,
        ratio: 2.0,
    };
    let kinds = [(false, None), (true, None), (true, Some(notice))];
    let mut seeds: Vec<Vec<u8>> = kinds
        .into_iter()
        .filter_map(|(quantiles, notice)| {
            let mut quality = Quality::new(Settings {
                half_life_ms: 60_000,
                quantiles,
                notice,
                ..Settings::default()
            })
            .ok()?;
            for step in 0..40_u8 {
                let value = f64::from(step) * 7.0 + 1.0;
                let at_ms = i64::from(step) * 9_000;
                for metric in [Metric::LatencyMs, Metric::Throughput] {
                    quality.observe(b"p", metric, value, 1.0, at_ms).ok()?;
                }
                quality
                    .observe(&[step % 4; 16], Metric::Success, 1.0, 0.5, at_ms)
                    .ok()?;
                quality
                    .rate(b"p", Metric::Quality, 0.9, 1.0, at_ms, [step % 3; 16])
                    .ok()?;
            }
            Some(quality.snapshot())
        })
        .collect();
    for seed in &mut seeds {
        // The checksum is made anew.
        seed.truncate(seed.len() - 4);
    }
    seeds
}
