use super::{World, AWAY, HOME};
use crate::{
    next_session, CloseCode, Effect, Limits, Revocation, SessionInput, SessionState,
    SESSION_TRANSITIONS,
};

const HELLO: &str = r#"{"type":"hello","token":"t","device_id":"d","proof":"p"}"#;

#[test]
fn the_table_has_no_ambiguous_move() {
    for (index, (from, on, _)) in SESSION_TRANSITIONS.iter().enumerate() {
        let again = SESSION_TRANSITIONS[index + 1..]
            .iter()
            .any(|(f, o, _)| (f, o) == (from, on));
        assert!(!again, "{from:?} on {on:?} twice");
    }
}

#[test]
fn every_move_outside_the_table_ends_the_session() {
    let states = [
        SessionState::Greeting,
        SessionState::Authenticating,
        SessionState::Live,
    ];
    let inputs = [
        SessionInput::Hello,
        SessionInput::Control,
        SessionInput::Data,
    ];
    for state in states {
        for input in inputs {
            let mut world = World::new(Limits::default());
            let session = world.open();
            if state != SessionState::Greeting {
                world.text(session, HELLO);
            }
            if state == SessionState::Live {
                world.admit(session, HOME, "pc");
            }
            match input {
                SessionInput::Hello => world.text(session, HELLO),
                SessionInput::Data => world.binary(session, 1, b"x"),
                _ => world.text(session, r#"{"type":"pong","id":9}"#),
            }
            let expected = match (next_session(state, input), input) {
                (Some(_), SessionInput::Data) => vec![(session, CloseCode::Link)],
                (Some(_), _) => vec![],
                (None, _) => vec![(session, CloseCode::OutOfOrder)],
            };
            assert_eq!(world.closes, expected, "{state:?} on {input:?}");
        }
    }
}

#[test]
fn a_session_leaves_no_timer_and_no_slot_behind() {
    let mut world = World::new(Limits::default());
    for round in 0..100 {
        let one = world.live(HOME, "pc");
        let two = world.live(HOME, "phone");
        world.link(one, two, "phone");
        world.text(
            one,
            r#"{"type":"connect","request":2,"to":"phone","purpose":"p"}"#,
        );
        world.text(one, r#"{"type":"discover","request":3}"#);
        world.job(HOME, "pc", b"body");
        world.relay.closed(one, world.now);
        world.relay.closed(two, world.now);
        world.collect();
        assert_eq!(world.relay.sessions(), 0, "round {round}");
        assert_eq!(world.relay.timers.len(), 0);
        assert!(world.relay.networks.is_empty());
        assert!(world.relay.tickets.is_empty());
        world.nonces = 0;
    }
    assert_eq!(world.relay.jobs(), 100, "a lost job waits for its taker");
}

#[test]
fn a_reused_slot_has_a_new_name() {
    let mut world = World::new(Limits::default());
    let old = world.live(HOME, "pc");
    world.relay.closed(old, world.now);
    let new = world.live(HOME, "pc");
    assert_ne!(old, new);
    world.effects.clear();
    world.text(old, "garbage");
    world.relay.closed(old, world.now);
    world.collect();
    assert!(world.effects.is_empty());
    assert_eq!(crate::SessionId::from_u64(new.to_u64()), new);
}

#[test]
fn unknown_and_foreign_have_the_same_effects_in_the_same_order() {
    let probe = |name: &str| {
        let mut world = World::new(Limits::default());
        let here = world.live(HOME, "pc");
        let there = world.live(AWAY, "spy");
        world.effects.clear();
        world.text(
            here,
            &format!(r#"{{"type":"connect","request":1,"to":"{name}","purpose":"p"}}"#),
        );
        let effects = format!("{:?}", world.effects).replace(name, "?");
        world.relay.exists(1, Ok(false), world.now);
        world.collect();
        assert!(world.pull(there).is_empty());
        (effects, world.pull(here))
    };
    assert_eq!(probe("spy"), probe("nix"));
    assert_ne!(
        probe("pc").0,
        probe("nix").0,
        "the comparison can see a difference"
    );
}

#[test]
fn wake_comes_once_until_the_queue_was_emptied() {
    let mut world = World::new(Limits::default());
    let session = world.live(HOME, "pc");
    world.effects.clear();
    for _ in 0..3 {
        world.text(session, r#"{"type":"ping","id":1}"#);
    }
    let wakes = |world: &World| {
        world
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Wake { .. }))
            .count()
    };
    assert_eq!(wakes(&world), 1);
    assert_eq!(world.pull(session).len(), 3);
    world.text(session, r#"{"type":"ping","id":1}"#);
    assert_eq!(wakes(&world), 2);
}

#[test]
fn an_empty_revocation_matches_nobody() {
    let mut world = World::new(Limits::default());
    world.live(HOME, "pc");
    assert_eq!(world.relay.revoke(&Revocation::default(), world.now), 0);
    let user = Revocation {
        user: Some(HOME),
        ..Revocation::default()
    };
    assert_eq!(world.relay.revoke(&user, world.now), 1);
    let key = Revocation {
        user: Some(HOME),
        key: Some(HOME),
        ..Revocation::default()
    };
    world.live(HOME, "pc");
    assert_eq!(
        world.relay.revoke(&key, world.now),
        0,
        "a session without a key is not that key's"
    );
}

#[test]
fn a_moving_queue_is_not_stalled() {
    let mut world = World::new(Limits::default());
    let session = world.live(HOME, "pc");
    for _ in 0..10 {
        for _ in 0..2 {
            world.text(session, r#"{"type":"ping","id":1}"#);
        }
        world.wait(3_000);
        assert!(world.relay.poll_transmit(session, world.now).is_some());
    }
    assert!(world.closes.is_empty());
    world.wait(5_000);
    assert_eq!(world.closes, [(session, CloseCode::Slow)]);
}
