use super::{World, HOME};
use crate::{
    next_link, CloseCode, JobEnd, Limits, LinkInput, LinkState, LINK_TRANSITIONS, WINDOW_BYTES,
};

const INPUTS: [LinkInput; 7] = [
    LinkInput::Data,
    LinkInput::Credit,
    LinkInput::Disconnect,
    LinkInput::Accept,
    LinkInput::Busy,
    LinkInput::Done,
    LinkInput::Fault,
];

#[test]
fn the_table_has_no_ambiguous_move() {
    for (index, (from, on, _)) in LINK_TRANSITIONS.iter().enumerate() {
        let again = LINK_TRANSITIONS[index + 1..]
            .iter()
            .any(|(f, o, _)| (f, o) == (from, on));
        assert!(!again, "{from:?} on {on:?} twice");
    }
}

#[test]
fn every_move_outside_the_table_ends_the_session() {
    for state in [LinkState::Open, LinkState::Offered, LinkState::Running] {
        for input in INPUTS {
            let mut world = World::new(Limits::default());
            let one = world.live(HOME, "pc");
            let two = world.live(HOME, "phone");
            if state == LinkState::Open {
                world.link(one, two, "phone");
                world.binary(two, 1, b"so that there is credit to give");
            } else {
                world.job(HOME, "pc", b"body");
                world.pull(one);
            }
            if state == LinkState::Running {
                world.text(one, r#"{"type":"accept","link":1}"#);
            }
            match input {
                LinkInput::Data => world.binary(one, 1, b"x"),
                LinkInput::Credit => world.text(one, r#"{"type":"credit","link":1,"bytes":5}"#),
                LinkInput::Disconnect => world.text(one, r#"{"type":"disconnect","link":1}"#),
                LinkInput::Accept => world.text(one, r#"{"type":"accept","link":1}"#),
                LinkInput::Busy => world.text(one, r#"{"type":"busy","link":1}"#),
                LinkInput::Done => {
                    world.text(
                        one,
                        r#"{"type":"done","link":1,"usage":{"prompt_tokens":1}}"#,
                    );
                }
                LinkInput::Fault => world.text(one, r#"{"type":"fault","link":1,"code":"c"}"#),
            }
            let expected = if next_link(state, input).is_some() {
                vec![]
            } else {
                vec![(one, CloseCode::OutOfOrder)]
            };
            assert_eq!(world.closes, expected, "{state:?} on {input:?}");
        }
    }
}

#[test]
fn what_comes_after_the_end_of_a_link_is_dropped() {
    let mut world = World::new(Limits::default());
    let one = world.live(HOME, "pc");
    let two = world.live(HOME, "phone");
    world.link(one, two, "phone");
    world.text(one, r#"{"type":"disconnect","link":1}"#);
    world.binary(two, 1, b"crossed on the wire");
    world.text(two, r#"{"type":"disconnect","link":1}"#);
    world.text(two, r#"{"type":"credit","link":1,"bytes":9}"#);
    assert!(world.closes.is_empty());
    assert_eq!(world.pull(two), [r#"{"type":"disconnect","link":1}"#]);
    assert!(world.pull(one).is_empty());
}

#[test]
fn the_window_is_exact() {
    let mut world = World::new(Limits::default());
    let one = world.live(HOME, "pc");
    let two = world.live(HOME, "phone");
    world.link(one, two, "phone");
    for _ in 0..WINDOW_BYTES / 65_536 {
        world.binary(one, 1, &vec![0; 65_532]);
    }
    assert!(world.closes.is_empty());
    world.text(two, r#"{"type":"credit","link":1,"bytes":262144}"#);
    world.binary(one, 1, b"goes on");
    assert!(world.closes.is_empty());
    world.text(two, r#"{"type":"credit","link":1,"bytes":65}"#);
    assert_eq!(
        world.closes,
        [(two, CloseCode::Credit)],
        "more than was used"
    );
}

#[test]
fn a_body_stops_at_its_credit_and_goes_on() {
    let mut world = World::new(Limits::default());
    let one = world.live(HOME, "pc");
    world.job(HOME, "pc", &vec![7; 400_000]);
    let data = |frames: Vec<String>| -> usize {
        frames
            .iter()
            .filter_map(|frame| frame.strip_prefix("data ")?.parse::<usize>().ok())
            .sum()
    };
    assert_eq!(data(world.pull(one)), WINDOW_BYTES as usize);
    world.text(one, r#"{"type":"credit","link":1,"bytes":63}"#);
    assert!(world.pull(one).is_empty(), "less than a frame may cost");
    world.text(one, r#"{"type":"credit","link":1,"bytes":262081}"#);
    assert_eq!(
        data(world.pull(one)),
        400_000 - (WINDOW_BYTES as usize - 4 * 4) + 3 * 4
    );
}

#[test]
fn a_job_ends_once() {
    let mut world = World::new(Limits::default());
    let one = world.live(HOME, "pc");
    let job = world.job(HOME, "pc", b"");
    world.text(one, r#"{"type":"accept","link":1}"#);
    world.text(
        one,
        r#"{"type":"done","link":1,"usage":{"prompt_tokens":1}}"#,
    );
    world.text(one, r#"{"type":"fault","link":1,"code":"c"}"#);
    world.wait(60_000);
    world.relay.closed(one, world.now);
    let batch = world.relay.take_job(job, world.now).expect("not taken yet");
    assert_eq!(
        batch.end,
        Some(JobEnd::Done {
            prompt_tokens: 1,
            completion_tokens: 0
        })
    );
    assert_eq!(world.relay.take_job(job, world.now), None);
}

#[test]
fn a_job_is_announced_once_until_taken() {
    let mut world = World::new(Limits::default());
    let one = world.live(HOME, "pc");
    let job = world.job(HOME, "pc", b"");
    world.text(one, r#"{"type":"accept","link":1}"#);
    for _ in 0..5 {
        world.binary(one, 1, b"{}");
    }
    let announced = |world: &World| {
        world
            .effects
            .iter()
            .filter(|e| matches!(e, crate::Effect::Job { .. }))
            .count()
    };
    assert_eq!(announced(&world), 1);
    assert_eq!(
        world
            .relay
            .take_job(job, world.now)
            .map(|batch| batch.parts.len()),
        Some(5)
    );
    world.binary(one, 1, b"{}");
    assert_eq!(announced(&world), 2);
}
