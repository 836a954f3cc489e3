//! Snapshots of a router: an error, or a router that goes on without a panic and can be snapshot again.
//!
//! The bytes are a seed of the events that follow (eight bytes) and the snapshot.

use scoring::{Key, Offer, Request, Router, Scope, Settings, Visibility};

use crate::drawn::Drawn;
use crate::source::Source;

const EVENTS: usize = 40;
const OFFERS: usize = 12;

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let mut drawn = Drawn(source.long().unsigned_abs());
    let Ok(mut router) = Router::restore(source.0) else {
        return;
    };
    let snapshot = router.snapshot();
    let mut again = Router::restore(&snapshot).expect("what was restored can be restored again");
    assert!(again.snapshot() == snapshot, "the same once more");
    let mut same = drawn.clone();
    for _ in 0..EVENTS {
        let one = event(&mut router, &mut drawn);
        let two = event(&mut again, &mut same);
        assert_eq!(one, two, "two of one snapshot decide alike");
    }
    router.take_tallies();
    let snapshot = router.snapshot();
    Router::restore(&snapshot).expect("what went on can be restored");
}

fn key(kind: u8, number: usize) -> Key {
    let mut key = [kind; 16];
    key[15] = u8::try_from(number).unwrap_or(u8::MAX);
    key
}

fn offer(number: usize) -> Offer<'static> {
    Offer {
        key: key(1, number),
        owner: key(2, number / 3),
        group: key(3, number / 2),
        model: ["one", "two"][number % 2],
        price_microcents: 1_000_000 * i64::try_from(number).unwrap_or(0),
        context_tokens: 4_096 << (number % 3),
        output_tokens: 4_096,
        capacity: 3,
        group_capacity: 5,
        visibility: if number.is_multiple_of(5) {
            Visibility::Own
        } else {
            Visibility::Market
        },
    }
}

/// Something that happens to a router; what came of it.
fn event(router: &mut Router, drawn: &mut Drawn) -> String {
    let number = drawn.below(OFFERS);
    let now_ms = [0, 1_000, 3_600_000, i64::MAX / 4][drawn.below(4)];
    match drawn.below(12) {
        0 => format!("{:?}", router.upsert(&offer(number))),
        1 => router.remove(&key(1, number)).to_string(),
        2 => router
            .set_online(&key(1, number), now_ms % 3 == 0)
            .to_string(),
        3 => format!(
            "{:?}",
            router.set_estimates(&key(1, number), 0.5, 200.0, 0.25)
        ),
        4 => {
            router.report(&key(3, number / 2), now_ms == 0, now_ms);
            router.breaker_state(&key(3, number / 2), now_ms).to_owned()
        }
        5 => router.tick(now_ms, 5).to_string(),
        6 => format!("{:?}", router.set_references("one", 1e6, 300.0)),
        7 => router.release(&key(1, number)).to_string(),
        _ => {
            let request = Request {
                model: ["one", "two"][number % 2],
                network: key(2, number / 3),
                scope: if number == 7 {
                    Scope::Own
                } else {
                    Scope::Market
                },
                context_tokens: 100,
                output_tokens: 0,
                work_tokens: 1_000,
                price_microcents_max: None,
                only: &[],
                ignore: &[],
                tried: &[],
                prefer: None,
                now_ms,
                seed: drawn.bits(),
            };
            match router.pick(&request) {
                Ok(decision) => decision.to_json(),
                Err(error) => error.to_string(),
            }
        }
    }
}

/// Routers that have lived.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    (0..3_u64)
        .filter_map(|number| {
            let mut router = Router::new(Settings {
                newcomer_ppm: 50_000,
                breaker_failures: 2,
                ..Settings::default()
            })
            .ok()?;
            for number in 0..OFFERS {
                router.upsert(&offer(number)).ok()?;
                router.set_online(&key(1, number), true);
            }
            let mut drawn = Drawn(number);
            for _ in 0..30 * number {
                event(&mut router, &mut drawn);
            }
            let mut seed = number.to_le_bytes().to_vec();
            seed.extend(router.snapshot());
            Some(seed)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{seeds, Router};

    #[test]
    fn the_seeds_are_snapshots() {
        assert_eq!(seeds().len(), 3);
        for seed in seeds() {
            assert!(Router::restore(&seed[8..]).is_ok());
        }
    }
}
