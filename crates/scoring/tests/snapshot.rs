//! A snapshot goes on where the router was; anything else is an error.

// Small numbers of the tests.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss
)]

use proptest::prelude::*;
use scoring::{Key, Offer, Request, Router, Scope, Settings, Visibility, Weights};

fn key(number: u64) -> Key {
    (u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(number))
        .to_be_bytes()
}

fn mix(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn filled() -> Router {
    let mut router = Router::new(Settings {
        weights: Weights::new([3.0, 1.0, 2.0, 1.0, 0.1]).unwrap(),
        turn_times_max: 3,
        newcomer_ppm: 50_000,
        breaker_failures: 2,
        ..Settings::default()
    })
    .unwrap();
    for number in 0..60 {
        router
            .upsert(&Offer {
                key: key(number),
                owner: key(1_000 + number / 5),
                group: key(2_000 + number / 2),
                model: ["one", "two"][number as usize % 2],
                price_microcents: 1_000_000 * (number as i64 % 9),
                context_tokens: 4_096 << (number % 3),
                output_tokens: 4_096,
                capacity: 3,
                group_capacity: 5,
                visibility: if number % 7 == 0 {
                    Visibility::Own
                } else {
                    Visibility::Market
                },
            })
            .unwrap();
        router.set_online(&key(number), true);
    }
    router
}

/// A random event; what it came to, as bytes.
fn event(router: &mut Router, seed: &mut u64) -> Vec<u8> {
    let (what, one, now_ms) = (
        mix(seed) % 20,
        mix(seed) % 60,
        (mix(seed) % 3_600_000) as i64,
    );
    match what {
        0 => vec![u8::from(router.set_online(&key(one), now_ms % 3 > 0))],
        1 => {
            let known = router.set_estimates(&key(one), 0.5, now_ms as f64, 0.25);
            vec![u8::from(known.unwrap())]
        }
        2 => {
            router.report(&key(2_000 + one / 2), now_ms % 2 == 0, now_ms);
            Vec::new()
        }
        3 => vec![u8::from(router.tick(now_ms, 40))],
        4 if one < 3 => format!("{:?}", (router.take_tallies(), router.take_asked())).into_bytes(),
        5 if one < 3 => {
            router
                .set_references("one", 1e6 + one as f64, 300.0)
                .unwrap();
            Vec::new()
        }
        4..10 => vec![u8::from(router.release(&key(one)))],
        _ => {
            let ignored = [key(one), key(one + 1)];
            let request = Request {
                model: ["one", "two"][one as usize % 2],
                network: key(1_000 + one / 4),
                scope: if what == 10 {
                    Scope::Own
                } else {
                    Scope::Market
                },
                context_tokens: [10, 5_000][one as usize % 2],
                output_tokens: 0,
                work_tokens: now_ms % 5_000,
                price_microcents_max: (what == 11).then_some(4_000_000),
                only: &[],
                ignore: if what == 12 { &ignored } else { &[] },
                tried: &[],
                prefer: (what == 13).then_some(key(one)),
                now_ms,
                seed: mix(seed),
            };
            router.pick(&request).unwrap().to_json().into_bytes()
        }
    }
}

/// The same bytes twice, though the second router is restored from a snapshot again and again.
#[test]
fn a_hundred_thousand_events_replay_to_the_byte() {
    let (mut one, mut two) = (filled(), filled());
    let (mut first, mut second) = (7, 7);
    for number in 0..100_000 {
        assert!(
            event(&mut one, &mut first) == event(&mut two, &mut second),
            "event {number}"
        );
        if number % 2_500 == 0 {
            let snapshot = one.snapshot();
            assert!(two.snapshot() == snapshot, "event {number}");
            two = Router::restore(&snapshot).unwrap();
        }
    }
    assert!(format!("{:?}", one.take_tallies()) == format!("{:?}", two.take_tallies()));
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let mut router = filled();
    let mut seed = 1;
    for _ in 0..500 {
        event(&mut router, &mut seed);
    }
    let snapshot = router.snapshot();
    for length in (0..snapshot.len()).step_by(7) {
        assert_eq!(
            Router::restore(&snapshot[..length]).unwrap_err().field,
            "snapshot"
        );
    }
    let mut longer = snapshot.clone();
    longer.push(0);
    assert!(Router::restore(&longer).is_err());
    for (version, named) in [(0, "not 0"), (1, "not 1"), (3, "not a later one")] {
        let mut other = snapshot.clone();
        other[8] = version;
        let refused = Router::restore(&other).unwrap_err();
        assert_eq!(refused.field, "snapshot");
        assert!(refused.rule.contains(named), "{}", refused.rule);
    }
    assert!(Router::restore(&snapshot).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes that were tampered with are an error, or a router that goes on without a panic.
    #[test]
    fn hostile_bytes_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        from in any::<u64>(),
    ) {
        let mut router = filled();
        let mut seed = from;
        for _ in 0..60 {
            event(&mut router, &mut seed);
        }
        let mut snapshot = router.snapshot();
        for (index, byte) in changes {
            let at = index.index(snapshot.len());
            snapshot[at] = byte;
        }
        if let Ok(mut router) = Router::restore(&snapshot) {
            for _ in 0..60 {
                event(&mut router, &mut seed);
            }
            router.take_tallies();
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Router::restore(&bytes).is_err());
    }
}
