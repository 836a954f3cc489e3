//! Snapshots: whole, or refused, whatever the bytes are.

use eikthyrnir::{Metric, Notice, Prior, Quality, Settings};
use proptest::prelude::*;

/// Provider, value, weight, time.
type Row = (u8, f64, f64, i64);

fn registry() -> Quality {
    let notice = Notice {
        share: 0.2,
        ratio: 2.0,
    };
    Quality::new(Settings {
        half_life_ms: 60_000,
        quantiles: true,
        notice: Some(notice),
        ..Settings::default()
    })
    .unwrap()
}

fn key(provider: u8) -> [u8; 16] {
    [provider; 16]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..6u8, 0.0..50_000.0f64, 0.01..=1.0f64, 0..2_000_000i64);
    proptest::collection::vec(row, 1..60)
}

fn observed(rows: &[Row]) -> Quality {
    let mut quality = registry();
    for &(provider, value, weight, at_ms) in rows {
        quality
            .observe(&key(provider), Metric::LatencyMs, value, weight, at_ms)
            .unwrap();
    }
    quality
}

proptest! {
    #[test]
    fn a_snapshot_restores_all_and_is_the_same_again(rows in rows(), rater in any::<[u8; 16]>()) {
        let mut quality = observed(&rows);
        quality.rate(&key(1), Metric::Quality, 0.9, 1.0, 5, rater).unwrap();
        quality.remove(&key(2));
        let bytes = quality.snapshot();
        let restored = Quality::restore(&bytes).unwrap();
        prop_assert_eq!(restored.snapshot(), bytes);
        prop_assert_eq!(restored.settings(), quality.settings());
        for provider in 0..6 {
            for metric in Metric::ALL {
                prop_assert_eq!(
                    restored.estimate(&key(provider), metric, 3_000_000),
                    quality.estimate(&key(provider), metric, 3_000_000)
                );
            }
        }
    }

    #[test]
    fn strange_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Quality::restore(&bytes).is_err());
        let mut headed = b"EIKTHYRN\x01\x00".to_vec();
        headed.extend(&bytes);
        prop_assert!(Quality::restore(&sealed(headed)).is_err());
    }

    /// With the checksum made good again, so that what lies behind it is what is tried.
    #[test]
    fn a_changed_snapshot_is_an_error_or_a_sound_registry(
        rows in rows(),
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut quality = observed(&rows);
        quality.rate(&key(1), Metric::Success, 0.5, 1.0, 5, [7; 16]).unwrap();
        let mut bytes = quality.snapshot();
        bytes.truncate(bytes.len() - 4);
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut restored) = Quality::restore(&sealed(bytes)) {
            let again = restored.snapshot();
            prop_assert_eq!(Quality::restore(&again).unwrap().snapshot(), again);
            for provider in 0..6 {
                let estimate = restored.estimate(&key(provider), Metric::LatencyMs, 3_000_000).unwrap();
                prop_assert!(estimate.mean >= 0.0 && estimate.lower_bound <= estimate.mean);
                restored.observe(&key(provider), Metric::LatencyMs, 5.0, 1.0, 3_000_000).ok();
            }
        }
    }
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn every_single_changed_byte_is_found() {
    let mut quality = registry();
    quality
        .observe(b"one", Metric::LatencyMs, 120.0, 1.0, 9)
        .unwrap();
    let bytes = quality.snapshot();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x40;
        assert!(Quality::restore(&changed).is_err(), "byte {place}");
    }
    for length in 0..bytes.len() {
        assert!(
            Quality::restore(&bytes[..length]).is_err(),
            "first {length}"
        );
    }
}

/// A prior beyond these made means infinite, and of them snapshots that nothing could restore.
#[test]
fn a_prior_is_one_that_can_be_observed() {
    let with = |mean, weight| {
        let mut settings = Settings::default();
        settings.priors[Metric::LatencyMs as usize] = Prior { mean, weight };
        Quality::new(settings)
    };
    for (mean, weight, which) in [
        (1e13, 1.0, "mean"),
        (f64::NAN, 1.0, "mean"),
        (-1.0, 1.0, "mean"),
        (1.0, 1e178, "weight"),
        (1.0, 0.0, "weight"),
        (1.0, f64::INFINITY, "weight"),
    ] {
        let refused = with(mean, weight).unwrap_err();
        assert_eq!(refused.field, "latency_ms_prior");
        assert!(refused.rule.contains(which), "{}", refused.rule);
    }
    for weight in [1e-9, 1e9] {
        let mut quality = with(1e12, weight).unwrap();
        for value in [0.0, 1e12] {
            quality
                .observe(b"p", Metric::LatencyMs, value, 1.0, 0)
                .unwrap();
            let estimate = quality.estimate(b"p", Metric::LatencyMs, 0).unwrap();
            assert!(estimate.upper_bound.is_finite(), "{estimate:?}");
        }
        assert!(Quality::restore(&quality.snapshot()).is_ok());
    }
}

/// A spread that no weight can have would make a variance infinite, and bounds that are no numbers.
#[test]
fn a_spread_beyond_its_weight_is_refused() {
    let mut quality = Quality::new(Settings::default()).unwrap();
    quality.observe(b"p", Metric::Success, 1.0, 1.0, 0).unwrap();
    let mut bytes = quality.snapshot();
    // Checksum, two counts of raters, three aggregates, and of the first one its last number.
    let spread = bytes.len() - 4 - 8 - 3 * 32 - 8;
    assert_eq!(bytes[spread..spread + 8], 0.0_f64.to_le_bytes());
    for (value, sound) in [(1.0_f64, true), (1.5, false)] {
        bytes[spread..spread + 8].copy_from_slice(&value.to_le_bytes());
        let body = bytes[..bytes.len() - 4].to_vec();
        assert_eq!(Quality::restore(&sealed(body)).is_ok(), sound);
    }
}
