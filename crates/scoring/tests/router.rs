//! The router never gives more than there is, never panics, and forgets nothing it holds.

use std::collections::HashMap;

use proptest::prelude::*;
use scoring::portable::{decay, Steps};
use scoring::{Key, Offer, Request, Router, Scope, Settings, Visibility};

fn key(number: u8) -> Key {
    [number; 16]
}

#[derive(Clone, Debug)]
enum Event {
    Upsert(u8, i64, u32, bool),
    Remove(u8),
    Online(u8, bool),
    Estimates(u8, f64, f64),
    Tick(i64),
    Pick(u8, i64, u64),
    Release(u8),
    Report(u8, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let number = 0..8u8;
    prop_oneof![
        (number.clone(), 0..=i64::MAX, 0..4u32, any::<bool>())
            .prop_map(|(number, price, capacity, own)| Event::Upsert(number, price, capacity, own)),
        number.clone().prop_map(Event::Remove),
        (number.clone(), any::<bool>()).prop_map(|(number, online)| Event::Online(number, online)),
        (number.clone(), 0.0..=1.0, 0.0..1e6)
            .prop_map(|(number, share, latency)| Event::Estimates(number, share, latency)),
        any::<i64>().prop_map(Event::Tick),
        (number.clone(), 0..=i64::MAX, any::<u64>())
            .prop_map(|(network, work, seed)| Event::Pick(network, work, seed)),
        number.clone().prop_map(Event::Release),
        (number, any::<bool>()).prop_map(|(number, ok)| Event::Report(number, ok)),
    ]
}

fn offer(number: u8, price_microcents: i64, capacity: u32, own: bool) -> Offer<'static> {
    Offer {
        key: key(number),
        owner: key(number % 3),
        group: key(number % 5),
        model: if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        },
        price_microcents,
        context_tokens: 100,
        output_tokens: 100,
        capacity,
        group_capacity: u32::MAX,
        visibility: if own {
            Visibility::Own
        } else {
            Visibility::Market
        },
    }
}

fn request(network: u8, work_tokens: i64, seed: u64) -> Request<'static> {
    Request {
        model: if seed.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        },
        network: key(network % 4),
        scope: if seed.is_multiple_of(3) {
            Scope::Own
        } else {
            Scope::Market
        },
        context_tokens: 10,
        output_tokens: 0,
        work_tokens,
        price_microcents_max: None,
        only: &[],
        ignore: &[],
        tried: &[],
        prefer: None,
        now_ms: 5,
        seed,
    }
}

proptest! {
    #[test]
    fn slots_taken_never_exceed_the_capacity_at_the_time(events in proptest::collection::vec(event(), 0..200)) {
        let mut router = Router::new(Settings { explore_ppm: 300_000, ..Settings::default() }).unwrap();
        let mut offers: HashMap<Key, (Offer<'static>, u32)> = HashMap::new();
        for event in events {
            match event {
                Event::Upsert(number, price, capacity, own) => {
                    let offer = offer(number, price, capacity, own);
                    router.upsert(&offer).unwrap();
                    let taken = offers.get(&offer.key).map_or(0, |known| known.1);
                    offers.insert(offer.key, (offer, taken));
                    router.set_online(&key(number), true);
                }
                Event::Remove(number) => {
                    prop_assert_eq!(router.remove(&key(number)), offers.remove(&key(number)).is_some());
                }
                Event::Online(number, online) => {
                    prop_assert_eq!(router.set_online(&key(number), online), offers.contains_key(&key(number)));
                }
                Event::Estimates(number, share, latency) => {
                    let known = router.set_estimates(&key(number), share, latency, share).unwrap();
                    prop_assert_eq!(known, offers.contains_key(&key(number)));
                }
                Event::Tick(now_ms) => prop_assert!(router.tick(now_ms, usize::MAX)),
                Event::Pick(network, work, seed) => {
                    let request = request(network, work, seed);
                    let decision = router.pick(&request).unwrap();
                    let seen = offers.values().filter(|(offer, _)| {
                        let own = offer.owner == request.network;
                        match request.scope {
                            Scope::Own => own,
                            Scope::Market if own => offer.model == request.model,
                            Scope::Market => offer.visibility == Visibility::Market,
                        }
                    });
                    let failed: u64 = decision.gates.named().iter().map(|gate| gate.1).sum();
                    prop_assert_eq!(failed + decision.feasible, seen.count() as u64);
                    prop_assert_eq!(decision.pick.is_some(), decision.feasible > 0);
                    if let Some(pick) = decision.pick {
                        let (offer, taken) = offers.get_mut(&pick.key).unwrap();
                        prop_assert_eq!(&offer.model, &request.model);
                        *taken += 1;
                        prop_assert!(*taken <= offer.capacity);
                        prop_assert!(pick.propensity > 0.0 && pick.propensity <= 1.0);
                        for candidate in &decision.candidates() {
                            prop_assert!((0.0..=1.0).contains(&candidate.score));
                        }
                    }
                }
                Event::Release(number) => {
                    let taken = offers.get_mut(&key(number)).filter(|known| known.1 > 0);
                    prop_assert_eq!(router.release(&key(number)), taken.is_some());
                    if let Some(taken) = taken {
                        taken.1 -= 1;
                    }
                }
                Event::Report(number, ok) => router.report(&key(number % 5), ok, 5),
            }
            prop_assert_eq!(router.len(), offers.len());
        }
    }

    #[test]
    fn decay_is_a_power_of_two(elapsed in 0..10_000_000u64, half_life in 1..1_000_000u64) {
        #[allow(clippy::cast_precision_loss)]
        let expected = (-(elapsed as f64 / half_life as f64)).exp2();
        let ours = decay(elapsed, half_life);
        prop_assert!((ours - expected).abs() <= 1e-12 * expected + f64::MIN_POSITIVE);
    }

    #[test]
    fn a_step_is_the_floor_of_a_logarithm(score in 1e-5..=1.0f64, epsilon in 0.01..0.5f64) {
        let exact = -score.ln() / (epsilon / 3.0).ln_1p();
        // On an edge either side will do: the logarithm itself is rounded there.
        prop_assume!((exact - exact.round()).abs() > 1e-6);
        prop_assert!((f64::from(Steps::new(epsilon).of(score)) - exact.ceil()).abs() < 0.5);
    }

    #[test]
    fn a_step_is_found_from_wherever_it_is_looked_for(score in 0.0..=1.0f64, epsilon in 0.01..0.5f64, from in any::<u16>()) {
        let steps = Steps::new(epsilon);
        prop_assert_eq!(steps.near(score, from), steps.of(score));
    }
}

#[test]
fn steps_end_somewhere() {
    let steps = Steps::new(0.05);
    assert_eq!(steps.of(1.0), 0);
    assert_eq!(steps.of(0.0), steps.of(1e-300));
    assert!(Steps::new(0.001).of(0.0) < 60_000);
    assert!(decay(u64::MAX, 1).abs() < f64::MIN_POSITIVE);
    assert!((decay(0, 1) - 1.0).abs() < f64::EPSILON);
}

/// Among so many the router asks for memory ahead.
#[test]
fn ten_thousand_offers_that_are_away_change_no_pick() {
    let key = |number: u64| u128::from(number).to_be_bytes();
    let offer = |number: u64| Offer {
        key: key(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        owner: key(1_000_000 + number / 4),
        group: key(2_000_000 + number / 2),
        model: "even",
        price_microcents: [1_000_000, 2_000_000, 3_000_000][usize::try_from(number % 3).unwrap()],
        context_tokens: [8_192, 131_072][usize::try_from(number % 2).unwrap()],
        output_tokens: 4_096,
        capacity: 2,
        group_capacity: 3,
        visibility: Visibility::Market,
    };
    let filled = |offers: u64| {
        let mut router = Router::new(Settings {
            explore_ppm: 100_000,
            newcomer_ppm: 50_000,
            ..Settings::default()
        })
        .unwrap();
        for number in 0..offers {
            router.upsert(&offer(number)).unwrap();
            router.set_online(&offer(number).key, number < 60);
        }
        router
    };
    let (mut few, mut many) = (filled(60), filled(10_000));
    let mut busy = std::collections::VecDeque::new();
    for seed in 0..5_000 {
        let request = Request {
            model: "even",
            network: key(9),
            scope: Scope::Market,
            context_tokens: if seed % 5 == 0 { 10_000 } else { 100 },
            output_tokens: 0,
            work_tokens: 1_000,
            price_microcents_max: (seed % 7 == 0).then_some(2_000_000),
            only: &[],
            ignore: &[],
            tried: &[],
            prefer: None,
            now_ms: 5,
            seed,
        };
        let (one, other) = (few.pick(&request).unwrap(), many.pick(&request).unwrap());
        assert_eq!(one.pick, other.pick, "{seed}");
        assert_eq!(one.candidates(), other.candidates(), "{seed}");
        busy.extend(one.pick.map(|pick| pick.key));
        if busy.len() > 40 {
            let done = busy.pop_front().unwrap();
            assert!(few.release(&done) && many.release(&done));
        }
    }
}
