//! Picks a second on one core: `cargo run --release --example picks [offers] [picks]`.
//!
//! One model, four devices to an owner, one offer to a device; each pick charges its work, and the slots of earlier picks
//! come back. Prints one JSON object: nanoseconds of CPU a pick with and without the candidates of a card, memory an
//! offer.

use scoring::{Key, Offer, Request, Router, Scope, Settings, Visibility};

const IN_FLIGHT: usize = 64;

fn key(kind: u64, number: u64) -> Key {
    // Ids are random; a product with an odd constant is as good.
    let high = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ kind;
    (u128::from(high) << 64 | u128::from(number)).to_be_bytes()
}

fn noise(number: u64) -> f64 {
    let mixed = (number + 1).wrapping_mul(0xD134_2543_DE82_EF95) >> 44;
    // 20 bits are exact in f64.
    #[allow(clippy::cast_precision_loss)]
    let unit = mixed as f64 / f64::from(1u32 << 20);
    unit
}

fn filled(offers: u64) -> Result<Router, scoring::Invalid> {
    let mut router = Router::new(Settings {
        newcomer_ppm: 50_000,
        offers_max: 2_000_000,
        ..Settings::default()
    })?;
    for number in 0..offers {
        let key_of = key(1, number);
        // Up to 2⁻⁸ of a euro in steps; the truncation is the step.
        #[allow(clippy::cast_possible_truncation)]
        let price = 1_000_000 * (1 + (noise(number) * 200.0) as i64);
        router.upsert(&Offer {
            key: key_of,
            owner: key(2, number / 4),
            group: key(3, number),
            model: "chat/llama-3.1-8b",
            price_microcents: price,
            context_tokens: [8_192, 32_768, 131_072][usize::try_from(number % 3).unwrap_or(0)],
            output_tokens: 4_096,
            capacity: 4,
            group_capacity: 4,
            visibility: Visibility::Market,
        })?;
        router.set_online(&key_of, true);
        let noise = |salt: u64| noise(number.wrapping_mul(7).wrapping_add(salt));
        router.set_estimates(
            &key_of,
            noise(1),
            100.0 + 2_000.0 * noise(2),
            0.5 + noise(3) / 2.0,
        )?;
    }
    Ok(router)
}

/// Nanoseconds of CPU that this process has used: other processes on the machine do not count.
fn cpu_ns() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    times
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1_024
}

fn main() -> Result<(), scoring::Invalid> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<u64>().ok());
    let offers = arguments.next().unwrap_or(1_000);
    let picks = arguments.next().unwrap_or(1_000_000);
    let before = resident();
    let mut router = filled(offers)?;
    let memory = resident().saturating_sub(before) / offers.max(1);
    let buyer = key(9, 9);
    let request = |seed: u64| Request {
        model: "chat/llama-3.1-8b",
        network: buyer,
        scope: Scope::Market,
        context_tokens: 1_000,
        output_tokens: 500,
        work_tokens: 1_500,
        price_microcents_max: None,
        only: &[],
        ignore: &[],
        tried: &[],
        prefer: None,
        now_ms: 1,
        seed,
    };
    let mut running = std::collections::VecDeque::with_capacity(IN_FLIGHT + 1);
    let mut timed = |cards: bool, from: u64| -> Result<f64, scoring::Invalid> {
        let start = cpu_ns();
        for seed in from..from + picks {
            let one = request(seed);
            let picked = if cards {
                router.pick(&one)?.pick
            } else {
                router.pick_many(std::slice::from_ref(&one))?[0]
            };
            running.extend(picked.map(|pick| pick.key));
            if running.len() > IN_FLIGHT {
                if let Some(done) = running.pop_front() {
                    router.release(&done);
                }
            }
        }
        // At most 2⁵³.
        #[allow(clippy::cast_precision_loss)]
        let each = (cpu_ns() - start) as f64 / picks as f64;
        Ok(each)
    };
    timed(true, 0)?;
    let with_cards = timed(true, picks)?;
    let without = timed(false, 2 * picks)?;
    println!(
        "{{\"offers\":{offers},\"picks\":{picks},\"pick_ns\":{with_cards:.1},\"pick_many_ns\":{without:.1},\
         \"picks_per_second\":{:.0},\"bytes_per_offer\":{memory}}}",
        1e9 / with_cards
    );
    Ok(())
}
