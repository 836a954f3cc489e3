use proptest::prelude::*;

use super::{World, AWAY, HOME};
use crate::Limits;

fn frame() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let kinds = prop::sample::select(vec![
        "hello",
        "discover",
        "connect",
        "allow",
        "deny",
        "credit",
        "action",
        "action_result",
        "disconnect",
        "ping",
        "pong",
        "accept",
        "busy",
        "done",
        "fault",
        "nothing",
    ]);
    let message = (kinds, 0u32..4, 0u32..4, 0u32..300_000, any::<bool>()).prop_map(
        |(kind, number, link, bytes, known)| {
            let to = if known { "phone" } else { "spy" };
            format!(
                r#"{{"type":"{kind}","request":{number},"ask":{number},"id":{number},"link":{link},"bytes":{bytes},"to":"{to}","purpose":"p","name":"n","deadline_ms":{number},"idempotency_id":"i","ok":true,"code":"c","usage":{{"prompt_tokens":1}}}}"#
            )
            .into_bytes()
        },
    );
    let cut = (message.boxed(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(text, at, cut)| {
            if cut {
                text[..at.index(text.len())].to_vec()
            } else {
                text
            }
        },
    );
    let data = (0u32..4, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(link, payload)| [link.to_be_bytes().to_vec(), payload].concat());
    prop_oneof![
        cut.prop_map(|text| (true, text)),
        data.prop_map(|bytes| (false, bytes)),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| (false, bytes)),
        ".{0,60}".prop_map(|text| (true, text.into_bytes())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_panics_never_leaks(script in prop::collection::vec((0usize..4, frame(), 0u64..9_000), 0..60)) {
        let mut world = World::new(Limits { messages_burst: 40, ..Limits::default() });
        let sessions = [world.live(HOME, "pc"), world.live(HOME, "phone"), world.live(AWAY, "spy")];
        let job = world.job(HOME, "pc", &vec![1; 100_000]);
        for (who, (is_text, bytes), wait_ms) in script {
            match (sessions.get(who), is_text) {
                (Some(session), true) => world.text(*session, &String::from_utf8_lossy(&bytes)),
                (Some(session), false) if bytes.len() >= 4 => {
                    let link = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    world.binary(*session, link, &bytes[4..]);
                }
                _ => world.wait(wait_ms),
            }
            if wait_ms % 2 == 0 {
                for session in sessions {
                    for text in world.pull(session) {
                        prop_assert!(session != sessions[2] || !text.contains("phone"));
                    }
                }
            }
        }
        for session in sessions {
            world.relay.closed(session, world.now);
        }
        world.relay.cancel_job(job, world.now);
        world.collect();
        prop_assert_eq!(world.relay.sessions(), 0);
        prop_assert_eq!(world.relay.timers.len(), 0);
        prop_assert!(world.relay.tickets.is_empty());
        prop_assert!(world.relay.networks.is_empty());
    }
}
